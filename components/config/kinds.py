"""The kinds of label and the names of their metrics: no library, since the predictor reads them too."""

from typing import Literal

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


def asked_of(metric: str, limit: float) -> str:
    """What a limit asks of a metric, in words: `at least 0.7`, or `at most` where lower is better."""
    return f"at {'most' if metric in LOWER_IS_BETTER else 'least'} {limit:g}"
