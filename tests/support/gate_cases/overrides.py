"""Cases of overrides: who wants to override which refusal of the gate."""

from dataclasses import dataclass, replace
from typing import Any

from slipway.components.config.gate import GateConfig
from slipway.components.contracts.verdict import RuleResult
from slipway.components.evaluate.gate.rules import judge
from slipway.components.evaluate.measures.measured import Estimate
from support.gate_cases.evidence import GATE, GOOD, NAN, REHEARSED, estimate, metrics


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
