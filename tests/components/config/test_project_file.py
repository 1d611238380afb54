"""The project file: what it accepts, and what it says to a person when it does not."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from slipway.components.config.base import format_duration, parse_duration
from slipway.components.config.model import CHOICES
from slipway.components.config.project import load_project
from slipway.components.support.errors import ProjectError


@pytest.fixture
def folder(repository: Path, tmp_path: Path) -> Path:
    """A copy of the flights project that a test may break."""
    return Path(shutil.copytree(repository / "examples" / "flights", tmp_path / "flights"))


@dataclass(frozen=True)
class Edit:
    name: str
    old: str
    new: str
    expected: str


EDITS = [
    Edit("misspelled section", "\ngate:", "\ngaet:", r"project.yaml:\d+: unknown key gaet. .*gate"),
    Edit(
        "misspelled key", "lead: 2h", "laed: 2h", r":\d+: unknown key features.examples.laed.*lead"
    ),
    Edit("key missing", "project_name: flights\n", "", r"project_name is missing"),
    Edit(
        "unsupported choice", "feast\n", "tecton\n", r"feature_store: tecton is not supported yet"
    ),
    Edit("unknown choice", "onprem", "basement", r"'basement' is not a cloud_provider.*aws"),
    Edit(
        "bad duration", "lead: 2h", "lead: 2 hours", r"examples.lead: '2 hours' is not a duration"
    ),
    Edit("unknown entity", "entity: airport", "entity: airprot", r"entity 'airprot', which is not"),
    Edit(
        "window upside down", "start: 2013", "start: 2033", r"data.window: start .* is not before"
    ),
    Edit(
        "not YAML", "project_name: flights", "project_name: [", r"is not valid YAML: line \d+: \w"
    ),
    Edit(
        "a key twice",
        "project_name: flights",
        "project_name: a\nproject_name: b",
        r"is not valid YAML: line \d+: the key project_name stands there a second time$",
    ),
    Edit(
        "bad name", "project_name: flights", "project_name: Flights!", r"'Flights!' is not a name"
    ),
    Edit("schema not there", "schemas/input.json", "schemas/other.json", r"no file .*other.json"),
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda e: e.name)
def test_a_wrong_project_file_is_refused_with_the_place_and_the_cure(
    folder: Path, edit: Edit
) -> None:
    file = folder / "project.yaml"
    text = file.read_text()
    assert edit.old in text
    file.write_text(text.replace(edit.old, edit.new, 1))
    with pytest.raises(ProjectError) as error:
        load_project(folder)
    assert re.search(edit.expected, str(error.value)), str(error.value)
    assert str(folder) in str(error.value)


def test_the_error_names_the_line_of_the_key(folder: Path) -> None:
    file = folder / "project.yaml"
    file.write_text(file.read_text().replace("lead: 2h", "laed: 2h", 1))
    line = 1 + file.read_text()[: file.read_text().index("laed: 2h")].count("\n")
    with pytest.raises(ProjectError, match=f"project.yaml:{line}: unknown key"):
        load_project(folder)


def test_all_mistakes_are_reported_at_once(folder: Path) -> None:
    with pytest.raises(ProjectError) as error:
        load_project(folder, {"gate.acu": "1", "gate.f1": "2", "training.epochs": "0"})
    assert [m in str(error.value) for m in ("gate.acu", "gate.f1", "training.epochs")] == [True] * 3


def test_no_project_file_says_where_to_start(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"no project.yaml in .*--project"):
        load_project(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"gate.auc": "0.9"}, 0.9),
        ({"gate.auc": "0.99", "gate.f1": "0.1"}, 0.99),
        ({}, None),
    ],
)
def test_overrides_replace_values(
    folder: Path, overrides: dict[str, str], expected: float | None
) -> None:
    unchanged = load_project(folder).project.gate.auc
    assert load_project(folder, overrides).project.gate.auc == (expected or unchanged)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"gate.acu": "0.9"}, "--set gate.acu=0.9: unknown key gate.acu. Did you mean auc?"),
        ({"project_name.x": "1"}, "project_name is not a section"),
        ({"gate.auc": "[1"}, "--set gate.auc=.1: the value is not valid YAML"),
    ],
)
def test_wrong_overrides_are_refused(
    folder: Path, overrides: dict[str, str], expected: str
) -> None:
    with pytest.raises(ProjectError, match=re.escape(expected).replace(r"\.1", ".1")):
        load_project(folder, overrides)


def test_a_null_in_the_schema_is_refused(folder: Path) -> None:
    (folder / "schemas" / "input.json").write_text('{"tables": {"flights": {"enum": [1, null]}}}')
    with pytest.raises(ProjectError, match=r"tables.flights.enum.1 is null"):
        load_project(folder)


def test_every_choice_has_a_supported_value() -> None:
    assert len(CHOICES) == 7  # with project_name: eight
    assert all(any(values.values()) for values in CHOICES.values())


def test_structs_hold_no_null_and_parse_back_to_the_same_section(folder: Path) -> None:
    project = load_project(folder).project
    for section in (project.data, project.features, project.gate, project.training):
        struct = section.to_struct()
        assert "None" not in str(struct)
        assert type(section).model_validate(struct) == section


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604800), ("1w", 604800)]
)
def test_durations(text: str, seconds: int) -> None:
    value = parse_duration(text)
    assert value.total_seconds() == seconds
    assert parse_duration(format_duration(value)) == value


def test_the_choices_of_the_stack_need_not_be_made(folder: Path) -> None:
    file = folder / "project.yaml"
    whole = load_project(folder).project
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if line.partition(":")[0] not in CHOICES))
    assert load_project(folder).project == whole
