"""`slipway graph`: the order of a compiled pipeline."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.components.support.errors import SlipwayError
from slipway.pipelines.graph import read_tasks


@pytest.fixture(scope="module")
def spec(repository: Path) -> dict[str, Any]:
    path = repository / "compiled" / "flights-training.yaml"
    return next(iter(yaml.safe_load_all(path.read_text())))


def test_the_training_pipeline_in_order(repository: Path) -> None:
    tasks = read_tasks(repository / "compiled" / "flights-training.yaml")
    assert [task.name for task in tasks] == [
        "ingest", "validate", "features", "train", "evaluate",
        "register", "report-verdict", "deploy", "report-end",
    ]  # fmt: skip
    needs = {task.name: task.needs for task in tasks}
    assert needs["ingest"] == ()
    assert needs["evaluate"] == ("features", "train")
    # What the gate lets through waits for the gate.
    assert "evaluate" in needs["register"]
    assert "evaluate" in needs["deploy"]
    assert {task.name for task in tasks if task.condition} == {"register", "deploy"}
    assert all("== 'pass'" in task.condition for task in tasks if task.condition)
    # The exit handler waits for all, those behind the gate too.
    assert set(needs["report-end"]) == needs.keys() - {"report-end"}


def write(tmp_path: Path, spec: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> Path:
    changed = copy.deepcopy(spec)
    change(changed["components"]["comp-exit-handler-1"]["dag"]["tasks"])
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(changed))
    return path


def test_an_unknown_dependency_is_an_error(tmp_path: Path, spec: dict[str, Any]) -> None:
    path = write(tmp_path, spec, lambda tasks: tasks["train"]["dependentTasks"].append("featurs"))
    with pytest.raises(SlipwayError, match="train depends on featurs"):
        read_tasks(path)


def test_a_circle_is_an_error(tmp_path: Path, spec: dict[str, Any]) -> None:
    path = write(tmp_path, spec, lambda tasks: tasks["ingest"].update(dependentTasks=["evaluate"]))
    with pytest.raises(SlipwayError, match=r"circle: .*ingest"):
        read_tasks(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "There is no"),
        ("a: [", "cannot be read as YAML"),
        ("a: 1", "not a compiled pipeline"),
        ("pipelineInfo: {name: x}", "not a compiled pipeline: it lacks 'root'"),
    ],
)
def test_a_file_that_is_no_pipeline(tmp_path: Path, text: str | None, expected: str) -> None:
    path = tmp_path / "pipeline.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SlipwayError, match=expected):
        read_tasks(path)
