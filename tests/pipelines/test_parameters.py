"""A value has one place: a pipeline parameter is in no struct; one that brings it back is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.config.gate import GateConfig
from slipway.components.config.parameters import PARAMETERS, repeated, struct_of, with_parameters
from slipway.components.config.project import load_project
from slipway.components.config.training import TrainingConfig
from slipway.components.deploy.deploy import deploy_model
from slipway.components.evaluate.evaluate import EvaluationTask, evaluate_model
from slipway.components.ingest.ingest import ingest_tables
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.pipelines.package import arguments_from, check_arguments, read_package

ROOT = Path(__file__).parents[2]
PIPELINES = sorted((ROOT / "compiled").glob("flights-*.yaml"))
# A struct's key with a scalar's name that means another thing, and why.
OTHERS = {"gate.seed": "of the bootstrap; the parameter is training's"}


def leaves(value: Any, place: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in leaves(part, f"{place}.{key}")]
    return [(place, value)]


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_no_struct_of_a_compiled_pipeline_repeats_a_parameter(path: Path) -> None:
    package = read_package(path)
    structs = {
        name: declared.get("defaultValue", {})
        for name, declared in package.parameters.items()
        if declared["parameterType"] == "STRUCT"
    }
    scalars = package.parameters.keys() - structs.keys()
    assert structs
    for name, struct in structs.items():
        for parameter, key, _ in repeated(struct, name):
            assert parameter not in package.parameters, f"{key} is the parameter {parameter} too"
        if name == "schema":  # a user's own columns
            continue
        # A parameter that nobody wrote into PARAMETERS shows by its name.
        for key, _ in leaves(struct, name):
            same = key.removeprefix(f"{name}.") in scalars
            assert key in OTHERS or not same, f"{key} has the name of a parameter"


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_every_parameter_of_a_section_is_one_of_its_pipelines(path: Path) -> None:
    """What a struct leaves out, the pipeline has as a parameter: no value is lost."""
    package = read_package(path)
    for section, known in PARAMETERS.items():
        if section in package.parameters:
            assert known.keys() <= package.parameters.keys()


def test_a_section_is_its_struct_and_its_parameters() -> None:
    project = load_project(ROOT / "examples" / "flights").project
    for name in PARAMETERS:
        section = getattr(project, name)
        whole, struct = section.to_struct(), struct_of(section, name)
        given = {parameter: value for parameter, _, value in repeated(whole, name)}
        assert not list(repeated(struct, name))
        assert with_parameters(struct, name, given) == whole


CASES = [
    ("gate", parameter, value, values)
    for parameter, value, values in [
        ("gate_auc", 0.9, {"gate_auc": 0.7}),
        ("gate_f1", 0.9, {"gate_f1": 0.3}),
        ("gate_accuracy", 0.9, {"gate_accuracy": 0.7}),
    ]
] + [
    ("training", "training_seed", 7, {"training_seed": 0}),
    ("training", "training_epochs", 3, {"training_epochs": "auto"}),
    ("training", "training_gpus", 2, {"training_gpus": 0}),
    ("training", "training_gpu_node_selector", {"a": "b"}, {"training_gpu_node_selector": {}}),
    ("training", "training_allow_cpu", True, {"training_allow_cpu": False}),
    ("deployment", "deployment_target", "local", {"deployment_target": "kserve"}),
    ("data", "data_root", "s3://other", {"data_root": "lake"}),
    ("data", "window_end", "2014-01-01", {"window_end": "2013-12-01"}),
]


@pytest.mark.parametrize(("section", "parameter", "value", "values"), CASES)
def test_a_struct_that_says_otherwise_is_refused_with_both_names(
    section: str, parameter: str, value: Any, values: dict[str, Any]
) -> None:
    *sections, last = PARAMETERS[section][parameter].split(".")
    struct: dict[str, Any] = {last: value}
    for name in reversed(sections):
        struct = {name: struct}
    with pytest.raises(SlipwayError) as raised:
        with_parameters(struct, section, values)
    message = str(raised.value)
    assert f"{section}.{PARAMETERS[section][parameter]} is {value!r}" in message
    assert f"parameter {parameter} is {values[parameter]!r}" in message
    assert with_parameters(struct, section, {parameter: value}) == struct  # the same is no conflict


def test_evaluate_does_not_let_the_parameter_win_silently(tmp_path: Path) -> None:
    """Editing the struct in the Kubeflow UI changed nothing; now it is refused."""
    with pytest.raises(SlipwayError, match=r"gate\.auc is 0\.99 .* parameter gate_auc is 0\.7"):
        evaluate_model(
            EvaluationTask(
                bundle_path=tmp_path,
                splits_path=tmp_path,
                project="toy",
                config={**struct_of(GateConfig(), "gate"), "auc": 0.99},
                verdict_path=tmp_path / "verdict",
                card_path=tmp_path / "card",
                parameters={"gate_accuracy": 0.7, "gate_f1": 0.3, "gate_auc": 0.7},
            )
        )
    assert not list(tmp_path.iterdir())


def test_deploy_and_ingest_refuse_too(tmp_path: Path) -> None:
    with pytest.raises(SlipwayError, match=r"deployment\.target .* parameter deployment_target"):
        deploy_model(
            release=tmp_path,
            verdict=tmp_path,
            splits=tmp_path,
            project="toy",
            config={**struct_of(DeploymentConfig(), "deployment"), "target": "local"},
            deployment=tmp_path / "deployment",
            parameters={"deployment_target": "kserve"},
        )
    with pytest.raises(SlipwayError, match=r"data\.root is 's3://b' .* parameter data_root"):
        ingest_tables(
            config={"tables": {"t": {"path": "t"}}, "root": "s3://b"},
            data_root="lake",
            window_start="2013-01-01",
            window_end="2013-02-01",
            output=tmp_path / "out",
        )


def test_set_on_the_struct_names_the_parameter_before_anything_is_sent() -> None:
    package = read_package(ROOT / "compiled" / "flights-training.yaml")
    with pytest.raises(ProjectError, match=r"gate\.auc is no key .* Set gate_auc instead"):
        arguments_from(package, ["gate.auc=0.9"])
    with pytest.raises(ProjectError, match="Set training_seed instead"):
        check_arguments(package, {"training": {"seed": 3}})


SETTLED = [
    ("training", "training.accelerator.affinity", {"required": {}}, "does without"),
    ("monitoring", "monitoring.retention.online", "7d", "does without"),
    ("monitoring", "monitoring.retention.pipeline_runs", "90d", "does without"),
    ("monitoring", "monitoring.schedule", "0 0 1 * * *", "has '"),
]


@pytest.mark.parametrize(("pipeline", "key", "value", "has"), SETTLED)
def test_what_only_the_compiler_reads_is_not_set_for_a_run(
    pipeline: str, key: str, value: object, has: str
) -> None:
    """A run took it and did nothing with it."""
    package = read_package(ROOT / "compiled" / f"flights-{pipeline}.yaml")
    with pytest.raises(ProjectError, match=rf"{key} is settled when .* compiled, which {has}"):
        arguments_from(package, [f"{key}={json.dumps(value)}"])


def test_a_task_that_a_pipeline_was_compiled_with_takes_another_value() -> None:
    package = read_package(ROOT / "compiled" / "flights-monitoring.yaml")
    compiled = package.parameters["monitoring"]["defaultValue"]
    compiled["retention"] = {"online": "7d"}
    overrides = ["monitoring.retention.online=30d", f"monitoring.schedule={compiled['schedule']}"]
    given = arguments_from(package, overrides)["monitoring"]
    assert given == compiled | {"retention": {"online": "30d"}}


@pytest.mark.parametrize("name", ["Flights", "flights-", "1st", "f" * 41, ""])
def test_a_project_that_kserve_would_refuse_at_the_end_is_refused_at_the_start(
    name: str,
) -> None:
    package = read_package(ROOT / "compiled" / "flights-training.yaml")
    with pytest.raises(
        ProjectError, match=f"Parameter project of flights-training: '{name}' is no"
    ):
        check_arguments(package, {"project": name})
    check_arguments(package, {"project": "f" * 40})
    assert arguments_from(package, ["gate_auc=0.9"]) == {"gate_auc": 0.9}
    assert arguments_from(package, ["training.batch_size=512"])["training"]["batch_size"] == 512


def test_what_a_pipeline_hands_over_is_the_project_again() -> None:
    config = TrainingConfig.model_validate({"seed": 3, "accelerator": {"count": 2}})
    given = {
        "training_seed": 3,
        "training_epochs": "auto",
        "training_learning_rate": "auto",
        "training_gpus": 2,
        "training_allow_cpu": False,
    }
    merged = with_parameters(struct_of(config, "training"), "training", given)
    assert TrainingConfig.model_validate(merged) == config
