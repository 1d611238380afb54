"""The environment that a stage ran in, recorded with its results: packages and commit."""

import os
import subprocess
from importlib import metadata
from pathlib import Path

from slipway.components.support.libraries.extras import DISTRIBUTION


def installed_packages() -> dict[str, str]:
    """Installed distributions with their versions, by normalised name, sorted."""
    found = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[name.lower().replace("_", "-")] = distribution.version
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
