"""The way from a decision to a training run, over real HTTP to a double of Kubeflow's API."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.local_runs import request_in

from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.config.project import load_project
from slipway.components.contracts.monitoring.monitoring_record import RetrainRequest
from slipway.components.monitor.retraining import launcher
from slipway.components.monitor.retraining.retrain import (
    arguments_for,
    mark,
    request_training,
    requests,
)
from slipway.components.support.errors import SlipwayError
from slipway.pipelines.compiler import compile_project
from slipway.pipelines.package import read_package

DATA_START = "2013-01-01T05:00:00Z"
DECEMBER = ("2013-12-01T05:00:00Z", "2013-12-08T05:00:00Z")


@dataclass
class World:
    """A server with the uploaded pipelines, and a request in the state folder."""

    server: Any
    root: Path

    def ask(self, window: tuple[str, str] = DECEMBER, **settings: Any) -> RetrainRequest:
        config = MonitoringConfig.model_validate({"retrain": True, "retraining": settings})
        decision = request_training(self.root, "flights", "1", window, ("LOW_ACCURACY",), config)
        assert decision.request is not None, decision.why
        return decision.request

    def launch(self, request: RetrainRequest, **settings: Any) -> launcher.Launch:
        config = MonitoringConfig.model_validate({"retraining": settings})
        return launcher.launch(
            root=self.root,
            model="flights",
            key=request.key,
            runs=launcher.KubeflowRuns("flights", self.server.url),
            arguments=arguments_for(request, DATA_START, config),
        )

    def runs(self) -> list[dict[str, Any]]:
        return list(self.server.runs.values())

    def status(self) -> list[tuple[str, str]]:
        return [(r.status, r.run) for r in requests(self.root, "flights")]


@pytest.fixture
def world(
    kubeflow_server: Any, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> World:
    from slipway.cluster.api import Kubeflow
    from slipway.cluster.connection import Connection
    from slipway.cluster.upload import upload

    kubeflow = Kubeflow(Connection.of(host=kubeflow_server.url), backoff=0.01)
    for name in ("training", "retraining"):
        upload(kubeflow, read_package(compiled / f"flights-{name}.yaml"))
    token = tmp_path / "token"
    token.write_text("from-the-pod")
    kubeflow_server.token = "from-the-pod"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    return World(kubeflow_server, tmp_path / "state")


def test_a_request_starts_one_run_with_a_new_window_and_the_pods_token(world: World) -> None:
    request = world.ask()
    launched = world.launch(request)
    (run,) = world.runs()
    assert run["display_name"] == f"flights-retraining-{request.key}"
    assert run["runtime_config"]["parameters"] == {
        "window_start": "2013-01-01T05:00:00Z",
        "window_end": DECEMBER[1],
    }
    names = {p["pipeline_id"]: p["name"] for p in world.server.pipelines.values()}
    assert names[run["pipeline_version_reference"]["pipeline_id"]] == "flights-retraining"
    assert launched.run == run["run_id"]
    assert world.status() == [("started", run["run_id"])]


def test_a_retried_task_finds_the_run_that_it_started(world: World) -> None:
    request = world.ask()
    first = world.launch(request)
    assert world.launch(request).run == first.run
    # Also where the first try ended before it noted the run.
    mark(world.root, request, "requested")  # type: ignore[arg-type]
    assert world.launch(request).run == first.run
    assert len(world.runs()) == 1
    assert world.status() == [("started", first.run)]


def test_nothing_starts_while_a_training_runs_whoever_started_it(world: World) -> None:
    from slipway.cluster.api import Kubeflow
    from slipway.cluster.connection import Connection
    from slipway.cluster.runs import submit
    from slipway.cluster.upload import upload

    world.server.token = ""
    kubeflow = Kubeflow(Connection.of(host=world.server.url), backoff=0.01)
    package = read_package(Path("compiled/flights-training.yaml").resolve())
    uploaded = upload(kubeflow, package)
    submit(kubeflow, package, uploaded, experiment="flights", arguments={})
    request = world.ask()
    held = world.launch(request)
    assert held.run == "" and "is still pending" in held.why
    assert len(world.runs()) == 1
    assert world.status() == [("requested", "")]
    world.runs()[0]["state"] = "SUCCEEDED"
    assert world.launch(request).run
    assert len(world.runs()) == 2


def test_a_monitoring_run_does_not_hold_it_up(world: World, compiled: Path) -> None:
    from slipway.cluster.api import Kubeflow
    from slipway.cluster.connection import Connection
    from slipway.cluster.runs import submit
    from slipway.cluster.upload import upload

    world.server.token = ""
    kubeflow = Kubeflow(Connection.of(host=world.server.url), backoff=0.01)
    package = read_package(compiled / "flights-monitoring.yaml")
    submit(kubeflow, package, upload(kubeflow, package), experiment="flights", arguments={})
    assert world.launch(world.ask()).run


def test_of_two_that_start_at_once_one_stays(world: World) -> None:
    request = world.ask()
    other: list[str] = []

    def another(line: str) -> None:
        # Between the look and the start of ours, somebody else's run of the same request begins.
        if line == "POST /apis/v2beta1/runs" and not other:
            other.append("started")
            world.launch(request)

    world.server.on_request = another
    mine = world.launch(request)
    active = [run for run in world.runs() if run["state"] == "PENDING"]
    assert [run["run_id"] for run in active] == [mine.run]
    assert [run["state"] for run in world.runs()] == ["PENDING", "CANCELING"]
    assert world.status() == [("started", mine.run)]


def _launcher_rights() -> set[tuple[str, str]]:
    from slipway.stack.rights import TASK_RIGHTS

    group = "pipelines.kubeflow.org"
    return {
        (kind, verb)
        for right in TASK_RIGHTS
        if right.group == group
        for kind in right.resources
        for verb in right.verbs
    }


@pytest.mark.parametrize("lacking", [None, *sorted(_launcher_rights())])
def test_the_role_of_the_tasks_has_exactly_what_starting_a_training_asks_for(
    world: World, monkeypatch: pytest.MonkeyPatch, lacking: tuple[str, str] | None
) -> None:
    world.server.rights = _launcher_rights() - {lacking}
    world.server.experiments.clear()
    start = launcher.KubeflowRuns.start

    def twice(self: launcher.KubeflowRuns, name: str, arguments: dict[str, Any]) -> str:
        start(self, name, arguments)  # Another task at the same moment, which will stay.
        return start(self, name, arguments)

    monkeypatch.setattr(launcher.KubeflowRuns, "start", twice)
    request = world.ask()
    if lacking is None:
        assert "was started by another at the same moment" in world.launch(request).why
        return
    kind, verb = lacking
    with pytest.raises(SlipwayError, match=f"403; .*may not {verb} {kind}"):
        world.launch(request)


@pytest.mark.parametrize(("ended", "status"), [("SUCCEEDED", "finished"), ("FAILED", "failed")])
def test_how_the_last_one_went_is_noted_with_the_next(
    world: World, ended: str, status: str
) -> None:
    first = world.launch(world.ask()).run
    world.runs()[0]["state"] = ended
    later = world.ask(("2013-12-22T05:00:00Z", "2013-12-29T05:00:00Z"))
    assert world.launch(later).run not in ("", first)
    assert [s for s, _ in world.status()] == [status, "started"]


def test_the_new_window_can_have_a_length(world: World) -> None:
    world.launch(world.ask(), window="90d")
    (run,) = world.runs()
    assert run["runtime_config"]["parameters"]["window_start"] == "2013-09-09T05:00:00Z"


def test_a_server_without_the_pipeline_says_what_to_do(world: World) -> None:
    world.server.pipelines.clear()
    with pytest.raises(SlipwayError, match="no pipeline flights-retraining: upload it"):
        world.launch(world.ask())


def test_a_server_that_refuses_names_the_rights(world: World) -> None:
    from support.kfp_double import Fault

    request = world.ask()
    world.server.faults.append(Fault("POST", "/runs$", 403))
    with pytest.raises(
        SlipwayError, match=r"POST /runs: the pod.s service account may not do that \(403"
    ):
        world.launch(request)
    assert world.status() == [("requested", "")]


def test_the_face_starts_the_run_in_a_pod_and_leaves_it_alone_elsewhere(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from types import SimpleNamespace

    from slipway.components.monitor.component import retrain

    request = world.ask()
    record = tmp_path / "record.json"
    content = {
        "model": "flights", "window": DECEMBER, "drift_status": "drift", "summary": {},
        "alerts": [], "retrain": True, "details": {"request": request.key}, "version": 1,
        "metrics": {
            "timestamp": DECEMBER[1], "model_version": "1", "model_accuracy": 0.5,
            "prediction_latency_ms": None, "throughput_rps": None, "error_rate": None,
            "data_drift_score": None, "feature_drift_score": None,
        },
    }  # fmt: skip
    record.write_text(json.dumps(content))
    monkeypatch.setenv("MONITORING_URI", str(world.root))
    given = {
        "record": SimpleNamespace(path=str(record)),
        "decision": "retrain",
        "project": "flights",
        "config": {},
        "data_start": DATA_START,
    }
    assert retrain.python_func(**given) == ""
    # Its stage ends, or the run would say that it came from the cache.
    assert '"event": "end", "stage": "retrain"' in capsys.readouterr().out
    assert world.runs() == []
    # What monitor did not ask for is not started, in a pod either.
    kept = given | {"decision": "keep"}
    assert retrain.python_func(**kept, kubeflow=world.server.url) == ""
    assert "nothing asked for it" in capsys.readouterr().out
    assert world.runs() == []
    assert retrain.python_func(**given, kubeflow=world.server.url) == world.runs()[0]["run_id"]


@pytest.fixture
def webhook() -> Any:
    """A receiver that keeps what it is sent."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def with_route(repository: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Compiles the flights with one alert route."""

    def compile_with(url: str) -> Path:
        route = f'[{{name: ops, kind: webhook, url: "{url}"}}]'
        loaded = load_project(repository / "examples/flights", {"monitoring.routes": route})
        compile_project(loaded, tmp_path / "compiled")
        return tmp_path / "compiled"

    return compile_with


def test_the_report_at_a_pipeline_s_end_has_the_secrets_of_the_routes(with_route: Any) -> None:
    folder = with_route("https://example.com/${CHAT_TOKEN}")
    for name in ("training", "retraining", "monitoring", "scoring", "backfill"):
        package = read_package(folder / f"flights-{name}.yaml")
        executors = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        secrets = json.dumps(executors["exec-report-end"]["secretAsEnv"])
        assert "CHAT_TOKEN" in secrets


def test_a_pipeline_that_fails_is_told_by_its_exit_handler(
    with_route: Any, webhook: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    from slipway.local.runner.execution import execute

    url, received = webhook
    folder = with_route(url)
    settings = {
        "MONITORING_URI": str(tmp_path / "monitoring"),
        "INFERENCE_LOG_URI": str(tmp_path / "log"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "SLIPWAY_HOME": str(tmp_path / "home"),
        "FEATURE_STORE_URI": str(tmp_path / "features"),
    }
    arguments = {"data_root": str(tmp_path / "nowhere")}
    request = request_in(tmp_path, folder / "flights-monitoring.yaml", arguments)
    run = execute(request, settings, tmp_path / "run.log", lambda task, event: None)
    assert run.error is not None and "nowhere" in run.error
    (told,) = received
    assert [a["name"] for a in told["alerts"]] == ["PIPELINE_FAILED"]
    assert "flights-monitoring ended as FAILED" in told["alerts"][0]["message"]
    end = run.tasks["report-end"]
    assert (end.status, end.headline) == ("succeeded", "flights-monitoring ended as FAILED")


@dataclass
class Ran:
    """What a command came to."""

    code: int
    text: str


@pytest.fixture
def slipway() -> Callable[..., Ran]:
    """The command, as a person gives it."""
    from typer.testing import CliRunner

    from slipway.commands.cli import app

    def run(*arguments: str) -> Ran:
        result = CliRunner().invoke(app, ["retrain", *arguments])
        error = result.exception if isinstance(result.exception, SlipwayError) else ""
        return Ran(result.exit_code, " ".join(f"{result.output} {error}".split()))

    return run


def test_a_person_starts_it_on_the_cluster_once(
    world: World, slipway: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONITORING_URI", str(world.root))
    monkeypatch.setenv("SLIPWAY_KFP_TOKEN", world.server.token)
    asked = ("--why", "a new airline joined", "--until", "2013-12-15T05:00:00Z", "--cluster")
    first = slipway(*asked)
    (run,) = world.runs()
    assert first.code == 0 and run["display_name"] in first.text
    assert run["runtime_config"]["parameters"]["window_end"] == "2013-12-15T05:00:00Z"
    (request,) = requests(world.root, "flights")
    assert request.reasons == ("a new airline joined",) and request.run == run["run_id"]
    assert slipway(*asked).code == 0
    assert len(world.runs()) == 1


def test_a_person_is_not_held_up_by_cooldown_but_by_a_training_that_runs(
    world: World, slipway: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONITORING_URI", str(world.root))
    monkeypatch.setenv("SLIPWAY_KFP_TOKEN", world.server.token)
    world.launch(world.ask())
    asked = ("--why", "it cannot wait", "--until", "2013-12-09T05:00:00Z", "--cluster")
    held = slipway(*asked)
    assert held.code == 3 and "is still" in held.text
    world.runs()[0]["state"] = "FAILED"
    assert slipway(*asked).code == 0
    assert len(world.runs()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--why", " "), "--why is empty"),
        (("--why", "x", "--until", "soon"), "--until soon is not an ISO 8601 time"),
        (("--why", "x", "--cluster"), "MONITORING_URI is not set"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(
    slipway: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.delenv("MONITORING_URI", raising=False)
    refused = slipway(*arguments)
    assert refused.code != 0 and message in refused.text


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was trained on this machine: each job; the gate lets all of them pass."""
    from slipway.components.contracts.verdict import Verdict
    from slipway.local import job as run_job
    from slipway.local import retraining

    jobs: list[Any] = []

    def train(job: Any, changes: dict[str, Any]) -> tuple[None, run_job.RunResult]:
        jobs.append((job, changes))
        if len(jobs) == 1:
            raise SlipwayError("train: no space left on the disk")
        verdict = Verdict(
            outcome="pass", rules=(), metrics={}, thresholds={}, model_hash="a" * 64,
            data_hash="b" * 64, test_rows=1000,
        )  # fmt: skip
        return None, run_job.RunResult(project="flights", verdict=verdict)

    monkeypatch.setattr(retraining, "train", train)
    monkeypatch.delenv("MONITORING_URI", raising=False)
    return jobs


def test_a_training_here_that_failed_or_was_killed_can_be_asked_for_again(
    slipway: Callable[..., Ran], trainings: list[Any], tmp_path: Path
) -> None:
    root = tmp_path / "monitoring"
    asked = ("--out", str(tmp_path), "--set", "training.epochs=7", "--why")
    assert slipway(*asked, "a new airline").code != 0
    assert [r.status for r in requests(root, "flights")] == ["failed"]
    assert slipway(*asked, "a new airline").code == 0
    assert [r.status for r in requests(root, "flights")] == ["finished"]
    job, changes = trainings[-1]
    assert job.loaded.project.training.epochs == 7
    assert changes == {"window_start": "2013-01-01T05:00:00Z", "window_end": "2014-01-01T05:00:00Z"}
    again = slipway(*asked, "a new airline")
    assert again.code == 0 and len(trainings) == 2
    assert "finished already: flights-retraining-" in again.text
    # The process of this one was killed: nobody said how it ended, and it holds up no other.
    (request,) = requests(root, "flights")
    mark(root, request, "started")
    assert slipway(*asked, "another reason").code == 0
    status = {r.reasons: r.status for r in requests(root, "flights")}
    assert status == {("a new airline",): "failed", ("another reason",): "finished"}


def test_a_training_that_runs_here_holds_up_another(
    slipway: Callable[..., Ran], trainings: list[Any], tmp_path: Path
) -> None:
    from slipway.local.workspace import Workspace

    with Workspace.at(tmp_path).locked():
        held = slipway("--out", str(tmp_path), "--why", "x")
    assert held.code != 0 and "Another slipway run is working" in held.text
    assert not trainings and not (tmp_path / "monitoring").exists()
