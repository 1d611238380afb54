"""Deploy to this machine: rollouts under load, refusals, what goes wrong with processes and ports."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
from support.deploy_world import World, bundles, passing, refused

from slipway.components.contracts.release import Deployment
from slipway.components.contracts.verdict import write_verdict
from slipway.components.deploy.deploy import deploy_model
from slipway.components.deploy.local import target as local
from slipway.components.support.errors import SlipwayError
from slipway.components.support.retry import wait_until


def champion() -> str | None:
    try:
        version = mlflow.MlflowClient().get_model_version_by_alias("flights", "champion").version
        return str(version)
    except mlflow.exceptions.MlflowException:
        return None


def served(world: World) -> str:
    url = f"http://127.0.0.1:{world.port}/v2/models/flights"
    return str(httpx.get(url).json()["versions"][0])


class Load:
    """Clients that ask without a pause, on kept and on new connections, and count what fails."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self.url, self.failures, self.versions = url, [], {}
        self.sent = 0
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        kept = httpx.Client(timeout=20)
        body = {"inputs": bundles.flight_tensors(1)}
        while not self._end.is_set():
            try:
                client = kept if number % 2 else httpx.Client(timeout=20)
                response = client.post(f"{self.url}/v2/models/flights/infer", json=body)
                with self._lock:
                    self.sent += 1
                    if response.status_code != 200:
                        self.failures.append(response.text)
                    version = response.json().get("model_version")
                    self.versions[version] = self.versions.get(version, 0) + 1
                if client is not kept:
                    client.close()
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
        kept.close()


def test_first_deploy_serves_and_becomes_champion(world: World) -> None:
    result = world.deploy(1)
    assert result.endpoint == f"http://127.0.0.1:{world.port}"
    assert served(world) == "1" and champion() == "1"
    assert result.headline == f"flights version 1 at {result.endpoint}"
    record = Deployment.read(world.root / "deployment.json")
    assert result.metadata()["model_hash"] == record.model_hash and record.target == "local"
    answer = httpx.post(
        f"{result.endpoint}/v2/models/flights/infer", json={"inputs": bundles.flight_tensors(2)}
    ).json()
    assert answer["outputs"][0]["data"] == pytest.approx(bundles.expected(2), abs=1e-6)
    status = local.status(world.home)
    assert [(s.project, s.state, s.model_version) for s in status] == [("flights", "running", "1")]


def test_rollouts_and_a_rollback_under_load_lose_no_request_and_no_log_row(world: World) -> None:
    import pyarrow.dataset as ds

    from slipway.components.config.deployment import DeploymentConfig
    from slipway.components.deploy.rollback import roll_back

    result = world.deploy(1)
    with Load(result.endpoint) as load:
        for version in (2, 3):
            world.deploy(version, bias=version / 10, config={"max_latency_ms": 5000})
            assert champion() == str(version)
        kept = list((world.home / "endpoints" / "flights" / "versions").iterdir())
        assert len(kept) == 2, "the bundle that serves and the one before it"
        world.register(2)
        config = DeploymentConfig(target="local", port=world.port, max_latency_ms=5000)
        assert roll_back(project="flights", config=config).model_version == "2"
        time.sleep(0.3)
    assert champion() == "2"
    assert load.failures == []
    assert set(load.versions) == {"1", "2", "3"} and load.sent > 100
    local.stop(world.home)
    table = ds.dataset(world.root / "log", format="parquet").to_table()
    logged = {v["values"]: v["counts"] for v in table["model_version"].value_counts().to_pylist()}
    assert logged == load.versions, "each answer is in the log once"


WINDOW = {"local_window": "2s", "min_requests": 10, "max_latency_ratio": 100}


def test_window_on_this_machine_promotes_a_model_like_the_one_before(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = world.deploy(1)
    with Load(result.endpoint) as load:
        world.deploy(2, bias=0.01, config={"max_latency_ms": 5000, "canary": WINDOW})
    assert load.failures == [] and champion() == "2" and served(world) == "2"
    told = capsys.readouterr().out
    assert "version 2 answers beside 1 for 2 s" in told and "shift 0.0" in told


def test_window_on_this_machine_takes_back_a_model_with_other_predictions(world: World) -> None:
    result = world.deploy(1)
    with Load(result.endpoint) as load:
        with pytest.raises(SlipwayError, match=r"Version 2 failed as a canary: .*stability index"):
            world.deploy(2, bias=4.0, config={"max_latency_ms": 5000, "canary": WINDOW})
        assert champion() == "1"
        time.sleep(0.2)
    assert load.failures == [], "what the refused model was answering, it answered"
    assert set(load.versions) == {"1", "2"} and served(world) == "1"
    assert local.status(world.home)[0].state == "running"


def test_same_version_again_changes_nothing(world: World) -> None:
    world.deploy(1)
    before = local.status(world.home)[0].pid
    world.deploy(1)
    assert local.status(world.home)[0].pid == before


def test_log_has_clients_rows_and_no_golden_ones(world: World) -> None:
    import pyarrow.dataset as ds

    result = world.deploy(1)
    body = {
        "id": "a",
        "parameters": {"time": "2013-12-20T17:30:00Z"},
        "inputs": bundles.flight_tensors(3),
    }
    httpx.post(f"{result.endpoint}/v2/models/flights/infer", json=body)
    local.stop(world.home)
    table = ds.dataset(world.root / "log", format="parquet").to_table()
    assert table["key"].to_pylist() == ["flight-0", "flight-1", "flight-2"]
    assert table["time"].to_pylist()[0].year >= 2026, "a request's time is not trusted by default"


@pytest.mark.parametrize("through", ["config", "environment"])
def test_replay_clock_is_trusted_where_told(
    world: World, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    config = {"trust_request_time": True} if through == "config" else {}
    if through == "environment":
        monkeypatch.setenv("SLIPWAY_TRUST_REQUEST_TIME", "1")
    result = world.deploy(1, config=config)
    body = {
        "parameters": {"time": "2013-12-20T17:30:00Z"},
        "inputs": bundles.flight_tensors(1),
    }
    httpx.post(f"{result.endpoint}/v2/models/flights/infer", json=body)
    local.stop(world.home)
    assert list((world.root / "log/flights/date=2013-12-20/hour=17").glob("*.parquet"))


class TestRefusals:
    """A new model that is not good leaves the old one serving, and champion where it was."""

    @pytest.fixture
    def old(self, world: World) -> World:
        world.deploy(1)
        return world

    def check_old(self, world: World) -> None:
        assert served(world) == "1" and champion() == "1"

    def test_verdict_fail(self, old: World) -> None:
        release, verdict = old.release(2, bias=1)
        write_verdict(verdict, refused(passing(json.loads(release.read_text())["model_hash"])))
        with pytest.raises(SlipwayError, match=r"refused by the gate.*auc 0.4 is below 0.5"):
            self.run(old, release, verdict)
        self.check_old(old)

    def test_verdict_of_another_model(self, old: World) -> None:
        release, verdict = old.release(2, bias=1)
        write_verdict(verdict, passing("f" * 64))
        with pytest.raises(SlipwayError, match="verdict is about the model ffffffffffff"):
            self.run(old, release, verdict)
        self.check_old(old)

    def test_bundle_changed_after_the_gate(self, old: World) -> None:
        release, verdict = old.release(2, bias=1)
        bundles.make_bundle(old.root / "bundle-2", bias=5)
        with pytest.raises(SlipwayError, match="changed after the gate"):
            self.run(old, release, verdict)
        self.check_old(old)

    def test_too_slow(self, old: World) -> None:
        with pytest.raises(SlipwayError, match=r"too slow.*max_latency_ms is 0.001"):
            old.deploy(2, bias=1, config={"max_latency_ms": 0.001})
        self.check_old(old)
        assert local.status(old.home)[0].model_version == "1"

    def test_predictor_that_does_not_start(self, old: World, monkeypatch: Any) -> None:
        monkeypatch.setenv("SLIPWAY_THREADS", "none")
        with pytest.raises(SlipwayError, match="SLIPWAY_THREADS=none cannot be used"):
            old.deploy(2, bias=1)
        self.check_old(old)

    def run(self, world: World, release: Path, verdict: Path) -> None:
        deploy_model(
            release=release,
            verdict=verdict,
            splits=world.root / "splits",
            project="flights",
            config={"target": "local", "port": world.port},
            deployment=world.root / "deployment.json",
        )


def test_port_of_a_foreign_program(world: World) -> None:
    with socket.create_server(("127.0.0.1", world.port)), pytest.raises(SlipwayError) as error:
        world.deploy(1)
    assert f"Port {world.port}" in str(error.value) and f"process {os.getpid()}" in str(error.value)
    assert "deployment.port" in str(error.value) and champion() is None
    world.deploy(1)
    assert served(world) == "1"


def test_port_of_another_project_is_named(world: World) -> None:
    world.deploy(1)
    with pytest.raises(SlipwayError, match="the local endpoint of project flights has it"):
        local._bind(world.home / "endpoints" / "other", world.port)


@pytest.mark.parametrize(("project", "of"), [(None, ""), ("flights", " of flights")])
def test_stop_says_where_it_looked(tmp_path: Path, project: str | None, of: str) -> None:
    said = f"Nothing to stop: no endpoint{of} was ever started below {tmp_path}."
    assert local.stop(tmp_path, project) == [said]


def test_stop_twice_and_stale_state(world: World) -> None:
    world.deploy(1)
    assert local.stop(world.home, "flights")[0].startswith("flights: stopped version 1 (pid ")
    assert local.stop(world.home, "flights") == ["flights: was not running"]
    with pytest.raises(httpx.ConnectError):
        served(world)
    # A pid that is somebody else's today is not ended.
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        folder = world.home / "endpoints" / "flights"
        state = json.loads((folder / "state.json").read_text())
        state["stable"] = {"pid": sleeper.pid, "bundle": "/nowhere", "model_version": "1"}
        (folder / "state.json").write_text(json.dumps(state))
        assert local.stop(world.home) == ["flights: was not running"]
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_crashed_predictor_is_started_again(world: World) -> None:
    world.deploy(1)
    before = local.status(world.home)[0].pid
    os.kill(before, signal.SIGKILL)
    # The port stays open: this request waits for the next predictor.
    assert (
        httpx.get(f"http://127.0.0.1:{world.port}/v2/health/ready", timeout=20).status_code == 200
    )
    after = local.status(world.home)[0]
    assert after.pid != before and after.restarts == 1


def test_killed_supervisor_leaves_the_predictor_and_the_next_deploy_recovers(world: World) -> None:
    world.deploy(1)
    state = json.loads((world.home / "endpoints/flights/state.json").read_text())
    os.kill(state["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 5
    while local.status(world.home)[0].state == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert served(world) == "1" and local.status(world.home)[0].state == "orphaned"
    world.deploy(2, bias=1)
    assert served(world) == "2" and local.status(world.home)[0].state == "running"


def end_supervisor(world: World, sign: signal.Signals) -> None:
    os.kill(json.loads((world.home / "endpoints/flights/state.json").read_text())["pid"], sign)
    assert wait_until(lambda: local.status(world.home)[0].state != "running", timeout=60)


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda world: local.stop(world.home), "stopped"),
        (lambda world: end_supervisor(world, signal.SIGTERM), "stopped"),
        (lambda world: end_supervisor(world, signal.SIGKILL), "orphaned"),
    ],
    ids=["stop", "SIGTERM", "SIGKILL"],
)
def test_start_serves_again_what_served_last(
    world: World, end: Callable[[World], object], state: str
) -> None:
    world.deploy(1)
    world.deploy(2, bias=1)
    url = f"http://127.0.0.1:{world.port}/v2/models/flights/infer"
    answers = httpx.post(url, json={"inputs": bundles.flight_tensors(2)}).json()["outputs"]
    end(world)
    (before,) = local.status(world.home)
    assert (before.state, before.model_version) == (state, "2")
    (now,) = local.start(world.home)
    assert (now.state, now.model_version, now.url) == ("running", "2", before.url)
    assert now.pid != before.pid and served(world) == "2" == champion()
    again = httpx.post(url, json={"inputs": bundles.flight_tensors(2)}).json()["outputs"]
    assert again == answers
    assert local.start(world.home) == [now], "what runs is left alone"
    world.deploy(1)
    assert served(world) == "1"


def test_start_refuses_what_it_cannot_know_or_trust(world: World, tmp_path: Path) -> None:
    with pytest.raises(SlipwayError, match="No endpoint of other was ever started below"):
        local.start(tmp_path, "other")
    world.deploy(1)
    local.stop(world.home)
    folder = world.home / "endpoints" / "flights"
    state = (folder / "state.json").read_text()
    with (
        socket.create_server(("127.0.0.1", world.port)),
        pytest.raises(SlipwayError, match=f"Port {world.port}"),
    ):
        local.start(world.home)
    (model,) = folder.glob("versions/*/model.onnx")
    content = model.read_bytes()
    model.write_bytes(b"")
    with pytest.raises(SlipwayError, match=r"is gone, or was changed. `slipway rollback 1` takes"):
        local.start(world.home)
    model.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_THREADS", "none")
        with pytest.raises(SlipwayError, match="SLIPWAY_THREADS=none cannot be used"):
            local.start(world.home)
    assert local.status(world.home)[0].state == "stopped"
    assert (folder / "state.json").read_text() == state, "the next try knows it too"
    assert local.start(world.home)[0].state == "running" and served(world) == "1"
    local.stop(world.home)
    (folder / "state.json").write_text("{}")
    with pytest.raises(SlipwayError, match="nothing says which version served last"):
        local.start(world.home)


def test_another_port_moves_the_endpoint(world: World) -> None:
    world.deploy(1)
    old, world.port = world.port, bundles.free_port()
    assert world.deploy(1).endpoint.endswith(str(world.port))
    assert served(world) == "1"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{old}/v2")


def test_champion_moves_in_the_registry_of_the_environment(world: World) -> None:
    """A registry that the same process used before is not asked."""
    mlflow.set_registry_uri("sqlite:////nowhere/other.db")
    world.deploy(1)
    assert champion() == "1"
