"""`slipway rollback`: an earlier version serves again, and is champion only once it has answered."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
from support.deploy_world import World, bundles, passing, refused
from typer.testing import CliRunner

from slipway.commands.cli import app
from slipway.commands.projects import load_served
from slipway.components.config.deployment import DeploymentConfig
from slipway.components.deploy.local.target import stop
from slipway.components.deploy.rollback import roll_back
from slipway.components.support.errors import SlipwayError
from slipway.local.workspace import Workspace

ROOT = Path(__file__).parents[3]


def champion() -> str:
    return str(mlflow.MlflowClient().get_model_version_by_alias("flights", "champion").version)


def served(world: World) -> str:
    url = f"http://127.0.0.1:{world.port}/v2/models/flights"
    return str(httpx.get(url).json()["versions"][0])


def back(world: World, version: str | None = None, **config: Any) -> Any:
    section = DeploymentConfig(target="local", port=world.port, **config)
    return roll_back(project="flights", config=section, version=version)


@pytest.fixture
def two(world: World) -> World:
    """Version 2 serves, version 1 did before."""
    for version in (1, 2):
        world.deploy(version, bias=version / 10, config={"max_latency_ms": 5000})
        world.register(version)
    assert served(world) == "2" and champion() == "2"
    return world


def test_the_version_before_serves_again(two: World) -> None:
    record = back(two)
    assert (record.model_version, record.endpoint) == ("1", f"http://127.0.0.1:{two.port}")
    assert served(two) == "1" and champion() == "1"
    answer = httpx.post(
        f"{record.endpoint}/v2/models/flights/infer", json={"inputs": bundles.flight_tensors(2)}
    ).json()["outputs"][0]["data"]
    assert answer == pytest.approx(bundles.expected(2, bias=0.1), abs=1e-6)
    with pytest.raises(SlipwayError, match="No version of flights served before version 1"):
        back(two)
    assert back(two, "2").model_version == "2"
    assert served(two) == "2" and champion() == "2"


def test_a_version_that_never_served_is_not_the_one_before(two: World) -> None:
    two.release(3, bias=0.3)
    two.register(3)
    two.deploy(4, bias=0.4, config={"max_latency_ms": 5000})
    assert back(two).model_version == "2"


def test_what_may_not_serve_is_refused_and_version_2_serves_on(two: World) -> None:
    def check(message: str, version: str | None = None, **config: Any) -> None:
        with pytest.raises(SlipwayError, match=message):
            back(two, version, **config)
        assert served(two) == "2" and champion() == "2"

    check(r"too slow.*max_latency_ms is 0.001", max_latency_ms=0.001)
    check(r"no version 99. Versions that have served: 1, 2", "99")
    check("no version one", "one")
    check(r"not registered by Slipway: it lacks the tags slipway.model_hash", "7")
    release = json.loads((two.root / "release-1.json").read_text())
    two.register(1, verdict=refused(passing(release["model_hash"])))
    check("was refused by the gate")
    two.register(1, verdict=passing("f" * 64))
    check("verdict is about the model ffffffffffff")
    two.register(1)
    bundles.make_bundle(two.root / "bundle-1", bias=5)
    check("changed after the gate")
    mlflow.MlflowClient().delete_registered_model_alias("flights", "champion")
    with pytest.raises(SlipwayError, match="has no champion, so there is nothing"):
        back(two)
    with pytest.raises(SlipwayError, match="The registry has no version of the model trains"):
        roll_back(project="trains", config=DeploymentConfig(target="local"))


def test_the_command(two: World) -> None:
    """Without a port: what serves stays where it serves, whatever the project file says."""
    command = [sys.executable, "-c", "from slipway.commands.cli import main; main()", "rollback"]
    command += ["--set=project_name=flights"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"flights version 1 at http://127.0.0.1:{two.port}, champion again." in done.stdout
    assert "downloading flights version 1" in done.stdout and "[slipway]" not in done.stdout
    assert served(two) == "1" and champion() == "1"


def test_who_goes_on_with_an_endpoint_keeps_its_port_unless_one_is_named(world: World) -> None:
    workspace, name = Workspace.at(world.root / "run"), ["project_name=flights"]

    def port(*overrides: str) -> int:
        loaded = load_served(ROOT / "examples" / "flights", [*name, *overrides], workspace)
        return loaded.project.deployment.port

    assert port() == 8080
    world.deploy(1)
    assert port() == world.port != 8080
    assert port(" deployment.port =8099") == 8099
    stop(world.home, "flights")
    assert port() == 8080


def test_retrain_trains_for_the_port_that_serves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deploy(1)
    ports: list[int] = []
    monkeypatch.setattr(
        "slipway.commands.retrain._train_here",
        lambda loaded, *_: ports.append(loaded.project.deployment.port),
    )
    project = ("--project", str(ROOT / "examples" / "flights"))
    for more in ((), ("--set", "deployment.port=8099")):
        done = CliRunner().invoke(app, ["retrain", "--why", "new", *project, *more])
        assert done.exit_code == 0, done.output
    assert ports == [world.port, 8099]
