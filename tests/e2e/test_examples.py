"""Each small example as a user has it: written by `slipway init --example`, run, gated, served, asked."""

import json
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from support.small_job import free_port
from support.small_project import Project

from slipway.components.contracts.bundle import read_bundle
from slipway.components.contracts.splits import read_splits

# Less to learn from, or quicker to learn; the gate's bounds of the project file stay what they are.
SMALL: dict[str, tuple[str, ...]] = {
    "digits": ("training.epochs=2", "training.min_steps=600", "training.trees.rounds=400"),
    "tumours": (),
    "airtime": (
        "data.window={start: 2013-05-01T04:00:00Z, end: 2013-06-01T04:00:00Z}",
        "features.split={validation: 4d, test: 5d, gap: 1d}",
        "training.model=trees",
        "training.trees.rounds=300",
        "training.trees.learning_rate=0.1",
    ),
    "departures": (
        "data.window={start: 2013-06-01T04:00:00Z, end: 2013-06-23T04:00:00Z}",
        "features.split={validation: 4d, test: 6d, gap: 1d}",
        "training.model=trees",
        "training.trees.rounds=300",
        "training.trees.learning_rate=0.1",
        # Three weeks say less of a flight's number than three months do.
        "gate.auc=0.6",
        "gate.calibration_error=0.2",
    ),
}


def ask(project: Project, name: str, columns: dict[str, Any]) -> dict[str, Any]:
    """One row over V2: output to its first value."""
    kinds = {int: "INT64", float: "FP64", str: "BYTES"}
    inputs = [
        {"name": column, "shape": [1], "datatype": kinds[type(value)], "data": [value]}
        for column, value in columns.items()
    ]
    url = f"http://127.0.0.1:{project.port}/v2/models/{name}/infer"
    answer = httpx.post(url, json={"inputs": inputs}, timeout=30)
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def output(project: Project, name: str, artifact: str) -> Path:
    """Where the only training left an artifact."""
    (found,) = (project.folder / "build/run/pipelines").glob(f"{name}-training-*/{artifact}")
    return found


def look_at_digits(project: Project, summary: dict[str, Any]) -> None:
    """The picture of a digit is asked; the answer is a class with its set."""
    row = pl.read_parquet(project.folder / "build/digits/digits.parquet").row(0, named=True)
    splits = read_splits(output(project, "digits", "features/splits"))
    assert (splits.key_columns, splits.windows) == ((), {})
    pixels = {f"r{r}c{c}": row[f"pixel_{r}_{c}"] for r in range(8) for c in range(8)}
    answer = ask(project, "digits", pixels)
    assert answer["label"] == [str(row["digit"])] and len(answer["probabilities"]) == 10
    assert str(row["digit"]) in json.loads(answer["set"][0])


def look_at_tumours(project: Project, summary: dict[str, Any]) -> None:
    """A miss costs ten false alarms, so the threshold lies low."""
    assert read_splits(output(project, "tumours", "features/splits")).windows == {}
    verdict = json.loads(output(project, "tumours", "evaluate/verdict").read_text())
    measured = {rule["name"]: rule["value"] for rule in verdict["rules"]}
    assert 0 < measured["expected_cost"] <= 0.3 and measured["class 1 recall"] >= 0.9
    signature = read_bundle(output(project, "tumours", "train/bundle"))
    assert signature.threshold < 0.5


def look_at_airtime(project: Project, summary: dict[str, Any]) -> None:
    """Nine flights in ten lie in the interval, which monitoring sees as the gate did."""
    seen = summary["monitoring"]["summary"]
    assert summary["metrics"]["rmse"] <= summary["thresholds"]["rmse"] == 10
    assert 0.85 <= summary["metrics"]["coverage"] <= 1 and 0.85 <= seen["coverage"] <= 1


def look_at_departures(project: Project, summary: dict[str, Any]) -> None:
    """The columns that name a flight, and its route's, are enough: the rest is looked up."""
    splits = read_splits(output(project, "departures", "features/splits"))
    assert splits.key_columns == ("carrier", "flight", "origin", "day")
    table = pl.read_parquet(project.folder / "build/departures/flights/2013-06.parquet")
    keys = table.filter(day="2013-06-20").select("carrier", "flight", "origin", "day", "dest")
    row = keys.row(0, named=True)
    answer = ask(project, "departures", row)
    assert 0 < answer["probability"][0] < 1


LOOKS = {
    "digits": look_at_digits,
    "tumours": look_at_tumours,
    "airtime": look_at_airtime,
    "departures": look_at_departures,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_an_example_passes_its_own_gate_and_serves(name: str, tmp_path: Path, lake: Path) -> None:
    if name == "airtime":
        (tmp_path / "build").mkdir()
        (tmp_path / "build/lake").symlink_to(lake)
    project = Project(folder=tmp_path, port=free_port())
    project.slipway("init", "--example", name)
    settings = (*SMALL[name], f"deployment.port={project.port}")
    try:
        screen = project.slipway("run", *(p for text in settings for p in ("--set", text)))
        summary = project.summary()
        assert (summary["verdict"], summary["error"]) == ("pass", None), screen
        seen = summary["monitoring"]["summary"]
        assert seen["labelled"] > 100
        LOOKS[name](project, summary)
    finally:
        project.slipway("stop")
