"""Example projects: a folder each, with a project file, schemas, and `lay_out.py`, which makes tables."""

import importlib.util
from importlib import resources
from pathlib import Path

import yaml

FILES = ("project.yaml", "schemas/input.json", "README.md")


def names() -> list[str]:
    """The examples' names, which are those of their folders and projects."""
    return sorted(path.parent.name for path in _root().glob("*/project.yaml"))


def contents(name: str) -> dict[str, bytes]:
    """An example's files: path inside its folder to content."""
    folder = _root() / name
    return {file: (folder / file).read_bytes() for file in FILES if (folder / file).is_file()}


def data_root(name: str) -> str:
    """Where an example's project file looks for its tables, relative to the folder of a run."""
    project = yaml.safe_load((_root() / name / "project.yaml").read_text())
    return str(project["data"]["root"])


def lay_out(name: str, folder: Path) -> None:
    """Makes an example's tables in a folder; needs the packages of [local]."""
    # By its path: a project's name may have a hyphen, which a module's cannot.
    place = _root() / name / "lay_out.py"
    spec = importlib.util.spec_from_file_location("example_lay_out", place)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{place} is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.lay_out(folder)


def _root() -> Path:
    return Path(str(resources.files(__name__)))
