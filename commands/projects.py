"""The project that a command's options name, and where its stages run."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.components.config.data import FORMATS
from slipway.components.config.project import FILE_NAME, LoadedProject, load_project
from slipway.components.support.errors import ProjectError

if TYPE_CHECKING:
    from slipway.local.workspace import Workspace

EXAMPLE = Path("examples/flights")
RUN_FOLDER = Path("build/run")
_PORT = "deployment.port"
FORMAT_NAMES = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def find_project() -> Path:
    """The folder that a command without --project means: this one, or in a checkout the example's."""
    here = Path()
    return EXAMPLE if EXAMPLE.is_dir() and not (here / FILE_NAME).is_file() else here


ProjectFolder = Annotated[
    Path,
    typer.Option(
        "--project",
        "-p",
        help="Folder with project.yaml; else this folder.",
        metavar="DIR",
        default_factory=find_project,
        show_default=False,
    ),
]


Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key of the project file.", metavar="KEY=VALUE"),
]
Out = Annotated[
    Path, typer.Option("--out", help="Folder for all that the run keeps.", metavar="DIR")
]


class Runner(StrEnum):
    """Where the stages of a local run work."""

    subprocess = "subprocess"
    docker = "docker"


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


def load_served(
    project: Path, overrides: list[str] | None, workspace: "Workspace"
) -> LoadedProject:
    """`load`, with the port that the project's local endpoint serves on now.

    A run may have had a port of its own (`--set deployment.port=8477`): who goes on with that endpoint
    must not move it away from its clients. A port that is named here stands.

    Raises:
        ProjectError: as `load`.
    """
    from slipway.components.deploy.local.target import served_port

    loaded = load(project, overrides)
    named = any(text.partition("=")[0].strip() == _PORT for text in overrides or [])
    home = Path(workspace.settings()["SLIPWAY_HOME"])
    port = None if named else served_port(home, loaded.project.project_name)
    return loaded if port is None else load(project, [*(overrides or []), f"{_PORT}={port}"])
