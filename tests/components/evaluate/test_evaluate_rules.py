"""The gate's decision: a table of cases, and properties that must hold for every case."""

import math
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.components.config.gate import GateConfig
from slipway.components.contracts.verdict import RuleResult
from slipway.components.evaluate.gate import rules
from slipway.components.evaluate.gate.rules import decide, judge, override_for
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

VERDICTS = Path(__file__).parent / "verdicts.txt"
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
CASES = [
    Case("all good"),
    # Absolute thresholds: at, above, below; the point and the interval.
    Case("accuracy at its threshold", gate={"accuracy": 0.8}),
    Case("accuracy just below", gate={"accuracy": 0.8000001}, failed=("accuracy",)),
    Case("f1 at its threshold", gate={"f1": 0.6}),
    Case("f1 just below", gate={"f1": 0.6000001}, failed=("f1",)),
    Case("auc at its threshold", gate={"auc": 0.77}),
    Case("auc just below", gate={"auc": 0.7700001}, failed=("auc",)),
    Case(
        "all three below",
        gate={"accuracy": 0.9, "f1": 0.9, "auc": 0.9},
        failed=("accuracy", "f1", "auc"),
    ),
    Case("lower bounds hold", gate={"judge": "interval", "auc": 0.7499}),
    Case("a lower bound does not", gate={"judge": "interval", "auc": 0.7501}, failed=("auc",)),
    Case(
        "accuracy's lower bound",
        gate={"judge": "interval", "accuracy": 0.79},
        failed=("accuracy",),
    ),
    Case("calibration at its bound", gate={"calibration_error": 0.03}),
    Case("calibration above", gate={"calibration_error": 0.0299}, failed=("calibration_error",)),
    Case(
        "calibration's upper bound above",
        gate={"judge": "interval", "auc": 0.7, "calibration_error": 0.035},
        failed=("calibration_error",),
    ),
    # Any other metric.
    Case("log loss below its max", gate={"metrics": {"log_loss": {"max": 0.46}}}),
    Case("log loss above", gate={"metrics": {"log_loss": {"max": 0.44}}}, failed=("log_loss",)),
    Case("brier above", gate={"metrics": {"brier": {"max": 0.1}}}, failed=("brier",)),
    Case("recall below", gate={"metrics": {"recall": {"min": 0.7}}}, failed=("recall",)),
    Case("precision within both", gate={"metrics": {"precision": {"min": 0.5, "max": 0.6}}}),
    Case(
        "precision above its max",
        gate={"metrics": {"precision": {"min": 0.5, "max": 0.54}}},
        failed=("precision max",),
    ),
    Case(
        "precision below its min",
        gate={"metrics": {"precision": {"min": 0.56, "max": 0.6}}},
        failed=("precision min",),
    ),
    Case(
        "a second bound on accuracy",
        gate={"metrics": {"accuracy": {"max": 0.7}}},
        failed=("accuracy",),
    ),
    # What is not finite or not there.
    *(
        Case(f"{metric} is {value}", metrics(**{metric: Estimate(value=value)}), {}, failed)
        for value in (NAN, INF, -INF, None)
        for metric, failed in (
            ("accuracy", ("sound measurement", "accuracy")),
            ("f1", ("sound measurement", "f1")),
            ("auc", ("sound measurement", "auc", "too good to be true")),
            ("calibration_error", ("sound measurement", "calibration_error")),
            ("recall", ("sound measurement",)),
        )
    ),
    Case(
        "an interval that is not finite",
        metrics(accuracy=Estimate(value=0.8, low=NAN, high=0.9)),
        failed=("sound measurement", "accuracy"),
    ),
    Case(
        "the other end of the interval is not finite",
        metrics(accuracy=Estimate(value=0.8, low=0.7, high=INF)),
        {},
        ("sound measurement", "accuracy"),
    ),
    Case(
        "the judged end is not finite",
        metrics(accuracy=Estimate(value=0.8, low=-INF, high=0.9)),
        {"judge": "interval", "auc": 0.7},
        ("sound measurement", "accuracy"),
    ),
    Case(
        "an interval without its value",
        metrics(accuracy=Estimate(value=None, low=0.8, high=0.9)),
        {"judge": "interval", "auc": 0.7},
        ("sound measurement", "accuracy"),
    ),
    Case(
        "not finite where no rule looks: the interval of a metric without a bound",
        metrics(recall=Estimate(value=0.65, low=NAN, high=0.7)),
        {},
        ("sound measurement",),
    ),
    Case(
        "not finite where no rule looks: a slice that is only shown",
        {"slices": slices(auc=INF)},
        {},
        ("sound measurement",),
    ),
    Case(
        "not finite where no rule looks: the rehearsal left out",
        {"rehearsal": replace(REHEARSED, p99_ms=NAN)},
        {"rehearsal": {"enabled": False}},
        ("sound measurement",),
    ),
    Case(
        "shuffling has one end only",
        {"shuffled": Estimate(value=0.5, low=0.4)},
        {},
        ("shuffled labels",),
    ),
    Case("no interval, point judged", metrics(accuracy=Estimate(value=0.8))),
    Case(
        "no interval, interval judged",
        metrics(accuracy=Estimate(value=0.8)),
        {"judge": "interval", "auc": 0.7},
        ("accuracy",),
    ),
    Case(
        "a metric is missing",
        {"metrics": {k: v for k, v in METRICS.items() if k != "f1"}},
        {},
        ("f1",),
    ),
    Case(
        "every metric is missing",
        {"metrics": {}},
        {},
        ("accuracy", "f1", "auc", "calibration_error", "too good to be true"),
    ),
    # The amount of data.
    Case("rows at the minimum", gate={"min_rows": 5000}),
    Case("one row too few", gate={"min_rows": 5001}, failed=("test rows",)),
    # Weighed rows are worth fewer of equal weight.
    Case("weighed rows worth enough", {"effective_rows": 1000.9}, {"weights": "exposure"}),
    Case(
        "weighed rows worth one too few",
        {"effective_rows": 999.9},
        {"weights": "exposure"},
        ("effective rows",),
    ),
    Case(
        "weighed rows whose worth was not measured",
        {},
        {"weights": "exposure"},
        ("effective rows",),
    ),
    *(
        Case(
            f"weighed rows whose worth is {value}",
            {"effective_rows": value},
            {"weights": "exposure"},
            ("sound measurement", "effective rows"),
        )
        for value in (NAN, INF)
    ),
    Case("rows that nothing weighs have no worth", {"effective_rows": 1.0}),
    Case(
        "no rows",
        {"rows": 0, "expected_rows": 0, "class_rows": (0, 0)},
        {},
        ("test rows", "positives", "negatives"),
    ),
    Case("positives at the minimum", {"class_rows": (4950, 50)}),
    Case("one positive too few", {"class_rows": (4951, 49)}, {}, ("positives",)),
    Case("negatives at the minimum", {"class_rows": (50, 4950)}),
    Case("one negative too few", {"class_rows": (49, 4951)}, {}, ("negatives",)),
    Case("a class is missing", {"class_rows": (5000, 0)}, {}, ("positives",)),
    Case(
        "the test table is truncated",
        {"rows": 4999, "class_rows": (3499, 1500)},
        {},
        ("sound measurement",),
    ),
    Case(
        "the test table is longer",
        {"rows": 5001, "class_rows": (3501, 1500)},
        {},
        ("sound measurement",),
    ),
    Case(
        "measuring was unsound",
        {"problems": ("3 rows got no probability.",)},
        {},
        ("sound measurement",),
    ),
    Case("measuring was unsound twice", {"problems": ("One.", "Two.")}, {}, ("sound measurement",)),
    # The champion.
    Case("equal to the champion", CHAMPION),
    Case(
        "worse by just the margin, point",
        {"champion": {"auc": estimate(-0.01)}},
        {"champion": {"judge": "point"}},
    ),
    Case(
        "worse by more than the margin, point",
        {"champion": {"auc": estimate(-0.0101)}},
        {"champion": {"judge": "point"}},
        ("champion auc",),
    ),
    Case(
        "better, but not surely no worse",
        {"champion": {"auc": estimate(0.005)}},
        {},
        ("champion auc",),
    ),
    Case("surely no worse", {"champion": {"auc": estimate(0.0101)}}),
    Case("champion could not be read", {"champion_problem": "hash differs"}, {}, ("champion",)),
    Case(
        "champion could not be read, though numbers are there",
        {**CHAMPION, "champion_problem": "hash differs"},
        {},
        ("champion",),
    ),
    Case("a compared metric is missing", {"champion": {}}, {}, ("champion auc",)),
    Case(
        "the difference is NaN",
        {"champion": {"auc": Estimate(value=NAN)}},
        {},
        ("sound measurement", "champion auc"),
    ),
    Case(
        "log loss no worse than the champion's",
        {"champion": {"log_loss": estimate(0.0, 0.005)}},
        {"champion": {"margins": {"log_loss": 0.01}}},
    ),
    Case(
        "log loss worse than the champion's",
        {"champion": {"log_loss": estimate(0.02, 0.005)}},
        {"champion": {"margins": {"log_loss": 0.01}}},
        ("champion log_loss",),
    ),
    Case(
        "worse in the first of two metrics",
        {"champion": {"auc": estimate(-0.1), "f1": estimate(0.0, 0.005)}},
        {"champion": {"margins": {"auc": 0.01, "f1": 0.02}}},
        ("champion auc",),
    ),
    Case(
        "Brier score worse than the champion's",
        {"champion": {"brier": estimate(0.02, 0.005)}},
        {"champion": {"margins": {"brier": 0.01}}},
        ("champion brier",),
    ),
    # Slices.
    Case("slices hold", {"slices": slices()}, SLICED),
    Case(
        "a slice's lower bound is below",
        {"slices": slices(auc=0.71)},
        {"slices": {**SLICED["slices"], "judge": "interval"}},
        ("slice colour=red auc",),
    ),
    Case(
        "a slice's lower bound is below the champion's",
        {**CHAMPION, "slices": slices(lead=-0.02)},
        {"slices": {**MARGINED["slices"], "judge": "interval"}},
        ("slice colour=red auc against champion",),
    ),
    Case("a slice is below", {"slices": slices(auc=0.69)}, SLICED, ("slice colour=red auc",)),
    Case("a small slice is not judged", {"slices": slices(rows=499, auc=0.6)}, SLICED),
    Case(
        "a slice at the minimum of rows is",
        {"slices": slices(rows=500, auc=0.6)},
        SLICED,
        ("slice colour=red auc",),
    ),
    Case(
        "a slice's metric is missing",
        {"slices": slices(auc=None)},
        SLICED,
        ("slice colour=red auc",),
    ),
    Case("a declared column has no slice", {}, SLICED, ("slice colour",)),
    Case(
        "a required value is missing", {"slices": slices()}, REQUIRED, ("slice colour=green rows",)
    ),
    Case(
        "a required value has too few rows",
        {"slices": slices(rows=499)},
        REQUIRED,
        ("slice colour=green rows", "slice colour=red rows"),
    ),
    Case(
        "a slice worse than the champion's",
        {**CHAMPION, "slices": slices(lead=-0.04)},
        MARGINED,
        ("slice colour=red auc against champion",),
    ),
    Case(
        "a slice no worse than the champion's", {**CHAMPION, "slices": slices(lead=-0.03)}, MARGINED
    ),
    Case("slice margins without a champion", {"slices": slices(lead=None)}, MARGINED),
    Case("an undeclared slice is only shown", {"slices": slices(auc=0.1)}),
    # Baselines.
    Case(
        "no better than the majority class",
        {"baselines": {**GOOD.baselines, "majority class": estimate(-0.001)}},
        {},
        ("beats majority class",),
    ),
    Case(
        "as good as the logistic regression",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(0.0)}},
        {},
    ),
    Case(
        "a constant answer, whose lead is exactly nothing",
        {"baselines": {**GOOD.baselines, "majority class": Estimate(value=0.0, low=0.0, high=0.0)}},
        {},
        ("beats majority class",),
    ),
    Case(
        "a constant answer is beaten by no tie",
        {"baselines": {**GOOD.baselines, "majority class": estimate(-0.001, 0.1)}},
        {"baseline": {"judge": "tie"}},
        ("beats majority class",),
    ),
    Case(
        "just better than the logistic regression",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(1e-6)}},
        {},
    ),
    Case(
        "a tie with the logistic regression",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(-0.0015, 0.004)}},
        {},
    ),
    Case(
        "a tie whose interval just reaches the margin",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(-0.02, 0.02)}},
        {},
    ),
    Case(
        "worse than the logistic regression beyond chance",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(-0.02001, 0.02)}},
        {},
        ("beats logistic regression",),
    ),
    Case(
        "a tie with the margin asked for",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(0.015, 0.01)}},
        {"baseline": {"margin": 0.02}},
    ),
    Case(
        "surely below the margin asked for",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(0.005, 0.01)}},
        {"baseline": {"margin": 0.02}},
        ("beats logistic regression",),
    ),
    Case(
        "worse, and too few blocks to know by how much",
        {"baselines": {**GOOD.baselines, "logistic regression": Estimate(value=-0.001, rows=5000)}},
        {},
        ("beats logistic regression",),
    ),
    Case(
        "better, with too few blocks",
        {"baselines": {**GOOD.baselines, "logistic regression": Estimate(value=0.001, rows=5000)}},
        {},
    ),
    Case(
        "a tie where the measured lead decides",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(-0.0015, 0.004)}},
        {"baseline": {"judge": "point"}},
        ("beats logistic regression",),
    ),
    Case(
        "exactly as good where the measured lead decides",
        {"baselines": {**GOOD.baselines, "logistic regression": estimate(0.0)}},
        {"baseline": {"judge": "point"}},
        ("beats logistic regression",),
    ),
    Case(
        "the lead's upper bound is infinite",
        {
            "baselines": {
                **GOOD.baselines,
                "logistic regression": Estimate(value=-0.001, low=-0.01, high=INF),
            }
        },
        {},
        ("sound measurement", "beats logistic regression"),
    ),
    Case(
        "not surely better",
        {},
        {"baseline": {"margin": 0.02, "judge": "interval"}},
        ("beats logistic regression",),
    ),
    Case(
        "the logistic regression is missing",
        {"baselines": {"majority class": estimate(0.2)}},
        {},
        ("beats logistic regression",),
    ),
    Case(
        "the logistic regression is not asked",
        {"baselines": {"majority class": estimate(0.2)}},
        {"baseline": {"linear": False}},
    ),
    Case(
        "the majority class is always asked",
        {"baselines": {}},
        {"baseline": {"linear": False}},
        ("beats majority class",),
    ),
    # Leaks.
    Case(
        "shuffled labels are told apart",
        {"shuffled": Estimate(value=0.55, low=0.46, high=0.54)},
        {},
        ("shuffled labels",),
    ),
    Case("shuffled labels at the edge", {"shuffled": Estimate(value=0.54, low=0.46, high=0.54)}),
    Case(
        "shuffled labels at the lower edge", {"shuffled": Estimate(value=0.46, low=0.46, high=0.54)}
    ),
    Case(
        "shuffled labels told apart the other way",
        {"shuffled": Estimate(value=0.45, low=0.46, high=0.54)},
        {},
        ("shuffled labels",),
    ),
    Case("shuffling was not done", {"shuffled": None}, {}, ("shuffled labels",)),
    Case(
        "shuffling gave NaN",
        {"shuffled": Estimate(value=NAN, low=0.4, high=0.6)},
        {},
        ("sound measurement", "shuffled labels"),
    ),
    Case("too good to be true", metrics(auc=estimate(0.98, 0.001)), {}, ("too good to be true",)),
    Case("just not too good", metrics(auc=estimate(0.9799, 0.001))),
    Case(
        "a feature gives the label away",
        {"features": {"a": 0.7, "leak": 0.999}},
        {},
        ("too good to be true",),
    ),
    Case(
        "a feature's AUC is NaN",
        {"features": {"a": NAN}},
        {},
        ("sound measurement", "too good to be true"),
    ),
    Case(
        "too good and acknowledged",
        metrics(auc=estimate(0.99, 0.001)),
        {"leak": {"acknowledged": "the label is a physical law"}},
    ),
    Case(
        "a blank acknowledgement",
        metrics(auc=estimate(0.99, 0.001)),
        {"leak": {"acknowledged": "  "}},
        ("too good to be true",),
    ),
    # Rehearsal.
    Case("not rehearsed", {"rehearsal": None}, {}, ("rehearsal",)),
    Case("rehearsal left out by choice", {"rehearsal": None}, {"rehearsal": {"enabled": False}}),
    Case(
        "predictor answers otherwise",
        {"rehearsal": replace(REHEARSED, difference=1.1e-5)},
        {},
        ("rehearsal difference",),
    ),
    Case("predictor answers within tolerance", {"rehearsal": replace(REHEARSED, difference=1e-5)}),
    Case(
        "predictor is slow",
        {"rehearsal": replace(REHEARSED, p99_ms=100.1)},
        {},
        ("rehearsal p99_ms",),
    ),
    Case("predictor is just fast enough", {"rehearsal": replace(REHEARSED, p99_ms=100.0)}),
    Case(
        "predictor needs too much memory",
        {"rehearsal": replace(REHEARSED, memory_mb=1024.1)},
        {},
        ("rehearsal memory_mb",),
    ),
    Case(
        "predictor's memory is unknown",
        {"rehearsal": replace(REHEARSED, memory_mb=None)},
        {},
        ("rehearsal memory_mb",),
    ),
    Case(
        "predictor's answer is NaN",
        {"rehearsal": replace(REHEARSED, difference=NAN)},
        {},
        ("sound measurement", "rehearsal difference"),
    ),
    Case(
        "predictor has two problems",
        {"rehearsal": replace(REHEARSED, problems=("One.", "Two."))},
        {},
        ("rehearsal",),
    ),
    Case(
        "predictor did not start",
        {"rehearsal": replace(REHEARSED, problems=("no torch",))},
        {},
        ("rehearsal",),
    ),
    # Fairness: the gap and the ratio, at their bounds and beyond; and what cannot be told.
    Case("a gap at its bound", groups(gap=0.1), fair(gap=0.1)),
    Case(
        "a gap just above",
        groups(gap=0.1),
        fair(gap=0.0999),
        ("fairness sex selection_rate gap",),
    ),
    Case("a ratio at its bound", groups(ratio=0.8), fair(ratio=0.8)),
    Case(
        "a ratio just below",
        groups(ratio=0.8),
        fair(ratio=0.8001),
        ("fairness sex selection_rate ratio",),
    ),
    Case(
        "a gap and a ratio",
        groups(),
        fair(gap=0.05, ratio=0.9),
        ("fairness sex selection_rate gap", "fairness sex selection_rate ratio"),
    ),
    Case("a gap's upper bound holds", groups(gap=0.1), fair(gap=0.13, judge="interval")),
    Case(
        "a gap's upper bound does not",
        groups(gap=0.1),
        fair(gap=0.1299, judge="interval"),
        ("fairness sex selection_rate gap",),
    ),
    Case(
        "a ratio's lower bound does not",
        groups(ratio=0.8),
        fair(ratio=0.7501, judge="interval"),
        ("fairness sex selection_rate ratio",),
    ),
    Case(
        "a gap without an interval",
        {"fairness": (replace(groups()["fairness"][0], gap=Estimate(value=0.1, rows=1900)),)},
        fair(gap=0.2, judge="interval"),
        ("fairness sex selection_rate gap",),
    ),
    Case(
        "a ratio that is not defined",
        groups(ratio=None),
        fair(gap=0.2, ratio=0.8),
        ("fairness sex selection_rate ratio",),
    ),
    Case(
        "a gap that is NaN",
        groups(gap=NAN),
        fair(gap=0.2),
        ("sound measurement", "fairness sex selection_rate gap"),
    ),
    Case("a group at the fewest rows", groups(rows=300), fair(gap=0.2, min_rows=300)),
    Case(
        "a group with a row too few",
        groups(rows=299),
        fair(gap=0.2, min_rows=300),
        ("fairness sex selection_rate f rows",),
    ),
    Case(
        "two groups with too few rows",
        groups(gap=0.9),
        fair(gap=0.2, min_rows=2000),
        ("fairness sex selection_rate f rows", "fairness sex selection_rate m rows"),
    ),
    Case(
        "rows of no group",
        groups(problems=("12 test rows have no sex.", "And more.")),
        fair(gap=0.2),
        ("fairness sex selection_rate",),
    ),
    Case(
        "a single group",
        {"fairness": (replace(groups()["fairness"][0], groups={"f": estimate(0.4, rows=900)}),)},
        fair(gap=0.2),
        ("fairness sex selection_rate",),
    ),
    Case("groups that were not measured", {}, fair(gap=0.2), ("fairness sex selection_rate",)),
    Case(
        "groups of another rule",
        groups(measure="error"),
        fair(gap=0.2),
        ("fairness sex selection_rate",),
    ),
    Case(
        "one of two rules",
        {
            "fairness": (
                *groups(gap=0.3)["fairness"],
                *groups(gap=0.01, measure="error", x=0.45)["fairness"],
            )
        },
        {
            "fairness": [
                {"by": "sex", "measure": "selection_rate", "gap": 0.2},
                {"by": "sex", "measure": "error", "gap": 0.2},
            ]
        },
        ("fairness sex selection_rate gap",),
    ),
    Case(
        "a rule that cannot be told, and one that is broken",
        groups(gap=0.3),
        {
            "fairness": [
                {"by": "sex", "measure": "error", "gap": 0.2},
                {"by": "sex", "measure": "selection_rate", "gap": 0.2},
            ]
        },
        ("fairness sex error", "fairness sex selection_rate gap"),
    ),
    Case(
        "a rule with too few rows, and one that is broken",
        {
            "fairness": (
                *groups(rows=9, measure="error")["fairness"],
                *groups(gap=0.3)["fairness"],
            )
        },
        {
            "fairness": [
                {"by": "sex", "measure": "error", "gap": 0.2},
                {"by": "sex", "measure": "selection_rate", "gap": 0.2},
            ]
        },
        ("fairness sex error f rows", "fairness sex selection_rate gap"),
    ),
    # The order of a query's rows.
    Case("ranking at its least", ranked(), ranks(ndcg=0.6, recall=0.7)),
    Case("ndcg just below", ranked(), ranks(ndcg=0.6001, recall=0.7), ("ranking ndcg",)),
    Case("recall just below", ranked(), ranks(ndcg=0.6, recall=0.7001), ("ranking recall",)),
    Case("ndcg alone", ranked(recall=0.1), ranks(ndcg=0.6)),
    Case("recall alone", ranked(ndcg=0.1), ranks(recall=0.7)),
    Case(
        "both orders below",
        ranked(),
        ranks(ndcg=0.7, recall=0.8),
        ("ranking ndcg", "ranking recall"),
    ),
    Case("ranking's worse end", ranked(), ranks(ndcg=0.58, judge="interval")),
    Case(
        "ranking's worse end below",
        ranked(),
        ranks(ndcg=0.59, judge="interval"),
        ("ranking ndcg",),
    ),
    Case(
        "ndcg that is no number",
        ranked(ndcg=NAN),
        ranks(ndcg=0.0),
        ("sound measurement", "ranking ndcg"),
    ),
    Case("ndcg that is not known", ranked(ndcg=None), ranks(ndcg=0.0), ("ranking ndcg",)),
    Case("just enough queries", ranked(queries=100), ranks(ndcg=0.6)),
    Case("too few queries", ranked(queries=99), ranks(ndcg=0.6), ("ranking queries",)),
    Case(
        "too few queries, badly ordered",
        ranked(ndcg=0.1, queries=99),
        ranks(ndcg=0.6, recall=0.7),
        ("ranking queries",),
    ),
    Case("fewer queries asked for", ranked(queries=5), ranks(ndcg=0.6, min_queries=5)),
    Case("ranking that was not measured", {}, ranks(ndcg=0.0), ("ranking",)),
    # A value that rounds to its bound is shown with the digit that tells them apart.
    Case("f1 below in its fourth digit", metrics(f1=estimate(0.59964)), {"f1": 0.6}, ("f1",)),
    # The least of one class.
    Case("a class at its least", classes(), {"classes": {"1": {"recall": 0.6, "f1": 0.55}}}),
    Case(
        "a class's recall just below",
        classes(),
        {"classes": {1: {"recall": 0.6001, "f1": 0.55}}},
        ("class 1 recall",),
    ),
    Case(
        "every class",
        classes(),
        {"classes": {"*": {"f1": 0.6}}},
        ("class 1 f1",),
    ),
    Case(
        "every class but one that has its own",
        classes(),
        {"classes": {"*": {"f1": 0.8}, "1": {"precision": 0.5}}},
        ("class 0 f1",),
    ),
    Case(
        "a class's lower bound",
        classes(),
        {"classes": {"1": {"f1": 0.5301}}, "judge": "interval", "accuracy": 0.7, "auc": 0.7},
        ("class 1 f1",),
    ),
    Case(
        "a class at the fewest rows", classes(), {"classes": {"1": {"f1": 0.5, "min_rows": 1500}}}
    ),
    Case(
        "a class with a row too few",
        classes(),
        {"classes": {"1": {"f1": 0.5, "min_rows": 1501}}},
        ("class 1 enough rows",),
    ),
    Case(
        "a class with fewer rows than all must have",
        {**classes(), "class_rows": (4951, 49)},
        {"classes": {"1": {"f1": 0.5}}},
        ("positives", "class 1 enough rows"),
    ),
    Case(
        "a class that there is not",
        classes(),
        {"classes": {"2": {"f1": 0.5}}},
        ("class 2",),
    ),
    # What mistakes cost: less than a constant answer's, and a bound of the project's.
    Case("cheaper than a constant", costly(0.5)),
    Case("as dear as a constant", costly(0.8), {}, ("costs less than a constant",)),
    Case("just cheaper than a constant", costly(0.7999)),
    Case("dearer than a constant", costly(0.9), {}, ("costs less than a constant",)),
    Case(
        "a constant whose cost is not known",
        {**costly(0.5), "constant_cost": None},
        {},
        ("costs less than a constant",),
    ),
    Case(
        "a constant whose cost is NaN",
        costly(0.5, NAN),
        {},
        ("sound measurement", "costs less than a constant"),
    ),
    Case(
        "a cost that is missing",
        costly(None),
        {},
        ("sound measurement", "costs less than a constant"),
    ),
    Case("a cost at its bound", costly(0.5), {"metrics": {"expected_cost": {"max": 0.5}}}),
    Case(
        "a cost above its bound",
        costly(0.5),
        {"metrics": {"expected_cost": {"max": 0.4999}}},
        ("expected_cost",),
    ),
    Case(
        "dearer than the champion",
        {**costly(0.5), "champion": {"expected_cost": estimate(0.06, 0.001)}},
        {"champion": {"margins": {"expected_cost": 0.05}}},
        ("champion expected_cost",),
    ),
    Case(
        "a class that there is not, and one that is below",
        classes(),
        {"classes": {"-": {"f1": 0.5}, "1": {"f1": 0.9}}},
        ("class -", "class 1 f1"),
    ),
    Case(
        "a class with too few rows, and one that is below",
        classes(),
        {"classes": {"0": {"f1": 0.5, "min_rows": 9000}, "1": {"f1": 0.9}}},
        ("class 0 enough rows", "class 1 f1"),
    ),
    Case(
        "rows of more classes than there are",
        {**classes(), "class_rows": (3500, 1500, 7)},
        {"classes": {"1": {"f1": 0.5}}},
        ("amount of data", "classes"),
    ),
    Case("a class that was not measured", {}, {"classes": {"1": {"f1": 0.5}}}, ("class 1 f1",)),
    Case(
        "a class's recall is NaN",
        classes(recall=NAN),
        {"classes": {"1": {"recall": 0.1}}},
        ("sound measurement", "class 1 recall"),
    ),
]


# The same of several classes, and of a number: what is different there.

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


CLASS_CASES = [
    Case("all good"),
    Case("accuracy just below", gate={"accuracy": 0.8000001}, failed=("accuracy",)),
    Case("macro F1 just below", gate={"f1": 0.6000001}, failed=("f1",)),
    Case("macro F1 at its threshold", gate={"f1": 0.6}),
    Case("mean AUC just below", gate={"auc": 0.9000001}, failed=("auc",)),
    Case("calibration above", gate={"calibration_error": 0.0299}, failed=("calibration_error",)),
    Case(
        "weighted F1 below",
        gate={"metrics": {"weighted_f1": {"min": 0.71}}},
        failed=("weighted_f1",),
    ),
    Case("a class at the minimum", {"class_rows": (3450, 1500, 50)}),
    Case("one row of a class too few", {"class_rows": (3451, 1500, 49)}, {}, ("class cat rows",)),
    Case(
        "two classes too rare",
        {"class_rows": (0, 4951, 49)},
        {},
        ("class ant rows", "class cat rows"),
    ),
    Case(
        "no better than a constant",
        {"baselines": {**GOOD_CLASSES.baselines, "majority class": estimate(0.0)}},
        {},
        ("beats majority class",),
    ),
    Case(
        "worse than the multinomial regression beyond chance",
        {"baselines": {**GOOD_CLASSES.baselines, "logistic regression": estimate(-0.03)}},
        {},
        ("beats logistic regression",),
    ),
    Case(
        "worse than the champion in log loss",
        {"champion": {"log_loss": estimate(0.02, 0.005), "f1": estimate(0.0, 0.005)}},
        {"champion": {"margins": {"log_loss": 0.01, "f1": 0.01}}},
        ("champion log_loss",),
    ),
    Case(
        "worse than the champion in F1",
        {"champion": {"log_loss": estimate(0.0, 0.005), "f1": estimate(-0.02, 0.005)}},
        {"champion": {"margins": {"log_loss": 0.01, "f1": 0.01}}},
        ("champion f1",),
    ),
    Case(
        "the champion has other classes",
        {"champion_problem": "version 3 predicts one of 4 classes, and this model one of 3."},
        {},
        ("champion",),
    ),
    Case(
        "a slice is below in F1",
        of(GOOD_CLASSES, "f1", 0.3),
        {"slices": {"columns": ["colour"], "least": {"f1": {"min": 0.31}}}},
        ("slice colour=blue f1", "slice colour=red f1"),
    ),
    Case("sets that hold what they promise", with_sets(0.88), {"coverage": 0.02}),
    Case("sets that fall just short", with_sets(0.8799), {"coverage": 0.02}, ("coverage",)),
    Case(
        "the lower bound of what sets hold",
        with_sets(0.88),
        {"coverage": 0.0399, "judge": "interval", "accuracy": 0.7},
        ("coverage",),
    ),
    Case("sets from just enough rows", {**with_sets(0.9), "validation_rows": 9}),
    Case(
        "sets from one row too few",
        {**with_sets(0.9), "validation_rows": 8},
        {},
        ("validation rows",),
    ),
    Case("without sets no validation row is asked for", {"validation_rows": 0}),
    Case(
        "more classes than are named are too rare",
        {
            "label": MulticlassLabel(classes=tuple(f"c{place:02}" for place in range(30))),
            "class_rows": (*range(21), *[500] * 9),
        },
        {"min_class_rows": 21},
        ("class rows",),
    ),
    Case(
        "as many classes as are named are too rare",
        {
            "label": MulticlassLabel(classes=tuple(f"c{place:02}" for place in range(30))),
            "class_rows": (*range(21), *[500] * 9),
        },
        {"min_class_rows": 20},
        tuple(f"class c{place:02} rows" for place in range(20)),
    ),
    Case("sets that were not measured", with_sets(None), {}, ("sound measurement", "coverage")),
    Case(
        "sets that are too large",
        with_sets(0.9),
        {"metrics": {"set_size": {"max": 1.39}}},
        ("set_size",),
    ),
    Case(
        "too good to be true",
        class_metrics(auc=estimate(0.98, 0.001)),
        {},
        ("too good to be true",),
    ),
    Case(
        "a feature gives the class away", {"features": {"a": 0.981}}, {}, ("too good to be true",)
    ),
    Case(
        "a feature explains the classes",
        {"explained": {"a": 0.5, "leak": 0.985, "z": 0.7}},
        {},
        ("too good to be true",),
    ),
    Case(
        "a metric is missing",
        class_metrics(auc=Estimate(value=None)),
        {},
        (
            "sound measurement",
            "auc",
            "too good to be true",
        ),
    ),
    Case(
        "shuffled labels are told apart",
        {"shuffled": Estimate(value=0.55, low=0.46, high=0.54)},
        {},
        ("shuffled labels",),
    ),
]
NUMBER_CASES = [
    Case("all good"),
    Case("coverage at its bound", gate={"coverage": 0.01}),
    Case("coverage just below", gate={"coverage": 0.0099}, failed=("coverage",)),
    Case(
        "coverage's lower bound",
        gate={"coverage": 0.0199, "judge": "interval"},
        failed=("coverage",),
    ),
    Case("intervals from just enough rows", {"validation_rows": 9}),
    Case("intervals from one row too few", {"validation_rows": 8}, {}, ("validation rows",)),
    Case(
        "intervals from rows that nobody counted",
        {"validation_rows": None},
        {},
        ("validation rows",),
    ),
    Case(
        "intervals of few rows without a rule of coverage",
        {"validation_rows": 8},
        {"coverage": 0.9},
    ),
    Case(
        "intervals of few rows with a rule among the metrics",
        {"validation_rows": 8},
        {"coverage": 0.9, "metrics": {"coverage": {"min": 0.5}}},
        ("validation rows",),
    ),
    Case(
        "intervals of few rows with a rule of slices",
        {"validation_rows": 8, **of(GOOD_NUMBERS, "coverage", 0.9)},
        {"coverage": 0.9, "slices": {"columns": ["colour"], "least": {"coverage": {"min": 0.8}}}},
        ("validation rows",),
    ),
    Case(
        "intervals that promise more need more rows",
        {
            "validation_rows": 98,
            "label": NumberLabel(level=0.99),
            **number_metrics(coverage=estimate(0.98)),
        },
        {},
        ("validation rows",),
    ),
    Case("coverage may be above", number_metrics(coverage=estimate(1.0, 0.0))),
    Case("R² at its bound", gate={"metrics": {"r2": {"min": 0.6}}}),
    Case("R² just below", gate={"metrics": {"r2": {"min": 0.6000001}}}, failed=("r2",)),
    Case("RMSE above its max", gate={"metrics": {"rmse": {"max": 11.9}}}, failed=("rmse",)),
    Case("MAE above its max", gate={"metrics": {"mae": {"max": 8.9}}}, failed=("mae",)),
    Case(
        "pinball above its max",
        gate={"metrics": {"pinball": {"max": 1.9}}},
        failed=("pinball",),
    ),
    Case(
        "intervals too wide",
        gate={"metrics": {"interval_width": {"max": 39.0}}},
        failed=("interval_width",),
    ),
    Case(
        "coverage is NaN",
        number_metrics(coverage=Estimate(value=NAN)),
        {},
        (
            "sound measurement",
            "coverage",
        ),
    ),
    Case(
        "coverage is missing",
        {"metrics": {name: value for name, value in NUMBER_METRICS.items() if name != "coverage"}},
        {},
        ("coverage",),
    ),
    Case("one row too few", gate={"min_rows": 5001}, failed=("test rows",)),
    Case("rows of a class are not asked", gate={"min_class_rows": 4000}),
    Case(
        "no better than the mean",
        {"baselines": {**GOOD_NUMBERS.baselines, "mean": estimate(0.0)}},
        {},
        ("beats mean",),
    ),
    Case(
        "a tie with the linear regression",
        {"baselines": {**GOOD_NUMBERS.baselines, "linear regression": estimate(-0.01)}},
    ),
    Case(
        "worse than the linear regression beyond chance",
        {"baselines": {**GOOD_NUMBERS.baselines, "linear regression": estimate(-0.03)}},
        {},
        ("beats linear regression",),
    ),
    Case(
        "the linear regression is missing",
        {"baselines": {"mean": estimate(0.6)}},
        {},
        ("beats linear regression",),
    ),
    Case(
        "the linear regression is not asked",
        {"baselines": {"mean": estimate(0.6)}},
        {"baseline": {"linear": False}},
    ),
    Case(
        "RMSE no worse than the champion's",
        {"champion": {"rmse": estimate(0.0, 0.1), "r2": estimate(0.0, 0.005)}},
        {"champion": {"margins": {"rmse": 0.1, "r2": 0.01}}},
    ),
    Case(
        "RMSE worse than the champion's",
        {"champion": {"rmse": estimate(0.2, 0.05), "r2": estimate(0.0, 0.005)}},
        {"champion": {"margins": {"rmse": 0.1, "r2": 0.01}}},
        ("champion rmse",),
    ),
    Case(
        "R² worse than the champion's",
        {"champion": {"rmse": estimate(0.0, 0.05), "r2": estimate(-0.02, 0.005)}},
        {"champion": {"margins": {"rmse": 0.1, "r2": 0.01}}},
        ("champion r2",),
    ),
    Case(
        "a slice's RMSE is above",
        of(GOOD_NUMBERS, "rmse", 14.0),
        {"slices": {"columns": ["colour"], "least": {"rmse": {"max": 13.9}}}},
        ("slice colour=blue rmse", "slice colour=red rmse"),
    ),
    Case("shuffled labels at the edge", {"shuffled": Estimate(value=-0.07, low=-0.07, high=0.07)}),
    Case(
        "shuffled labels are told",
        {"shuffled": Estimate(value=0.0701, low=-0.07, high=0.07)},
        {},
        ("shuffled labels",),
    ),
    Case("too good to be true", {"told": 0.98}, {}, ("too good to be true",)),
    Case("just not too good", {"told": 0.9799}),
    Case("not looked at for a leak", {"told": None}, {}, ("too good to be true",)),
    Case("told is NaN", {"told": NAN}, {}, ("sound measurement", "too good to be true")),
    Case(
        "a feature gives the number away", {"features": {"a": 0.99}}, {}, ("too good to be true",)
    ),
    Case(
        "a feature explains the number",
        {"explained": {"a": 0.5, "leak": 0.98, "z": 0.7}},
        {},
        ("too good to be true",),
    ),
    Case("no feature explains the number", {"explained": {"a": 0.5, "b": 0.9799}}),
    Case(
        "the model tells as much as a feature explains",
        {"told": 0.98, "explained": {"a": 0.99}},
        {},
        ("too good to be true",),
    ),
    Case(
        "acknowledged",
        {"told": 0.99},
        {"leak": {"acknowledged": "the label is a physical law"}},
    ),
    Case(
        "predictor answers otherwise",
        {"rehearsal": replace(REHEARSED, difference=1.1e-5)},
        {},
        ("rehearsal difference",),
    ),
]
KINDS: dict[str, tuple[Evidence, list[Case]]] = {
    "binary": (GOOD, CASES),
    "multiclass": (GOOD_CLASSES, CLASS_CASES),
    "number": (GOOD_NUMBERS, NUMBER_CASES),
}
NAMED = [
    pytest.param(good, case, id=f"{kind}: {case.name}")
    for kind, (good, cases) in KINDS.items()
    for case in cases
]


def verdict_of(good: Evidence, case: Case) -> tuple[RuleResult, ...]:
    config = GateConfig.model_validate({**GATE, **case.gate})
    return judge(replace(good, **case.evidence), config.with_defaults_of(good.label.kind))


@pytest.mark.parametrize(("good", "case"), NAMED)
def test_verdict(good: Evidence, case: Case) -> None:
    results = verdict_of(good, case)
    failed = tuple(result.name for result in results if result.outcome != "pass")
    assert sorted(failed) == sorted(case.failed)
    assert decide(results) == ("fail" if case.failed else "pass")
    for result in results:
        if result.outcome == "pass":
            assert result.value is not None and math.isfinite(result.value), result


def every_verdict() -> str:
    """All cases' results as text: of the first all of them, of the others those that differ."""
    lines: list[str] = []
    for kind, (good, cases) in KINDS.items():
        of_kind = "" if kind == "binary" else f"{kind}: "
        usual: set[str] = set()
        for case in cases:
            results = [as_line(result) for result in verdict_of(good, case)]
            shown = [line for line in results if line not in usual]
            lines += ["", f"# {of_kind}{case.name}", *shown]
            usual = usual or set(results)
    for override in OVERRIDES:
        given, word = override_for(failing(**override.evidence), override.approver, override.reason)
        lines += ["", f"# override: {override.name}", f"{given is not None}: {word}"]
    return "\n".join(lines).lstrip() + "\n"


def as_line(r: RuleResult) -> str:
    numbers = " ".join(str(number) for number in (r.threshold, r.value, r.low, r.high, r.rows))
    more = {True: " overridable", False: ""}[r.overridable]
    return f"{r.outcome} | {r.name} | {r.metric} | {numbers}{more} | {r.reason}"


def test_every_verdict_word_for_word() -> None:
    """What every case comes to stands in verdicts.txt, so that a change of any shows in review.

    `PYTHONPATH=. python tests/components/evaluate/test_evaluate_rules.py` rewrites the file.
    """
    assert every_verdict() == VERDICTS.read_text()


def test_there_are_at_least_sixty_cases() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


def test_no_rules_is_a_fail() -> None:
    assert decide([]) == "fail"


def test_a_rule_that_raises_is_a_failed_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(evidence: Evidence, config: GateConfig) -> list[RuleResult]:
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(rules._RULES, "leak", broken)
    results = judge(GOOD, GateConfig.model_validate(GATE))
    assert decide(results) == "fail"
    (failed,) = [result for result in results if result.outcome == "fail"]
    assert (failed.name, failed.metric) == ("leak", "leak")
    assert failed.reason == "The rule leak could not be applied: ZeroDivisionError: a bug."
    assert {result.name for result in results} > {"accuracy", "rehearsal"}


# Properties. The bad is drawn together with the good, so that both sides of each threshold occur.

UNIT = st.floats(0, 1)
ANY_METRICS = st.fixed_dictionaries(
    {name: st.tuples(UNIT, st.floats(0, 0.1)) for name in METRICS}
).map(lambda drawn: {name: estimate(value, half) for name, (value, half) in drawn.items()})
GATES = st.fixed_dictionaries(
    {
        "accuracy": UNIT,
        "f1": UNIT,
        "auc": UNIT,
        "calibration_error": UNIT,
        "judge": st.sampled_from(["point", "interval"]),
        "min_rows": st.integers(1, 10_000),
        "metrics": st.dictionaries(
            st.sampled_from(["recall", "precision"]), UNIT.map(lambda v: {"min": v}), max_size=2
        ),
    }
)
HIGHER = ("accuracy", "f1", "auc", "precision", "recall")


def outcome(evidence: Evidence, gate: dict[str, Any]) -> str:
    return decide(judge(evidence, GateConfig.model_validate(gate)))


@settings(max_examples=200, deadline=None)
@given(ANY_METRICS, GATES, st.sampled_from(["accuracy", "f1", "auc", "min_rows"]), UNIT)
def test_raising_a_threshold_never_turns_a_fail_into_a_pass(measured, gate, name, share) -> None:
    evidence = replace(GOOD, metrics=measured)
    before = outcome(evidence, gate)
    top = 10_000 if name == "min_rows" else 1.0
    raised = gate[name] + (top - gate[name]) * share
    after = outcome(evidence, {**gate, name: int(raised) if name == "min_rows" else raised})
    assert not (before == "fail" and after == "pass")


LEAD = st.floats(-0.1, 0.1)
COMPARED = st.fixed_dictionaries(
    {
        "champion": LEAD,
        "log_loss": LEAD,
        "slice": LEAD,
        "slice auc": UNIT,
        "baseline": LEAD,
        "p99_ms": st.floats(0, 200),
        "memory_mb": st.floats(0, 2000),
        "difference": st.floats(0, 2e-5),
    }
)
STRICTER = st.fixed_dictionaries(
    {
        "champion": st.floats(0, 0.1),
        "slice": st.floats(0, 0.1),
        "least": UNIT,
        "baseline": st.floats(0, 0.1),
        "p99_ms": st.floats(1, 200),
        "memory_mb": st.floats(1, 2000),
        "tolerance": st.floats(1e-9, 2e-5),
        "judge": st.sampled_from(["point", "interval"]),
        "beats": st.sampled_from(["tie", "point", "interval"]),
    }
)


def compared_evidence(drawn: dict[str, float]) -> Evidence:
    """Everything that is judged besides the plain metrics, as drawn."""
    return replace(
        GOOD,
        champion={
            "auc": estimate(drawn["champion"], 0.01),
            "log_loss": estimate(drawn["log_loss"], 0.01),
        },
        slices=slices(auc=drawn["slice auc"], lead=drawn["slice"]),
        baselines={**GOOD.baselines, "logistic regression": estimate(drawn["baseline"], 0.01)},
        rehearsal=replace(
            REHEARSED, **{name: drawn[name] for name in ("p99_ms", "memory_mb", "difference")}
        ),
    )


def compared_gate(drawn: dict[str, Any]) -> dict[str, Any]:
    margin, mode = drawn["champion"], drawn["judge"]
    return {
        **GATE,
        "champion": {"margins": {"auc": margin, "log_loss": margin}, "judge": mode},
        "slices": {
            "columns": ["colour"],
            "least": {"auc": {"min": drawn["least"]}},
            "margins": {"auc": drawn["slice"]},
            "judge": mode,
        },
        "baseline": {"margin": drawn["baseline"], "judge": drawn["beats"]},
        "rehearsal": {name: drawn[name] for name in ("p99_ms", "memory_mb", "tolerance")},
    }


@settings(max_examples=300, deadline=None)
@given(COMPARED, STRICTER, st.sampled_from(["champion", "slice", "least", "baseline"]), UNIT)
def test_a_stricter_comparison_never_turns_a_fail_into_a_pass(drawn, gate, name, share) -> None:
    evidence = compared_evidence(drawn)
    # A smaller margin is stricter, and so is a higher bar.
    strict = gate[name] * share if name in ("champion", "slice") else gate[name] + share
    stricter = {**gate, name: min(strict, 1.0)}
    before = outcome(evidence, compared_gate(gate))
    assert not (before == "fail" and outcome(evidence, compared_gate(stricter)) == "pass")


@settings(max_examples=300, deadline=None)
@given(
    COMPARED, STRICTER, st.sampled_from(["p99_ms", "memory_mb", "tolerance"]), st.floats(0.01, 1)
)
def test_a_smaller_budget_never_turns_a_fail_into_a_pass(drawn, gate, name, share) -> None:
    evidence = compared_evidence(drawn)
    before = outcome(evidence, compared_gate(gate))
    after = outcome(evidence, compared_gate({**gate, name: gate[name] * share}))
    assert not (before == "fail" and after == "pass")


@settings(max_examples=300, deadline=None)
@given(COMPARED, STRICTER, st.data())
def test_worsening_what_is_compared_never_turns_a_fail_into_a_pass(drawn, gate, data) -> None:
    name = data.draw(st.sampled_from(sorted(drawn)))
    by = data.draw(st.floats(0, 1))
    higher = name in ("champion", "slice", "slice auc", "baseline")
    worse = {**drawn, name: drawn[name] - by if higher else drawn[name] + by}
    settings_ = compared_gate(gate)
    before = outcome(compared_evidence(drawn), settings_)
    assert not (before == "fail" and outcome(compared_evidence(worse), settings_) == "pass")


@settings(max_examples=200, deadline=None)
@given(ANY_METRICS, GATES, st.sampled_from([*HIGHER, "calibration_error"]), st.floats(0, 1))
def test_worsening_a_gated_metric_never_turns_a_fail_into_a_pass(measured, gate, name, by) -> None:
    # The alarm on a result that is too good is not about bad metrics: it is set aside here.
    gate = {**gate, "leak": {"acknowledged": "drawn by a machine"}}
    evidence = replace(GOOD, metrics=measured)
    sign = -1 if name in HIGHER else 1
    old = measured[name]
    worse = Estimate(
        value=old.value + sign * by, low=old.low + sign * by, high=old.high + sign * by, rows=5000
    )
    before = outcome(evidence, gate)
    after = outcome(replace(evidence, metrics={**measured, name: worse}), gate)
    assert not (before == "fail" and after == "pass")


@settings(max_examples=100, deadline=None)
@given(ANY_METRICS, GATES, st.randoms())
def test_the_order_of_rules_and_slices_does_not_matter(measured, gate, random) -> None:
    gate = {**gate, **SLICED}
    evidence = replace(GOOD, metrics=measured, slices=slices())
    results = list(judge(evidence, GateConfig.model_validate(gate)))
    parts, keys = list(evidence.slices), list(gate)
    random.shuffle(parts)
    random.shuffle(keys)
    other = judge(
        replace(evidence, slices=tuple(parts)),
        GateConfig.model_validate({key: gate[key] for key in keys}),
    )
    assert {r.name: r for r in results} == {r.name: r for r in other}
    random.shuffle(results)
    assert decide(results) == decide(other)


def numbers(part: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every number within the evidence."""
    if isinstance(part, float):
        return [place]
    if is_dataclass(part):
        return [p for f in fields(part) for p in numbers(getattr(part, f.name), (*place, f.name))]
    if isinstance(part, dict):
        return [p for name, value in part.items() for p in numbers(value, (*place, name))]
    if isinstance(part, tuple):
        return [p for i, value in enumerate(part) for p in numbers(value, (*place, i))]
    return []


def exchanged(part: Any, place: tuple[Any, ...], new: Any) -> Any:
    """The evidence with another value in one place."""
    if not place:
        return new
    first, rest = place[0], place[1:]
    if is_dataclass(part):
        return replace(part, **{first: exchanged(getattr(part, first), rest, new)})
    if isinstance(part, dict):
        return {**part, first: exchanged(part[first], rest, new)}
    return tuple(exchanged(v, rest, new) if i == first else v for i, v in enumerate(part))


FULL = replace(GOOD, champion={"auc": estimate(0.0, 0.005)}, slices=slices())
FULL_NUMBERS = replace(GOOD_NUMBERS, champion={"r2": estimate(0.0, 0.005)})
PLACES = numbers(FULL)
EVERYWHERE = [
    pytest.param(full, place, id=".".join(map(str, (full.label.kind, *place))))
    for full in (FULL, FULL_NUMBERS)
    for place in numbers(full)
]


def test_the_full_evidence_passes_and_has_every_kind_of_number() -> None:
    assert outcome(FULL, {**GATE, **SLICED}) == "pass"
    assert len(PLACES) > 50
    assert {place[0] for place in PLACES} == {
        "label",
        "metrics",
        "champion",
        "slices",
        "baselines",
        "shuffled",
        "features",
        "rehearsal",
    }


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize(("full", "place"), EVERYWHERE)
def test_anything_that_is_not_finite_fails_wherever_it_stands(
    full: Evidence, place: Any, bad: float
) -> None:
    settings_ = {**GATE, **SLICED} if full is FULL else GATE
    results = judge(exchanged(full, place, bad), GateConfig.model_validate(settings_))
    assert decide(results) == "fail"
    (sound,) = [result for result in results if result.name == "sound measurement"]
    assert f"evidence.{'.'.join(map(str, place))} is {bad}." in sound.reason
    # Nobody can override what was not measured.
    assert override_for(results, "Ada", "pilot")[0] is None


# Overrides.


def failing(**change: Any) -> tuple[RuleResult, ...]:
    return judge(replace(GOOD, **change), GateConfig.model_validate(GATE))


@dataclass(frozen=True)
class OverrideCase:
    """Who wants to override which refusal, and whether that is possible."""

    name: str
    evidence: dict[str, Any]
    approver: str = "Ada Lovelace"
    reason: str = "the holiday traffic is not typical"
    applied: bool = False
    word: str = ""


OVERRIDES = [
    OverrideCase(
        "a threshold", metrics(accuracy=estimate(0.5)), applied=True, word="Ada Lovelace overrode"
    ),
    OverrideCase(
        "an unreadable champion",
        {"champion_problem": "gone"},
        applied=True,
        word="overrode the gate",
    ),
    OverrideCase(
        "too few rows",
        {"rows": 900, "expected_rows": 900, "class_rows": (600, 300)},
        applied=True,
        word="overrode",
    ),
    OverrideCase(
        "a slow predictor",
        {"rehearsal": replace(REHEARSED, p99_ms=500.0)},
        applied=True,
        word="overrode",
    ),
    OverrideCase("a leak", {"features": {"a": 0.999}}, applied=True, word="overrode"),
    OverrideCase("nobody", metrics(accuracy=estimate(0.5)), approver="", reason=""),
    OverrideCase("no name", metrics(accuracy=estimate(0.5)), approver=" ", word="needs both"),
    OverrideCase("no reason", metrics(accuracy=estimate(0.5)), reason=" ", word="needs both"),
    OverrideCase("not needed", {}, word="passed without it"),
    OverrideCase(
        "a NaN",
        metrics(accuracy=Estimate(value=NAN)),
        word="cannot cover these rules, so it was not applied: sound measurement, accuracy",
    ),
    OverrideCase("a feature's NaN", {"features": {"a": NAN}}, word="cannot cover"),
    OverrideCase(
        "a truncated table", {"rows": 4000, "class_rows": (2500, 1500)}, word="cannot cover"
    ),
    OverrideCase(
        "a predictor that does not start",
        {"rehearsal": replace(REHEARSED, problems=("no",))},
        word="cannot cover",
    ),
    OverrideCase(
        "a predictor that answers wrongly",
        {"rehearsal": replace(REHEARSED, difference=0.1)},
        word="cannot cover",
    ),
    OverrideCase(
        "one of two",
        {**metrics(f1=estimate(0.1)), "rows": 4000, "class_rows": (2500, 1500)},
        word="cannot cover",
    ),
]


@pytest.mark.parametrize("case", OVERRIDES, ids=lambda case: case.name)
def test_override(case: OverrideCase) -> None:
    override, word = override_for(failing(**case.evidence), case.approver, case.reason)
    assert (override is not None) == case.applied
    assert case.word in word
    assert bool(word) == bool(case.word)
    if override:
        assert override.approver == case.approver
        assert override.reason == case.reason


def test_reasons_name_the_value_and_the_threshold() -> None:
    results = {r.name: r for r in failing(**metrics(accuracy=estimate(0.5)))}
    assert results["accuracy"].reason == "Accuracy is below 0.75: 0.5."
    assert results["auc"].reason == "AUC is at least 0.75: 0.77."
    assert results["calibration_error"].reason == "Calibration error is at most 0.1: 0.03."
    assert results["test rows"].reason == "Test rows: 5,000 of at least 1,000."


if __name__ == "__main__":
    VERDICTS.write_text(every_verdict())
