"""Validate on 10 M rows × 20 columns, with 15 null, range and category checks.

Ours is the whole stage in a fresh process: imports, report and the copy of the good rows included. The
peers only count the failing rows: pyarrow decodes and checks nothing; pandera (on polars) holds the
whole table; duckdb runs one query over the files. All read the same files.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, report, run_python

FOLDER = Path("build/bench/validate-data")
ROWS = 10_000_000
NULLS = [f"f{i}" for i in range(5)]
RANGES = [f"f{i}" for i in range(5, 9)] + ["i0", "i1"]
CATEGORIES = [f"s{i}" for i in range(4)]
TIMES = 3


def schema() -> dict:
    """The 15 checks as a schema file."""
    properties: dict[str, dict] = {f"f{i}": {} for i in range(10)} | {f"i{i}": {} for i in range(6)}
    properties |= {name: {"type": "number"} for name in NULLS}
    properties |= {
        name: {
            "type": ["number" if name[0] == "f" else "integer", "null"],
            "minimum": -1000,
            "maximum": 1000,
        }
        for name in RANGES
    }
    properties |= {name: {"enum": ["red", "green", "blue", "black"]} for name in CATEGORIES}
    return {"tables": {"t": {"properties": properties}}}


def write_data(folder: Path, rows: int) -> None:
    """Writes the dataset as ingest would, unless it is there."""
    import numpy as np
    import pyarrow as pa

    from slipway.components.contracts.dataset import Manifest, TableWriter, write_manifest
    from slipway.components.contracts.rows.content_hash import combined
    from slipway.components.support.files import new_directory

    if folder.exists():
        return
    rng = np.random.default_rng(0)
    colours = np.array(["red", "green", "blue", "black"])
    with new_directory(folder) as scratch:
        writer = None
        for start in range(0, rows, 500_000):
            size = min(500_000, rows - start)
            columns: dict[str, Any] = {
                f"f{i}": rng.normal(0, 100, size).round(3) for i in range(10)
            }
            columns |= {f"i{i}": rng.integers(-1000, 1000, size) for i in range(6)}
            columns |= {f"s{i}": colours[rng.integers(0, 4, size)] for i in range(4)}
            table = pa.table(columns)
            table = table.set_column(5, "f5", pa.array(columns["f5"], mask=rng.random(size) < 0.1))
            writer = writer or TableWriter(scratch, "t", table.schema)
            for batch in table.to_batches():
                writer.write(batch)
        assert writer is not None
        info = writer.close()
        write_manifest(
            scratch,
            Manifest(
                tables={"t": info},
                window=("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
                content_hash=combined({"t": info.content_hash}),
            ),
        )


WRITE = """
import sys
from pathlib import Path
from benchmarks.validate import write_data
write_data(Path(sys.argv[1]), int(sys.argv[2]))
"""
OURS = """
import json, sys
from pathlib import Path
from slipway.components.validate.validate import validate_dataset
folder, out, schema = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
result = validate_dataset(dataset=folder, schema=schema, good=out / "good", quarantine=out / "q",
                          report=out / "r.html", results=out / "r.json")
assert result.quarantine.rows == 0
"""
DECODE = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
for file in sorted(Path(sys.argv[1], "t").iterdir()):
    parquet = pq.ParquetFile(file)
    for group in range(parquet.num_row_groups):
        parquet.read_row_group(group, use_threads=False)
"""
PANDERA = """
import json, sys
import polars as pl
import pandera.polars as pa
columns = {}
for name, text in json.loads(sys.argv[3])["tables"]["t"]["properties"].items():
    checks = []
    if "minimum" in text:
        checks.append(pa.Check.in_range(text["minimum"], text["maximum"]))
    if "enum" in text:
        checks.append(pa.Check.isin(text["enum"]))
    columns[name] = pa.Column(checks=checks, nullable=text.get("type") != "number")
frame = pl.read_parquet(sys.argv[1] + "/t/*.parquet")
pa.DataFrameSchema(columns).validate(frame, lazy=True)
"""
DUCKDB = """
import json, sys
import duckdb
parts = []
for name, text in json.loads(sys.argv[3])["tables"]["t"]["properties"].items():
    if text.get("type") == "number":
        parts.append(f"count(*) FILTER ({name} IS NULL)")
    if "minimum" in text:
        parts.append(f"count(*) FILTER (NOT {name} BETWEEN {text['minimum']} AND {text['maximum']})")
    if "enum" in text:
        parts.append(f"count(*) FILTER ({name} NOT IN ({', '.join(repr(v) for v in text['enum'])}))")
found = duckdb.sql(f"SELECT {', '.join(parts)} FROM '{sys.argv[1]}/t/*.parquet'").fetchone()
assert len(found) == 15 and not any(found)
"""


def main() -> None:
    """Measures all four in turn and writes the report."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else ROWS
    folder = FOLDER.with_name(f"{FOLDER.name}-{rows}")
    # In a process of its own: a child's peak memory starts from its parent's.
    run_python(WRITE, str(folder), str(rows))
    out = folder.with_name("validate-out")
    ways = {"ours": OURS, "pyarrow": DECODE, "pandera": PANDERA, "duckdb": DUCKDB}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(TIMES):
        for name, code in ways.items():
            taken[name].append(run_python(code, str(folder), str(out), json.dumps(schema())))
            shutil.rmtree(out, ignore_errors=True)
    cpu = {name: [run["cpu_s"] for run in runs] for name, runs in taken.items()}
    peak = {name: [run["peak_mb"] for run in runs] for name, runs in taken.items()}
    what = f"{rows / 1e6:g} M × 20, 15 checks"
    report(
        "validate",
        [
            Row(what, "pyarrow decode alone", "CPU s", cpu["ours"], cpu["pyarrow"], reach="≤ 2.5"),
            Row(what, "pandera, whole table", "CPU s", cpu["ours"], cpu["pandera"], reach="< 1"),
            Row(what, "duckdb", "CPU s", cpu["ours"], cpu["duckdb"], reach="< 1"),
            Row(what, "pandera, whole table", "peak MB", peak["ours"], peak["pandera"]),
            Row(what, "duckdb", "peak MB", peak["ours"], peak["duckdb"]),
            Row(what, "the bound", "peak MB", peak["ours"], reach="≤ 400"),
        ],
    )


if __name__ == "__main__":
    main()
