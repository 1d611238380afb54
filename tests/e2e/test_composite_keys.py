"""Rows that two columns name together, from csv to an endpoint that looks the pair up, and to scores.

The tests run in order: each goes on from what the one before left, as a user would.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from support.customers_world import write_project
from support.jobs import Job, free_port
from support.ratings_world import CONFIG, ratings

from slipway.components.contracts.splits import read_part, read_splits

KEY = ["user_id", "item_id"]


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    return ratings()


@pytest.fixture(scope="module")
def job(tables: dict[str, pl.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    folder = write_project(
        tmp_path_factory.mktemp("ratings") / "project",
        tables,
        CONFIG,
        project_name="ratings",
        deployment={"target": "local", "online": "predictor", "port": free_port()},
        monitoring={"alerts": {"accuracy": 0.6}},
    )
    settings = (
        "training.epochs=3",
        "training.members=1",
        "training.min_steps=300",
        "training.network.architecture=mlp",
    )
    made = Job(out=folder / "run", root=folder, settings=settings)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def first(job: Job) -> dict[str, Any]:
    job.run()
    return job.summary()


def test_the_run_ends_with_a_monitored_endpoint(job: Job, first: dict[str, Any]) -> None:
    assert (first["verdict"], first["error"]) == ("pass", None)
    (folder,) = (job.out / "pipelines").glob("ratings-training-*/features/splits")
    splits = read_splits(folder)
    assert (splits.key, splits.key_columns, splits.split.by) == ("row_id", tuple(KEY), "user_id")
    test = pl.DataFrame(read_part(folder, "test"))
    # Every row was asked under both columns, and its label was found by both.
    seen = first["monitoring"]["summary"]
    assert seen["total_predictions"] == seen["labelled"] == test.height
    assert seen["current_accuracy"] == pytest.approx(first["metrics"]["accuracy"], abs=1e-6)
    log = job.out / "inference_log" / "ratings" / "**" / "*.parquet"
    served = pl.read_parquet(log, hive_partitioning=False)
    assert sorted(served["key"]) == sorted(test["row_id"])


def test_a_pair_alone_is_enough_for_an_answer(
    job: Job, first: dict[str, Any], tables: dict[str, pl.DataFrame]
) -> None:
    """The values of the user, the item and the pair come from the online store."""
    job.batch("score", "--publish", str(job.out / "published"))
    files = (
        job.out / "published" / "ratings" / "data=*" / "version=1" / "ratings" / "*" / "*.parquet"
    )
    scored = pl.read_parquet(files, hive_partitioning=False)
    assert scored.height == tables["ratings"].height
    chosen = tables["ratings"].head(5)
    inputs = [
        {"name": "item_id", "shape": [5], "datatype": "BYTES", "data": chosen["item_id"].to_list()},
        {"name": "user_id", "shape": [5], "datatype": "INT64", "data": chosen["user_id"].to_list()},
    ]
    url = f"{first['endpoint']}/v2/models/ratings/infer"
    answer = httpx.post(url, json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    (probability,) = [o for o in answer.json()["outputs"] if o["name"] == "probability"]
    expected = dict(zip(scored["key"], scored["probability"], strict=True))
    for row, given in zip(chosen.iter_rows(named=True), probability["data"], strict=True):
        key = f"{row['user_id']}|{row['item_id'].replace('|', chr(92) + '|')}"
        assert given == pytest.approx(expected[key], abs=1e-6)
    half = httpx.post(url, json={"inputs": inputs[:1]})
    assert half.status_code == 400 and "lacks" in half.json()["error"]


def test_the_evidence_of_the_champion_holds(job: Job, first: dict[str, Any]) -> None:
    done = job.slipway("evidence", "ratings@champion")
    assert done.returncode == 0, done.stdout + done.stderr
    assert Path(first["reports"]["model card"]).is_file()
