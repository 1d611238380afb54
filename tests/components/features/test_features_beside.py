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
from support.trips_world import CONFIG, DAY, HOUR, START, WINDOW, trips_table, world

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.contracts.feature_store import locate
from slipway.components.contracts.splits import PARTS, UNLABELLED, read_part, read_splits
from slipway.components.features.backfill import backfill_features
from slipway.components.features.features import build_features
from slipway.components.features.look_up import look_up_features
from slipway.components.features.store.registry import open_store
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


def _window(day: int = 9) -> Any:
    from slipway.components.config.data import parse_window

    return parse_window(f"2024-01-{day:02d}T00:00:00Z", f"2024-01-{day + 1:02d}T00:00:00Z")


MOVES = pl.DataFrame(
    {
        "person": [0, 0, 1, 1, 2, 9],
        "moved": [START + n * DAY for n in (0, 8, 1, 9, 3, 0)],
        "region": ["hill", "lake", "lake", None, "shore", "hill"],
        "rent": [9, 12, 8, 7, 11, 1],
    }
)
HOMES = {
    "name": "homes",
    "entity": "driver",
    "source_key": "person",
    "table": "moves",
    "time": "moved",
    "columns": {"dear": "rent > 8"},
    "fields": {"home": "region", "rent": "rent", "dear": "dear"},
}
JOINED = ["home", "rent", "dear"]


def joined_config(**changes: Any) -> dict[str, Any]:
    """A view of another table, all of whose features travel beside the model's."""
    made = config(beside=["sex", *JOINED])
    made["views"].append({**HOMES, **changes})
    return made


def test_a_view_of_another_table_is_joined_beside_the_features(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    """Point in time as every view, and then in the three tables alone."""
    made = {**tables(), "moves": MOVES}
    dataset = make_dataset(made, WINDOW)
    result = build_features(dataset, "small-world", joined_config(), tmp_path / "splits")
    assert result.beside == {
        "sex": "large_string",
        "home": "large_string",
        "rent": "double",
        "dear": "bool",
    }
    plain = build_features(dataset, "small-world", config(), tmp_path / "plain")
    assert result.features == plain.features and result.entities == plain.entities
    assert result.sources == () and set(result.nulls["train"]) == set(plain.nulls["train"])
    asked = made["trips"].with_columns(at=pl.col("starts") - HOUR).sort("at")
    moves = MOVES.sort("moved")
    truth = asked.join_asof(
        moves,
        left_on="at",
        right_on="moved",
        by_left="driver",
        by_right="person",
        check_sortedness=False,
    ).select("trip_id", home="region", rent=pl.col("rent").cast(float), dear=pl.col("rent") > 8)
    seen: set[Any] = set()
    for part in PARTS:
        rows = pl.DataFrame(read_part(tmp_path / "splits", part))
        joined = rows.join(truth, on="trip_id", how="left", maintain_order="left", suffix="_true")
        for name in JOINED:
            assert rows[name].equals(joined[f"{name}_true"], null_equal=True), name
        seen |= set(rows["home"])
    assert seen == {"hill", "lake", "shore", None}


def test_nothing_that_serves_has_what_is_joined_beside(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    """Neither the online store, nor the service that endpoints ask, nor rows to predict."""
    dataset = make_dataset({**tables(), "moves": MOVES}, WINDOW)
    build_features(dataset, "small-world", joined_config(), tmp_path / "splits")
    place = locate("small-world")
    store = open_store(place)
    views = {view.name: view for view in store.list_feature_views()}
    assert not views["homes"].online and views["person"].online
    service = store.get_feature_service(place.project)
    assert {view.name for view in service.feature_view_projections} == set(views) - {"homes"}
    kept = b"".join(file.read_bytes() for file in store_uri.rglob("online*.db"))
    assert kept and b"lake" not in kept and b"shore" not in kept
    scored = look_up_features(dataset, "small-world", joined_config(), _window(), tmp_path / "rows")
    assert scored.rows == 24
    assert not {*JOINED, "sex"} & set(pl.read_parquet_schema(tmp_path / "rows" / "rows.parquet"))
    record = backfill_features(
        dataset, "small-world", joined_config(), _window(6), True, tmp_path / "record.json"
    )
    assert record.views["homes"].online == 0
    kept = b"".join(file.read_bytes() for file in store_uri.rglob("online*.db"))
    assert b"lake" not in kept and b"shore" not in kept


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
        {"beside": ["driver_trips"]},
        "feature driver_trips of view driver_delays has the name of a column of `examples.beside`",
    ),
]
JOINED_REFUSED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (
        lambda made: made["examples"].update(beside=["home"]),
        r"view homes joins home, which `examples.beside` keeps out of the model, and dear, rent, which"
        r" the model takes: make it two views",
    ),
    (
        lambda made: made["examples"].update(also_features=["home"]),
        "`also_features` names home, which view homes joins",
    ),
    (
        lambda made: made.update(derived={"cheap": "rent < 3"}),
        "a derived feature is made of rent, which `examples.beside` keeps out of the model",
    ),
    (
        lambda made: made.update(ngrams={"home": {}}),
        "a derived feature is made of home, which `examples.beside` keeps out of the model",
    ),
    (
        lambda made: made.update(views=made["views"][-1:]),
        "`examples.beside` leaves the model without a feature",
    ),
]


@pytest.mark.parametrize(
    ("change", "says"), JOINED_REFUSED, ids=[c[1][:40] for c in JOINED_REFUSED]
)
def test_a_joined_column_that_the_model_would_see_is_refused_at_load(
    change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    made = joined_config()
    assert FeaturesConfig.model_validate(made).joined_beside == JOINED
    change(made)
    with pytest.raises(ValidationError, match=says):
        FeaturesConfig.model_validate(made)


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
