"""How rows are split, and what a project without time may ask for: as the project file is loaded."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support.customers_world import CONFIG, customers, write_project
from support.trips_world import CONFIG as TRIPS

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.config.project import load_project
from slipway.components.support.errors import ProjectError


def with_changes(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A section with some settings replaced, by dotted path; None takes one out."""
    config = deepcopy(base)
    for path, value in changes.items():
        *sections, key = path.split(".")
        place: Any = config
        for section in sections:
            place = place[int(section) if section.isdigit() else section]
        if value is None:
            place.pop(key)
        else:
            place[key] = value
    return config


TIMED = [
    ({"split": {"validation": 0.1, "test": "2d"}}, "must both be durations, or both be shares"),
    ({"split": {"validation": 0.1, "test": 0.2}}, "say how, with `method: random`"),
    ({"split.method": "time", "split.test": 0.2, "split.validation": 0.1}, "are durations, as in"),
    ({"split.method": "random"}, "`method: random` draws rows: give validation and test as shares"),
    ({"split.method": "stratified"}, "`method: stratified` draws rows"),
    ({"split.method": "group"}, "`method: group` needs `by`"),
    ({"split.by": "driver"}, "`by` names the groups of `method: group`, and the method is time"),
    ({"split.seed": 1}, "`seed` has no effect where time cuts the parts"),
    ({"split": {"method": "random", "validation": 0.1, "test": 0.2, "gap": "1d"}},
     "`gap` has no effect where parts are drawn"),
    ({"split": {"method": "random", "validation": 0.5, "test": 0.5}}, "leave nothing to train on"),
    ({"split.validation": 31}, "give a duration, as in 31d, or a share of the rows, as in 0.15"),
    ({"split.validation": 1.0}, "give a duration, as in 31d, or a share of the rows, as in 0.15"),
]  # fmt: skip
UNTIMED = [
    ({"split": {"validation": "31d", "test": "61d"}},
     r"`examples` has no `time`, so that time cannot cut the parts: write"
     r" `split: {method: random, validation: 0.15, test: 0.2}`, or set `examples.time`"),
    ({"split": {"method": "group", "by": "city", "validation": "31d", "test": "61d"}},
     "time cannot cut the parts"),
    ({"examples.lead": "1h"}, "`lead` says how long before `time` a row is predicted: give `time`"),
    ({"label.known": "left"}, r"`label.known` \(left\) says nothing without `examples.time`"),
    ({"views.1.time": "since"}, "view place has `time`, and the examples have none"),
    ({"views.1.fields": None, "views.1.time": "since",
      "views.1.aggregates": {"n": {"function": "count", "window": "7d"}}},
     "view place aggregates the events before each example, and the examples have no time"),
    ({"views.0.fields.left": "churned"},
     "reads the label's column churned, which nobody knows at the prediction: leave that field out"),
    ({"views.0.entity": "city"}, "looks back on rows of the examples' own table customers by city,"
     " and the examples have no `time`"),
    ({"views.1.entity": "town"}, "of entity 'town', which is not among the entities"),
    ({"split": {"method": "group", "by": "label", "validation": 0.1, "test": 0.1}},
     "the key column label has a name that Slipway uses itself"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), TIMED, ids=[str(row[0]) for row in TIMED])
def test_a_split_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        FeaturesConfig.model_validate(with_changes(TRIPS, changes))


@pytest.mark.parametrize(("changes", "says"), UNTIMED, ids=[str(row[0]) for row in UNTIMED])
def test_without_time_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        FeaturesConfig.model_validate(with_changes(CONFIG, changes))


def test_a_section_survives_its_struct() -> None:
    for base in (TRIPS, CONFIG):
        config = FeaturesConfig.model_validate(base)
        assert FeaturesConfig.parse(config.to_struct(), "features") == config
    assert FeaturesConfig.model_validate(CONFIG).to_struct()["split"] == {
        "method": "random", "validation": 0.15, "test": 0.2, "gap": "0s",
    }  # fmt: skip


def test_a_split_by_time_is_the_struct_that_it_was() -> None:
    """What is left out stays out: a compiled pipeline is the same as before there were other splits."""
    config = FeaturesConfig.model_validate(TRIPS)
    assert config.to_struct()["split"] == {"validation": "2d", "test": "2d", "gap": "6h"}
    assert config.split_method == "time" and not config.split.drawn


def test_views_without_an_entity_are_of_the_example() -> None:
    config = FeaturesConfig.model_validate(CONFIG)
    own, place = config.views
    assert config.entity_keys == {"city": ("city",), "example": ("customer_id",)}
    assert (config.entity_of(own), config.keys_of(own)) == ("example", ("customer_id",))
    assert (config.entity_of(place), config.keys_of(place)) == ("city", ("city",))
    # An entity that is the example's own is not declared twice, and a name that is taken not given.
    named = with_changes(CONFIG, {"entities": {"one": "customer_id", "city": "city"}})
    config = FeaturesConfig.model_validate(named)
    assert config.entity_of(config.views[0]) == "one" and len(config.entity_keys) == 2
    config = FeaturesConfig.model_validate(
        with_changes(CONFIG, {"entities": {"example": "city"}, "views.1.entity": "example"})
    )
    assert config.entity_keys == {"example": ("city",), "example_": ("customer_id",)}


def test_a_project_without_time_resamples_rows_or_groups(tmp_path: Path) -> None:
    tables = customers(20)
    folder = write_project(tmp_path / "rows", tables, CONFIG)
    project = load_project(folder).project
    assert project.gate.block == "row" and project.data.window is None
    assert load_project(folder, {"gate.block": "city"}).project.gate.block == "city"
    grouped = with_changes(CONFIG, {"split.method": "group", "split.by": "city"})
    folder = write_project(tmp_path / "groups", tables, grouped)
    assert load_project(folder).project.gate.block == "city"


REFUSED = [
    ({"gate.block": "day"}, r"gate.block: 'day' is a stretch of time, and the examples have none."),
    ({"gate.block": "cty"}, r"gate.block: 'cty' is no feature and no key. Did you mean city\?"),
    ({"gate.slices.columns": "[month]", "gate.slices.least": "{auc: {min: 0.1}}"},
     r"'month' is no feature and no key. Name a feature or a key."),
    ({"monitoring.retraining.window": "60d"},
     r"without data.window a retraining reads all rows. Leave it out."),
    ({"data.tables.customers.time": "joined"},
     r"the table customers is cut by its `time` joined, and there is no `window` to cut it to"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "says"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_a_project_without_time_is_refused_at_load(
    tmp_path: Path, overrides: dict[str, str], says: str
) -> None:
    folder = write_project(tmp_path / "project", customers(20), CONFIG)
    with pytest.raises(ProjectError) as caught:
        load_project(folder, overrides)
    assert re.search(says, str(caught.value)), str(caught.value)


def test_examples_with_a_time_need_a_window(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", customers(20), CONFIG)
    with pytest.raises(
        ProjectError, match=r"data.window is missing: the examples have a time \(at\)"
    ):
        load_project(folder, {"features.examples.time": "at"})
