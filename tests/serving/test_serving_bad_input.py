"""Bad input: 4xx that names the input, and the next request on the same connection works."""

import json
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.serving_bundles import Running, flight_tensors, tensor

from slipway.serving.protocol.tensors import decode_tensor, encode_tensor

PATH = "/v2/models/flights/infer"


@dataclass
class Case:
    name: str
    body: Any
    message: str
    status: int = 400
    headers: dict[str, str] = field(default_factory=dict)


def without(name: str) -> list[dict[str, Any]]:
    return [t for t in flight_tensors(1) if t["name"] != name]


def changed(name: str, **change: Any) -> dict[str, Any]:
    return {"inputs": [{**t, **change} if t["name"] == name else t for t in flight_tensors(1)]}


CASES = [
    Case("empty", b"", "body is empty"),
    Case("not JSON", b"{", "not JSON"),
    Case("NaN literal", b'{"inputs": [NaN]}', "not JSON"),
    Case("not UTF-8", b'{"inputs": "\xff\xfe"}', "not JSON"),
    Case("lone surrogate", b'{"id": "\\ud800", "inputs": []}', "not JSON"),
    Case("deep", b"[" * 100_000, "nested more than 16"),
    Case("list", [], "must be a JSON object"),
    Case("no inputs", {}, "'inputs' must be a list"),
    Case("inputs null", {"inputs": None}, "'inputs' must be a list"),
    Case("inputs empty", {"inputs": []}, "'inputs' must be a list"),
    Case("input a number", {"inputs": [1]}, "must be an object"),
    Case("input without name", {"inputs": [{"shape": [1]}]}, "no 'name'"),
    Case("name a list", {"inputs": [{"name": ["miles"]}]}, "no 'name'"),
    Case("missing", {"inputs": without("miles")}, "lacks the input 'miles'"),
    Case("extra", {"inputs": [*flight_tensors(1), tensor("mils", "FP64", [1])]}, "no input 'mils'"),
    Case("twice", {"inputs": [*flight_tensors(1), flight_tensors(1)[0]]}, "'miles' is there twice"),
    Case("no shape", changed("miles", shape=None), "'miles' has shape None"),
    Case("shape 3-d", changed("miles", shape=[1, 1, 1]), "'miles' has shape"),
    Case("shape wide", changed("miles", shape=[1, 2]), "'miles' has shape"),
    Case("shape of text", changed("miles", shape=["1"]), "'miles' has shape"),
    Case("shape true", changed("miles", shape=[True]), "'miles' has shape"),
    Case("shape zero", changed("miles", shape=[0], data=[]), "'miles' has shape"),
    Case("shape negative", changed("miles", shape=[-1]), "'miles' has shape"),
    Case("shape a lie", changed("miles", shape=[2]), "'miles' has shape [2] but 1 values"),
    Case("shape immense", changed("miles", shape=[2**62]), "rows in one request", 413),
    Case("other row count", changed("delay", shape=[2], data=[1, 2]), "'delay' has 2 rows"),
    Case("no data", changed("miles", data=None), "'miles' has no 'data'"),
    Case("data a text", changed("miles", data="1"), "'miles' has no 'data'"),
    Case("data nested", changed("miles", data=[[[1]]]), "'miles' has the value [1]"),
    Case("data ragged", changed("miles", data=[[1, 2]]), "'miles': the rows"),
    Case("no datatype", changed("miles", datatype=None), "'miles' has no 'datatype'"),
    Case("unknown datatype", changed("miles", datatype="FP128"), "'miles' has datatype 'FP128'"),
    Case("text for a number", changed("miles", data=["1.5"]), "'miles' has the value 1.5"),
    Case("true for a number", changed("miles", data=[True]), "'miles' has the value True"),
    Case("float for INT64", changed("miles", datatype="INT64"), "'miles' has the value 100.5"),
    Case(
        "out of INT8",
        changed("miles", datatype="INT8", data=[300]),
        "'miles' has a value that INT8",
    ),
    Case("beyond float32", changed("miles", data=[1e300]), "'miles' has a value that is infinite"),
    Case("beyond double", b'{"inputs": [1e999]}', "not JSON"),
    Case("number for a text", changed("carrier", data=[1]), "'carrier' has the value 1"),
    Case("FP64 for a text", changed("carrier", datatype="FP64"), "'carrier' has datatype 'FP64'"),
    Case("2 for a boolean", changed("weekend", datatype="INT64", data=[2]), "'weekend' is a bool"),
    Case("text for a boolean", changed("weekend", data=["yes"]), "'weekend' has the value yes"),
    Case("no time", changed("departs", data=["tomorrow"]), "'departs': 'tomorrow' is not"),
    Case("time beyond INT64", changed("departs", datatype="INT64", data=[2**63]), "'departs'"),
    Case("key a number", changed("flight_id", data=[1]), "the value 1: give keys as texts, or all"),
    Case("id a number", {**changed("miles"), "id": 1}, "'id' must be a text"),
    Case("id long", {**changed("miles"), "id": "x" * 1000}, "'id' must be a text"),
    Case("parameters a list", {**changed("miles"), "parameters": [1]}, "'parameters'"),
    Case("parameter time", {**changed("miles"), "parameters": {"time": 1}}, "parameter 'time'"),
    Case("parameter log", {**changed("miles"), "parameters": {"log": "no"}}, "parameter 'log'"),
    Case("outputs a text", {**changed("miles"), "outputs": "label"}, "'outputs' must be a list"),
    Case("unknown output", {**changed("miles"), "outputs": [{"name": "x"}]}, "no output 'x'"),
    Case("output a list", {**changed("miles"), "outputs": [{"name": []}]}, "no output '[]'"),
    Case("gzip", b"\x1f\x8b", "uncompressed", 415, {"content-encoding": "gzip"}),
    Case(
        "header length not a number",
        b"{}",
        "must be a number",
        400,
        {"inference-header-content-length": "-1"},
    ),
    Case(
        "header length beyond the body",
        b"{}",
        "is 99, the body has 2 bytes",
        400,
        {"inference-header-content-length": "99"},
    ),
    Case(
        "binary without the header",
        changed("miles", parameters={"binary_data_size": 8}, data=None),
        "needs the header",
    ),
    Case("parameters of a tensor", changed("miles", parameters=[1]), ""),
]


def post(served: Running, case: Case, client: httpx.Client) -> httpx.Response:
    body = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    return client.post(served.url + PATH, content=body, headers=case.headers)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused_and_the_next_request_works(served: Running, case: Case) -> None:
    with httpx.Client() as client:
        response = post(served, case, client)
        if case.message:
            assert response.status_code == case.status, response.text
            assert case.message in response.json()["error"]
        assert response.status_code < 500
        assert served.infer(flight_tensors(1)).status_code == 200
        good = client.post(served.url + PATH, json={"inputs": flight_tensors(1)})
        assert good.status_code == 200


def binary(
    tensors: list[dict[str, Any]], blobs: dict[str, bytes], cut: int = 0
) -> tuple[bytes, dict[str, str]]:
    """A request with some tensors in binary."""
    header, tail = [], b""
    for item in tensors:
        if item["name"] in blobs:
            blob = blobs[item["name"]]
            made = {k: v for k, v in item.items() if k != "data"}
            header.append({**made, "parameters": {"binary_data_size": len(blob)}})
            tail += blob
        else:
            header.append(item)
    head = json.dumps({"inputs": header}).encode()
    body = head + tail
    return body[: len(body) - cut], {"inference-header-content-length": str(len(head))}


@dataclass
class Binary:
    name: str
    tensor: str
    blob: bytes
    message: str
    cut: int = 0


BINARY_CASES = [
    Binary("cut short", "miles", struct.pack("<d", 1.0), "binary_data_size", cut=3),
    Binary("half a value", "miles", b"\0" * 7, "'miles': 7 bytes are no whole FP64"),
    Binary("two values", "miles", b"\0" * 16, "'miles' has shape [1] but 2 values"),
    Binary("infinite", "miles", struct.pack("<d", float("inf")), "'miles' has a value that is inf"),
    Binary("text beyond its tensor", "carrier", struct.pack("<I", 99) + b"AA", "'carrier': its"),
    Binary("length cut", "carrier", b"\1\0", "'carrier': its bytes end"),
    Binary("text not UTF-8", "carrier", struct.pack("<I", 1) + b"\xff", "'carrier' has a value"),
    Binary("boolean 7", "weekend", b"\7", "'weekend': a BOOL is one byte"),
]


@pytest.mark.parametrize("case", BINARY_CASES, ids=lambda case: case.name)
def test_bad_binary_tensors(served: Running, case: Binary) -> None:
    body, headers = binary(flight_tensors(1), {case.tensor: case.blob}, case.cut)
    response = httpx.post(served.url + PATH, content=body, headers=headers)
    assert response.status_code == 400 and case.message in response.json()["error"]


@pytest.mark.parametrize("name", ["binary_data_size", r"binary\u005fdata_size"])
def test_a_binary_tensor_without_the_length_of_the_json(served: Running, name: str) -> None:
    body, _ = binary(flight_tensors(1), {"miles": struct.pack("<d", 1.0)})
    json_alone = body[:-8].replace(b"binary_data_size", name.encode())
    response = httpx.post(served.url + PATH, content=json_alone)
    assert response.status_code == 400
    assert "'miles' is a binary tensor: the request needs" in response.json()["error"]


@given(st.lists(st.text(max_size=300), min_size=1, max_size=40))
def test_texts_of_a_binary_tensor_are_those_that_were_sent(texts: list[str]) -> None:
    blob = encode_tensor("BYTES", np.array(texts, object))
    assert decode_tensor("x", "BYTES", [len(texts)], memoryview(blob), 1000) == texts


def test_nan_in_a_binary_tensor_is_a_missing_value(served: Running) -> None:
    body, headers = binary(flight_tensors(1), {"miles": struct.pack("<d", float("nan"))})
    with_nan = httpx.post(served.url + PATH, content=body, headers=headers)
    with_null = served.infer(changed("miles", data=[None])["inputs"])
    assert with_nan.json()["outputs"] == with_null.json()["outputs"]


def test_too_large_a_body_is_refused_before_it_is_read(served: Running) -> None:
    response = httpx.post(served.url + PATH, content=b" " * 2_500_000)
    assert response.status_code == 413
    assert served.infer(flight_tensors(1)).status_code == 200

    def chunks() -> Any:
        for _ in range(400):
            yield b" " * 10_000

    try:
        response = httpx.post(served.url + PATH, content=chunks())
        assert response.status_code == 413
    except httpx.WriteError:
        pass  # the predictor closed the connection while the client was still sending
    assert served.infer(flight_tensors(1)).status_code == 200


def raw(served: Running, *parts: bytes, wait: float = 2.0) -> bytes:
    """Sends bytes as they are and reads until the predictor closes or is silent."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as sock:
        answer = b""
        try:
            for part in parts:
                sock.sendall(part)
            while chunk := sock.recv(65536):
                answer += chunk
        except (TimeoutError, ConnectionError):
            pass
        return answer


@pytest.mark.parametrize(
    ("name", "parts", "status"),
    [
        ("no HTTP", [b"\x00\x01\x02\r\n\r\n"], b"400"),
        (
            "header without end",
            [b"GET / HTTP/1.1\r\nx: " + b"a" * 8000] + [b"a" * 8000] * 8,
            b"431",
        ),
        ("url without end", [b"GET /" + b"a" * 8000] + [b"a" * 8000] * 8, b"431"),
        ("many headers", [b"GET / HTTP/1.1\r\n"] + [b"x: y\r\n" * 2000] * 8, b"431"),
        ("connect", [b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"], b"400"),
        ("length a text", [b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"], b"400"),
        ("length negative", [b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"], b"400"),
        (
            "length and chunks",
            [b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"],
            b"400",
        ),
    ],
)
def test_bad_http(served: Running, name: str, parts: list[bytes], status: bytes) -> None:
    answer = raw(served, *parts)
    # Where bytes are still on their way when the predictor closes, the kernel may reset instead.
    refused = answer.startswith(b"HTTP/1.1 " + status) or (status == b"431" and not answer)
    assert refused, answer[:200]
    assert served.infer(flight_tensors(1)).status_code == 200


def test_pipelined_requests_are_answered_in_order(served: Running) -> None:
    body = json.dumps({"inputs": flight_tensors(1), "id": "first"}).encode()
    one = (
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    answer = raw(served, one + body + b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n", wait=0.5)
    assert answer.index(b'"first"') < answer.index(b'{"live":true}')


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8"), max_size=5)
        | st.sampled_from(["miles", "carrier", "departs", "FP64", "BYTES", "INT64", "BOOL"]),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["inputs", "name", "shape", "datatype", "data", "parameters", "outputs", "id"]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=25,
    )
)
def test_any_json_is_answered_below_500(served: Running, content: Any) -> None:
    response = client().post(served.url + PATH, content=json.dumps(content).encode())
    assert 200 <= response.status_code < 500, response.text


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_changed_requests_are_answered_below_500(served: Running, data: st.DataObject) -> None:
    """A good request with one thing replaced by anything."""
    tensors = flight_tensors(2)
    victim = data.draw(st.sampled_from(tensors))
    where = data.draw(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]))
    anything = st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.floats(-1e308)
    kinds = ["FP64", "FP32", "INT8", "INT64", "UINT64", "BOOL", "BYTES"]
    victim[where] = data.draw(
        anything | st.lists(anything, min_size=2, max_size=2) | st.sampled_from(kinds)
    )
    body = json.dumps({"inputs": tensors}).encode()
    response = client().post(served.url + PATH, content=body)
    assert 200 <= response.status_code < 500, response.text
    assert "predictor failed" not in response.text


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cut=st.integers(0, 60),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    length=st.integers(0, 3000),
)
def test_damaged_binary_requests_are_answered_below_500(
    served: Running, cut: int, flips: list[tuple[int, int]], length: int
) -> None:
    blobs = {
        "miles": struct.pack("<dd", 1.0, 2.0),
        "carrier": struct.pack("<I2sI2s", 2, b"AA", 2, b"UA"),
        "weekend": b"\1\0",
    }
    body, headers = binary(flight_tensors(2), blobs, cut)
    damaged = bytearray(body)
    for position, value in flips:
        if damaged:
            damaged[position % len(damaged)] = value
    if length % 3 == 0:
        headers["inference-header-content-length"] = str(length)
    response = client().post(served.url + PATH, content=bytes(damaged), headers=headers)
    assert 200 <= response.status_code < 500, response.text


_clients: list[httpx.Client] = []


def client() -> httpx.Client:
    """One kept connection for all examples: each bad request must leave it usable."""
    if not _clients:
        _clients.append(httpx.Client())
    return _clients[0]


def test_memory_does_not_grow_under_bad_requests(served: Running) -> None:
    def resident() -> int:
        pages = int(Path(f"/proc/{served.process.pid}/statm").read_text().split()[1])
        return pages * 4096

    bodies = [b"[" * 50_000, b'{"inputs": "' + b"x" * 200_000, b'{"x": ' + b'{"y":' * 1000]
    with httpx.Client() as kept:
        for body in bodies * 20:
            kept.post(served.url + PATH, content=body)
        time.sleep(0.7)
        before = resident()
        for body in bodies * 100:
            kept.post(served.url + PATH, content=body)
        time.sleep(0.7)
    assert resident() - before < 8_000_000
