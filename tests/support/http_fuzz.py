"""The HTTP connection against uvicorn: the same bytes to both, and what each app is then asked.

Both run in one event loop, with a transport that only notes what is written. What both apps see must be
the same, request by request; ours may see less only where it refused with 4xx.

    python -m support.http_fuzz SEED SECONDS      from the folder tests/
"""

import asyncio
import random
import re
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from slipway.serving.admission import Admission
from slipway.serving.app import Answer, HttpRequest, Predictor
from slipway.serving.http.connection import HttpConnection, Hub

Seen = list[tuple[str, str, bytes]]
_STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")


class Transport(asyncio.Transport):
    """Notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed, self.paused = bytearray(), False, False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if not self.closed:
            self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def write_eof(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0


class Ours:
    """The app behind our connection: the predictor's own taking of bodies, and a trivial answer."""

    begin, take, drop = Predictor.begin, Predictor.take, Predictor.drop

    def __init__(self) -> None:
        self.admission, self.seen = Admission(10**9), Seen()
        self._max_body = 10**6
        self._too_big = lambda: "too big"

    async def respond(self, request: HttpRequest) -> Answer:
        if request.error is not None:
            self.drop(request)  # type: ignore[misc]
            return Answer(request.error.status, b"", [], request.error.close)
        self.seen.append((request.method, request.path, bytes(request.body)))
        self.drop(request)  # type: ignore[misc]
        return Answer(200, b"", [])


@dataclass
class Theirs:
    """The same as an ASGI app."""

    seen: Seen = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.seen.append((scope["method"], scope["path"], body))
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
        )
        await send({"type": "http.response.body", "body": b""})


class Pair:
    """Both servers; `run` gives one connection's bytes to each."""

    def __init__(self) -> None:
        self.ours, self.theirs = Ours(), Theirs()
        self.hub = Hub(self.ours, 30, 75, 100)  # type: ignore[arg-type]
        self.config = uvicorn.Config(self.theirs, ws="none", lifespan="off", log_level="critical")
        self.config.load()

    async def run(self, parts: list[bytes]) -> str | None:
        """What is wrong with our connection; None: nothing."""
        self.ours.seen, self.theirs.seen = [], []
        mine = await self._feed(HttpConnection(self.hub), parts)
        peer = HttpToolsProtocol(self.config, ServerState(), {})
        yours = await self._feed(peer, parts)
        statuses = [int(s) for s in _STATUS.findall(bytes(mine.written))]
        if any(status >= 500 for status in statuses):
            return f"5xx: {statuses}"
        sent = b"".join(parts)
        # Behind a wish to upgrade uvicorn drops what came in the same piece, and reads on in the next.
        upgrades = b"pgrade" in sent
        for own, other in zip(self.ours.seen, self.theirs.seen, strict=False):
            if own != other and not upgrades:
                return f"ours saw {own}, uvicorn {other}"
        refused = any(status >= 400 for status in statuses)
        if len(self.ours.seen) < len(self.theirs.seen) and not (refused or upgrades):
            return f"ours saw {len(self.ours.seen)} and refused nothing, uvicorn {self.theirs.seen}"
        # uvicorn drops what it owes when it meets an error, and keeps no connection of HTTP/1.0.
        cut = b" 400 " in yours.written or upgrades or b"HTTP/1.0" in sent
        if len(self.ours.seen) > len(self.theirs.seen) and not cut:
            return f"ours saw {self.ours.seen}, uvicorn only {len(self.theirs.seen)}"
        if self.ours.admission.held or self.hub.members or self.hub.busy:
            return f"{self.ours.admission.held} bytes, {len(self.hub.members)} connections are held"
        return None

    async def _feed(self, protocol: Any, parts: list[bytes]) -> Transport:
        transport = Transport()
        protocol.connection_made(transport)
        for part in parts:
            if transport.closed:
                break
            protocol.data_received(part)
            await self._settle(transport)
        await self._settle(transport)
        protocol.connection_lost(None)
        await self._settle(transport)
        return transport

    async def _settle(self, transport: Transport) -> None:
        """Until nothing more is written."""
        before, quiet = -1, 0
        while quiet < 3:
            await asyncio.sleep(0)
            quiet = quiet + 1 if before == len(transport.written) else 0
            before = len(transport.written)


METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"get", b"PRI", b"G ET", b""]
TARGETS = [
    b"/",
    b"/a",
    b"/a%20b?c=d",
    b"http://h/p",
    b"*",
    b"a",
    b"/\xc3\xa9",
    b"/ b",
    b"//x",
    b"/%zz",
]
VERSIONS = [b"HTTP/1.1"] * 8 + [
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"",
]
HEADERS = [
    b"Host: a", b"host: b:80", b"Host:", b"Host: a b", b"Host: a/", b"Host : a", b"X: y", b"X:", b": y",
    b"X: a\x00b", b" folded: x", b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade",
    b"Upgrade: websocket", b"Upgrade: h2c", b"Expect: 100-continue", b"Content-Length: 0",
    b"Content-Length: 5", b"Content-Length: 5, 5", b"Content-Length: +5", b"Content-Length: 0x5",
    b"Content-Length:", b"Content-Length: 99999999999999999999", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: CHUNKED", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: identity", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: \x0bchunked",
    b"Content-Encoding: gzip", b"X: " + b"a" * 300, b"Content-Length: 3\rX: y", b"A: b\nC: d",
    b"Keep-Alive: 5", b"Proxy-Connection: x", b"Trailer: X", b"Content-Length : 5",
]  # fmt: skip
CHUNKS = [
    b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n", b"5\nhello\n0\n\n",
    b"05\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n", b"ffffffffffffffff1\r\nx", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    b"0x5\r\nhello",
    b"0\r\nHost: b\r\n\r\n", b"5\r\nhello0\r\n\r\n",
]  # fmt: skip


def one_request(chance: random.Random) -> bytes:
    """A request, mostly right."""
    body = chance.choice(
        [b"", b"", b"hello", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\r\n" * 9]
    )
    plain = chance.random() < 0.7
    headers = [b"Host: a"] if plain else []
    if chance.random() < 0.35:
        headers.append(b"Transfer-Encoding: chunked")
        body = chance.choice(CHUNKS[:3] if plain else CHUNKS)
    elif body or not plain:
        headers.append(b"Content-Length: %d" % len(body))
    if not plain or chance.random() < 0.2:
        headers += chance.choices(HEADERS, k=chance.randrange(1, 4))
    chance.shuffle(headers)
    end = b"\r\n" if plain or chance.random() < 0.9 else chance.choice([b"\n", b"\r", b"\r\r\n"])
    method = chance.choice(METHODS[:5] if plain else METHODS)
    target = chance.choice(TARGETS[:5] if plain else TARGETS)
    line = b" ".join([method, target, chance.choice(VERSIONS[:9] if plain else VERSIONS)])
    return end.join([line, *headers, b"", b""]) + body


def one_input(chance: random.Random) -> list[bytes]:
    """What a connection sends, in the pieces that it comes in."""
    data = bytearray(b"".join(one_request(chance) for _ in range(chance.choice([1, 1, 2, 3, 5]))))
    for _ in range(chance.choice([0, 0, 0, 1, 2])):
        place = chance.randrange(len(data))
        what = chance.randrange(3)
        if what == 0:
            data[place] = chance.choice(b"\r\n\x00 :;,0a\xff")
        elif what == 1:
            del data[place : place + chance.randrange(1, 9)]
        else:
            data[place:place] = chance.choice(
                [b"\r\n", b"\n", b" ", b"0\r\n\r\n", b"\x00", b"Host: a\r\n"]
            )
        if not data:
            break
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice([0, 0, 1, 2, 6])))
    edges = [0, *cuts, len(data)]
    return [bytes(data[a:b]) for a, b in pairwise(edges) if b > a]


async def fuzz(seed: int, seconds: float, most: int) -> tuple[int, list[tuple[list[bytes], str]]]:
    """How many inputs were tried, and those that were answered wrongly, with why."""
    pair, chance, wrong = Pair(), random.Random(seed), []
    end, tried = time.monotonic() + seconds, 0
    while tried < most and time.monotonic() < end and len(wrong) < 20:
        parts = one_input(chance)
        reason = await pair.run(parts)
        tried += 1
        if reason is not None:
            wrong.append((parts, reason))
    pair.ours.admission.close()
    return tried, wrong


def main(arguments: list[str]) -> int:
    """Runs until the time is over, or until something is wrong."""
    tried, wrong = asyncio.run(fuzz(int(arguments[0]), float(arguments[1]), 10**9))
    for parts, reason in wrong:
        print(parts, reason, sep="\n    ")
    print(f"{tried:,} inputs, {len(wrong)} answered wrongly")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
