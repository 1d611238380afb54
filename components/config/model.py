"""A project file as one model: the choices of its stack, and its sections."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from slipway.components.config.base import Section
from slipway.components.config.data import DataConfig
from slipway.components.config.deployment import DeploymentConfig
from slipway.components.config.features.features import FeaturesConfig
from slipway.components.config.gate import GateConfig
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.config.orchestration import Orchestration, Schedule
from slipway.components.config.training import TrainingConfig

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


def check_label(value: str) -> str:
    """A name that stands in names of Kubernetes objects too.

    Raises:
        ValueError: Kubernetes or KServe would refuse it.
    """
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", value):
        raise ValueError(
            f"'{value}' is not a name: use small letters, digits and - (first a letter, last none of -),"
            " at most 40"
        )
    return value


Label = Annotated[str, AfterValidator(check_label)]


class Project(Section):
    """A whole project file."""

    project_name: Label
    cloud_provider: str = "onprem"
    experiment_tracker: str = "mlflow"
    model_registry: str = "mlflow"
    feature_store: str = "feast"
    orchestrator: str = "kubeflow"
    monitoring_tool: str = "evidently"
    ci_cd_platform: str = "github-actions"

    data: DataConfig
    input_schema: str = Field(alias="schema")
    features: FeaturesConfig
    training: TrainingConfig = TrainingConfig()
    gate: Annotated[GateConfig, Field(validate_default=True)] = GateConfig()
    deployment: DeploymentConfig = DeploymentConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    orchestration: Orchestration = Orchestration()
    schedules: dict[Label, Schedule] | None = None

    @property
    def recurring(self) -> dict[str, Schedule]:
        """The recurring runs: those declared, or without any the monitoring section's own."""
        if self.schedules is not None:
            return self.schedules
        return {"monitoring": Schedule(pipeline="monitoring", cron=self.monitoring.schedule)}

    @field_validator("gate")
    @classmethod
    def _has_defaults_of_its_label(cls, gate: GateConfig, info: ValidationInfo) -> GateConfig:
        features = info.data.get("features")
        return gate.with_defaults_of(features.label.kind) if features else gate

    @model_validator(mode="after")
    def _resamples_what_there_is(self) -> Self:
        """Without time the gate's default block, a day, is a row; or a group, where groups are split."""
        features = self.features
        if features.examples.time is not None or "block" in self.gate.model_fields_set:
            return self
        gate = self.gate.model_copy(update={"block": features.split.by or "row"})
        return self.model_copy(update={"gate": gate})

    @field_validator(*CHOICES)
    @classmethod
    def _is_supported(cls, value: str, info: ValidationInfo) -> str:
        setting = str(info.field_name)
        choices = CHOICES[setting]
        supported = ", ".join(name for name, works in choices.items() if works)
        if value not in choices:
            raise ValueError(f"'{value}' is not a {setting}. Supported: {supported}")
        if not choices[value]:
            raise ValueError(f"{value} is not supported yet. Supported: {supported}")
        return value
