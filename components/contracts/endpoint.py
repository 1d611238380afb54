"""A local endpoint between the stage that deploys to it and the supervisor that owns its port.

Both see one folder, SLIPWAY_HOME/endpoints/<project>/: state.json, which the supervisor writes; its lock,
held while it lives; a control socket; and what the supervisor and its predictors print. The supervisor
(`serving/supervisor.py`) is asked one thing a connection: JSON up to the end of what is sent, as long as
it may be. It answers in the same way, with its state:

    start     a candidate beside the stable predictor, behind a port of its own
    join      the candidate takes requests of the public port too
    promote   the candidate is the stable predictor, and the old one drains and ends
    discard   the candidate ends
    status    nothing is done
    stop      all end
"""

import fcntl
import hashlib
import json
import os
import shlex
import socket
import tempfile
from pathlib import Path
from typing import TypedDict

from slipway.components.support.errors import SlipwayError

TRANSFORMER = "slipway.serving.online.transformer"
"""The program of KServe's transformer: a pod starts it, in an image that deploy's own is not."""

STATE = "state.json"
LOCK = "supervisor.lock"
LOG = "supervisor.log"
OUTPUT = "predictor.log"
LASTING_TEMPORARY = "SLIPWAY_TMPDIR"
_LONGEST_SOCKET_PATH = 100  # Linux takes 107 bytes
_ANSWER_SECONDS = 90


class PredictorState(TypedDict):
    """One predictor of an endpoint, as the supervisor describes it.

    Attributes:
        bundle: the model's folder.
        arguments: of `python -m slipway.serving`.
        private_url: where it alone is asked; empty where it was started again on the public socket.
        pid: 0 for a candidate that ended by itself, and for what served when the supervisor ended.
        restarts: how often it ended by itself.
    """

    model_version: str
    model_hash: str
    bundle: str
    arguments: list[str]
    private_url: str
    pid: int
    restarts: int


class EndpointState(TypedDict, total=False):
    """What the state file holds, and the supervisor answers; empty where nothing could be read."""

    pid: int
    host: str
    port: int
    started: float
    stable: PredictorState | None
    candidate: PredictorState | None
    notes: list[str]


def endpoint_folder(home: Path, project: str) -> Path:
    """Where one project's local endpoint keeps its state."""
    return home / "endpoints" / project


def control_path(folder: Path) -> Path:
    """The control socket of an endpoint: in its folder, or where that path is too long for a socket."""
    path = folder / "control.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(lasting_temporary()) / f"slipway-{os.getuid()}-{digest}" / "control.sock"


def lasting_temporary() -> str:
    """The folder for temporary files that outlive a run: a local run's stages have one of their own."""
    return os.environ.get(LASTING_TEMPORARY) or tempfile.gettempdir()


def read_state(folder: Path) -> EndpointState:
    """What the supervisor wrote last; empty where there is nothing that can be read."""
    try:
        state: EndpointState = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def is_supervised(folder: Path) -> bool:
    """Whether a living supervisor holds the folder's lock; a stale pid file does not count."""
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return (folder / STATE).exists()
    return False


def ask_supervisor(folder: Path, do: str, **request: object) -> EndpointState:
    """Asks the supervisor one thing.

    Args:
        folder: of the endpoint.
        do: what; see the module.
        request: what it needs to know of the candidate, for "start".

    Returns:
        Its state afterwards.

    Raises:
        SlipwayError: it does not answer, or cannot do it.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_ANSWER_SECONDS)
            sock.connect(str(control_path(folder)))
            sock.sendall(json.dumps({"do": do, **request}).encode())
            sock.shutdown(socket.SHUT_WR)
            with sock.makefile("rb") as file:
                answer = json.loads(file.read())
    except (OSError, ValueError) as error:
        home = shlex.quote(str(folder.parent.parent))
        raise SlipwayError(
            f"The supervisor of the local endpoint in {folder} does not answer ({error})."
            f" Its log is {folder / LOG}; `SLIPWAY_HOME={home} slipway stop` ends it."
        ) from error
    if "error" in answer:
        raise SlipwayError(
            f"The local endpoint cannot {do}: {answer['error']}. {last_lines(folder / OUTPUT)}"
        )
    state: EndpointState = answer
    return state


def last_lines(path: Path, lines: int = 5) -> str:
    """The end of what a process printed, in one line for a message."""
    try:
        text = " | ".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        text = ""
    return text[-600:] or f"{path} is empty"
