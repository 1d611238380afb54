"""The servers that a user would pick instead of our predictor, each with the same ONNX model.

MLServer needs older libraries than ours: it runs from an environment of its own, whose Python
BENCH_MLSERVER names (`python -m venv DIR && DIR/bin/pip install mlserver onnxruntime`).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from slipway.components.contracts.bundle import ONNX, Bundle

LIMIT = "C + onnxruntime, the limit"
"""A server that only parses, runs the graph and answers: what no predictor can be below."""

_MODEL = """
import numpy as np, onnxruntime as ort, json
options = ort.SessionOptions(); options.intra_op_num_threads = 1
session = ort.InferenceSession("{onnx}", options)
NUMERIC, TEXT, TIME = {numeric}, {text}, {time}
def predict(columns):
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

_MLSERVER = (
    _MODEL
    + """
from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput
class Served(MLModel):
    async def load(self):
        return True
    async def predict(self, payload):
        p = predict({{i.name: i.data.root for i in payload.inputs}})
        return InferenceResponse(model_name="flights", outputs=[
            ResponseOutput(name="probability", shape=[len(p)], datatype="FP32", data=p.tolist())])
"""
)


@dataclass
class Server:
    """A running server, what it answers to, and how long it took to become ready."""

    process: psutil.Process
    port: int
    path: str = "/v2/models/flights/infer"
    ready_seconds: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it infers."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def cpu(self) -> float:
        """CPU seconds of it and its children so far."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(t.user + t.system for t in (member.cpu_times() for member in family))

    def resident_mb(self) -> float:
        """Proportional memory of the family, in MB."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(member.memory_full_info().pss for member in family) / 1e6


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def start(
    command: list[str], port: int, output: Path, ready: str = "/v2/health/ready", **more: Any
) -> Iterator[Server]:
    """Starts a server and ends it again; it is given when it says that it is ready."""
    import signal
    import time

    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    environ |= more.pop("environ", {})
    began = time.monotonic()
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, env=environ, cwd=more.pop("cwd", None)
        )
    try:
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}{ready}", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > began + 300:
                raise RuntimeError(f"{command[:4]} did not start: {output.read_text()[-2000:]}")
            time.sleep(0.02)
        seconds = time.monotonic() - began
        yield Server(psutil.Process(process.pid), port, ready_seconds=seconds, **more)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def ours(bundle: Path, scratch: Path, name: str, *flags: str) -> Iterator[Server]:
    """Our predictor with its log on."""
    port = free_port()
    command = [sys.executable, "-m", "slipway.serving", f"--model-dir={bundle}", "--host=127.0.0.1"]
    command += [f"--port={port}", "--model-name=flights", *flags]
    command += [f"--log-uri={scratch / name}", f"--log-spool={scratch / name}-spool"]
    with start(command, port, scratch / f"{name}.txt") as server:
        yield server


def peers(bundle_folder: Path, bundle: Bundle, scratch: Path) -> dict[str, Any]:
    """Each peer's name and the context that runs it."""
    values: dict[str, Any] = {
        "onnx": bundle_folder.absolute() / ONNX,
        "numeric": bundle.numeric,
        "text": bundle.categorical,
        "time": bundle.time,
    }
    made: dict[str, Any] = {}
    for peer, source in (("KServe SDK", _KSERVE), ("FastAPI + onnxruntime", _FASTAPI)):
        port, script = free_port(), scratch / f"{peer[:4].strip()}.py"
        script.write_text(source.format(port=port, **values))
        made[peer] = start([sys.executable, str(script)], port, script.with_suffix(".txt"))
    if python := os.environ.get("BENCH_MLSERVER"):
        made["MLServer"] = _mlserver(Path(python), values, scratch / "mlserver")
    made["MLflow"] = _mlflow(values["onnx"], bundle, scratch / "mlflow")
    if compiler := shutil.which("cc"):
        made[LIMIT] = _limit(compiler, values["onnx"], bundle, scratch)
    else:
        print(f"{LIMIT}: its rows stay blank, for want of a C compiler (Debian: gcc libc6-dev).")
    return made


def _limit(compiler: str, onnx: Path, bundle: Bundle, scratch: Path) -> Any:
    """`serve_limit.c`, built here on the library that onnxruntime's wheel has for programs in C."""
    import onnxruntime

    source = Path(__file__).with_name("serve_limit.c")
    binary, columns, port = scratch / "limit", scratch / "columns.txt", free_port()
    build = [compiler, "-std=gnu11", "-O2", "-o", str(binary), str(source), "-ldl", "-lm"]
    subprocess.run(build, check=True)
    arrays = {"n": bundle.numeric, "c": bundle.categorical, "t": bundle.time}
    columns.write_text("".join(f"{kind} {name}\n" for kind in arrays for name in arrays[kind]))
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    command = [str(binary), str(port), str(library), str(onnx), str(columns)]
    return start(command, port, scratch / "limit.txt")


def _mlserver(python: Path, values: dict[str, Any], folder: Path) -> Any:
    folder.mkdir()
    port = free_port()
    settings: dict[str, Any] = {
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
    }
    settings |= {"parallel_workers": 0, "host": "127.0.0.1", "debug": False}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(
        json.dumps({"name": "flights", "implementation": "served.Served"})
    )
    (folder / "served.py").write_text(_MLSERVER.format(**values))
    command = [str(python.parent / "mlserver"), "start", "."]
    return start(
        command, port, folder / "output.txt", cwd=folder, environ={"PYTHONPATH": str(folder)}
    )


def _mlflow(onnx_file: Path, bundle: Bundle, folder: Path) -> Any:
    """MLflow's own server on an MLflow ONNX model; it takes the model's three arrays as they are."""
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    kinds = {"numeric": np.float32, "categorical": object, "time": np.int64}
    specs: list[Any] = [
        TensorSpec(np.dtype(kind), (-1, len(columns)), name)
        for name, kind in kinds.items()
        if (columns := getattr(bundle, name))
    ]
    mlflow.onnx.save_model(
        onnx.load(onnx_file),
        str(folder),
        signature=ModelSignature(
            Schema(specs), Schema([TensorSpec(np.dtype(np.float32), (-1,), "probability")])
        ),
        pip_requirements=["mlflow", "onnxruntime"],
        onnx_session_options={"intra_op_num_threads": 1},
        save_as_external_data=False,
    )
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder)]
    command += ["-h", "127.0.0.1", "-p", str(port), "--env-manager", "local", "-w", "1"]
    return start(
        command,
        port,
        folder.with_suffix(".txt"),
        ready="/health",
        path="/invocations",
        # It looks for uvicorn on the path.
        environ={"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        extra={"mlflow": True},
    )
