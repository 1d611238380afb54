"""A folder with tables of its own, in which the commands run as a person would type them."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.components.support.retry import wait_until
from support.small_job import SLIPWAY, answers

# Enough to learn from a few thousand rows, and no more.
SMALL = ("training.min_steps=300", "training.epochs=3", "training.network.tabm_heads=4")


def plain() -> dict[str, str]:
    """The environment without settings that would lead a run elsewhere."""
    ours = ("MLFLOW_", "FEAST_", "FEATURE_", "SLIPWAY_", "INFERENCE_", "MONITORING_", "AWS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@dataclass(frozen=True)
class Project:
    """A folder with tables, in which the commands run as a person would type them."""

    folder: Path
    port: int

    def slipway(self, *arguments: str) -> str:
        """Runs a command; gives what it printed."""
        done = subprocess.run(
            [str(SLIPWAY), *arguments], cwd=self.folder, capture_output=True, text=True, env=plain()
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *settings: str) -> str:
        """`slipway run`, with a small training."""
        return self.slipway("run", *self.settings(*settings))

    def settings(self, *more: str) -> list[str]:
        """The options of a small training, for commands that read the project file."""
        all_of_them = (*SMALL, f"deployment.port={self.port}", *more)
        return [part for text in all_of_them for part in ("--set", text)]

    @contextmanager
    def serving(self, *arguments: str, until: str) -> Iterator[None]:
        """A command that serves, from the moment that the address answers to the block's end."""
        process = subprocess.Popen([str(SLIPWAY), *arguments], cwd=self.folder, env=plain())
        try:
            assert wait_until(lambda: answers(until), timeout=60, every=0.2)
            yield
        finally:
            process.terminate()
            process.wait(20)

    def record(self) -> dict[str, Any]:
        """The newest monitoring record."""
        found = (self.folder / "build/run/pipelines").glob("*-monitoring-*/monitor/record")
        newest = max(found, key=lambda path: path.stat().st_mtime_ns)
        content: dict[str, Any] = json.loads(newest.read_text())
        return content

    def summary(self) -> dict[str, Any]:
        """What the last run wrote."""
        content: dict[str, Any] = json.loads((self.folder / "build/run/summary.json").read_text())
        return content
