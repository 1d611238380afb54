"""A run's processes live as long as its command, however that ends, and never two runs in a folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kfp import compiler, dsl

from slipway.components.support.errors import SlipwayError
from slipway.components.support.retry import wait_until
from slipway.local.runner.lifetime import run_temporary, session_members
from slipway.local.workspace import Workspace

PROGRAM = """
import sys
from pathlib import Path
from slipway.local.runner.execution import execute
from slipway.local.runner.request import RunRequest
from slipway.local.workspace import Workspace

workspace = Workspace.at(Path(sys.argv[1]))
request = RunRequest(
    pipeline=sys.argv[2], arguments={"note": sys.argv[3]}, root=str(workspace.outputs),
    cache=str(workspace.root / "cache"), runner="subprocess", environment={}, mounts=[],
    lock=str(workspace.work_lock),
)
with workspace.locked():
    execute(request, {}, workspace.logs / "run.log", lambda task, event: None)
"""


@dsl.component(install_kfp_package=False)
def work(note: str) -> None:
    """Says who it is, ignores SIGTERM, and works for a minute."""
    import os
    import signal
    import time

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(note + ".part", "w") as file:
        file.write(f"{os.getpid()} {os.getsid(0)}")
    os.rename(note + ".part", note)
    time.sleep(60)


@dsl.pipeline
def long_work(note: str) -> None:
    """One stage that takes a minute."""
    work(note=note)


class Running:
    """A command at work: its process, its child's (which leads the session), and the stage's."""

    def __init__(self, workspace: Workspace, pipeline: Path) -> None:
        note = workspace.root.parent / "note"
        note.unlink(missing_ok=True)
        command = [sys.executable, "-c", PROGRAM, str(workspace.root), str(pipeline), str(note)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        assert wait_until(note.exists, timeout=60), "the stage began"
        self.stage, self.child = map(int, note.read_text().split())

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.child, signal.SIGKILL)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipeline") / "long.yaml"
    compiler.Compiler().compile(long_work, str(path))
    return path


@pytest.fixture
def running(tmp_path: Path, pipeline: Path) -> Iterator[Running]:
    running = Running(Workspace.at(tmp_path / "run"), pipeline)
    yield running
    running.end()


def is_locked(workspace: Workspace) -> bool:
    try:
        with workspace.locked():
            return False
    except SlipwayError as error:
        assert "Another slipway run is working" in str(error)
        return True


def test_a_command_that_is_killed_takes_its_stages_with_it(
    running: Running, tmp_path: Path
) -> None:
    workspace = Workspace.at(tmp_path / "run")
    assert is_locked(workspace)
    assert {running.child, running.stage} <= set(session_members(running.child))
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    # The next command gets the folder only once nothing of the first works in it.
    started = time.monotonic()
    with workspace.locked():
        assert session_members(running.child) == []
    assert time.monotonic() - started < 15, "the stage ignores SIGTERM, and is killed after 10 s"


def test_what_a_killed_child_left_ends_with_its_command(running: Running, tmp_path: Path) -> None:
    os.kill(running.child, signal.SIGKILL)
    assert running.process.wait(timeout=20) == 0
    assert session_members(running.child) == []
    assert not is_locked(Workspace.at(tmp_path / "run"))


def test_what_a_killed_command_and_child_left_ends_before_the_next(
    running: Running, tmp_path: Path
) -> None:
    running.process.send_signal(signal.SIGSTOP)  # it sees nothing of its child's end
    os.kill(running.child, signal.SIGKILL)
    running.process.kill()
    running.process.wait()
    assert running.stage in session_members(running.child), "an orphan is at work"
    with Workspace.at(tmp_path / "run").locked():
        assert session_members(running.child) == []


def test_the_next_run_clears_what_a_killed_one_left(running: Running, tmp_path: Path) -> None:
    """Half-done outputs, and the folder that kfp makes for each task in the temporary one."""
    root = tmp_path / "run"
    temporary = run_temporary(root)
    assert list(temporary.glob("tmp*")), "kfp made one"
    half = root / "pipelines" / "shop-training" / "train" / ".bundle.0a1b.partial"
    half.mkdir(parents=True)
    (half / "model.onnx").write_text("half")
    (root / "monitoring").mkdir()
    (root / "monitoring" / ".request.json.0a1b.partial").write_text("{")
    # The endpoint's own writer may be at work.
    log = root / "inference_log" / "shop" / ".segment.0a1b.partial"
    log.parent.mkdir(parents=True)
    log.write_text("rows")
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    with Workspace.at(root).locked():
        assert not temporary.exists()
        assert list(root.rglob("*.partial")) == [log]
        assert (half.parent / "..").resolve().is_dir()


def test_a_session_of_somebody_else_with_the_same_number_is_left_alone(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path / "run")
    workspace.root.mkdir()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        try:
            assert wait_until(lambda: session_members(other.pid) == [other.pid], timeout=10)
            workspace.work_lock.write_text(str(other.pid))
            with workspace.locked():
                assert other.poll() is None
        finally:
            other.kill()
