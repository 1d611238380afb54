"""Metrics, calibration and the class threshold: numpy on labels and probabilities.

All functions take `labels` (0 or 1), `probability` (float) and optional `weights`, each of shape [N].
"""

from dataclasses import dataclass

import numpy as np

_TINY = 1e-7


def auc(labels: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve; ties count half (the weighted Mann-Whitney statistic)."""
    weights = np.ones(len(labels)) if weights is None else weights
    _, group = np.unique(probability, return_inverse=True)
    positive = np.bincount(group, weights * labels)
    negative = np.bincount(group, weights * (1 - labels), minlength=len(positive))
    below = np.cumsum(negative) - negative
    total = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / total)


def log_loss(
    labels: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Mean negative log likelihood, in nats."""
    p = np.clip(probability.astype(np.float64), _TINY, 1 - _TINY)
    losses = -(labels * np.log(p) + (1 - labels) * np.log1p(-p))
    return float(np.average(losses, weights=weights))


def calibration_curve(
    labels: np.ndarray, probability: np.ndarray, bins: int = 15
) -> list[dict[str, float]]:
    """Mean probability and share of positives in bins that hold about equally many rows."""
    order = np.argsort(probability, kind="stable")
    return [
        {
            "rows": len(part),
            "probability": float(probability[part].mean()),
            "positives": float(labels[part].mean()),
        }
        for part in np.array_split(order, bins)
        if len(part)
    ]


def calibration_error(labels: np.ndarray, probability: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error over bins of equal rows (Naeini, Cooper, Hauskrecht, 2015)."""
    curve = calibration_curve(labels, probability, bins)
    gaps = sum(point["rows"] * abs(point["probability"] - point["positives"]) for point in curve)
    return float(gaps / len(labels))


def at_threshold(labels: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, float]:
    """Accuracy, precision, recall and F1 where the label is 1 from `threshold` on."""
    predicted = probability >= threshold
    hits = float((predicted & (labels == 1)).sum())
    precision = hits / max(float(predicted.sum()), 1.0)
    recall = hits / max(float((labels == 1).sum()), 1.0)
    return {
        "accuracy": float((predicted == (labels == 1)).mean()),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(precision + recall, _TINY),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Platt:
    """Calibrated probability = sigmoid(slope * logit(probability) + offset) (Platt, 1999)."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        """Calibrates probabilities of any shape."""
        return 1 / (1 + np.exp(-(self.slope * _logit(probability) + self.offset)))


def _logit(probability: np.ndarray) -> np.ndarray:
    p = np.clip(probability.astype(np.float64), _TINY, 1 - _TINY)
    return np.log(p) - np.log1p(-p)


def fit_platt(
    labels: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None
) -> Platt:
    """Fits the two numbers by maximum likelihood with Newton's method.

    The slope is kept positive, so that calibration never turns the order of two rows around: where
    the fit asks for a negative one, the probabilities are left as they are.
    """
    x = _logit(probability)
    design = np.stack([x, np.ones_like(x)], axis=1)
    weights = np.ones(len(x)) if weights is None else weights
    beta = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (weights * (p - labels))
        curvature = (design * (weights * p * (1 - p))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        beta = beta - np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-10:
            break
    if not np.isfinite(beta).all() or beta[0] <= 0:
        return Platt()
    return Platt(slope=float(beta[0]), offset=float(beta[1]))


def choose_threshold(labels: np.ndarray, probability: np.ndarray, rule: str | float) -> float:
    """The class threshold that a rule picks on these rows.

    Args:
        labels: 0 or 1.
        probability: calibrated.
        rule: "f1" and "accuracy" maximise that metric; "youden" maximises recall minus the share of
            false alarms; "prevalence" predicts as many positives as there are; a number is itself.

    Returns:
        A probability half way between two neighbouring scores, so that rounding does not matter.
    """
    if not isinstance(rule, str):
        return float(rule)
    order = np.argsort(-probability, kind="stable")
    scores, hits = probability[order], np.cumsum(labels[order])
    predicted = np.arange(1, len(scores) + 1)
    positives, rows = hits[-1], len(scores)
    false = predicted - hits
    quality = {
        "f1": lambda: 2 * hits / (predicted + positives),
        "accuracy": lambda: hits - false,
        "youden": lambda: hits / positives - false / max(rows - positives, 1),
        "prevalence": lambda: -np.abs(predicted - positives),
    }[rule]().astype(np.float64)
    # Rows of the same score fall on the same side: only the last of them can be a cut.
    cut = np.append(scores[:-1] != scores[1:], True)
    best = int(np.argmax(np.where(cut, quality, -np.inf)))
    following = scores[best + 1] if best + 1 < rows else 0.0
    return float((float(scores[best]) + float(following)) / 2)
