"""The metrics of a yes/no label, each formula once.

Every one is a function of sums over rows, so the same formulas serve rows at hand (`measure`), a stream
(`tally.Tally`), bootstrap replicates of it, and what is expected without labels. Sums may have leading
axes: [...] stands for them. A metric that is not defined is NaN; precision is 0 where no row is called
positive, as in scikit-learn and torchmetrics.

To add a metric: its name in `config/kinds.py` (`Metric`, `METRICS`) and its formula here; a new sum over
rows also in `tally.py`.
"""

from typing import TYPE_CHECKING, Any

from slipway.components.config.kinds import METRICS as METRICS_OF_KIND

if TYPE_CHECKING:
    import numpy as np

METRICS = METRICS_OF_KIND["binary"]
CALIBRATION_BINS = 15
_TINY = 1e-7


# Formulas, from sums.


def from_counts(
    hits: object, alarms: object, positives: Any, rows: object
) -> "dict[str, np.ndarray]":
    """Accuracy, F1, precision and recall.

    Args:
        hits: [...], rows that are called positive and are.
        alarms: [...], rows that are called positive and are not.
        positives: [...], rows that are positive.
        rows: [...], all rows.
    """
    import numpy as np

    hits, alarms = np.asarray(hits, float), np.asarray(alarms, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "accuracy": (hits + (rows - positives) - alarms) / rows,
            "f1": 2 * hits / (hits + alarms + positives),
            "precision": np.where(
                (hits + alarms == 0) & (np.asarray(rows) > 0), 0.0, hits / (hits + alarms)
            ),
            "recall": hits / positives,
        }


def cost_from_counts(
    hits: object, alarms: object, positives: Any, rows: object, costs: "np.ndarray"
) -> "np.ndarray":
    """Expected cost of a row; arguments as of `from_counts`, `costs` [2 true, 2 answered]."""
    import numpy as np

    hits, alarms = np.asarray(hits, float), np.asarray(alarms, float)
    total = hits * costs[1, 1] + (positives - hits) * costs[1, 0]
    total = total + alarms * costs[0, 1] + (rows - positives - alarms) * costs[0, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total / rows)


def area_under_roc(negative: "np.ndarray", positive: "np.ndarray", pairs: object) -> "np.ndarray":
    """Area under the ROC curve; ties count half (the Mann-Whitney statistic).

    Args:
        negative: [..., B], negatives by score, the lowest score first.
        positive: [..., B], positives.
        pairs: [...], all negatives times all positives.
    """
    import numpy as np

    below = np.cumsum(negative, -1) - negative
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((positive * (below + negative / 2)).sum(-1) / pairs)


def average_precision(
    negative: "np.ndarray", positive: "np.ndarray", positives: object
) -> "np.ndarray":
    """Precision at each score, weighted by the recall that the score adds."""
    import numpy as np

    found = np.cumsum(positive[..., ::-1], -1)
    called = found + np.cumsum(negative[..., ::-1], -1)
    precision = np.divide(found, called, out=np.zeros_like(called), where=called > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((positive[..., ::-1] * precision).sum(-1) / positives)


def calibration_error(bins: "np.ndarray") -> "np.ndarray":
    """Expected calibration error over bins of equal width (Naeini, Cooper, Hauskrecht, 2015).

    Args:
        bins: [..., 15, 3], by bin its rows, sum of probabilities, and positives.
    """
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.abs(bins[..., 1] - bins[..., 2]).sum(-1)
        return np.asarray(gap / bins[..., 0].sum(-1))


def calibration_gaps(bins: "np.ndarray", weights: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """What each bin adds to the calibration error, before its size is taken, and how far chance moves it.

    Args:
        bins: [blocks, 15, 3], as above of each block.
        weights: [replicates, blocks], how often each block was drawn.

    Returns:
        Of all rows [15], and by how much each replicate differs from it [replicates, 15].
    """
    import numpy as np

    whole = bins.sum(0)
    gaps = (whole[:, 1] - whole[:, 2]) / max(whole[:, 0].sum(), 1)
    drawn = np.tensordot(weights, bins, 1)
    rows = np.maximum(drawn[..., 0].sum(-1, keepdims=True), 1)
    # Blocks that are drawn from so many vary by that much less than new ones would.
    blocks = len(bins)
    spread = np.sqrt(blocks / max(blocks - 1, 1))
    return gaps, ((drawn[..., 1] - drawn[..., 2]) / rows - gaps) * spread


# What a row adds to the sums.


def log_chances(probability: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Logarithms of p and 1 - p, float64 [N], finite for 0 and 1 too."""
    import numpy as np

    inside = np.clip(probability.astype(np.float64), _TINY, 1 - _TINY)
    return np.log(inside), np.log1p(-inside)


def row_log_losses(label: "np.ndarray", chances: "tuple[np.ndarray, np.ndarray]") -> "np.ndarray":
    """Negative log likelihood of each row, in nats; `chances` as `log_chances` gives them."""
    import numpy as np

    return -np.where(label == 1, *chances)


def row_squares(label: "np.ndarray", probability: "np.ndarray") -> "np.ndarray":
    """Squared error of each row, whose mean is the Brier score."""
    import numpy as np

    squares: np.ndarray = (probability.astype(np.float64) - label) ** 2
    return squares


def calibration_bin(probability: "np.ndarray") -> "np.ndarray":
    """Which of the bins of equal width each row falls into, int64 [N]."""
    import numpy as np

    place = probability.astype(np.float64) * CALIBRATION_BINS
    return np.minimum(place, CALIBRATION_BINS - 1).astype(np.int64)


# Rows at hand.


def auc(label: "np.ndarray", score: "np.ndarray", weights: "np.ndarray | None" = None) -> float:
    """Area under the ROC curve of rows; NaN with labels of one class."""
    negative, positive = _by_score(label, score, weights)
    return float(area_under_roc(negative, positive, positive.sum() * negative.sum()))


def log_loss(
    label: "np.ndarray", probability: "np.ndarray", weights: "np.ndarray | None" = None
) -> float:
    """Mean negative log likelihood, in nats."""
    import numpy as np

    return float(np.average(row_log_losses(label, log_chances(probability)), weights=weights))


def calibration_bins(label: "np.ndarray", probability: "np.ndarray") -> "np.ndarray":
    """Rows, sum of probabilities and positives by bin: float64 [15, 3]."""
    import numpy as np

    place = calibration_bin(probability)
    sums = (None, probability.astype(np.float64), label.astype(np.float64))
    return np.stack([np.bincount(place, of, CALIBRATION_BINS) for of in sums], axis=-1).astype(
        float
    )


def calibration_curve(label: "np.ndarray", probability: "np.ndarray") -> list[dict[str, float]]:
    """Mean probability and share of positives of each bin that has rows."""
    bins = calibration_bins(label, probability).tolist()
    return [
        {"rows": rows, "probability": chance / rows, "positives": positives / rows}
        for rows, chance, positives in bins
        if rows
    ]


def measure(
    label: "np.ndarray",
    probability: "np.ndarray",
    called: "np.ndarray",
    costs: "np.ndarray | None" = None,
) -> dict[str, float]:
    """Every metric of rows, exactly; with `costs` [2, 2] the expected cost too.

    Args:
        label: [N], 0 or 1.
        probability: float [N].
        called: [N], true or 1 where the row was called positive.
        costs: float64 [2 true, 2 answered].
    """
    negative, positive = _by_score(label, probability, None)
    positives, rows = float(positive.sum()), len(label)
    hits = float(((called == 1) & (label == 1)).sum())
    alarms = float((called == 1).sum()) - hits
    values = {
        **from_counts(hits, alarms, positives, rows),
        "auc": area_under_roc(negative, positive, positives * (rows - positives)),
        "average_precision": average_precision(negative, positive, positives),
        "log_loss": row_log_losses(label, log_chances(probability)).mean(),
        "brier": row_squares(label, probability).mean(),
        "calibration_error": calibration_error(calibration_bins(label, probability)),
    }
    found: dict[str, float] = {name: float(values[name]) for name in METRICS}
    if costs is not None:
        found["expected_cost"] = float(cost_from_counts(hits, alarms, positives, rows, costs))
    return found


def expected(probability: "np.ndarray", called: "np.ndarray") -> dict[str, float]:
    """Accuracy and F1 to be expected if the probabilities are calibrated, without any label.

    A row called positive is a hit with its probability (confidence-based performance estimation). It
    cannot see that the relation between features and label changed.
    """
    import numpy as np

    exact = probability.astype(np.float64)
    hits = float(exact[called == 1].sum())
    alarms = float((called == 1).sum()) - hits
    values = from_counts(hits, alarms, float(exact.sum()), len(exact))
    return {name: float(np.nan_to_num(values[name])) for name in ("accuracy", "f1")}


def _by_score(
    label: "np.ndarray", score: "np.ndarray", weights: "np.ndarray | None"
) -> "tuple[np.ndarray, np.ndarray]":
    """Weight of negatives and of positives at each distinct score, the lowest first."""
    import numpy as np

    weights = np.ones(len(label)) if weights is None else weights
    _, group = np.unique(score, return_inverse=True)
    positive = np.bincount(group, weights * label)
    return np.bincount(group, weights * (1 - label), minlength=len(positive)), positive
