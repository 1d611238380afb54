"""The HTTP connection against uvicorn: the same bytes to each, and what each app is then asked.

All run in one thread without a socket, on a loop that only runs what is ready, with a transport that only
notes what is written. What the apps see must be the same, request by request; ours may see less only
where it refused with 4xx.
"""

import asyncio
import functools
import random
import re
import zlib
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import h11
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fuzz.harness import FuzzTarget
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


class Steps(asyncio.AbstractEventLoop):
    """An event loop without a selector: what is ready runs until nothing is; no timer ever fires."""

    def __init__(self) -> None:
        self._ready: deque[asyncio.Handle] = deque()
        self.failures: list[str] = []

    def time(self) -> float:
        return 0.0

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return asyncio.TimerHandle(delay, callback, args, self, context)

    def _timer_handle_cancelled(self, handle: Any) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:  # type: ignore[override]
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if "destroyed" not in context["message"]:  # uvicorn leaves tasks behind
            self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def settle(self) -> None:
        """Runs what is ready, and what becomes ready by it."""
        asyncio._set_running_loop(self)
        try:
            while self._ready:
                self._ready.popleft()._run()
        finally:
            asyncio._set_running_loop(None)


class Rivals:
    """Our server, uvicorn, and h11; `run` gives one connection's bytes to each.

    uvicorn's parser is ours too, so what it reads wrongly both do; h11 is another, and by the letter of
    RFC 9112.
    """

    def __init__(self) -> None:
        self.loop = Steps()  # type: ignore[abstract]
        asyncio._set_running_loop(self.loop)
        self.ours, self.theirs = Ours(), Theirs()
        self.hub = Hub(self.ours, 30, 75, 100)  # type: ignore[arg-type]
        asyncio._set_running_loop(None)
        self.config = uvicorn.Config(self.theirs, ws="none", lifespan="off", log_level="critical")
        self.config.load()

    def run(self, parts: list[bytes]) -> tuple[str, str]:
        """What is wrong with our connection (empty: nothing), and how it answered."""
        self.theirs.seen, self.loop.failures = [], []
        statuses = self.ask_ours(parts)
        kind = ", ".join(HTTPStatus(status).phrase for status in statuses)
        if self.loop.failures:
            return self.loop.failures[0], kind
        if any(status >= 500 for status in statuses):
            return f"5xx: {statuses}", kind
        if self.ours.admission.held or self.hub.members or self.hub.busy:
            held = f"{self.ours.admission.held} bytes, {len(self.hub.members)} connections"
            return f"{held} are held", kind
        yours = self._feed(HttpToolsProtocol(self.config, ServerState(), {}, self.loop), parts)
        refused = any(status >= 400 for status in statuses)
        sent = b"".join(parts)
        wrong = _differs(self.ours.seen, self.theirs.seen, sent, refused, b" 400 " in yours.written)
        return wrong or _differs_from_h11(self.ours.seen, sent, refused), kind

    def ask_ours(self, parts: list[bytes]) -> list[int]:
        """How our connection answers; what its app was asked is in `ours.seen`."""
        self.ours.seen = []
        mine = self._feed(HttpConnection(self.hub), parts)
        return [int(status) for status in _STATUS.findall(bytes(mine.written))]

    def _feed(self, protocol: Any, parts: list[bytes]) -> Transport:
        transport = Transport()
        protocol.connection_made(transport)
        for part in parts:
            if transport.closed:
                break
            protocol.data_received(part)
            self.loop.settle()
        protocol.connection_lost(None)
        self.loop.settle()
        return transport


def _differs(ours: Seen, theirs: Seen, sent: bytes, refused: bool, other_refused: bool) -> str:
    """What our app was asked and uvicorn's was not, or the other way; empty: nothing."""
    # Behind a wish to upgrade uvicorn drops what came in the same piece, and reads on in the next.
    upgrades = b"pgrade" in sent
    for own, other in zip(ours, theirs, strict=False):
        if own != other and not upgrades:
            return f"ours saw {own}, uvicorn {other}"
    if len(ours) < len(theirs) and not (refused or upgrades):
        return f"ours saw {len(ours)} and refused nothing, uvicorn {theirs}"
    # uvicorn drops what it owes when it meets an error, and keeps no connection of HTTP/1.0.
    cut = other_refused or upgrades or b"HTTP/1.0" in sent
    if len(ours) > len(theirs) and not cut:
        return f"ours saw {ours}, uvicorn only {len(theirs)}"
    return ""


def _differs_from_h11(ours: Seen, sent: bytes, refused: bool) -> str:
    """The same of h11: a request that both take must be the same one."""
    theirs, ended = _ask_h11(sent)
    for own, other in zip(ours, theirs, strict=False):
        # A target that is a whole address has its path cut out, by ours and by uvicorn.
        if own[::2] != other[::2] or (own[1] != other[1] and other[1].startswith("/")):
            return f"ours saw {own}, h11 {other}"
    if len(ours) < len(theirs) and not refused:
        return f"ours saw {len(ours)} and refused nothing, h11 {theirs}"
    if len(ours) > len(theirs) and not ended:
        return f"ours saw {ours}, h11 only {len(theirs)}"
    return ""


def _ask_h11(sent: bytes) -> tuple[Seen, bool]:
    """The requests that h11 reads; whether it then refused or ended."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(sent)
    seen, method, path, body = Seen(), "", "", b""
    try:
        while True:
            event = connection.next_event()
            match event:
                case h11.Request():
                    method, body = event.method.decode("latin-1"), b""
                    path = unquote(re.split(r"[?#]", event.target.decode("latin-1"))[0])
                case h11.Data():
                    body += bytes(event.data)
                case h11.EndOfMessage():
                    seen.append((method, path, body))
                    connection.send(
                        h11.Response(status_code=200, headers=[("content-length", "0")])
                    )
                    connection.send(h11.EndOfMessage())
                    connection.start_next_cycle()
                case h11.NEED_DATA:
                    return seen, False
                case _:  # it reads no further behind a wish to upgrade, or at the end
                    return seen, True
    except h11.ProtocolError:
        return seen, True


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
    b"/a#b?c",
    b"/a?b#c",
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
NOISE = [b"\r\n", b"\n", b" ", b"0\r\n\r\n", b"\x00", b"Host: a\r\n"]
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


def _make(chance: random.Random) -> bytes:
    """What a connection sends."""
    data = bytearray(b"".join(one_request(chance) for _ in range(chance.choice([1, 1, 2, 3, 5]))))
    for _ in range(chance.choice([0, 0, 0, 1, 2])):
        place = chance.randrange(len(data))
        what = chance.randrange(3)
        if what == 0:
            data[place] = chance.choice(b"\r\n\x00 :;,0a\xff")
        elif what == 1:
            del data[place : place + chance.randrange(1, 9)]
        else:
            data[place:place] = chance.choice(NOISE)
        if not data:
            break
    return bytes(data)


def _parts(data: bytes) -> list[bytes]:
    """The pieces that a connection's bytes come in: others for other bytes, and for the same the same."""
    chance = random.Random(zlib.crc32(data))
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice([0, 0, 1, 2, 6])))
    edges = [0, *cuts, len(data)]
    return [data[a:b] for a, b in pairwise(edges) if b > a]


@functools.cache
def _rivals() -> Rivals:
    return Rivals()


def _read(data: bytes) -> str:
    wrong, kind = _rivals().run(_parts(data))
    if wrong:
        raise AssertionError(wrong)
    return kind


def _seeds() -> list[bytes]:
    chance = random.Random(1)
    return [_make(chance) for _ in range(200)]


CONNECTION = FuzzTarget(
    read=_read, seeds=_seeds, make=_make, bits=(*NOISE, *HEADERS, *CHUNKS, *VERSIONS)
)
