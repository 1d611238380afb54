"""A predictor under load for minutes, with faulty stores behind it and unkind clients beside it.

First its capacity is measured, with those beside it: 32 connections that ask again as soon as they are
answered. Then requests come at a share of that rate, whether the ones before are answered or not; latency
counts from the moment that a request is due. One in fifty leaves its features to the online store; those
have connections of their own, as one that waits for a silent store holds its connection.

    python -m support.predictor_load MINUTES SEED      from the folder tests/
"""

import asyncio
import json
import multiprocessing
import os
import random
import socket
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from support.fault_proxy import faulty
from support.online_stores import KEYS, RedisServer, fill_store
from support.serving_bundles import Running, flight_tensors, free_port, predictor, wait_for
from support.small_job import serve_s3

SHARE = 0.8
CONNECTIONS, KEYED_CONNECTIONS = 32, 512
KEYED_EVERY = 50
MEASURED_SECONDS = 90
IDLE, SLOW = 200, 50
PATH = "/v2/models/flights/infer"


@dataclass(kw_only=True)
class Told:
    """What clients of one kind were answered.

    Attributes:
        statuses: how often which; "cut" is a connection that ended without an answer.
        waits: milliseconds from due to answered.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    waits: array = field(default_factory=lambda: array("f"))  # type: ignore[type-arg]

    def says(self) -> str:
        p50, p99, p999 = np.percentile(self.waits, [50, 99, 99.9]) if self.waits else (0.0,) * 3
        return (
            f"{sum(self.statuses.values()):,} requests, {dict(self.statuses)},"
            f" p50 {p50:.1f} ms, p99 {p99:.1f} ms, p99.9 {p999:.1f} ms"
        )


def _request(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class _Client(asyncio.Protocol):
    """A kept connection that has one request under way at most."""

    def __init__(self, load: "_Load") -> None:
        self._load, self._read = load, bytearray()
        self._under_way: tuple[Told, float] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._load.free(self)

    def ask(self, content: bytes, told: Told, due: float) -> None:
        self._under_way = told, due
        self._transport.write(content)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, mark, body = self._read.partition(b"\r\n\r\n")
        if not mark:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length or self._under_way is None:
            return
        told, due = self._under_way
        told.statuses[head[9:12].decode()] += 1
        told.waits.append((time.monotonic() - due) * 1e3)
        self._under_way = None
        self._read.clear()
        if b"connection: close" not in head.lower():
            self._load.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._under_way is not None:
            self._under_way[0].statuses["cut"] += 1
        self._load.lost()


class _Load:
    """Connections to one port that ask for one thing, and what is due on them.

    Attributes:
        rate: requests a second; 0: as many as are answered, or as come to those of `beside`.
        beside: another load, of which this one is a share.
    """

    def __init__(
        self,
        port: int,
        inputs: Any,
        rate: float,
        seconds: float,
        connections: int,
        beside: "_Load | None" = None,
    ) -> None:
        self.told, self.sent = Told(), 0
        self._port, self._rate, self._seconds, self._beside = port, rate, seconds, beside
        self._free: list[_Client] = []
        self._body = _request({"inputs": inputs})
        self._missing = connections

    def free(self, client: _Client) -> None:
        """The connection takes what is due, or waits."""
        now = time.monotonic()
        if self._due(now) <= now < self._end:
            self._next(client, self._due(now))
        else:
            self._free.append(client)

    def lost(self) -> None:
        self._missing += 1

    def _due(self, now: float) -> float:
        """When the next request is."""
        if self._rate:
            return self._begun + self.sent / self._rate
        if self._beside:
            return now if self.sent * KEYED_EVERY < self._beside.sent else float("inf")
        return now

    def _next(self, client: _Client, due: float) -> None:
        self.sent += 1
        client.ask(self._body, self.told, due)

    async def run(self) -> None:
        loop, begun = asyncio.get_running_loop(), time.monotonic()
        self._begun, self._end = begun, begun + self._seconds
        while (now := time.monotonic()) < self._end:
            while self._missing:
                self._missing -= 1
                with suppress(OSError):
                    await loop.create_connection(lambda: _Client(self), "127.0.0.1", self._port)
            self._free = [c for c in self._free if not c._transport.is_closing()]
            while self._free and (due := self._due(now)) <= now:
                self._next(self._free.pop(), due)
            await asyncio.sleep(0.001)
        await asyncio.sleep(10)  # what is under way is answered, or counts as nothing


def load(port: int, rate: float, seconds: float, results: Any) -> None:
    """A process that asks; `rate` a second, or 0: as fast as it is answered."""
    import uvloop

    keyed = rate / KEYED_EVERY
    plain = _Load(port, flight_tensors(1), rate - keyed, seconds, CONNECTIONS)
    loads = plain, _Load(port, KEYS, keyed, seconds, KEYED_CONNECTIONS, beside=plain)

    async def run() -> None:
        await asyncio.gather(*(one.run() for one in loads))

    uvloop.run(run())
    results.put([one.told for one in loads])


class Unkind:
    """Clients that are slow, idle or hostile, each in a thread, until `ended`."""

    def __init__(self, port: int, seed: int, ended: Any) -> None:
        self._port, self._ended, self._seed = port, ended, seed
        self.counts: Counter[str] = Counter()
        good = json.dumps({"inputs": flight_tensors(1)}).encode()[:-1]
        junk = good + b',"parameters":{"x":[' + b"[]," * 4_600_000 + b"[]]}}"
        deep = b'{"inputs":' + b"[" * 100_000
        rows = b'{"instances":[' + b"{}," * 4_600_000 + b"{}]}"
        metrics = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
        head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        infer, predict = PATH.encode(), b"/v1/models/flights:predict"
        self._attacks = {
            "14 MB of junk": (head % (infer, len(junk)) + junk, 10),
            "14 MB of rows": (head % (predict, len(rows)) + rows, 10),
            "deep nesting": (head % (infer, len(deep)) + deep, 1),
            "100 kB of pipelined GET /metrics": (metrics * 2_800, 5),
            "a URL of 100 kB": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 1),
            "two lengths": (head.replace(b"Host", b"Content-Length: 3\r\nHost") % (infer, 5), 0.2),
            "random bytes": (random.Random(seed).randbytes(20_000), 0.2),
            "half a request, then gone": ((head % (infer, 5_000))[:-1], 0.2),
        }

    def run(self) -> None:
        threads = [
            threading.Thread(target=self._hold, args=(n < SLOW,)) for n in range(IDLE + SLOW)
        ]
        threads += [
            threading.Thread(target=self._attack, args=(name, *attack))
            for name, attack in self._attacks.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _hold(self, slow: bool) -> None:
        content = _request({"inputs": flight_tensors(1)})
        while not self._ended.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as sock:
                sock.settimeout(1)
                for octet in content:
                    if self._ended.is_set():
                        return
                    if slow:
                        sock.send(bytes([octet]))
                    with suppress(TimeoutError):
                        if not sock.recv(9_000):
                            break
            self.counts["slow" if slow else "idle"] += 1
            self._ended.wait(0.5)

    def _attack(self, name: str, content: bytes, pause: float) -> None:
        while not self._ended.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as sock:
                sock.settimeout(20)
                sock.sendall(content)
                answer = sock.recv(9_000)
                assert not answer.startswith(b"HTTP/1.1 500"), f"{name}: {answer[:300]!r}"
            self.counts[name] += 1
            self._ended.wait(pause)


def unkind(port: int, seed: int, ended: Any, results: Any) -> None:
    """A process of such clients."""
    clients = Unkind(port, seed, ended)
    clients.run()
    results.put(dict(clients.counts))


def _peak_mb(running: Running) -> int:
    text = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) // 1024


def _asked(port: int, rate: float, seconds: float) -> list[Told]:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=load, args=(port, rate, seconds, results))
    process.start()
    found = results.get(timeout=seconds + 120)
    process.join()
    return found  # type: ignore[no-any-return]


def measure(running: Running, minutes: float, seed: int) -> None:
    """Capacity, then the load, on standard output."""
    port = int(running.url.rsplit(":", 1)[1])
    context = multiprocessing.get_context("spawn")
    ended, results = context.Event(), context.Queue()
    beside = context.Process(target=unkind, args=(port, seed, ended, results))
    beside.start()
    told = _asked(port, 0, MEASURED_SECONDS)
    capacity = sum(sum(t.statuses.values()) for t in told) / MEASURED_SECONDS
    print(f"capacity: {capacity:,.0f} requests a second; {told[0].says()}", flush=True)
    plain, keyed = _asked(port, SHARE * capacity, minutes * 60)
    ended.set()
    counts = results.get(timeout=120)
    beside.join()
    print(f"{minutes:g} minutes at {SHARE * capacity:,.0f} a second", plain.says(), sep="\n  ")
    print(f"  by keys, Redis faulty: {keyed.says()}\n  beside: {counts}")
    print(f"  peak {_peak_mb(running)} MB", flush=True)


def main(arguments: list[str]) -> int:
    """Runs it; what the log's store lost is told as well."""
    minutes, seed = float(arguments[0]), int(arguments[1])
    s3_port = free_port()
    with tempfile.TemporaryDirectory() as folder, serve_s3(s3_port):
        redis = RedisServer(Path(folder))
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "eu-central-1",
        }
        os.environ |= {"FEATURE_STORE_URI": f"{folder}/store", "FEAST_REDIS_URL": redis.address}
        fill_store(Path(folder), by_stage=True)
        place = "<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint>"
        httpx.put(f"http://127.0.0.1:{s3_port}/log", content=f"{place}</CreateBucketConfiguration>")
        redis_port = int(redis.address.rsplit(":", 1)[1])
        with (
            faulty(s3_port, seed=seed, share=0.3) as store,
            faulty(redis_port, seed=seed, share=0.3, pause=0.5) as online,
        ):
            os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{store.port}"
            os.environ["FEAST_REDIS_URL"] = f"127.0.0.1:{online.port}"
            cuts = threading.Event()
            threading.Thread(target=_cut, args=(online, cuts), daemon=True).start()
            flags = ["--online", "--log-uri=s3://log/x", "--log-roll-seconds=30"]
            with predictor(Path(folder) / "p", *flags) as running:
                measure(running, minutes, seed)
                cuts.set()
                print(f"  faults: S3 {dict(store.count)}, Redis {dict(online.count)}")
                store.share = online.share = 0.0
                wait_for(lambda: running.metric("slipway_log_pending_rows") == 0, 300)
                stored = running.metric('slipway_log_rows_total{state="stored"}')
                print(f"  log rows stored: {stored:,.0f}; ended with {running.stop()}")
        redis.stop()
    return 0


def _cut(proxy: Any, ended: threading.Event) -> None:
    """Ends the online store's connections from time to time, so that new ones meet new faults."""
    while not ended.wait(3):
        proxy.cut()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
