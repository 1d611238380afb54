"""Splits: the train, validation and test tables that features writes and train and evaluate read.

Layout, version 1::

    splits.json
    train.parquet, validation.parquet, test.parquet
    unlabelled.parquet  where there are any: rows of the parts without a label

Each table is ordered by time and has the columns: the example's key, `event_timestamp` (UTC, when the
predicted thing happens), the entities' keys, the columns of a key of several, the column of a split by
groups, the columns that travel beside the features, the features under their names, `label` (int8, 0 or
1). A project without time has no
`event_timestamp`, and its tables are ordered by key.
Kinds and Arrow types: numeric float64 · categorical string · boolean bool · time timestamp[us] (with
or without zone); each may be null.

Nobody knows at the moment of prediction which rows will have a label, so what is served and scored has
both kinds, and monitoring must compare it with both. `unlabelled.parquet` is for that alone: at most
50,000 rows of each part, evenly spaced, with a null label, and `part` (string) behind it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.record import Record
from slipway.components.support.columns import LABEL as LABEL
from slipway.components.support.columns import TIME as TIME

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "splits.json"
UNLABELLED = "unlabelled.parquet"
PARTS = ("train", "validation", "test")
SAMPLE_ROWS = 50_000
"""Rows of a part that are kept where not all are needed: without a label here, and in the reference."""
PART = "part"
"""The column of `unlabelled.parquet` that says which part a row would be in."""
MOSTLY_NULL = 0.99
"""A feature that is null in a larger share of a part tells next to nothing there."""

Kind = Literal["numeric", "categorical", "boolean", "time"]
Part = Literal["train", "validation", "test"]
SplitMethod = Literal["time", "random", "stratified", "group"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One model input.

    Attributes:
        view: the Feast view that it comes from; empty: it is made of other features.
        default: its value for a known entity that the online store does not have: 0 for a count;
            None: missing.
        since_hours: the store holds a moment, and the value is the hours from it to the prediction, null
            from so many on; None: the store holds the value.
    """

    name: str
    kind: Kind
    view: str
    default: float | None = None
    since_hours: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """How rows were parted.

    Attributes:
        by: the column of the groups; empty: rows were parted one by one.
        seed: of the draw; None: nothing was drawn, time cut the parts.
        advice: what a split by time would tell that this one does not; empty: nothing.
    """

    method: SplitMethod = "time"
    by: str = ""
    seed: int | None = None
    advice: str = ""

    @property
    def text(self) -> str:
        """The rule in words."""
        drawn = "" if self.seed is None else f", drawn with seed {self.seed}"
        return {
            "time": "by time",
            "random": f"by row{drawn}",
            "stratified": f"by row, the label's values in equal shares{drawn}",
            "group": f"by groups of {self.by}{drawn or ', cut by time'}",
        }[self.method]


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits(Record):
    """What the three tables hold.

    Attributes:
        key: the column that names an example.
        key_columns: the columns that it is made of, where it is made of several
            (`slipway.components.contracts.rows.row_key`).
        entities: entity key columns with their Arrow types.
        beside: columns that travel beside the features, with their Arrow types: for slices, groups and
            weights. They are no input of the model, and nothing after the gate has them.
        features: the model's inputs, in order.
        sources: features that are no inputs: inputs are made of them.
        derived: feature to the expression that makes it of others; some may be no inputs either.
        rows: rows a part. positives: rows with label 1 a part; empty where the label is not binary.
        label_kind: what the label column holds: 0 and 1 (int8), places of classes (int32), or numbers
            (float64).
        classes: of several classes their names, in the order of those places.
        costs: of classes, what an answer costs by the true class (`features.label.costs`); empty: nothing
            is said.
        labels: of several classes part to rows by class, of a number part to its mean, std, min and max.
        unlabelled: rows without a label in a part, where there are any.
        windows: part to its [start, end) in ISO 8601, UTC; each has the whole window where rows with
            a time are drawn. Empty: the rows have no time.
        split: how rows were parted.
        statistics: of the training part only, a feature: numeric {"mean", "std", "nulls", "min",
            "max"}, categorical {"nulls", "values": {value: count}}, boolean {"nulls", "true"},
            time {"nulls", "min", "max"}. "nulls" is a fraction.
        nulls: part to the fraction of nulls of each feature.
        predicts: what the label means, in words that go on from "It predicts"; empty: not said.
        data_hash: content hash of the dataset that the features were computed from.
        feature_service: name of the Feast feature service that serves the same features online.
        lead_seconds: how long before `event_timestamp` the features were read.
        notes: `dropped`, rows that were left out by reason; `data_end`, only where the examples end
            before the window does: the first instant after the last.
    """

    ABSENT: ClassVar[str] = "holds no splits"
    SPARSE: ClassVar[frozenset[str]] = frozenset(
        {"beside", "costs", "predicts", "sources", "derived", "features.since_hours"}
    )

    project: str
    key: str
    entities: dict[str, str]
    features: tuple[Feature, ...]
    rows: dict[str, int]
    positives: dict[str, int]
    windows: dict[str, tuple[str, str]]
    statistics: dict[str, dict[str, Any]]
    data_hash: str
    feature_service: str
    lead_seconds: int = 0
    nulls: dict[str, dict[str, float]] = field(default_factory=dict)
    label_kind: LabelKind = "binary"
    classes: tuple[str, ...] = ()
    labels: dict[str, dict[str, float]] = field(default_factory=dict)
    unlabelled: dict[str, int] = field(default_factory=dict)
    split: SplitRule = field(default_factory=SplitRule)
    key_columns: tuple[str, ...] = ()
    beside: dict[str, str] = field(default_factory=dict)
    predicts: str = ""
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    sources: tuple[Feature, ...] = ()
    derived: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        rows = ", ".join(f"{part} {self.rows[part]:,}" for part in PARTS)
        text = f"{len(self.features)} features; {rows} rows"
        if self.split.method != "time":
            text += f", parted {self.split.text}"
        if self.split.advice:
            text += f"; NOTE: {self.split.advice}"
        if end := self.notes.get("data_end"):
            text += f"; THE DATA END at {end}, before the window does at {self.windows['test'][1]}"
        return text + "".join(f"; WARNING: {warning}" for warning in self.mostly_null)

    def metadata(self) -> dict[str, object]:
        """What the KFP artifact shows."""
        return {
            "features": [feature.name for feature in self.features],
            "rows": self.rows,
            "positives": self.positives,
            "split": self.split.text,
            "data_hash": self.data_hash,
            "feature_service": self.feature_service,
        }

    @property
    def order(self) -> tuple[str, ...]:
        """The columns that the tables are ordered by."""
        return (TIME, self.key) if self.windows else (self.key,)

    @property
    def mostly_null(self) -> list[str]:
        """What to say of each feature that is null in nearly all rows of a part."""
        found: dict[str, list[str]] = {}
        for part in PARTS:
            for name, share in self.nulls.get(part, {}).items():
                if share > MOSTLY_NULL:
                    found.setdefault(name, []).append(f"{share:.1%} of {part}")
        return [f"{name} is null in {', '.join(parts)}" for name, parts in found.items()]

    def of_kind(self, kind: Kind) -> list[str]:
        """Names of the features of one kind, in order."""
        return [feature.name for feature in self.features if feature.kind == kind]


def write_splits(folder: Path, splits: Splits) -> None:
    """Writes splits.json: the last step before the folder is moved into place."""
    splits.write(folder / FILE)


def read_splits(folder: Path) -> Splits:
    """Reads splits.json.

    Raises:
        SlipwayError: the folder is not a whole set of splits of a version that this code reads.
    """
    return Splits.read(folder / FILE)


def part_file(folder: Path, part: Part) -> Path:
    """The parquet file of one part."""
    return folder / f"{part}.parquet"


def read_part(folder: Path, part: Part, columns: list[str] | None = None) -> "pa.Table":
    """Reads one part into memory."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(part_file(folder, part)).read(columns=columns)
