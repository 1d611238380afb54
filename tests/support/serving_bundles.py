"""Small bundles by the contract, and predictors that serve them, for the serving tests."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper

from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.bundle import ONNX, Bundle, write_bundle
from slipway.components.contracts.splits import Feature

FEATURES = (
    Feature(name="departs", kind="time", view="schedule"),
    Feature(name="miles", kind="numeric", view="schedule"),
    Feature(name="carrier", kind="categorical", view="schedule"),
    Feature(name="delay", kind="numeric", view="delays"),
    Feature(name="weekend", kind="boolean", view="schedule"),
    Feature(name="origin", kind="categorical", view="schedule"),
)


CLASSES = ("ant", "bée", "cat")


def make_bundle(
    folder: Path,
    *,
    bias: float = 0.0,
    threshold: float = 0.5,
    kind: LabelKind = "binary",
    set_threshold: float | None = None,
) -> Bundle:
    """A logistic model over every kind of feature; `bias` makes another model.

    Of several classes the log-odds are the logit, 0 and its opposite. A number is ten times the logit,
    its interval 5 to either side.
    """
    bundle = Bundle(
        name="flights",
        features=FEATURES,
        key="flight_id",
        entities={"tailnum": "string"},
        feature_service="flights_v1",
        threshold=threshold,
        vocabularies={"carrier": ["AA", "UA"], "origin": ["EWR", "JFK"]},
        data_hash="0" * 64,
        label_kind=kind,
        classes=CLASSES if kind == "multiclass" else (),
        level=0.8 if kind == "number" or set_threshold else 0.0,
        set_threshold=set_threshold,
        scale=20.0 if kind == "number" else 1.0,
        predicts="whether a flight is late" if kind == "binary" else "how late a flight is",
    )
    folder.mkdir(parents=True, exist_ok=True)

    def constant(name: str, value: Any, dtype: Any) -> Any:
        return onnx.numpy_helper.from_array(np.asarray(value, dtype), name)

    nodes = [
        helper.make_node("IsNaN", ["numeric"], ["isnan"]),
        helper.make_node("Where", ["isnan", "zero", "numeric"], ["filled"]),
        helper.make_node("MatMul", ["filled", "weights"], ["from_numeric"]),
        helper.make_node(
            "LabelEncoder",
            ["categorical"],
            ["codes"],
            domain="ai.onnx.ml",
            keys_strings=["AA", "UA", "EWR", "JFK"],
            values_floats=[0.3, -0.2, 0.1, -0.4],
            default_float=0.05,
        ),
        helper.make_node("ReduceSum", ["codes", "axis"], ["from_text"], keepdims=1),
        helper.make_node("Mod", ["time", "day"], ["in_day"]),
        helper.make_node("Cast", ["in_day"], ["in_day_float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["in_day_float", "day_float"], ["share"]),
        helper.make_node("Add", ["from_numeric", "from_text"], ["sum_1"]),
        helper.make_node("Add", ["sum_1", "share"], ["sum_2"]),
        helper.make_node("Add", ["sum_2", "bias"], ["logit"]),
        *{
            "binary": [
                helper.make_node("Sigmoid", ["logit"], ["column"]),
                helper.make_node("Squeeze", ["column", "axis"], ["probability"]),
            ],
            "multiclass": [
                helper.make_node("Neg", ["logit"], ["opposite"]),
                helper.make_node("Mul", ["logit", "zero"], ["none"]),
                helper.make_node("Concat", ["logit", "none", "opposite"], ["odds"], axis=1),
                helper.make_node("Softmax", ["odds"], ["probabilities"], axis=1),
            ],
            "number": [
                helper.make_node("Mul", ["logit", "ten"], ["value"]),
                helper.make_node("Sub", ["value", "five"], ["low"]),
                helper.make_node("Add", ["value", "five"], ["high"]),
                helper.make_node("Concat", ["value", "low", "high"], ["interval"], axis=1),
            ],
        }[kind],
    ]
    output, width = bundle.output
    graph = helper.make_graph(
        nodes,
        "logistic",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("categorical", TensorProto.STRING, ["N", 2]),
            helper.make_tensor_value_info("time", TensorProto.INT64, ["N", 1]),
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", *width])],
        [
            constant("zero", 0.0, np.float32),
            constant("weights", [[0.001], [0.02], [0.5]], np.float32),
            constant("axis", [1], np.int64),
            constant("day", 86_400_000_000, np.int64),
            constant("day_float", 86_400_000_000, np.float32),
            constant("bias", bias, np.float32),
            constant("ten", 10.0, np.float32),
            constant("five", 5.0, np.float32),
        ],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    onnx.save(model, folder / ONNX)
    write_bundle(folder, bundle)
    return bundle


def logistic(
    miles: float | None,
    delay: float | None,
    weekend: bool | None,
    carrier: str | None,
    origin: str | None,
    departs_us: int | None,
    bias: float = 0.0,
) -> float:
    """The model of `make_bundle`, by hand."""
    codes = {"AA": 0.3, "UA": -0.2, "EWR": 0.1, "JFK": -0.4}
    missing = -(2**63)
    moment = missing if departs_us is None else departs_us
    logit = 0.001 * (miles or 0) + 0.02 * (delay or 0) + 0.5 * float(weekend or 0)
    logit += codes.get(carrier or "", 0.05) + codes.get(origin or "", 0.05)
    logit += (moment % 86_400_000_000) / 86_400_000_000 + bias
    return float(1 / (1 + np.exp(-logit)))


def tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}


def flight_tensors(rows: int = 1, start: int = 0) -> list[dict[str, Any]]:
    """The V2 inputs of some flights, all different."""
    numbers = range(start, start + rows)
    return [
        tensor("miles", "FP64", [100.5 + i for i in numbers]),
        tensor("delay", "FP64", [float(i % 60) for i in numbers]),
        tensor("weekend", "BOOL", [i % 7 > 4 for i in numbers]),
        tensor("carrier", "BYTES", [("AA", "UA", "B6")[i % 3] for i in numbers]),
        tensor("origin", "BYTES", [("EWR", "JFK")[i % 2] for i in numbers]),
        tensor("departs", "BYTES", [f"2013-12-01T{i % 24:02d}:15:00" for i in numbers]),
        tensor("flight_id", "BYTES", [f"flight-{i}" for i in numbers]),
    ]


def expected(rows: int = 1, start: int = 0, bias: float = 0.0) -> list[float]:
    """What the model answers to `flight_tensors`."""
    midnight = 1_385_856_000_000_000  # 2013-12-01 in microseconds
    return [
        logistic(
            100.5 + i,
            float(i % 60),
            i % 7 > 4,
            ("AA", "UA", "B6")[i % 3],
            ("EWR", "JFK")[i % 2],
            midnight + (i % 24) * 3_600_000_000 + 900_000_000,
            bias,
        )
        for i in range(start, start + rows)
    ]


@dataclass
class Running:
    """A predictor process."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    bundle: Path
    output: Path
    grpc: str = ""

    def infer(self, tensors: list[dict[str, Any]], **more: Any) -> httpx.Response:
        body = {"inputs": tensors, **more}
        return httpx.post(f"{self.url}/v2/models/flights/infer", json=body, timeout=10)

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics").text
        return next(float(row.split()[-1]) for row in text.splitlines() if row.startswith(name))

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def predictor(folder: Path, *flags: str, bundle: Path | None = None) -> Iterator[Running]:
    """Starts `python -m slipway.serving` and waits until it is ready."""
    folder.mkdir(parents=True, exist_ok=True)
    if bundle is None:
        bundle = folder / "bundle"
        if not bundle.exists():
            make_bundle(bundle)
    port, output = free_port(), folder / "output.txt"
    with output.open("ab") as sink:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "slipway.serving",
                "--model-dir",
                str(bundle),
                "--host=127.0.0.1",
                f"--port={port}",
                "--model-version=7",
                f"--log-uri={folder / 'log'}",
                f"--log-spool={folder / 'spool'}",
                "--log-roll-seconds=0.2",
                *flags,
            ],
            stdout=sink,
            stderr=sink,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
    running = Running(f"http://127.0.0.1:{port}", process, folder / "log", bundle, output)
    try:
        wait_ready(running.url, process, output)
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_ready(url: str, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the predictor ended: {output.read_text()}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/v2/health/ready").status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"the predictor is not ready: {output.read_text()}")


def wait_for(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
