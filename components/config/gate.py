"""What a model must reach before it is registered."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from slipway.components.config.base import Name, Section, named_twice
from slipway.components.config.features.label import Values, value_text
from slipway.components.config.kinds import UNBOUNDED, LabelKind, Metric, Threshold

Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Margin = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Judge = Literal["point", "interval"]
"""What must hold: the measured value, or the worse end of its confidence interval."""


class Bound(Section):
    """A threshold on one metric: at least `min`, at most `max`, or both."""

    min: Finite | None = Field(default=None, description="Least value.")
    max: Finite | None = Field(default=None, description="Largest value.")

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        return self


class ChampionRule(Section):
    """How a challenger is compared with the champion on the same rows."""

    margins: dict[Metric, Margin] = Field(
        default={"auc": 0.01},
        min_length=1,
        description="By metric, how much worse than the champion the challenger may be.",
    )
    judge: Judge = Field(
        default="interval",
        description="`interval` passes a challenger only when the data exclude, at the gate's "
        "confidence, that it is worse by more than the margin; `point` looks at the "
        "measured difference.",
    )


class SliceRule(Section):
    """Groups of test rows that are measured on their own."""

    columns: list[Name] = Field(
        default=[],
        description="Columns whose every value (with enough rows) must hold `least` and `margins`.",
    )
    required: dict[Name, list[str]] = Field(
        default={},
        description="By declared column, the values that the test part must have with enough rows.",
    )
    automatic: bool = Field(
        default=True,
        description="Also measure, for the card only, categorical features and months.",
    )
    min_rows: int = Field(
        default=500,
        ge=1,
        description="A slice with fewer rows is not judged; a required one with fewer fails.",
    )
    least: dict[Metric, Bound] = Field(
        default={}, description="By metric, the bound that every judged slice must hold."
    )
    margins: dict[Metric, Margin] = Field(
        default={}, description="By metric, how much worse than the champion a judged slice may be."
    )
    judge: Judge = Field(
        default="point", description="The value, or the worse end of the slice's interval."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for column in self.required:
            if column not in self.columns:
                raise ValueError(f"required column '{column}' is not among the slices' columns")
        if self.columns and not self.least and not self.margins:
            raise ValueError("columns are declared without a bound: give least, margins or both")
        return self


FairnessMeasure = Literal["selection_rate", "true_positive_rate", "false_positive_rate", "error"]


def _class_name(declared: object) -> object:
    """A class that YAML reads as a number or a boolean, as the text that it is."""
    return value_text(declared) if isinstance(declared, bool | int | float) else declared


class RankingRule(Section):
    """What the order of the rows of a query must reach, as where candidates are ranked."""

    by: Name = Field(
        description="The column whose value a query's rows share, as a visit: of "
        "`features.examples.beside`, a key or a feature."
    )
    at: int = Field(
        default=10, ge=1, le=1000, description="How many rows of a query are looked at."
    )
    ndcg: Share | None = Field(default=None, description="Least mean NDCG of the first `at`.")
    recall: Share | None = Field(
        default=None, description="Least mean share of the relevant rows among the first `at`."
    )
    min_queries: int = Field(
        default=100, ge=1, description="Fewest queries of two rows or more with a relevant one."
    )
    judge: Judge = Field(
        default="point", description="The value, or the worse end of its interval."
    )

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.ndcg is None and self.recall is None:
            raise ValueError("give the least `ndcg`, the least `recall`, or both")
        return self


class FairnessRule(Section):
    """What must be alike between groups of test rows."""

    by: Name = Field(
        description="The column whose values are the groups: of `features.examples.beside`, a key or a "
        "feature."
    )
    measure: FairnessMeasure = Field(
        description="What is compared: `selection_rate` (share of rows that are called positive), "
        "`true_positive_rate` (of those that are), `false_positive_rate` (of those that are not), or "
        "`error` (share of wrong answers; of a number the RMSE)."
    )
    positive: Annotated[str, BeforeValidator(_class_name)] | None = Field(
        default=None,
        description="Of several classes, the one that counts as positive; `error` needs none.",
    )
    gap: Margin | None = Field(default=None, description="Largest difference between two groups.")
    ratio: Share | None = Field(
        default=None,
        description="Least ratio of the smallest group's value to the largest's: 0.8 is the four-fifths "
        "rule.",
    )
    min_rows: int = Field(
        default=100,
        ge=1,
        description="Fewest rows that a group's value is made from (of `true_positive_rate` those that "
        "are positive); a group with fewer fails the rule.",
    )
    groups: Values | None = Field(
        default=None,
        description="The groups to compare, each of which must be there; a value that is neither here "
        "nor in `leave_out` fails the rule. None: all values.",
    )
    leave_out: Values | None = Field(
        default=None,
        description="Values that are not compared; `(missing)` is a null, which else fails the rule.",
    )
    judge: Judge = Field(
        default="point", description="The value, or the worse end of its interval."
    )

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.gap is None and self.ratio is None:
            raise ValueError("give gap, ratio or both")
        both = sorted(set(self.groups or ()) & set(self.leave_out or ()))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be both in `groups` and in `leave_out`")
        if self.groups is not None and len(self.groups) < 2:
            raise ValueError("give at least two `groups` to compare")
        if self.measure == "error" and self.positive is not None:
            raise ValueError("`positive` says nothing of `measure: error`: leave it out")
        return self

    @property
    def name(self) -> str:
        """What names the rule in a verdict."""
        of = f" of {self.positive}" if self.positive is not None else ""
        return f"fairness {self.by} {self.measure}{of}"


class ClassBound(Section):
    """The least that one class must reach."""

    f1: Share | None = Field(default=None, description="Least F1 of the class.")
    recall: Share | None = Field(default=None, description="Least recall of the class.")
    precision: Share | None = Field(default=None, description="Least precision of the class.")
    min_rows: int | None = Field(
        default=None,
        ge=1,
        description="Fewest test rows of the class, with fewer of which it fails; None: "
        "`gate.min_class_rows`.",
    )

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if not self.least:
            raise ValueError("give f1, recall, precision or several of them")
        return self

    @property
    def least(self) -> dict[str, float]:
        """By measure, its least value."""
        given = {"f1": self.f1, "recall": self.recall, "precision": self.precision}
        return {name: value for name, value in given.items() if value is not None}


def _class_names(declared: object) -> object:
    if not isinstance(declared, dict):
        return declared
    return {_class_name(name): bound for name, bound in declared.items()}


EVERY_CLASS = "*"


class BaselineRule(Section):
    """What the model must beat: always the constant answer, and a linear model fitted here."""

    linear: bool = Field(
        default=True,
        description="Also fit a linear model on the training part and compare: a logistic regression, "
        "or for a number a ridge regression.",
    )
    margin: Margin = Field(
        default=0.0,
        description="The lead in AUC (of a number, in R²) that is asked for over each baseline.",
    )
    judge: Literal["tie", "point", "interval"] = Field(
        default="tie",
        description="What the lead must be. `tie`: no worse than the fitted baseline beyond "
        "chance, so that its paired interval reaches the margin (where the truth is "
        "linear, the two are equal); over the constant answer, the measured lead. "
        "`point`: the measured lead over both. `interval`: the worse end of its "
        "interval.",
    )


class LeakAlarm(Section):
    """When a result is too good to be true."""

    auc: Share = Field(
        default=0.98,
        description="A model, or one feature alone, that reaches this is refused; of a number it is "
        "the concordance: the share of pairs of rows in the right order. So is one feature that alone "
        "explains as much: of several classes the accuracy, of a number the R².",
    )
    acknowledged: str = Field(
        default="",
        description="Why that is right here; a text lets it pass and stands in the verdict.",
    )


class RehearsalRule(Section):
    """The predictor, as its image runs it, is asked real rows before registration."""

    enabled: bool = Field(
        default=True, description="False leaves it out; the verdict then says so."
    )
    rows: int = Field(default=200, ge=1, le=10_000, description="Test rows that are asked.")
    tolerance: float = Field(
        default=1e-5,
        gt=0,
        allow_inf_nan=False,
        description="Largest difference between its answers and evaluate's; of a number, as a share "
        "of the largest answer.",
    )
    p99_ms: float = Field(
        default=100,
        gt=0,
        allow_inf_nan=False,
        description="Budget of the 99th percentile of the latency of a request with one row.",
    )
    memory_mb: float = Field(
        default=1024,
        gt=0,
        allow_inf_nan=False,
        description="Budget of the predictor's resident memory.",
    )


class GateConfig(Section):
    """The `gate` section: measured on the test part, at the model's own threshold."""

    accuracy: Share = Field(
        default=0.8, description="Least accuracy; of classes only, as F1 and AUC."
    )
    f1: Share = Field(default=0.5, description="Least F1; of several classes their mean.")
    auc: Share = Field(
        default=0.75,
        description="Least area under the ROC curve; of several classes the mean of each against the "
        "rest.",
    )
    unbounded: list[Threshold] = Field(
        default=[],
        description="Those of accuracy, f1 and auc that may be 0 in a run on a cluster. One that is 0 in"
        " the project file may be; any other 0 is taken for a field of a form that was blanked, and"
        " refused.",
    )
    metrics: dict[Metric, Bound] = Field(
        default={},
        description="Bounds on any other metric (or a second one on these). A number's label has "
        "`{r2: {min: 0}}` where nothing is said.",
    )
    coverage: Share = Field(
        default=0.05,
        description="By how much the share of labels inside their intervals may fall short of "
        "`training.interval`; of several classes, of those in their sets, short of `training.sets`.",
    )
    calibration_error: Share = Field(default=0.1, description="Largest expected calibration error.")
    min_rows: int = Field(default=1000, ge=1, description="Fewest test rows.")
    min_class_rows: int = Field(default=50, ge=1, description="Fewest test rows of each class.")
    judge: Judge = Field(
        default="point",
        description="Whether those bounds hold for the value or for the worse end of its interval.",
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of all intervals.")
    resamples: int = Field(
        default=1000, ge=100, le=100_000, description="Bootstrap replicates an interval is made of."
    )
    block: Name = Field(
        default="day",
        description='What is resampled whole: "day", "hour", "week", "row", or a column (an '
        "entity).",
    )
    seed: int = Field(default=0, description="Of the resampling.")
    weights: Name | None = Field(
        default=None,
        description="The column that says how much a test row counts in every metric but those of "
        "`ranking`: a number above 0, of `features.examples.beside` or a feature. None: each row counts "
        "once.",
    )
    champion: ChampionRule = ChampionRule()
    slices: SliceRule = SliceRule()
    fairness: list[FairnessRule] = Field(
        default=[], description="What must be alike between groups of rows."
    )
    ranking: RankingRule | None = Field(
        default=None,
        description="What the order of each query's rows must reach (binary labels); None: it is not "
        "measured.",
    )
    classes: Annotated[dict[str, ClassBound], BeforeValidator(_class_names)] = Field(
        default={},
        description="Class to the least that it must reach; `*` is each class that is not named.",
    )
    baseline: BaselineRule = BaselineRule()
    leak: LeakAlarm = LeakAlarm()
    rehearsal: RehearsalRule = RehearsalRule()

    def with_defaults_of(self, kind: LabelKind) -> "GateConfig":
        """The same settings, with a kind's own defaults where the project says nothing.

        The defaults above are those of classes. A number must be predicted better than by its mean, and
        its intervals must hold about as many values as they promise.
        """
        if kind != "number":
            return self
        changed: dict[str, object] = {}
        if "metrics" not in self.model_fields_set:
            changed["metrics"] = {"r2": Bound(min=0.0)}
        if "margins" not in self.champion.model_fields_set:
            changed["champion"] = self.champion.model_copy(update={"margins": {"r2": 0.01}})
        return self.model_copy(update=changed)

    @field_validator("fairness")
    @classmethod
    def _compared_once(cls, rules: list[FairnessRule]) -> list[FairnessRule]:
        if twice := named_twice(rule.name for rule in rules):
            raise ValueError(f"there are two rules of {twice[0].removeprefix('fairness ')}")
        return rules

    def blanked(self) -> list[Threshold]:
        """The thresholds that are 0 although nobody said so."""
        return [
            name for name in UNBOUNDED if not getattr(self, name) and name not in self.unbounded
        ]

    @field_validator("accuracy", "f1", "auc", mode="before")
    @classmethod
    def _is_given(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("a threshold is a number, not true or false")
        return value


def blank_threshold(name: str) -> str:
    """What is said of a threshold that is 0 although nobody set it so."""
    return (
        f"gate_{name} is 0, which lets every model pass; a form sends that for a blank. Give a number"
        f" above 0, for example 0.75. If no bound is meant, set gate.{name} to 0 in the project file, or"
        f" name {name} in gate.unbounded"
    )
