"""What a wrong project file says: in a person's words, with nothing of the library that reads it."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from support.settings import EVERY

from slipway.components.config.checks.messages import problems, settings_problems
from slipway.components.config.model import Project

WRONG = [
    None, "", "x y", "!", 5, -1, 10**9, 1.5, -0.5, float("nan"), float("inf"), True, [], [1], ["x y"],
    [{}], {}, {"x y": 1}, {"x": 1}, {"x": "y z"}, {"x": {}}, {1: 2}, {"x": {"y": 1}},
]  # fmt: skip
INSIDES = re.compile(
    r"function-|\w\[|_is_|literal\b|Input should|Value error|validator|pydantic|constrained|"
    r"\bstr\b|\bint\b|\bdict\b|\bfloat\b|NoneType|timedelta|isinstance|\bclass |(?<!gpu)_type|_parsing|"
    r"something else|TableField|\bSection\b|regex|\^\["
)


@pytest.fixture(scope="module")
def flights(repository: Path) -> dict[str, Any]:
    text = (repository / "examples/flights/project.yaml").read_text()
    return YAML(typ="safe").load(text)


@pytest.mark.parametrize(("model", "name"), EVERY, ids=[f"{m.__name__}.{n}" for m, n in EVERY])
def test_no_message_shows_the_insides(model: type[BaseModel], name: str) -> None:
    for value in WRONG:
        given = {name: value}
        try:
            model.model_validate(given)
        except ValidationError as error:
            said = [s for p, s in problems(error, given, model) if p[:1] == (name,) or not p]
            for sentence in said:
                words = sentence.replace(str(value), "").replace(name, "")
                assert INSIDES.search(words) is None, sentence
                assert sentence.endswith((".", "?")), sentence


def test_every_setting_is_walked() -> None:
    """The walk would pass if it reached nothing."""
    names = {f"{model.__name__}.{name}" for model, name in EVERY}
    assert len(names) > 200
    assert {
        "FeatureView.fields",
        "TrainingConfig.epochs",
        "RuleSettings.for",
        "Table.rename",
    } <= names


SAID = [
    ("data.tables.flights.rename", {"Unit Price": "unit price"},
     "data.tables.flights.rename.Unit Price: 'unit price' is not a name: use letters, digits"),
    ("data.tables.my table", {"path": "x"}, "data.tables.my table: 'my table' is not a name"),
    ("data.tables.flights.format", "xlsx",
     "data.tables.flights.format: must be parquet, csv, jsonl or delta, and is 'xlsx'."),
    ("training.epochs", 0, "training.epochs: must be auto or at least 1, and is 0."),
    ("training.epochs", "many", "training.epochs: must be auto or a whole number, and is 'many'."),
    ("training.network", 3, "training.network: must be a section of keys and values, and is 3."),
    ("gate.auc", float("inf"), "gate.auc: must be a finite number, and is inf."),
    ("features.views.0.fields", {"x": 5},
     "features.views.0.fields.x: must be a text or a section of keys and values, and is 5."),
    ("features.views.0.fields", {"x": {"colum": "y"}},
     "unknown key features.views.0.fields.x.colum. Did you mean column?"),
    ("gate.baseline", {"logistic": True},
     "unknown key gate.baseline.logistic. The keys of gate.baseline are judge, linear, margin."),
    ("features.views.0.fields", {"x": "a b"}, "features.views.0.fields.x: 'a b' is not a name"),
    ("features.views", [], "features.views: must be 1 entries or more"),
    ("data.window.start", "soon", "data.window.start: must be a date or a time in ISO 8601"),
    ("deployment.replicas", "three", "deployment.replicas: must be a whole number, and is 'three'."),
    ("deployment.grpc", "maybe", "deployment.grpc: must be true or false, and is 'maybe'."),
    ("monitoring.routes", {}, "monitoring.routes: must be a list, and is a section."),
    ("project_name", "Shop 1", "project_name: 'Shop 1' is not a name: use small letters, digits"),
    ("orchestration.tasks.train", {"cpu": "two"}, "orchestration.tasks.train.cpu: 'two' is no quantity"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "says"), SAID, ids=[row[0] for row in SAID])
def test_what_is_said(flights: dict, key: str, value: Any, says: str) -> None:
    given = copy.deepcopy(flights)
    here: Any = given
    *parents, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    for part in parents:
        here = here.setdefault(part, {}) if isinstance(here, dict) else here[part]
    here[last] = value
    with pytest.raises(ValidationError) as caught:
        Project.model_validate(given)
    assert says in settings_problems(caught.value, given, Project)
