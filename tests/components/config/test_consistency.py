"""What fails a stage later on is said as the project file is loaded: with its place, before any work."""

import json
import re
import shutil
from pathlib import Path

import pytest

from slipway.components.config.checks.consistency import columns_read, required_columns
from slipway.components.config.project import load_data, load_project
from slipway.components.support.errors import ProjectError


@pytest.fixture
def folder(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository / "examples" / "flights", tmp_path / "flights"))


WRONG = [
    ({"features.split.test": "400d"}, r"features.split: 31d of validation, 400d of test .* Shorten"),
    ({"features.split.gap": "300d"}, r"features.split: .* gaps of 300d leave nothing to train on"),
    ({"monitoring.retraining.window": "60d"},
     r"monitoring.retraining.window: 31d of validation, 61d of test .*"),
    ({"gate.slices.columns": "[carier]", "gate.slices.least": "{auc: {min: 0.1}}"},
     r"gate.slices.columns: 'carier' is no feature and no key. Did you mean carrier\?"),
    ({"gate.slices.columns": "[zzzz]", "gate.slices.least": "{auc: {min: 0.1}}"},
     r"'zzzz' is no feature and no key. Name a feature, a key, or month."),
    ({"gate.block": "wek"}, r"gate.block: 'wek' is no feature and no key. Did you mean week\?"),
    ({"features.examples.beside": "[tailnumb]"},
     r"features.examples.beside.0: the schema's table flights has no column tailnumb"),
    ({"training.sample_weight": "distanz"},
     r"training.sample_weight: 'distanz' is no feature and no column of features.examples.beside"),
    ({"gate.weights": "distanz"},
     r"gate.weights: 'distanz' is no feature and no column of features.examples.beside"),
    ({"gate.weights": "tailnum"}, r"gate.weights: 'tailnum' is no feature and no column of"),
    ({"gate.fairness": "[{by: carier, measure: error, gap: 0.1}]"},
     r"gate.fairness: 'carier' is no feature, no key and no column beside them. Did you mean carrier"),
    ({"gate.fairness": "[{by: carrier, measure: error}]"}, r"give gap, ratio or both"),
    ({"gate.fairness": "[{by: dest, measure: error, gap: 1}, {by: dest, measure: error, gap: 2}]"},
     r"there are two rules of dest error"),
    ({"gate.fairness": "[{by: carrier, measure: error, gap: 0.1, positive: 1}]"},
     r"`positive` says nothing of `measure: error`"),
    ({"gate.fairness": "[{by: carrier, measure: selection_rate, gap: 0.1, positive: yes}]"},
     r"gate.fairness: the label has no class yes"),
    ({"gate.fairness": "[{by: carrier, measure: error, gap: 0.1, groups: [AA], leave_out: [AA]}]"},
     r"AA cannot be both in `groups` and in `leave_out`"),
    ({"gate.classes": "{late: {f1: 0.5}}"}, r"gate.classes: the label has no class late. It has 0, 1"),
    ({"gate.classes": "{1: {min_rows: 5}}"}, r"give f1, recall, precision or several of them"),
    ({"training.sets": "0.9"}, r"training.sets is for a label of kind multiclass"),
    ({"gate.coverage": "0.1"}, r"gate.coverage: features.label.kind is binary"),
    ({"training.threshold": "cost"}, r"training.threshold: `cost` needs features.label.costs"),
    ({"gate.metrics": "{expected_cost: {max: 1}}"}, r"gate.metrics.expected_cost: .* measured by"),
    ({"features.label.column": "arr_dely"},
     r"features.label.column: the schema's table flights has no column arr_dely. Did you mean arr_delay"),
    ({"features.examples.key": "flightid"}, r"by flight_id, .*the entity whose key is flightid"),
    ({"features.examples.key": "flightid", "features.entities.flight": "flightid"},
     r"features.examples.key: .*flights has no column flightid\."),
    ({"features.examples.table": "flight"}, r"data.tables has no flight. Did you mean flights\?"),
    ({"data.tables.weather.columns": "[origin, observed]"},
     r"features.views.\d.fields.\w+: data.tables.weather.columns has no column"),
    ({"data.tables.weather.path": "flights/"},
     r"features.views.\d.table: weather is read from the same path as the examples' table flights"),
    ({"features.derived": "{far: miles + operator}"},
     r"features.derived.far: \+ takes number, number, and is given number, text in"),
    ({"features.derived": "{far: 'mils > 500'}"},
     r"features.derived.far: there is no mils \(did you mean miles\?\); there are "),
    ({"features.derived": "{far: nothing > 5, near: not far}"},
     r"features.derived.far: there is no nothing; there are"),
    ({"features.derived": "{a: b + 1, b: a}"}, r"features.derived: a reads b reads a: an expression"),
    ({"features.derived": "{a: 'hour('}"}, r"features.derived.a: 'hour\(' is not an expression"),
    ({"data.tables.more": "{path: more}"}, r"schemas/input.json does not name the table more. `slipway"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "says"), WRONG, ids=[next(iter(row[0])) for row in WRONG])
def test_is_refused_at_load(folder: Path, overrides: dict[str, str], says: str) -> None:
    with pytest.raises(ProjectError) as caught:
        load_project(folder, overrides)
    assert re.search(says, str(caught.value)), str(caught.value)
    assert re.match(rf"--set |{folder}/project.yaml:\d+: ", str(caught.value))


def test_an_expression_is_refused_with_its_line(folder: Path) -> None:
    """Types are known from the schema; a table's column has its name."""
    file = folder / "project.yaml"
    text = file.read_text()
    view = "    - name: aircraft_delays"
    assert view in text and "features:\n" in text
    made = (
        "      columns:\n        ok: arr_delay > 15\n        bad: tailnum + 1\n        dest: ok\n"
    )
    lines = text.split("\n")
    place = next(n for n, line in enumerate(lines) if line.startswith(view))
    lines.insert(place + 1, made.rstrip("\n"))
    file.write_text("\n".join(lines))
    with pytest.raises(ProjectError) as caught:
        load_project(folder)
    said = str(caught.value).split("\n")
    number = place + 4
    assert re.search(rf":{number}: features.views.\d.columns.bad: \+ takes number, number", said[1])
    assert re.search(rf":{number + 1}: features.views.\d.columns.dest: table flights has", said[0])


def test_a_text_cannot_weigh_rows(folder: Path) -> None:
    """The schema says what a column beside the features is; where it says a number, it can."""
    file = folder / "schemas/input.json"
    schema = json.loads(file.read_text())
    columns = schema["tables"]["flights"]["properties"]
    columns |= {"fare_class": {"type": ["string", "null"]}, "seats_sold": {"type": "integer"}}
    file.write_text(json.dumps(schema))
    beside = {"features.examples.beside": "[fare_class, seats_sold]"}
    with pytest.raises(
        ProjectError, match=r"fare_class of table flights is a text; rows are weighed"
    ):
        load_project(folder, {**beside, "gate.weights": "fare_class"})
    assert load_project(folder, {**beside, "gate.weights": "seats_sold"}).project.gate.weights


def test_a_schema_of_other_tables_is_refused_at_load(folder: Path) -> None:
    file = folder / "schemas/input.json"
    schema = json.loads(file.read_text())
    schema["tables"]["flight"] = schema["tables"].pop("flights")
    file.write_text(json.dumps(schema))
    with pytest.raises(ProjectError) as caught:
        load_project(folder)
    assert "does not name the table flights" in str(caught.value)
    assert "names the table flight, which data.tables does not have. Did you mean" in str(
        caught.value
    )


def test_a_schema_that_admits_other_columns_says_nothing_of_them(folder: Path) -> None:
    file = folder / "schemas/input.json"
    schema = json.loads(file.read_text())
    del schema["tables"]["flights"]["properties"]["arr_delay"]
    schema["tables"]["flights"]["required"].remove("arr_delay")
    file.write_text(json.dumps(schema))
    with pytest.raises(ProjectError, match=r"has no column arr_delay"):
        load_project(folder)
    schema["tables"]["flights"]["additionalProperties"] = True
    file.write_text(json.dumps(schema))
    load_project(folder)


def test_a_project_whose_schema_is_still_to_be_written(folder: Path) -> None:
    (folder / "schemas/input.json").unlink()
    data, schema = load_data(folder)
    assert (next(iter(data.tables)), schema) == ("flights", folder / "schemas/input.json")


def test_columns_that_examples_need(folder: Path) -> None:
    features = load_project(folder).project.features
    required = required_columns(features)
    assert list(required) == ["flights"]
    assert required["flights"]["arr_delay"] == "features.label.column"
    read = {(table, column) for _, table, column in columns_read(features)}
    assert {("weather", "observed"), ("flights", "arrival"), ("weather", "temp")} <= read
