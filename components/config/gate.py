"""What a model must reach before it is registered."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from slipway.components.config.base import Name, Section

Metric = Literal[
    "accuracy",
    "f1",
    "precision",
    "recall",
    "auc",
    "average_precision",
    "log_loss",
    "brier",
    "calibration_error",
]
LOWER_IS_BETTER: frozenset[str] = frozenset({"log_loss", "brier", "calibration_error"})

Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Margin = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Judge = Literal["point", "interval"]
"""What must hold: the measured value, or the worse end of its confidence interval."""


class Bound(Section):
    """A threshold on one metric: at least `min`, at most `max`, or both."""

    min: Finite | None = None
    max: Finite | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        return self


class ChampionRule(Section):
    """How a challenger is compared with the champion on the same rows.

    Attributes:
        margins: by metric, how much worse than the champion the challenger may be.
        judge: `interval` passes a challenger only when the data exclude, at the gate's confidence,
            that it is worse by more than the margin; `point` looks at the measured difference.
    """

    margins: dict[Metric, Margin] = Field(default={"auc": 0.01}, min_length=1)
    judge: Judge = "interval"


class SliceRule(Section):
    """Groups of test rows that are measured on their own.

    Attributes:
        columns: columns whose every value (with enough rows) must hold `least` and `margins`.
        required: by declared column, the values that the test part must have with enough rows.
        automatic: also measure, for the card only, categorical features and months.
        min_rows: a slice with fewer rows is not judged; a required one with fewer fails.
        least: by metric, the bound that every judged slice must hold.
        margins: by metric, how much worse than the champion a judged slice may be.
        judge: the value, or the worse end of the slice's interval.
    """

    columns: list[Name] = []
    required: dict[Name, list[str]] = {}
    automatic: bool = True
    min_rows: int = Field(default=500, ge=1)
    least: dict[Metric, Bound] = {}
    margins: dict[Metric, Margin] = {}
    judge: Judge = "point"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for column in self.required:
            if column not in self.columns:
                raise ValueError(f"required column '{column}' is not among the slices' columns")
        if self.columns and not self.least and not self.margins:
            raise ValueError("columns are declared without a bound: give least, margins or both")
        return self


class BaselineRule(Section):
    """What the model must beat: always the constant answer, and a logistic regression.

    Attributes:
        logistic: also fit a logistic regression on the training part and compare.
        margin: the lead in AUC that is asked for over each baseline.
        judge: what the lead must be. `tie`: no worse than the logistic regression beyond chance, so that
            its paired interval reaches the margin (where the truth is linear, the two are equal); over
            the constant answer, the measured lead. `point`: the measured lead over both. `interval`:
            the worse end of its interval.
    """

    logistic: bool = True
    margin: Margin = 0.0
    judge: Literal["tie", "point", "interval"] = "tie"


class LeakAlarm(Section):
    """When a result is too good to be true.

    Attributes:
        auc: a model, or one feature alone, that reaches this is refused.
        acknowledged: why that is right here; a text lets it pass and stands in the verdict.
    """

    auc: Share = 0.98
    acknowledged: str = ""


class RehearsalRule(Section):
    """The predictor, as its image runs it, is asked real rows before registration.

    Attributes:
        enabled: false leaves it out; the verdict then says so.
        rows: test rows that are asked.
        tolerance: largest difference between its probabilities and evaluate's.
        p99_ms: budget of the 99th percentile of the latency of a request with one row.
        memory_mb: budget of the predictor's resident memory.
    """

    enabled: bool = True
    rows: int = Field(default=200, ge=1, le=10_000)
    tolerance: float = Field(default=1e-5, gt=0, allow_inf_nan=False)
    p99_ms: float = Field(default=100, gt=0, allow_inf_nan=False)
    memory_mb: float = Field(default=1024, gt=0, allow_inf_nan=False)


class GateConfig(Section):
    """The `gate` section: measured on the test part, at the model's own threshold.

    Attributes:
        accuracy: least accuracy. f1: least F1. auc: least area under the ROC curve.
        metrics: bounds on any other metric (or a second one on these).
        calibration_error: largest expected calibration error.
        min_rows: fewest test rows. min_class_rows: fewest test rows of each class.
        judge: whether those bounds hold for the value or for the worse end of its interval.
        confidence: of all intervals.
        resamples: bootstrap replicates an interval is made of.
        block: what is resampled whole: "day", "hour", "week", "row", or a column (an entity).
        seed: of the resampling.
    """

    accuracy: Share = 0.8
    f1: Share = 0.5
    auc: Share = 0.75
    metrics: dict[Metric, Bound] = {}
    calibration_error: Share = 0.1
    min_rows: int = Field(default=1000, ge=1)
    min_class_rows: int = Field(default=50, ge=1)
    judge: Judge = "point"
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=1000, ge=100, le=100_000)
    block: Name = "day"
    seed: int = 0
    champion: ChampionRule = ChampionRule()
    slices: SliceRule = SliceRule()
    baseline: BaselineRule = BaselineRule()
    leak: LeakAlarm = LeakAlarm()
    rehearsal: RehearsalRule = RehearsalRule()

    @field_validator("accuracy", "f1", "auc", mode="before")
    @classmethod
    def _is_given(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("a threshold is a number, not true or false")
        return value
