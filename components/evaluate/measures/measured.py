"""What was measured of a model, as the gate's rules judge it."""

from dataclasses import dataclass, field

from slipway.components.metrics.kinds.base import LabelType


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A measured value with its confidence interval. None: could not be measured."""

    value: float | None
    low: float | None = None
    high: float | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceEvidence:
    """What was measured on the rows with one value of one column."""

    column: str
    value: str
    rows: int
    metrics: dict[str, Estimate]
    differences: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEvidence:
    """What a rule of fairness compares.

    Attributes:
        rule: its name. groups: by group its value, with the rows that this is made from.
        gap, ratio: how far the groups lie apart.
        problems: why nothing may be concluded, in words.
    """

    rule: str
    groups: dict[str, Estimate]
    gap: Estimate
    ratio: Estimate
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingEvidence:
    """How well the rows of queries are ordered.

    Attributes:
        queries: those that can be measured.
        values: `ndcg` and `recall`, means over the queries. chance: what a random order comes to.
    """

    queries: int
    values: dict[str, Estimate]
    chance: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalEvidence:
    """How the predictor answered before registration.

    Attributes:
        difference: largest difference to the answers that evaluate computed: absolute, or of a kind of
            label without a scale of its own as a share of the largest answer.
        p99_ms: 99th percentile of the latency of a request with one row.
        memory_mb: largest resident memory.
        problems: what went wrong, in words.
    """

    rows: int
    difference: float | None
    p99_ms: float | None
    memory_mb: float | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was measured, for the rules to look at.

    Attributes:
        label: the kind of label, as the model has it.
        validation_rows: those that intervals and sets were made from; None: not known.
        effective_rows: how many rows of equal weight the weighed test rows are worth; None: all weigh the
            same.
        rows: test rows. expected_rows: what splits.json says. class_rows: test rows of each class.
        problems: what made the measuring itself unsound; each is a fail.
        metrics: of the model, by name.
        champion: differences (model − champion) by metric; None where there is no champion.
        champion_problem: why the champion, though there is one, could not be compared.
        slices: of the declared columns.
        ranking: what the rule of ranking asks for; None where there is none.
        fairness: what the rules of fairness compare. classes: of each class F1, recall and precision,
            where the least of one is asked for.
        constant_cost: where the label has costs, what the best constant answer costs a row, and which it
            is.
        baselines: by baseline, the difference in the kind's leading metric (model − baseline).
        shuffled: what is told of labels shuffled on purpose, with the interval of pure chance.
        features: how well single features tell the label (see `LabelType.tells`), by name.
        explained: of several classes the accuracy, of a number the R² that single features alone reach.
        told: how well the model does, where its kind's alarm is none of the metrics.
        rehearsal: None where it was left out by the project's choice.
    """

    label: LabelType
    rows: int
    expected_rows: int
    class_rows: tuple[int, ...]
    validation_rows: int | None = None
    effective_rows: float | None = None
    problems: tuple[str, ...] = ()
    metrics: dict[str, Estimate] = field(default_factory=dict)
    champion: dict[str, Estimate] | None = None
    champion_problem: str = ""
    slices: tuple[SliceEvidence, ...] = ()
    fairness: tuple[GroupEvidence, ...] = ()
    ranking: RankingEvidence | None = None
    classes: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    constant_cost: tuple[float, str] | None = None
    baselines: dict[str, Estimate] = field(default_factory=dict)
    shuffled: Estimate | None = None
    features: dict[str, float] = field(default_factory=dict)
    explained: dict[str, float] = field(default_factory=dict)
    told: float | None = None
    rehearsal: RehearsalEvidence | None = None
