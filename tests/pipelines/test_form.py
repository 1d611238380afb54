"""The form in which a person starts a run, as Kubeflow's frontend 2.17.0 makes it from a pipeline.

Its rules, from frontend/src/components/NewRunParametersV2.tsx and lib/NewRunParametersUtils.ts: a text
field for each parameter, whose label is "name - type" and whose text is the default; no description.
Fields stand in the order in which the server gives them, and that marshals a map: the alphabet. What is
typed is read as that type; a number that is left empty is not sent, so that its default counts, but one
of blanks becomes 0, since JavaScript's `Number(" ")` is.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from slipway.components.config.gate import GateConfig
from slipway.components.config.kinds import UNBOUNDED
from slipway.components.config.project import load_project
from slipway.components.evaluate.evaluate import _refuse_blanks
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.pipelines.package import Package, check_arguments, package_of, read_package
from slipway.pipelines.training import training_arguments

ROOT = Path(__file__).parents[2]
PIPELINES = ("training", "retraining", "monitoring", "scoring", "backfill")
TYPES = {
    "NUMBER_DOUBLE": "double", "NUMBER_INTEGER": "integer", "STRING": "string", "BOOLEAN": "boolean",
    "LIST": "list", "STRUCT": "dict",
}  # fmt: skip


def package(name: str) -> Package:
    return read_package(ROOT / "compiled" / f"flights-{name}.yaml")


def shown(value: Any, kind: str) -> str:
    """A default as the field's text, as JavaScript writes it."""
    if kind in ("STRUCT", "LIST"):
        return json.dumps(value, separators=(",", ":"))
    if kind == "BOOLEAN":
        return str(value).lower()
    if kind.startswith("NUMBER"):
        return str(int(value)) if float(value).is_integer() else str(value)
    return str(value)


def form(name: str) -> list[tuple[str, str]]:
    """The form's fields from top to bottom: label, and text."""
    parameters = package(name).parameters
    return [
        (f"{key} - {TYPES[parameters[key]['parameterType']]}",
         shown(parameters[key]["defaultValue"], parameters[key]["parameterType"]))
        for key in sorted(parameters)
    ]  # fmt: skip


def test_the_form_of_a_training() -> None:
    fields = form("training")
    assert [label for label, _ in fields] == [
        "data - dict",
        "data_root - string",
        "data_version - string",
        "deployment - dict",
        "deployment_target - string",
        "features - dict",
        "gate - dict",
        "gate_accuracy - double",
        "gate_auc - double",
        "gate_f1 - double",
        "gate_override_approver - string",
        "gate_override_reason - string",
        "project - string",
        "schema - string",
        "training - dict",
        "training_allow_cpu - boolean",
        "training_epochs - integer",
        "training_gpu_node_selector - dict",
        "training_gpu_tolerations - list",
        "training_gpu_type - string",
        "training_gpus - string",
        "training_learning_rate - double",
        "training_seed - integer",
        "window_end - string",
        "window_start - string",
    ]
    texts = dict(fields)
    assert texts["data_root - string"] == "", "the folder of a laptop is no default"
    assert texts["gate_auc - double"] == "0.74"
    assert re.fullmatch(r"\d+", texts["training_epochs - integer"])
    assert texts["training_seed - integer"] == "0"
    assert texts["training_gpus - string"] == "1"


@pytest.mark.parametrize("name", PIPELINES)
def test_a_section_stands_together_and_no_number_is_broken(name: str) -> None:
    names = [label.partition(" ")[0] for label, _ in form(name)]
    for section in ("data", "gate", "training", "deployment", "window"):
        places = [i for i, n in enumerate(names) if n == section or n.startswith(f"{section}_")]
        assert places == list(range(places[0], places[-1] + 1)) if places else True
    for label, text in form(name):
        if label.endswith("integer"):
            assert re.fullmatch(r"-?\d+", text), label
        assert not re.search(r'(^|")(/|\./|~|[a-z]+/lake)', text), f"{label}: a path of a laptop"


@pytest.mark.parametrize("name", PIPELINES)
def test_every_field_says_what_to_type(name: str) -> None:
    """The API, GitOps and `slipway` show these texts; the form itself has no place for them."""
    for key, declared in package(name).parameters.items():
        text = " ".join(declared.get("description", "").split())
        assert text.endswith("."), key
        leave = "Leave it" in text or "section" in text or "Whether" in text or "true:" in text
        assert leave or re.search(r"\bas |: a whole number|kserve; or local", text), (
            f"{key}: {text}"
        )


def test_what_a_pipeline_is_stands_above_its_form() -> None:
    training, retraining = package("training").description, package("retraining").description
    assert "For people" in training
    assert "For monitoring" in retraining and "again" in retraining and training != retraining


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("training", "ingest-to-deploy"),
        ("retraining", "ingest-to-deploy"),
        ("monitoring", "ingest-to-monitor"),
        ("scoring", "ingest-to-score"),
        ("backfill", "ingest-to-backfill"),
    ],
)
def test_the_top_of_the_graph_names_the_stages(name: str, group: str) -> None:
    """Its nodes are the root's tasks, by the names in their `taskInfo`."""
    tasks = package(name).spec["root"]["dag"]["tasks"].values()
    assert sorted(task["taskInfo"]["name"] for task in tasks) == [group, "report-end"]


def test_monitoring_looks_at_the_last_day() -> None:
    texts = {label.partition(" ")[0]: text for label, text in form("monitoring")}
    assert (texts["window_start"], texts["window_end"]) == ("1d", "")
    look_back = load_project(ROOT / "examples/flights").project.monitoring.look_back
    assert texts["labels_start"] == f"{look_back.days + 1}d"


# --- What a blanked field sends ---

NAMES = tuple(f"gate_{name}" for name in UNBOUNDED)


def number(text: str) -> float | None:
    """What the form sends for a number; None: nothing."""
    return None if text == "" else float(text) if text.strip() else 0.0


@pytest.mark.parametrize("name", NAMES)
def test_a_threshold_that_was_blanked_lets_nothing_pass(name: str) -> None:
    assert number("") is None and number(" ") == 0.0
    training = package("training")
    with pytest.raises(ProjectError, match=f"{name} is 0, which lets every model pass"):
        check_arguments(training, {name: number(" ")})
    struct = training.parameters["gate"]["defaultValue"]
    given = {key: training.parameters[key]["defaultValue"] for key in NAMES} | {name: number(" ")}
    with pytest.raises(SlipwayError, match=rf"{name} is 0.*name {name[5:]} in gate\.unbounded"):
        _refuse_blanks(GateConfig.parse(struct, "gate", given), given)
    check_arguments(training, {name: 0.01})
    said = {**struct, "unbounded": [name[5:]]}
    check_arguments(training, {name: 0.0, "gate": said})
    _refuse_blanks(GateConfig.parse(said, "gate", given), given)


def test_a_project_that_means_no_bound_says_so_once() -> None:
    loaded = load_project(ROOT / "examples/flights", {"gate.f1": "0"})
    arguments = training_arguments(loaded.project, loaded.schema_content)
    assert arguments["gate"]["unbounded"] == ["f1"] and arguments["gate_f1"] == 0
    given = {name: arguments[name] for name in NAMES}
    _refuse_blanks(GateConfig.parse(arguments["gate"], "gate", given), given)
    with pytest.raises(SlipwayError, match="gate_auc is 0"):
        blanked = {**given, "gate_auc": 0.0}
        _refuse_blanks(GateConfig.parse(arguments["gate"], "gate", blanked), blanked)


def test_the_server_gives_the_alphabet() -> None:
    """The frontend keeps the order of what it is given; the server's answer has its keys sorted."""
    training = package("training")
    again = json.loads(json.dumps(training.spec, sort_keys=True))
    assert list(package_of(again, {}).parameters) == sorted(training.parameters)


def test_a_page_sets_only_parameters_that_the_pipeline_has() -> None:
    found = []
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        for name, options in re.findall(r"compiled/flights-(\w+)\.yaml((?: --set \S+)+)", text):
            found += [(page, name, key) for key in re.findall(r"--set (\w+)", options)]
        pattern = r'"compiled/flights-(\w+)\.yaml", arguments=\{"(\w+)"'
        found += [(page, name, key) for name, key in re.findall(pattern, text)]
    assert len(found) >= 8
    for page, name, key in found:
        assert key in package(name).parameters, f"{page.name}: {key} is none of {name}"
