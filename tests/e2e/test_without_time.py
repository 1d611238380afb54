"""From a csv of 3,000 customers without time to a served, monitored and scored model.

The tests run in order: each goes on from what the one before left, as a user would.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.customers_world import CONFIG, customers, write_project
from support.jobs import Job, free_port

from slipway.components.contracts.splits import TIME, read_part, read_splits

ROWS = 3000


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    """Every twentieth customer has no label."""
    made = customers(ROWS)
    unknown = pl.col("customer_id") % 20 == 0
    made["customers"] = made["customers"].with_columns(
        churned=pl.when(~unknown).then(pl.col("churned"))
    )
    return made


@pytest.fixture(scope="module")
def job(tables: dict[str, pl.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    folder = write_project(
        tmp_path_factory.mktemp("customers") / "project",
        tables,
        CONFIG,
        monitoring={"alerts": {"accuracy": 0.6}},
    )
    settings = (
        "training.epochs=3",
        "training.members=1",
        "training.min_steps=300",
        "training.network.architecture=mlp",
        f"deployment.port={free_port()}",
    )
    made = Job(out=folder / "run", root=folder, settings=settings)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def first(job: Job) -> dict[str, Any]:
    job.run()
    return job.summary()


def outputs(job: Job, pipeline: str, stage: str, name: str) -> Path:
    """Where the last run of a pipeline left an artifact."""
    return sorted((job.out / "pipelines").glob(f"customers-{pipeline}-*/{stage}/{name}"))[-1]


def test_the_run_ends_with_a_monitored_endpoint(
    job: Job, first: dict[str, Any], tables: dict[str, pl.DataFrame]
) -> None:
    assert (first["verdict"], first["error"]) == ("pass", None)
    assert {stage["status"] for stage in first["stages"]} == {"succeeded"}
    folder = outputs(job, "training", "features", "splits")
    splits = read_splits(folder)
    assert splits.windows == {} and splits.split.text == "by row, drawn with seed 0"
    test = pl.DataFrame(read_part(folder, "test"))
    assert TIME not in test.columns
    # All of the test part was asked, also those whose label nobody knows.
    asked = test.height + splits.unlabelled["test"]
    assert asked > 0.15 * ROWS
    seen = first["monitoring"]["summary"]
    assert seen["total_predictions"] == asked
    assert seen["labelled"] == test.height
    # What is monitored is what the gate measured, on the same rows.
    assert seen["current_accuracy"] == pytest.approx(first["metrics"]["accuracy"], abs=1e-6)
    assert first["monitoring"]["drift_status"] == "stable"


def test_the_card_says_how_rows_were_split(job: Job, first: dict[str, Any]) -> None:
    card = Path(first["reports"]["model card"]).read_text()
    assert "by row, drawn with seed 0" in card


def test_scoring_predicts_all_rows_as_the_endpoint_did(
    job: Job, first: dict[str, Any], tables: dict[str, pl.DataFrame]
) -> None:
    done = job.batch("score", "--publish", str(job.out / "published"))
    (folder,) = (job.out / "published" / "customers").glob("data=*/version=1")
    scored = pl.read_parquet(folder / "customers" / "*" / "*.parquet", hive_partitioning=False)
    assert sorted(map(int, scored["key"])) == sorted(tables["customers"]["customer_id"])
    served = pl.read_parquet(
        job.out / "inference_log" / "customers" / "**" / "*.parquet", hive_partitioning=False
    )
    both = served.join(scored, on="key", suffix=" scored", validate="1:1")
    assert both.height == served.height == first["monitoring"]["summary"]["total_predictions"]
    assert (both["probability"] - both["probability scored"]).abs().max() < 1e-6
    for name in (n for n in served.columns if n.startswith("feature.")):
        assert both[name].equals(both[f"{name} scored"], null_equal=True), name
    assert json.loads((folder / "predictions.json").read_text())["window"] is None
    assert "Drift: stable" in done.stdout


def test_a_window_of_rows_without_time_is_refused(job: Job, first: dict[str, Any]) -> None:
    for command in ("score", "backfill"):
        done = job.slipway(command, "--start", "7d")
        assert done.returncode != 0
        assert "the examples have no time" in done.stderr
    done = job.run("--traffic", "3d", check=False)
    assert done.returncode != 0 and "--traffic 3d: the examples have no time" in done.stderr


def test_a_window_of_the_endpoint_is_monitored_again(job: Job, first: dict[str, Any]) -> None:
    done = job.batch("monitor", "--start", "1d")
    seen = first["monitoring"]["summary"]["total_predictions"]
    assert f"{seen:,} predictions" in done.stdout


def test_backfill_leaves_the_same_values(job: Job, first: dict[str, Any]) -> None:
    tables = sorted((job.out / "feature_store" / "customers" / "tables").glob("*.parquet"))
    before = [pl.read_parquet(path) for path in tables]
    job.batch("backfill")
    for path, rows in zip(tables, before, strict=True):
        order = rows.columns[:1]
        assert pl.read_parquet(path).sort(order).equals(rows.sort(order), null_equal=True)
