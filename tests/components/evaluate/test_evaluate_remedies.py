"""A refusal ends with what to do: the rule, the value, the setting, and the likely causes."""

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from slipway.commands.console.runs import show_result
from slipway.components.config.gate import GateConfig
from slipway.components.contracts.verdict import RuleResult, read_verdict
from slipway.components.evaluate.evaluate import EvaluationTask, evaluate_model
from slipway.components.evaluate.gate.remedies import explain_failures, find_remedies
from slipway.components.evaluate.gate.rules import judge
from slipway.components.evaluate.measures.measured import (
    Estimate,
    Evidence,
    GroupEvidence,
    RehearsalEvidence,
)
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.binary import BinaryLabel
from slipway.components.metrics.kinds.multiclass import MulticlassLabel
from slipway.components.metrics.kinds.number import NumberLabel
from slipway.local.job import RunResult
from slipway.local.workspace import Workspace


def estimate(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, rows=5000)


GOOD = Evidence(
    rows=5000,
    expected_rows=5000,
    label=BinaryLabel(threshold=0.4),
    class_rows=(3500, 1500),
    metrics={
        "accuracy": estimate(0.8), "f1": estimate(0.6), "auc": estimate(0.77),
        "calibration_error": estimate(0.03, 0.01), "brier": estimate(0.15),
    },
    baselines={"majority class": estimate(0.27), "logistic regression": estimate(0.03)},
    shuffled=Estimate(value=0.501, low=0.46, high=0.54, rows=5000),
    features={"a": 0.7},
    rehearsal=RehearsalEvidence(rows=200, difference=1e-7, p99_ms=4.0, memory_mb=120.0),
)  # fmt: skip
GATE: dict[str, Any] = {"accuracy": 0.75, "f1": 0.5, "auc": 0.75}


def few_rows() -> GroupEvidence:
    """Two groups, one of which is too small."""
    groups = {name: replace(estimate(0.2), rows=rows) for name, rows in (("f", 9), ("m", 900))}
    return GroupEvidence(
        rule="fairness sex error", groups=groups, gap=estimate(0.0), ratio=estimate(1.0)
    )


def told(evidence: Evidence = GOOD, **gate: Any) -> list[str]:
    config = GateConfig.model_validate({**GATE, **gate})
    return find_remedies(judge(evidence, config), evidence, config)


@pytest.mark.parametrize(
    ("evidence", "gate", "expected"),
    [
        (
            GOOD,
            {"auc": 0.9},
            "AUC: 0.77, less than the 0.9 asked for (gate.auc). Most likely these features"
            " say too little of the"
            " label:"
            " a logistic regression on them has AUC 0.7400, this model 0.7700.",
        ),
        (
            GOOD,
            {"auc": 0.78},
            "AUC: 0.77, less than the 0.78 asked for (gate.auc). Most likely chance: on"
            " 5,000 test rows the interval is"
            " 0.75 to 0.79, which reaches the bound;",
        ),
        (
            GOOD,
            {"metrics": {"brier": {"max": 0.1}}},
            "Brier score: 0.15, more than the 0.1 allowed (gate.metrics.brier).",
        ),
        (
            GOOD,
            {"min_rows": 9000},
            "test rows: 5,000, less than the 9,000 asked for (gate.min_rows). Most likely"
            " the test part is too small for"
            " this table: make features.split.test longer. Or there are no more data yet: set"
            " gate.min_rows",
        ),
        (
            replace(GOOD, classes={"1": {"recall": estimate(0.4)}}),
            {"classes": {"1": {"recall": 0.5}}},
            "class 1 recall: 0.4, less than the 0.5 asked for (gate.classes). Most likely"
            " the class has few training"
            " rows",
        ),
        (
            GOOD,
            {"classes": {"1": {"recall": 0.5, "min_rows": 2000}}},
            "class 1 enough rows: 1,500, less than the 2,000 asked for (gate.classes"
            " min_rows). Most likely the class is"
            " rare",
        ),
        (
            GOOD,
            {"fairness": [{"by": "sex", "measure": "error", "gap": 0.1}]},
            "fairness sex error: not measured (gate.fairness). Most likely the test rows do not have the",
        ),
        (
            replace(GOOD, fairness=(few_rows(),)),
            {"fairness": [{"by": "sex", "measure": "error", "gap": 0.1}]},
            "fairness sex error f rows: 9, less than the 100 asked for (gate.fairness"
            " min_rows). Most likely the group"
            " is small",
        ),
        (
            GOOD,
            {"min_class_rows": 2000},
            "positives: 1,500, less than the 2,000 asked for (gate.min_class_rows).",
        ),
        (
            replace(GOOD, baselines={**GOOD.baselines, "logistic regression": estimate(-0.1)}),
            {},
            "beats logistic regression: a lead of -0.1, less than the 0 asked for"
            " (gate.baseline). Most likely the training rows",
        ),
        (
            replace(GOOD, features={"a": 0.999}),
            {},
            "too good to be true: 0.999, more than the 0.98 allowed (gate.leak). Most"
            " likely a feature is made of the"
            " label, or known only after it",
        ),
        (
            replace(GOOD, champion={"auc": estimate(-0.1)}),
            {},
            "champion AUC: a lead of -0.1, less than the -0.01 asked for (gate.champion.margins).",
        ),
        (
            replace(GOOD, problems=("A file is gone.",)),
            {},
            "sound measurement: 1, more than the 0 allowed (no setting",
        ),
        (
            replace(
                GOOD, rehearsal=RehearsalEvidence(rows=200, difference=0, p99_ms=400, memory_mb=9)
            ),
            {},
            "rehearsal p99_ms: 400, more than the 100 allowed (gate.rehearsal). Most likely"
            " this machine was busy",
        ),
    ],
)
def test_what_is_told(evidence: Evidence, gate: dict[str, Any], expected: str) -> None:
    (line,) = told(evidence, **gate)
    assert line.startswith(expected), line


def test_a_number_is_told_in_its_own_words() -> None:
    numbers = replace(
        GOOD,
        label=NumberLabel(level=0.9),
        validation_rows=1000,
        class_rows=(),
        metrics={"r2": estimate(0.5), "coverage": estimate(0.7, 0.01)},
        baselines={"mean": estimate(0.5), "linear regression": estimate(0.1)},
        told=0.8,
    )
    coverage, r2 = told(numbers, metrics={"r2": {"min": 0.6}})
    assert coverage.startswith(
        "coverage: 0.7, less than the 0.85 asked for (gate.coverage). Most likely the labels"
    )
    assert "a linear regression on them has R² 0.4000, this model 0.5000." in r2
    assert "(gate.metrics.r2)" in r2


def test_one_label_alone_in_the_test_part_is_told() -> None:
    """And not that the bundle was changed, or that a bound is too high: nothing compares there."""
    nothing = Estimate(value=None, rows=400)
    numbers = replace(
        GOOD,
        label=NumberLabel(level=0.9),
        validation_rows=1000,
        class_rows=(),
        metrics={"rmse": estimate(3.0), "r2": nothing, "coverage": estimate(0.9)},
        baselines={"mean": nothing, "linear regression": nothing},
        told=0.8,
    )
    classes = replace(GOOD, class_rows=(5000, 0), metrics={**GOOD.metrics, "auc": nothing})
    for evidence, gate in ((numbers, {"metrics": {"r2": {"min": 0.1}}}), (classes, {})):
        lines = [line for line in told(evidence, **gate) if "more rules failed" not in line]
        about = [line for line in lines if "not measured" in line or "sound" in line]
        assert len(about) >= 2, lines
        assert all("Most likely the test rows all have one label" in line for line in about), lines
        assert all("features.split.test" in line for line in about)


def test_a_model_that_passes_needs_none() -> None:
    assert told() == []


def test_the_settings_are_there() -> None:
    known = set(GateConfig.model_fields)
    lines = told(
        replace(
            GOOD, rows=4, class_rows=(2, 2), expected_rows=4, champion={"auc": estimate(-0.3)},
            baselines={}, shuffled=None, rehearsal=None,
        ),
        accuracy=0.99, f1=0.99,
    )  # fmt: skip
    assert len(lines) == 5
    assert re.fullmatch(r"\d+ more rules failed: the model card lists them\.", lines[-1])
    for line in lines[:-1]:
        for setting in re.findall(r"gate\.(\w+)", line):
            assert setting in known


def test_a_run_ends_with_it(tmp_path: Path, splits: Path, bundle: Path, registry: str) -> None:
    task = EvaluationTask(
        bundle_path=bundle,
        splits_path=splits,
        project="toy",
        config={"accuracy": 0.6, "f1": 0.5, "auc": 0.999, "rehearsal": {"enabled": False}},
        verdict_path=tmp_path / "verdict.json",
        card_path=tmp_path / "card.html",
    )
    evaluate_model(task)
    verdict = read_verdict(task.verdict_path)
    assert verdict.outcome == "fail"
    (line,) = verdict.notes["remedies"]
    assert line.startswith("AUC: 0.8")
    card = task.card_path.read_text()
    assert line.split("(gate.auc). ")[1] in card and "The setting: gate.auc." in card
    screen = StringIO()
    result = RunResult(project="toy", verdict=verdict)
    show_result(Console(file=screen, width=200), result, Workspace.at(tmp_path))
    lines = screen.getvalue().splitlines()
    assert lines[lines.index("What to do") + 1].strip() == line


@pytest.mark.parametrize(
    ("baseline", "way"),
    [
        ({}, "gate.baseline.linear: false leaves the comparison out"),
        ({"judge": "tie"}, "gate.baseline.linear: false leaves the comparison out"),
        ({"judge": "point"}, "gate.baseline.judge: tie lets an equal model pass"),
        ({"judge": "interval"}, "gate.baseline.judge: tie lets an equal model pass"),
        ({"margin": 0.01}, "a lower gate.baseline.margin asks for less"),
        ({"margin": 0.01, "judge": "point"}, "a lower gate.baseline.margin asks for less"),
    ],
)
def test_a_model_behind_a_regression_is_told_a_setting_that_is_not_set_yet(
    baseline: dict[str, Any], way: str
) -> None:
    behind = replace(GOOD, baselines={**GOOD.baselines, "logistic regression": estimate(-0.1)})
    (line,) = told(behind, baseline=baseline)
    assert line.endswith(f"{way}.")
    named = {"linear: false", "judge: tie", "baseline.margin"}
    assert [word for word in named if word in line] == [word for word in named if word in way]


OF_KIND = {
    "training.positive_weight": {"binary"},
    "training.class_weights": {"multiclass"},
    "training.interval": {"number"},
    "training.sets": {"multiclass"},
    "gate.accuracy": {"binary", "multiclass"},
    "gate.f1": {"binary", "multiclass"},
    "gate.auc": {"binary", "multiclass"},
    "gate.calibration_error": {"binary", "multiclass"},
    "gate.coverage": {"multiclass", "number"},
    "gate.classes": {"binary", "multiclass"},
    "gate.min_class_rows": {"binary", "multiclass"},
    "features.label.costs": {"binary", "multiclass"},
}
"""Settings that a project of another kind of label has no use for, or may not have."""
LABELS = (
    BinaryLabel(threshold=0.4),
    MulticlassLabel(classes=("ant", "bee", "cat"), level=0.9),
    NumberLabel(level=0.9),
)


@pytest.mark.parametrize("label", LABELS, ids=lambda label: label.kind)
def test_the_advice_names_only_what_the_kind_of_label_has(label: LabelType) -> None:
    """Each rule that can fail for a kind, in each of the ways that its setting lets it."""
    constant, fitted = label.baselines
    names = ["test rows", "effective rows", "sound measurement", "shuffled labels", "champion"]
    names += ["too good to be true", "rehearsal p99_ms", f"beats {constant}", f"beats {fitted}"]
    names += ["fairness sex error", "ranking queries", "ranking ndcg", f"slice dest a {label.lead}"]
    if label.kind != "number":
        names += ["class ant recall", "class ant enough rows", "costs less than a constant"]
    results = [(name, label.lead) for name in names] + [(m, m) for m in label.metrics]
    evidence = replace(GOOD, label=label, baselines={fitted: estimate(0.1)})
    lines = []
    for baseline in ({}, {"margin": 0.1}, {"judge": "point"}):
        config = GateConfig.model_validate({"baseline": baseline})
        for name, metric in results:
            failed = RuleResult(
                name=name, metric=metric, outcome="fail", reason="", value=0.5, threshold=0.6,
                low=0.4, high=0.7, rows=100,
            )  # fmt: skip
            lines += [one.text for one in explain_failures((failed,), evidence, config)]
    told = set(re.findall(r"\b(?:gate|training|features)(?:\.[a-z_0-9]+)+", " ".join(lines)))
    assert len(told) > 8
    for setting in told:
        assert label.kind in OF_KIND.get(setting, {label.kind}), setting
    other = {"binary": "linear regression", "multiclass": "linear", "number": "logistic"}
    assert other[label.kind] + " reg" not in " ".join(lines)
    assert "logistic:" not in " ".join(lines)


@pytest.mark.parametrize(
    ("explained", "outcome", "said"),
    [
        ({"paid": 0.99}, "fail", "The feature paid alone has R² 0.9900, which is too good"),
        ({"paid": 0.98}, "fail", "The feature paid alone has R² 0.9800, which is too good"),
        ({"paid": 0.97}, "pass", "The highest concordance is 0.9747, below 0.98"),
    ],
)
def test_a_noisy_copy_of_a_number_is_a_leak(
    explained: dict[str, float], outcome: str, said: str
) -> None:
    """Which a copy's order alone (.9747 here) does not show: `slipway init` leaves such a column out."""
    evidence = replace(
        GOOD, label=NumberLabel(level=0.9), told=0.9, features={"paid": 0.9747}, explained=explained
    )
    (found,) = [r for r in judge(evidence, GateConfig()) if r.name == "too good to be true"]
    assert found.outcome == outcome and found.reason.startswith(said)
    right = GateConfig.model_validate({"leak": {"acknowledged": "it is the meter's own"}})
    (found,) = [r for r in judge(evidence, right) if r.name == "too good to be true"]
    assert found.outcome == "pass"
    remedies = explain_failures(judge(evidence, GateConfig()), evidence, GateConfig())
    told = " ".join(remedy.text for remedy in remedies)
    assert ("gate.leak.acknowledged" in told) == (outcome == "fail")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((-0.03, -0.05, -0.02, -0.01), "a lead of -0.03, less than the -0.01 asked for"),
        (
            (-0.005, -0.05, 0.02, -0.01),
            "a lead of -0.005, whose lower bound -0.05 is less than the -0.01 asked for",
        ),
        ((0.0, -0.1, 0.1, 0.0), "a lead of 0, and more than that is asked for"),
    ],
)
def test_a_lead_that_is_too_small_never_reads_as_a_pass(
    found: tuple[float, float, float, float], said: str
) -> None:
    value, low, high, limit = found
    rule = RuleResult(
        name="champion r2", metric="r2", outcome="fail", reason="", value=value, low=low, high=high,
        threshold=limit, rows=500,
    )  # fmt: skip
    (remedy,) = explain_failures((rule,), GOOD, GateConfig())
    assert remedy.text.startswith(f"champion R²: {said} (gate.champion.margins).")
