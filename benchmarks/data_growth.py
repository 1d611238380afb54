"""Ingest and validate from 1 M to 50 M rows × 20 columns: time grows linearly, memory does not grow.

The lake is one file of a million rows in as many hive partitions as it takes (hard links), each read
and hashed as any other; the partition makes the key unique. About thirty rows of each million are
planted to fail, so that validate takes its longer way: no file can be copied as it is. Each stage runs in
a process of its own.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, report, run_python

FOLDER = Path("build/bench/growth")
MILLIONS = (1, 5, 20, 50)
BOUND_MB = 700

WRITE = """
import sys
from pathlib import Path
from benchmarks.data_growth import write_million
write_million(Path(sys.argv[1]))
"""
INGEST = """
import sys
from pathlib import Path
from slipway.components.ingest.ingest import ingest_tables
folder = Path(sys.argv[1])
result = ingest_tables(config={"tables": {"t": {"path": "t", "time": "time"}}},
                       data_root=str(folder / "lake"), window_start="2024-01-01",
                       window_end="2024-02-01", output=folder / "dataset")
assert result.rows == int(sys.argv[2]), result.rows
"""
VALIDATE = """
import json, sys
from pathlib import Path
from slipway.components.validate.validate import validate_dataset
folder = Path(sys.argv[1])
result = validate_dataset(dataset=folder / "dataset", schema=json.loads(sys.argv[3]),
                          good=folder / "good", quarantine=folder / "q",
                          report=folder / "r.html", results=folder / "r.json")
assert result.good.rows + result.quarantine.rows == int(sys.argv[2])
assert result.quarantine.rows
"""


def schema() -> dict[str, Any]:
    """Types, ranges, categories, a rule over columns and a key of two columns."""
    properties: dict[str, Any] = {
        "part": {"type": "integer"},
        "id": {"type": "integer", "minimum": 0},
        "time": {"type": "string", "format": "date-time", "formatMaximum": "now"},
    }
    properties |= {f"f{i}": {"type": ["number", "null"], "maximum": 900} for i in range(9)}
    properties["f9"] = {"type": ["number", "null"], "maximum": 400}
    properties |= {f"i{i}": {"type": "integer", "maximum": 1000} for i in range(4)}
    properties |= {f"s{i}": {"enum": ["red", "green", "blue", "black"]} for i in range(4)}
    return {
        "tables": {
            "t": {
                "properties": properties,
                "additionalProperties": False,
                "x-unique": [["part", "id"]],
                "x-rules": {"sum": {"rule": "f1 + f2 < 5000"}},
                "x-maxFailedFraction": 0.01,
            }
        }
    }


def write_million(path: Path) -> None:
    """Writes a million rows as another tool would: one file, row groups of a quarter of it."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, rows = np.random.default_rng(0), 1_000_000
    colours = np.array(["red", "green", "blue", "black"])
    start = 1_704_067_200_000_000
    columns: dict[str, Any] = {
        "id": pa.array(np.arange(rows)),
        "time": pa.array(start + np.arange(rows) * 1_000_000, pa.timestamp("us", "UTC")),
    }
    columns |= {
        f"f{i}": pa.array(rng.normal(0, 100, rows).round(3), mask=rng.random(rows) < 0.05)
        for i in range(10)
    }
    columns |= {f"i{i}": rng.integers(0, 1000, rows) for i in range(4)}
    columns |= {f"s{i}": colours[rng.integers(0, 4, rows)] for i in range(4)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=250_000)


def measure(millions: int) -> tuple[dict[str, float], dict[str, float]]:
    """CPU seconds and peak memory of ingest and of validate."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    first = FOLDER / "lake" / "t" / "part=0" / "rows.parquet"
    run_python(WRITE, str(first))
    for number in range(1, millions):
        other = first.parent.with_name(f"part={number}") / first.name
        other.parent.mkdir()
        os.link(first, other)
    rows = millions * 1_000_000
    ingest = run_python(INGEST, str(FOLDER), str(rows))
    validate = run_python(VALIDATE, str(FOLDER), str(rows), json.dumps(schema()))
    shutil.rmtree(FOLDER)
    return ingest, validate


def main() -> None:
    """Measures each size and compares it with the smallest."""
    sizes = tuple(int(text) for text in sys.argv[1:] if text.isdigit()) or MILLIONS
    results = {millions: measure(millions) for millions in sizes}
    most = max(sizes)
    rows = []
    for number, stage in enumerate(("ingest", "validate")):
        for millions in sizes:
            what = f"{stage}, {millions} M × 20"
            result = results[millions][number]
            bound = f"≤ {BOUND_MB}" if millions == most else None
            rows.append(Row(what, "the bound", "peak MB", [result["peak_mb"]], reach=bound))
            rows.append(Row(what, "", "CPU s", [result["cpu_s"]]))
        few, many = sorted(sizes)[-2:] if len(sizes) > 1 else (most, most)
        cost = {n: results[n][number]["cpu_s"] / n for n in (few, many)}
        what = f"{stage}, a million rows of {many} M"
        rows.append(
            Row(what, f"a million of {few} M", "CPU s", [cost[many]], [cost[few]], reach="≤ 1.25")
        )
    report("data_growth", rows)


if __name__ == "__main__":
    main()
