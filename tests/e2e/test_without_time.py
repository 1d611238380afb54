"""From a csv of 3,000 customers without time to a served, monitored and scored model.

The tests run in order: each goes on from what the one before left, as a user would.
"""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import onnxruntime
import polars as pl
import pytest
from support.customers_world import CONFIG, customers, write_project
from support.jobs import Job, free_port

from slipway.components.contracts.bundle import ONNX, read_bundle
from slipway.components.contracts.splits import TIME, read_part, read_splits

ROWS = 3000


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    """Every twentieth customer has no label. A sex and a weight stand beside what the model sees."""
    made = customers(ROWS)
    unknown = pl.col("customer_id") % 20 == 0
    made["customers"] = made["customers"].with_columns(
        churned=pl.when(~unknown).then(pl.col("churned")),
        sex=pl.when(pl.col("customer_id") % 3 == 0).then(pl.lit("f")).otherwise(pl.lit("m")),
        stake=(pl.col("customer_id") % 4 + 1) / 2,
    )
    return made


def features() -> dict[str, Any]:
    made = deepcopy(CONFIG)
    made["examples"]["beside"] = ["sex", "stake"]
    made["label"]["costs"] = {1: {0: 2}}
    return made


@pytest.fixture(scope="module")
def job(tables: dict[str, pl.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    folder = write_project(
        tmp_path_factory.mktemp("customers") / "project",
        tables,
        features(),
        monitoring={"alerts": {"accuracy": 0.6}},
        training={"accelerator": {"count": 0}, "sample_weight": "stake"},
        gate={
            **{"accuracy": 0.5, "f1": 0.4, "auc": 0.7, "min_rows": 300},
            "fairness": [
                {"by": "sex", "measure": "selection_rate", "gap": 0.5, "min_rows": 50},
                {"by": "sex", "measure": "true_positive_rate", "gap": 0.5, "min_rows": 20},
            ],
            "classes": {"*": {"recall": 0.1}},
        },
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


def test_what_travels_beside_the_features_ends_at_the_gate(
    job: Job, first: dict[str, Any], tables: dict[str, pl.DataFrame]
) -> None:
    """The tables have it, the gate and monitoring compare by it; nothing that serves does."""
    splits = outputs(job, "training", "features", "splits")
    test = pl.DataFrame(read_part(splits, "test"))
    truth = tables["customers"].select("customer_id", sex_true="sex", stake_true="stake")
    joined = test.join(truth, on="customer_id", how="left", maintain_order="left")
    assert joined["sex"].equals(joined["sex_true"])
    assert joined["stake"].equals(joined["stake_true"])
    bundle = outputs(job, "training", "train", "bundle")
    signature = read_bundle(bundle)
    assert signature.costs == {"1": {"0": 2.0}} and signature.notes["threshold_rule"] == "cost"
    session = onnxruntime.InferenceSession(str(bundle / ONNX))
    widths = {node.name: node.shape[1] for node in session.get_inputs()}
    assert widths == {"numeric": len(signature.numeric), "categorical": 1}
    logged = pl.read_parquet(
        job.out / "inference_log" / "customers" / "**" / "*.parquet", hive_partitioning=False
    )
    names = [name.removeprefix("feature.") for name in logged.columns]
    stored = [
        name
        for path in (job.out / "feature_store" / "customers" / "tables").glob("*.parquet")
        for name in pl.read_parquet_schema(path)
    ]
    seen = {*names, *stored, *(feature.name for feature in signature.features)}
    assert {"age", "balance"} <= seen and not {"sex", "stake"} & seen
    for path in job.out.rglob("reference.parquet"):
        assert not {"sex", "stake"} & set(pl.read_parquet_schema(path))
    # What the gate compared is compared again, on the same rows.
    verdict = json.loads(outputs(job, "training", "evaluate", "verdict").read_text())
    released = verdict["notes"]["fairness"]
    rules = {rule["name"]: rule["outcome"] for rule in verdict["rules"]}
    assert rules["fairness sex true_positive_rate gap"] == "pass"
    assert {rules["class 0 recall"], rules["costs less than a constant"]} == {"pass"}
    record = json.loads(outputs(job, "monitoring", "monitor", "record").read_text())
    watched = record["details"]["fairness"]
    assert [one["status"] for one in watched] == ["holds", "holds"]
    assert watched[1]["gap"] == pytest.approx(released[1]["gap"], abs=1e-6)
    assert watched[1]["groups"].keys() == {"f", "m"}


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
    # All of a table without time are predicted: what is trained on, and a few that chance may tell apart.
    assert re.search(r"Drift: (the data is stable|\w+ of \d+ features changed)", done.stdout)


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
