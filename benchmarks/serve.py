"""Serving one ONNX model over HTTP: our predictor beside the servers that a user would pick instead.

CPU a request is user and system time of the server's processes over the requests that it answered,
with our inference log on. `wrk` makes the load where it is installed (Debian: wrk); requests a second
are then measured too.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.harness import Row, interleave, report
from components.contracts.bundle import read_bundle
from components.deploy.golden import Golden, golden_rows

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "1500"))

_MODEL = """
import numpy as np, onnxruntime as ort, json
options = ort.SessionOptions(); options.intra_op_num_threads = 1
session = ort.InferenceSession("{onnx}", options)
NUMERIC, TEXT, TIME = {numeric}, {text}, {time}
from datetime import datetime
def predict(columns):
    rows = len(next(iter(columns.values())))
    feed = {{}}
    if NUMERIC:
        feed["numeric"] = np.array([columns[n] for n in NUMERIC], dtype=np.float32).T.copy()
    if TEXT:
        feed["categorical"] = np.array([[v or "" for v in columns[n]] for n in TEXT], dtype=object).T
    if TIME:
        feed["time"] = np.array(
            [np.array(columns[n], "datetime64[us]").astype(np.int64) for n in TIME]).T.copy()
    return session.run(["probability"], feed)[0].reshape(-1)
"""

_KSERVE = (
    _MODEL
    + """
from kserve import Model, ModelServer, InferRequest, InferResponse, InferOutput
class Served(Model):
    def __init__(self):
        super().__init__("flights"); self.ready = True
    def predict(self, payload, headers=None, response_headers=None):
        p = predict({{i.name: i.data for i in payload.inputs}})
        out = InferOutput("probability", [len(p)], "FP32"); out.set_data_from_numpy(p, binary_data=False)
        return InferResponse(payload.id or "none", "flights", [out])
if __name__ == "__main__":
    ModelServer(http_port={port}, enable_grpc=False, access_log_format=None).start([Served()])
"""
)

_FASTAPI = (
    _MODEL
    + """
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from typing import Any
class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
class Request(BaseModel):
    inputs: list[Tensor]
app = FastAPI()
@app.get("/v2/health/ready")
async def ready(): return {{"ready": True}}
@app.post("/v2/models/flights/infer")
async def infer(request: Request):
    p = predict({{t.name: t.data for t in request.inputs}})
    return {{"model_name": "flights", "outputs": [
        {{"name": "probability", "shape": [len(p)], "datatype": "FP32", "data": p.tolist()}}]}}
uvicorn.run(app, port={port}, log_level="error")
"""
)


@dataclass
class Server:
    """A running server and what it answers to."""

    process: psutil.Process
    port: int

    def cpu(self) -> float:
        """CPU seconds of it and its children so far."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(t.user + t.system for t in (member.cpu_times() for member in family))

    def resident_mb(self) -> float:
        """Proportional memory of the family, in MB."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(member.memory_full_info().pss for member in family) / 1e6


def _port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def _start(command: list[str], port: int, output: Path) -> Iterator[Server]:
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    with output.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environ)
    try:
        deadline = time.monotonic() + 240
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[1:3]} did not start: {output.read_text()[-2000:]}")
            time.sleep(0.1)
        yield Server(psutil.Process(process.pid), port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _drive(server: Server, body: bytes, headers: dict[str, str], clients: int, total: int) -> float:
    """Sends requests over kept connections; the server's CPU in µs a request."""
    url = f"http://127.0.0.1:{server.port}/v2/models/flights/infer"
    each = total // clients
    before = server.cpu()

    def run() -> None:
        with httpx.Client(timeout=120) as client:
            for _ in range(each):
                client.post(url, content=body, headers=headers).raise_for_status()

    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(run) for _ in range(clients)]:
            done.result()
    return (server.cpu() - before) / (each * clients) * 1e6


def _binary(golden: Golden, rows: int) -> tuple[bytes, dict[str, str]]:
    """The same rows as binary tensors."""
    import struct

    import numpy as np

    header, blobs = [], []
    for item in _tensors(golden, rows):
        if item["datatype"] == "BYTES":
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
    count = len(golden.probability)
    repeat = -(-rows // count)
    return [
        {**t, "shape": [rows], "data": (t["data"] * repeat)[:rows]}
        for t in golden.tensors(0, count)
    ]


def _wrk(server: Server, body: bytes, scratch: Path, connections: int) -> tuple[float, float]:
    """Requests a second and the 99th percentile in ms, by wrk."""
    script = scratch / "post.lua"
    (scratch / "body").write_bytes(body)
    script.write_text(
        'wrk.method = "POST"\n'
        f'local f = io.open("{scratch / "body"}", "rb")\n'
        'wrk.body = f:read("*a")\nf:close()\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
        "done = function(summary, latency, requests)\n"
        '  io.write(string.format("RESULT %f %f %d\\n", summary.requests / summary.duration * 1e6,'
        " latency:percentile(99) / 1000, summary.errors.status + summary.errors.read))\nend\n"
    )
    url = f"http://127.0.0.1:{server.port}/v2/models/flights/infer"
    command = ["wrk", "-t1", f"-c{connections}", "-d5s", "--timeout", "30s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(row for row in done.stdout.splitlines() if row.startswith("RESULT"))
    rate, p99, errors = line.split()[1:]
    if int(errors):
        raise RuntimeError(f"{errors} errors under load: {done.stdout}")
    return float(rate), float(p99)


def main() -> None:
    bundle_folder = Path(os.environ.get("BENCH_BUNDLE", "build/bench/serve/bundle"))
    splits = Path(os.environ.get("BENCH_SPLITS", "build/bench/serve/splits"))
    if not bundle_folder.exists():
        raise SystemExit(
            "Give a model bundle and splits of a run: BENCH_BUNDLE=… BENCH_SPLITS=… (build/run has them)."
        )
    bundle = read_bundle(bundle_folder)
    golden = golden_rows(bundle_folder, bundle, splits)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        scratch = Path(name)
        values = {
            "onnx": bundle_folder.absolute() / "model.onnx",
            "numeric": bundle.numeric,
            "text": bundle.categorical,
            "time": bundle.time,
        }
        port = _port()
        command = [sys.executable, "-m", "serving", f"--model-dir={bundle_folder}"]
        command += ["--host=127.0.0.1", f"--port={port}", "--model-name=flights"]
        command += [f"--log-uri={scratch / 'log'}", f"--log-spool={scratch / 'spool'}"]
        ours = stack.enter_context(_start(command, port, scratch / "ours.txt"))
        peers = {}
        for peer, source in (("KServe SDK", _KSERVE), ("FastAPI + onnxruntime", _FASTAPI)):
            port = _port()
            script = scratch / f"{peer[:4].strip()}.py"
            script.write_text(source.format(port=port, **values))
            command = [sys.executable, str(script)]
            peers[peer] = stack.enter_context(_start(command, port, scratch / f"{peer[:4]}.txt"))
        one = json.dumps({"inputs": _tensors(golden, 1)}).encode()
        batch = json.dumps({"inputs": _tensors(golden, 128)}).encode()
        packed, headers = _binary(golden, 128)
        json_headers = {"content-type": "application/json"}
        rows = []
        for server in (ours, *peers.values()):
            _drive(server, one, json_headers, 4, 40)
        servers = [ours, *peers.values()]
        samples = interleave(
            *(lambda s=s: _drive(s, one, json_headers, 16, REQUESTS) for s in servers), times=ROUNDS
        )
        for (peer, _), theirs in zip(peers.items(), samples[1:], strict=True):
            reach = "≤ 1/5" if peer == "KServe SDK" else "< 1"
            what = "one row, JSON, 16 connections"
            rows.append(Row(what, peer, "CPU µs a request", samples[0], theirs, reach=reach))
        slow = peers["KServe SDK"]
        mine, theirs = interleave(
            lambda: _drive(ours, packed, headers, 4, max(40, REQUESTS // 10)),
            lambda: _drive(slow, batch, json_headers, 4, max(40, REQUESTS // 10)),
            times=ROUNDS,
        )
        what = "128 rows, binary against JSON"
        rows.append(Row(what, "KServe SDK", "CPU µs a request", mine, theirs, reach="≤ 1/10"))
        if shutil.which("wrk"):
            taken = interleave(
                *(lambda s=s: _wrk(s, one, scratch, 64) for s in servers), times=min(3, ROUNDS)
            )
            for (peer, _), pairs in zip(peers.items(), taken[1:], strict=True):
                what = "one row, JSON, 64 connections"
                rates, others = [r for r, _ in taken[0]], [r for r, _ in pairs]
                rows.append(Row(what, peer, "requests/s", rates, others, reach="> 1"))
                tails, others = [p for _, p in taken[0]], [p for _, p in pairs]
                rows.append(Row(what, peer, "p99 ms", tails, others, reach="≤ 1"))
        for peer, server in peers.items():
            rows.append(
                Row(
                    "resident after the load (PSS)",
                    peer,
                    "MB",
                    [ours.resident_mb()],
                    [server.resident_mb()],
                )
            )
        rows.append(
            Row("resident after the load (PSS)", "–", "MB", [ours.resident_mb()], reach="≤ 150")
        )
    report("serve", rows)
