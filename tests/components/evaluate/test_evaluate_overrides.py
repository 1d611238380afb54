"""Who can override which refusal of the gate, and what a reason says."""

import pytest
from support.gate_cases.evidence import estimate, metrics
from support.gate_cases.overrides import OVERRIDES, OverrideCase, failing

from slipway.components.evaluate.gate.rules import override_for


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
