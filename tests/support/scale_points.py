"""What grows beside a table's rows, far beyond what a project has: seconds and memory of each.

python -m support.scale_points [NAME]      from the folder tests/
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

START = datetime(2025, 1, 1, tzinfo=UTC)
ROWS = 4_000_000
ROOT = Path(__file__).resolve().parents[2]


def schedules(count: int) -> str:
    """`slipway schedule` with so many recurring runs: made, looked at again, and each changed."""
    from slipway.cluster.api import Kubeflow
    from slipway.cluster.connection import Connection
    from slipway.cluster.schedules import Wanted, reconcile
    from slipway.cluster.upload import upload
    from slipway.components.config.orchestration import Schedule
    from slipway.pipelines.package import read_package
    from support import kfp_double

    with kfp_double.serve(kfp_double.Double()) as double:
        kubeflow = Kubeflow(Connection.of(host=double.url))
        uploaded = upload(kubeflow, read_package(ROOT / "compiled" / "flights-monitoring.yaml"))
        told = []
        for hour in (0, 0, 1):
            wanted = [
                Wanted(
                    project="shop",
                    name=f"s{number}",
                    schedule=Schedule(pipeline="monitoring", cron=f"{number % 60} {hour} * * *"),
                    pipeline_id=uploaded.pipeline_id,
                    version_id=uploaded.version_id,
                    version=uploaded.version,
                    arguments={},
                )
                for number in range(count)
            ]
            before, begun = kubeflow.api.calls, time.process_time()
            steps = reconcile(kubeflow, "shop", wanted)
            told.append(
                f"{len(steps)} steps, {kubeflow.api.calls - before} calls,"
                f" {time.process_time() - begun:.1f} CPU s with the server's"
            )
    return "; again: ".join(told)


def history(windows: int) -> str:
    """A monitoring run's use of so many hourly windows with 50 features before it."""
    from slipway.components.config.data import Window
    from slipway.components.contracts.monitoring.monitoring_record import (
        MLSystemMetrics,
        MonitoringRecord,
    )
    from slipway.components.monitor import history
    from slipway.components.monitor.measures.sketch import NumericSketch

    chance = np.random.default_rng(1)
    sketches: dict[str, Any] = {}
    for number in range(50):
        sketches[f"f{number}"] = NumericSketch.empty(np.linspace(-3, 3, 65))
        sketches[f"f{number}"].add(chance.normal(size=2_000))
    with tempfile.TemporaryDirectory() as root:
        for number in range(windows):
            start = START + timedelta(hours=number)
            ends = tuple(f"{t:%Y-%m-%dT%H:%M:%SZ}" for t in (start, start + timedelta(hours=1)))
            numbers = dict.fromkeys(MLSystemMetrics.__slots__, 0.5)
            metrics = MLSystemMetrics(**{**numbers, "timestamp": ends[1], "model_version": "1"})  # type: ignore[arg-type]
            record = MonitoringRecord(
                model="shop",
                window=(ends[0], ends[1]),
                metrics=metrics,
                drift_status="stable",
                summary={"total_predictions": 2_000},
                alerts=(),
                retrain=False,
                details={
                    "features": {
                        name: {"drifted": False, "verdict": "stable", "score": 0.1}
                        for name in sketches
                    }
                },
            )
            history.append(root, record)
            history.append_sketches(root, "shop", record.window, "1", sketches)
        now = START + timedelta(hours=windows)
        window = Window(start=now, end=now + timedelta(hours=1))
        told = []
        for name, work in {
            "30 last windows": lambda: history.records(
                root, "shop", after=now - timedelta(hours=30)
            ),
            "status": lambda: history.latest(root),
            "28 days of sketches": lambda: history.merged_sketches(
                root, "shop", "1", window, timedelta(days=28)
            ),
        }.items():
            begun = time.process_time()
            work()
            told.append(f"{name} {time.process_time() - begun:.1f} CPU s")
        size = sum(path.stat().st_size for path in Path(root).rglob("*") if path.is_file())
    return f"{', '.join(told)}; {size / 1e6:.0f} MB kept"


def columns(count: int) -> str:
    """A project of one table with so many columns: read, checked and compiled."""
    import json

    import yaml

    from slipway.components.config.project import load_project
    from slipway.pipelines.compiler import compile_project
    from support.small_job import project

    names = [f"column_{number}" for number in range(count)]
    content = project("s3://lake", 8080)
    content["features"]["views"][0]["fields"] = {name: name for name in names}
    schema = {"tables": {"orders": {"properties": {n: {"type": "number"} for n in names}}}}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "project.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        (Path(folder) / "schema.json").write_text(json.dumps(schema))
        begun = time.process_time()
        loaded = load_project(Path(folder))
        read = time.process_time() - begun
        begun = time.process_time()
        compile_project(loaded, Path(folder) / "out")
        made = time.process_time() - begun
    return f"read and checked in {read:.1f} CPU s, compiled in {made:.1f}"


def categories(count: int) -> str:
    """A column with so many values in 4 M rows: monitoring's sketch of it, and the model's vocabulary."""
    import pyarrow as pa

    from slipway.components.monitor.measures.sketch import CategorySketch
    from slipway.components.train.model.preprocess import vocabulary

    chance, told = np.random.default_rng(1), []
    codes = chance.integers(0, count, ROWS)
    sketch, seen = CategorySketch(), 0.0
    counts: dict[str, int] = {}
    for part in np.array_split(codes, 40):
        values = pa.array([f"customer-{code}" for code in part.tolist()])
        begun = time.process_time()
        sketch.add(values)
        seen += time.process_time() - begun
        for entry in values.value_counts():
            value = entry["values"].as_py()
            counts[value] = counts.get(value, 0) + entry["counts"].as_py()
    told.append(f"sketch {seen:.1f} CPU s, {len(sketch.counts):,} values kept")
    begun = time.process_time()
    kept = vocabulary(counts, least=2, most=10_000)
    told.append(f"vocabulary {time.process_time() - begun:.1f} CPU s, {len(kept):,} values kept")
    return "; ".join(told)


def log_rows(count: int) -> str:
    """Monitoring's scan of a day's log of so many rows × 20 features: 2 M rows, linked."""
    from unittest.mock import patch

    from benchmarks import drift
    from benchmarks.harness import run_python

    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(drift, "LOG_ROWS", 2_000_000),
        patch.object(drift, "FILES", 4),
    ):
        drift.write_log(Path(folder))
        for file in list(Path(folder, "log").rglob("*.parquet")):
            for number in range(1, count // 2_000_000):
                file.with_name(f"{number}-{file.name}").hardlink_to(file)
        day = (drift.START, drift.START + timedelta(days=1))
        used = run_python(drift.SCAN, folder, *(t.isoformat() for t in day), str(count))
    return f"{used['cpu_s']:.1f} CPU s, {used['peak_mb']:.0f} MB"


POINTS: dict[str, tuple[Callable[[int], str], tuple[int, ...]]] = {
    "schedules": (schedules, (50, 500)),
    "history": (history, (744, 8_760)),
    "columns": (columns, (200, 2_000)),
    "categories": (categories, (10_000, 1_000_000)),
    "log rows": (log_rows, (10_000_000, 100_000_000)),
}


def _work(name: str, size: int) -> None:
    told = POINTS[name][0](size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name} {size:,}: {told}; peak {peak:.0f} MB", flush=True)


def main(arguments: list[str]) -> int:
    """Each point in a process of its own, so that its memory is its own."""
    context, code = multiprocessing.get_context("spawn"), 0
    for name in arguments or POINTS:
        for size in POINTS[name][1]:
            process = context.Process(target=_work, args=(name, size))
            process.start()
            process.join()
            code = code or process.exitcode or 0
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
