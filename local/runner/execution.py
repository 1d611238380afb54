"""Runs a compiled pipeline in a child process and follows it event by event."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.components.config.orchestration import IN_SHARDS
from slipway.components.contracts.endpoint import LASTING_TEMPORARY, lasting_temporary
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import short_path
from slipway.components.support.secrets import redact
from slipway.components.support.stage import EVENT_PREFIX
from slipway.local.runner import local_run
from slipway.local.runner.lifetime import GRACE_SECONDS, end_session, make_run_temporary
from slipway.local.runner.request import RunRequest, request_json

LAST_LINES = 15


@dataclass(slots=True, kw_only=True)
class TaskRun:
    """How one task of a run went.

    Attributes:
        status: running, succeeded, refused (the gate did its work and let the model not pass), cached,
            failed, or skipped.
        seconds: wall-clock seconds that the task took, with the start of its process.
        headline: what came out, in a few words.
        peak_mb: largest resident size of the stage's process, in MB.
        outputs: output name to value or path.
    """

    name: str
    status: str = "running"
    seconds: float = 0.0
    headline: str = ""
    peak_mb: float | None = None
    outputs: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class PipelineRun:
    """How a pipeline run went, task by task in the order in which they started."""

    tasks: dict[str, TaskRun]
    log: Path
    error: str | None = None

    def output(self, task: str, name: str) -> Any:
        """An output of a task (or of its merge, where shards did its work), or None: it was not made."""
        found = self.task(task)
        return found.outputs.get(name) if found else None

    def task(self, name: str) -> TaskRun | None:
        """How a task went; one that was done in shards as if it had been one. None: it did not start."""
        if name in self.tasks:
            return self.tasks[name]
        parts = [
            task
            for part in IN_SHARDS.get(name, ())
            for task in self.tasks.values()
            if re.fullmatch(rf"{part}(-\d+)?", task.name)
        ]
        if not parts:
            return None
        last = next((task for task in parts if task.status == "failed"), parts[-1])
        return TaskRun(
            name=name,
            status=last.status,
            seconds=sum(task.seconds for task in parts),
            headline=last.headline,
            peak_mb=max((task.peak_mb for task in parts if task.peak_mb is not None), default=None),
            outputs=last.outputs,
        )


Watcher = Callable[[TaskRun, dict[str, Any]], None]


def execute(
    request: RunRequest, environment: dict[str, str], log: Path, watch: Watcher
) -> PipelineRun:
    """Runs a pipeline to its end.

    The child leads a session of its own, so that Ctrl-C or a broken watcher ends the stages too; an
    endpoint that was deployed is in another session and stays.

    Args:
        request: what to run.
        environment: settings that the stages read.
        log: where everything that the stages print goes.
        watch: is called with the task and the event, for each event.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    request_file = log.with_suffix(".json")
    # A parameter may hold what only this person may read: a table's signed address.
    request_file.touch(mode=0o600)
    request_file.write_text(request_json(request), encoding="utf-8")
    temporary = make_run_temporary(Path(request.root).parent)
    run = PipelineRun(tasks={}, log=log)
    tail: deque[str] = deque(maxlen=LAST_LINES)
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            [sys.executable, "-m", local_run.__name__, str(request_file), str(os.getpid())],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=_environment(environment, temporary),
            start_new_session=True,
        ) as child,
    ):
        try:
            for line in child.stdout or ():
                shown = redact(line)
                file.write(shown)
                text = line.strip()
                if text.startswith(EVENT_PREFIX):
                    _apply(run, json.loads(text.removeprefix(EVENT_PREFIX)), watch)
                elif text and line.startswith("    "):
                    tail.append(shown.strip())  # a stage's own lines; kfp's are not indented
            child.wait()
        finally:
            if child.poll() is None:
                child.terminate()  # it ends its stages
                with suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=GRACE_SECONDS + 5)
            end_session(child.pid)
            shutil.rmtree(temporary, ignore_errors=True)
    if child.returncode and run.error is None:
        # Nobody said why: a process that was killed, or an error before the stage began.
        run.error = "It ended without a result. The last lines:\n" + "\n".join(tail)
    return run


def _environment(settings: dict[str, str], temporary: Path) -> dict[str, str]:
    """What the child and its stages see."""
    return {
        **os.environ,
        **settings,
        LASTING_TEMPORARY: lasting_temporary(),
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
        # No module of a stage is looked for in the person's own folder.
        "PYTHONSAFEPATH": "1",
    }


def _apply(run: PipelineRun, event: dict[str, Any], watch: Watcher) -> None:
    kind = event["event"]
    if kind == "task_start":
        task = run.tasks[event["task"]] = TaskRun(name=event["task"], status="cached")
    elif kind == "task_end":
        task = run.tasks[event["task"]]
        task.seconds = event["seconds"]
        task.outputs = event["outputs"]
        # A task that ended without a start of its stage was answered by the cache.
        if event["status"] == "failed":
            task.status = "failed"
        elif task.status == "running":
            task.status = "succeeded"
    else:
        task = next(reversed(run.tasks.values()), TaskRun(name="start"))
        if kind == "start":
            task.status = "running"
        elif kind == "end":
            task.headline = event["headline"]
            task.peak_mb = event["peak_mb"]
        elif kind == "error" and run.error is None:
            # An exit handler that fails too must not hide what it was called for.
            run.error = redact(event["message"])
    if kind == "task_end" and task.status == "failed" and run.error is None:
        run.error = (
            f"The stage {task.name} ended without a result: it was killed, or never started."
        )
    watch(task, event)


def cached_headline(task: TaskRun) -> str:
    """What a cached task had said came out, kept beside its first output."""
    for value in task.outputs.values():
        note = Path(str(value)).parent / HEADLINE
        if note.is_file():
            return note.read_text(encoding="utf-8")
    return ""


def keep_headline(task: TaskRun) -> None:
    """Keeps what came out beside the task's outputs, for a later run that finds them cached."""
    for value in task.outputs.values():
        folder = Path(str(value)).parent
        if isinstance(value, str) and folder.name == task.name and folder.is_dir():
            (folder / HEADLINE).write_text(task.headline, encoding="utf-8")
            return


HEADLINE = ".headline"


def require_success(run: PipelineRun) -> None:
    """Raises the run's error, with where to read more.

    Raises:
        SlipwayError: a task failed.
    """
    if run.error is not None:
        failed = [task.name for task in run.tasks.values() if task.status in ("failed", "running")]
        where = f"Stage {failed[0]} failed. " if failed else ""
        raise SlipwayError(f"{where}{run.error}\nThe whole log: {short_path(run.log)}")
