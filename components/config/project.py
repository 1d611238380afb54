"""The project file: one folder describes a whole stack, without a line of Python."""

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from slipway.components.config.base import Section
from slipway.components.config.data import DataConfig
from slipway.components.config.deployment import DeploymentConfig
from slipway.components.config.features import FeaturesConfig
from slipway.components.config.gate import GateConfig
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.config.orchestration import Orchestration, Schedule
from slipway.components.config.training import TrainingConfig
from slipway.components.support.errors import ProjectError

FILE_NAME = "project.yaml"

# The values that each choice of the stack may have, and which of them Slipway supports today.
CHOICES: dict[str, dict[str, bool]] = {
    "cloud_provider": {"aws": True, "gcp": True, "azure": True, "onprem": True},
    "experiment_tracker": {"mlflow": True, "wandb": False, "neptune": False, "comet": False},
    "model_registry": {"mlflow": True, "kubeflow": False, "sagemaker": False, "vertex": False},
    "feature_store": {"feast": True, "tecton": False, "hopsworks": False},
    "orchestrator": {"kubeflow": True, "airflow": False, "argo": False, "prefect": False},
    "monitoring_tool": {"evidently": True, "whylogs": False, "arize": False},
    "ci_cd_platform": {"github-actions": True, "gitlab-ci": True, "tekton": True},
}


ScheduleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class Project(Section):
    """A whole project file."""

    project_name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    cloud_provider: str
    experiment_tracker: str
    model_registry: str
    feature_store: str
    orchestrator: str
    monitoring_tool: str
    ci_cd_platform: str

    data: DataConfig
    input_schema: str = Field(alias="schema")
    features: FeaturesConfig
    training: TrainingConfig = TrainingConfig()
    gate: GateConfig = GateConfig()
    deployment: DeploymentConfig = DeploymentConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    orchestration: Orchestration = Orchestration()
    schedules: dict[ScheduleName, Schedule] | None = None

    @property
    def recurring(self) -> dict[str, Schedule]:
        """The recurring runs: those declared, or without any the monitoring section's own."""
        if self.schedules is not None:
            return self.schedules
        return {"monitoring": Schedule(pipeline="monitoring", cron=self.monitoring.schedule)}

    @field_validator(*CHOICES)
    @classmethod
    def _is_supported(cls, value: str, info: Any) -> str:
        choices = CHOICES[info.field_name]
        supported = ", ".join(name for name, works in choices.items() if works)
        if value not in choices:
            raise ValueError(f"'{value}' is not a {info.field_name}. Supported: {supported}")
        if not choices[value]:
            raise ValueError(f"{value} is not supported yet. Supported: {supported}")
        return value


class LoadedProject(Section):
    """A project with what its folder holds beside it."""

    project: Project
    folder: Path
    schema_content: dict[str, Any]


def load_project(folder: Path, overrides: dict[str, str] | None = None) -> LoadedProject:
    """Reads and checks `project.yaml` and the schema that it names.

    Args:
        folder: the project's folder, or the file itself.
        overrides: dotted key to YAML text, as given with `--set gate.auc=0.9`.

    Raises:
        ProjectError: naming the file, the line, the key, and the nearest valid name.
    """
    path = folder / FILE_NAME if folder.is_dir() else folder
    if not path.is_file():
        raise ProjectError(
            f"There is no {FILE_NAME} in {folder}. Give the project's folder with --project;"
            " examples/flights has one to start from."
        )
    try:
        document = YAML().load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ProjectError(f"{path} is empty: it needs project_name, data, schema, features, …")
    sources: dict[tuple[str, ...], str] = {}
    for key, text in (overrides or {}).items():
        _override(document, key, text)
        sources[tuple(key.split("."))] = f"--set {key}={text}"
    try:
        project = Project.model_validate(_plain(document))
    except ValidationError as error:
        raise ProjectError(_explain(error, path, document, sources)) from error
    return LoadedProject(
        project=project,
        folder=path.parent,
        schema_content=_read_schema(path, project.input_schema),
    )


def _override(document: dict[str, Any], key: str, text: str) -> None:
    parts = key.split(".")
    target: Any = document
    for part in parts[:-1]:
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise ProjectError(f"--set {key}={text}: {part} is not a section of the project file.")
    try:
        target[parts[-1]] = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ProjectError(f"--set {key}={text}: the value is not valid YAML.") from error


def _plain(value: Any) -> Any:
    """Ruamel's round-trip containers and scalars as ordinary ones."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _explain(
    error: ValidationError, path: Path, document: Any, sources: dict[tuple[str, ...], str]
) -> str:
    lines = []
    for problem in error.errors():
        location = tuple(str(part) for part in problem["loc"])
        where = sources.get(location) or f"{path}{_line(document, problem['loc'])}"
        key = ".".join(location)
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(location[-1], _siblings(location), n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            lines.append(f"{where}: unknown key {key}.{hint}")
        elif problem["type"] == "missing":
            lines.append(f"{where}: {key} is missing.")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {key}: {message}.")
    return "\n".join(dict.fromkeys(lines))


def _line(document: Any, location: tuple[int | str, ...]) -> str:
    """The line of the deepest part of `location` that the file has, as ":12"."""
    line = None
    for part in location:
        marks = getattr(document, "lc", None)
        if marks is None:
            break
        try:
            line = marks.data[part][0] + 1
            document = document[part]
        except (KeyError, IndexError, TypeError):
            break
    return f":{line}" if line else ""


def _siblings(location: tuple[str, ...]) -> list[str]:
    """Names that are valid where `location` stands, found by walking the models."""
    model: Any = Project
    for part in location[:-1]:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(part) or next(
                (f for f in model.model_fields.values() if f.alias == part), None
            )
            model = field.annotation if field else None
        else:
            model = None
        model = _section_in(model) or model
    if isinstance(model, type) and issubclass(model, BaseModel):
        return [field.alias or name for name, field in model.model_fields.items()]
    return []


def _section_in(annotation: Any) -> Any:
    """The Section class inside an annotation such as list[FeatureView] or Window | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if annotation is Literal:
        return None
    for argument in get_args(annotation):
        if found := _section_in(argument):
            return found
    return None


def _read_schema(project_file: Path, name: str) -> dict[str, Any]:
    path = project_file.parent / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProjectError(f"{project_file}: schema: there is no file {path}.") from error
    except (OSError, ValueError) as error:
        raise ProjectError(f"{path} is not a JSON file that can be read: {error}.") from error
    if not isinstance(content, dict):
        raise ProjectError(f"{path}: a schema is a JSON object.")
    if where := _null_in(content, ""):
        raise ProjectError(f"{path}: {where} is null, which a pipeline parameter cannot hold.")
    return content


def _null_in(value: Any, where: str) -> str | None:
    """The path of the first null inside a JSON value."""
    if value is None:
        return where.lstrip(".")
    parts: Any = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    return next((found for key, part in parts if (found := _null_in(part, f"{where}.{key}"))), None)
