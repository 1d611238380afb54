"""Platt calibration: two numbers that make a model's probabilities honest."""

from dataclasses import dataclass

import numpy as np

from slipway.components.metrics.binary import log_chances

_FEW = 500  # rows of a class


@dataclass(frozen=True, slots=True, kw_only=True)
class Platt:
    """Calibrated probability = sigmoid(slope * logit(probability) + offset) (Platt, 1999)."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        """Calibrates probabilities of any shape."""
        return 1 / (1 + np.exp(-(self.slope * _logit(probability) + self.offset)))


def _logit(probability: np.ndarray) -> np.ndarray:
    chance, against = log_chances(probability)
    return chance - against


def fit_platt(
    labels: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None
) -> Platt:
    """Fits the two numbers by maximum likelihood with Newton's method.

    Where a class has few rows, each label counts as Platt's (1999): as probable as one more row of each
    class makes it. Few rows are often told apart without an error, and then no slope would be too steep.

    The slope is kept positive, so that calibration never turns the order of two rows around: where
    the fit asks for a negative one, the probabilities are left as they are.
    """
    x = _logit(probability)
    design = np.stack([x, np.ones_like(x)], axis=1)
    weights = np.ones(len(x)) if weights is None else weights
    positives = float((labels == 1).sum())
    negatives = len(labels) - positives
    if min(positives, negatives) < _FEW:
        labels = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    beta, settled = _newton(design, labels, weights, damped=False)
    if not settled:
        # Probabilities that are far too sure throw the first steps past the answer.
        beta, _ = _newton(design, labels, weights, damped=True)
    if not np.isfinite(beta).all() or beta[0] <= 0:
        return Platt()
    return Platt(slope=float(beta[0]), offset=float(beta[1]))


def _newton(
    design: np.ndarray, labels: np.ndarray, weights: np.ndarray, *, damped: bool
) -> tuple[np.ndarray, bool]:
    """The coefficients of a logistic regression, and whether the steps came to an end.

    Damped, a step that loses is halved.
    """

    def loss(beta: np.ndarray) -> float:
        odds = design @ beta
        return float((weights * (np.logaddexp(0, odds) - labels * odds)).sum())

    beta = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (weights * (p - labels))
        curvature = (design * (weights * p * (1 - p))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        taken = np.clip(step, -2, 2)
        if damped:
            taken = step * min(1.0, 2 / float(np.abs(step).max()))
            before = loss(beta)
            while loss(beta - taken) > before and np.abs(taken).max() > 1e-10:
                taken = taken / 2
        beta = beta - taken
        if np.abs(step).max() < 1e-10:
            break
    return beta, bool(np.abs(step).max() < 1e-6)
