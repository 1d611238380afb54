"""Readers of V2 (JSON, binary), V1 and gRPC: whatever a client sends, nothing but a refusal is raised.

python -m support.payload_fuzz SEED SECONDS      from the folder tests/
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from slipway.serving.errors import RequestError
from slipway.serving.grpc.messages import message
from slipway.serving.grpc.server import read_message
from slipway.serving.grpc.wire import check_request
from slipway.serving.protocol.rows import RowReader
from slipway.serving.protocol.v1 import parse_instances
from slipway.serving.protocol.v2 import parse_request
from support.serving_bundles import flight_tensors, make_bundle

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
    return _nested(chance) if chance.random() < 0.05 else chance.choice(WORDS)


def _request(chance: random.Random) -> dict[str, Any]:
    rows = chance.choice([1, 1, 2, 3, 400])
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


def v2(chance: random.Random, reader: RowReader) -> None:
    """A JSON request."""
    body = _damage(chance, json.dumps(_request(chance)).encode())
    reader.read(parse_request(body, None, reader.bounds, OUTPUTS).inputs)


def v2_binary(chance: random.Random, reader: RowReader) -> None:
    """A request with binary tensors."""
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
    reader.read(parse_request(_damage(chance, head + tail), length, reader.bounds, OUTPUTS).inputs)


def v1(chance: random.Random, reader: RowReader) -> None:
    """Rows as objects."""
    rows: list[Any] = []
    for number in range(chance.choice([1, 2, 200])):
        row: Any = {t["name"]: t["data"][0] for t in flight_tensors(1, number)}
        if chance.random() < 0.3:
            row[chance.choice(WORDS[:6])] = _value(chance)
        rows.append(row if chance.random() < 0.97 else _value(chance))
    content = {"instances": rows if chance.random() < 0.95 else _value(chance)}
    body = _damage(chance, json.dumps(content).encode())
    keyed = chance.random() < 0.5
    inputs = parse_instances(body, reader, keyed=keyed).inputs
    if keyed and reader.absent(inputs):
        reader.entity_rows(inputs)
    reader.read(inputs)


def grpc(chance: random.Random, reader: RowReader) -> None:
    """A message, and damaged bytes of one."""
    from google.protobuf.message import DecodeError

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
    raw = _damage(chance, request.SerializeToString())
    check_request(raw, reader.bounds)
    try:
        read = message("ModelInferRequest").FromString(raw)
    except DecodeError:
        return
    reader.read(read_message(read, reader.bounds, OUTPUTS).inputs)


READERS = (v2, v2_binary, v1, grpc)


def fuzz(seed: int, seconds: float, most: int) -> tuple[int, list[str]]:
    """How many inputs were tried, and what was raised beside refusals."""
    chance, wrong = random.Random(seed), []
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder))
    reader = RowReader(bundle, max_rows=300, missing_as_null=False)
    end, tried = time.monotonic() + seconds, 0
    while tried < most and time.monotonic() < end and len(wrong) < 20:
        state = chance.getstate()
        way = READERS[tried % len(READERS)]
        try:
            with np.errstate(all="ignore"):
                way(chance, reader)
        except RequestError as error:
            if not 400 <= error.status < 500 or len(str(error)) > 500:
                wrong.append(f"{way.__name__}: {error.status} {str(error)[:600]}")
        except Exception as error:  # what this looks for
            wrong.append(f"{way.__name__}: {error!r:.300}, state {hash(state)}")
        tried += 1
    return tried, wrong


def main(arguments: list[str]) -> int:
    """Runs until the time is over, or until something is wrong."""
    tried, wrong = fuzz(int(arguments[0]), float(arguments[1]), 10**9)
    print(*wrong, f"{tried:,} inputs, {len(wrong)} answered wrongly", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
