"""The progress events of a run on this machine; the console shows them."""

from contextlib import AbstractContextManager
from typing import Protocol

from slipway.local.runner.execution import TaskRun


class Progress(Protocol):
    """Follows a run, task by task."""

    def pipeline(self, name: str) -> AbstractContextManager[None]:
        """A pipeline runs while the block does."""

    def started(self, task: TaskRun) -> None:
        """A task has started."""

    def progress(self, task: TaskRun, message: str, done: float | None) -> None:
        """A task says how far it is; `done` is a share from 0 to 1, None where it cannot be known."""

    def ended(self, task: TaskRun) -> None:
        """A task has ended."""

    def note(self, text: str) -> None:
        """Something that a person should know, and that ends nothing."""
