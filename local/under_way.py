"""What a run is doing now, for who asks from elsewhere: `slipway status`."""

import json
import os
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from slipway.components.config.base import format_instant
from slipway.components.support import files
from slipway.components.support.pages.digits import moment
from slipway.local.runner.execution import TaskRun
from slipway.local.runner.progress import Progress
from slipway.local.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """A run at work; moments in UTC, ISO 8601.

    Attributes:
        project: whose it is. since: when it began. pid: of the command.
        stage: at work; empty: between two. stage_since: when that began.
    """

    project: str
    since: str
    pid: int
    stage: str = ""
    stage_since: str = ""

    @property
    def headline(self) -> str:
        """What `slipway status` says of it."""
        at_work = (
            f"{self.stage} since {moment(self.stage_since)}" if self.stage else "between stages"
        )
        return (
            f"{self.project}: a run is under way since {moment(self.since)} UTC, {at_work}"
            f" (pid {self.pid})"
        )


class NotedProgress:
    """Progress that is also noted in the workspace, stage by stage."""

    def __init__(self, shown: Progress, workspace: Workspace, project: str) -> None:
        self._shown, self._workspace = shown, workspace
        self._now = UnderWay(project=project, since=_now(), pid=os.getpid())

    def pipeline(self, name: str) -> AbstractContextManager[None]:
        """A pipeline runs while the block does."""
        self._write(self._now)
        return self._shown.pipeline(name)

    def started(self, task: TaskRun) -> None:
        """A task has started."""
        self._write(replace(self._now, stage=task.name, stage_since=_now()))
        self._shown.started(task)

    def progress(self, task: TaskRun, message: str, done: float | None) -> None:
        """A task says how far it is."""
        self._shown.progress(task, message, done)

    def ended(self, task: TaskRun) -> None:
        """A task has ended."""
        self._write(self._now)
        self._shown.ended(task)

    def note(self, text: str) -> None:
        """Something that a person should know, and that ends nothing."""
        self._shown.note(text)

    def _write(self, what: UnderWay) -> None:
        files.write_json(self._workspace.under_way, asdict(what))


def find_under_way(workspace: Workspace) -> UnderWay | None:
    """The run that works in a workspace now; None: none does."""
    if not workspace.is_busy():
        return None
    try:
        return UnderWay(**json.loads(workspace.under_way.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # it begins just now


def _now() -> str:
    return format_instant(datetime.now(UTC).replace(microsecond=0))
