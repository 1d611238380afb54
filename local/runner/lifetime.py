"""How long a run's processes live: never beyond the command that started them, and never two at once.

A run is a command (`slipway run` and its kin), a child that runs the pipeline, and the child's stages.
The child leads a session of its own, and holds a lock of its own beside the command's. Where the
command is killed the system tells the child, which ends its session; where the child is killed too,
the next command in the folder ends what is left of the session.
"""

import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from slipway.components.support.errors import SlipwayError
from slipway.components.support.retry import wait_until

# Stages have this long to save themselves after a SIGTERM.
GRACE_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


@contextmanager
def held_by_child(lock: Path, parent: int) -> Iterator[None]:
    """Holds the child's lock, and ends the child's session with the command's process.

    Args:
        lock: the file; it then says which session works.
        parent: the command's process id.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was killed before the system was asked
        sys.exit(128 + signal.SIGTERM)
    with lock.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(str(os.getpid()))
        file.flush()
        yield


def end_session_on_sigterm() -> None:
    """Lets a SIGTERM to this process, which leads a session, end all of the session."""
    signal.signal(signal.SIGTERM, _end_own_session)


def _end_own_session(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    session = os.getpid()
    os.killpg(session, signal.SIGTERM)

    def is_empty() -> bool:
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return not set(session_members(session)) - {session}

    wait_until(is_empty, timeout=GRACE_SECONDS)
    os.killpg(session, signal.SIGKILL)


def end_session(session: int) -> None:
    """Kills what is left of a session whose leader, a child of this process, has ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)


def end_abandoned(lock: Path, root: Path) -> None:
    """Kills what a child that was killed itself left at work in a folder.

    Args:
        lock: the child's lock, which nobody holds any more.
        root: the folder. A session's number is used again: only processes that name the folder count.
    """
    try:
        session = int(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    left = [pid for pid in session_members(session) if _names(pid, root)]
    for pid in left:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not set(left) & set(session_members(session)), timeout=GRACE_SECONDS)


def run_temporary(root: Path) -> Path:
    """The folder of a workspace's runs for temporary files: kfp makes one in it for each task.

    It has a short name in the system's own folder, since sockets lie in it too.
    """
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"slipway-run-{os.getuid()}-{digest}"


def make_run_temporary(root: Path) -> Path:
    """Makes that folder, for this user alone.

    Raises:
        SlipwayError: somebody else has made it.
    """
    folder = run_temporary(root)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SlipwayError(f"{folder} is not a folder of this user. Remove it, or set TMPDIR.")
    return folder


def clear_abandoned(root: Path) -> None:
    """Removes what a run that was killed left half-done in its folder, and its temporary files.

    Nothing of a run may be at work. What the endpoint and its log write is left alone: they may be.
    """
    temporary = run_temporary(root)
    if temporary.is_dir() and not temporary.is_symlink():
        shutil.rmtree(temporary, ignore_errors=True)
    for name in ("pipelines", "compiled", "feature_store", "monitoring", "mlflow-artifacts"):
        for partial in (root / name).rglob(".*.partial"):
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)


def session_members(session: int) -> list[int]:
    """The processes of a session that live; none where the system does not list processes."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            # After the name, which may hold anything: state, parent, group, session.
            state, _, _, number = entry.read_text().rpartition(")")[2].split()[:4]
            if int(number) == session and state not in "ZX":
                found.append(int(entry.parent.name))
    return found


def _names(pid: int, root: Path) -> bool:
    texts = []
    for name in ("cmdline", "environ"):
        with suppress(OSError):
            texts.append(Path(f"/proc/{pid}/{name}").read_bytes())
    return os.fsencode(root) in b"\0".join(texts)
