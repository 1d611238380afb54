"""Reference: what monitoring compares a served model with. Written by register, kept with the version.

Layout, version 1::

    reference.json      metrics and intervals at release, statistics of the training part, row counts
    reference.parquet   at most 50,000 rows of each of the parts train and test
    splits.json         as the splits had it

The rows are evenly spaced in the part's order (time), so the sample is the same for the same splits. Rows
without a label are among them in their share, with a null label: what is served and scored has them too.
Their columns are those of the splits (without what travels beside the features), then `part` (string),
and what the model answers: of a binary label
`probability` (double) and `predicted` (int8), of other kinds the columns of the inference log with `__`
before their names.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.record import Record
from slipway.components.contracts.splits import Feature

FILE = "reference.json"
ROWS = "reference.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSummary(Record):
    """What reference.json holds.

    Attributes:
        threshold: of a binary label: it is 1 where the probability reaches it.
        label_kind, classes, level, costs, set_threshold: as in the bundle.
        rows: rows a part. sampled: how many of them are in reference.parquet.
        release: metric to its value on the test part when the model was released, each row counted once.
        intervals: metric to its interval there. thresholds: metric to the gate's bound on it.
        label_rate: share of positives a part. probability_mean: mean answer a part. Both of a binary
            label only.
        labels: as in the splits.
        fairness: of each rule of fairness that the gate held the version against, `rule` (its settings),
            `gap`, `ratio` and `groups` on the test part.
    """

    ABSENT: ClassVar[str] = "holds no reference"
    REMEDY: ClassVar[str] = "Register the model again."
    SPARSE: ClassVar[frozenset[str]] = frozenset(
        {
            "label_kind",
            "classes",
            "level",
            "labels",
            "thresholds",
            "fairness",
            "costs",
            "set_threshold",
            "features.since_hours",
        }
    )

    model: str
    model_hash: str
    data_hash: str
    threshold: float
    key: str
    features: tuple[Feature, ...]
    rows: dict[str, int]
    sampled: dict[str, int]
    windows: dict[str, tuple[str, str]]
    statistics: dict[str, dict[str, object]]
    release: dict[str, float | None]
    intervals: dict[str, object]
    label_rate: dict[str, float | None]
    probability_mean: dict[str, float | None]
    label_kind: LabelKind = "binary"
    classes: tuple[str, ...] = ()
    level: float = 0.0
    labels: dict[str, dict[str, float]] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    fairness: list[dict[str, object]] = field(default_factory=list)
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    set_threshold: float | None = None


def answer_column(kind: LabelKind, name: str) -> str:
    """The name that a column of the inference log has among the reference's rows."""
    if kind == "binary":
        return "predicted" if name == "label" else name
    return f"__{name}"
