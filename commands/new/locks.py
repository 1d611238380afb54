"""The lock of a new image, from the versions that the project is locked to: no index is asked."""

import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from slipway.components.support.errors import SlipwayError

HEADING = (
    "# Made by requirements/lock.py (`make lock`) from requirements.in and requirements/run.lock.\n"
)
# As in requirements/lock.py: taken without what they require, and never taken.
_ALONE, _EXCLUDED = {"kfp", "mlflow"}, {"mypy", "types-greenlet"}


def lock_text(checkout: Path, names: Iterable[str]) -> str:
    """The text of a requirements.lock: what the names require, less what the base image has.

    Args:
        checkout: of Slipway, whose requirements/run.lock has each package with its hashes.
        names: of a requirements.in.

    Raises:
        SlipwayError: a package is not installed here, or not locked.
    """
    locked = read_lock(checkout / "requirements" / "run.lock")
    base = read_lock(checkout / "images" / "base" / "requirements.lock")
    wanted = sorted(_closure(names) - base.keys())
    if absent := [name for name in wanted if name not in locked]:
        raise SlipwayError(f"requirements/run.lock has no {', '.join(absent)}: run `make lock`.")
    return HEADING + "".join(f"{locked[name]}\n" for name in wanted)


def read_lock(path: Path) -> dict[str, str]:
    """A lock's packages: normalised name to its lines."""
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", path.read_text(encoding="utf-8").strip())
    return {_normal(re.split(r"[=\[ ]", block)[0]): block for block in blocks if block[0] != "#"}


def _closure(names: Iterable[str]) -> set[str]:
    """Names of the distributions that some packages require, theirs too, for this Python."""
    from packaging.requirements import Requirement

    waiting = [Requirement(name) for name in names]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        name = _normal(wanted.name)
        for extra in ("", *wanted.extras):
            if name in _EXCLUDED or (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name not in _ALONE:
                waiting += [
                    inner
                    for inner in map(Requirement, _required_by(name))
                    if inner.marker is None or inner.marker.evaluate({"extra": extra})
                ]
    return {name for name, _ in seen}


def _required_by(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError as error:
        raise SlipwayError(
            f"{name} is not installed here, so what it requires is not known: run the command with the"
            " environment of the checkout, .venv/bin/slipway."
        ) from error


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
