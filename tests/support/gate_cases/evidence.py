"""Evidence that passes, what changes of it are made of, and the settings of gates."""

from dataclasses import dataclass, field, replace
from typing import Any

from slipway.components.evaluate.measures.measured import (
    Estimate,
    Evidence,
    GroupEvidence,
    RankingEvidence,
    RehearsalEvidence,
    SliceEvidence,
)
from slipway.components.metrics.kinds.binary import BinaryLabel
from slipway.components.metrics.kinds.multiclass import MulticlassLabel
from slipway.components.metrics.kinds.number import NumberLabel

NAN, INF = float("nan"), float("inf")


def estimate(value: float | None, half: float = 0.02, rows: int = 5000) -> Estimate:
    if value is None:
        return Estimate(value=None, rows=rows)
    return Estimate(value=value, low=value - half, high=value + half, rows=rows)


METRICS = {
    "accuracy": estimate(0.8),
    "f1": estimate(0.6),
    "precision": estimate(0.55),
    "recall": estimate(0.65),
    "auc": estimate(0.77),
    "average_precision": estimate(0.5),
    "log_loss": estimate(0.45),
    "brier": estimate(0.15),
    "calibration_error": estimate(0.03, 0.01),
}
REHEARSED = RehearsalEvidence(rows=200, difference=1e-7, p99_ms=4.0, memory_mb=120.0)
GOOD = Evidence(
    label=BinaryLabel(threshold=0.4),
    rows=5000,
    expected_rows=5000,
    class_rows=(3500, 1500),
    metrics=METRICS,
    baselines={"majority class": estimate(0.27), "logistic regression": estimate(0.03)},
    shuffled=Estimate(value=0.501, low=0.46, high=0.54, rows=5000),
    features={"a": 0.7, "b": 0.6},
    rehearsal=REHEARSED,
)
GATE = {"accuracy": 0.75, "f1": 0.5, "auc": 0.75}


def slices(rows: int = 800, auc: float | None = 0.76, lead: float | None = 0.0) -> Any:
    return (
        SliceEvidence(
            column="colour",
            value="red",
            rows=rows,
            metrics={"auc": estimate(auc, rows=rows)},
            differences={"auc": estimate(lead, rows=rows)},
        ),
        SliceEvidence(
            column="colour",
            value="blue",
            rows=900,
            metrics={"auc": estimate(0.8)},
            differences={"auc": estimate(0.0)},
        ),
    )


SLICED = {"slices": {"columns": ["colour"], "least": {"auc": {"min": 0.7}}}}
MARGINED = {"slices": {"columns": ["colour"], "margins": {"auc": 0.03}}}
REQUIRED = {
    "slices": {
        "columns": ["colour"],
        "required": {"colour": ["red", "green"]},
        "least": {"auc": {"min": 0.7}},
    }
}


def groups(
    gap: float | None = 0.1,
    ratio: float | None = 0.8,
    rows: int = 900,
    measure: str = "selection_rate",
    problems: tuple[str, ...] = (),
    **more: float,
) -> dict[str, Any]:
    """Two groups (and more) that lie so far apart."""
    found = {"f": estimate(0.4, rows=rows), "m": estimate(0.5, rows=1000)}
    found |= {name: estimate(value, rows=1000) for name, value in more.items()}
    part = GroupEvidence(
        rule=f"fairness sex {measure}",
        groups=found,
        gap=estimate(gap, 0.03, rows=1900),
        ratio=estimate(ratio, 0.05, rows=1900),
        problems=problems,
    )
    return {"fairness": (part,)}


def fair(**rule: Any) -> dict[str, Any]:
    return {"fairness": [{"by": "sex", "measure": "selection_rate", **rule}]}


def ranked(
    ndcg: float | None = 0.6, recall: float | None = 0.7, queries: int = 400
) -> dict[str, Any]:
    """How well the rows of the visits are ordered."""
    values = {"ndcg": estimate(ndcg), "recall": estimate(recall)}
    chance = {"ndcg": 0.31, "recall": 0.25}
    return {"ranking": RankingEvidence(queries=queries, values=values, chance=chance)}


def ranks(**rule: Any) -> dict[str, Any]:
    return {"ranking": {"by": "visit", "at": 3, **rule}}


def classes(recall: float | None = 0.6, **more: float) -> dict[str, Any]:
    """What the two classes reach."""
    found = {"f1": estimate(0.55), "recall": estimate(recall), "precision": estimate(0.5)}
    rest = {name: estimate(0.7) for name in found}
    return {"classes": {"0": rest, "1": {**found, **{k: estimate(v) for k, v in more.items()}}}}


def costly(value: float | None, constant: float = 0.8) -> dict[str, Any]:
    """A model whose mistakes cost so much a row, and what the best constant answer costs."""
    return {
        "label": BinaryLabel(threshold=0.4, costs={"1": {"0": 5.0}}),
        "metrics": {**METRICS, "expected_cost": estimate(value)},
        "constant_cost": (constant, "always answering 1"),
    }


def metrics(**changed: Estimate) -> dict[str, Any]:
    return {"metrics": {**METRICS, **changed}}


@dataclass(frozen=True)
class Case:
    """Good evidence with a change, under the gate with a change; and the rules that then fail."""

    name: str
    evidence: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    failed: tuple[str, ...] = ()


CHAMPION = {"champion": {"auc": estimate(0.0, 0.005)}}


CLASS_METRICS = {
    "accuracy": estimate(0.8),
    "f1": estimate(0.6),
    "weighted_f1": estimate(0.7),
    "precision": estimate(0.65),
    "recall": estimate(0.58),
    "auc": estimate(0.9),
    "log_loss": estimate(0.5),
    "brier": estimate(0.3),
    "calibration_error": estimate(0.03, 0.01),
}
GOOD_CLASSES = replace(
    GOOD,
    label=MulticlassLabel(classes=("ant", "bee", "cat")),
    validation_rows=1000,
    class_rows=(3000, 1500, 500),
    metrics=CLASS_METRICS,
    baselines={"majority class": estimate(0.4), "logistic regression": estimate(0.03)},
)
NUMBER_METRICS = {
    "rmse": estimate(12.0, 0.5),
    "mae": estimate(9.0, 0.4),
    "r2": estimate(0.6),
    "pinball": estimate(2.0, 0.1),
    "coverage": estimate(0.89, 0.01),
    "interval_width": estimate(40.0, 1.0),
}
GOOD_NUMBERS = replace(
    GOOD,
    label=NumberLabel(level=0.9),
    class_rows=(),
    validation_rows=1000,
    metrics=NUMBER_METRICS,
    baselines={"mean": estimate(0.6), "linear regression": estimate(0.05)},
    shuffled=Estimate(value=0.01, low=-0.07, high=0.07, rows=5000),
    told=0.8,
)


def class_metrics(**changed: Estimate) -> dict[str, Any]:
    return {"metrics": {**CLASS_METRICS, **changed}}


def with_sets(coverage: float | None) -> dict[str, Any]:
    """A model whose sets are to hold 90 % of the labels, and hold so many."""
    return {
        "label": MulticlassLabel(classes=("ant", "bee", "cat"), level=0.9, set_threshold=0.2),
        **class_metrics(coverage=estimate(coverage), set_size=estimate(1.4)),
    }


def number_metrics(**changed: Estimate) -> dict[str, Any]:
    return {"metrics": {**NUMBER_METRICS, **changed}}


def of(good: Evidence, metric: str, value: float | None) -> dict[str, Any]:
    """Slices of a kind with a metric of its own."""
    parts = [
        replace(part, metrics={metric: estimate(value)}, differences={metric: estimate(0.0)})
        for part in slices()
    ]
    return {"slices": tuple(parts)}
