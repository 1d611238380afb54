"""The project that a command's options name."""

from pathlib import Path

from slipway.components.config.project import LoadedProject, load_project
from slipway.components.support.errors import ProjectError


def load(project: Path, overrides: list[str] | None) -> LoadedProject:
    """Reads a project folder with the `--set KEY=VALUE` of a command line applied.

    Raises:
        ProjectError: an override is not KEY=VALUE, or the project file is wrong.
    """
    pairs = {}
    for text in overrides or []:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise ProjectError(f"--set {text}: write KEY=VALUE, for example gate.auc=0.9.")
        pairs[key.strip()] = value
    return load_project(project, pairs)
