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
