"""Readers of V2 (JSON, binary), V1 and gRPC: whatever a client sends, nothing but a refusal is raised."""

import copy
import functools
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from support.serving_bundles import flight_tensors, make_bundle

from fuzz.harness import FuzzTarget
from slipway.serving.grpc.messages import message
from slipway.serving.grpc.server import read_message
from slipway.serving.grpc.wire import check_request
from slipway.serving.protocol.rows import RowReader
from slipway.serving.protocol.v1 import parse_instances
from slipway.serving.protocol.v2 import parse_request

WORDS: list[Any] = [
    "miles", "carrier", "departs", "flight_id", "weekend", "tailnum", "FP64", "FP32", "FP16", "INT64",
    "UINT64", "INT8", "BOOL", "BYTES", "label", "", "x", "\u00e9", "2013-12-01T05:00:00", "9999-99-99",
    "a" * 5000, None, True, False, 0, 1, -1, 2**31, 2**63, 2**64 - 1, 2**64, 1e300, -0.5, [], {}, [1],
    [[1]],
    [[[1]]], [None], ["a"], {"a": 1}, [0], [2], [1, 1], [2**62], [-1], [True], ["1"],
]  # fmt: skip
MEMBERS = ["name", "shape", "datatype", "data", "parameters"]
OUTPUTS = ("probability", "label")


def _nested(chance: random.Random) -> Any:
    depth = chance.choice([3, 20, 200, 900])
    value: Any = chance.choice(WORDS[:20])
    for _ in range(depth):
        value = [value] if chance.random() < 0.7 else {"a": value}
    return value


def _value(chance: random.Random) -> Any:
    return _nested(chance) if chance.random() < 0.05 else copy.deepcopy(chance.choice(WORDS))


def _request(chance: random.Random) -> dict[str, Any]:
    rows = chance.choice([1, 1, 1, 1, 1, 2, 2, 3, 3, 400])
    tensors = flight_tensors(rows)
    for _ in range(chance.choice([0, 1, 1, 2])):
        tensor: Any = chance.choice(tensors)
        member = chance.choice(MEMBERS)
        data = tensor["data"]
        if member == "data" and chance.random() < 0.6 and type(data) is list and len(data) == rows:
            tensor["data"][chance.randrange(rows)] = _value(chance)
        else:
            tensor[member] = _value(chance)
    content: dict[str, Any] = {"inputs": tensors}
    for name in ("id", "parameters", "outputs", "inputs"):
        if chance.random() < 0.05:
            content[name] = _value(chance)
    if chance.random() < 0.1:
        content["parameters"] = {
            chance.choice(["time", "log", "binary_data_output"]): _value(chance)
        }
    return content


def _damage(chance: random.Random, body: bytes) -> bytes:
    data = bytearray(body)
    for _ in range(chance.choice([0, 0, 1, 3])):
        place = chance.randrange(len(data) + 1)
        if chance.random() < 0.5:
            data[place : place + 1] = bytes([chance.randrange(256)])
        else:
            data[place:place] = chance.choice(
                [b"[", b"]", b"{", b"}", b'"', b"\\", b",", b"NaN", b"1e999"]
            )
    return bytes(data)


def make_v2(chance: random.Random) -> bytes:
    """A JSON request."""
    return _damage(chance, json.dumps(_request(chance)).encode())


def read_v2(data: bytes) -> None:
    """A JSON request."""
    reader = _reader()
    reader.read(parse_request(data, None, reader.bounds, OUTPUTS).inputs)


def make_binary(chance: random.Random) -> bytes:
    """A request with binary tensors, behind two bytes that say how long its JSON is."""
    content, tail = _request(chance), b""
    if type(content["inputs"]) is list:
        for tensor in content["inputs"]:
            if type(tensor) is dict and chance.random() < 0.5:
                tensor.pop("data", None)
                blob = chance.choice(
                    [b"", b"\0" * 8, b"\1\0\0\0A", b"\xff" * 8, chance.randbytes(9)]
                )
                size = len(blob) if chance.random() < 0.9 else _value(chance)
                tensor["parameters"], tail = {"binary_data_size": size}, tail + blob
    head = json.dumps(content).encode()
    length = len(head) if chance.random() < 0.9 else chance.randrange(len(head) * 2)
    return min(length, 65_535).to_bytes(2, "big") + _damage(chance, head + tail)


def read_binary(data: bytes) -> None:
    """A request with binary tensors."""
    reader, length = _reader(), int.from_bytes(data[:2], "big")
    reader.read(parse_request(data[2:], length, reader.bounds, OUTPUTS).inputs)


def make_v1(chance: random.Random) -> bytes:
    """Rows as objects, behind a byte that says whether they have keys alone."""
    rows: list[Any] = []
    for number in range(chance.choice([1, 1, 1, 2, 20, 200])):
        row: Any = {t["name"]: t["data"][0] for t in flight_tensors(1, number)}
        if chance.random() < 0.3:
            row[chance.choice(WORDS[:6])] = _value(chance)
        rows.append(row if chance.random() < 0.97 else _value(chance))
    content = {"instances": rows if chance.random() < 0.95 else _value(chance)}
    return chance.choice([b"k", b" "]) + _damage(chance, json.dumps(content).encode())


def read_v1(data: bytes) -> None:
    """Rows as objects."""
    reader, keyed = _reader(), data[:1] == b"k"
    inputs = parse_instances(data[1:], reader, keyed=keyed).inputs
    if keyed and reader.absent(inputs):
        reader.entity_rows(inputs)
    reader.read(inputs)


def make_grpc(chance: random.Random) -> bytes:
    """A message, and damaged bytes of one."""
    request = message("ModelInferRequest")(model_name="flights")
    for tensor in flight_tensors(chance.choice([1, 3])):
        shape = chance.choice([tensor["shape"], [1], [-1], [2**62], [1, 1], []])
        kind = chance.choice([tensor["datatype"]] * 5 + ["INT8", "FP16", "BYTES", "x" * 500])
        request.inputs.add(name=tensor["name"], datatype=kind, shape=shape)
        if chance.random() < 0.5:
            request.raw_input_contents.append(chance.randbytes(chance.choice([0, 4, 5, 8])))
        else:
            request.inputs[-1].contents.fp64_contents.append(
                chance.choice([1.0, float("nan"), 1e300])
            )
    return _damage(chance, request.SerializeToString())


def read_grpc(data: bytes) -> None:
    """A message of gRPC."""
    from google.protobuf.message import DecodeError

    reader = _reader()
    check_request(data, reader.bounds)
    try:
        read = message("ModelInferRequest").FromString(data)
    except DecodeError:
        return
    reader.read(read_message(read, reader.bounds, OUTPUTS).inputs)


@functools.cache
def _reader() -> RowReader:
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder))
    np.seterr(all="ignore")
    return RowReader(bundle, max_rows=300, missing_as_null=False)


def _right_binary() -> bytes:
    """A request that is taken, with one binary tensor."""
    tensors = flight_tensors(1)
    miles = next(tensor for tensor in tensors if tensor["name"] == "miles")
    blob = np.asarray(miles.pop("data"), np.float64).tobytes()
    miles.update(datatype="FP64", parameters={"binary_data_size": len(blob)})
    head = json.dumps({"inputs": tensors}).encode()
    return len(head).to_bytes(2, "big") + head + blob


def _target(
    read: Callable[[bytes], None],
    make: Callable[[random.Random], bytes],
    right: tuple[bytes, ...] = (),
) -> FuzzTarget:
    """`right`: inputs that are taken, where few of those that are made are."""

    def seeds() -> list[bytes]:
        chance = random.Random(1)
        made = [data for data in (make(chance) for _ in range(200)) if len(data) < 4_000]
        return [*made, *right]

    return FuzzTarget(read=read, seeds=seeds, make=make)


PAYLOADS = {
    "v2": _target(read_v2, make_v2),
    "v2_binary": _target(read_binary, make_binary, (_right_binary(),)),
    "v1": _target(read_v1, make_v1),
    "grpc": _target(read_grpc, make_grpc),
}
