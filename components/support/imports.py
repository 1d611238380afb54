"""Imports of libraries that load far more than what is used of them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """In the block, modules that are not there yet cannot be imported.

    For a library that takes along, at its import, another one that it can do without. A module that is
    there already stays.

    Args:
        names: of modules.
    """
    blocked = [name for name in names if name not in sys.modules]
    # To import a module whose entry is None fails as if it were not installed.
    sys.modules.update(dict.fromkeys(blocked))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in blocked:
            if name in sys.modules and sys.modules[name] is None:
                del sys.modules[name]


def load_feast() -> None:
    """Imports Feast, if it is not there yet, in a fifth of the CPU time that it takes by itself.

    Feast loads torch where that is installed, for features that are tensors, and compiles its own code
    anew with checks of every argument's type; what reaches it from here is checked before.

    Raises:
        ImportError: it is not installed.
    """
    if "feast" in sys.modules:
        return
    import typeguard

    checked = typeguard.typechecked
    typeguard.typechecked = _as_it_is  # type: ignore[assignment]
    try:
        with without("torch", "rfc3987_syntax"):
            import feast  # noqa: F401
    finally:
        typeguard.typechecked = checked


def _as_it_is(target: object = None, **options: object) -> object:
    """A decorator, with or without arguments, that changes nothing."""
    return target if target is not None else _as_it_is
