"""Performance from late labels, and an estimate of it before they arrive."""

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slipway.components.config.features import FeaturesConfig
from slipway.components.contracts.dataset import read_manifest, read_table
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
Z = 1.959964  # two-sided 95 %
BINS = 10
DRAWS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """How the model did on the rows whose label is known.

    Metrics are None where they cannot be computed (no labels, or labels of one class for auc).
    `intervals` are 95 % intervals: Wilson for accuracy, the same for f1 through its relation to the
    Jaccard index, Hanley and McNeil (1982) for auc, that of a mean for log_loss and brier, and for
    calibration_error what its bins' gaps give when they are drawn again with their own variance.

    Attributes:
        labelled: predictions whose label was known in time. predictions: all with a key.
        unlabelled_share: of the predictions. delay_hours: median and 95th percentile of the time
            from the prediction to the label.
        calibration_error: expected calibration error over ten bins of equal width.
        estimate: metric to its expectation if the probabilities are calibrated, over all
            predictions, labelled or not.
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
    positive_rate: float | None = None
    delay_hours: dict[str, float] | None = None
    intervals: dict[str, tuple[float, float]] | None = None
    estimate: dict[str, float] | None = None
    estimate_error: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def label_table(dataset: Path, features: FeaturesConfig, known_by: datetime) -> "pl.DataFrame":
    """The labels that were known by a moment: columns key (text), actual (int8), known_at.

    Raises:
        SlipwayError: the dataset has no table of examples, or it lacks a column.
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
    columns = list(dict.fromkeys([examples.key, label.column, known]))
    missing = [name for name in columns if name not in info.columns]
    if missing:
        raise SlipwayError(
            f"Table '{examples.table}' of the labels dataset lacks {', '.join(missing)}, which"
            " features.examples and features.label name."
        )
    table = pl.from_arrow(read_table(dataset, examples.table, columns))
    assert isinstance(table, pl.DataFrame)  # noqa: S101 - from_arrow of a table
    value = pl.col(label.column)
    actual = value > label.above if label.above is not None else value.cast(pl.Boolean)
    moment = pl.col(known)
    if getattr(table.schema[known], "time_zone", None) is None:
        moment = moment.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return (
        table.select(
            key=pl.col(examples.key).cast(pl.String), actual=actual.cast(pl.Int8), known_at=moment
        )
        .drop_nulls()
        .filter(pl.col("known_at") <= known_by)
        .unique("key", keep="last", maintain_order=True)
    )


def measure(answers: "pa.Table", labels: "pl.DataFrame") -> Performance:
    """Joins predictions with labels and measures.

    Args:
        answers: rows of the log with a probability, of one version. An example that was predicted
            more than once counts with its last prediction.
        labels: as `label_table` gives them.
    """
    import polars as pl

    table = pl.from_arrow(answers.select(["key", "time", "probability", "label"]))
    assert isinstance(table, pl.DataFrame)  # noqa: S101 - from_arrow of a table
    last = table.drop_nulls("key").sort("time", maintain_order=True)
    rows = pl.concat(
        [
            table.filter(pl.col("key").is_null()),
            last.unique("key", keep="last", maintain_order=True),
        ]
    ).join(labels, on="key", how="left", maintain_order="left")
    probability = rows["probability"].to_numpy()
    predicted = rows["label"].to_numpy().astype(np.int8)
    estimate = expected(probability, predicted)
    joined = rows.drop_nulls("actual")
    if not joined.height:
        return Performance(
            predictions=rows.height,
            labelled=0,
            unlabelled_share=1.0 if rows.height else None,
            positives=0,
            estimate=estimate,
        )
    actual = joined["actual"].to_numpy()
    probability, predicted = joined["probability"].to_numpy(), joined["label"].to_numpy()
    values, intervals = metrics(actual, probability, predicted)
    on_labelled = expected(probability, predicted) or {}
    delays = (joined["known_at"] - joined["time"]).dt.total_seconds().to_numpy() / 3600
    return Performance(
        predictions=rows.height,
        labelled=joined.height,
        unlabelled_share=1 - joined.height / rows.height,
        positives=int(actual.sum()),
        positive_rate=float(actual.mean()),
        **values,
        delay_hours={
            "median": float(np.median(delays)),
            "p95": float(np.quantile(delays, 0.95)),
        },
        intervals=intervals,
        estimate=estimate,
        estimate_error={
            name: on_labelled[name] - value
            for name in on_labelled
            if (value := values.get(name)) is not None
        },
    )


def metrics(
    actual: Labels, probability: Floats, predicted: Labels
) -> tuple[dict[str, float | None], dict[str, tuple[float, float]]]:
    """Metrics of labelled rows, int8 [N], float64 [N] and int8 [N], and their 95 % intervals."""
    hits = int((predicted == actual).sum())
    both = int(((predicted == 1) & (actual == 1)).sum())
    either = int(((predicted == 1) | (actual == 1)).sum())
    n = len(actual)
    clipped = np.clip(probability, 1e-7, 1 - 1e-7)
    bins = np.minimum((probability * BINS).astype(np.intp), BINS - 1)
    gaps: Floats = np.bincount(bins, probability - actual, BINS).astype(np.float64)
    row_log_loss = -np.where(actual == 1, np.log(clipped), np.log1p(-clipped))
    row_brier = (probability - actual) ** 2
    squares: Floats = np.bincount(bins, row_brier, BINS).astype(np.float64)
    values: dict[str, float | None] = {
        "accuracy": hits / n,
        "f1": 2 * both / (either + both) if either else None,
        "auc": auc(actual, probability),
        "log_loss": float(row_log_loss.mean()),
        "brier": float(row_brier.mean()),
        "calibration_error": float(np.abs(gaps).sum() / n),
    }
    intervals = {
        "accuracy": wilson(hits, n),
        "log_loss": of_mean(row_log_loss),
        "brier": of_mean(row_brier),
        "calibration_error": of_calibration(gaps, squares, n),
    }
    if either:
        low, high = wilson(both, either)
        intervals["f1"] = (2 * low / (1 + low), 2 * high / (1 + high))
    if values["auc"] is not None:
        intervals["auc"] = hanley_mcneil(values["auc"], int(actual.sum()), n - int(actual.sum()))
    return values, intervals


def expected(probability: Floats, predicted: Labels) -> dict[str, float] | None:
    """Accuracy and F1 to be expected if the probabilities are calibrated.

    A row predicted 1 is right with its probability, one predicted 0 with the rest (confidence-based
    performance estimation). It cannot see that the relation between features and label changed.
    """
    if not len(probability):
        return None
    positive = predicted == 1
    right = np.where(positive, probability, 1 - probability)
    hits = float(probability[positive].sum())
    denominator = float(positive.sum()) + float(probability.sum())
    return {
        "accuracy": float(right.mean()),
        "f1": 2 * hits / denominator if denominator else 0.0,
    }


def auc(actual: Labels, score: Floats) -> float | None:
    """Area under the ROC curve by ranks, ties counting half; None with labels of one class."""
    positives = int(actual.sum())
    negatives = len(actual) - positives
    if not positives or not negatives:
        return None
    _, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    total = float(ranks[group][actual == 1].sum())
    return (total - positives * (positives + 1) / 2) / (positives * negatives)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    p, z2 = hits / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return float(centre - half), float(centre + half)


def of_mean(values: Floats) -> tuple[float, float]:
    """95 % interval of a mean of many values, none of them negative."""
    half = Z * float(values.std()) / np.sqrt(len(values))
    mean = float(values.mean())
    return max(mean - half, 0.0), mean + half


def of_calibration(gaps: Floats, squares: Floats, n: int) -> tuple[float, float]:
    """95 % interval of the expected calibration error of n rows.

    The gaps are drawn again, normal around themselves. Drawing makes their sizes larger on average, so
    what they grow by is taken off.

    Args:
        gaps: float64 [B], of each bin the sum of probability minus label.
        squares: float64 [B], of its squares.
        n: rows.
    """
    drawn = np.random.default_rng(0).normal(gaps, np.sqrt(squares), (DRAWS, len(gaps)))
    errors = np.abs(drawn).sum(axis=1) / n
    grown = float(errors.mean()) - float(np.abs(gaps).sum()) / n
    low, high = np.quantile(errors, (0.025, 0.975)) - grown
    return max(float(low), 0.0), float(high)


def hanley_mcneil(value: float, positives: int, negatives: int) -> tuple[float, float]:
    """95 % interval of an AUC (Hanley and McNeil 1982)."""
    q1, q2 = value / (2 - value), 2 * value * value / (1 + value)
    variance = (
        value * (1 - value)
        + (positives - 1) * (q1 - value * value)
        + (negatives - 1) * (q2 - value * value)
    ) / (positives * negatives)
    half = Z * float(np.sqrt(max(variance, 0.0)))
    return max(value - half, 0.0), min(value + half, 1.0)
