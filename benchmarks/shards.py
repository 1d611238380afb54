"""Ingest, validate and monitor in 1, 4 and 16 shards: CPU and memory of each task, and one task's result.

The tables are those of data_growth. The log is that of drift with a label for every row; its pieces have
262,144 rows, so 10⁶ rows have at most four shards. Monitoring is measured without MLflow, skew and pages.
Every task runs alone, one after another, in a process of its own, as a pod would: `longest` is what its
stage takes with a machine for each shard, without the pods' start.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks import drift
from benchmarks.data_growth import INGEST, VALIDATE, WRITE, schema
from benchmarks.harness import Row, report, run_python
from slipway.components.contracts.dataset import Manifest, TableWriter, write_manifest

FOLDER = Path("build/bench/shards")
MILLIONS = (1, 10)
SHARDS = (1, 4, 16)

_SHARED = """
import json, sys
from pathlib import Path
from slipway.components.contracts.shards import Shard
from slipway.components.support.files import hash_directory
folder, index, of = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
config = {"tables": {"t": {"path": "t", "time": "time"}}}
given = {"config": config, "data_root": str(folder / "lake")}
parts = lambda stage: [folder / f"{stage}-{i}" for i in range(of)]
shard = Shard(moment="2025-01-01T00:00:00Z", index=index, of=of).text
def same(made, whole):
    assert hash_directory(folder / made) == hash_directory(folder / whole), made
"""
PLAN = f"""{_SHARED}
from slipway.components.ingest.shards import plan_ingest
window = {{"window_start": "2024-01-01", "window_end": "2024-02-01"}}
plan = plan_ingest(**given, **window, plan=folder / "plan", shards=of)
assert plan.count == of, plan.count
"""
INGEST_SHARD = f"""{_SHARED}
from slipway.components.ingest.shards import ingest_shard
ingest_shard(**given, plan=folder / "plan", shard=shard, part=folder / f"ingest-{{index}}")
"""
MERGE_DATASET = f"""{_SHARED}
from slipway.components.ingest.shards import merge_dataset
merge_dataset(plan=folder / "plan", parts=parts("ingest"), dataset=folder / "merged", shards=of)
"""
VALIDATE_SHARD = f"""{_SHARED}
from slipway.components.validate.shards import validate_shard
validate_shard(dataset=folder / "dataset", schema=json.loads(sys.argv[4]), shard=shard,
               part=folder / f"validate-{{index}}")
"""
MERGE_VALIDATED = f"""{_SHARED}
from slipway.components.validate.shards import merge_validated
merge_validated(parts=parts("validate"), good=folder / "good-merged", quarantine=folder / "q-merged",
                report=folder / "r-merged.html", results=folder / "r-merged.json")
"""
CHECK = f"""{_SHARED}
for made, whole in (("merged", "dataset"), ("good-merged", "good"), ("q-merged", "q")):
    same(made, whole)
"""

_WATCH = f"""{_SHARED}
import os
from dataclasses import asdict
from slipway.components.config.data import parse_window
from slipway.components.config.features.features import FeaturesConfig
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.monitor import reference, shards
from slipway.components.monitor.measures import window_measures
from slipway.components.monitor.measures.scan import LogReader
from slipway.components.monitor.window import open_window
released = reference.read_reference(folder / "reference", "1", "train")
for module in (reference, window_measures):
    module.fetch_reference = lambda *_: released
os.environ["MONITORING_URI"] = str(folder / "history")
log, window = str(folder / "log"), parse_window("{drift.START:%Y-%m-%d}", "2026-01-02")
settings, features = {{"skew_rows": 0}}, json.loads(sys.argv[4])
def watch(reader, name):
    series = window_measures.MeasuredSeries(
        model="bench", series="bench", log_uri=log, labels=folder / "labels",
        features=FeaturesConfig.parse(features, "features"))
    found = window_measures.measure_window(
        series, reader, MonitoringConfig.parse(settings, "monitoring"))
    version = found.version
    content = [found.versions, asdict(found.system), version.performance.to_dict(),
               asdict(version.drift.result), version.scan.sample.to_pydict(),
               {{n: sketch.to_dict() for n, sketch in version.scan.sketches.items()}}]
    (folder / name).write_text(json.dumps(content))
"""
MONITOR = f"""{_WATCH}
watch(LogReader(open_window(log, "bench", window)), "monitored.json")
"""
PLAN_MONITORING = f"""{_WATCH}
shards.plan_monitoring(project="bench", config=settings, window=window, log_uri=log,
                       plan=folder / "plan", shards=of)
"""
MONITOR_SHARD = f"""{_WATCH}
text = shards.MonitoringPlan.read(folder / "plan/plan.json").shards[index]
shards.monitor_shard(project="bench", config=settings, features=features, log_uri=log,
                     plan=folder / "plan", shard=text, part=folder / f"monitor-{{index}}")
"""
MERGE_MONITORING = f"""{_WATCH}
plan = shards.MonitoringPlan.read(folder / "plan/plan.json")
found = [(p, shards.ShardFindings.read(p / "shard.json")) for p in parts("monitor")]
watch(shards.ShardsReader(plan.open(log, "bench"), plan, found), "merged.json")
assert (folder / "merged.json").read_text() == (folder / "monitored.json").read_text()
"""
FEATURES = {
    "entities": {"key": "key"},
    "examples": {"table": "t", "key": "key", "time": "time"},
    "label": {"column": "y"},
    "split": {"validation": "1d", "test": "1d"},
    "views": [
        {"name": "v", "entity": "key", "table": "t", "time": "time", "fields": {"x00": "x00"}}
    ],
}

Task = dict[str, float]


def lay_out(millions: int) -> Path:
    """A lake of so many million rows, in a folder of its own."""
    folder = FOLDER / str(millions)
    first = folder / "lake" / "t" / "part=0" / "rows.parquet"
    run_python(WRITE, str(first))
    for number in range(1, millions):
        other = first.parent.with_name(f"part={number}") / first.name
        other.parent.mkdir()
        os.link(first, other)
    return folder


def measure_whole(folder: Path, millions: int) -> dict[str, list[Task]]:
    """Ingest and validate by one task each."""
    rows = str(millions * 1_000_000)
    return {
        "ingest": [run_python(INGEST, str(folder), rows)],
        "validate": [run_python(VALIDATE, str(folder), rows, json.dumps(schema()))],
    }


def measure_shards(folder: Path, of: int) -> dict[str, list[Task]]:
    """Each stage's plan (ingest only), shards and merge, in that order; the files are one task's."""

    def task(code: str, index: int = 0) -> Task:
        return run_python(code, str(folder), str(index), str(of), json.dumps(schema()))

    measured = {
        "ingest": [task(PLAN), *(task(INGEST_SHARD, i) for i in range(of)), task(MERGE_DATASET)],
        "validate": [*(task(VALIDATE_SHARD, i) for i in range(of)), task(MERGE_VALIDATED)],
    }
    task(CHECK)
    for made in (*folder.glob("ingest-*"), *folder.glob("validate-*"), *folder.glob("*merged*")):
        shutil.rmtree(made) if made.is_dir() else made.unlink()
    return measured


def lay_out_log(millions: int) -> Path:
    """A log of so many million rows, its reference, and a label for each row."""
    folder, rows = FOLDER / f"log-{millions}", millions * 1_000_000
    drift.write_log(folder, rows)
    draw = np.random.default_rng(0)
    known = pa.table(
        {
            "key": pa.array(np.arange(rows)).cast(pa.string()),
            "time": pa.repeat(pa.scalar(drift.START, pa.timestamp("us", "UTC")), rows),
            "y": draw.integers(0, 2, rows),
        }
    )
    writer = TableWriter(folder / "labels", "t", known.schema, time="time")
    for batch in known.to_batches():
        writer.write(batch)
    write_manifest(
        folder / "labels", Manifest(tables={"t": writer.close()}, window=None, content_hash="")
    )
    return folder


def measure_monitoring(folder: Path, of: int) -> list[Task]:
    """Monitoring in shards: its plan, its shards and its merge; what they find is one task's."""

    def task(code: str, index: int = 0) -> Task:
        return run_python(code, str(folder), str(index), str(of), json.dumps(FEATURES))

    return [
        task(PLAN_MONITORING),
        *(task(MONITOR_SHARD, index) for index in range(of)),
        task(MERGE_MONITORING),
    ]


def longest(tasks: list[Task], of: int, unit: str) -> float:
    """What a stage takes from end to end with a machine for each shard."""
    if len(tasks) == 1:
        return tasks[0][unit]
    shards = tasks[-1 - of : -1]
    others = [each for each in tasks if each not in shards]
    return max(each[unit] for each in shards) + sum(each[unit] for each in others)


def rows_of(stage: str, millions: int, tasks: list[Task], of: int, whole: Task) -> list[Row]:
    """What a stage in shards takes, beside one task."""
    shards = tasks[-1 - of : -1]
    what = f"{stage}, {millions} M × 21, {of} shards"
    merge = {"merge_cpu_s": tasks[-1]["cpu_s"], "merge_peak_mb": tasks[-1]["peak_mb"]}
    plan = {"plan_cpu_s": tasks[0]["cpu_s"]} if len(tasks) > of + 1 else {}
    cpu = sum(each["cpu_s"] for each in tasks), whole["cpu_s"]
    path = longest(tasks, of, "cpu_s"), whole["cpu_s"]
    peak = [max(each["peak_mb"] for each in shards)], [whole["peak_mb"]]
    return [
        Row(what, "one task", "CPU s of all", [cpu[0]], [cpu[1]], extra=merge | plan),
        Row(what, "one task", "CPU s, longest", [path[0]], [path[1]]),
        Row(what, "one task", "peak MB a shard", *peak),
    ]


def main() -> None:
    """Measures each size by one task and in shards; `monitor` among the arguments: that alone."""
    sizes = tuple(int(text) for text in sys.argv[1:] if text.isdigit()) or MILLIONS
    shutil.rmtree(FOLDER, ignore_errors=True)
    rows = []
    for millions in sizes:
        if "monitor" not in sys.argv:
            folder = lay_out(millions)
            whole = measure_whole(folder, millions)
            for of in SHARDS:
                for stage, tasks in measure_shards(folder, of).items():
                    rows += rows_of(stage, millions, tasks, of, whole[stage][0])
            shutil.rmtree(folder)
        folder = lay_out_log(millions)
        alone = run_python(MONITOR, str(folder), "0", "1", json.dumps(FEATURES))
        for of in [of for of in SHARDS if of <= 4 * millions]:
            rows += rows_of("monitor", millions, measure_monitoring(folder, of), of, alone)
        shutil.rmtree(folder)
    report("shards", rows)


if __name__ == "__main__":
    main()
