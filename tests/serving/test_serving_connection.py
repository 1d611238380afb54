"""Our HTTP connection: uvicorn on the same app is the oracle; bounds that uvicorn has not."""

import asyncio
import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.serving_bundles import Running, flight_tensors, free_port, predictor, wait_ready

INFER = "/v2/models/flights/infer"
BODY = json.dumps({"inputs": flight_tensors(1), "id": "a"}).encode()

_UVICORN = """
import asyncio, sys, uvicorn
from pathlib import Path
from slipway.serving.admission import Admission
from slipway.serving.app import Predictor
from slipway.serving.batcher import Batcher
from slipway.serving.metrics import Metrics
from slipway.serving.model import load_model
from slipway.serving.settings import PredictorSettings

async def main():
    settings = PredictorSettings(
        model_dir=Path(sys.argv[1]), model_version="7", max_rows=2000, max_body_mb=2
    )
    metrics = Metrics("flights")
    batcher = Batcher(max_batch=256, max_queue=4096, metrics=metrics)
    admission = Admission(64_000_000)
    app = Predictor(settings, load_model(settings), batcher, admission, metrics, None)
    config = uvicorn.Config(app, port=int(sys.argv[2]), lifespan="off", log_level="error")
    await uvicorn.Server(config).serve()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def oracle(served: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same app as an ASGI app on uvicorn."""
    folder, port = tmp_path_factory.mktemp("uvicorn"), free_port()
    (folder / "oracle.py").write_text(_UVICORN)
    command = [sys.executable, str(folder / "oracle.py"), str(served.bundle), str(port)]
    output = folder / "output.txt"
    with output.open("wb") as sink:
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environ)
    try:
        wait_ready(f"http://127.0.0.1:{port}", process, output)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def chunks() -> Iterator[bytes]:
    yield BODY[:10]
    yield BODY[10:]


REQUESTS: dict[str, dict[str, Any]] = {
    "infer": {"method": "POST", "url": INFER, "content": BODY},
    "chunked": {"method": "POST", "url": INFER, "content": chunks},
    "query": {"method": "POST", "url": f"{INFER}?a=b", "content": BODY},
    "escaped": {"method": "POST", "url": "/v2/models/fl%69ghts/infer", "content": BODY},
    "versioned": {"method": "POST", "url": "/v2/models/flights/versions/7/infer", "content": BODY},
    "other version": {"method": "POST", "url": "/v2/models/flights/versions/8/infer"},
    "no body": {"method": "POST", "url": INFER},
    "bad JSON": {"method": "POST", "url": INFER, "content": b"{"},
    "too large": {"method": "POST", "url": INFER, "content": b" " * 2_000_001},
    "compressed": {
        "method": "POST",
        "url": INFER,
        "content": gzip.compress(BODY),
        "headers": {"content-encoding": "gzip"},
    },
    "head length": {
        "method": "POST",
        "url": INFER,
        "content": BODY,
        "headers": {"Inference-Header-Content-Length": "x"},
    },
    "get infer": {"method": "GET", "url": INFER},
    "post live": {"method": "POST", "url": "/v2/health/live", "content": b"{}"},
    "head live": {"method": "HEAD", "url": "/v2/health/live"},
    "live": {"method": "GET", "url": "/v2/health/live"},
    "root": {"method": "GET", "url": "/"},
    "model": {"method": "GET", "url": "/v2/models/flights"},
    "nothing": {"method": "GET", "url": "/v3/nothing"},
    "nothing odd": {"method": "GET", "url": "/v2/%C3%A9%00/a"},
    "delete": {"method": "DELETE", "url": "/v2"},
    "v1": {"method": "POST", "url": "/v1/models/flights:predict", "content": b'{"instances": []}'},
    "close": {
        "method": "POST",
        "url": INFER,
        "content": BODY,
        "headers": {"connection": "close"},
    },
}


@pytest.mark.parametrize("name", REQUESTS)
def test_answers_are_those_of_uvicorn(served: Running, oracle: str, name: str) -> None:
    request = dict(REQUESTS[name])
    content = request.pop("content", None)
    answers = []
    for base in (served.url, oracle):
        with httpx.Client(base_url=base) as client:
            body = content() if callable(content) else content
            answer = client.request(content=body, **request)
            kept = {k: v for k, v in answer.headers.items() if k not in ("date", "server")}
            answers.append((answer.status_code, kept, answer.content))
    assert answers[0] == answers[1]


def connect(served: Running, wait: float = 5.0) -> socket.socket:
    host, port = served.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=wait)


def read(sock: socket.socket, until: bytes = b"") -> bytes:
    """What comes until a text, the end, or silence."""
    answer = b""
    with contextlib.suppress(TimeoutError):
        while not (until and until in answer) and (part := sock.recv(65536)):
            answer += part
    return answer


def post(more: bytes = b"", body: bytes = BODY, version: bytes = b"1.1") -> bytes:
    head = b"POST %b HTTP/%b\r\nhost: a\r\n%bcontent-length: %d\r\n\r\n"
    return head % (INFER.encode(), version, more, len(body)) + body


def test_a_head_and_body_may_come_byte_by_byte(served: Running) -> None:
    with connect(served) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(b"connection: close\r\n"):
            sock.sendall(bytes([byte]))
        assert read(sock).startswith(b"HTTP/1.1 200 OK\r\n")


def test_expect_is_answered_before_the_body_comes_and_not_where_it_is_refused(
    served: Running,
) -> None:
    with connect(served) as sock:
        head, _, body = post(b"expect: 100-continue\r\n").partition(b"\r\n\r\n")
        sock.sendall(head + b"\r\n\r\n")
        assert read(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert read(sock, b"}]}").startswith(b"HTTP/1.1 200 OK\r\n")
    with connect(served) as sock:
        head = (
            b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 9000000\r\n\r\n"
        )
        sock.sendall(head)
        assert read(sock).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("version", "header", "stays", "said"),
    [
        (b"1.1", b"", True, None),
        (b"1.1", b"connection: close\r\n", False, b"connection: close"),
        (b"1.0", b"", False, b"connection: close"),
        (b"1.0", b"connection: keep-alive\r\n", True, b"connection: keep-alive"),
    ],
)
def test_connections_are_kept_as_the_client_asks(
    served: Running, version: bytes, header: bytes, stays: bool, said: bytes | None
) -> None:
    with connect(served, 1.0) as sock:
        sock.sendall(post(header, version=version))
        answer = read(sock, b"}]}")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (said in answer) if said else (b"connection" not in answer)
        if stays:
            sock.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\n\r\n")
            assert b'{"live":true}' in read(sock, b"true}")
        else:
            assert sock.recv(1) == b""


@pytest.mark.parametrize("count", [1, 2])
def test_a_client_that_sends_no_more_still_gets_its_answers(served: Running, count: int) -> None:
    """Its end arrives while the predictor is busy with the first request."""
    body = json.dumps({"inputs": flight_tensors(1500)}).encode()
    with connect(served) as sock:
        sock.sendall(post(body=body) * count)
        sock.shutdown(socket.SHUT_WR)
        assert read(sock).count(b"HTTP/1.1 200 OK\r\n") == count


def test_many_pipelined_requests_are_answered_in_order_and_a_bad_one_ends_them(
    served: Running,
) -> None:
    bodies = [
        json.dumps({"inputs": flight_tensors(1), "id": f"id-{i}"}).encode() for i in range(50)
    ]
    with connect(served) as sock:
        sock.sendall(b"".join(post(body=body) for body in bodies) + b"nonsense\r\n\r\n" + post())
        answer = read(sock)
    places = [answer.index(b'"id-%d"' % i) for i in range(50)]
    assert places == sorted(places)
    assert answer.count(b"HTTP/1.1 200 OK") == 50
    assert answer.index(b"HTTP/1.1 400 Bad Request") > places[-1]


@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c"])
def test_a_wish_to_upgrade_is_ignored_and_the_connection_goes_on(
    served: Running, upgrade: bytes
) -> None:
    wish = b"connection: upgrade\r\nupgrade: " + upgrade + b"\r\n"
    get = b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\n" + wish + b"\r\n"
    with connect(served) as sock:
        sock.sendall(get * 1500 + post(b"connection: close\r\n"))
        answer = read(sock)
    assert answer.count(b"HTTP/1.1 200 OK") == 1501 and b"HTTP/1.1 4" not in answer
    with connect(served) as sock:
        sock.sendall(post(wish))
        answer = read(sock)
    assert answer.startswith(b"HTTP/1.1 400 ") and b"without the header Upgrade" in answer


@pytest.mark.parametrize("tail", [b"x: y\r\n", b"x" * 1000])
def test_trailers_without_end_are_refused(served: Running, tail: bytes) -> None:
    head = b"POST %b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    with connect(served) as sock:
        answer = b""
        with contextlib.suppress(ConnectionError):
            sock.sendall(head % INFER.encode())
            for _ in range(200):
                sock.sendall(tail * 100)
            answer = read(sock)
    assert answer.startswith(b"HTTP/1.1 431 ") or not answer
    assert served.infer(flight_tensors(1)).status_code == 200


def test_a_client_that_is_still_sending_can_read_why_it_is_refused(served: Running) -> None:
    for _ in range(10):
        with connect(served) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9000000\r\n\r\n")
            for _ in range(20):
                sock.sendall(b" " * 50_000)
            assert read(sock).startswith(b"HTTP/1.1 413 ")


def test_what_is_late_is_closed(tmp_path: Path) -> None:
    with (
        predictor(tmp_path, "--receive-seconds=1", "--keep-alive-seconds=2") as running,
        connect(running, 8) as silent,
        connect(running, 8) as slow,
        connect(running, 8) as idle,
    ):
        slow.sendall(b"POST /v2")
        idle.sendall(post())
        begun = time.monotonic()
        assert read(silent) == b""
        assert read(slow).startswith(b"HTTP/1.1 408 ")
        assert read(idle).startswith(b"HTTP/1.1 200 ")
        assert 1.5 < time.monotonic() - begun < 7


def test_a_client_that_takes_no_answers_holds_little_and_is_closed(tmp_path: Path) -> None:
    with predictor(tmp_path, "--receive-seconds=8") as running, connect(running, 3) as sock:
        body = post(body=json.dumps({"inputs": flight_tensors(3000)}).encode())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises(TimeoutError):
            for _ in range(600):
                sock.sendall(body)
        # What the kernel's buffers take was answered, and then nothing more.
        assert 0 < running.metric('slipway_requests_total{code="200"') < 400
        deadline = time.monotonic() + 30
        with pytest.raises(ConnectionError):
            while time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    sock.sendall(b"x")
        assert running.infer(flight_tensors(1)).status_code == 200


def test_the_app_drops_what_a_client_leaves_half_sent() -> None:
    from slipway.components.contracts.bundle import Bundle
    from slipway.serving.admission import Admission
    from slipway.serving.app import Predictor
    from slipway.serving.batcher import Batcher
    from slipway.serving.http.connection import HttpConnection, Hub
    from slipway.serving.metrics import Metrics
    from slipway.serving.settings import PredictorSettings

    class Transport(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__()
            self.closed = False

        def is_closing(self) -> bool:
            return self.closed

        def close(self) -> None:
            self.closed = True

    class Nothing:
        name, bundle = "flights", Bundle

    async def run() -> int:
        metrics = Metrics("flights")
        batcher = Batcher(max_batch=1, max_queue=1, metrics=metrics)
        admission = Admission(1_000_000)
        app = Predictor(PredictorSettings(), Nothing(), batcher, admission, metrics, None)  # type: ignore[arg-type]
        connection = HttpConnection(Hub(app, 1, 1, 10))
        connection.connection_made(Transport())
        connection.data_received(post()[:-10])
        held = admission.held
        connection.connection_lost(None)
        batcher.close()
        assert admission.held == 0
        return held

    assert asyncio.run(run()) == len(BODY) - 10
