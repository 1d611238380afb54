"""What the tests of register hand it: a verdict that passed, provenance, and a call."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway.components.contracts.bundle import bundle_hash
from slipway.components.contracts.release import Release
from slipway.components.contracts.verdict import RuleResult, Verdict, write_verdict
from slipway.components.register.evidence import Provenance, RegistrationInputs
from slipway.components.register.register import register_model

PASSED = RuleResult(
    name="auc", metric="auc", outcome="pass", reason="fine", threshold=0.7, value=0.8, rows=6000
)
FAILED = RuleResult(
    name="f1",
    metric="f1",
    outcome="fail",
    reason="F1 is below 0.5: 0.4.",
    threshold=0.5,
    value=0.4,
    rows=6000,
    overridable=True,
)


def passed(bundle: Path, **change: Any) -> Verdict:
    verdict = Verdict(
        outcome="pass",
        rules=(PASSED,),
        metrics={"accuracy": 0.76, "f1": 0.6, "auc": 0.8},
        thresholds={"accuracy": 0.7, "f1": 0.5, "auc": 0.7},
        model_hash=bundle_hash(bundle),
        data_hash="d" * 64,
        test_rows=6000,
        notes={
            "intervals": {"accuracy": [0.74, 0.78]},
            "champion": "none",
            "rehearsal": "200 rows, p99 2.0 ms",
            "seed": 3,
        },
    )
    return replace(verdict, **change)


PROVENANCE = Provenance(
    schema={"columns": {"a": {"type": "number"}}},
    features={"label": {"column": "late"}, "views": [{"name": "numbers"}]},
    images={"train": "registry/train@sha256:" + "1" * 64, "register": "slipway/register:0.1.0"},
)


def register(
    bundle: Path, verdict: Verdict, splits: Path, out: Path, pipeline_run: str = "run-17"
) -> Release:
    out.mkdir(exist_ok=True)
    write_verdict(out / "verdict.json", verdict)
    (out / "card.html").write_text("<!doctype html><title>card</title>")
    return register_model(
        RegistrationInputs(
            bundle_path=bundle,
            splits_path=splits,
            verdict_path=out / "verdict.json",
            card_path=out / "card.html",
            provenance=replace(PROVENANCE, pipeline_run=pipeline_run),
        ),
        project="toy",
        release_path=out / "release.json",
    )
