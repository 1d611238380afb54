"""Serving one ONNX model over HTTP: our predictor beside the servers that a user would pick instead.

CPU a request is user and system time of the server's processes over the requests that it answered,
with our inference log on. `wrk` (Debian: wrk) makes the load: it takes little CPU, so that requests of
many connections do come at one time. `httpx` clients, slower than the server, send them nearly one by
one; there no two requests share a forward pass. BENCH_BUNDLE and BENCH_SPLITS name a model and the
splits of a run; without them the flights' model is trained, once.

Beside the peers stands a server in C (serve_limit.c, built where there is a compiler) that only parses,
runs the graph and answers: the limit, to be seen and not to be shipped.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks import serve_peers
from benchmarks.flights import flights_bundle
from benchmarks.harness import Row, cpu_seconds, interleave, report
from benchmarks.serve_peers import LIMIT, Server
from slipway.components.contracts.bundle import Bundle, read_bundle
from slipway.components.deploy.golden import Golden, golden_rows

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "1500"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "5"))
JSON = {"content-type": "application/json"}


def _drive(server: Server, body: bytes, headers: dict[str, str], clients: int, total: int) -> float:
    """Sends requests over kept connections; the server's CPU in µs a request."""
    each = total // clients
    before = server.cpu()

    def run() -> None:
        with httpx.Client(timeout=120) as client:
            for _ in range(each):
                client.post(server.url, content=body, headers=headers).raise_for_status()

    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(run) for _ in range(clients)]:
            done.result()
    return (server.cpu() - before) / (each * clients) * 1e6


def _binary(golden: Golden, rows: int, times: list[str]) -> tuple[bytes, dict[str, str]]:
    """The same rows as binary tensors; times as the protocol's integers."""
    import struct

    import numpy as np

    header, blobs = [], []
    for item in _tensors(golden, rows):
        if item["name"] in times:
            moments = np.array(item["data"], "datetime64[us]").astype(np.int64)
            item, blob = {**item, "datatype": "INT64"}, moments.tobytes()
        elif item["datatype"] == "BYTES":
            texts = [(value or "").encode() for value in item["data"]]
            blob = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        elif item["datatype"] == "BOOL":
            item = {**item, "datatype": "FP64"}
            blob = np.array(item["data"], float).tobytes()
        else:
            blob = np.array(item["data"], float).tobytes()
        made = {key: value for key, value in item.items() if key != "data"}
        header.append({**made, "parameters": {"binary_data_size": len(blob)}})
        blobs.append(blob)
    request = {"inputs": header, "parameters": {"binary_data_output": True}}
    head = json.dumps(request).encode()
    return head + b"".join(blobs), {"inference-header-content-length": str(len(head))}


def _tensors(golden: Golden, rows: int) -> list[dict]:
    count = len(golden.answers)
    repeat = -(-rows // count)
    return [
        {**t, "shape": [rows], "data": (t["data"] * repeat)[:rows]}
        for t in golden.tensors(0, count)
    ]


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw: requests a second, their 99th percentile in ms; and the server's CPU µs for one."""

    rate: float
    p99: float
    cpu: float


def _wrk(
    server: Server, body: bytes, scratch: Path, connections: int, headers: dict[str, str] = JSON
) -> Load:
    script = scratch / "post.lua"
    (scratch / "body").write_bytes(body)
    script.write_text(
        'wrk.method = "POST"\n'
        f'local f = io.open("{scratch / "body"}", "rb")\n'
        'wrk.body = f:read("*a")\nf:close()\n'
        + "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in headers.items())
        + "done = function(summary, latency, requests)\n"
        '  io.write(string.format("RESULT %d %f %f %d\\n", summary.requests,'
        " summary.requests / summary.duration * 1e6, latency:percentile(99) / 1000,"
        " summary.errors.status + summary.errors.read))\nend\n"
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--timeout", "30s"]
    command += ["-s", str(script), server.url]
    before = server.cpu()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    cpu = server.cpu() - before
    line = next(row for row in done.stdout.splitlines() if row.startswith("RESULT"))
    count, rate, p99, errors = line.split()[1:]
    if int(errors):
        raise RuntimeError(f"{errors} errors under load: {done.stdout}")
    return Load(float(rate), float(p99), cpu / int(count) * 1e6)


def _for_mlflow(golden: Golden, bundle: Bundle, rows: int) -> bytes:
    """The same rows as the arrays that the model takes, which is how MLflow's server wants them."""
    import numpy as np

    columns = {t["name"]: t["data"] for t in _tensors(golden, rows)}
    inputs: dict[str, list] = {}
    if bundle.numeric:
        numbers = np.array([columns[name] for name in bundle.numeric], np.float64).T
        # MLflow's JSON has no missing number; any number costs the same to read.
        inputs["numeric"] = np.nan_to_num(numbers).tolist()
    if bundle.categorical:
        inputs["categorical"] = [
            [columns[name][i] or "" for name in bundle.categorical] for i in range(rows)
        ]
    if bundle.time:
        times = [np.array(columns[name], "datetime64[us]").astype(np.int64) for name in bundle.time]
        inputs["time"] = np.array(times).T.tolist()
    return json.dumps({"inputs": inputs}).encode()


def main() -> None:
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk).")
    bundle_folder, splits = flights_bundle()
    bundle = read_bundle(bundle_folder)
    golden = golden_rows(bundle_folder, bundle, splits)
    one = json.dumps({"inputs": _tensors(golden, 1)}).encode()
    arrays = _for_mlflow(golden, bundle, 1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        scratch = Path(name)
        ready = []
        for number in range(ROUNDS):
            with serve_peers.ours(bundle_folder, scratch, f"start{number}") as server:
                ready.append(server.ready_seconds)
        rows.append(Row("start to ready", "–", "s", ready, reach="≤ 2"))
        ours = stack.enter_context(serve_peers.ours(bundle_folder, scratch, "ours"))
        others = {
            peer: stack.enter_context(context)
            for peer, context in serve_peers.peers(bundle_folder, bundle, scratch).items()
        }
        servers = [ours, *others.values()]
        bodies = [arrays if server.extra.get("mlflow") else one for server in servers]
        for server, body in zip(servers, bodies, strict=True):
            _drive(server, body, JSON, 4, 40)
        if limit := others.get(LIMIT):
            _check_answers(limit, golden, list(bundle.time))
        rows += _single_rows(servers, bodies, list(others))
        rows += _under_load(servers, bodies, list(others), scratch, 16)
        rows += _under_load(servers, bodies, list(others), scratch, 64)
        mine, what = [ours.resident_mb()], "resident after the load (PSS)"
        for peer, server in others.items():
            rows.append(Row(what, peer, "MB", mine, [server.resident_mb()]))
        rows.append(Row(what, "–", "MB", mine, reach="≤ 150"))
        rows += _batches(ours, others, golden, bundle, bundle_folder, scratch)
        rows.append(Row("resident after the batches, all logged", "–", "MB", [ours.resident_mb()]))
        rows.append(_micro_batching(ours, bundle_folder, one, scratch))
    report("serve", rows)


def _single_rows(servers: list[Server], bodies: list[bytes], peers: list[str]) -> list[Row]:
    samples = interleave(
        *(lambda s=s, b=b: _drive(s, b, JSON, 16, REQUESTS) for s, b in zip(servers, bodies)),  # noqa: B905
        times=ROUNDS,
    )
    what = "one row, JSON, 16 httpx clients"
    return [
        Row(what, peer, "CPU µs a request", samples[0], theirs, _unless_limit(peer, "< 1"))
        for peer, theirs in zip(peers, samples[1:], strict=True)
    ]


def _unless_limit(peer: str, reach: str) -> str | None:
    """The bound against a peer; the limit is none, it is there to be seen."""
    return None if peer == LIMIT else reach


def _check_answers(server: Server, golden: Golden, times: list[str]) -> None:
    """Whether a server answers as onnxruntime itself does, in JSON and in binary."""
    import numpy as np

    rows = len(golden.answers)
    packed, headers = _binary(golden, rows, times)
    with httpx.Client(timeout=30) as client:
        told = client.post(server.url, json={"inputs": _tensors(golden, rows)}).json()
        raw = client.post(server.url, content=packed, headers=headers)
    start = int(raw.headers["inference-header-content-length"])
    for found in (told["outputs"][0]["data"], np.frombuffer(raw.content[start:], np.float32)):
        np.testing.assert_allclose(found, golden.answers.reshape(-1), atol=1e-5)


def _batches(
    ours: Server,
    others: dict[str, Server],
    golden: Golden,
    bundle: Bundle,
    folder: Path,
    scratch: Path,
) -> list[Row]:
    batch = json.dumps({"inputs": _tensors(golden, 128)}).encode()
    packed, headers = _binary(golden, 128, list(bundle.time))
    limit = others.get(LIMIT)
    mine, theirs, forward, least = interleave(
        lambda: _wrk(ours, packed, scratch, 4, headers).cpu,
        lambda: _wrk(others["KServe SDK"], batch, scratch, 4).cpu,
        lambda: _forward(folder, bundle, batch),
        lambda: _wrk(limit, packed, scratch, 4, headers).cpu if limit else 0.0,
        times=ROUNDS,
    )
    what, unit = "128 rows, binary against JSON", "CPU µs a request"
    return [
        Row(what, "KServe SDK", unit, mine, theirs, reach="≤ 0.3"),
        Row("128 rows, onnxruntime alone", "KServe SDK", unit, forward, theirs),
        Row("128 rows, both binary", LIMIT, unit, mine, least if limit else ()),
    ]


def _forward(folder: Path, bundle: Bundle, batch: bytes) -> float:
    """CPU µs of a forward pass of these rows without any server."""
    from slipway.serving.model import load_model
    from slipway.serving.settings import PredictorSettings

    model = load_model(PredictorSettings(model_dir=folder))
    rows = model.reader.read(json.loads(batch)["inputs"])
    model.predict(rows)
    return cpu_seconds(lambda: [model.predict(rows) for _ in range(100)]) / 100 * 1e6


def _under_load(
    servers: list[Server], bodies: list[bytes], peers: list[str], scratch: Path, connections: int
) -> list[Row]:
    def load(server: Server, body: bytes) -> Callable[[], Load]:
        return lambda: _wrk(server, body, scratch, connections)

    ways = [load(server, body) for server, body in zip(servers, bodies, strict=True)]
    mine, *taken = interleave(*ways, times=min(3, ROUNDS))
    what, rows = f"one row, JSON, {connections} connections", []
    for peer, theirs in zip(peers, taken, strict=True):
        bound = "≤ 0.12" if peer == "KServe SDK" and connections == 16 else "< 1"
        reach, unit = _unless_limit(peer, bound), "CPU µs a request"
        rows.append(Row(what, peer, unit, [x.cpu for x in mine], [x.cpu for x in theirs], reach))
        rates = [x.rate for x in mine], [x.rate for x in theirs]
        rows.append(Row(what, peer, "requests/s", *rates, _unless_limit(peer, "> 1")))
        tails = [x.p99 for x in mine], [x.p99 for x in theirs]
        rows.append(Row(what, peer, "p99 ms", *tails, _unless_limit(peer, "≤ 1")))
    if LIMIT not in peers:
        rows.append(Row(what, LIMIT, "CPU µs a request", [x.cpu for x in mine]))
    return rows


def _micro_batching(ours: Server, bundle: Path, body: bytes, scratch: Path) -> Row:
    """What requests that share a forward pass save: the same predictor without it."""
    with serve_peers.ours(bundle, scratch, "single", "--max-batch=1") as single:
        shared, alone = interleave(
            lambda: _wrk(ours, body, scratch, 64),
            lambda: _wrk(single, body, scratch, 64),
            times=min(3, ROUNDS),
        )
    what = "micro-batching, 64 connections"
    rates = [x.rate for x in shared], [x.rate for x in alone]
    return Row(what, "--max-batch 1", "requests/s", *rates, reach="> 1")
