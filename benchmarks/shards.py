"""Ingest and validate in 1, 4 and 16 shards: CPU and memory of each task, and the same files as one task.

The tables are those of data_growth. Every task runs alone, one after another, in a process of its own, as
a pod would: `longest` is what its stage takes with a machine for each shard, without the pods' start.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from benchmarks.data_growth import INGEST, VALIDATE, WRITE, schema
from benchmarks.harness import Row, report, run_python

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


def longest(tasks: list[Task], of: int, unit: str) -> float:
    """What a stage takes from end to end with a machine for each shard."""
    if len(tasks) == 1:
        return tasks[0][unit]
    shards = tasks[-1 - of : -1]
    others = [each for each in tasks if each not in shards]
    return max(each[unit] for each in shards) + sum(each[unit] for each in others)


def main() -> None:
    """Measures each size by one task and in shards."""
    sizes = tuple(int(text) for text in sys.argv[1:] if text.isdigit()) or MILLIONS
    shutil.rmtree(FOLDER, ignore_errors=True)
    rows = []
    for millions in sizes:
        folder = lay_out(millions)
        whole = measure_whole(folder, millions)
        for of in SHARDS:
            made = measure_shards(folder, of)
            for stage, tasks in made.items():
                shards = tasks[-1 - of : -1]
                what = f"{stage}, {millions} M × 21, {of} shards"
                merge = {"merge_cpu_s": tasks[-1]["cpu_s"], "merge_peak_mb": tasks[-1]["peak_mb"]}
                plan = {"plan_cpu_s": tasks[0]["cpu_s"]} if stage == "ingest" else {}
                cpu = sum(each["cpu_s"] for each in tasks), whole[stage][0]["cpu_s"]
                path = longest(tasks, of, "cpu_s"), whole[stage][0]["cpu_s"]
                peak = [max(each["peak_mb"] for each in shards)], [whole[stage][0]["peak_mb"]]
                rows += [
                    Row(what, "one task", "CPU s of all", [cpu[0]], [cpu[1]], extra=merge | plan),
                    Row(what, "one task", "CPU s, longest", [path[0]], [path[1]]),
                    Row(what, "one task", "peak MB a shard", *peak),
                ]
        shutil.rmtree(folder)
    report("shards", rows)


if __name__ == "__main__":
    main()
