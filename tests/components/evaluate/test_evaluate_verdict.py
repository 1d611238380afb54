"""The verdict as a file: what is read back, and what every later stage refuses."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from slipway.components.contracts.verdict import (
    Override,
    RuleResult,
    Verdict,
    check_verdict,
    override_holds,
    read_verdict,
    write_verdict,
)
from slipway.components.support.errors import SlipwayError

PASSED = RuleResult(
    name="auc",
    metric="auc",
    outcome="pass",
    reason="AUC is at least 0.7: 0.8.",
    threshold=0.7,
    value=0.8,
    low=0.78,
    high=0.82,
    rows=5000,
    overridable=True,
)
FAILED = replace(
    PASSED, name="f1", metric="f1", outcome="fail", reason="F1 is below 0.9: 0.6.", value=0.6
)
FIXED = replace(FAILED, name="sound measurement", overridable=False, reason="3 rows are missing.")
PASS = Verdict(
    outcome="pass",
    rules=(PASSED,),
    metrics={"accuracy": 0.76, "f1": 0.6, "auc": 0.8},
    thresholds={"f1": 0.5, "auc": 0.7},
    model_hash="a" * 64,
    data_hash="d" * 64,
    test_rows=5000,
)
FAIL = replace(PASS, outcome="fail", rules=(PASSED, FAILED))
ADA = Override(approver="Ada", reason="pilot")


@dataclass(frozen=True)
class Case:
    """A verdict, a change of its JSON, and the error that reading it must give (empty: none)."""

    name: str
    verdict: Verdict = PASS
    change: Callable[[dict[str, Any]], Any] = lambda content: None
    error: str = ""


def rule(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["rules"][0].update(values)


UNSOUND = "says pass, but its rules do not. The model is refused."
MAYBE = 'rules[0].outcome is "maybe", and must be pass or fail.'
CASES = [
    Case("a pass"),
    Case("a fail", FAIL),
    Case("a fail without a value", replace(FAIL, rules=(replace(FAILED, value=None),))),
    Case("a fail without rules", replace(FAIL, rules=())),
    Case("a fail with a metric that is missing", replace(FAIL, metrics={"auc": None})),
    Case("a pass with an override", replace(FAIL, outcome="pass", override=ADA)),
    Case("a rule without an interval", change=rule(low=None, high=None)),
    Case("a rule without a threshold", change=rule(threshold=None)),
    Case("written before there were overrides", change=lambda c: c.pop("override")),
    Case("pass without rules", replace(PASS, rules=()), error=UNSOUND),
    Case("pass with a failed rule", replace(PASS, rules=(PASSED, FAILED)), error=UNSOUND),
    Case("pass with a rule of another outcome", change=rule(outcome="maybe"), error=MAYBE),
    Case("pass without a value", change=rule(value=None), error=UNSOUND),
    *(
        Case(
            f"{name} is {value!r}",
            change=rule(**{name: value}),
            error=f"rules[0].{name} is {json.dumps(value)}, and must be a finite number.",
        )
        for name in ("value", "low", "high", "threshold")
        for value in (float("nan"), float("inf"), float("-inf"), "0.9", True)
    ),
    Case(
        "a metric is NaN",
        change=lambda c: c["metrics"].update(recall=float("nan")),
        error="metrics.recall is NaN, and must be a finite number. Evaluate the model again.",
    ),
    Case("a metric is missing", change=lambda c: c["metrics"].update(auc=None), error=UNSOUND),
    Case("an override of nothing", replace(PASS, override=ADA), error=UNSOUND),
    Case(
        "an override of a pass that has no value",
        replace(FAIL, outcome="pass", override=ADA),
        rule(value=None),
        UNSOUND,
    ),
    Case(
        "an override with a metric that is missing",
        replace(FAIL, outcome="pass", override=ADA, metrics={"auc": None}),
        error=UNSOUND,
    ),
    Case(
        "an override by nobody",
        replace(FAIL, outcome="pass", override=replace(ADA, approver=" ")),
        error=UNSOUND,
    ),
    Case(
        "an override without a reason",
        replace(FAIL, outcome="pass", override=replace(ADA, reason="")),
        error=UNSOUND,
    ),
    Case(
        "an override of what nobody may override",
        replace(FAIL, outcome="pass", rules=(PASSED, FAILED, FIXED), override=ADA),
        error=UNSOUND,
    ),
    Case(
        "overridable is a text",
        replace(FAIL, outcome="pass", override=ADA),
        lambda c: c["rules"][1].update(overridable="false"),
        'rules[1].overridable is "false", and must be true or false.',
    ),
    Case(
        "another version",
        replace(PASS, version=2),
        error="has layout version 2; this release reads 1.",
    ),
    Case(
        "an outcome of its own",
        change=lambda c: c.update(outcome="maybe"),
        error='outcome is "maybe", and must be pass or fail.',
    ),
    Case("no rules at all", change=lambda c: c.pop("rules"), error="the field rules is missing"),
    Case("no hash", change=lambda c: c.pop("model_hash"), error="the field model_hash is missing"),
    Case("an unknown key", change=lambda c: c.update(more=1), error="knows no field more"),
    Case(
        "a half key", change=lambda c: c["rules"][0].pop("name"), error="rules[0].name is missing"
    ),
    Case(
        "rows are a share",
        change=lambda c: c.update(test_rows=0.5),
        error="test_rows is 0.5, and must be a whole number.",
    ),
    Case(
        "rules of another kind",
        change=lambda c: c.update(rules=[1]),
        error="rules[0] is 1, and must be an object.",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_reading(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    content = json.loads(json.dumps(asdict(case.verdict)))
    case.change(content)
    path.write_text(json.dumps(content))
    if case.error:
        with pytest.raises(SlipwayError) as error:
            read_verdict(path)
        assert str(error.value).startswith(str(path))
        assert case.error in str(error.value)
    else:
        found = read_verdict(path)
        assert found.outcome == case.verdict.outcome
        assert found.override == case.verdict.override
        assert [result.name for result in found.rules] == [r.name for r in case.verdict.rules]


@pytest.mark.parametrize("verdict", [PASS, FAIL, replace(FAIL, outcome="pass", override=ADA)])
def test_what_is_written_is_read_back(verdict: Verdict, tmp_path: Path) -> None:
    write_verdict(tmp_path / "verdict.json", verdict)
    assert read_verdict(tmp_path / "verdict.json") == verdict


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"pass"'])
def test_a_damaged_file_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text(text)
    with pytest.raises(SlipwayError, match=r"verdict\.json is damaged"):
        read_verdict(tmp_path / "verdict.json")
    with pytest.raises(SlipwayError, match=r"holds no verdict: it has no nothing\.json"):
        read_verdict(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("rules", "override", "holds"),
    [
        ((PASSED, FAILED), ADA, True),
        ((FAILED, replace(FAILED, name="auc")), ADA, True),
        ((PASSED,), ADA, False),
        ((), ADA, False),
        ((FAILED, FIXED), ADA, False),
        ((FAILED,), Override(approver="", reason="pilot"), False),
        ((FAILED,), Override(approver="Ada", reason="\n"), False),
    ],
)
def test_what_an_override_covers(rules: Any, override: Override, holds: bool) -> None:
    assert override_holds(rules, override) is holds


def test_check_lets_only_this_model_and_these_data_through() -> None:
    check_verdict(PASS, "a" * 64, "d" * 64)
    twice = replace(FAIL, rules=(FAILED, FIXED))
    for verdict, model, data, message in (
        (
            twice,
            "a" * 64,
            "d" * 64,
            "The gate refused this model: F1 is below 0.9: 0.6. 3 rows are missing.",
        ),
        (
            PASS,
            "b" * 64,
            "d" * 64,
            "The verdict is about a model with the hash aaaaaaaaaaaa, but this bundle has bbbbbbbbbbbb:"
            " it was changed after it was evaluated, or it is another one. Evaluate this bundle.",
        ),
        (
            PASS,
            "a" * 64,
            "e" * 64,
            "The verdict was reached on data with the hash dddddddddddd, but these splits have"
            " eeeeeeeeeeee. Evaluate the bundle on them.",
        ),
    ):
        with pytest.raises(SlipwayError) as error:
            check_verdict(verdict, model, data)
        assert str(error.value) == message


def test_reasons_and_headline() -> None:
    assert PASS.reasons == []
    assert FAIL.reasons == ["F1 is below 0.9: 0.6."]
    assert PASS.headline == "pass: F1 0.6000, AUC 0.8000"
    assert replace(PASS, metrics={"auc": None}).headline == "pass: AUC —"
    overridden = replace(FAIL, outcome="pass", override=ADA)
    assert overridden.headline == "pass (overridden by Ada): F1 0.6000, AUC 0.8000"
