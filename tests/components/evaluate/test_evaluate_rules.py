"""The gate's decision: a table of cases (`support/gate_cases`), and what no case is about."""

import math
from itertools import zip_longest
from pathlib import Path

import pytest
from support.gate_cases.evidence import (
    GATE,
    GOOD,
    Case,
)
from support.gate_cases.table import CASES, NAMED, every_verdict, verdict_of

from slipway.components.config.gate import GateConfig
from slipway.components.contracts.verdict import RuleResult
from slipway.components.evaluate.gate import rules
from slipway.components.evaluate.gate.rules import decide, judge
from slipway.components.evaluate.measures.measured import (
    Evidence,
)

VERDICTS = Path(__file__).parent / "verdicts.txt"


@pytest.mark.parametrize(("good", "case"), NAMED)
def test_verdict(good: Evidence, case: Case) -> None:
    results = verdict_of(good, case)
    failed = tuple(result.name for result in results if result.outcome != "pass")
    assert sorted(failed) == sorted(case.failed)
    assert decide(results) == ("fail" if case.failed else "pass")
    for result in results:
        if result.outcome == "pass":
            assert result.value is not None and math.isfinite(result.value), result


def test_every_verdict_word_for_word() -> None:
    """What every case comes to stands in verdicts.txt, so that a change of any shows in review.

    `PYTHONPATH=.:tests python tests/components/evaluate/test_evaluate_rules.py` rewrites the file.
    """
    written = VERDICTS.read_text().rstrip("\n").split("\n\n")
    for told, expected in zip_longest(every_verdict(), written):
        assert told == expected


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


if __name__ == "__main__":
    VERDICTS.write_text("\n\n".join(every_verdict()) + "\n")
