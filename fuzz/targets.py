"""Fuzz targets: strangers' bytes may get a refusal that a person can read, and nothing else.

Each target takes bytes. OSS-Fuzz runs them through atheris (`fuzz_<name>.py`, `build.sh`); here
`python fuzz/targets.py NAME SEED SECONDS` mutates the seeds below without it, and `make fuzz` runs all.
"""

import base64
import csv
import io
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from slipway.components.config.data import Window
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.config.project import load_project
from slipway.components.contracts.bundle import FILE, TRAINING, read_bundle, read_training
from slipway.components.contracts.verdict import RuleResult, Verdict, read_verdict, write_verdict
from slipway.components.ingest.ingest import ingest_tables
from slipway.components.monitor.alerting.routes import read_route_state
from slipway.components.monitor.window import open_window, read_answers
from slipway.components.support.errors import SlipwayError
from slipway.components.validate.schema import RunMoments, parse_schema, read_schema

LONGEST_SECONDS = 1.0
"""What a target may take of the CPU for one input of at most `LARGEST` bytes."""
LARGEST = 65_536
MEMORY_MB = 400
"""So much may the process grow beyond what it had when the target was warm."""
LONGEST_MESSAGE = 4_000
"""Beside twice the input, which a message may quote."""
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
MOMENT = datetime(2024, 1, 2, tzinfo=UTC)


def _project(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "project.yaml").write_bytes(data)
        (Path(folder) / "schema.json").write_text('{"tables": {}}')
        load_project(Path(folder))


def _schema(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return  # the file is read as text before
    parse_schema(read_schema(text), RunMoments(now=MOMENT, window_start=MOMENT, window_end=MOMENT))


def _table(name: str, data: bytes, **table: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        ingest_tables(
            config={"tables": {"orders": {"path": name, **table}}},
            data_root=folder,
            window_start="2024-01-01",
            window_end="2024-02-01",
            output=Path(folder) / "out",
        )


def _csv(data: bytes) -> None:
    _table("orders.csv", data, format="csv", time="at")


def _jsonl(data: bytes) -> None:
    _table("orders.jsonl", data, format="jsonl", time="at")


def _parquet(data: bytes) -> None:
    _table("orders.parquet", data, time="at")


def _bundle(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_bytes(data)
        (Path(folder) / TRAINING).write_bytes(data)
        read_training(Path(folder))
        read_bundle(Path(folder))


def _verdict(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "verdict").write_bytes(data)
        read_verdict(Path(folder) / "verdict")


def _log(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hour = Path(folder) / "toy" / "date=2024-01-02" / "hour=00"
        hour.mkdir(parents=True)
        (hour / "a.parquet").write_bytes(data)
        window = Window(start=MOMENT, end=MOMENT.replace(day=3))
        read_answers(open_window(folder, "toy", window), "binary")


def _routes(data: bytes) -> None:
    try:
        content = yaml.safe_load(data[:2_000].decode())
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError):
        return  # the project file's target has those
    MonitoringConfig.parse({"routes": content}, "monitoring")


def _route_state(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "route.json").write_bytes(data)
        read_route_state(f"{folder}/route.json")


@dataclass(frozen=True, kw_only=True)
class FuzzTarget:
    """A reader of bytes, and bytes that it takes."""

    read: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def _rows() -> pa.Table:
    times = [datetime(2024, 1, day, tzinfo=UTC) for day in range(1, 20)]
    return pa.table(
        {
            "order": [f"o{n}" for n in range(19)],
            "at": pa.array(times, pa.timestamp("us", "UTC")),
            "price": [n / 3 if n % 4 else None for n in range(19)],
            "paid": [n % 2 == 0 for n in range(19)],
        }
    )


def _table_seeds() -> list[bytes]:
    found = []
    for codec in ("snappy", "zstd", "none"):
        sink = io.BytesIO()
        pq.write_table(_rows(), sink, compression=codec)
        found.append(sink.getvalue())
    return found


def _csv_seeds() -> list[bytes]:
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(_rows().column_names)
    writer.writerows(row.values() for row in _rows().to_pylist())
    return [sink.getvalue().encode(), b'at,x\n2024-01-02,"a\nb"\n', "\ufeffat;x\n".encode()]


def _jsonl_seeds() -> list[bytes]:
    rows = [{**row, "at": row["at"].isoformat()} for row in _rows().to_pylist()]
    return ["\n".join(map(json.dumps, rows)).encode(), b'{"at": "2024-01-02", "x": [1, {"y": 2}]}']


def _log_seeds() -> list[bytes]:
    rows = 5
    table = pa.table(
        {
            "request_id": [f"r{n}" for n in range(rows)],
            "row": pa.array(range(rows), pa.int32()),
            "key": [f"k{n}" for n in range(rows)],
            "time": pa.array([MOMENT] * rows, pa.timestamp("us", "UTC")),
            "served_at": pa.array([MOMENT] * rows, pa.timestamp("us", "UTC")),
            "model_version": ["1"] * rows,
            "status": pa.array([200] * rows, pa.int16()),
            "probability": [0.5] * rows,
            "label": pa.array([0] * rows, pa.int8()),
            "latency_ms": [1.0] * rows,
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return [sink.getvalue()]


def _verdict_seeds() -> list[bytes]:
    rule = RuleResult(name="auc", metric="auc", outcome="pass", reason="", threshold=0.5, value=0.8)
    verdict = Verdict(
        outcome="pass",
        rules=(rule,),
        metrics={"auc": 0.8},
        thresholds={"auc": 0.5},
        model_hash="0" * 64,
        data_hash="0" * 64,
        test_rows=1000,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_verdict(Path(folder) / "verdict", verdict)
        return [(Path(folder) / "verdict").read_bytes()]


def _bundle_seeds() -> list[bytes]:
    features = [
        {"name": "a", "kind": "numeric", "view": "v", "default": None, "categories": []},
        {"name": "b", "kind": "categorical", "view": "v"},
    ]
    content = {"version": 1, "name": "toy", "features": features, "key": "k", "entities": {}}
    return [json.dumps(content).encode(), b"{}"]


def _projects() -> list[bytes]:
    return [path.read_bytes() for path in sorted(EXAMPLES.glob("*/project.yaml"))]


def _schemas() -> list[bytes]:
    return [path.read_bytes() for path in sorted(EXAMPLES.glob("*/schemas/*.json"))]


ROUTES = b"""- {name: ops, type: webhook, url: "https://h/${SECRET}", minimum: warning}
- {name: log, type: log}
- {name: am, type: alertmanager, url: "http://alertmanager:9093"}
"""
STATE = b'{"alerts": {"LOW_ACCURACY": {"severity": "critical"}}, "decision": "keep"}'

TARGETS = {
    "project": FuzzTarget(read=_project, seeds=_projects),
    "schema": FuzzTarget(read=_schema, seeds=_schemas),
    "csv": FuzzTarget(read=_csv, seeds=_csv_seeds),
    "jsonl": FuzzTarget(read=_jsonl, seeds=_jsonl_seeds),
    "parquet": FuzzTarget(read=_parquet, seeds=_table_seeds),
    "bundle": FuzzTarget(read=_bundle, seeds=_bundle_seeds),
    "verdict": FuzzTarget(read=_verdict, seeds=_verdict_seeds),
    "log": FuzzTarget(read=_log, seeds=_log_seeds),
    "routes": FuzzTarget(read=_routes, seeds=lambda: [ROUTES]),
    "route_state": FuzzTarget(read=_route_state, seeds=lambda: [STATE]),
}

BITS = [
    b"{", b"}", b"[", b"]", b'"', b"'", b":", b",", b"-", b"\n", b"\n  ", b"#", b"&a", b"*a", b"<<: *a",
    b"!!python/object:os.system", b"null", b"true", b"NaN", b"Infinity", b"-1", b"0", b"1e999",
    b"9" * 400,

    b"9999-99-99", b"0001-01-01", b"1d", b"999999999999d", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r\n",
    b"a" * 3000,

    b"[" * 2000, b"{\"a\":" * 900,
    "\u202e\U0001f600\u0000".encode(),
    b"../../etc/passwd", b"${HOME}", b"{{7*7}}",
    b"(a+)+$", b"PAR1", b"\x15\x04\x15", b"\x80" * 9,
]  # fmt: skip


def mutate(chance: random.Random, seeds: list[bytes]) -> bytes:
    """A seed with a few of its bytes or lines changed."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice([0, 1, 1, 2, 3, 8])):
        place = chance.randrange(len(data) + 1)
        length = chance.choice([0, 1, 4, 40])
        match chance.randrange(5):
            case 0:
                data[place : place + length] = chance.choice(BITS)
            case 1:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 2:
                del data[place : place + length * 10]
            case 3:
                data[place:place] = data[place : place + length * 5]
            case _:
                lines = bytes(data).split(b"\n")
                chance.shuffle(lines[: chance.randrange(len(lines)) + 1])
                at = chance.randrange(len(lines))
                head, mark, _ = lines[at].partition(b": ")
                lines[at] = head + mark + chance.choice(BITS)
                data = bytearray(b"\n".join(lines))
    return bytes(data[:LARGEST])


def judge(target: FuzzTarget, data: bytes) -> str:
    """What is wrong with how a target takes an input; empty: nothing."""
    started = time.process_time()
    try:
        target.read(data)
        wrong = ""
    except SlipwayError as error:
        text = str(error)
        wrong = (
            ""
            if 0 < len(text) <= LONGEST_MESSAGE + 2 * len(data)
            else f"a message of {len(text)} characters"
        )
        if "Traceback" in text:
            wrong = f"a traceback in the message: {text[:300]}"
    except Exception as error:  # what this looks for
        wrong = f"{error!r:.400}"
    took = time.process_time() - started
    return wrong or (f"{took:.1f} s" if took > LONGEST_SECONDS else "")


def fuzz(name: str, seed: int, seconds: float, most: int = 10**9) -> tuple[int, list[str]]:
    """How many inputs were tried, and what was wrong, each with its input in base64."""
    target, chance, wrong = TARGETS[name], random.Random(f"{name} {seed}"), list[str]()
    seeds = target.seeds()
    for data in seeds:
        judge(target, data)  # imports count no more
    before, tried = _resident_mb(), 0
    end = time.monotonic() + seconds
    while tried < most and time.monotonic() < end and len(wrong) < 10:
        data = mutate(chance, seeds)
        tried += 1
        if problem := judge(target, data):
            wrong.append(f"{name}: {problem}\n    {base64.b64encode(data).decode()}")
        if (grown := _resident_mb() - before) > MEMORY_MB:
            wrong.append(f"{name}: {grown:.0f} MB more\n    {base64.b64encode(data).decode()}")
            break
    return tried, wrong


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_atheris(name: str) -> None:
    """The entry of a fuzz target of OSS-Fuzz; a refusal is no crash."""
    import atheris

    def test_one_input(data: bytes) -> None:
        if problem := judge(TARGETS[name], data[:LARGEST]):
            raise AssertionError(problem)

    atheris.instrument_all()
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    """Runs one target, or all, so many seconds each; 1 where something is wrong."""
    name, seed, seconds = arguments[0], int(arguments[1]), float(arguments[2])
    found = 0
    for each in TARGETS if name == "all" else [name]:
        tried, wrong = fuzz(each, seed, seconds)
        print(*wrong, f"{each}: {tried:,} inputs, {len(wrong)} answered wrongly", sep="\n")
        found += len(wrong)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
