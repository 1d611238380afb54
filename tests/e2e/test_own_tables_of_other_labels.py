"""From a csv to a served and monitored model: several classes, and a number, without a time."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.own_tables import earners
from support.small_job import free_port
from support.small_project import Project

from slipway.components.config.kinds import metric_name


def ask(project: Project, name: str, row: dict[str, Any]) -> dict[str, Any]:
    """One row, over the V1 protocol."""
    url = f"http://127.0.0.1:{project.port}/v1/models/{name}:predict"
    request = urllib.request.Request(
        url, json.dumps({"instances": [row]}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        content: dict[str, Any] = json.loads(answer.read())["predictions"][0]
    return content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "other", "metric"), [("segment", "spend", "accuracy"), ("spend", "segment", "r2")]
)
def test_a_csv_becomes_a_served_and_monitored_model(
    label: str, other: str, metric: str, tmp_path: Path
) -> None:
    project = Project(folder=tmp_path, port=free_port())
    earners().drop(other).write_csv(tmp_path / "customers.csv")
    printed = project.slipway("init", "customers.csv", "--label", label)
    assert ("multiclass" if label == "segment" else "number") in printed
    try:
        screen = project.run()
        summary = project.summary()
        assert summary["verdict"] == "pass", screen
        assert re.search(rf"^  [✓+] {metric_name(metric)} ", screen, re.MULTILINE), screen
        assert "at least None" not in screen
        assert summary["metrics"][metric] >= summary["thresholds"][metric]
        monitoring = summary["monitoring"]["summary"]
        assert monitoring["labelled"] == monitoring["total_predictions"] > 500
        row = {"income": 60_000.0, "city": "Oslo"}
        answer = ask(project, "customers", row)
        if label == "segment":
            assert answer["label"] == "gold"
            assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
            # What was measured at the gate is what the same rows' requests give.
            assert monitoring["current_accuracy"] == pytest.approx(summary["metrics"]["accuracy"])
        else:
            assert answer["low"] <= answer["value"] <= answer["high"]
            assert answer["value"] > 100
            assert monitoring["r2"] == pytest.approx(summary["metrics"]["r2"], abs=1e-6)
            assert 0.8 <= monitoring["coverage"] <= 1
            assert monitoring["expected_rmse"] == pytest.approx(monitoring["rmse"], rel=0.3)
    finally:
        project.slipway("stop")
