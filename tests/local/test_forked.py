"""A stage that is forked from the runner is what a process of its own would be, and ends as one."""

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl

from slipway.local.runner.execution import PipelineRun, execute
from slipway.local.runner.forked import ForkedStages
from slipway.local.runner.request import RunRequest
from slipway.local.workspace import Workspace


@dsl.component(install_kfp_package=False)
def describe(note: str) -> str:
    """Writes down what it finds itself in."""
    import atexit
    import builtins
    import json
    import logging
    import os
    import sys
    import threading
    import warnings
    from pathlib import Path
    from signal import SIG_DFL, SIGTERM, getsignal

    print("a line of the stage")
    print("and one of its errors", file=sys.stderr)
    os.system("echo a line of its child")
    atexit.register(Path(note + ".end").write_text, "ended")
    facts = {
        "process": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "threads": threading.active_count(),
        "files": sorted(os.readlink(p) for p in Path("/proc/self/fd").glob("*") if p.exists()),
        "handlers": [getattr(h, "stream", None) is sys.stdout for h in logging.root.handlers],
        "term": getsignal(SIGTERM) is SIG_DFL,
        "print": builtins.print.__module__,
        "warned": ("ignore", None, Warning, None, 0) not in warnings.filters,
        "variables": {
            k: os.environ.get(k) for k in ("COLOUR", "_KFP_RUNTIME", "MODEL_PRIVATE_KEY")
        },
        "mlflow": "mlflow" in sys.modules,
        "polars": sys.modules.get("polars", "none") is not None and "polars" in sys.modules,
    }
    Path(note).write_text(json.dumps(facts))
    return "done"


@dsl.component(install_kfp_package=False)
def train(note: str, after: str) -> str:
    """Asks MLflow, as the stage of this name does."""
    return note + after


@dsl.component(install_kfp_package=False)
def evaluate(note: str, after: str) -> str:
    """Says what the runner had imported."""
    import sys
    from pathlib import Path

    import polars

    found = polars.DataFrame({"n": range(50_000)}).group_by(polars.col("n") % 7).len()
    Path(note + ".later").write_text(f"{'mlflow' in sys.modules} {len(found)}")
    return after


@dsl.pipeline
def three(note: str) -> None:
    """Three stages in a row."""
    first = describe(note=note).set_env_variable("COLOUR", "blue")
    second = train(note=note, after=first.output)
    evaluate(note=note, after=second.output)


@dsl.component(install_kfp_package=False)
def build_features(text: str) -> str:
    """Prints more than a pipe holds, before a stage that asks MLflow."""
    print(text * 200_000)
    return "said"


@dsl.pipeline
def talkative(note: str) -> None:
    """A stage that says much, and one that asks MLflow."""
    train(note=note, after=build_features(text="x").output)


@dsl.component(install_kfp_package=False)
def fail(how: str) -> str:
    """Ends in one of the ways in which a stage does not give a result."""
    import os
    import sys

    from slipway.components.support.errors import SlipwayError
    from slipway.components.support.stage import stage

    @stage("fail")
    def work() -> None:
        if how == "killed":
            os.kill(os.getpid(), 9)
        if how == "exit":
            sys.exit(3)
        if how == "refused":
            raise SlipwayError("The table is empty.")
        raise ValueError(how)

    work()
    return "never"


@dsl.pipeline
def failing(how: str) -> None:
    """One stage that fails."""
    fail(how=how)


def run(folder: Path, pipeline: Any, *, server: bool = True, **arguments: str) -> PipelineRun:
    compiled = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(compiled))
    workspace = Workspace.at(folder / "run")
    request = RunRequest(
        pipeline=str(compiled),
        arguments=dict(arguments),
        root=str(workspace.outputs),
        cache=str(workspace.root / "cache"),
        runner="subprocess",
        environment={},
        mounts=[],
        lock=str(workspace.work_lock),
    )
    settings = {"MODEL_PRIVATE_KEY": "of register alone"}
    settings |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"} if server else {}
    with workspace.locked():
        return execute(request, settings, workspace.logs / "run.log", lambda task, event: None)


def test_a_stage_finds_what_a_new_interpreter_would_have(tmp_path: Path) -> None:
    note = tmp_path / "note"
    done = run(tmp_path, three, note=str(note))
    assert done.error is None
    assert [task.status for task in done.tasks.values()] == ["cached"] * 3, "none tells an event"
    facts = json.loads(note.read_text())
    assert facts["parent"] == facts["session"], "it is a child of the runner, who leads the session"
    assert facts["process"] not in (facts["parent"], os.getpid())
    assert facts["threads"] == 1
    assert not [name for name in facts["files"] if name.endswith(".lock")], facts["files"]
    assert facts["handlers"] == [True], "kfp's own, on this stage's output"
    assert facts["term"]
    assert facts["print"] == "builtins", "its lines are indented once, by the runner"
    assert facts["warned"], "what the runner ignores, a stage does not"
    variables = {"COLOUR": "blue", "_KFP_RUNTIME": "true", "MODEL_PRIVATE_KEY": None}
    assert facts["variables"] == variables
    assert not facts["mlflow"], "nothing is imported before the first stage has begun"
    assert not facts["polars"]
    assert Path(f"{note}.end").read_text() == "ended"
    assert Path(f"{note}.later").read_text() == "True 7", "MLflow is there, and Polars works"
    log = done.log.read_text()
    for line in ("a line of the stage", "and one of its errors", "a line of its child"):
        assert f"\n    {line}\n" in log


@pytest.mark.parametrize("server", [True, False])
def test_a_stage_may_say_more_than_a_pipe_holds(
    tmp_path: Path, server: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = run(tmp_path, talkative, server=server, note="note")
    assert done.error is None
    assert "x" * 200_000 in done.log.read_text()


def test_a_runner_that_stops_reading_ends_its_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python waits for its children when it ends: this one would wait for a reader for ever."""
    from slipway.local.runner import forked

    started: list[Any] = []

    def broken(uri: str) -> None:
        started.extend(multiprocessing.active_children())
        raise OSError("the disk is gone")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(forked.tracking, "import_client", broken)
    # A worker of xdist has threads, and a runner none.
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(forked, "_run_stage", lambda *given: time.sleep(60))
    container = build_features.component_spec.implementation.container
    own = [*container.command, *map(str, container.args)]
    stages = ForkedStages(lambda **command: 7, {"build_features", "train"})
    # A stage begins with this, and a worker may have another from a test before: here no stage begins.
    inherited = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(OSError, match="the disk is gone"):
            stages(full_command=own, env_vars=None)
    finally:
        signal.signal(signal.SIGTERM, inherited)
    (child,) = started
    child.join(timeout=10)
    assert child.exitcode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("refused", "The table is empty."),
        ("wrong", "ValueError: wrong"),
        ("exit", "The stage fail ended without a result"),
        ("killed", "The stage fail ended without a result"),
    ],
)
def test_a_stage_that_fails_fails_the_run(tmp_path: Path, how: str, said: str) -> None:
    done = run(tmp_path, failing, how=how)
    assert done.tasks["fail"].status == "failed"
    assert said in str(done.error)
    log = done.log.read_text()
    assert ("Traceback" in log) == (how == "wrong"), "a refusal is told without one"
    assert ("error: The table is empty." in log) == (how == "refused")


def test_only_kfps_own_command_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def otherwise(full_command: list[str], env_vars: dict[str, str] | None) -> int:
        asked.append(full_command)
        return 7

    stages = ForkedStages(otherwise, {"describe"})
    others = [
        ["sh", "-c", "echo a b", "x", "y"],
        ["python3", "-m", "kfp.dsl.executor_main", "--function_to_execute", "describe"],
        ["sh", "-ec", "pip install torch && rest", "source", "--executor_input", "{}"],
    ]
    for other in others:
        assert stages(full_command=other, env_vars=None) == 7
    assert asked == others
    # A thread might hold a lock that the child would wait for.
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("it forked"))
    container = describe.component_spec.implementation.container
    own = [*container.command, *map(str, container.args)]
    assert stages(full_command=own, env_vars=None) == 7
    event.set()
    thread.join()
