"""What does not fit the label is refused as the project file is loaded, and what fits is not."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.components.config.model import Project
from slipway.components.config.project import load_project
from slipway.components.support.errors import ProjectError

COLUMNS = {
    "id": {"type": "string"},
    "a": {"type": ["number", "null"]},
    "b": {"type": "string"},
    "done": {"type": "boolean"},
    "at": {"type": "string", "format": "date-time"},
}
DRAWN = {"method": "random", "validation": 0.2, "test": 0.2}


def load(folder: Path, label: dict[str, Any], field: str, **sections: Any) -> Project:
    project = {
        "project_name": "t",
        "data": {"root": "build", "tables": {"rows": {"path": "rows.parquet"}}},
        "schema": "s.json",
        "features": {
            "examples": {"table": "rows", "key": "id", "beside": sections.pop("beside", [])},
            "label": label,
            "split": sections.pop("split", DRAWN),
            "views": [{"name": "v", "table": "rows", "fields": {field: field}}],
        },
        **sections,
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(project))
    (folder / "s.json").write_text(json.dumps({"tables": {"rows": {"properties": COLUMNS}}}))
    return load_project(folder).project


NUMBER = {"column": "a", "kind": "number"}
TEXT = {"column": "b", "kind": "multiclass"}
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"column": "b", "kind": "number"}, {}, "features.label.column: by the schema, b of table rows is"
     " a text: `kind: number` predicts numbers"),
    ({"column": "done", "kind": "number"}, {}, "is a boolean: `kind: number` predicts numbers"),
    ({"column": "at", "kind": "number"}, {}, "is a time: no label is made of times"),
    ({"column": "at", "kind": "multiclass"}, {}, "is a time: no label is made of times"),
    ({"column": "b"}, {}, "b of table rows is a text: write `positive`"),
    ({"column": "b", "above": 3}, {}, "b of table rows is a text: `above` compares numbers"),
    (NUMBER, {"split": {**DRAWN, "method": "stratified"}}, "and a number has none: write `method"),
    (TEXT, {"split": {**DRAWN, "method": "group", "by": "b"}}, "`split.by` is b, which says what is"),
    ({**TEXT, "costs": {"x": {"x": 5}}}, {}, "answering any other class where x is true costs 1, less"),
    ({**TEXT, "classes": ["x", "y"], "merge_rare": "z", "costs": {"x": {"x": 2, "y": 3}}}, {},
     "answering z where x is true costs 1, less than the right answer"),
    ({**TEXT, "unknown": ["?"], "merge_rare": "?"}, {}, r"? cannot be both `merge_rare` and `unknown`"),
    (NUMBER, {"monitoring": {"alerts": {"accuracy": 0.9}}},
     "monitoring.alerts.accuracy: features.label.kind is number, which never raises LOW_ACCURACY"),
    (NUMBER, {"monitoring": {"retraining": {"reasons": ["ACCURACY_DROP"]}}},
     "monitoring.retraining.reasons: features.label.kind is number, which never raises ACCURACY_DROP"),
    (TEXT, {"monitoring": {"alerts": {"coverage": 0.1}}},
     "features.label.kind is multiclass without training.sets, which never raises COVERAGE"),
    ({"column": "done"}, {"monitoring": {"rules": {"NEW_CLASS": {"enabled": False}}}},
     "monitoring.rules.NEW_CLASS: features.label.kind is binary, which never raises NEW_CLASS"),
    ({"column": "done"}, {"monitoring": {"alerts": {"error_rise": 0.1}}}, "never raises ERROR_RISE"),
    (TEXT, {"beside": ["done"], "training": {"sample_weight": "done"}},
     "training.sample_weight: by the schema, done of table rows is a boolean; rows are weighed by a"),
    (TEXT, {"field": "at", "gate": {"weights": "at"}}, "gate.weights: by the schema, at of table rows"),
]  # fmt: skip


@pytest.mark.parametrize(("label", "sections", "says"), REFUSED, ids=[row[2] for row in REFUSED])
def test_is_refused_at_load(
    tmp_path: Path, label: dict[str, Any], sections: dict[str, Any], says: str
) -> None:
    field = "a" if label["column"] != "a" else "b"
    with pytest.raises(ProjectError) as caught:
        load(tmp_path, label, **{"field": field, **sections})
    assert says in str(caught.value), str(caught.value)


TAKEN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (NUMBER, {"monitoring": {"alerts": {"coverage": 0.1, "error_rise": 0.5}}}),
    (NUMBER, {"split": {**DRAWN, "method": "group", "by": "b"}}),
    (TEXT, {"training": {"sets": 0.9}, "monitoring": {"alerts": {"coverage": 0.1}}}),
    (TEXT, {"monitoring": {"rules": {"NEW_CLASS": {"enabled": False}}, "alerts": {"accuracy": 0.7}}}),
    (TEXT, {"split": {**DRAWN, "method": "stratified"}, "beside": ["a"], "gate": {"weights": "a"},
            "field": "done"}),
    ({**TEXT, "costs": {"x": {"x": 1, "y": 4}}}, {}),
    ({"column": "done", "kind": "multiclass"}, {}),
    ({"column": "a", "kind": "multiclass"}, {}),
    ({"column": "b", "positive": "yes"}, {}),
    ({"column": "a", "above": 3}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("label", "sections"), TAKEN)
def test_is_taken(tmp_path: Path, label: dict[str, Any], sections: dict[str, Any]) -> None:
    field = "at" if label["column"] == "a" else "a"
    load(tmp_path, label, **{"field": field, **sections})


def test_a_class_that_yaml_reads_as_a_boolean_or_a_number_is_the_class(tmp_path: Path) -> None:
    """As it is named in the table, wherever the file names it as a key."""
    label = {"column": "b", "kind": "multiclass", "costs": {True: {7: 3, 2.0: 4}}}
    made = load(
        tmp_path,
        label,
        "a",
        training={"class_weights": {True: 2, 7: 3.0}},
        gate={"classes": {False: {"f1": 0.5}, 1.0: {"f1": 0.5}}},
    )
    assert made.features.label.costs == {"true": {"7": 3, "2": 4}}
    assert made.training.class_weights == {"true": 2, "7": 3}
    assert set(made.gate.classes) == {"false", "1"}
