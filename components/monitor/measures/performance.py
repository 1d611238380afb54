"""Performance from late labels, and an estimate of it before they arrive."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.dataset import read_manifest, read_table
from slipway.components.contracts.rows.row_key import key_sources, row_keys
from slipway.components.metrics import binary
from slipway.components.metrics.intervals import (
    of_auc,
    of_calibration,
    of_f1,
    of_gaps,
    of_mean,
    percentile,
    wilson,
)
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.binary import BinaryLabel
from slipway.components.metrics.outcomes.outcome import read_label
from slipway.components.metrics.outcomes.outcome_kinds import name_classes
from slipway.components.monitor.measures.expected_error import ErrorByWidth
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
METRICS = ("accuracy", "f1", "auc", "log_loss", "brier", "calibration_error")
_ASKED_FOR = ("set_size", "expected_cost")
_BLOCKS, _RESAMPLES = 200, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """How the model did on the rows whose label is known.

    Metrics are None where they cannot be computed (no labels, or labels of one class for auc) or where
    the kind of label has them not. `intervals` are 95 % intervals. Of a binary label: Wilson for
    accuracy, the same for f1 through its relation to the Jaccard index, Hanley and McNeil (1982) for auc,
    that of a mean for log_loss and brier, and for calibration_error what its bins' gaps give when they
    are drawn again with their own variance. Of other kinds a bootstrap's.

    Attributes:
        labelled: predictions whose label was known in time. predictions: all with a key.
        unlabelled_share: of the predictions. delay_hours: median and 95th percentile of the time
            from the prediction to the label.
        calibration_error: expected calibration error over bins of equal width.
        estimate: metric to its expectation if the probabilities are calibrated (of a number: if errors
            are as large as they were where intervals were as wide), over all predictions, labelled or
            not.
        new_class_rows: rows whose label is a class that the model does not know; they count in no metric.
        estimate_error: the estimate on the labelled rows minus what was measured there: how far
            the estimate can be trusted.
    """

    predictions: int
    labelled: int
    unlabelled_share: float | None
    positives: int
    accuracy: float | None = None
    f1: float | None = None
    auc: float | None = None
    log_loss: float | None = None
    brier: float | None = None
    calibration_error: float | None = None
    rmse: float | None = None
    mae: float | None = None
    r2: float | None = None
    pinball: float | None = None
    coverage: float | None = None
    interval_width: float | None = None
    set_size: float | None = None
    expected_cost: float | None = None
    new_class_rows: int = 0
    positive_rate: float | None = None
    delay_hours: dict[str, float] | None = None
    intervals: dict[str, tuple[float, float]] | None = None
    estimate: dict[str, float] | None = None
    estimate_error: dict[str, float] | None = None

    def to_dict(self) -> dict[str, object]:
        """JSON values; what only some projects ask for is left out where it is not there."""
        values = asdict(self)
        return {k: v for k, v in values.items() if v is not None or k not in _ASKED_FOR}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLabels:
    """Labels that are known by a moment.

    Attributes:
        rows: columns key (text), known_at, and actual: Int8 of a binary label, Float64 of a number, of
            several classes the class's name.
        kind: of label.
        merge_rare: the class that those count as which a model does not know; None: none.
    """

    rows: "pl.DataFrame"
    kind: LabelKind
    merge_rare: str | None = None

    def of(self, label: LabelType) -> "pl.DataFrame":
        """The rows that a version's answers are held against: none, where it answers another question."""
        return self.rows if label.kind == self.kind else self.rows.head(0)


def read_known_labels(dataset: Path, features: FeaturesConfig, known_by: datetime) -> KnownLabels:
    """The labels that were known by a moment.

    Examples without time have labels without one: all that the table has are known, and known_at is null.

    Raises:
        SlipwayError: the dataset has no table of examples, it lacks a column, or the label's column holds
            values that nothing is said of.
    """
    import polars as pl

    examples, label = features.examples, features.label
    known = label.known or examples.time
    info = read_manifest(dataset).tables.get(examples.table)
    if info is None:
        raise SlipwayError(
            f"The labels dataset {dataset} has no table '{examples.table}', where"
            " features.examples says that the labels are."
        )
    there = list(info.columns)
    wanted = [*key_sources(features, there), label.column, *([known] if known else [])]
    columns = list(dict.fromkeys(wanted))
    missing = [name for name in columns if name not in info.columns]
    if missing:
        raise SlipwayError(
            f"Table '{examples.table}' of the labels dataset lacks {', '.join(missing)}, which"
            " features.examples and features.label name."
        )
    raw = read_table(dataset, examples.table, columns)
    table = pl.DataFrame(raw)
    column = table[label.column]
    if label.kind == "multiclass":
        actual = name_classes(column, label, examples.table)
    else:
        actual = read_label(column, label, examples.table, whole=False)
    key = row_keys(raw, features, there).cast(pl.String)
    if known is None:
        never = pl.lit(None, pl.Datetime("us", "UTC"))
        found = table.select(key=key, actual=actual, known_at=never).drop_nulls(["key", "actual"])
        rows = found.unique("key", keep="last", maintain_order=True)
        return KnownLabels(rows=rows, kind=label.kind, merge_rare=label.merge_rare)
    moment = pl.col(known)
    if getattr(table.schema[known], "time_zone", None) is None:
        moment = moment.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    rows = (
        table.select(key=key, actual=actual, known_at=moment)
        .drop_nulls()
        .filter(pl.col("known_at") <= known_by)
        .unique("key", keep="last", maintain_order=True)
    )
    return KnownLabels(rows=rows, kind=label.kind, merge_rare=label.merge_rare)


def measure(
    answers: "pa.Table",
    labels: KnownLabels,
    label: LabelType,
    errors: ErrorByWidth | None = None,
) -> Performance:
    """Joins predictions with labels and measures.

    Args:
        answers: answered rows of the log, of one version. An example that was predicted more than once
            counts with its last prediction.
        labels: as `read_known_labels` gives them.
        label: what the version's answers mean.
        errors: of a number, what the widths of intervals tell.
    """
    rows = join_labels(answers, labels, label)
    estimate = _expect(rows, label, errors) if rows.height else None
    told = rows.drop_nulls("actual")
    joined = known_places(told, label, labels)
    new_classes = told.height - joined.height
    if not joined.height:
        return Performance(
            predictions=rows.height,
            labelled=0,
            unlabelled_share=1.0 if rows.height else None,
            positives=0,
            new_class_rows=new_classes,
            estimate=estimate,
        )
    actual = joined["actual"].to_numpy()
    if isinstance(label, BinaryLabel):
        values, intervals = _measure_binary(joined, label)
    else:
        values, intervals = _resample(actual, label.from_columns(joined.to_arrow()), label)
    on_labelled = _expect(joined, label, errors)
    waited = (joined["known_at"] - joined["time"]).drop_nulls()
    delays = waited.dt.total_seconds().to_numpy() / 3600
    return Performance(
        predictions=rows.height,
        labelled=joined.height,
        unlabelled_share=1 - joined.height / rows.height,
        positives=int(actual.sum()) if label.kind == "binary" else 0,
        positive_rate=float(actual.mean()) if label.kind == "binary" else None,
        new_class_rows=new_classes,
        **values,
        delay_hours={
            "median": float(np.median(delays)),
            "p95": float(np.quantile(delays, 0.95)),
        }
        if len(delays)
        else None,
        intervals=intervals,
        estimate=estimate,
        estimate_error={
            name: on_labelled[name] - value
            for name in on_labelled
            if (value := values.get(name)) is not None
        },
    )


def _measure_binary(
    joined: "pl.DataFrame", label: BinaryLabel
) -> tuple[dict[str, float | None], dict[str, tuple[float, float]]]:
    actual, predicted = joined["actual"].to_numpy(), joined["label"].to_numpy()
    values, intervals = measure_rows(actual, joined["probability"].to_numpy(), predicted)
    if (costs := label.cost_matrix) is not None:
        each = costs[actual.astype(int), predicted.astype(int)]
        values["expected_cost"] = float(each.mean())
        intervals["expected_cost"] = of_mean(each, least=float(costs.min()))
    return values, intervals


def join_labels(
    answers: "pa.Table", labels: KnownLabels, label: LabelType, more: Sequence[str] = ()
) -> "pl.DataFrame":
    """One row an example: its last answer, and its label as `KnownLabels` has it (null: not known).

    Args:
        answers: as for `measure`.
        labels: as `read_known_labels` gives them.
        label: what the version's answers mean.
        more: further columns of `answers`.
    """
    import polars as pl

    names = ["key", "time", *(name for name, _ in label.columns()), *more]
    table = pl.from_arrow(answers.select(names))
    assert isinstance(table, pl.DataFrame)  # noqa: S101 - from_arrow of a table
    last = table.drop_nulls("key").sort("time", maintain_order=True)
    return pl.concat(
        [
            table.filter(pl.col("key").is_null()),
            last.unique("key", keep="last", maintain_order=True),
        ]
    ).join(labels.of(label), on="key", how="left", maintain_order="left")


def known_places(rows: "pl.DataFrame", label: LabelType, labels: KnownLabels) -> "pl.DataFrame":
    """Labelled rows whose class the model knows, the class by its place; of other kinds all rows."""
    if label.kind != "multiclass":
        return rows
    places = _places(rows["actual"], label.class_names, labels.merge_rare)
    return rows.with_columns(actual=places).drop_nulls("actual")


def _expect(
    rows: "pl.DataFrame", label: LabelType, errors: ErrorByWidth | None
) -> dict[str, float]:
    """What some metrics will be, from the answers alone."""
    if label.kind == "binary":
        # As the rows were called when they were served, whatever the threshold is now.
        predicted = rows["label"].to_numpy().astype(np.int8)
        return binary.expected(rows["probability"].to_numpy(), predicted)
    answers = label.from_columns(rows.to_arrow())
    return errors.expect(answers) if errors is not None else label.expect(answers)


def _places(names: "pl.Series", classes: tuple[str, ...], merge_rare: str | None) -> "pl.Series":
    """The place of each class, Int32; null of one that the model does not know."""
    import polars as pl

    places = {name: place for place, name in enumerate(classes)}
    other = places.get(merge_rare) if merge_rare is not None else None
    return names.cast(pl.String).replace_strict(places, default=other, return_dtype=pl.Int32)


def _resample(
    actual: npt.NDArray[Any], answers: Floats, label: LabelType
) -> tuple[dict[str, float | None], dict[str, tuple[float, float]]]:
    """Metrics of labelled rows, and their 95 % intervals from a bootstrap of groups of rows."""
    measured = label.measure(actual, answers)
    blocks = min(_BLOCKS, len(actual))
    tally = label.make_tally(blocks=blocks)
    tally.add(answers, actual, np.arange(len(actual)) % blocks)
    weights = np.random.default_rng(0).multinomial(blocks, [1 / blocks] * blocks, _RESAMPLES)
    drawn = tally.resample(weights, np.arange(blocks))
    fields = Performance.__dataclass_fields__
    values = {name: _or_none(value) for name, value in measured.items() if name in fields}
    intervals = {}
    for name in values:
        low, high = percentile(drawn[name], 0.95)
        if low is not None and high is not None:
            intervals[name] = (low, high)
    if (gaps := tally.gaps(weights, np.arange(blocks))) is not None:
        intervals["calibration_error"] = of_gaps(*gaps)
    return values, intervals


def measure_rows(
    actual: Labels, probability: Floats, predicted: Labels
) -> tuple[dict[str, float | None], dict[str, tuple[float, float]]]:
    """Metrics of labelled rows, int8 [N], float64 [N] and int8 [N], and their 95 % intervals."""
    measured = binary.measure(actual, probability, predicted)
    values = {name: _or_none(measured[name]) for name in METRICS}
    n, positives = len(actual), int(actual.sum())
    hits = int(((predicted == 1) & (actual == 1)).sum())
    either = int(((predicted == 1) | (actual == 1)).sum())
    squares = binary.row_squares(actual, probability)
    bins = binary.calibration_bins(actual, probability)
    spread = np.bincount(binary.calibration_bin(probability), squares, len(bins))
    intervals = {
        "accuracy": wilson(int((predicted == actual).sum()), n),
        "log_loss": of_mean(binary.row_log_losses(actual, binary.log_chances(probability))),
        "brier": of_mean(squares),
        "calibration_error": of_calibration(bins[:, 1] - bins[:, 2], spread, n),
    }
    if either:
        intervals["f1"] = of_f1(hits, either)
    if values["auc"] is not None:
        intervals["auc"] = of_auc(values["auc"], positives, n - positives)
    return values, intervals


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
