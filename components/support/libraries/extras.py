"""The extras that Slipway is installed with: what each asks for, and what of it is missing."""

import re
from importlib import metadata

from slipway.components.support.errors import SlipwayError

DISTRIBUTION = "kfp-slipway"


def missing_packages(extra: str) -> list[str]:
    """Packages that one of Slipway's extras asks for and that are not installed.

    None where Slipway itself is not installed, as in an image, which has what its stage needs.
    """
    try:
        asked = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    missing: list[str] = []
    for requirement in asked:
        packages, _, marker = requirement.partition(";")
        if not re.search(rf"extra == ['\"]{extra}['\"]", marker):
            continue
        name, *inner = re.findall(r"[\w.-]+", re.split(r"[=<>~!]", packages)[0])
        if name == DISTRIBUTION:
            missing += [package for other in inner for package in missing_packages(other)]
        elif not _is_installed(name):
            missing.append(name)
    return sorted(set(missing))


def require_extra(extra: str, what: str) -> None:
    """Checks before any work that what an extra brings is installed.

    Args:
        extra: one of the extras of pyproject.toml.
        what: needs it, for the message.

    Raises:
        SlipwayError: some of it is missing.
    """
    if missing := missing_packages(extra):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise SlipwayError(
            f"{what} needs {', '.join(missing[:3])}{more}, not installed here. {_advice(extra)}"
        )


def explain_missing(module: str) -> str:
    """What to install where a module cannot be imported."""
    extra = next((e for e in ("cluster", "serving") if _is_of(module, e)), "local")
    return f"This needs {module}, which is not installed. {_advice(extra)}"


def _advice(extra: str) -> str:
    return f"Install it with `pip install '{DISTRIBUTION}[{extra}]'`."


def _is_of(module: str, extra: str) -> bool:
    return module in {name.replace("-", "_") for name in missing_packages(extra)}


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
