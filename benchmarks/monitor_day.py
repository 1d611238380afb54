"""Monitoring a day of 10⁶ predictions: the compiled pipeline, from late labels to report and decision."""

import os
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.harness import FOLDER, Row, cpu_seconds, report
from slipway.commands.console.runs import Display
from slipway.components.config.base import format_instant
from slipway.components.config.project import load_project
from slipway.components.contracts.bundle import read_bundle
from slipway.components.contracts.monitoring.inference_log import FEATURE_PREFIX, log_schema
from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
from slipway.components.contracts.rows.scoring import open_model, predict
from slipway.components.contracts.splits import TIME, part_file, read_splits
from slipway.components.deploy.local.target import stop
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.metrics.labels import reaches_threshold
from slipway.local.job import Job, RunResult, monitor, train
from slipway.local.workspace import Workspace
from slipway.serving.log.store import LogStore

PREDICTIONS, TIMES = 1_000_000, 3
DAY = (datetime(2013, 12, 10, 5, tzinfo=UTC), datetime(2013, 12, 11, 5, tzinfo=UTC))
FILE_ROWS = PREDICTIONS // 1440
LAKE = Path("build/lake")
EXAMPLE = Path("examples/flights")
CHANGES = {"training.epochs": "1", "deployment.port": "8094", "gate.accuracy": "0.6",
           "gate.f1": "0.3", "gate.auc": "0.6", "monitoring.label_wait": "1d"}  # fmt: skip


def many(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    """The rows again and again, PREDICTIONS in all, each copy with a key of its own.

    The view that a flight itself is the entity of does not know the copies: SKEW fires, as it should.
    """
    copies = -(-PREDICTIONS // rows.height)
    picked = np.tile(np.arange(rows.height), copies)[:PREDICTIONS]
    copy = pl.Series(np.repeat(np.arange(copies), rows.height)[:PREDICTIONS])
    return rows[picked].with_columns(
        pl.concat_str(pl.col(key), pl.lit("#"), copy.cast(pl.String)).alias(key)
    )


def prepare(job: Job) -> tuple[RunResult, Path]:
    """A released model behind an endpoint, the log of the day, and the lake with the day's labels."""
    training, result = train(job)
    if result.deployment is None or result.release is None:
        sys.exit(f"The gate refused the model: {result.verdict and result.verdict.reasons}")
    folder, bundle_folder = (
        Path(training.output(*which)) for which in (("features", "splits"), ("train", "bundle"))
    )
    splits, bundle = read_splits(folder), read_bundle(bundle_folder)
    lead = timedelta(seconds=splits.lead_seconds)
    rows = (
        pl.read_parquet(part_file(folder, "test"))
        .filter(pl.col(TIME) - lead >= DAY[0], pl.col(TIME) - lead < DAY[1])
        .sort(TIME)
    )
    lake = job.workspace.root / "lake"
    shutil.rmtree(lake, ignore_errors=True)
    (lake / "flights").mkdir(parents=True)
    for table in ("weather", "planes"):
        (lake / table).symlink_to((LAKE / table).resolve())
    known = pl.read_parquet(LAKE / "flights" / "*.parquet").join(
        rows.select(splits.key), on=splits.key, how="semi"
    )
    many(known, splits.key).write_parquet(lake / "flights" / "day.parquet", row_group_size=1 << 17)

    probability = predict(open_model(bundle_folder), bundle, rows.to_arrow())
    answered = rows.with_columns(_probability=pl.Series(np.asarray(probability, np.float64)))
    write_log(job, result, many(answered, splits.key).sort(TIME), bundle.threshold)
    return result, lake


def write_log(job: Job, result: RunResult, rows: pl.DataFrame, threshold: float) -> None:
    """The day's log as the predictor writes it."""
    assert result.deployment and result.release
    model, uri = result.deployment.name, job.workspace.settings()["INFERENCE_LOG_URI"]
    shutil.rmtree(Path(uri) / model, ignore_errors=True)
    splits = read_splits(Path(_output(result, "features", "splits")))
    schema = log_schema(splits.features, label_type("binary").columns())
    lead = timedelta(seconds=splits.lead_seconds)
    draw = np.random.default_rng(1)
    rows = rows.select(
        request_id=pl.int_range(pl.len()).cast(pl.String),
        row=pl.lit(0),
        key=pl.col(splits.key),
        time=pl.col(TIME) - lead,
        served_at=pl.col(TIME) - lead,
        model_version=pl.lit(result.release.model_version),
        status=pl.lit(200),
        probability=pl.col("_probability"),
        label=reaches_threshold(rows["_probability"].to_numpy(), threshold),
        latency_ms=pl.Series(draw.gamma(4, 1, rows.height)),
        **{FEATURE_PREFIX + f.name: pl.col(f.name) for f in splits.features},
    )
    store = LogStore(uri)
    # One predictor closes a file a minute. These flights leave at fewer moments than there are minutes.
    for start in range(0, rows.height, FILE_ROWS):
        table = rows.slice(start, FILE_ROWS).to_arrow()
        columns = [table[field.name].cast(field.type) for field in schema]
        batches = pa.table(columns, schema=schema).to_batches()
        store.write(model, f"{start:08d}", batches, FOLDER)


def _output(result: RunResult, task: str, name: str) -> str:
    return next(t for t in result.tasks if t.name == task).outputs[name]


def main() -> None:
    """Runs the monitoring pipeline on the day, and checks what it found."""
    from rich.console import Console

    os.environ.setdefault("OMP_NUM_THREADS", "2")
    workspace = Workspace.at(FOLDER / "monitor_day")
    display = Display(Console(stderr=True))
    job = Job(load_project(EXAMPLE, CHANGES), workspace, display)
    job.compile("training", "monitoring")
    try:
        measured(job)
    finally:
        stop(workspace.home)


def measured(job: Job) -> None:
    result, lake = prepare(job)
    assert result.deployment
    endpoint = result.deployment.endpoint
    changes = {**CHANGES, "data.root": str(lake)}
    day = Job(load_project(EXAMPLE, changes), job.workspace, job.display)
    window = (format_instant(DAY[0]), format_instant(DAY[1]))
    walls, cpus, records = [], [], []
    for _ in range(TIMES):
        started = time.perf_counter()
        cpus.append(cpu_seconds(lambda: records.append(monitor(day, window, endpoint)[1])))
        walls.append(time.perf_counter() - started)
        check(records[-1])
    what = "monitoring pipeline on a day of 10⁶ predictions × 53 features"
    found = {"alerts": [alert.name for alert in records[-1].alerts], **records[-1].summary}
    report(
        "monitor_day",
        [
            Row(what, "", "s", walls, reach="≤ 60", extra=found),
            Row(what, "", "CPU s", cpus),
        ],
    )


def check(record: MonitoringRecord) -> None:
    """That the run did all that a monitoring run does."""
    summary, details = record.summary, record.details
    assert summary["total_predictions"] == PREDICTIONS, summary
    assert summary["labelled"] > 0.9 * PREDICTIONS, summary
    assert record.metrics.model_accuracy is not None and summary["drifted_features"] is not None
    assert details["skew"]["rows"] > 0, details["skew"]
    assert details["sampled_rows"] > 0, "Evidently rendered nothing"
    assert "metrics" in details["endpoint"], details["endpoint"]


if __name__ == "__main__":
    main()
