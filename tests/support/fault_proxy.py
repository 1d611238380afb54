"""A TCP proxy that a seed makes faulty: it stands before S3, MLflow or Redis.

Each connection that is opened gets a fault from the plan, or none: the same seed gives the same plan.
"""

import random
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

FAULTS = ("500", "503", "reset", "truncated", "pause", "silent")
_HTTP = {
    "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "503": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
}
_CHUNK = 65_536


@dataclass(kw_only=True)
class FaultProxy:
    """A running proxy.

    Attributes:
        target: port of the server behind it, on this machine.
        share: of the connections that get a fault, from 0 to 1.
        faults: the kinds to choose from.
        pause: seconds that a paused answer waits.
        count: how many connections got each kind; "none" without a fault.
    """

    target: int
    seed: int = 0
    share: float = 1.0
    faults: tuple[str, ...] = FAULTS
    pause: float = 1.0
    port: int = 0
    count: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._closed = threading.Event()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Ends every connection, as a server does that is started again; the next ones get new faults."""
        for client in list(self._open):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stops taking connections; those that are silent end too."""
        self._closed.set()
        self._listener.close()
        self.cut()

    def _choose(self) -> str:
        if self._chance.random() >= self.share:
            return "none"
        return self._chance.choice(self.faults)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            fault = self._choose()
            self.count[fault] += 1
            threading.Thread(target=self._serve, args=(client, fault), daemon=True).start()

    def _serve(self, client: socket.socket, fault: str) -> None:
        self._open.add(client)
        with client, suppress(OSError):
            self._answer(client, fault)
        self._open.discard(client)

    def _answer(self, client: socket.socket, fault: str) -> None:
        if fault == "silent":
            while not self._closed.is_set() and client.recv(_CHUNK):
                pass
        elif fault == "reset":
            client.recv(_CHUNK)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif fault in _HTTP:
            client.recv(_CHUNK)
            client.sendall(_HTTP[fault])
        else:
            with socket.create_connection(("127.0.0.1", self.target), timeout=5) as server:
                self._pass_on(client, server, fault)

    def _pass_on(self, client: socket.socket, server: socket.socket, fault: str) -> None:
        left = 200 if fault == "truncated" else None
        waited = fault != "pause"
        while not self._closed.is_set():
            ready, _, _ = select.select([client, server], [], [], 1)
            for source in ready:
                content = source.recv(_CHUNK)
                if not content:
                    return
                if source is client:
                    server.sendall(content)
                    continue
                if not waited:
                    waited = True
                    self._closed.wait(self.pause)
                if left is not None:
                    client.sendall(content[:left])
                    left -= len(content)
                    if left <= 0:
                        return
                else:
                    client.sendall(content)


@contextmanager
def faulty(target: int, **settings: object) -> Iterator[FaultProxy]:
    """A proxy before a port, until the block ends."""
    proxy = FaultProxy(target=target, **settings)  # type: ignore[arg-type]
    try:
        yield proxy
    finally:
        proxy.close()
