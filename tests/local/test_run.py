"""What `slipway run` refuses before it begins, and what it shows of a run that broke."""

import fcntl
import io
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from support.model_keys import make_keys

from slipway.commands.console.runs import show_result, show_retraining
from slipway.components.config.project import LoadedProject
from slipway.components.contracts.endpoint import LOCK, STATE, endpoint_folder
from slipway.components.contracts.release import Deployment, Release
from slipway.components.contracts.verdict import Outcome, RuleResult, Verdict, write_verdict
from slipway.components.features.parts import end_of_data
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.components.support.files import write_json
from slipway.local import job as module
from slipway.local.run import RunError, check_request, run_project
from slipway.local.runner.execution import PipelineRun, TaskRun
from slipway.local.workspace import Workspace

DAY = timedelta(days=1)


def changed(loaded: LoadedProject, section: str, **changes: Any) -> LoadedProject:
    part = getattr(loaded.project, section).model_copy(update=changes)
    return loaded.model_copy(update={"project": loaded.project.model_copy(update={section: part})})


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("MLFLOW_TRACKING_URI", "SLIPWAY_HOME", "MONITORING_URI", "INFERENCE_LOG_URI"):
        monkeypatch.delenv(name, raising=False)
    return Workspace.at(tmp_path / "run")


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def ask(loaded: LoadedProject, workspace: Workspace, **given: Any) -> timedelta:
    usual = {"runner": "subprocess", "target": "local", "traffic": None}
    return check_request(loaded, workspace, **{**usual, **given})


def test_traffic_is_a_week_or_what_there_is_of_it(
    flights: LoadedProject, workspace: Workspace, port: int
) -> None:
    here = changed(flights, "deployment", port=port)
    assert ask(here, workspace) == 7 * DAY
    split = flights.project.features.split.model_copy(update={"test": 3 * DAY})
    short = changed(here, "features", split=split)
    assert ask(short, workspace) == 3 * DAY
    assert ask(short, workspace, traffic=2 * DAY) == 2 * DAY
    assert ask(short, workspace, traffic=timedelta(0)) == timedelta(0)
    with pytest.raises(
        ProjectError, match=r"--traffic 4d is longer than the test part, which is 3d"
    ):
        ask(short, workspace, traffic=4 * DAY)


def test_a_port_that_is_taken_is_named_before_anything_runs(
    flights: LoadedProject, workspace: Workspace
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        port = foreign.getsockname()[1]
        here = changed(flights, "deployment", port=port)
        with pytest.raises(SlipwayError, match=f"Port {port} on 127.0.0.1 cannot be used"):
            ask(here, workspace)
        # Containers and clusters have ports of their own.
        ask(here, workspace, runner="docker")
        with pytest.raises(ProjectError, match=r"Set deployment.storage to an object-store prefix"):
            ask(here, workspace, target="kserve")
        stored = changed(here, "deployment", storage="s3://bucket/models")
        assert ask(stored, workspace, target="kserve") == timedelta(0)
    assert ask(here, workspace) == 7 * DAY, "the port is free again, and nobody holds it"
    assert not workspace.summary.exists()


@pytest.mark.parametrize(
    ("hours", "end", "expected"),
    [
        ([0, 1, 2, 3], 100, 4),  # nothing after hour 3 of 100
        ([0, 1, 2, 99], 100, None),
        ([0, 50, 51, 52], 100, None),  # as long a pause as there was before
        ([0, 49, 50, 51], 101, 52),
        ([0], 100, 1),
        ([0, 1, 99.5], 100, None),
        ([i / 10 for i in range(982)], 99, None),  # no more than a hundredth of the window
        # Data of whole days, in a window of whole days: the last one ends before its midnight.
        ([i / 2 for i in range(20 * 48 - 46)], 20 * 24, None),
        ([i / 2 for i in range(20 * 48 - 50)], 20 * 24, 20 * 24 - 25.5),
        # In days, and not to a midnight: nothing is said of the hours before.
        ([i / 2 for i in range(20 * 48 - 46)], 20 * 24 - 1, 20 * 24 - 23.5),
    ],
)
def test_where_the_data_end(hours: list[float], end: int, expected: float | None) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = pl.Series([start + timedelta(hours=hour) for hour in hours])
    found = end_of_data(times, (start, start + timedelta(hours=end)))
    last = start + timedelta(hours=hours[-1], seconds=1)
    assert found == (last if expected is not None else None)


def verdict_in(folder: Path, outcome: Outcome = "pass") -> str:
    folder.mkdir(parents=True)
    rule = RuleResult(name="auc", metric="auc", outcome=outcome, reason="AUC.", value=0.8)
    write_verdict(
        folder / "verdict",
        Verdict(
            outcome=outcome, rules=(rule,), metrics={"auc": 0.8}, thresholds={"auc": 0.7},
            model_hash="a" * 64, data_hash="b" * 64, test_rows=1000,
            notes={"advice": ["gate.f1 is 0.3, which always answering 1 reaches too."]},
        ),
    )  # fmt: skip
    return str(folder / "verdict")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The training pipeline's deploy fails after a verdict, a second before it would have served."""

    def execute(request: Any, settings: Any, log: Path, watch: Any) -> PipelineRun:
        verdict = verdict_in(tmp_path / "evaluate")
        tasks = {
            "evaluate": TaskRun(name="evaluate", status="succeeded", outputs={"verdict": verdict}),
            "deploy": TaskRun(name="deploy", status="failed"),
        }
        return PipelineRun(tasks=tasks, log=log, error="The new predictor did not become ready.")

    monkeypatch.setattr(module, "execute", execute)


class Quiet:
    """Follows nothing."""

    def __getattr__(self, name: str) -> Any:
        from contextlib import nullcontext

        return lambda *args: nullcontext()


def test_stages_get_the_keys_themselves_and_a_wrong_one_is_named_before_they_start(
    flights: LoadedProject,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A stage in a container does not see the file that the setting names."""
    given: list[dict[str, str]] = []
    monkeypatch.setattr(module, "execute", lambda request, *_: given.append(request.environment))
    monkeypatch.delenv("MODEL_PRIVATE_KEY", raising=False)
    monkeypatch.delenv("MODEL_PUBLIC_KEYS", raising=False)
    job = module.Job(flights, workspace, Quiet(), runner="docker")
    job.attempt("training", {})
    keys = make_keys()
    (tmp_path / "model.key").write_text(keys.private)
    monkeypatch.setenv("MODEL_PRIVATE_KEY", str(tmp_path / "model.key"))
    monkeypatch.setenv("MODEL_PUBLIC_KEYS", keys.public)
    job.attempt("training", {})
    assert not {"MODEL_PRIVATE_KEY", "MODEL_PUBLIC_KEYS"} & given[0].keys()
    assert given[1]["MODEL_PRIVATE_KEY"] == keys.private
    assert given[1]["MODEL_PUBLIC_KEYS"] == keys.public
    monkeypatch.setenv("MODEL_PRIVATE_KEY", str(tmp_path / "none.key"))
    with pytest.raises(SlipwayError, match="MODEL_PRIVATE_KEY is neither PEM text nor a file"):
        job.attempt("training", {})
    assert len(given) == 2


def test_a_run_that_breaks_after_the_verdict_still_says_what_it_was(
    flights: LoadedProject, workspace: Workspace, port: int, broken: None
) -> None:
    with pytest.raises(RunError) as error:
        run_project(changed(flights, "deployment", port=port), workspace, Quiet())
    assert "Stage deploy failed. The new predictor did not become ready." in str(error.value)
    assert error.value.result.passed and error.value.result.deployment is None
    summary = json.loads(workspace.summary.read_text())
    assert (summary["verdict"], summary["metrics"]["auc"]) == ("pass", 0.8)
    assert summary["error"] == str(error.value) and summary["endpoint"] is None
    statuses = {stage["name"]: stage["status"] for stage in summary["stages"]}
    assert statuses["deploy"] == "failed" and statuses["monitor"] == "skipped"


def test_the_screen_shows_the_verdict_of_a_run_that_broke(
    workspace: Workspace, port: int, broken: None
) -> None:
    from typer.testing import CliRunner

    from slipway.commands.cli import app

    done = CliRunner().invoke(
        app, ["run", "--out", str(workspace.root), "--set", f"deployment.port={port}"]
    )
    assert isinstance(done.exception, RunError)
    text = " ".join(done.output.split())
    assert "Verdict: PASS" in text and "note: gate.f1 is 0.3, which always answering 1" in text
    assert "Endpoint:" not in text


def deployed(folder: Path, version: str) -> PipelineRun:
    """A training pipeline that ended with a deployment."""
    release = Release(
        name="flights", model_version=version, alias="challenger", run_id="r", bundle_uri="b",
        model_hash="a" * 64, reference_uri="c",
    )  # fmt: skip
    deployment = Deployment(
        name="flights", endpoint="http://127.0.0.1:1", target="local", model_version=version,
        model_hash="a" * 64, inference_log="log",
    )  # fmt: skip
    release.write(folder / "release")
    deployment.write(folder / "deployment")
    outputs = {
        "evaluate": {"verdict": verdict_in(folder / "evaluate")},
        "register": {"release": str(folder / "release")},
        "deploy": {"deployment": str(folder / "deployment")},
    }
    tasks = {n: TaskRun(name=n, status="succeeded", outputs=o) for n, o in outputs.items()}
    return PipelineRun(tasks=tasks, log=folder / "log")


@contextmanager
def endpoint(workspace: Workspace, serves: str | None) -> Iterator[None]:
    """The project's endpoint serves a version, or none ever did."""
    folder = endpoint_folder(workspace.home, "flights")
    folder.mkdir(parents=True)
    with (folder / LOCK).open("wb") as lock:
        if serves:
            fcntl.flock(lock, fcntl.LOCK_EX)
            stable = {"model_version": serves, "pid": 1, "restarts": 0, "bundle": "b"}
            write_json(folder / STATE, {"host": "127.0.0.1", "port": 1, "stable": stable})
        yield


@pytest.mark.parametrize(
    ("serves", "told"),
    [("1", "version 1 serves on at http://127.0.0.1:1."), (None, "nothing serves.")],
)
def test_a_refused_run_says_what_serves_and_where_nothing_does(
    flights: LoadedProject,
    workspace: Workspace,
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    serves: str | None,
    told: str,
) -> None:
    verdict = verdict_in(tmp_path / "evaluate", "fail")
    task = TaskRun(name="evaluate", status="refused", outputs={"verdict": verdict})
    run = PipelineRun(tasks={"evaluate": task}, log=tmp_path / "log")
    monkeypatch.setattr(module, "execute", lambda *_: run)
    with endpoint(workspace, serves):
        result = run_project(changed(flights, "deployment", port=port), workspace, Quiet())
    assert json.loads(workspace.summary.read_text())["serving"] == (serves or "")
    assert result.notes == []
    assert f"1 of 1 rule failed; {told}" in Path(result.reports["run"]).read_text()
    screen = Console(file=io.StringIO(), width=200)
    show_result(screen, result, workspace)
    assert f"Nothing was registered and nothing deployed; {told}" in screen.file.getvalue()
    screen = Console(file=io.StringIO(), width=200)
    show_retraining(screen, result)
    assert f"Retrained, and refused by the gate; {told}" in screen.file.getvalue()


@pytest.mark.parametrize(
    ("serves", "alias", "told"),
    [
        ("3", "champion", ""),
        ("1", "challenger", "version 3 was deployed, and version 1 serves now"),
        (None, "challenger", "version 3 was deployed, and nothing serves now"),
    ],
)
def test_a_run_says_what_serves_at_its_end(
    flights: LoadedProject,
    workspace: Workspace,
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    serves: str | None,
    alias: str,
    told: str,
) -> None:
    """Somebody rolls back, or stops the endpoint, while the run is at work."""
    with endpoint(workspace, serves):
        monkeypatch.setattr(module, "execute", lambda *_: deployed(tmp_path / "tasks", "3"))
        here = changed(flights, "deployment", port=port)
        result = run_project(here, workspace, Quiet(), traffic=timedelta(0))
    summary = json.loads(workspace.summary.read_text())
    assert summary["serving"] == (serves or "")
    assert summary["model"] == {"name": "flights", "version": "3", "alias": alias}
    assert (told in " ".join(summary["notes"])) and bool(summary["notes"]) == bool(told)
    screen = Console(file=io.StringIO(), width=200)
    show_result(screen, result, workspace)
    shown = screen.file.getvalue()
    assert ("where version 1 serves now" in shown) == (serves == "1")
    assert ("stopped by now" in shown) == (serves is None)
