"""Readers of the files that a stranger may hand over; each takes a file's bytes."""

import atexit
import base64
import copy
import csv
import functools
import io
import json
import os
import random
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from support.serving_bundles import flight_tensors, make_bundle

from fuzz.harness import FuzzTarget
from slipway.components.config.base import Section
from slipway.components.config.data import Window
from slipway.components.config.model import Project
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.config.project import load_project
from slipway.components.contracts.bundle import FILE, TRAINING, read_bundle, read_training
from slipway.components.contracts.verdict import RuleResult, Verdict, read_verdict, write_verdict
from slipway.components.ingest.ingest import ingest_tables
from slipway.components.monitor.alerting.routes import read_route_state
from slipway.components.monitor.window import open_window, read_answers
from slipway.components.validate.schema import RunMoments, parse_schema, read_schema

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
MOMENT = datetime(2024, 1, 2, tzinfo=UTC)
WINDOW = Window(start=MOMENT, end=MOMENT.replace(day=3))
NOW = Window(
    start=datetime.now(UTC) - timedelta(hours=1), end=datetime.now(UTC) + timedelta(days=9)
)
ANSWER = b'{"outputs": [{"name": "probability", "data": [0.5]}, {"name": "label", "data": [1]}]}'
HOUR = "toy/date=2024-01-02/hour=00"
SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Project.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 0.5, 1e308, 10**30, float("nan"), float("inf"), "", "a", "\u00e9", "1d",
    "0s", "999999999d", "2024-01-01", "0001-01-01", "9999-12-31T23:59:59Z", "* * * * *", "${HOME}",
    "../x",
    "s3://b/x", "http://169.254.169.254/", "http://[::1", "http://a:b@c:99999/", "a" * 3000, "\x00",
    "(a+)+$", [], [1], ["a", "a"], [[]], {}, {"": 1}, {"a": {"a": {}}}, {"*": {}},
]  # fmt: skip


@functools.cache
def _folder(process: int) -> Path:
    """A folder of this process, in memory where that can be: on a disk it costs more than all else."""
    memory = Path("/dev/shm")  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for example in EXAMPLES.glob("*/schemas"):
        shutil.copytree(example, folder / "schemas", dirs_exist_ok=True)
    (folder / "schema.json").write_text(SMALL_SCHEMA)
    return folder


def _file(name: str, data: bytes) -> Path:
    """The bytes as a file."""
    path = _folder(os.getpid()) / name
    path.write_bytes(data)
    return path


def _project(data: bytes) -> None:
    load_project(_file("project.yaml", data))


def _values(data: bytes) -> Any:
    """What JSON of so many bytes holds: for readers of values that came through another parser."""
    try:
        return json.loads(data.decode())
    except (UnicodeDecodeError, ValueError, RecursionError):
        return None


def _settings(data: bytes) -> None:
    """A section as whoever starts a run may give it, in place of the pipeline's struct."""
    content = _values(data)
    if isinstance(content, dict):
        for name, struct in content.items():
            if name in SECTIONS and isinstance(struct, dict):
                SECTIONS[name].parse(struct, name)


def _schema(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return  # the file is read as text before
    parse_schema(read_schema(text), RunMoments(now=MOMENT, window_start=MOMENT, window_end=MOMENT))


def _table(name: str, data: bytes, **table: Any) -> None:
    path = _file(name, data)
    output = path.parent / "out"
    shutil.rmtree(output, ignore_errors=True)
    ingest_tables(
        config={"tables": {"orders": {"path": name, **table}}},
        data_root=str(path.parent),
        window_start="2024-01-01",
        window_end="2024-02-01",
        output=output,
    )


def _csv(data: bytes) -> None:
    _table("orders.csv", data, format="csv", time="at")


def _jsonl(data: bytes) -> None:
    _table("orders.jsonl", data, format="jsonl", time="at")


def _parquet(data: bytes) -> None:
    _table("orders.parquet", data, time="at")


def _bundle(data: bytes) -> None:
    read_bundle(_file(FILE, data).parent)


def _training(data: bytes) -> None:
    read_training(_file(TRAINING, data).parent)


def _verdict(data: bytes) -> None:
    read_verdict(_file("verdict", data))


def _log(data: bytes) -> None:
    folder = _folder(os.getpid())
    (folder / HOUR).mkdir(parents=True, exist_ok=True)
    _file(f"{HOUR}/a.parquet", data)
    read_answers(open_window(str(folder), "toy", WINDOW), "binary")


def _payload_log(data: bytes) -> str:
    """KServe's log of what any client sent: answered where the first byte is an a."""
    kinds = {"request": data[1:], "response": ANSWER} if data[:1] == b"a" else {"request": data[1:]}
    records = [
        {"Id": "i", "ReqType": f"x.{kind}", "Bytes": base64.b64encode(content).decode()}
        for kind, content in kinds.items()
    ]
    folder = _folder(os.getpid()) / "payloads"
    folder.mkdir(exist_ok=True)
    (folder / "a.json").write_text(json.dumps(records))
    window = open_window(f"kserve+file://{folder}#flight_id", "toy", NOW)
    return " ".join(name for path in window.files for name in pq.read_schema(path).names)


def _payload_seeds() -> list[bytes]:
    body = json.dumps({"inputs": flight_tensors(1)}).encode()
    return [b"a" + body, b"r" + body]


def _routes(data: bytes) -> None:
    MonitoringConfig.parse({"routes": _values(data)}, "monitoring")


def _route_state(data: bytes) -> None:
    read_route_state(str(_file("route.json", data)))


def _changed_settings(chance: random.Random) -> bytes:
    """The sections of an example with values in them that are others."""
    content = json.loads(chance.choice(_sections()))
    for _ in range(chance.choice([1, 1, 2, 4])):
        here: Any = content[chance.choice(list(content))]
        while here:
            key = chance.choice(list(here) if isinstance(here, dict) else range(len(here)))
            if chance.random() < 0.5 or not isinstance(here[key], dict | list) or not here[key]:
                here[key] = copy.deepcopy(chance.choice(VALUES))
                break
            here = here[key]
    return json.dumps(content).encode()


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
    with tempfile.TemporaryDirectory() as folder:
        make_bundle(Path(folder))
        return [(Path(folder) / FILE).read_bytes(), b"{}"]


def _projects() -> list[bytes]:
    """The small one most often: the longer ones take long to read."""
    examples = [path.read_bytes() for path in sorted(EXAMPLES.glob("*/project.yaml"))]
    return [*[SMALL_PROJECT] * 5 * len(examples), *examples]


def _schemas() -> list[bytes]:
    return [path.read_bytes() for path in sorted(EXAMPLES.glob("*/schemas/*.json"))]


@functools.cache
def _sections() -> tuple[bytes, ...]:
    """The sections of each example, as a pipeline's structs have them."""
    found = []
    for folder in sorted(EXAMPLES.glob("*/project.yaml")):
        project = load_project(folder).project
        sections = {name: getattr(project, name) for name in SECTIONS}
        found.append(json.dumps({n: s.to_struct() for n, s in sections.items()}).encode())
    return tuple(found)


SMALL_PROJECT = b"""project_name: shop
data:
  root: data
  tables:
    orders: {path: orders.parquet, time: at}
  window: {start: 2024-01-01, end: 2024-02-01}
schema: schema.json
features:
  examples: {table: orders, key: order, time: at}
  label: {column: paid}
  split: {method: stratified, validation: 0.2, test: 0.25}
  views:
    - name: order
      table: orders
      fields: {price: price}
"""
SMALL_SCHEMA = """{"tables": {"orders": {"properties": {"order": {"type": "string"},
"price": {"type": "number"}, "paid": {"type": "boolean"},
"at": {"type": "string", "format": "date-time"}}}}}"""
ROUTES = b"""[{"name": "ops", "kind": "webhook", "url": "https://h/${SECRET}", "repeat": "2d"},
{"name": "log", "kind": "log", "least": "warning"},
{"name": "am", "kind": "alertmanager", "url": "http://alertmanager:9093"}]"""
STATE = b'{"alerts": {"LOW_ACCURACY": {"severity": "critical"}}, "decision": "keep"}'

FILES = {
    "project": FuzzTarget(read=_project, seeds=_projects),
    "settings": FuzzTarget(read=_settings, seeds=lambda: list(_sections()), make=_changed_settings),
    "schema": FuzzTarget(read=_schema, seeds=_schemas),
    "csv": FuzzTarget(read=_csv, seeds=_csv_seeds),
    "jsonl": FuzzTarget(read=_jsonl, seeds=_jsonl_seeds),
    "parquet": FuzzTarget(read=_parquet, seeds=_table_seeds),
    "bundle": FuzzTarget(read=_bundle, seeds=_bundle_seeds),
    "training": FuzzTarget(read=_training, seeds=_bundle_seeds),
    "verdict": FuzzTarget(read=_verdict, seeds=_verdict_seeds),
    "payload_log": FuzzTarget(read=_payload_log, seeds=_payload_seeds),
    "log": FuzzTarget(read=_log, seeds=_log_seeds),
    "routes": FuzzTarget(read=_routes, seeds=lambda: [ROUTES]),
    "route_state": FuzzTarget(read=_route_state, seeds=lambda: [STATE]),
}
