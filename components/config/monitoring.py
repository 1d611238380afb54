"""What the recurring run watches, when it alerts, and whether it retrains."""

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from slipway.components.config.base import Duration, Name, Section

Severity = Literal["info", "warning", "critical"]
AlertName = Literal[
    "NO_DATA",
    "LOW_ACCURACY",
    "ACCURACY_DROP",
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

    accuracy: float = Field(default=0.85, ge=0, le=1)
    accuracy_drop: float = Field(default=0.05, ge=0, le=1)
    latency_ms: float = Field(default=100, gt=0)
    error_rate: float = Field(default=0.01, ge=0, le=1)
    drift: float = Field(default=0.3, ge=0, le=1)
    skew: float = Field(default=0.02, ge=0, le=1)


class DriftConfig(Section):
    """What counts as drift of a feature: a difference that is both real and large enough to matter.

    Real: it would be seen in at most `false_alarms` of windows without drift, over all features and
    tests together. Large enough: it reaches the least effect for its kind.

    Attributes:
        reference: what windows are compared with. `train`: what the model learnt from. `test`: the
            latest data before its release. `rolling`: the windows of the last `span`. `season`: of
            those, the ones a whole number of `season` earlier (the same weekday for 7d).
        span: how far back `rolling` and `season` look.
        season: the length after which the data is expected to repeat.
        false_alarms: the share of windows without drift in which any feature may be called drifted.
        distance: numeric and time: least Wasserstein-1 distance in standard deviations of the
            reference; also the least Jensen-Shannon distance (base 2, 0 to 1) of the shape.
        moved: categorical and boolean: least share of rows that changed category.
        nulls: least change of the share of missing values.
        unseen: least share of values that the reference does not have.
    """

    reference: Literal["train", "test", "rolling", "season"] = "train"
    span: Duration = timedelta(days=28)
    season: Duration = timedelta(days=7)
    false_alarms: float = Field(default=0.01, gt=0, lt=1)
    distance: float = Field(default=0.1, gt=0)
    moved: float = Field(default=0.05, gt=0, le=1)
    nulls: float = Field(default=0.02, gt=0, le=1)
    unseen: float = Field(default=0.005, gt=0, le=1)


class RuleSettings(Section):
    """How one rule behaves; its threshold is in `alerts`.

    Attributes:
        enabled: whether it is judged at all.
        severity: in place of the rule's own.
        lasting: `for` in the project file: fires once it has held without a break for this long, from
            the start of the first window in which it held. 0: at once.
    """

    enabled: bool = True
    severity: Severity | None = None
    lasting: Duration = Field(default=timedelta(0), alias="for")


class Route(Section):
    """Where alerts go.

    Attributes:
        name: names the route in messages, and its file in the state folder.
        kind: `webhook` posts JSON; `apprise` any of Apprise's services (chat, mail, …);
            `alertmanager` its v2 API; `pushgateway` gauges for those who alert in Prometheus; `log` a
            line of JSON in the task's own log.
        url: of the service; a `log` has none. `${NAME}` stands for an environment variable, so that a
            token stays in a secret.
        least: alerts below this severity are not sent.
        repeat: an alert that goes on is sent again after this long; None: once.
    """

    name: Name
    kind: Literal["webhook", "apprise", "alertmanager", "pushgateway", "log"]
    url: str = ""
    least: Severity = "warning"
    repeat: Duration | None = None

    @model_validator(mode="after")
    def _led_somewhere(self) -> Self:
        if bool(self.url) == (self.kind == "log"):
            what = "has no url" if self.kind == "log" else "needs a url"
            raise ValueError(f"the route {self.name}, a {self.kind}, {what}")
        return self


class RetrainSettings(Section):
    """When a decayed model may be retrained, so that an alert cannot start training after training.

    Attributes:
        reasons: alerts that ask for it.
        cooldown: least time between the windows of two requests.
        budget: most requests in seven days.
        patience: a training that was asked for and neither ended nor replaced the model after this
            long counts as lost and no longer holds up the next.
        window: how long a stretch of data, up to the window's end, the new model learns from; None:
            all since the start of the project's `data.window`.
    """

    reasons: list[AlertName] = ["LOW_ACCURACY", "ACCURACY_DROP", "DATA_DRIFT"]
    cooldown: Duration = timedelta(days=3)
    budget: int = Field(default=1, ge=0)
    patience: Duration = timedelta(days=1)
    window: Duration | None = None


class MonitoringConfig(Section):
    """The `monitoring` section.

    Attributes:
        min_rows: with fewer predictions (or, for accuracy, fewer labels) nothing is concluded.
        label_wait: a label counts if it was known this long after the window's end at the latest.
        look_back: windows that ended within so long before are measured again with the labels that have
            become known since.
        skew_rows: logged rows that are compared with the offline store; 0: none.
        report_rows: rows of the window, and of the reference, that Evidently renders; 0: no
            Evidently pages in the report.
        retrain: whether decay may start a training; `retraining` says how often.
        rules: the name of an alert to how it behaves.
        report_url: where people find the report: text with {model}, {window_start} and {window_end}.
            Empty: the path of the file.
    """

    schedule: str = "0 6 * * *"
    alerts: AlertThresholds = AlertThresholds()
    drift: DriftConfig = DriftConfig()
    min_rows: int = Field(default=200, ge=1)
    label_wait: Duration = timedelta(0)
    look_back: Duration = timedelta(days=7)
    skew_rows: int = Field(default=2000, ge=0, le=100_000)
    report_rows: int = Field(default=2000, ge=0, le=20_000)
    retrain: bool = False
    retraining: RetrainSettings = RetrainSettings()
    rules: dict[AlertName, RuleSettings] = {}
    routes: list[Route] = []
    report_url: str = ""

    @field_validator("routes")
    @classmethod
    def _named_once(cls, routes: list[Route]) -> list[Route]:
        names = [route.name for route in routes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two routes are named {twice[0]}")
        return routes
