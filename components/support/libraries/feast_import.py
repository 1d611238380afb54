"""Feast, imported without what it loads and nobody here uses.

A module of its own: only what imports this one needs Feast in its image.
"""

import sys

from slipway.components.support.libraries.imports import without


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
