"""The MLflow run: joined, kept through an outage, with system metrics; a double only of the server."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from slipway.components.contracts.splits import Splits
from slipway.components.support.errors import SlipwayError
from slipway.components.train.process.system import SystemMetricsSampler
from slipway.components.train.provenance import PLACE, run_tags
from slipway.components.train.tracking import Tracker
from slipway.components.train.train import TrainingTask, train_model

SMALL = {
    "network": {"width": 16, "architecture": "mlp"},
    "members": 1,
    "batch_size": 128,
    "model": "network",
    "min_steps": 1,
}

EMPTY: dict[str, Any] = {
    "key": "key", "entities": {}, "features": (), "rows": {}, "positives": {}, "windows": {},
    "statistics": {}, "feature_service": "toy",
}  # fmt: skip


class Server:
    """The few calls of MLflow's REST interface that a run needs; `broken` answers 503 to all."""

    def __init__(self) -> None:
        self.broken = False
        self.runs: list[dict[str, Any]] = []
        self.metrics: list[tuple[str, float, int]] = []
        self.params: dict[str, str] = {}
        self.status = ""
        self.refuses: dict[str, tuple[int, dict[str, Any]]] = {}

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.broken:
            return 503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "being moved"}
        for end, answer in self.refuses.items():
            if path.endswith(end):
                return answer
        if path.endswith("experiments/get-by-name"):
            stage = {"lifecycle_stage": "active"}
            return 200, {"experiment": {"experiment_id": "7", "name": "toy", **stage}}
        if path.endswith("runs/create"):
            self.runs.append(body)
            identity = f"run-{len(self.runs)}"
            info = {"run_id": identity, "run_uuid": identity, "experiment_id": "7"}
            return 200, {"run": {"info": info, "data": {}}}
        if path.endswith("runs/get"):
            info = {
                "run_id": "run-1",
                "run_uuid": "run-1",
                "experiment_id": "7",
                "status": "RUNNING",
            }
            return 200, {"run": {"info": info, "data": {}}}
        if path.endswith("runs/log-batch"):
            for param in body.get("params", []):
                if self.params.setdefault(param["key"], param["value"]) != param["value"]:
                    return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "has changed"}
            self.metrics += [(m["key"], m["value"], m["step"]) for m in body.get("metrics", [])]
            return 200, {}
        if path.endswith("runs/update"):
            self.status = body["status"]
            return 200, {"run_info": {"run_id": body["run_id"], "experiment_id": "7"}}
        return 404, {"error_code": "ENDPOINT_NOT_FOUND", "message": path}


@contextmanager
def serving(state: Server, port: int) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else {}
            code, content = state.answer(self.path.partition("?")[0], body)
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port, at which MLFLOW_TRACKING_URI says the server is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{number}")
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    return number


def wait_until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def test_a_server_that_is_away_for_a_while_gets_everything_in_order(
    port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens at first; then 503 in the middle; what was logged meanwhile is all there."""
    state = Server()
    tracker = Tracker("toy", tags={"mlflow.runName": "train-1"}, waits=(0.1,), give_up=150)
    tracker.parameters({"seed": 3})
    tracker.metrics({"auc": 0.5}, 1)
    assert tracker.wait_for_run(0.3) is None
    with serving(state, port):
        assert tracker.wait_for_run(150) == "run-1"
        wait_until(lambda: state.metrics)
        state.broken = True
        tracker.metrics({"auc": 0.6}, 2)
        tracker.metrics({"auc": 0.7}, 3)
        time.sleep(0.5)
        assert len(state.metrics) == 1
        state.broken = False
        tracker.finish()
    assert state.metrics == [("auc", 0.5, 1), ("auc", 0.6, 2), ("auc", 0.7, 3)]
    assert state.params == {"seed": "3"}
    assert state.status == "FINISHED"
    assert len(state.runs) == 1
    assert tracker.problem == ""
    assert "MLflow does not answer, training goes on" in capfd.readouterr().out


def test_what_the_server_refuses_does_not_hold_up_the_rest(
    port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    state = Server()
    state.params["seed"] = "1"
    with serving(state, port):
        tracker = Tracker("toy")
        tracker.parameters({"seed": 2})
        tracker.metrics({"auc": 0.5}, 1)
        tracker.finish()
    assert state.metrics == [("auc", 0.5, 1)]
    assert state.status == "FINISHED"
    assert "MLflow refused what was to be logged" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("end", "answer", "told"),
    [
        (
            "experiments/get-by-name",
            (
                200,
                {"experiment": {"experiment_id": "7", "name": "x", "lifecycle_stage": "deleted"}},
            ),
            r"was deleted, and MLflow keeps its name. Restore it with `MLFLOW_TRACKING_URI=http://",
        ),
        (
            "runs/create",
            (403, {"error_code": "PERMISSION_DENIED", "message": "no write access"}),
            r"refuses to open a run of the experiment 'toy': no write access. Check MLFLOW_TRACKING_",
        ),
        ("runs/create", (401, {"error_code": "401", "message": "who are you?"}), "who are you\\?"),
        (
            "runs/create",
            (
                400,
                {
                    "error_code": "INVALID_PARAMETER_VALUE",
                    "message": "must be in the 'active' state",
                },
            ),
            r"must be in the 'active' state",
        ),
        (
            "runs/create",
            (404, {"error_code": "ENDPOINT_NOT_FOUND", "message": "?"}),
            "the address of",
        ),
    ],
)
def test_a_refused_run_ends_the_training_at_once_and_says_what_to_do(
    port: int, end: str, answer: tuple[int, dict[str, Any]], told: str
) -> None:
    """A refusal is no absence: waiting does not mend it, and registering would fail all the same."""
    state = Server()
    state.refuses[end] = answer
    with serving(state, port):
        tracker = Tracker("toy")
        tracker.metrics({"auc": 0.5}, 1)
        started = time.monotonic()
        with pytest.raises(SlipwayError, match=told):
            tracker.wait_for_run(100)
        with pytest.raises(SlipwayError, match=told):
            tracker.metrics({"auc": 0.6}, 2)
        with pytest.raises(SlipwayError, match=told):
            tracker.finish()
        assert time.monotonic() - started < 60
        tracker.finish("FAILED")  # where the training has failed of this already
    assert state.runs == []


def test_a_server_that_stays_away_is_named(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = Tracker("toy", waits=(0.1,), give_up=0.3)
    tracker.finish()
    assert f"MLflow at http://127.0.0.1:{port} does not answer" in tracker.problem
    assert "The run is not whole in MLflow" in capfd.readouterr().out


@pytest.mark.parametrize("silent", [False, True], ids=["nobody listens", "nobody answers"])
def test_a_dead_server_costs_the_end_of_a_training_seconds(
    port: int, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bounds of production, from the last epoch to the end, where it was away all the time."""
    with socket.create_server(("127.0.0.1", port)) if silent else nullcontext():
        tracker = Tracker("toy")
        tracker.metrics({"auc": 0.5}, 1)
        time.sleep(2)
        started = time.monotonic()
        assert tracker.wait_for_run(120) is None
        tracker.finish()
    assert time.monotonic() - started < 30
    assert "does not answer" in tracker.problem


def test_the_run_that_the_backend_opened_is_joined(
    make_splits: Any, tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a KFP backend does it: a run is open, and its id stands in the environment."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking)
    experiment = client.create_experiment("pipelines", artifact_location=str(tmp_path / "files"))
    run = client.create_run(experiment, run_name="task").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    toy = client.get_experiment_by_name("toy")
    assert toy is not None
    before = len(client.search_runs([toy.experiment_id]))

    result = train_model(
        TrainingTask(
            splits=make_splits(rows=600),
            project="toy",
            config=SMALL,
            seed=0,
            epochs=2,
            learning_rate=5e-3,
            gpus=0,
            allow_cpu=False,
            bundle=tmp_path / "bundle",
            report=tmp_path / "report.html",
        )
    )

    assert result.run_id == run
    found = client.get_run(run)
    assert found.info.status == "RUNNING", "who opened it ends it"
    assert found.data.params["epochs"] == "2"
    assert found.data.params["data_hash"] == "data-600"
    assert found.data.params["version.git_commit"]
    assert len(client.get_metric_history(run, "member_1/auc")) == 2
    assert client.list_artifacts(run, "training")
    assert len(client.search_runs([experiment])) == 1
    assert len(client.search_runs([toy.experiment_id])) == before


def test_system_metrics_go_the_way_of_the_others() -> None:
    logged: list[tuple[dict[str, float], int]] = []
    with SystemMetricsSampler(lambda values, step: logged.append((values, step)), seconds=0.05):
        wait_until(lambda: len(logged) >= 2)
    count = len(logged)
    assert [step for _, step in logged] == list(range(count))
    assert 0 <= logged[1][0]["system/cpu_utilization_percentage"] <= 100
    assert logged[0][0]["system/system_memory_usage_megabytes"] > 50
    time.sleep(0.2)
    assert len(logged) == count, "it ends with the training"


def test_what_an_interrupted_training_left_open_is_ended(
    tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same folder on this machine only: others may be at work."""
    from mlflow import MlflowClient

    def tags(home: str) -> dict[str, str]:
        monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / home))
        return run_tags(Splits(project="left-open", data_hash="d" * 64, **EMPTY))

    def train(home: str) -> Tracker:
        tracker = Tracker("left-open", tags=tags(home))
        tracker.wait_for_run(30)
        return tracker

    interrupted, elsewhere = train("here"), train("elsewhere")
    again = train("here")
    client = MlflowClient(tracking_uri=tracking)

    def status(tracker: Tracker) -> str:
        return str(client.get_run(tracker.run_id or "").info.status)

    assert [status(run) for run in (interrupted, elsewhere, again)] == [
        "KILLED",
        "RUNNING",
        "RUNNING",
    ]
    again.finish()
    assert [status(run) for run in (elsewhere, again)] == ["RUNNING", "FINISHED"]
    # On a cluster there is no such folder, and nothing is ended.
    monkeypatch.delenv("SLIPWAY_HOME")
    assert PLACE not in run_tags(Splits(project="left-open", data_hash="d" * 64, **EMPTY))


def test_a_runs_description_says_what_is_learnt_and_from_how_much() -> None:
    rows = {"train": 1200, "validation": 300, "test": 200}
    known = replace(Splits(project="toy", data_hash="d" * 64, **EMPTY), rows=rows)
    said = (
        "A training of toy. Predicts whether a toy breaks. It learns from 1,200 rows and chooses by 300;"
        " 200 are kept for the gate, whose verdict is in the model card."
    )
    described = run_tags(replace(known, predicts="whether a toy breaks"))
    assert described["mlflow.note.content"] == said
    unnamed = run_tags(known)["mlflow.note.content"]
    assert unnamed.startswith("A training of toy. It learns from 1,200 rows")
