"""The project file's JSON Schema: editors complete and check with it what the models take."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from slipway.commands.cli import app
from slipway.components.config.editor import project_schema, schema_text
from slipway.components.config.model import CHOICES, Project


@pytest.fixture(scope="module")
def checker() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(project_schema())
    return jsonschema.Draft202012Validator(project_schema())


@pytest.fixture
def flights(repository: Path) -> dict[str, Any]:
    text = (repository / "examples/flights/project.yaml").read_text()
    content: dict[str, Any] = yaml.load(text, yaml.BaseLoader)  # texts, as an editor sees dates
    numbers = yaml.safe_load(text)
    for section in ("training", "gate", "deployment", "monitoring", "features"):
        content[section] = numbers[section]
    return content


def test_the_flights_fit_it(
    checker: jsonschema.Draft202012Validator, flights: dict[str, Any]
) -> None:
    assert [error.message for error in checker.iter_errors(flights)] == []


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("gate", "acu", 0.7),
        ("gate", "auc", 1.7),
        ("training", "calibration", "isotonic"),
        ("monitoring", "look_back", "a week"),
        ("deployment", "replicas", 0),
    ],
)
def test_what_the_models_refuse_it_marks(
    checker: jsonschema.Draft202012Validator,
    flights: dict[str, Any],
    section: str,
    key: str,
    value: object,
) -> None:
    flights[section][key] = value
    assert len(list(checker.iter_errors(flights))) == 1
    with pytest.raises(ValueError, match=key):
        Project.model_validate(flights)


def test_the_choices_of_the_stack_are_listed_and_have_defaults() -> None:
    properties = project_schema()["properties"]
    for name, choices in CHOICES.items():
        assert properties[name]["enum"] == [choice for choice, works in choices.items() if works]
        assert properties[name]["default"] in properties[name]["enum"]
    assert not set(CHOICES) & set(project_schema()["required"])


def test_the_command_gives_what_init_writes(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["schema", "project"])
    assert json.loads(printed.output) == project_schema()
    CliRunner().invoke(app, ["schema", "project", "--out", str(tmp_path / "a/project.json")])
    assert (tmp_path / "a/project.json").read_text() == printed.output == schema_text()
