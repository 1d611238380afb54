"""How sure a metric is: intervals from bootstrap replicates, and in closed form from rows."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Z = 1.959964  # two-sided 95 %
_DRAWS = 2000


def percentile(replicates: "np.ndarray", confidence: float) -> tuple[float | None, float | None]:
    """Percentile interval (Efron and Tibshirani 1993, chapter 13); None where it is not defined."""
    import numpy as np

    if not len(replicates) or not np.isfinite(replicates).all():
        return None, None
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    p, z2 = hits / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return centre - half, centre + half


def of_f1(hits: int, either: int) -> tuple[float, float]:
    """95 % interval of F1, through its relation to the Jaccard index, which is a share.

    Args:
        hits: rows that are called positive and are.
        either: rows that are called positive or are; more than 0.
    """
    low, high = wilson(hits, either)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def of_mean(values: "np.ndarray", least: float = 0.0) -> tuple[float, float]:
    """95 % interval of a mean of many values, none of which can be below `least`."""
    half = Z * float(values.std()) / math.sqrt(len(values))
    mean = float(values.mean())
    return max(mean - half, least), mean + half


def of_calibration(gaps: "np.ndarray", squares: "np.ndarray", n: int) -> tuple[float, float]:
    """95 % interval of the expected calibration error of n rows.

    The gaps are drawn again, normal around themselves. Drawing makes their sizes larger on average, so
    what they grow by is taken off.

    Args:
        gaps: float64 [B], of each bin the sum of probability minus label.
        squares: float64 [B], of its squares.
        n: rows.
    """
    import numpy as np

    drawn = np.random.default_rng(0).normal(gaps, np.sqrt(squares), (_DRAWS, len(gaps)))
    errors = np.abs(drawn).sum(axis=1) / n
    grown = float(errors.mean()) - float(np.abs(gaps).sum()) / n
    low, high = np.quantile(errors, (0.025, 0.975)) - grown
    return max(float(low), 0.0), float(high)


def of_auc(value: float, positives: int, negatives: int) -> tuple[float, float]:
    """95 % interval of an AUC (Hanley and McNeil 1982)."""
    q1, q2 = value / (2 - value), 2 * value * value / (1 + value)
    variance = (
        value * (1 - value)
        + (positives - 1) * (q1 - value * value)
        + (negatives - 1) * (q2 - value * value)
    ) / (positives * negatives)
    half = Z * math.sqrt(max(variance, 0.0))
    return max(value - half, 0.0), min(value + half, 1.0)


def chance_auc_error(positives: int, negatives: int) -> float:
    """Standard error of the AUC of scores that know nothing of the label (Mann and Whitney 1947)."""
    return math.sqrt((positives + negatives + 1) / (12 * positives * negatives))
