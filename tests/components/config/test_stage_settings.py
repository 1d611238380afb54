"""A setting that is wrong where it enters a stage: named with its value, in no library's words."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.components.config.data import parse_window
from slipway.components.deploy.deploy import deploy_model
from slipway.components.evaluate.evaluate import EvaluationTask, evaluate_model
from slipway.components.features.backfill import backfill_features
from slipway.components.features.features import build_features
from slipway.components.features.look_up import look_up_features
from slipway.components.ingest.ingest import ingest_tables
from slipway.components.monitor.alerting.failure import report_end
from slipway.components.monitor.monitor import MonitoringTask, monitor_window
from slipway.components.support.errors import SlipwayError
from slipway.components.train.train import TrainingTask, train_model

ROOT = Path(__file__).parents[3]
NOWHERE = Path("nowhere")
DAY = ("2013-01-01T00:00:00Z", "2013-01-02T00:00:00Z")


def train(config: dict[str, Any], **given: Any) -> None:
    values: dict[str, Any] = {"seed": 0, "epochs": 0, "learning_rate": 0.0} | given
    train_model(
        TrainingTask(
            splits=NOWHERE,
            project="toy",
            config=config,
            gpus="0",
            allow_cpu=False,
            bundle=NOWHERE,
            report=NOWHERE,
            **values,
        )
    )


def monitor(config: dict[str, Any], features: dict[str, Any]) -> None:
    monitor_window(
        MonitoringTask(
            labels_path=NOWHERE,
            project="toy",
            config=config,
            features=features,
            window=parse_window(*DAY),
            endpoint="",
            record_path=NOWHERE,
            report_path=NOWHERE,
        )
    )


def ingest(config: dict[str, Any]) -> None:
    ingest_tables(
        config=config, data_root="", window_start=DAY[0], window_end=DAY[1], output=NOWHERE
    )


def evaluate(config: dict[str, Any]) -> None:
    evaluate_model(
        EvaluationTask(
            bundle_path=NOWHERE,
            splits_path=NOWHERE,
            project="toy",
            config=config,
            verdict_path=NOWHERE,
            card_path=NOWHERE,
        )
    )


def deploy(config: dict[str, Any]) -> None:
    deploy_model(
        release=NOWHERE,
        verdict=NOWHERE,
        splits=NOWHERE,
        project="toy",
        config=config,
        deployment=NOWHERE,
    )


def end(config: dict[str, Any]) -> None:
    report_end(project="toy", config=config, pipeline="p", run="r", state="FAILED", error="")


BAD_VIEWS = {"views": 3}
CASES: dict[str, tuple[Callable[[], object], list[str]]] = {
    "epochs from the UI": (lambda: train({}, epochs=-1), ["training.epochs", "-1", "at least 1"]),
    "a word for a number": (lambda: train({"threads": "two"}), ["training.threads", "'two'"]),
    "a key with a typo": (lambda: train({"patiense": 3}), ["training.patiense", "patience"]),
    "gate": (lambda: evaluate({"confidence": 2.0}), ["gate.confidence", "2"]),
    "deploy": (lambda: deploy({"replicas": "many"}), ["deployment.replicas", "'many'"]),
    "ingest": (lambda: ingest({"tables": {"t": {"path": 1}}}), ["data.tables.t.path", "a text"]),
    "features": (lambda: build_features(NOWHERE, "toy", BAD_VIEWS, NOWHERE), ["features.views"]),
    "look up": (
        lambda: look_up_features(
            dataset=NOWHERE,
            project="toy",
            config=BAD_VIEWS,
            window=parse_window(*DAY),
            output=NOWHERE,
        ),
        ["features.views", "3"],
    ),
    "backfill": (
        lambda: backfill_features(
            dataset=NOWHERE,
            project="toy",
            config=BAD_VIEWS,
            window=parse_window(*DAY),
            online=False,
            record=NOWHERE,
        ),
        ["features.views", "3"],
    ),
    "monitor": (lambda: monitor({"min_rows": -5}, {}), ["monitoring.min_rows", "-5"]),
    "alert routes": (lambda: end({"routes": "slack"}), ["monitoring.routes", "'slack'"]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_message_names_the_setting_and_its_value(name: str) -> None:
    call, words = CASES[name]
    with pytest.raises(SlipwayError) as raised:
        call()
    message = str(raised.value)
    for word in words:
        assert word in message, message
    for foreign in ("pydantic", "validation error", "Input should", "type=", "Traceback"):
        assert foreign not in message


def test_no_stage_reads_a_section_in_another_way() -> None:
    """Section.parse turns the library's error into ours; model_validate would let it through."""
    found = []
    for path in sorted((ROOT / "components").rglob("*.py")):
        if path.parts[-2] == "config":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "model_validate":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found
