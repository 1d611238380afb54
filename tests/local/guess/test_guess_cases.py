"""Strangers' tables: what init says of each, and what it writes. No guess is silently wrong."""

import copy
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from support.guess_cases import CASES
from support.own_tables import draft_of

from slipway.local.guess.draft import Draft
from slipway.local.guess.write import project_files


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Draft, Path]]:
    """The draft of a case, made once."""
    made: dict[str, tuple[Draft, Path]] = {}

    def draft(name: str) -> tuple[Draft, Path]:
        if name not in made:
            folder = tmp_path_factory.mktemp("case")
            case = CASES[name]
            found = draft_of(folder, case.tables(), case.answers, case.places)
            made[name] = found, folder
        return made[name]

    return draft


@pytest.mark.parametrize("name", CASES)
def test_what_is_guessed(name: str, drafts: Callable[[str], tuple[Draft, Path]]) -> None:
    case, (draft, _) = CASES[name], drafts(name)
    assert draft.label.kind.value == case.kind
    assert draft.moments.time.value == case.time
    assert draft.key.value == case.key
    assert [found.name for found in draft.fields.found] == case.fields
    left_out = {
        column: why for reasons in draft.fields.left_out.values() for column, why in reasons.items()
    }
    assert sorted(left_out) == sorted(case.left_out)
    for column, why in case.left_out.items():
        assert why in left_out[column]
    assert [history.name for history in draft.histories] == case.views
    for setting, value in case.gate.items():
        assert draft.gate.gate[setting].value == value


@pytest.mark.parametrize("name", CASES)
def test_what_is_warned_of(name: str, drafts: Callable[[str], tuple[Draft, Path]]) -> None:
    draft, _ = drafts(name)
    expected = CASES[name].warnings
    assert len(draft.warnings) == len(expected), draft.warnings
    for warning, part in zip(draft.warnings, expected, strict=True):
        assert part in warning


@pytest.mark.parametrize("name", CASES)
def test_it_is_a_project_with_a_reason_beside_each_value(
    name: str, drafts: Callable[[str], tuple[Draft, Path]]
) -> None:
    case, (draft, folder) = CASES[name], drafts(name)
    lines = project_files(draft, folder)["project.yaml"].splitlines()
    bounds = ["min:"] if case.kind == "number" else ["accuracy:", "f1:", "auc:"]
    for setting in ("root:", "label:", *(["key:"] if case.key else []), "split:", *bounds):
        (number,) = [n for n, line in enumerate(lines[:-1]) if line.strip().startswith(setting)][:1]
        above = lines[number - 1].strip() if setting != "label:" else lines[number + 1].strip()
        assert above.startswith("#"), f"{name}: {setting} has no reason above it"


@pytest.mark.parametrize("name", CASES)
def test_two_runs_write_the_same_bytes(
    name: str, drafts: Callable[[str], tuple[Draft, Path]], tmp_path: Path
) -> None:
    case, (draft, folder) = CASES[name], drafts(name)
    again = draft_of(tmp_path, case.tables(), case.answers, case.places)
    first = project_files(draft, folder)
    assert project_files(again, tmp_path) == first
    assert sorted(first) == [
        "project.yaml",
        "schemas/input.json",
        "schemas/project.schema.json",
        "schemas/schema.meta.json",
    ]


@pytest.mark.parametrize("name", CASES)
def test_an_editor_accepts_what_is_written_and_marks_what_is_misspelt(
    name: str, drafts: Callable[[str], tuple[Draft, Path]]
) -> None:
    """By the schemas that the files themselves name."""
    files = project_files(*drafts(name))
    first, project = files["project.yaml"].splitlines()[0], yaml.safe_load(files["project.yaml"])
    checker = Draft202012Validator(json.loads(files[first.partition("$schema=")[2]]))
    assert [error.message for error in checker.iter_errors(project)] == []
    rules = json.loads(files["schemas/input.json"])
    Draft202012Validator(json.loads(files[f"schemas/{rules['$schema']}"])).validate(rules)
    for path in ((), *((part,) for part in project if isinstance(project[part], dict))):
        misspelt = copy.deepcopy(project)
        section = misspelt
        for part in path:
            section = section[part]
        key = next(iter(section))
        section[f"{key}x"] = section.pop(key)
        assert any(f"{key}x" in error.message for error in checker.iter_errors(misspelt)), path


def test_the_label_is_known_late(drafts: Callable[[str], tuple[Draft, Path]]) -> None:
    draft, _ = drafts("a label with the time when it is known")
    assert draft.moments.known.value == "settled_on"
    assert draft.moments.lag == timedelta(days=3)
    assert draft.split.split.value["gap"] == "3d"


def test_a_leak_does_not_set_the_gate(drafts: Callable[[str], tuple[Draft, Path]]) -> None:
    (leaking, _), (plain, _) = drafts("a copy of the label"), drafts("one table")
    assert leaking.gate.gate == plain.gate.gate


def test_a_later_table_counts_from_its_own_time(
    drafts: Callable[[str], tuple[Draft, Path]],
) -> None:
    draft, _ = drafts("rows that came afterwards")
    assert draft.trial.baseline["auc"].value < 0.9
