"""The table of the gate's cases, by the kind of label; `verdicts.txt` has what each comes to."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from slipway.components.config.gate import GateConfig
from slipway.components.contracts.verdict import RuleResult
from slipway.components.evaluate.gate.rules import judge, override_for
from slipway.components.evaluate.measures.measured import Evidence
from support.gate_cases.comparisons import COMPARISONS
from support.gate_cases.demands import DEMANDS
from support.gate_cases.evidence import GATE, GOOD, GOOD_CLASSES, GOOD_NUMBERS, Case
from support.gate_cases.numbers import NUMBER_CASES
from support.gate_cases.overrides import OVERRIDES, failing
from support.gate_cases.several_classes import CLASS_CASES
from support.gate_cases.thresholds import THRESHOLDS

CASES = [*THRESHOLDS, *COMPARISONS, *DEMANDS]


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


def every_verdict() -> Iterator[str]:
    """Each case's results as text: of the first all of them, of the others those that differ."""
    for kind, (good, cases) in KINDS.items():
        of_kind = "" if kind == "binary" else f"{kind}: "
        usual: set[str] = set()
        for case in cases:
            results = [as_line(result) for result in verdict_of(good, case)]
            shown = [line for line in results if line not in usual]
            yield "\n".join([f"# {of_kind}{case.name}", *shown])
            usual = usual or set(results)
    for override in OVERRIDES:
        applied, word = override_for(
            failing(**override.evidence), override.approver, override.reason
        )
        yield f"# override: {override.name}\n{applied is not None}: {word}"


def as_line(r: RuleResult) -> str:
    numbers = " ".join(str(number) for number in (r.threshold, r.value, r.low, r.high, r.rows))
    more = {True: " overridable", False: ""}[r.overridable]
    return f"{r.outcome} | {r.name} | {r.metric} | {numbers}{more} | {r.reason}"
