"""What a project brings of its own: models and checks, as entry points of an installed package.

A package says in its pyproject.toml which function has which name; Slipway finds it wherever the package
is installed, on a laptop as in an image (docs/your-own-code.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from slipway.components.support.errors import SlipwayError

MODELS, CHECKS = "slipway.models", "slipway.checks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A function that an installed package offers.

    Attributes:
        function: what the entry point names.
        origin: the package and its version, as in "shop-models 0.1".
    """

    function: Callable[..., Any]
    origin: str


def absence(group: str, name: str) -> str | None:
    """Why no installed package can give this name; None where one does. Imports nothing of it.

    Args:
        group: MODELS or CHECKS.
        name: of the entry point.
    """
    found = _named(group, name)
    if len(found) == 1:
        return None
    if found:
        owners = ", ".join(sorted(_origin(point) for point in found))
        return f"'{name}' is offered by several packages ({owners}): uninstall all but one"
    others = sorted({point.name for point in entry_points(group=group)})
    known = f" Installed packages offer: {', '.join(others)}." if others else ""
    return (
        f"no installed package offers '{name}' in the entry points '{group}'.{known} Install the"
        " package that has it here, and in the image of the stage"
    )


def load(group: str, name: str) -> Plugin:
    """Imports what an entry point names.

    Raises:
        SlipwayError: no package offers it, several do, or it cannot be imported.
    """
    if reason := absence(group, name):
        raise SlipwayError(f"{reason[0].upper()}{reason[1:]}.")
    [point] = _named(group, name)
    try:
        function = point.load()
    except Exception as error:
        raise SlipwayError(
            f"'{name}' of {_origin(point)} cannot be imported from {point.value}:"
            f" {type(error).__name__}: {error}. Mend the package, or its entry point."
        ) from error
    if not callable(function):
        raise SlipwayError(f"'{name}' of {_origin(point)}: {point.value} is no function.")
    return Plugin(function=function, origin=_origin(point))


def _named(group: str, name: str) -> list[EntryPoint]:
    # One distribution may be seen twice, by way of two folders of the search path.
    found = {(_origin(point), point.value): point for point in entry_points(group=group, name=name)}
    return list(found.values())


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.module
