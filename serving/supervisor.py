"""The supervisor of a local endpoint: owns its port, and starts, swaps, restarts and ends predictors.

It is a small process that outlives the pipeline. It holds the listening socket and hands it to each
predictor, so the port stays open through rollouts and restarts: a connection that comes in between
waits in the socket's queue for the next predictor. It is asked over a Unix socket, in the words of
`components/contracts/endpoint.py`.

    python -m slipway.serving.supervisor FOLDER FD            FD is a listening socket that it inherits
    python -m slipway.serving.supervisor FOLDER --port PORT   it listens itself, in a container of its own
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slipway import serving
from slipway.components.contracts.endpoint import (
    LOCK,
    LOG,
    OUTPUT,
    STATE,
    PredictorState,
    control_path,
)
from slipway.components.support.files import write_json
from slipway.components.support.secrets import guard_output

STOP_SECONDS = 40.0
_LONGEST_PAUSE = 30.0
_LOG_BYTES = 10_000_000


@dataclass(slots=True, kw_only=True)
class SupervisedPredictor:
    """One predictor: what it serves, and its process.

    Attributes:
        arguments: of `python -m slipway.serving`.
        private_url: where it alone is asked; empty where it was started again on the public socket.
        pid: 0 for a candidate that ended by itself.
        restarts: how often it ended by itself.
    """

    model_version: str
    model_hash: str
    bundle: str
    arguments: list[str]
    environment: dict[str, str]
    private_url: str = ""
    pid: int = 0
    restarts: int = 0
    _process: asyncio.subprocess.Process | None = None

    def describe(self) -> PredictorState:
        """What `status` and the state file say of it; its environment may hold secrets."""
        return {
            "model_version": self.model_version,
            "model_hash": self.model_hash,
            "bundle": self.bundle,
            "arguments": self.arguments,
            "private_url": self.private_url,
            "pid": self.pid,
            "restarts": self.restarts,
        }


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """What the state file holds."""

    pid: int
    host: str
    port: int
    started: float
    stable: PredictorState | None = None
    candidate: PredictorState | None = None
    notes: list[str] = field(default_factory=list)


class Supervisor:
    """One endpoint: a public socket, a stable predictor and at most one candidate."""

    def __init__(self, folder: Path, public: socket.socket) -> None:
        self._folder, self._public = folder, public
        host, port = public.getsockname()[:2]
        self._endpoint = Endpoint(pid=os.getpid(), host=host, port=port, started=time.time())
        self._stable: SupervisedPredictor | None = None
        self._candidate: SupervisedPredictor | None = None
        self._watchers: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serves requests of the control socket until `stop` or a signal."""
        path = control_path(self._folder)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        control = await asyncio.start_unix_server(self._serve, str(path))
        path.chmod(0o600)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._save()
        await self._stop.wait()
        control.close()
        last = self._stable
        members = [member for member in (last, self._candidate) if member]
        self._stable = self._candidate = None
        await asyncio.gather(*(_end(member) for member in members))
        self._save()
        if last is not None:  # `slipway start` serves it again
            self._endpoint.stable = {**last.describe(), "pid": 0}
            write_json(self._folder / STATE, asdict(self._endpoint))
        path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            # Up to its end: a line's length is bounded by the reader, and an environment has none.
            text = await reader.read()
            try:
                request = json.loads(text)
                answer = await self._do(request.pop("do"), request)
            except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            writer.write(json.dumps(answer).encode())
            await writer.drain()
            writer.close()

    async def _do(self, what: str, request: dict[str, Any]) -> dict[str, object]:
        match what:
            case "start":
                await self._discard()
                self._candidate = SupervisedPredictor(**request)
                await self._launch(self._candidate, joined=False)
            case "join":
                self._join()
            case "promote":
                await self._promote()
            case "discard":
                await self._discard()
            case "stop":
                self._stop.set()
            case "status":
                pass
            case _:
                raise ValueError(f"{what} is none of start, join, promote, discard, status, stop")
        self._save()
        return asdict(self._endpoint)

    async def _launch(self, member: SupervisedPredictor, *, joined: bool) -> None:
        """Starts a predictor: behind a private port, or at once on the public socket."""
        private: socket.socket | None = None
        member.private_url = ""
        flags = [f"--fd={self._public.fileno()}"]
        if not joined:
            private = socket.create_server(("127.0.0.1", 0))
            member.private_url = f"http://127.0.0.1:{private.getsockname()[1]}"
            flags = [f"--fd={private.fileno()}", f"--join-fd={self._public.fileno()}"]
        output = self._folder / OUTPUT
        with contextlib.suppress(FileNotFoundError):
            if output.stat().st_size > _LOG_BYTES:
                output.replace(output.with_suffix(".log.1"))
        with output.open("ab") as sink:
            member._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                serving.__name__,
                *flags,
                *member.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=member.environment,
                pass_fds=[s.fileno() for s in (self._public, private) if s is not None],
                start_new_session=True,
            )
        if private is not None:
            private.close()
        member.pid = member._process.pid
        watcher = asyncio.create_task(self._watch(member, member._process))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(
        self, member: SupervisedPredictor, process: asyncio.subprocess.Process
    ) -> None:
        """Starts the stable predictor again when it ends by itself, ever more slowly."""
        started = time.monotonic()
        code = await process.wait()
        if member is self._candidate:
            member.pid = 0
            self._note(f"candidate version {member.model_version} ended with {code}")
            self._save()
        if member is not self._stable:
            return
        lasted = time.monotonic() - started
        member.restarts = 1 if lasted > 60 else member.restarts + 1
        self._note(f"version {member.model_version} ended with {code} and is started again")
        self._save()
        if member.restarts > 1:
            await asyncio.sleep(min(2.0 ** (member.restarts - 2), _LONGEST_PAUSE))
        if member is self._stable and not self._stop.is_set():
            await self._launch(member, joined=True)
            self._save()

    def _join(self) -> SupervisedPredictor:
        """The candidate accepts on the public socket, beside the stable predictor."""
        member = self._candidate
        if member is None or member._process is None or member._process.returncode is not None:
            raise RuntimeError("there is no living candidate")
        member._process.send_signal(signal.SIGUSR1)
        return member

    async def _promote(self) -> None:
        """The candidate joins the public socket, then the stable predictor drains and ends."""
        member = self._join()
        old, self._stable, self._candidate = self._stable, member, None
        self._note(f"version {member.model_version} took over")
        self._save()
        if old is not None:
            await _end(old)

    async def _discard(self) -> None:
        if self._candidate is not None:
            member, self._candidate = self._candidate, None
            await _end(member)

    def _note(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        self._endpoint.notes = [*self._endpoint.notes[-19:], f"{stamp} {text}"]

    def _save(self) -> None:
        self._endpoint.stable = self._stable.describe() if self._stable else None
        self._endpoint.candidate = self._candidate.describe() if self._candidate else None
        write_json(self._folder / STATE, asdict(self._endpoint))


async def _end(member: SupervisedPredictor) -> None:
    """SIGTERM, which drains; SIGKILL where that takes too long."""
    process = member._process
    if process is None or process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def main(arguments: list[str]) -> int:
    """Runs the supervisor of a folder until `stop` or a signal."""
    folder = Path(arguments[0])
    if arguments[1] == "--port":
        # Its container deletes itself at the end, so what it says goes to a file.
        with (folder / LOG).open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        public = socket.create_server(("127.0.0.1", int(arguments[2])), backlog=2048)
    else:
        public = socket.socket(fileno=int(arguments[1]))
    with public, (folder / LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        asyncio.run(Supervisor(folder, public).run())
    return 0


if __name__ == "__main__":
    guard_output()
    sys.exit(main(sys.argv[1:]))
