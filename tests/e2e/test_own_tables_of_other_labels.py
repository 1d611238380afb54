"""From a csv to a served and monitored model: several classes, and a number, without a time."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.small_job import free_port
from support.small_project import Project


def customers(rows: int = 3000) -> pl.DataFrame:
    """Customers whose segment and spending follow from what they earn and where they live."""
    rng = np.random.default_rng(0)
    income = rng.lognormal(10, 0.5, rows).round(2)
    city = rng.choice(["Rome", "Paris", "Oslo", "Bonn"], rows)
    rich = np.log(income) - 10 + 1.5 * (city == "Oslo") * (income > 20_000)
    spend = 50 + 30 * rich + rng.normal(0, np.where(city == "Rome", 15, 5))
    segment = np.array(["basic", "plus", "gold"])[
        np.digitize(rich + rng.normal(0, 0.3, rows), [0, 1])
    ]
    return pl.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(rows)],
            "income": income,
            "city": city,
            "segment": segment,
            "spend": spend.round(2),
        }
    )


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
    customers().drop(other).write_csv(tmp_path / "customers.csv")
    printed = project.slipway("init", "customers.csv", "--label", label)
    assert ("multiclass" if label == "segment" else "number") in printed
    try:
        screen = project.run()
        summary = project.summary()
        assert summary["verdict"] == "pass", screen
        assert re.search(rf"^  [✓+] {metric} ", screen, re.MULTILINE), screen
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
