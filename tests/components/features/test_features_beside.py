"""Columns that travel beside the features: in the three tables, and nowhere else."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from support.trips_world import CONFIG, WINDOW, trips_table, world

from slipway.components.config.features import FeaturesConfig
from slipway.components.contracts.feature_store import locate
from slipway.components.contracts.splits import PARTS, UNLABELLED, read_part, read_splits
from slipway.components.features.features import build_features
from slipway.components.features.look_up import look_up_features
from slipway.components.features.registry import open_store
from slipway.components.support.errors import SlipwayError

MakeDataset = Callable[..., Path]
BESIDE = ["sex", "importance"]


def config(**examples: Any) -> dict[str, Any]:
    made = deepcopy(CONFIG)
    made["examples"].update({"beside": BESIDE, **examples})
    return made


def tables() -> dict[str, pl.DataFrame]:
    """The small world, whose trips have a passenger's sex (at times not known) and a weight."""
    number = pl.int_range(pl.len())
    sex = pl.when(number % 7 == 0).then(None).when(number % 2 == 0).then(pl.lit("f"))
    made = world()
    made["trips"] = trips_table().with_columns(
        sex=sex.otherwise(pl.lit("m")), importance=(number % 3 + 1).cast(pl.Int32)
    )
    return made


def test_they_are_in_the_three_tables_and_nowhere_else(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    made = tables()
    dataset = make_dataset(made, WINDOW)
    output = tmp_path / "splits"
    result = build_features(dataset, "small-world", config(), output)
    assert read_splits(output) == result
    assert result.beside == {"sex": "large_string", "importance": "int32"}
    assert not set(BESIDE) & {feature.name for feature in result.features}
    assert not set(BESIDE) & set(result.entities)
    truth = made["trips"].select("trip_id", *BESIDE)
    for part in (*PARTS, None):
        rows = pl.DataFrame(
            read_part(output, part) if part else pq.read_table(output / UNLABELLED)  # type: ignore[arg-type]
        )
        joined = rows.join(truth, on="trip_id", how="left", maintain_order="left", suffix="_true")
        for name in BESIDE:
            assert rows[name].equals(joined[f"{name}_true"], null_equal=True)
        assert rows["sex"].null_count() > 0
    place = locate("small-world")
    for view in CONFIG["views"]:
        assert not set(BESIDE) & set(pl.read_parquet_schema(place.table(view["name"])))
    known = [
        field.name
        for view in open_store(place).list_feature_views()
        for field in (*view.features, *view.entity_columns)
    ]
    assert "miles" in known and not set(BESIDE) & set(known)
    scored = look_up_features(
        dataset, "small-world", config(), None or _window(), tmp_path / "rows"
    )
    assert scored.rows == 24
    assert not set(BESIDE) & set(pl.read_parquet_schema(tmp_path / "rows" / "rows.parquet"))


def _window() -> Any:
    from slipway.components.config.data import parse_window

    return parse_window("2024-01-09T00:00:00Z", "2024-01-10T00:00:00Z")


def test_without_them_the_files_are_as_they_were(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    dataset = make_dataset(tables(), WINDOW)
    build_features(dataset, "small-world", CONFIG, tmp_path / "splits")
    assert '"beside"' not in (tmp_path / "splits" / "splits.json").read_text()
    assert "sex" not in read_part(tmp_path / "splits", "test").column_names


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"beside": ["sex", "sex"]}, "`beside` names sex twice"),
    (
        {"beside": ["miles"]},
        "view plan makes a feature of miles, which `examples.beside` keeps out",
    ),
    ({"beside": ["sex"], "also_features": ["miles"]}, "names miles, which `beside` does not"),
    ({"beside": ["driver"]}, "`examples.beside` names driver, which is a key: leave it out"),
    ({"beside": ["trip_id"]}, "names trip_id, which is a key"),
    ({"beside": ["delay"]}, "names delay, which is the label"),
    ({"beside": ["starts"]}, "names starts, which is the examples' time"),
    ({"beside": ["probability"]}, "has a name that Slipway uses itself"),
    (
        {"beside": ["age"]},
        "feature age of view person has the name of a column of `examples.beside`",
    ),
]


@pytest.mark.parametrize(("examples", "says"), REFUSED, ids=[str(case[0]) for case in REFUSED])
def test_what_contradicts_itself_is_refused_at_load(examples: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        FeaturesConfig.model_validate(config(**examples))


def test_a_column_that_is_a_feature_too_must_be_said_so() -> None:
    made = config(beside=["miles"], also_features=["miles"])
    made["views"][0]["fields"]["distance"] = made["views"][0]["fields"].pop("miles")
    assert FeaturesConfig.model_validate(made).examples.also_features == ["miles"]
    # A history of the column is a feature of it too.
    history = deepcopy(CONFIG)
    history["examples"]["beside"] = ["miles"]
    del history["views"][0]["fields"]["miles"]
    history["views"][3]["aggregates"]["driver_miles"] = {
        "function": "mean",
        "column": "miles",
        "window": "1d",
    }
    with pytest.raises(ValidationError, match="view driver_delays makes a feature of miles"):
        FeaturesConfig.model_validate(history)


def test_costs_travel_with_the_tables(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    dataset = make_dataset(tables(), WINDOW)
    made = deepcopy(CONFIG)
    made["label"]["costs"] = {"1": {"0": 5}}
    assert build_features(dataset, "small-world", made, tmp_path / "a").costs == {"1": {"0": 5.0}}
    made["label"] = {"column": "zone", "kind": "multiclass", "costs": {"north": {"west": 2}}}
    made["views"] = made["views"][1:2]
    with pytest.raises(SlipwayError, match=r"costs names west, which is no class of column zone"):
        build_features(dataset, "small-world", made, tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda trips: trips.drop("sex"), "sex"),
        (
            lambda trips: trips.with_columns(sex=pl.concat_list("sex", "sex")),
            r"column sex of table 'trips' is List\(String\); texts, numbers, booleans and times",
        ),
    ],
    ids=["missing", "a list"],
)
def test_a_column_that_cannot_travel_is_refused(
    change: Callable[[pl.DataFrame], pl.DataFrame],
    says: str,
    make_dataset: MakeDataset,
    store_uri: Path,
    tmp_path: Path,
) -> None:
    made = tables()
    made["trips"] = change(made["trips"])
    with pytest.raises(SlipwayError, match=says):
        build_features(make_dataset(made, WINDOW), "small-world", config(), tmp_path / "splits")
    assert not (tmp_path / "splits").exists()


def test_the_arrow_types_are_those_of_the_tables(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    dataset = make_dataset(tables(), WINDOW)
    result = build_features(dataset, "small-world", config(), tmp_path / "splits")
    schema: pa.Schema = read_part(tmp_path / "splits", "test").schema
    assert {name: str(schema.field(name).type) for name in BESIDE} == result.beside
