"""Conformal intervals: by how much the ends of an interval must move to hold what it promises."""

import math

import numpy as np


def conform(labels: np.ndarray, answers: np.ndarray, level: float) -> float:
    """The margin of conformalised quantile regression (Romano, Patterson, Candes, NeurIPS 2019).

    With it, the interval of a new row that is drawn as these were holds its label with a probability of
    at least `level`, whatever the model is.

    Args:
        labels: float64 [N], of rows that the model was not fitted on.
        answers: float [N, 3]: value, lower and upper end, in the same unit.
        level: the share to hold.

    Returns:
        What is taken off the lower end and added to the upper one; it may be negative.
    """
    exact = answers.astype(np.float64)
    outside = np.maximum(exact[:, 1] - labels, labels - exact[:, 2])
    rank = math.ceil((len(labels) + 1) * level)
    return float(np.sort(outside)[min(rank, len(labels)) - 1])
