"""Hostile clients: what they may cost in memory and time, over both protocols."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from support.serving_bundles import Running, flight_tensors, free_port, predictor

from slipway.components.config.deployment import DeploymentConfig
from slipway.serving.grpc.messages import message

INFER, PREDICT = "/v2/models/flights/infer", "/v1/models/flights:predict"
SIZE = 14_000_000
# The predictor of a pod has this much at the defaults.
POD_MB = {"1Gi": 1024}[DeploymentConfig().resources.max_memory]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    """A predictor with the limits that a pod has, and its gRPC address."""
    port = free_port()
    with predictor(tmp_path_factory.mktemp("hostile"), f"--grpc-port={port}") as made:
        yield made, f"127.0.0.1:{port}"


def peak_mb(process: subprocess.Popen[bytes]) -> int:
    """The most memory that a process had since it started."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    row = next(row for row in text.splitlines() if row.startswith("VmHWM"))
    return int(row.split()[1]) // 1024


def filled(before: bytes, unit: bytes, after: bytes) -> bytes:
    """A body of `SIZE` bytes with one thing again and again."""
    return before + unit * (SIZE // len(unit)) + unit.rstrip(b",") + after


_GOOD = json.dumps({"inputs": flight_tensors(1)}).encode()[:-1]
_MILES = b'{"inputs":[{"name":"miles","shape":[1],"datatype":"FP64",'
BODIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "parameters, lists": (INFER, lambda: filled(_GOOD + b',"parameters":{"x":[', b"[],", b"]}}")),
    "parameters, objects": (INFER, lambda: filled(_GOOD + b',"parameters":{"x":[', b"{},", b"]}}")),
    "parameters, texts": (INFER, lambda: filled(_GOOD + b',"parameters":{"x":[', b'"ab",', b"]}}")),
    "data, lists": (INFER, lambda: filled(_MILES + b'"data":[', b"[],", b"]}]}")),
    "data, numbers": (INFER, lambda: filled(_MILES + b'"data":[', b"1.5,", b"]}]}")),
    "a tensor's member": (INFER, lambda: filled(_MILES + b'"x":[', b"{},", b"]}]}")),
    "shape": (INFER, lambda: filled(_MILES + b'"data":[1.5],"shape":[', b"1,", b"]}]}")),
    "inputs": (INFER, lambda: filled(b'{"inputs":[', b"{},", b"]}")),
    "outputs": (INFER, lambda: filled(_GOOD + b',"outputs":[', b'{"name":"label"},', b"]}")),
    "members": (
        INFER,
        lambda: b'{"inputs":[{' + b",".join(b'"%x":1' % i for i in range(1_200_000)) + b"}]}",
    ),
    "a wide text": (
        INFER,
        lambda: (
            '{"inputs":[{"name":"carrier","shape":[1],"datatype":"BYTES","data":["\U0001f600'
            + "a" * SIZE
            + '"]}]}'
        ).encode(),
    ),
    "rows": (PREDICT, lambda: filled(b'{"instances":[', b"{},", b"]}")),
    "rows that are lists": (PREDICT, lambda: filled(b'{"instances":[', b"[],", b"]}")),
    "a row": (PREDICT, lambda: filled(b'{"instances":[{"miles":[', b"[],", b"]}]}")),
}


@pytest.mark.timeout(300)
def test_memory_holds_whatever_is_in_a_body(running: tuple[Running, str]) -> None:
    """Four bodies of 14 MB at one time, of each kind: all that the predictor takes at once."""
    server, _ = running
    with httpx.Client(base_url=server.url, timeout=120) as client:
        for name, (path, make) in BODIES.items():
            body, statuses = make(), []

            def post(body: bytes = body, path: str = path, out: list[int] = statuses) -> None:
                out.append(client.post(path, content=body).status_code)

            threads = [threading.Thread(target=post) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert set(statuses) <= {400, 413, 503} and len(statuses) == 4, (name, statuses)
            assert 400 in statuses or 413 in statuses, (name, statuses)
            assert peak_mb(server.process) < POD_MB / 2, name
    assert server.infer(flight_tensors(1)).status_code == 200


def _messages() -> dict[str, bytes]:
    def tensor(**content: Any) -> bytes:
        request = message("ModelInferRequest")(model_name="flights")
        values = {name: content.pop(name) for name in list(content) if name.endswith("contents")}
        made = request.inputs.add(name="miles", **content)
        for name, value in values.items():
            getattr(made.contents, name).extend(value)
        return bytes(request.SerializeToString())

    return {
        "inputs": b"\x2a\x00" * (SIZE // 2),
        "outputs": b"\x32\x00" * (SIZE // 2),
        "raw contents": b"\x3a\x00" * (SIZE // 2),
        "integers": tensor(datatype="INT64", shape=[1], int64_contents=[1] * SIZE),
        "booleans": tensor(datatype="BOOL", shape=[1], bool_contents=[True] * SIZE),
        "texts": tensor(datatype="BYTES", shape=[1], bytes_contents=[b"a"] * (SIZE // 3)),
        "shape": tensor(datatype="FP64", shape=[1] * SIZE),
        "unpacked": b"\x0a\x07flights\x2a" + _sized(b"\x2a" + _sized(b"\x08\x01" * (SIZE // 2))),
        "unknown": b"\xfa\x3f" + _sized(b"x" * SIZE),
    }


def _sized(value: bytes) -> bytes:
    size, head = len(value), b""
    while size > 127:
        head += bytes([size & 127 | 128])
        size >>= 7
    return head + bytes([size]) + value


@pytest.mark.timeout(300)
def test_memory_holds_whatever_is_in_a_message(running: tuple[Running, str]) -> None:
    """Twelve messages of 14 MB at one time: more than gRPC is let receive at once."""
    import grpc

    server, address = running
    for name, raw in _messages().items():
        codes: list[str] = []

        def call(raw: bytes = raw, out: list[str] = codes) -> None:
            options = [("grpc.max_send_message_length", -1)]
            with grpc.insecure_channel(address, options=options) as channel:
                method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
                with pytest.raises(grpc.RpcError) as error:
                    method(raw, timeout=120)
                out.append(error.value.code().name)

        threads = [threading.Thread(target=call) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "NOT_FOUND"}
        assert set(codes) <= refused | {"UNAVAILABLE"}, (name, codes)
        assert refused & set(codes) and len(codes) == 12, (name, codes)
        assert peak_mb(server.process) < POD_MB * 3 / 4, name
    assert server.infer(flight_tensors(1)).status_code == 200


@pytest.mark.parametrize("algorithm", ["Gzip", "Deflate"])
def test_a_message_that_unpacks_to_much_is_refused_and_fills_neither_memory_nor_log(
    running: tuple[Running, str], algorithm: str
) -> None:
    import grpc

    server, address = running
    with grpc.insecure_channel(address, [("grpc.max_send_message_length", -1)]) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for _ in range(3):
            with pytest.raises(grpc.RpcError, match="Decompressed message larger than max"):
                method(bytes(100_000_000), compression=grpc.Compression[algorithm], timeout=60)
    assert peak_mb(server.process) < POD_MB * 3 / 4
    assert server.infer(flight_tensors(1)).status_code == 200
    assert "Traceback" not in server.output.read_text()


def test_an_answer_is_as_short_as_a_name_is_long(running: tuple[Running, str]) -> None:
    """An input's name comes back in the message, cut."""
    import grpc

    request = message("ModelInferRequest")(model_name="flights")
    request.inputs.add(name="n" * 4000, datatype="FP64", shape=[1])
    request.raw_input_contents.append(b"12345")
    with grpc.insecure_channel(running[1]) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as error:
            call(request.SerializeToString(), timeout=20)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(error.value.details()) < 200 and "nnn" in error.value.details()


def test_calls_that_never_send_their_message_let_others_through(tmp_path: Path) -> None:
    """More of them than may receive at one time, and none for longer than the time for a request."""
    import grpc

    port = free_port()
    method = "/inference.GRPCInferenceService/"
    with predictor(tmp_path, f"--grpc-port={port}", "--receive-seconds=2"):
        end = threading.Event()

        def nothing() -> Iterator[bytes]:
            end.wait(30)
            yield from ()

        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            silent = [
                channel.stream_unary(method + "ModelInfer").future(nothing()) for _ in range(20)
            ]
            time.sleep(0.5)
            assert channel.unary_unary(method + "ServerLive")(b"", timeout=15) == b"\x08\x01"
            codes = [call.exception(timeout=20).code() for call in silent]
            assert set(codes) == {grpc.StatusCode.DEADLINE_EXCEEDED}
            end.set()
            big = channel.unary_unary(method + "ModelInfer")
            with pytest.raises(grpc.RpcError) as error:
                big(b"x" * 16_000_001, timeout=30)
            assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


DEEP = b"[" * 1000 + b"]" * 1000
PLACES = {
    "name": b'{"inputs":[{"name":%b}]}',
    "shape": b'{"inputs":[{"name":"miles","shape":%b,"datatype":"FP64","data":[1]}]}',
    "shape's dimension": b'{"inputs":[{"name":"miles","shape":[%b],"datatype":"FP64","data":[1]}]}',
    "datatype": b'{"inputs":[{"name":"miles","shape":[1],"datatype":%b,"data":[1]}]}',
    "data": b'{"inputs":[{"name":"miles","shape":[1],"datatype":"FP64","data":%b}]}',
    "value": b'{"inputs":[{"name":"miles","shape":[1],"datatype":"FP64","data":[%b]}]}',
    "text": b'{"inputs":[{"name":"carrier","shape":[1],"datatype":"BYTES","data":[%b]}]}',
    "time": b'{"inputs":[{"name":"departs","shape":[1],"datatype":"INT64","data":[%b]}]}',
    "key": b'{"inputs":[{"name":"flight_id","shape":[1],"datatype":"BYTES","data":[%b]}]}',
    "inputs": b'{"inputs":%b}',
    "an input": b'{"inputs":[%b]}',
    "id": b'{"id":%b,"inputs":[]}',
    "parameters": b'{"parameters":%b,"inputs":[]}',
    "parameter": b'{"parameters":{"time":%b},"inputs":[]}',
    "outputs": b'{"outputs":%b,"inputs":[]}',
    "output": b'{"outputs":[{"name":%b}],"inputs":[]}',
    "size": b'{"inputs":[{"name":"miles","parameters":{"binary_data_size":%b}}]}',
    "instances": b'{"instances":%b}',
    "instance": b'{"instances":[%b]}',
    "member": b'{"instances":[{"miles":%b}]}',
    "time of a row": b'{"instances":[{"departs":%b}]}',
}


@pytest.mark.parametrize("depth", [2, 60, 400, 1000])
@pytest.mark.parametrize("place", PLACES)
def test_nested_brackets_are_the_clients_error(served: Running, place: str, depth: int) -> None:
    body = PLACES[place] % (b"[" * depth + b"]" * depth)
    path = PREDICT if "instances" in place or b"instances" in PLACES[place] else INFER
    answer = httpx.post(served.url + path, content=body)
    assert answer.status_code in (400, 413), answer.text
    assert len(answer.content) < 400
    length = {"inference-header-content-length": str(len(body))}
    if path == INFER:
        answer = httpx.post(served.url + path, content=body, headers=length)
        assert answer.status_code in (400, 413), answer.text


def test_long_texts_are_refused_and_name_the_input(served: Running) -> None:
    for name, status in (("carrier", 400), ("departs", 400), ("flight_id", 400)):
        for length, expected in ((4096, 200 if name != "departs" else 400), (4097, status)):
            tensors = flight_tensors(1)
            next(t for t in tensors if t["name"] == name)["data"] = ["a" * length]
            answer = served.infer(tensors)
            assert answer.status_code == expected, (name, length, answer.text)
            if length > 4096 and name != "departs":
                assert name in answer.text and "4097 characters" in answer.text


def test_a_long_body_is_answered_as_a_short_one(served: Running) -> None:
    """The same rows as two requests below the size that is parsed at once, and as one above it."""
    long = served.infer(flight_tensors(1200)).json()["outputs"][0]["data"]
    short: list[float] = []
    for start in range(0, 1200, 200):
        short += served.infer(flight_tensors(200, start)).json()["outputs"][0]["data"]
    assert long == pytest.approx(short, abs=1e-6)
    rows = [dict(zip([t["name"] for t in flight_tensors(1)], values, strict=True)) for values in
            zip(*(t["data"] for t in flight_tensors(1200)), strict=True)]  # fmt: skip
    answer = httpx.post(served.url + PREDICT, json={"instances": rows}, timeout=60)
    assert [p["probability"] for p in answer.json()["predictions"]] == pytest.approx(long, abs=1e-6)
    nested = flight_tensors(1200)
    for tensor in nested:
        tensor["shape"], tensor["data"] = [1200, 1], [[value] for value in tensor["data"]]
    assert np.allclose(served.infer(nested).json()["outputs"][0]["data"], long, atol=1e-6)


def test_connections_that_pipeline_without_end_let_others_through(
    running: tuple[Running, str],
) -> None:
    """Five clients with 100 kB of `GET /metrics` each: whoever asks meanwhile does not wait for them."""
    server, _ = running
    host, port = server.url.removeprefix("http://").split(":")
    asked = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"
    sockets = [socket.create_connection((host, int(port))) for _ in range(5)]
    try:
        for sock in sockets:
            sock.sendall(asked * (100_000 // len(asked)))
        begun = time.monotonic()
        for _ in range(5):
            assert server.infer(flight_tensors(1)).status_code == 200
        assert time.monotonic() - begun < 3
        before = server.metric("slipway_requests_total")
        assert server.infer(flight_tensors(1)).status_code == 200
        # However many ask, each gets what is true when it is answered.
        assert server.metric("slipway_requests_total") == before + 1
    finally:
        for sock in sockets:
            sock.close()


def test_pipelined_requests_that_come_in_one_piece_are_little_in_memory(
    running: tuple[Running, str],
) -> None:
    """Sixty clients, each with all that one read takes: 7,000 requests in a piece."""
    server, _ = running
    host, port = server.url.removeprefix("http://").split(":")
    piece = b"GET / HTTP/1.1\r\nhost:a\r\n\r\n" * 9_000
    before = peak_mb(server.process)
    sockets = [socket.create_connection((host, int(port)), timeout=20) for _ in range(60)]

    def send(sock: socket.socket) -> None:
        # It takes no answers: where the predictor's turn comes to it, it is ended.
        try:
            sock.sendall(piece)
        except OSError:
            return

    threads = [threading.Thread(target=send, args=(sock,)) for sock in sockets]
    for thread in threads:
        thread.start()
    for sock in sockets[:5]:
        assert sock.recv(15) == b"HTTP/1.1 200 OK"
    for sock in sockets:
        sock.close()
    for thread in threads:
        thread.join()
    assert peak_mb(server.process) - before < 100
    assert server.infer(flight_tensors(1)).status_code == 200
