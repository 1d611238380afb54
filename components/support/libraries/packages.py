"""The environment that a stage ran in, recorded with its results: packages and commit."""

import os
import re
import subprocess
from importlib import metadata
from pathlib import Path

from slipway.components.support.libraries.extras import DISTRIBUTION

_NAMED = re.compile(r"^(Name|Version):(.*)$", re.MULTILINE)


def installed_packages() -> dict[str, str]:
    """Installed distributions with their versions, by normalised name, sorted."""
    found = {}
    for distribution in metadata.distributions():
        # `distribution.metadata` parses the whole text, its README too, once for each of the two.
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        head = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0]
        named = {field: value.strip() for field, value in _NAMED.findall(head)}
        if named.get("Name"):
            found[named["Name"].lower().replace("_", "-")] = named.get("Version", "")
    return dict(sorted(found.items()))


def own_version() -> str:
    """The version of Slipway: the installed package's, or the one baked into the image."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return os.environ.get("SLIPWAY_VERSION", "")


def git_commit() -> str:
    """The commit of this code: baked into the image as GIT_COMMIT, or asked of git in a checkout."""
    if commit := os.environ.get("GIT_COMMIT"):
        return commit
    folder = Path(__file__).resolve().parents[3]
    if not (folder / ".git").exists():
        return ""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
