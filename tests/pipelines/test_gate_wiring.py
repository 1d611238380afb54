"""The gate in the compiled pipelines: what depends on it, and who is told when a person overrides it."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.components.config.project import load_project
from slipway.pipelines.compiler import compile_project
from slipway.pipelines.package import read_package
from slipway.pipelines.tasks import RESOURCES

ROUTE = '[{name: ops, kind: webhook, url: "https://example.com/${CHAT_TOKEN}"}]'


@pytest.fixture(scope="module")
def routed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flights compiled with an alert route."""
    folder = tmp_path_factory.mktemp("routed")
    compile_project(
        load_project(repository / "examples" / "flights", {"monitoring.routes": ROUTE}), folder
    )
    return folder


def dags(spec: dict[str, Any]) -> dict[str, Any]:
    """Every task of a pipeline by name, with the tasks of its sub-pipelines."""
    found = dict(spec["root"]["dag"]["tasks"])
    for component in spec["components"].values():
        found |= component.get("dag", {}).get("tasks", {})
    return found


@pytest.mark.parametrize("name", ["training", "retraining"])
def test_the_gate_s_decision_is_told_whatever_the_name(
    name: str, routed: Path, compiled: Path
) -> None:
    package = read_package(routed / f"flights-{name}.yaml")
    tasks = dags(package.spec)
    told = tasks["report-verdict"]
    assert "verdict" in told["inputs"]["artifacts"]
    assert not told["cachingOptions"].get("enableCache")
    # Nothing but the gate's own word stands before it: a condition on a name breaks at an apostrophe.
    (condition,) = [
        task["triggerPolicy"]["condition"]
        for task in tasks.values()
        if "condition" in task.get("triggerPolicy", {})
    ]
    assert "evaluate-Output" in condition and condition.endswith("== 'pass'")
    (gate,) = [c for c in package.spec["components"].values() if "register" in tasks_of(c)]
    # Beside the condition: after a refusal it is the last container to end (test_group_state).
    assert "report-verdict" not in tasks_of(gate)
    executors = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert "CHAT_TOKEN" in json.dumps(executors["exec-report-verdict"]["secretAsEnv"])
    assert "report-verdict" in dags(read_package(compiled / f"flights-{name}.yaml").spec)


def tasks_of(component: dict[str, Any]) -> dict[str, Any]:
    return component.get("dag", {}).get("tasks", {})


def test_with_an_exit_handler_every_parameter_reaches_its_task(routed: Path) -> None:
    """What a task of a sub-pipeline reads from its parent, the parent is given."""
    for name in ("training", "retraining", "monitoring"):
        spec = read_package(routed / f"flights-{name}.yaml").spec
        for component in spec["components"].values():
            declared = component.get("inputDefinitions", {}).get("parameters", {})
            for task in tasks_of(component).values():
                for value in task.get("inputs", {}).get("parameters", {}).values():
                    wanted = value.get("componentInputParameter")
                    assert wanted is None or wanted in declared, (name, wanted)


@pytest.mark.parametrize("name", ["training", "retraining"])
def test_register_is_told_what_the_model_was_made_from(
    name: str, compiled: Path, repository: Path
) -> None:
    spec = read_package(compiled / f"flights-{name}.yaml").spec
    inputs = dags(spec)["register"]["inputs"]["parameters"]
    images = inputs["images"]["runtimeValue"]["constant"]
    assert set(images) == {*RESOURCES, "predictor"}
    executors = spec["deploymentSpec"]["executors"]
    for stage in ("train", "evaluate", "register"):
        assert images[stage] == executors[f"exec-{stage}"]["container"]["image"]
    for given, parameter in (("schema", "schema"), ("features", "features")):
        assert inputs[given]["componentInputParameter"].endswith(parameter)
    assert inputs["pipeline_run"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"
