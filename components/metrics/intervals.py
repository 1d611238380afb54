"""How sure a metric is: intervals from bootstrap replicates, and in closed form from rows."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Z = 1.959964  # two-sided 95 %
_DRAWS = 2000
_PARTS = 41
_DEGREE = 4


def conformal_rank(rows: int, level: float) -> int:
    """Which of the rows' scores, in order, an interval or set must reach to hold `level` of new rows.

    Split conformal prediction (Vovk, Gammerman and Shafer 2005): more than `rows` where they are too few
    to promise so much.
    """
    return math.ceil((rows + 1) * level)


def conformal_rows(level: float) -> int:
    """The fewest rows that a promise to hold the share `level` can be made from."""
    rows = max(math.floor(level / (1 - level)) - 1, 1)
    while conformal_rank(rows, level) > rows:
        rows += 1
    return rows


def percentile(replicates: "np.ndarray", confidence: float) -> tuple[float | None, float | None]:
    """Percentile interval (Efron and Tibshirani 1993, chapter 13); None where it is not defined.

    Args:
        replicates: [R], or [W, R] where they were made in several ways: the interval holds that of each.
        confidence: how often it is to hold the true value.
    """
    import numpy as np

    if not replicates.size or not np.isfinite(replicates).all():
        return None, None
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail], axis=-1)
    return float(low.min()), float(high.max())


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
    """95 % interval of the expected calibration error of n rows, which are independent.

    Args:
        gaps: float64 [B], of each bin the sum of probability minus label.
        squares: float64 [B], of its squares.
        n: rows.
    """
    import numpy as np

    noise = np.random.default_rng(0).normal(0.0, np.sqrt(squares) / n, (_DRAWS, len(gaps)))
    return of_gaps(gaps / n, noise)


def of_gaps(
    gaps: "np.ndarray", noise: "np.ndarray", confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the sum of the gaps' sizes: an expected calibration error. It holds that sum.

    Chance makes sizes larger, so the measured sum lies above the true one, and a percentile interval,
    drawn with chance a second time, above both. The lower end is a test turned around: the least part
    of the measured gaps, 0 for a perfect calibration, with which chance alone still reaches the
    measured sum. The upper end is the drawn one less what drawing adds.

    Args:
        gaps: float64 [B], of each bin its rows' sum of probability minus label, over all rows.
        noise: float64 [R, B], by how much each gap is off in a replicate.
        confidence: how often the interval is to hold the true value, at least.
    """
    import numpy as np

    tail, measured = (1 - confidence) / 2, float(np.abs(gaps).sum())
    drawn = np.abs(gaps + noise).sum(axis=1)
    high = float(np.quantile(drawn, 1 - tail)) - (float(drawn.mean()) - measured)
    parts = np.linspace(0.0, 1.0, _PARTS)
    reached = (
        np.quantile(np.abs(part * gaps + noise).sum(axis=1), 1 - tail) >= measured for part in parts
    )
    low = next((part for part, reaches in zip(parts, reached, strict=True) if reaches), 1.0)
    return float(low) * measured, max(high, measured)


def around_class_means(
    counts: "np.ndarray", rows: "np.ndarray", weights: "np.ndarray", measured: "dict[str, float]"
) -> "dict[str, np.ndarray]":
    """Replicates of macro F1, precision and recall: float64 [3, R] each, for `percentile`.

    A mean over classes with few rows lies off the truth: a class that no row has, but one is called,
    counts 0, and the F1 of few rows is too low. A percentile interval is off twice, since classes
    vanish again in each replicate. So the mean's error is linear here, each class's sums over its own
    denominator in all rows, made larger by what so few rows hide of their variance. It stands around
    the measured mean and around one without bias. The third line is the measured mean itself, which
    the interval holds then.

    Args:
        counts: [blocks, 3, K]: hits, called, actual, weighed as the metrics are.
        rows: int [3, K], the same of all blocks, each row counted once.
        weights: [R, blocks], how often each block was drawn.
        measured: the metrics of all blocks.

    Returns:
        By metric; NaN where no class has two rows, from which nothing is known of the spread.
    """
    import numpy as np

    hits, called, actual = counts.swapaxes(0, 1)
    either = rows[1] + rows[2] - rows[0]
    shares = {
        "f1": (2 * hits, called + actual, either),
        "precision": (hits, called, rows[1]),
        "recall": (hits, actual, rows[2]),
    }
    found = {}
    for name, (of, by, seen) in shares.items():
        known = seen >= 2
        if not known.any():
            found[name] = np.full((3, len(weights)), np.nan)
            continue
        of, by, seen = of[:, known], by[:, known], seen[known]
        each = of.sum(0) / by.sum(0)
        more = np.sqrt(seen / (seen - 1)) / by.sum(0)
        drawn = weights @ ((of - each * by) * more).mean(1)
        if name == "f1":
            counted = rows[0][known]
            each = each + unbiased_f1(counted, seen) - 2 * counted / (seen + counted)
        around = np.array([[measured[name]], [each.mean()], [measured[name]]])
        found[name] = np.clip(around + [[1.0], [1.0], [0.0]] * drawn, 0.0, 1.0)
    return found


def unbiased_f1(hits: "np.ndarray", either: "np.ndarray") -> "np.ndarray":
    """F1 of classes without the bias of few rows, nearly: float64 [K].

    Of the rows that are of a class or called it, the share J of hits has no bias, and F1 is
    2 J / (1 + J). A polynomial through that curve, of degree 4 or as many rows as there are, is within
    .002 of it (two rows: .02), and each power of J has an estimate without bias.

    Args:
        hits: int [K], rows of a class that are called it.
        either: int [K], rows that are of it or called it; each 2 at least.
    """
    import numpy as np

    found = np.empty(len(hits))
    for degree in range(2, _DEGREE + 1):
        at = either == degree if degree < _DEGREE else either >= degree
        nodes = (1 - np.cos(np.pi * np.arange(degree + 1) / degree)) / 2
        parts = np.linalg.solve(np.vander(nodes, increasing=True), 2 * nodes / (1 + nodes))
        power, found[at] = np.ones(at.sum()), parts[0]
        for past, part in enumerate(parts[1:]):
            power = power * (hits[at] - past) / (either[at] - past)
            found[at] += part * power
    return found


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


def chance_mean_auc_error(classes: "np.ndarray") -> float:
    """Standard error, at most, of the mean AUC of classes against the rest, of scores that know nothing.

    Each class has the variance of `chance_auc_error`. Two classes' ranks are drawn from the same rows
    without putting any back, so that their AUCs share (n + 1) / (12 (n - a) (n - b)) where their scores
    order the rows in opposite ways (of two classes that is all of it), and less in any other case.

    Args:
        classes: rows of each class, [K]; each more than 0, two classes at least.
    """
    own = classes.astype(float)
    rows = own.sum()
    rest = rows - own
    alone = (1 / (own * rest)).sum()
    shared = (1 / rest).sum() ** 2 - (1 / rest**2).sum()
    return float(math.sqrt((rows + 1) / 12 * (alone + shared)) / len(own))


def chance_auc_error(positives: int, negatives: int) -> float:
    """Standard error of the AUC of scores that know nothing of the label (Mann and Whitney 1947)."""
    return math.sqrt((positives + negatives + 1) / (12 * positives * negatives))
