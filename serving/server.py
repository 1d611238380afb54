"""The process: listens, obeys signals, and ends without dropping a request.

SIGTERM and SIGINT: readiness off, connections go on being served (each answer closes its
connection), then the listener closes, requests in flight are answered, the log is flushed. SIGHUP:
the bundle is read again and takes over between two requests. SIGUSR1: the socket `join_fd` is
accepted on too.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from components.contracts.errors import SlipwayError
from serving.app import Predictor
from serving.batcher import Batcher
from serving.log import InferenceLog, default_spool
from serving.log_store import LogStore
from serving.metrics import Metrics
from serving.model import Model, load_model
from serving.online import OnlineFeatures
from serving.settings import Settings

_MAX_HEAD = 32 * 1024
_LOG_SECONDS = 8.0
_logger = logging.getLogger("serving")


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP connection with bounds, and a gentle end.

    Bounded are the size of the head and the time that a request takes to arrive. When the process
    ends, a connection is closed with its next answer, not under a request that is on its way.
    """

    receive_seconds = 30.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock: a connection that never sends is closed."""
        super().connection_made(transport)
        self._in_head, self._head = True, 0
        self.receiving_since: float | None = self.loop.time()
        self._draining = False

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, and refuses a head that never ends."""
        if self._in_head:
            self._head += len(data)
            if self.receiving_since is None:
                self.receiving_since = self.loop.time()
        super().data_received(data)
        if self._in_head and self._head > _MAX_HEAD and not self.transport.is_closing():
            self._refuse(431, "The request's head is too large.")

    def on_headers_complete(self) -> None:
        """Ends the head."""
        self._in_head, self._head = False, 0
        if self.parser.get_method() == b"CONNECT" or self.parser.should_upgrade():
            # Bytes after such a head are no HTTP, and the parser stops: nothing else can follow.
            self._refuse(400, "An upgrade is not possible here.")
            return
        super().on_headers_complete()
        if self._draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Ends the request: the next one starts a new clock."""
        self._in_head, self.receiving_since = True, None
        if self.cycle is not None:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body, unless the request was refused already."""
        if self.cycle is not None:
            super().on_body(body)

    def drain(self) -> None:
        """Answers what comes, and closes the connection with the next answer."""
        self._draining = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def close_if_late(self, now: float) -> None:
        """Closes a connection whose request has not arrived whole in time."""
        since = self.receiving_since
        if since is not None and now - since > self.receive_seconds:
            idle = self.cycle is None or self.cycle.response_complete
            if idle and not self._head:
                self.transport.close()
            else:
                self._refuse(408, "The request did not arrive whole in time.")

    def _refuse(self, status: int, message: str) -> None:
        body = f'{{"error":"{message}"}}'.encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head % len(body) + body)
        self.transport.close()


class Server:
    """One predictor process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._state = ServerState()
        self._servers: list[asyncio.AbstractServer] = []
        self._joined = False
        self._reloading: asyncio.Task[None] | None = None
        self._joining: asyncio.Task[asyncio.AbstractServer] | None = None

    async def run(self) -> None:
        """Serves until a signal says otherwise.

        Raises:
            SlipwayError: the bundle cannot be served, or the port is taken.
        """
        settings = self._settings
        loop = asyncio.get_running_loop()
        model = load_model(settings)
        metrics = Metrics(model.name)
        metrics.model.labels(model.name, model.version, model.model_hash).set(1)
        batcher = Batcher(
            max_batch=settings.max_batch, max_queue=settings.max_queue, metrics=metrics
        )
        metrics.watch("slipway_waiting_rows", "rows before the model", lambda: batcher.waiting_rows)
        log = _open_log(settings, model, metrics)
        online = None
        if settings.online:
            online = OnlineFeatures(settings.feature_project or model.bundle.name, model.bundle)
        app = Predictor(settings, model, batcher, metrics, log, online)
        self._app, self._metrics, self._log = app, metrics, log
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR1, self._join)
        rpc = None
        if settings.grpc_port:
            from serving.grpc_server import start_grpc

            try:
                limit = settings.max_body_mb * 1_000_000
                rpc = await start_grpc(app, settings.host, settings.grpc_port, limit)
            except RuntimeError as error:
                raise SlipwayError(
                    f"Port {settings.grpc_port} cannot be listened on for gRPC: {error}."
                ) from error
        self._config = uvicorn.Config(
            app,  # type: ignore[arg-type]
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_keep_alive=settings.keep_alive_seconds,
            reset_contextvars=False,
        )
        self._config.load()
        Protocol.receive_seconds = settings.receive_seconds
        self._tick()
        listener = await self._listen(_socket(settings))
        address = listener.sockets[0].getsockname()  # type: ignore[attr-defined]
        _logger.info(
            "%s version %s serves on %s:%s.", model.name, model.version, address[0], address[1]
        )
        watch = asyncio.create_task(self._watch())
        await self._stop.wait()
        watch.cancel()
        await self._drain()
        if rpc is not None:
            await rpc.stop(settings.drain_seconds)
        batcher.close()
        if online is not None:
            online.close()
        if log is not None and not await asyncio.to_thread(log.close, _LOG_SECONDS):
            _logger.warning("A part of the inference log stays in the spool.")
        _logger.info("Ended.")

    async def _listen(self, sock: socket.socket) -> asyncio.AbstractServer:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._connection, sock=sock, backlog=2048)
        self._servers.append(server)
        return server

    def _connection(self) -> Protocol:
        return Protocol(self._config, self._state, {}, asyncio.get_running_loop())

    def _connections(self) -> list[Protocol]:
        return [c for c in self._state.connections if isinstance(c, Protocol)]

    def _tick(self) -> None:
        date = formatdate(time.time(), usegmt=True).encode()
        self._state.default_headers = [(b"date", date)]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._tick()
            now = asyncio.get_running_loop().time()
            for connection in self._connections():
                connection.close_if_late(now)

    async def _drain(self) -> None:
        """Readiness off; serve for a while; close the listeners; wait for what is in flight."""
        self._app.ready = False
        for connection in self._connections():
            connection.drain()
        deadline = time.monotonic() + self._settings.linger_seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            for connection in self._connections():
                connection.drain()
        for server in self._servers:
            server.close()
        # Connections that the kernel had handed over already are read once more before they close.
        deadline = time.monotonic() + self._settings.drain_seconds
        quiet = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            connections = self._connections()
            for connection in connections:
                connection.drain()
            busy = bool(self._state.tasks)
            if not connections and not busy:
                break
            if not busy and time.monotonic() > quiet:
                for connection in connections:
                    connection.shutdown()
        if self._state.tasks:
            _logger.warning("%d requests were cut off.", len(self._state.tasks))

    def _reload(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._load_again())

    async def _load_again(self) -> None:
        try:
            model = await asyncio.to_thread(load_model, self._settings)
        except SlipwayError as error:
            _logger.error("The bundle is not taken, the old one serves on: %s", error)
            return
        if model.name != self._app.model.name:
            _logger.error("The bundle is of %s: the old one serves on.", model.name)
            return
        old, self._app.model = self._app.model, model
        if self._log is not None:
            self._log.use(model.bundle)
        with contextlib.suppress(KeyError):
            self._metrics.model.remove(old.name, old.version, old.model_hash)
        self._metrics.model.labels(model.name, model.version, model.model_hash).set(1)
        _logger.info("%s version %s took over.", model.name, model.version)

    def _join(self) -> None:
        """Accepts on the shared socket too; the private one stays, for questions to this process."""
        if self._settings.join_fd >= 0 and not self._joined:
            self._joined = True
            public = socket.socket(fileno=self._settings.join_fd)
            self._joining = asyncio.create_task(self._listen(public))


def _socket(settings: Settings) -> socket.socket:
    if settings.fd >= 0:
        return socket.socket(fileno=settings.fd)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host, settings.port))
    except OSError as error:
        sock.close()
        raise SlipwayError(
            f"Port {settings.port} on {settings.host} cannot be listened on: {error.strerror}."
            " Give another one with --port."
        ) from error
    return sock


def _open_log(settings: Settings, model: Model, metrics: Metrics) -> InferenceLog | None:
    if not settings.log_uri:
        return None
    spool = Path(settings.log_spool) if settings.log_spool else default_spool()
    try:
        return InferenceLog(
            LogStore(settings.log_uri),
            spool,
            metrics,
            model_name=model.name,
            bundle=model.bundle,
            roll_seconds=settings.log_roll_seconds,
            spool_mb=settings.log_spool_mb,
        )
    except OSError as error:
        raise SlipwayError(
            f"The inference log cannot be spooled in {spool}: {error.strerror}. Give another folder"
            " with --log-spool."
        ) from error


def serve(settings: Settings) -> None:
    """Runs the predictor until it is told to end.

    Raises:
        SlipwayError: as `Server.run`.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    async def main() -> None:
        await Server(settings).run()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


def _loop_factory() -> Any:
    import uvloop

    return uvloop.new_event_loop
