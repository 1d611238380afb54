"""The kinds of label and the names of their metrics: no library, since the predictor reads them too."""

from collections.abc import Iterable
from typing import Literal, get_args

LabelKind = Literal["binary", "multiclass", "number"]
"""What a label is: one of two classes, one of several, or a number."""

Metric = Literal[
    "accuracy",
    "f1",
    "precision",
    "recall",
    "auc",
    "average_precision",
    "log_loss",
    "brier",
    "calibration_error",
    "weighted_f1",
    "rmse",
    "mae",
    "r2",
    "pinball",
    "coverage",
    "interval_width",
    "set_size",
    "expected_cost",
]
METRICS: dict[LabelKind, tuple[Metric, ...]] = {
    "binary": (
        "accuracy",
        "f1",
        "precision",
        "recall",
        "auc",
        "average_precision",
        "log_loss",
        "brier",
        "calibration_error",
    ),
    "multiclass": (
        "accuracy",
        "f1",
        "weighted_f1",
        "precision",
        "recall",
        "auc",
        "log_loss",
        "brier",
        "calibration_error",
    ),
    "number": ("rmse", "mae", "r2", "pinball", "coverage", "interval_width"),
}
"""The metrics of each kind of label. Of several classes, `f1`, `precision`, `recall` and `auc` are the
means over the classes (`auc` of each against the rest), `weighted_f1` weighs them by their rows."""
OF_SETS: tuple[Metric, ...] = ("coverage", "set_size")
"""What is measured besides where a model of several classes answers with sets."""
OF_COSTS: tuple[Metric, ...] = ("expected_cost",)
"""What is measured besides where `features.label.costs` says what a wrong answer costs."""
LOWER_IS_BETTER: frozenset[str] = frozenset(
    {"log_loss", "brier", "calibration_error", "rmse", "mae", "pinball", "interval_width"}
    | {"set_size", "expected_cost"}
)


def metrics_of(kind: LabelKind, *, costs: bool, sets: bool = False) -> tuple[Metric, ...]:
    """Names of what is measured of a model, in the order that they are shown.

    Args:
        kind: of label.
        costs: whether the label says what wrong answers cost.
        sets: whether the model answers with sets of classes.
    """
    return METRICS[kind] + (OF_SETS if sets else ()) + (OF_COSTS if costs else ())


def metric_name(metric: str) -> str:
    """A metric's name for people."""
    names = {
        "auc": "AUC",
        "f1": "F1",
        "weighted_f1": "weighted F1",
        "brier": "Brier score",
        "rmse": "RMSE",
        "mae": "MAE",
        "r2": "R²",
    }
    return names.get(metric, metric.replace("_", " "))


def rule_name(rule: str) -> str:
    """A rule's name for people: its metrics by their names, columns and groups as they are."""
    known = get_args(Metric)
    return " ".join(metric_name(word) if word in known else word for word in rule.split(" "))


_MEANINGS: dict[Metric, str] = {
    "accuracy": "the share of rows whose answer is right",
    "f1": "precision and recall as one number, their harmonic mean: 1 is best",
    "precision": "of the rows that are called a class, the share that are of it",
    "recall": "of the rows of a class, the share that are called it",
    "auc": "how often a row of the class gets a higher probability than one that is not: 0.5 is"
    " chance, 1 perfect",
    "average_precision": "the mean precision over all thresholds: the share of positives is chance",
    "log_loss": "how little probability the true labels got: lower is better, and sure mistakes cost"
    " most",
    "brier": "the mean squared distance of the probabilities from what was true: lower is better",
    "calibration_error": "how far the probabilities lie from the shares that came true: at 0.02, what"
    " is said to be 30 % is about 28 or 32 %",
    "weighted_f1": "F1 with each class counted by its rows",
    "rmse": "the typical error in the label's unit, large ones counted more: lower is better",
    "mae": "the mean error in the label's unit, whichever way: lower is better",
    "r2": "the share of the label's variation that the answers tell: 1 is perfect, 0 is no better than"
    " always answering the mean",
    "pinball": "how well the intervals fit, since it grows with their width and with what lies outside:"
    " lower is better",
    "coverage": "the share of labels inside what the answer names, an interval or a set of classes",
    "interval_width": "the mean width of the intervals, in the label's unit",
    "set_size": "the mean number of classes in a set",
    "expected_cost": "the mean cost of an answer, by the project's own costs: lower is better",
}


def explain_metrics(metrics: Iterable[str]) -> list[tuple[str, str]]:
    """What metrics mean, for people: the name and a sentence of each that is known, in their order."""
    known: dict[str, str] = {str(name): meaning for name, meaning in _MEANINGS.items()}
    return [(metric_name(metric), known[metric]) for metric in metrics if metric in known]


Threshold = Literal["accuracy", "f1", "auc"]
UNBOUNDED: tuple[Threshold, ...] = ("accuracy", "f1", "auc")
"""The thresholds that are parameters of their own, and so fields of a form; 0 asks for nothing."""


def asked_bound(metric: str, bound: float | None) -> float | None:
    """A gate's bound where it asks for something."""
    return None if not bound and metric in UNBOUNDED else bound


def in_order(names: Iterable[str]) -> list[str]:
    """Metrics in the order that a kind's are shown: a record's own order is the alphabet's."""
    known = dict.fromkeys(name for metrics in METRICS.values() for name in metrics)
    return [name for name in known if name in set(names)]


def asked_of(metric: str, limit: float) -> str:
    """What a limit asks of a metric, in words: `at least 0.7`, or `at most` where lower is better."""
    if asked_bound(metric, limit) is None:
        return "no bound"
    return f"at {'most' if metric in LOWER_IS_BETTER else 'least'} {limit:g}"
