"""The process: listens, obeys signals, and ends without dropping a request.

SIGTERM and SIGINT: readiness off, connections go on being served (each answer closes its
connection), then the listener closes, requests in flight are answered, the log is flushed. SIGHUP:
the bundle is read again and takes over between two requests. SIGUSR1: the socket `join_fd` is
accepted on too.
"""

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.support.errors import SlipwayError
from slipway.serving.admission import Admission
from slipway.serving.app import Predictor
from slipway.serving.batcher import Batcher
from slipway.serving.http.connection import Hub, factory
from slipway.serving.log.record import SHIPPER
from slipway.serving.metrics import Metrics
from slipway.serving.model import Model, load_model
from slipway.serving.object_store import exit_beside_hanging
from slipway.serving.online.features import (
    NOTE_SECONDS,
    OnlineFeatures,
    OnlineMetrics,
    OnlinePolicy,
)
from slipway.serving.settings import PredictorSettings

if TYPE_CHECKING:
    import grpc

    from slipway.serving.log.writer import InferenceLog

# What the log has at the end to reach its store. With the drain it is within what KServe's pods and the
# supervisor of a local endpoint wait.
LOG_SECONDS = 8.0
# What a process may have open, and how much of it is not for connections.
_MOST_DESCRIPTORS, _OWN_DESCRIPTORS = 65_536, 64
_logger = logging.getLogger("serving")


class Server:
    """One predictor process."""

    def __init__(self, settings: PredictorSettings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
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
        model = load_model(settings)
        metrics = Metrics(model.name)
        metrics.model.labels(model.name, model.version, model.model_hash).set(1)
        # As many rows wait as of one request at most: a row may have thousands of values.
        most = min(settings.max_queue, model.reader.bounds.rows)
        batcher = Batcher(max_batch=settings.max_batch, max_queue=most, metrics=metrics)
        metrics.watch("slipway_waiting_rows", "rows before the model", lambda: batcher.waiting_rows)
        log = _open_log(settings, model, metrics)
        online = _open_online(settings, model, metrics)
        admission = Admission(settings.max_inflight_mb * 1_000_000)
        metrics.watch(
            "slipway_held_bytes", "of requests, heads and answers", lambda: admission.held
        )
        app = Predictor(settings, model, batcher, admission, metrics, log, online)
        self._app, self._metrics, self._log = app, metrics, log
        self._obey_signals()
        rpc = await _start_grpc(app, settings) if settings.grpc_port else None
        self._hub = Hub(
            app,
            settings.receive_seconds,
            settings.keep_alive_seconds,
            min(settings.max_connections, _descriptors() - _OWN_DESCRIPTORS),
        )
        listener = await self._listen(_socket(settings))
        address = listener.sockets[0].getsockname()  # type: ignore[attr-defined]
        _logger.info(
            "%s version %s serves on %s:%s.", model.name, model.version, address[0], address[1]
        )
        # What is loaded stays; scanning it for garbage again and again cost a tenth of the CPU.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 100)
        watch = asyncio.create_task(self._watch(online))
        await self._stop.wait()
        await self._drain(rpc)
        watch.cancel()
        # The log comes first: all else may be cut off where the grace is over.
        if log is not None and not await asyncio.to_thread(log.close, LOG_SECONDS):
            _logger.warning("A part of the inference log stays in the spool.")
        batcher.close()
        admission.close()
        if online is not None:
            online.close()
        _logger.info("Ended.")

    def _obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR1, self._join)
        if self._settings.life_fd >= 0:
            loop.add_reader(self._settings.life_fd, self._end_of_life)

    async def _listen(self, sock: socket.socket) -> asyncio.AbstractServer:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory(self._hub), sock=sock, backlog=2048)
        self._servers.append(server)
        return server

    async def _watch(self, online: OnlineFeatures | None) -> None:
        for second in itertools.count(1):
            await asyncio.sleep(1)
            self._hub.tick()
            if online is not None and second % NOTE_SECONDS == 0:
                online.look()

    async def _drain(self, rpc: "grpc.aio.Server | None") -> None:
        """Readiness off; serve for a while; close the listeners; wait for what is in flight."""
        self._app.ready, hub = False, self._hub
        hub.draining = True
        await asyncio.sleep(self._settings.linger_seconds)
        # Both protocols have the same time.
        calls = None
        if rpc is not None:
            calls = asyncio.create_task(rpc.stop(self._settings.drain_seconds))
        for server in self._servers:
            await self._close_listener(server)
        # Connections that the kernel had handed over already are read once more before they close.
        deadline = time.monotonic() + self._settings.drain_seconds
        quiet = time.monotonic() + 1.0
        while time.monotonic() < deadline and (hub.members or hub.busy):
            await asyncio.sleep(0.05)
            if time.monotonic() > quiet:
                for connection in list(hub.members):
                    connection.close_if_idle()
        if hub.busy:
            _logger.warning("%d requests were cut off.", hub.busy)
        if calls is not None:
            await asyncio.wait([calls], timeout=max(0.0, deadline - time.monotonic()) + 1.0)

    async def _close_listener(self, server: asyncio.AbstractServer) -> None:
        """Stops listening; connections that the kernel took on meanwhile are served, not reset."""
        loop = asyncio.get_running_loop()
        kept = [sock.dup() for sock in server.sockets]  # type: ignore[attr-defined]
        server.close()
        for listener in kept:
            with listener, contextlib.suppress(BlockingIOError, ConnectionError):
                while True:
                    sock, _ = listener.accept()
                    await loop.connect_accepted_socket(factory(self._hub), sock)

    def _end_of_life(self) -> None:
        asyncio.get_running_loop().remove_reader(self._settings.life_fd)
        self._stop.set()

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


def _descriptors() -> int:
    """Files and connections that this process may have open, as many as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def _socket(settings: PredictorSettings) -> socket.socket:
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


def _open_log(settings: PredictorSettings, model: Model, metrics: Metrics) -> "InferenceLog | None":
    if not settings.log_uri:
        return None
    from slipway.serving.log.store import LogStore
    from slipway.serving.log.writer import InferenceLog, default_spool

    spool = Path(settings.log_spool) if settings.log_spool else default_spool()
    try:
        log = InferenceLog(
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
    text = "inference log rows that were accepted and are not stored yet"
    metrics.watch("slipway_log_pending_rows", text, lambda: log.pending_rows)
    return log


async def _start_grpc(app: Predictor, settings: PredictorSettings) -> "grpc.aio.Server":
    from slipway.serving.grpc.server import start_grpc

    try:
        return await start_grpc(app, settings)
    except RuntimeError as error:
        raise SlipwayError(
            f"Port {settings.grpc_port} cannot be listened on for gRPC: {error}."
        ) from error


def serve(settings: PredictorSettings) -> None:
    """Runs the predictor until SIGTERM or SIGINT.

    Raises:
        SlipwayError: as `Server.run`.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    async def main() -> None:
        await Server(settings).run()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())
    # What is not shipped lies in the spool, and all else is closed.
    exit_beside_hanging(0, SHIPPER)


def _open_online(
    settings: PredictorSettings, model: Model, metrics: Metrics
) -> OnlineFeatures | None:
    if not settings.online:
        return None
    policy = OnlinePolicy(
        refuse=settings.online_unfit == "refuse",
        max_age_seconds=settings.online_max_age_seconds,
    )
    project = settings.feature_project or model.bundle.name
    return OnlineFeatures(project, model.bundle, OnlineMetrics(metrics.registry), policy)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop

    return uvloop.new_event_loop
