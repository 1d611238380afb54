"""The metrics of a label with several classes, each formula once.

Every one is a function of sums over rows, as those of `binary`. A macro metric is the mean over the
classes that are there: those that a row has, or is called, as scikit-learn takes it; of AUC, those that
some rows have and some have not. Sums may have leading axes, [...] stands for them; K is the number of
classes.
"""

from typing import TYPE_CHECKING

from slipway.components.config.kinds import METRICS as METRICS_OF_KIND
from slipway.components.metrics.binary import (
    CALIBRATION_BINS,
    area_under_roc,
    auc,
    calibration_bin,
    calibration_error,
)
from slipway.components.metrics.costs import CostRule, cheapest

if TYPE_CHECKING:
    import numpy as np

METRICS = METRICS_OF_KIND["multiclass"]
_TINY = 1e-7


def from_counts(hits: object, called: object, actual: object) -> "dict[str, np.ndarray]":
    """Accuracy, macro and weighted F1, macro precision and recall.

    Args:
        hits: [..., K], rows of a class that are called it.
        called: [..., K], rows that are called it.
        actual: [..., K], rows that are of it.
    """
    import numpy as np

    hits, called, actual = (np.asarray(sums, float) for sums in (hits, called, actual))
    rows, there = actual.sum(-1), called + actual > 0
    each = of_classes(hits, called, actual)

    def mean(values: "np.ndarray") -> "np.ndarray":
        return np.asarray((values * there).sum(-1) / there.sum(-1))

    f1 = each["f1"]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "accuracy": np.asarray(hits.sum(-1) / rows),
            "f1": mean(f1),
            "weighted_f1": np.asarray((f1 * actual).sum(-1) / rows),
            "precision": mean(each["precision"]),
            "recall": mean(each["recall"]),
        }


def of_classes(hits: object, called: object, actual: object) -> "dict[str, np.ndarray]":
    """F1, precision and recall of each class, [..., K]; 0 where a class is not there.

    Arguments as for `from_counts`.
    """
    import numpy as np

    hits, called, actual = (np.asarray(sums, float) for sums in (hits, called, actual))

    def share(of: "np.ndarray", by: "np.ndarray") -> "np.ndarray":
        shares: np.ndarray = np.divide(of, by, out=np.zeros_like(of), where=by > 0)
        return shares

    return {
        "f1": share(2 * hits, called + actual),
        "precision": share(hits, called),
        "recall": share(hits, actual),
    }


def areas_under_roc(counts: "np.ndarray") -> "np.ndarray":
    """Mean over the classes of the area under the ROC curve of each against the rest.

    Args:
        counts: [..., K, B, 2], rows by bin of a class's score, the lowest first, that are not of the
            class and that are.
    """
    import numpy as np

    other, own = counts[..., 0], counts[..., 1]
    pairs = other.sum(-1) * own.sum(-1)
    areas = np.where(pairs > 0, area_under_roc(other, own, pairs), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(areas.sum(-1) / (pairs > 0).sum(-1))


def row_log_losses(labels: "np.ndarray", answers: "np.ndarray") -> "np.ndarray":
    """Negative log likelihood of each row, in nats: float64 [N].

    Args:
        labels: integer [N], the place of each row's class.
        answers: float [N, K], probabilities.
    """
    import numpy as np

    own = np.take_along_axis(answers, labels[:, None].astype(np.int64), 1)[:, 0]
    losses: np.ndarray = -np.log(np.clip(own.astype(np.float64), _TINY, 1.0))
    return losses


def row_squares(labels: "np.ndarray", answers: "np.ndarray") -> "np.ndarray":
    """Squared distance of each row's probabilities from its class, whose mean is the Brier score."""
    import numpy as np

    exact = answers.astype(np.float64)
    own = np.take_along_axis(exact, labels[:, None].astype(np.int64), 1)[:, 0]
    squares: np.ndarray = (exact**2).sum(1) - 2 * own + 1
    return squares


def confidence(
    answers: "np.ndarray", decisive: CostRule | None = None
) -> "tuple[np.ndarray, np.ndarray]":
    """The called class of each row, int64 [N], and its probability.

    Args:
        answers: float [N, K], probabilities.
        decisive: the rule by which the class is called that is expected to cost least; None: the
            greatest probability decides, of equal ones the first.
    """
    import numpy as np

    called = answers.argmax(1) if decisive is None else cheapest(answers, decisive)
    return called, np.take_along_axis(answers, called[:, None], 1)[:, 0]


def calibration_sums(hit: "np.ndarray", sure: "np.ndarray") -> "np.ndarray":
    """Rows, sum of the called class's probability, and hits by bin of it: float64 [15, 3]."""
    import numpy as np

    place = calibration_bin(sure)
    sums = (None, sure.astype(np.float64), hit.astype(np.float64))
    return np.stack([np.bincount(place, of, CALIBRATION_BINS) for of in sums], -1).astype(float)


def mean_auc(
    labels: "np.ndarray", answers: "np.ndarray", weights: "np.ndarray | None" = None
) -> float:
    """Mean AUC of each class against the rest, exactly; NaN where no class can be told from another."""
    import numpy as np

    areas = [
        auc(labels == place, answers[:, place], weights)
        for place in range(answers.shape[1])
        if 0 < (labels == place).sum() < len(labels)
    ]
    return float(np.mean(areas)) if areas else float("nan")


def measure(
    labels: "np.ndarray", answers: "np.ndarray", decisive: CostRule | None = None
) -> dict[str, float]:
    """Every metric of rows, exactly.

    Args:
        labels: integer [N], the place of each row's class.
        answers: float [N, K], probabilities.
        decisive: as for `confidence`.
    """
    import numpy as np

    if not len(labels):
        return dict.fromkeys(METRICS, float("nan"))
    called, sure = confidence(answers, decisive)
    labels = labels.astype(np.int64)
    classes = answers.shape[1]
    hit = called == labels
    counts = [np.bincount(of, minlength=classes) for of in (labels[hit], called, labels)]
    values = {
        **from_counts(*counts),
        "auc": mean_auc(labels, answers),
        "log_loss": row_log_losses(labels, answers).mean(),
        "brier": row_squares(labels, answers).mean(),
        "calibration_error": calibration_error(calibration_sums(hit, sure)),
    }
    return {name: float(values[name]) for name in METRICS}


def expected(answers: "np.ndarray", decisive: CostRule | None = None) -> dict[str, float]:
    """Accuracy and F1 to be expected if the probabilities are calibrated, without any label."""
    import numpy as np

    exact = answers.astype(np.float64)
    called, _ = confidence(answers, decisive)
    classes = answers.shape[1]
    mine = np.take_along_axis(exact, called[:, None], 1)[:, 0]
    hits = np.bincount(called, mine, classes)
    values = from_counts(hits, np.bincount(called, minlength=classes), exact.sum(0))
    return {name: float(np.nan_to_num(values[name])) for name in ("accuracy", "f1")}
