"""Advice: settings that do not fit what was measured are named with the value to set."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk
from support import gate_world as world

from slipway.components.config.gate import GateConfig
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.verdict import read_verdict
from slipway.components.evaluate.evaluate import EvaluationTask, evaluate_model
from slipway.components.evaluate.gate.advice import advise
from slipway.components.evaluate.gate.rules import bounds_of
from slipway.components.metrics.kinds.binary import BinaryLabel


@dataclass(frozen=True)
class Case:
    """400 positives of 1000; what is said of the settings, as beginnings of the sentences."""

    name: str
    gate: dict[str, Any] = field(default_factory=dict)
    monitoring: dict[str, Any] | None = field(default_factory=dict)
    accuracy: float | None = 0.9
    positives: int = 400
    told: tuple[str, ...] = ()


# Just above what constants reach: accuracy .6, F1 4/7, AUC .5.
ABOVE = {"accuracy": 0.6001, "f1": 0.5715, "auc": 0.5001}
LOW = {"alerts": {"accuracy": 0.85}}
CASES = [
    Case("nothing to say", ABOVE),
    Case("bounds that are left out on purpose", {**ABOVE, "accuracy": 0, "f1": 0}),
    Case(
        "accuracy at a constant's",
        {**ABOVE, "accuracy": 0.6},
        told=("gate.accuracy is 0.6, which always answering 0 reaches too, with 0.6000 on",),
    ),
    Case(
        "the other class is common",
        {**ABOVE, "accuracy": 0.6, "f1": 0.9},
        positives=600,
        told=("gate.accuracy is 0.6, which always answering 1 reaches too",),
    ),
    Case("F1 below a constant's", {**ABOVE, "f1": 0.57}, told=("gate.f1 is 0.57, which",)),
    Case("AUC of chance", {**ABOVE, "auc": 0.5}, told=("gate.auc is 0.5, which",)),
    Case(
        "metrics of one's own",
        {
            **ABOVE,
            "metrics": {
                "log_loss": {"max": 0.68},
                "brier": {"max": 0.2399},
                "precision": {"min": 0.4},
                "average_precision": {"min": 0.41},
                "recall": {"min": 0.9},
                "calibration_error": {"max": 0.05},
            },
        },
        told=("gate.metrics.log_loss is 0.68, which", "gate.metrics.precision is 0.4, which"),
    ),
    Case("an upper bound on accuracy says nothing", {**ABOVE, "metrics": {"auc": {"max": 0.9}}}),
    Case("rows of one class", {**ABOVE, "accuracy": 0.1}, positives=0),
    Case(
        "an alert that would fire at once",
        ABOVE,
        LOW,
        accuracy=0.7234,
        told=("monitoring.alerts.accuracy is 0.85, but this model has 0.7234",),
    ),
    Case("an alert that just would not", ABOVE, LOW, accuracy=0.85),
    Case(
        "an alert that is off",
        ABOVE,
        {**LOW, "rules": {"LOW_ACCURACY": {"enabled": False}}},
        accuracy=0.7,
    ),
    Case("a model that is not going to serve", ABOVE, None, accuracy=0.7),
    Case("an accuracy that could not be measured", ABOVE, LOW, accuracy=None),
]


LABEL = BinaryLabel(threshold=0.4)


def told_of(
    gate: dict[str, Any],
    monitoring: MonitoringConfig | None,
    accuracy: float | None,
    positives: int = 400,
) -> list[str]:
    settings = GateConfig.model_validate(gate)
    return advise(
        settings,
        monitoring,
        {"accuracy": accuracy},
        constants=LABEL.constants({"0": 1000 - positives, "1": positives}, {}),
        bounds=bounds_of(LABEL, settings),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_advice(case: Case) -> None:
    monitored = case.monitoring
    told = told_of(
        case.gate,
        None if monitored is None else MonitoringConfig.model_validate(monitored),
        case.accuracy,
        case.positives,
    )
    assert len(told) == len(case.told)
    for line, begins in zip(told, case.told, strict=True):
        assert line.startswith(begins)


def test_the_value_to_set_keeps_the_alert_quiet() -> None:
    for accuracy in (0.7234, 0.61, 0.8499, 0.02):
        (line,) = told_of(ABOVE, MonitoringConfig.model_validate(LOW), accuracy)
        value = float(line.partition("monitoring.alerts.accuracy to ")[2].partition(",")[0])
        assert value == pytest.approx(max(accuracy - 0.05, 0), abs=0.0101)
        again = MonitoringConfig.model_validate({"alerts": {"accuracy": value}})
        assert told_of(ABOVE, again, accuracy) == []


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.75])
def test_what_constants_reach_is_what_scikit_learn_measures(rate: float) -> None:
    label = (np.arange(1000) < 1000 * rate).astype(int)
    same, ones = np.full(1000, rate), np.ones(1000, int)
    expected = {
        "accuracy": max(sk.accuracy_score(label, ones), sk.accuracy_score(label, 1 - ones)),
        "f1": sk.f1_score(label, ones),
        "precision": sk.precision_score(label, ones),
        "auc": sk.roc_auc_score(label, same),
        "average_precision": sk.average_precision_score(label, same),
        "log_loss": sk.log_loss(label, same),
        "brier": sk.brier_score_loss(label, same),
    }
    found = LABEL.constants(LABEL.describe(label), {})
    assert {name: value for name, (value, _) in found.items()} == pytest.approx(expected)


def test_the_stage_says_it_in_the_verdict_and_on_the_card(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    result = evaluate_model(
        EvaluationTask(
            bundle_path=bundle,
            splits_path=splits,
            project="toy",
            config={
                "accuracy": 0.5,
                "f1": 0.6,
                "auc": 0.7,
                "resamples": 200,
                "rehearsal": {"enabled": False},
                "baseline": {"linear": False},
            },
            verdict_path=tmp_path / "verdict.json",
            card_path=tmp_path / "card.html",
            monitoring={"alerts": {"accuracy": 0.99}},
        )
    )
    assert result.outcome == "pass"
    constant, alert = read_verdict(tmp_path / "verdict.json").notes["advice"]
    rate = np.mean(world.make_part(6000, 30, 70, 3)["label"].to_numpy())
    assert (
        f"gate.accuracy is 0.5, which always answering 0 reaches too, with {1 - rate:.4f}"
        in constant
    )
    assert (
        f"monitoring.alerts.accuracy is 0.99, but this model has {result.metrics['accuracy']:.4f}"
        in alert
    )
    card = (tmp_path / "card.html").read_text()
    assert "Settings to look at" in card and "monitoring.alerts.accuracy is 0.99" in card
