"""What MLflow answers, told apart: absent, refused, no answer; from a real client over HTTP."""

import json
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from support import gate_world as world

from slipway.components.evaluate.champion import fetch_champion
from slipway.components.support import tracking
from slipway.components.support.errors import SlipwayError

ABSENT = "There is no champion"


@contextmanager
def server(status: int, body: bytes, kind: str = "application/json") -> Iterator[str]:
    """Answers everything alike, as a proxy or an MLflow that has nothing else to say."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()


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
    "being moved": (503, of_mlflow("TEMPORARILY_UNAVAILABLE", "soon"), "does not answer"),
    "a proxy's 502": (502, b"<html>bad gateway</html>", "does not answer"),
    "an error inside": (500, of_mlflow("INTERNAL_ERROR", "database is locked"), "does not answer"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_the_registry_answers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, body, told = CASES[name]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with server(status, body) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        if told == ABSENT:
            assert fetch_champion("toy", tmp_path) is None
            with pytest.raises(SlipwayError, match="The registry has no version 'champion' of toy"):
                tracking.find_version(tracking.connect(), "toy", "champion")
            return
        with pytest.raises(SlipwayError, match=told):
            fetch_champion("toy", tmp_path)
        with pytest.raises(SlipwayError) as error:
            tracking.find_version(tracking.connect(), "toy", "champion")
        assert "has no version" not in str(error.value)


def test_nobody_listening_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:secret@127.0.0.1:{port}")
    with pytest.raises(SlipwayError) as error:
        fetch_champion("toy", tmp_path)
    text = str(error.value)
    assert text.startswith(f"MLflow at http://127.0.0.1:{port} does not answer")


@pytest.mark.parametrize(
    ("code", "refused"),
    [("INVALID_STATE", True), ("RESOURCE_ALREADY_EXISTS", True), ("RESOURCE_EXHAUSTED", False)],
)
def test_codes(code: str, refused: bool) -> None:
    from mlflow.protos.databricks_pb2 import ErrorCode

    error = MlflowException("x", error_code=ErrorCode.Value(code))
    assert tracking.is_refusal(error) is refused
    assert not tracking.is_refusal(ValueError("x"))


def test_a_deleted_experiment_is_restored_by_the_command_that_the_error_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On real sqlite, in a folder whose name needs quotes."""
    folder = tmp_path / "my runs"
    folder.mkdir()
    world.new_registry(folder, monkeypatch)
    client = tracking.connect()
    identity = tracking.open_experiment(client, "shop")
    assert tracking.open_experiment(client, "shop") == identity
    client.delete_experiment(identity)
    with pytest.raises(SlipwayError, match="The MLflow experiment 'shop' was deleted") as error:
        tracking.open_experiment(client, "shop")
    command = str(error.value).split("`")[1]
    assignment, program, *arguments = shlex.split(command)
    name, _, uri = assignment.partition("=")
    assert (name, program) == ("MLFLOW_TRACKING_URI", "mlflow")
    monkeypatch.setenv(name, uri)
    subprocess.run([sys.executable, "-m", "mlflow", *arguments], check=True, timeout=120)
    assert tracking.open_experiment(client, "shop") == identity


def test_the_series_of_monitoring_says_that_its_experiment_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slipway.components.monitor.tracking import log_series

    world.new_registry(tmp_path, monkeypatch)
    client = tracking.connect()
    log_series("shop", "2024-01-02T00:00:00Z", {"accuracy": 0.9})
    client.delete_experiment(tracking.open_experiment(client, "shop-monitoring"))
    with pytest.raises(SlipwayError, match="'shop-monitoring' was deleted"):
        log_series("shop", "2024-01-03T00:00:00Z", {"accuracy": 0.9})
