"""Split conformal prediction: what intervals and sets must be to hold what they promise."""

import numpy as np

from slipway.components.metrics.intervals import conformal_rank


def conform(labels: np.ndarray, answers: np.ndarray, level: float) -> float:
    """The margin of conformalised quantile regression (Romano, Patterson, Candes, NeurIPS 2019).

    With it, the interval of a new row that is drawn as these were holds its label with a probability of
    at least `level`, whatever the model is.

    Args:
        labels: float64 [N], of rows that the model was not fitted on.
        answers: float [N, 3]: value, lower and upper end, in the same unit.
        level: the share to hold.

    Returns:
        What is taken off the lower end and added to the upper one; it may be negative. Where the rows are
        too few to promise so much (`intervals.conformal_rows`), the largest that they give: the caller
        says so.
    """
    exact = answers.astype(np.float64)
    outside = np.maximum(exact[:, 1] - labels, labels - exact[:, 2])
    rank = conformal_rank(len(labels), level)
    return float(np.sort(outside)[min(rank, len(labels)) - 1])


def fit_sets(labels: np.ndarray, answers: np.ndarray, level: float) -> float:
    """The probability from which on a class is in the set (Sadinle, Lei and Wasserman, JASA 2019).

    The set of a new row that is drawn as these were then holds its class with a probability of at least
    `level`, whatever the model is; of all such sets these are the smallest on average.

    Args:
        labels: places of classes, [N], of rows that the model was not fitted on.
        answers: probabilities, float32 [N, K].
        level: the share to hold.

    Returns:
        A probability of float32; 0 where the rows are too few to promise so much, so that a set holds
        every class.
    """
    own = np.take_along_axis(answers, labels[:, None].astype(np.int64), 1)[:, 0]
    rank = conformal_rank(len(labels), level)
    return float(np.sort(own)[::-1][rank - 1]) if rank <= len(labels) else 0.0
