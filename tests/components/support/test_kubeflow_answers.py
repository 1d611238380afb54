"""Odd answers of Kubeflow Pipelines, or of what stands before it: each is an error in words, and ends."""

import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.http_answers import talking

from slipway.components.support import kubeflow
from slipway.components.support.kubeflow import Access, KfpApi, KfpApiError

COOKIE, TOKEN = "session=cAnary-of-a-cookie", "cAnary-of-a-token/+="


@contextmanager
def answering(*answers: bytes | Callable[[socket.socket], None]) -> Iterator[tuple[str, list[str]]]:
    """A server with an answer for each request in turn, the last for all more; and their heads."""
    heads: list[str] = []

    def talk(connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (more := connection.recv(65_536)):
                return
            head += more
        heads.append(head.decode())
        answer = answers[min(len(heads), len(answers)) - 1]
        answer(connection) if callable(answer) else connection.sendall(answer)

    with talking(talk) as port:
        yield f"http://127.0.0.1:{port}", heads


def http(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def ask(host: str, method: str = "GET", *, timeout: float = 5.0, **access: Any) -> dict[str, Any]:
    how: dict[str, Any] = {"authorization": lambda: f"Bearer {TOKEN}", "cookie": COOKIE} | access
    api = KfpApi(Access(host=host, timeout=timeout, **how), backoff=0.001)
    content = None if method == "GET" else {"a": 1}
    return api.ask(method, "/runs", what="Asking", content=content)


GOOD = http(200, b'{"runs": [{"run_id": "another"}]}')


@pytest.mark.parametrize("status", [301, 302, 303])
def test_what_creates_is_never_made_to_a_reading(status: int) -> None:
    """httpx, as a browser does, asks with GET where it is led: a list was taken for what was created."""
    with (
        answering(http(status, b"", "Location: /dex/auth?state=cAnary"), GOOD) as (host, heads),
        pytest.raises(
            KfpApiError, match=rf"answered {status} and leads to {host}/dex/auth,"
        ) as told,
    ):
        ask(host, "POST")
    assert len(heads) == 1 and not told.value.unknown and "cAnary" not in str(told.value)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_stays_the_same_request_goes_on(method: str) -> None:
    with answering(http(308, b"", "Location: /elsewhere"), GOOD) as (host, heads):
        assert ask(host, method)["runs"]
    assert heads[1].startswith(f"{method} /elsewhere ")
    # The same server: it knows who asks, by the cookie too.
    assert f"Cookie: {COOKIE}" in heads[1] and TOKEN in heads[1]


def test_no_secret_goes_to_another_server() -> None:
    with answering(GOOD) as (other, heads):
        with answering(http(307, b"", f"Location: {other}/runs")) as (host, _):
            assert ask(host, "POST")["runs"]
        assert len(heads) == 1 and "cAnary" not in heads[0]


ODD = {
    "it leads round": (http(302, b"", "Location: /x"), "leads elsewhere more than 10 times"),
    "it leads to another protocol": (http(302, b"", "Location: ftp://x/y"), "unsupported protocol"),
    "deep": (http(200, b"[" * 100_000), "answered with a page and not with JSON"),
    "deep refusal": (http(400, b'{"a":' * 100_000), r"the server answered 400. It said: {"),
    "a long number": (http(200, b'{"a":' + b"9" * 5_000 + b"}"), "not with JSON"),
    "no gzip": (http(200, b"zz", "Content-Encoding: gzip"), "of no use: .*incorrect header"),
    "another encoding": (http(200, b"zz", "Content-Encoding: br"), "not asked for"),
    "an escape": (http(400, b'{"message": "\\u001b[2Jgone"}'), r"It said: \\x1b\[2Jgone"),
}


@pytest.mark.parametrize(("answer", "said"), ODD.values(), ids=ODD)
def test_an_odd_answer_is_an_error_in_words(answer: bytes, said: str) -> None:
    with answering(answer) as (host, heads), pytest.raises(KfpApiError, match=said):
        ask(host)
    assert len(heads) == 1 or "Location" in answer.decode()


@pytest.mark.parametrize("after", ["nan", "-5", "x", "Sat, 28 Nov 1970 10:00:00 -0000"])
def test_a_wait_that_is_none_is_ours(after: str) -> None:
    with answering(http(429, b"", f"Retry-After: {after}"), GOOD) as (host, _):
        assert ask(host)["runs"]


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b" ")
        time.sleep(0.02)


def test_an_answer_that_drips_ends() -> None:
    with answering(drip) as (host, heads):
        begun = time.monotonic()
        with pytest.raises(KfpApiError, match=r"not whole after 0\.2 s") as told:
            ask(host, "POST", timeout=0.2)
    assert time.monotonic() - begun < 5 and len(heads) == 1
    assert told.value.unknown, "the server may have acted"


def test_an_answer_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeflow, "MOST_BYTES", 1 << 20)
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packed.compress(bytes(64 << 20)) + packed.flush()
    for answer in (http(200, b" " * (4 << 20)), http(200, bomb, "Content-Encoding: gzip")):
        with (
            answering(answer) as (host, _),
            pytest.raises(KfpApiError, match="more than 1,048,576"),
        ):
            ask(host)


@pytest.mark.parametrize("secret", ["one\ncAnary", "cAnary\x00", "cAnärytoken"])
def test_a_secret_that_no_header_takes_is_not_shown(secret: str) -> None:
    with answering(GOOD) as (host, heads):
        for way in ({"authorization": lambda: f"Bearer {secret}"}, {"cookie": f"a={secret}"}):
            with pytest.raises(KfpApiError, match="another character that no header takes") as told:
                ask(host, **way)
            assert "nary" not in str(told.value)
    assert heads == []


def test_a_token_is_hidden_from_then_on() -> None:
    """One of a file or of an OAuth server stands in no variable."""
    with (
        answering(http(400, f"no {TOKEN}, {COOKIE}".encode())) as (host, _),
        pytest.raises(KfpApiError, match=r"It said: no \*\*\*, session=\*\*\*"),
    ):
        ask(host)
