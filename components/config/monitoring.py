"""What the recurring run watches, when it alerts, and whether it retrains."""

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from slipway.components.config.base import Duration, Name, Section, format_duration, named_twice

Severity = Literal["info", "warning", "critical"]
AlertName = Literal[
    "NO_DATA",
    "LOW_ACCURACY",
    "ACCURACY_DROP",
    "COVERAGE",
    "ERROR_RISE",
    "NEW_CLASS",
    "FAIRNESS",
    "HIGH_ERROR_RATE",
    "HIGH_LATENCY",
    "DATA_DRIFT",
    "SCHEMA_BREAK",
    "SKEW",
    "PREDICTION_DRIFT",
    "FEATURE_DRIFT",
    "LOG_ROWS_LOST",
]


class AlertThresholds(Section):
    """When each default alert fires."""

    accuracy: float = Field(default=0.85, ge=0, le=1, description="LOW_ACCURACY below.")
    accuracy_drop: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="ACCURACY_DROP above, against the accuracy at release.",
    )
    coverage: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="COVERAGE above: by how much the share of labels inside their intervals, or in their "
        "sets, falls short of what these promise.",
    )
    error_rise: float = Field(
        default=0.25,
        ge=0,
        description="Of a number: ERROR_RISE above, the share by which the RMSE grew since the release.",
    )
    latency_ms: float = Field(default=100, gt=0, description="HIGH_LATENCY above (mean).")
    error_rate: float = Field(default=0.01, ge=0, le=1, description="HIGH_ERROR_RATE above (5xx).")
    drift: float = Field(
        default=0.3, ge=0, le=1, description="DATA_DRIFT above: share of features that drifted."
    )
    skew: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="SKEW above: share of sampled rows whose feature differs from the offline store.",
    )


class DriftConfig(Section):
    """What counts as drift of a feature: a difference that is both real and large enough to matter.

    Real: it would be seen in at most `false_alarms` of windows without drift, over all features and
    tests together. Large enough: it reaches the least effect for its kind.
    """

    reference: Literal["train", "test", "rolling", "season"] = Field(
        default="train",
        description="What windows are compared with. `train`: what the model learnt from. `test`: "
        "the latest data before its release. `rolling`: the windows of the last "
        "`span`. `season`: of those, the ones a whole number of `season` earlier (the "
        "same weekday for 7d).",
    )
    span: Duration = Field(
        default=timedelta(days=28), description="How far back `rolling` and `season` look."
    )
    season: Duration = Field(
        default=timedelta(days=7),
        description="The length after which the data is expected to repeat.",
    )
    false_alarms: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="The share of windows without drift in which any feature may be called "
        "drifted.",
    )
    distance: float = Field(
        default=0.1,
        gt=0,
        description="Numeric and time: least Wasserstein-1 distance in standard deviations of the "
        "reference; also the least Jensen-Shannon distance (base 2, 0 to 1) of the "
        "shape.",
    )
    moved: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Categorical and boolean: least share of rows that changed category.",
    )
    nulls: float = Field(
        default=0.02, gt=0, le=1, description="Least change of the share of missing values."
    )
    unseen: float = Field(
        default=0.005,
        gt=0,
        le=1,
        description="Least share of values that the reference does not have.",
    )


class RuleSettings(Section):
    """How one rule behaves; its threshold is in `alerts`."""

    enabled: bool = Field(default=True, description="Whether it is judged at all.")
    severity: Severity | None = Field(default=None, description="In place of the rule's own.")
    lasting: Duration = Field(
        default=timedelta(0),
        alias="for",
        description="`for` in the project file: fires once it has held without a break for this "
        "long, from the start of the first window in which it held. 0: at once.",
    )


class Route(Section):
    """Where alerts go."""

    name: Name = Field(description="Names the route in messages, and its file in the state folder.")
    kind: Literal["webhook", "apprise", "alertmanager", "pushgateway", "log"] = Field(
        description="`webhook` posts JSON; `apprise` any of Apprise's services (chat, mail, …); "
        "`alertmanager` its v2 API; `pushgateway` gauges for those who alert in "
        "Prometheus; `log` a line of JSON in the task's own log."
    )
    url: str = Field(
        default="",
        description="Of the service; a `log` has none. `${NAME}` stands for an environment "
        "variable, so that a token stays in a secret.",
    )
    least: Severity = Field(
        default="warning", description="Alerts below this severity are not sent."
    )
    repeat: Duration | None = Field(
        default=None, description="An alert that goes on is sent again after this long; None: once."
    )

    @model_validator(mode="after")
    def _led_somewhere(self) -> Self:
        if bool(self.url) == (self.kind == "log"):
            what = "has no url" if self.kind == "log" else "needs a url"
            raise ValueError(f"the route {self.name}, a {self.kind}, {what}")
        return self


class RetrainSettings(Section):
    """When a decayed model may be retrained, so that an alert cannot start training after training."""

    reasons: list[AlertName] = Field(
        default=["LOW_ACCURACY", "ACCURACY_DROP", "COVERAGE", "ERROR_RISE", "DATA_DRIFT"],
        description="Alerts that ask for it.",
    )
    cooldown: Duration = Field(
        default=timedelta(days=3), description="Least time between the windows of two requests."
    )
    budget: int = Field(default=1, ge=0, description="Most requests in seven days.")
    patience: Duration = Field(
        default=timedelta(days=1),
        description="A training that was asked for and neither ended nor replaced the model after "
        "this long counts as lost and no longer holds up the next.",
    )
    window: Duration | None = Field(
        default=None,
        description="How long a stretch of data, up to the window's end, the new model learns "
        "from; None: all since the start of the project's `data.window`.",
    )


class RetentionConfig(Section):
    """What the recurring run deletes, and `slipway prune`; nothing where nothing stands."""

    log: Duration | None = Field(
        default=None, description="Days of the inference log that ended so long ago."
    )
    versions: int | None = Field(
        default=None,
        ge=1,
        description="All but so many newest registered versions; those with an alias, and as many of "
        "those that served last, stay whatever their age.",
    )
    runs: Duration | None = Field(
        default=None,
        description="MLflow runs of trainings that ended so long ago and made no version that stays.",
    )
    pipeline_runs: Duration | None = Field(
        default=None,
        description="Runs on Kubeflow that began so long ago, with their artifacts; those that made a "
        "version that stays, or whose results the cache may need, stay.",
    )
    pipeline_runs_kept: int = Field(
        default=10,
        ge=1,
        description="So many newest runs of each pipeline stay whatever their age.",
    )
    pipeline_root: str = Field(
        default="",
        description="Where the pipelines keep their artifacts, as s3://mlpipeline/v2/artifacts; "
        "`pipeline_runs` needs it.",
    )
    online: Duration | None = Field(
        default=None,
        description="Rows of the online store that are so long past the TTL of their view.",
    )

    @model_validator(mode="after")
    def _knows_the_artifacts(self) -> Self:
        if self.pipeline_runs is not None and not self.pipeline_root:
            raise ValueError(
                "pipeline_runs needs pipeline_root: the prefix that Kubeflow keeps the runs' artifacts"
                " below, as s3://mlpipeline/v2/artifacts"
            )
        return self


class MonitoringConfig(Section):
    """The `monitoring` section."""

    schedule: str = Field(
        default="0 6 * * *", description="When the pipeline runs, as cron writes it."
    )
    alerts: AlertThresholds = AlertThresholds()
    drift: DriftConfig = DriftConfig()
    min_rows: int = Field(
        default=200,
        ge=1,
        description="With fewer predictions (or, for accuracy, fewer labels) nothing is concluded.",
    )
    label_wait: Duration = Field(
        default=timedelta(0),
        description="A label counts if it was known this long after the window's end at the "
        "latest.",
    )
    look_back: Duration = Field(
        default=timedelta(days=7),
        description="Windows that ended within so long before are measured again with the labels "
        "that have become known since.",
    )
    skew_rows: int = Field(
        default=2000,
        ge=0,
        le=100_000,
        description="Logged rows that are compared with the offline store; 0: none.",
    )
    report_rows: int = Field(
        default=2000,
        ge=0,
        le=20_000,
        description="Rows of the window, and of the reference, that Evidently renders; 0: no "
        "Evidently pages in the report.",
    )
    retrain: bool = Field(
        default=False,
        description="Whether decay may start a training; `retraining` says how often.",
    )
    retraining: RetrainSettings = RetrainSettings()
    retention: RetentionConfig = RetentionConfig()
    rules: dict[AlertName, RuleSettings] = Field(
        default={}, description="The name of an alert to how it behaves."
    )
    routes: list[Route] = Field(default=[], description="Where alerts are sent.")
    report_url: str = Field(
        default="",
        description="Where people find the report: text with {model}, {window_start} and "
        "{window_end}. Empty: the path of the file.",
    )

    @model_validator(mode="after")
    def _keeps_what_it_measures_again(self) -> Self:
        kept, needed = self.retention.log, self.look_back + self.label_wait + timedelta(days=1)
        if kept is not None and kept < needed:
            raise ValueError(
                f"retention.log is {format_duration(kept)}, and windows are measured again for look_back"
                f" and label_wait, a day at least: {format_duration(needed)} of the log must stay"
            )
        return self

    @field_validator("routes")
    @classmethod
    def _named_once(cls, routes: list[Route]) -> list[Route]:
        if twice := named_twice(route.name for route in routes):
            raise ValueError(f"two routes are named {twice[0]}")
        return routes
