"""A value that stands in a section's struct and in a parameter of its own, through the compiled YAML.

Kubeflow's form lets a person change both. The component's own code runs here on the values that the
pipeline of the file would hand it.
"""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from kfp.dsl.executor import Executor

from slipway.components.config.parameters import PARAMETERS
from slipway.components.support.errors import SlipwayError
from slipway.pipelines.package import Package, read_package
from slipway.pipelines.spec import ComponentSpec, TaskSpec

ROOT = Path(__file__).parents[2]
PIPELINES = sorted((ROOT / "compiled").glob("flights-*.yaml"))
# Another value than the flights have, by the key's name; all pass the section's own checks.
OTHERS: dict[str, Any] = {
    "root": "s3://another",
    "start": "2013-02-01T00:00:00Z",
    "end": "2013-03-01T00:00:00Z",
    "seed": 7,
    "epochs": 3,
    "learning_rate": 0.5,
    "count": 4,
    "type": "amd.com/gpu",
    "node_selector": {"pool": "other"},
    "tolerations": [{"key": "other", "operator": "Exists"}],
    "allow_cpu": False,
    "accuracy": 0.99,
    "f1": 0.99,
    "auc": 0.99,
    "target": "local",
}
SCHEDULE_TIME, SCHEDULED = "{{$.pipeline_job_schedule_time_utc}}", "2013-12-01T00:00:00Z"
Values = dict[str, object]


def tasks_with_values(package: Package, arguments: Values) -> Iterator[tuple[str, Values, str]]:
    """Every task of a pipeline: its component, its inputs' values, the parameter its `config` is."""
    declared = package.parameters.items()
    values = {name: parameter.get("defaultValue") for name, parameter in declared} | arguments
    root = package.spec["root"]
    yield from _inner(package, root, {name: (value, name) for name, value in values.items()})


def _inner(
    package: Package, group: ComponentSpec, above: dict[str, tuple[object, str]]
) -> Iterator[tuple[str, Values, str]]:
    for task in group["dag"]["tasks"].values():
        component = package.spec["components"][task["componentRef"]["name"]]
        inputs = _resolved(task, component, above)
        if "dag" in component:
            yield from _inner(package, component, inputs)
        else:
            values = {name: value for name, (value, _) in inputs.items()}
            yield component["executorLabel"], values, inputs.get("config", (None, ""))[1]


def _resolved(
    task: TaskSpec, component: ComponentSpec, above: dict[str, tuple[object, str]]
) -> dict[str, tuple[object, str]]:
    """The inputs of a task with the pipeline's parameter that each comes from, if any."""
    declared = component.get("inputDefinitions", {}).get("parameters", {})
    found: dict[str, tuple[object, str]] = {
        n: (p.get("defaultValue"), "") for n, p in declared.items()
    }
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        if "componentInputParameter" in source:
            found[name] = above[source["componentInputParameter"]]
        elif "runtimeValue" in source:
            value = source["runtimeValue"]["constant"]
            found[name] = (SCHEDULED if value == SCHEDULE_TIME else value, "")
    return found


def run(package: Package, label: str, values: Values, folder: Path) -> None:
    """Runs a component's code as its container would, on artifacts that are not there."""
    component = package.spec["components"][label.replace("exec-", "comp-", 1)]
    container = package.spec["deploymentSpec"]["executors"][label]["container"]
    module = ModuleType("component")
    exec(container["command"][3], module.__dict__)
    outputs = component.get("outputDefinitions", {})

    def artifacts(declared: dict[str, dict[str, Any]]) -> dict[str, object]:
        return {
            name: {
                "artifacts": [
                    {
                        "name": name,
                        "type": artifact["artifactType"],
                        "uri": str(folder / name),
                        "metadata": {},
                    }
                ]
            }
            for name, artifact in declared.items()
        }

    given = {
        "inputs": {
            "parameterValues": {name: value for name, value in values.items() if value is not None},
            "artifacts": artifacts(component.get("inputDefinitions", {}).get("artifacts", {})),
        },
        "outputs": {
            "parameters": {
                name: {"outputFile": str(folder / name)} for name in outputs.get("parameters", {})
            },
            "artifacts": artifacts(outputs.get("artifacts", {})),
            "outputFile": str(folder / "executor_output.json"),
        },
    }
    Executor(given, getattr(module, container["args"][-1])).execute()


def with_key(struct: Any, path: str, value: object) -> Any:
    """The struct with one key more."""
    first, _, rest = path.partition(".")
    return {**struct, first: with_key(struct.get(first, {}), rest, value) if rest else value}


CASES = [
    pytest.param(path, section, parameter, id=f"{path.stem}-{parameter}")
    for path in PIPELINES
    for section, parameters in PARAMETERS.items()
    for parameter in parameters
    if section in read_package(path).parameters
]


@pytest.mark.parametrize(("path", "section", "parameter"), CASES)
def test_every_stage_refuses_a_struct_that_says_otherwise_than_the_parameter(
    path: Path, section: str, parameter: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(path, section, parameter, {}, tmp_path, capsys)


@pytest.mark.parametrize(
    ("section", "parameter", "blank"),
    [
        ("data", "data_root", {"data_root": ""}),
        ("data", "window_start", {"window_start": "", "window_end": ""}),
        ("data", "window_end", {"window_start": "", "window_end": ""}),
        ("training", "training_gpu_type", {"training_gpu_type": ""}),
        ("training", "training_gpu_node_selector", {"training_gpu_type": ""}),
        ("training", "training_gpu_tolerations", {"training_gpu_type": ""}),
        ("training", "training_learning_rate", {"training_learning_rate": 0.0}),
        ("deployment", "deployment_target", {"deployment_target": ""}),
    ],
)
def test_a_field_that_was_blanked_lets_no_struct_decide_in_its_place(
    section: str,
    parameter: str,
    blank: Values,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refuse(ROOT / "compiled" / "flights-training.yaml", section, parameter, blank, tmp_path, capsys)


@pytest.mark.parametrize("value", [None, "x", [], 0], ids=repr)
@pytest.mark.parametrize(("section", "key"), [("training", "accelerator"), ("data", "window")])
def test_what_stands_in_a_sections_place_is_refused_by_name(
    section: str, key: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A field that was emptied as null or text ended in a traceback of what is written into it."""
    package = read_package(ROOT / "compiled" / "flights-training.yaml")
    struct = with_key(package.parameters[section]["defaultValue"], key, value)
    tasks = list(tasks_with_values(package, {section: struct}))
    taking = [(label, values) for label, values, source in tasks if source == section]
    assert taking
    for label, values in taking:
        with pytest.raises((SlipwayError, SystemExit)):
            run(package, label, values, tmp_path)
        said = capsys.readouterr().out
        assert (
            f"{section}.{key} is {value!r} in the struct '{section}', and must be a section" in said
        )


def refuse(
    path: Path,
    section: str,
    parameter: str,
    arguments: Values,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Runs every task that takes the section, with the key in its struct; each must name both."""
    package = read_package(path)
    key = PARAMETERS[section][parameter]
    value = OTHERS[key.rpartition(".")[2]]
    struct = with_key(package.parameters[section]["defaultValue"], key, value)
    tasks = list(tasks_with_values(package, {**arguments, section: struct}))
    taking = [(label, values) for label, values, source in tasks if source == section]
    assert taking, f"no task of {path.stem} takes {section}"
    for label, values in taking:
        with pytest.raises((SlipwayError, SystemExit)):
            run(package, label, values, folder)
        said = capsys.readouterr().out
        assert f"{section}.{key} is {value!r} in the struct '{section}'" in said
        assert f"the parameter {parameter} is" in said
    made = [found.name for found in folder.rglob("*") if found.is_file()]
    assert made == []


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_struct_that_says_the_same_is_no_conflict(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same tasks then go on to their work, and miss what is not there."""
    package = read_package(path)
    nowhere = str(tmp_path / "nowhere")
    structs: Values = {"data_root": nowhere}
    for section in PARAMETERS.keys() & package.parameters.keys():
        structs[section] = package.parameters[section]["defaultValue"]
    if "gate" in structs:
        structs["gate"] = with_key(
            structs["gate"], "auc", package.parameters["gate_auc"]["defaultValue"]
        )
    structs["data"] = with_key(structs["data"], "root", nowhere)
    for label, values, source in tasks_with_values(package, structs):
        if source in PARAMETERS:
            with pytest.raises((SlipwayError, SystemExit, OSError)):
                run(package, label, values, tmp_path)
            said = capsys.readouterr().out
            assert "in the struct" not in said and "settings are wrong" not in said, said
