"""What MLflow answers, told apart: absent, refused, no answer; from a real client over HTTP."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from support import gate_world as world
from support.http_answers import answering, closed_port, serve_answers, silent
from support.registry import mlflow_client

from slipway.components.evaluate.champion import fetch_champion
from slipway.components.support import tracking
from slipway.components.support.errors import SlipwayError
from slipway.components.support.tracking.errors import is_refusal

ABSENT, SILENT = "There is no champion", "does not answer"


def of_mlflow(code: str, message: str) -> bytes:
    return json.dumps({"error_code": code, "message": message}).encode()


CASES: dict[str, tuple[int, bytes, str]] = {
    # As MLflow's own store says it (`mlflow.store.model_registry.sqlalchemy_store`).
    "no such model": (
        404,
        of_mlflow("RESOURCE_DOES_NOT_EXIST", "Registered Model not found"),
        ABSENT,
    ),
    "no such alias": (
        400,
        of_mlflow("INVALID_PARAMETER_VALUE", "Registered model alias champion not found."),
        ABSENT,
    ),
    # Refusals that are no absence.
    "no rights": (
        403,
        of_mlflow("PERMISSION_DENIED", "Permission denied"),
        "refuses to name the cha",
    ),
    "no rights, of MLflow's basic-auth": (
        403,
        b"Permission denied",
        "refuses to name the champion",
    ),
    "no login, of MLflow's basic-auth": (
        401,
        b"You are not authenticated.",
        "MLFLOW_TRACKING_TOKEN",
    ),
    "a proxy's 404": (
        404,
        b"<html>nginx</html>",
        "Is MLFLOW_TRACKING_URI the address of an MLflow",
    ),
    "a proxy's 400": (400, b"bad alias request", "refuses to name the champion"),
    "a name that is not allowed": (
        400,
        of_mlflow("INVALID_PARAMETER_VALUE", "Invalid alias name: 'champion'"),
        "refuses to name the champion",
    ),
    "a status that MLflow does not know": (418, b"short and stout", "refuses to name the champion"),
    # No answer of a server that would answer otherwise later.
    "being moved": (503, of_mlflow("TEMPORARILY_UNAVAILABLE", "soon"), SILENT),
    "a proxy's 502": (502, b"<html>bad gateway</html>", SILENT),
    "an error inside": (500, of_mlflow("INTERNAL_ERROR", "database is locked"), SILENT),
}


@pytest.mark.parametrize("name", CASES)
def test_what_the_registry_answers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, body, told = CASES[name]
    with answering(status, body) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        registry = tracking.connect(patience=0)
        if told == ABSENT:
            assert fetch_champion("toy", tmp_path, patience=0) is None
            assert registry.find_version("toy", "champion") is None
            with pytest.raises(SlipwayError, match="The registry has no version 'champion' of toy"):
                registry.require_version("toy", "champion")
            return
        expected = tracking.NoAnswer if told == SILENT else tracking.Refused
        with pytest.raises(expected, match=told):
            fetch_champion("toy", tmp_path, patience=0)
        with pytest.raises(expected) as error:
            registry.require_version("toy", "champion")
        assert "has no version" not in str(error.value)


def a_page(folder: Path) -> Path:
    page = folder / "page"
    page.write_text("<!doctype html>")
    return page


CALLS: dict[str, Callable[[tracking.MlflowServer, Path], object]] = {
    "list_versions": lambda server, _: server.list_versions("toy"),
    "find_version": lambda server, _: server.find_version("toy", "7"),
    "create_version": lambda server, _: server.create_version(
        "toy", source=tracking.LoggedModel(model_id="m-1", uri="models:/m-1"), run_id="r", tags={}
    ),
    "describe_model": lambda server, _: server.describe_model("toy", "What it is for."),
    "delete_version": lambda server, _: server.delete_version(
        tracking.RegisteredVersion(name="toy", version="1", run_id="", tags={}, aliases=())
    ),
    "tag_version": lambda server, _: server.tag_version("toy", "1", {"a": "b"}),
    "point_alias": lambda server, _: server.point_alias("toy", "champion", "1"),
    "find_experiment": lambda server, _: server.find_experiment("toy"),
    "open_experiment": lambda server, _: server.open_experiment("toy"),
    "has_run": lambda server, _: server.has_run("r"),
    "find_run": lambda server, _: server.find_run("toy", "tag", "value"),
    "open_run": lambda server, _: server.open_run("toy", experiment_id="7"),
    "open_child": lambda server, _: server.open_child("r", name="trial"),
    "end_run": lambda server, _: server.end_run("r"),
    "describe_run": lambda server, _: server.describe_run("r", "What it predicts."),
    "end_open_runs": lambda server, _: server.end_open_runs("toy", "tag", "value"),
    "list_ended_runs": lambda server, _: server.list_ended_runs(
        "toy", before=datetime(2026, 1, 1, tzinfo=UTC)
    ),
    "delete_run": lambda server, _: server.delete_run("r"),
    "delete_files": lambda server, _: server.delete_files("runs:/r/x"),
    "log_parameters": lambda server, _: server.log_parameters("r", {"seed": 1}),
    "log_metrics": lambda server, _: server.log_metrics("r", {"auc": 0.5}, stamp_ms=1),
    "log_datasets": lambda server, _: server.log_datasets(
        "r",
        [tracking.LoggedDataset(name="toy", context="training", data_hash="a" * 64, rows=2)],
    ),
    "log_files": lambda server, folder: server.log_files("r", [folder], "place"),
    "log_page": lambda server, folder: server.log_page("r", a_page(folder), "x/report.html"),
    "list_folders": lambda server, _: server.list_folders("r", "x"),
    "fetch": lambda server, folder: server.fetch("runs:/r/x", folder / "x", what="The bundle"),
    "resolve": lambda server, _: server.resolve("runs:/r/x"),
}


def test_every_call_is_asked_here() -> None:
    methods = {name for name in vars(tracking.MlflowServer) if not name.startswith("_")}
    assert methods - CALLS.keys() == {"require_version"}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda: answering(403, b"Permission denied"), tracking.Refused),
        (lambda: answering(502, b"<html>bad gateway</html>"), tracking.NoAnswer),
        (closed_port, tracking.NoAnswer),
    ],
    ids=["no rights", "a proxy's 502", "nobody listens"],
)
def test_whatever_is_asked_the_error_is_ours_and_shows_no_secret(
    name: str, answer: Callable[[], Any], expected: type[SlipwayError], tmp_path: Path
) -> None:
    """No answer and a refusal are told apart, by every call, with user and password in the address."""
    with answer() as url:
        address = url.replace("http://", "http://ada:Gr4phite!@")
        server = tracking.connect(address, patience=0)
        (tmp_path / "file").write_text("content")
        refusal = SlipwayError if name == "fetch" and expected is tracking.Refused else expected
        with pytest.raises(refusal) as error:
            CALLS[name](server, tmp_path)
    text = str(error.value)
    assert f"MLflow at {url}" in text or "cannot be fetched from runs:/r/x" in text
    for secret in ("Gr4phite", "ada", "HTTPConnectionPool", "urllib3", "Traceback"):
        assert secret not in text
    assert ("does not answer" in text) == (expected is tracking.NoAnswer)


@pytest.mark.parametrize("answer", [closed_port, silent], ids=["nobody listens", "nobody answers"])
def test_a_dead_server_costs_seconds(answer: Callable[[], Any]) -> None:
    """With the bounds of production."""
    with answer() as url:
        started = time.monotonic()
        with pytest.raises(tracking.NoAnswer, match="does not answer"):
            tracking.connect(url).list_versions("toy")
        assert time.monotonic() - started < 30


def test_a_server_that_says_in_an_hour_is_not_obeyed() -> None:
    with answering(503, b"being moved", Retry_After="3600") as url:
        started = time.monotonic()
        with pytest.raises(tracking.NoAnswer, match="it answered HTTP 503"):
            tracking.connect(url, patience=2).list_versions("toy")
        assert time.monotonic() - started < 20


def test_a_server_that_comes_back_in_time_is_asked_again() -> None:
    """What may be asked twice is; a run that could have been opened is not opened a second time."""
    asked: list[str] = []

    def answer(path: str, query: dict[str, str]) -> tuple[int, Any]:
        asked.append(path)
        if len(asked) < 3:
            return 503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "soon"}
        return 200, {"model_versions": []}

    with serve_answers(answer) as url:
        assert tracking.connect(url).list_versions("toy") == ()
        assert len(asked) == 3
    with answering(503, b"soon") as url, pytest.raises(tracking.NoAnswer):
        started = time.monotonic()
        tracking.connect(url).open_run("toy", experiment_id="7")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("code", "refused"),
    [("INVALID_STATE", True), ("RESOURCE_ALREADY_EXISTS", True), ("RESOURCE_EXHAUSTED", False)],
)
def test_codes(code: str, refused: bool) -> None:
    from mlflow.protos.databricks_pb2 import ErrorCode

    error = MlflowException("x", error_code=ErrorCode.Value(code))
    assert is_refusal(error) is refused
    assert not is_refusal(ValueError("x"))


def test_a_deleted_experiment_is_restored_by_the_command_that_the_error_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On real sqlite, in a folder whose name needs quotes."""
    folder = tmp_path / "my runs"
    folder.mkdir()
    world.new_registry(folder, monkeypatch)
    server = tracking.connect()
    identity = server.open_experiment("shop")
    assert server.open_experiment("shop") == identity
    mlflow_client().delete_experiment(identity)
    with pytest.raises(SlipwayError, match="The MLflow experiment 'shop' was deleted") as error:
        server.open_experiment("shop")
    command = str(error.value).split("`")[1]
    assignment, program, *arguments = shlex.split(command)
    name, _, uri = assignment.partition("=")
    assert (name, program) == ("MLFLOW_TRACKING_URI", "mlflow")
    monkeypatch.setenv(name, uri)
    subprocess.run([sys.executable, "-m", "mlflow", *arguments], check=True, timeout=120)
    assert server.open_experiment("shop") == identity


def test_the_series_of_monitoring_says_that_its_experiment_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slipway.components.monitor.tracking import log_series

    world.new_registry(tmp_path, monkeypatch)
    log_series("shop", "2024-01-02T00:00:00Z", {"accuracy": 0.9})
    mlflow_client().delete_experiment(tracking.connect().open_experiment("shop-monitoring"))
    with pytest.raises(SlipwayError, match="'shop-monitoring' was deleted"):
        log_series("shop", "2024-01-03T00:00:00Z", {"accuracy": 0.9})


def test_data_that_another_task_notes_at_the_same_moment_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow inserts what it did not find; the table's key refuses the second of two tasks."""
    world.new_registry(tmp_path, monkeypatch)
    server = tracking.connect()
    run_id = server.open_run("toy")
    data = [tracking.LoggedDataset(name="toy", context="training", data_hash="a" * 64, rows=2)]
    real, calls = server._client.log_inputs, []

    def taken_once(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets")
        real(*arguments, **options)

    monkeypatch.setattr(server._client, "log_inputs", taken_once)
    server.log_datasets(run_id, data)
    (noted,) = mlflow_client().get_run(run_id).inputs.dataset_inputs
    assert (len(calls), noted.dataset.name) == (2, "toy")


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "mysql+pymysql", "mssql"])
def test_a_database_without_its_driver_is_said(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on each image: the driver is not there, and no traceback names it."""
    for module in ("psycopg", "psycopg2", "pymysql", "pyodbc"):
        monkeypatch.setitem(sys.modules, module, None)
    address = f"{scheme}://slipway:cAnary%2F9@db.example/mlflow?application_name=a@b"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(SlipwayError) as raised:
        tracking.connect(address, patience=1).list_versions("shop")
    told = str(raised.value)
    assert f"names a database ({scheme}), and what opens it is not installed here" in told
    assert "Give the address of an MLflow server" in told
    assert "cAnary" not in told


def test_a_database_that_cannot_be_opened_is_said_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow by itself tries for 101 s."""
    waited: list[float] = []
    monkeypatch.setattr("mlflow.store.db.utils.time.sleep", waited.append)
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(SlipwayError, match=r"open its database.*unable to open database file"):
        tracking.connect(f"sqlite:///{tmp_path / 'mlflow.db'}", patience=0).list_versions("shop")
    assert 0 < sum(waited) < 4
    assert 5 * int(os.environ["PGCONNECT_TIMEOUT"]) < 30
