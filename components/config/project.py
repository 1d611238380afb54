"""The project file: one folder describes a whole stack, without a line of Python."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from slipway.components.config.base import Section
from slipway.components.config.checks.consistency import inconsistencies
from slipway.components.config.checks.messages import Location, problems
from slipway.components.config.data import DataConfig
from slipway.components.config.features.label import value_text
from slipway.components.config.model import Project
from slipway.components.support.documents import check_yaml, load_json, read_document, yaml_reason
from slipway.components.support.errors import ProjectError

# The flights project has 6,000 bytes, one with 2,000 columns written out some 100,000.
MAX_BYTES = 512 << 10
FILE_NAME = "project.yaml"


class LoadedProject(Section):
    """A project with what its folder holds beside it."""

    project: Project
    folder: Path
    schema_content: dict[str, object]


def load_project(folder: Path, overrides: dict[str, str] | None = None) -> LoadedProject:
    """Reads and checks `project.yaml` and the schema that it names.

    Args:
        folder: the project's folder, or the file itself.
        overrides: dotted key to YAML text, as given with `--set gate.auc=0.9`.

    Raises:
        ProjectError: naming the file, the line, the key, and the nearest valid name.
    """
    file = _ProjectFile(folder, overrides or {})
    project = file.project()
    schema = _read_schema(file.path, project.input_schema)
    file.require(inconsistencies(project, schema))
    return LoadedProject(project=project, folder=file.path.parent, schema_content=schema)


def load_data(folder: Path) -> tuple[DataConfig, Path]:
    """Reads the `data` section alone: what a first schema is written from.

    Returns:
        The section, and where the project's schema belongs.

    Raises:
        ProjectError: as for `load_project`.
    """
    return _ProjectFile(folder, {}).data()


class _ProjectFile:
    """One project file, and what was set beside it: it knows where a setting stands."""

    def __init__(self, folder: Path, overrides: dict[str, str]) -> None:
        self.path = folder / FILE_NAME if folder.is_dir() else folder
        if not self.path.is_file():
            raise ProjectError(
                f"There is no {FILE_NAME} in {folder.resolve()}. Give the project's folder with"
                " --project; `slipway init` writes one to start from."
            )
        try:
            text = read_document(self.path, MAX_BYTES)
            check_yaml(text)
            self._document = YAML().load(text)
        except (YAMLError, ValueError, OSError) as error:
            reason = yaml_reason(error)
            raise ProjectError(f"{self.path} is not valid YAML: {reason}") from error
        if not isinstance(self._document, dict):
            raise ProjectError(
                f"{self.path} is empty: it needs project_name, data, schema, features, …"
            )
        self._sources: dict[tuple[str, ...], str] = {}
        for key, text in overrides.items():
            _override(self._document, key, text)
            self._sources[tuple(key.split("."))] = f"--set {key}={text}"

    def project(self) -> Project:
        """The project that the file describes.

        Raises:
            ProjectError: with all that is wrong in it.
        """
        given = _plain(self._document)
        try:
            return Project.model_validate(given)
        except ValidationError as error:
            raise self._wrong(problems(error, given, Project)) from error

    def data(self) -> tuple[DataConfig, Path]:
        """The `data` section, and the schema file.

        Raises:
            ProjectError: with all that is wrong in them.
        """
        given = _plain(self._document)
        section, schema = given.get("data", {}), given.get("schema")
        if not isinstance(schema, str):
            raise self._wrong(
                [(("schema",), "schema: name the file that the schema is written to.")]
            )
        try:
            return DataConfig.model_validate(section), self.path.parent / schema
        except ValidationError as error:
            found = problems(error, section, DataConfig, "data")
            raise self._wrong((("data", *place), said) for place, said in found) from error

    def require(self, found: Iterable[tuple[Location, str]]) -> None:
        """Refuses the file where something was found.

        Raises:
            ProjectError: with all of it.
        """
        found = list(found)
        if found:
            raise self._wrong(found)

    def _wrong(self, found: Iterable[tuple[Location, str]]) -> ProjectError:
        lines = [f"{self._where(place)}: {sentence}" for place, sentence in found]
        return ProjectError("\n".join(dict.fromkeys(lines)))

    def _where(self, place: Location) -> str:
        """The file and the line of the deepest part of a place that it has; or the override."""
        key = tuple(map(str, place))
        for changed, source in self._sources.items():
            if key and changed[: len(key)] == key:
                return source
        line, here = None, self._document
        for part in place:
            marks = getattr(here, "lc", None)
            if marks is None:
                break
            try:
                line = marks.data[part][0] + 1
                here = here[part]
            except (KeyError, IndexError, TypeError):
                break
        return f"{self.path}:{line}" if line else str(self.path)


def _override(document: dict[str, object], key: str, text: str) -> None:
    parts = key.split(".")
    target: Any = document
    for part in parts[:-1]:
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise ProjectError(f"--set {key}={text}: {part} is not a section of the project file.")
    try:
        check_yaml(text)
        target[parts[-1]] = YAML(typ="safe").load(text)
    except (YAMLError, ValueError) as error:
        raise ProjectError(f"--set {key}={text[:200]}: the value is not valid YAML.") from error


def _plain(value: object) -> Any:
    """Ruamel's round-trip containers and scalars as ordinary ones."""
    if isinstance(value, dict):
        return {_text(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _text(key: object) -> str:
    """A key as text: a class that YAML reads as a boolean or a number is named as the label has it."""
    plain = _plain(key)
    return value_text(plain) if isinstance(plain, bool | int | float) else str(plain)


def _read_schema(project_file: Path, name: str) -> dict[str, object]:
    path = project_file.parent / name
    try:
        content = load_json(read_document(path))
    except FileNotFoundError as error:
        raise ProjectError(f"{project_file}: schema: there is no file {path}.") from error
    except (OSError, ValueError) as error:
        raise ProjectError(f"{path} is not a JSON file that can be read: {error}.") from error
    if not isinstance(content, dict):
        raise ProjectError(f"{path}: a schema is a JSON object.")
    if where := _null_in(content, ""):
        raise ProjectError(f"{path}: {where} is null: leave the key out.")
    return content


def _null_in(value: object, where: str) -> str | None:
    """The path of the first null inside a JSON value."""
    if value is None:
        return where.lstrip(".")
    parts: Any = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    return next((found for key, part in parts if (found := _null_in(part, f"{where}.{key}"))), None)
