"""What `slipway status` says while a run is at work, and that it stands in no run's way."""

import json
import os
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.commands.cli import app
from slipway.local.runner.execution import TaskRun
from slipway.local.under_way import NotedProgress, find_under_way
from slipway.local.workspace import Workspace


class Shown:
    """Progress for a person, kept."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pipeline(self, name: str) -> AbstractContextManager[None]:
        self.told.append(name)
        return nullcontext()

    def started(self, task: TaskRun) -> None:
        self.told.append(f"started {task.name}")

    def progress(self, task: TaskRun, message: str, done: float | None) -> None:
        self.told.append(f"{task.name}: {message}")

    def ended(self, task: TaskRun) -> None:
        self.told.append(f"ended {task.name}")

    def note(self, text: str) -> None:
        self.told.append(text)


def told(folder: Path) -> tuple[str, dict[str, object] | None]:
    """What the command says to a person, and its JSON's `run`."""
    shown = CliRunner().invoke(app, ["status", "--out", str(folder)])
    said = CliRunner().invoke(app, ["status", "--json", "--out", str(folder)])
    assert shown.exit_code == said.exit_code == 0, shown.output + said.output
    return " ".join(shown.output.split()), json.loads(said.stdout)["run"]


@pytest.fixture(autouse=True)
def own_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MONITORING_URI", "SLIPWAY_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_status_names_the_run_at_work_its_stage_and_since_when(tmp_path: Path) -> None:
    workspace, shown = Workspace.at(tmp_path / "run"), Shown()
    assert told(workspace.root)[1] is None
    task = TaskRun(name="train", status="running")
    with workspace.locked():
        display = NotedProgress(shown, workspace, "shop")
        assert told(workspace.root)[1] is None, "it begins just now"
        with display.pipeline("training"):
            text, run = told(workspace.root)
            assert text.startswith("shop: a run is under way since ") and "between stages" in text
            assert run is not None and (run["stage"], run["pid"]) == ("", os.getpid())
            display.started(task)
            display.progress(task, "epoch 3", 0.5)
            text, run = told(workspace.root)
            assert f"UTC, train since {text.split('train since ')[1]}" in text
            assert (
                run is not None and run["stage"] == "train" and run["stage_since"] >= run["since"]
            )
            display.ended(task)
        display.note("so")
        run = told(workspace.root)[1]
        assert run is not None and run["stage"] == ""
    assert shown.told == ["training", "started train", "train: epoch 3", "ended train", "so"]
    text, run = told(workspace.root)
    assert run is None and "under way" not in text, "the note of a run that ended says nothing"


def test_who_looks_never_keeps_a_run_from_beginning(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path / "run")
    with workspace.locked():
        pass
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            find_under_way(workspace)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(200):
            with workspace.locked():
                pass
    finally:
        done.set()
        looking.join()
