"""Expressions on columns and on features: training, the online path, a backfill and scoring agree."""

import random
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError
from support.trips_world import CONFIG, WINDOW, world

from slipway.components.config.data import Window
from slipway.components.config.features.features import FeaturesConfig
from slipway.components.contracts.bundle import Bundle, model_inputs
from slipway.components.contracts.feature_rows import ROWS
from slipway.components.contracts.feature_store import locate
from slipway.components.contracts.rows.requests import v2_inputs
from slipway.components.contracts.splits import LABEL, PARTS, Splits, read_part, read_splits
from slipway.components.features.backfill import backfill_features
from slipway.components.features.features import build_features
from slipway.components.features.look_up import look_up_features
from slipway.components.support.errors import SlipwayError
from slipway.serving.errors import RequestError
from slipway.serving.protocol.rows import RowReader

MakeDataset = Callable[..., Path]
DERIVED = {
    "rush": "hour(leaves) in [7, 8]",
    "per_trip": "ratio(miles, driver_trips, 0)",
    "corridor": "prefix(to, 2) if night or rush else None",
    "tired": "per_trip * 2 > coalesce(driver_delay, 0)",
    "band": "bucket(age, 35, 50)",
    "lasting": "driver_last",
    "when": "leaves if night else None",
}


def config() -> dict[str, Any]:
    made = deepcopy(CONFIG)
    past = made["views"][3]
    past["columns"] = {"late": "delay > 10", "far": "miles > 5 and late", "side": "prefix(zone, 1)"}
    past["aggregates"] |= {
        "late_share": {"function": "mean", "column": "late", "window": "1d"},
        "far_late": {"function": "sum", "column": "far", "window": "1d"},
        "usual_side": {"function": "most_common", "column": "side", "window": "1d"},
    }
    made["views"][1]["columns"] = {"decade": "age // 10", "old": "age >= 50"}
    made["views"][1]["fields"] |= {"decade": "decade", "old": "old"}
    made["derived"] = dict(DERIVED)
    made["not_inputs"] = ["to", "driver_last"]
    made["views"][2]["fields"]["story"] = "story"
    made["ngrams"] = {"story": {"of": "words", "n": [1, 2], "buckets": 5}}
    return made


def told() -> dict[str, pl.DataFrame]:
    """The tables, and a text of the weather."""
    tables = world()
    r = random.Random(2)
    words = ["rain", "Regen", "日", "no", "Wind", "\U0001f600", "or"]
    stories = [
        r.choice([None, "", " ".join(r.choices(words, k=r.randrange(1, 9)))])
        for _ in range(tables["weather"].height)
    ]
    tables["weather"] = tables["weather"].with_columns(pl.Series("story", stories, pl.String))
    return tables


@pytest.fixture
def built(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> tuple[Splits, pl.DataFrame]:
    """The splits and all their rows; behind these the features that are no inputs."""
    dataset = make_dataset(told(), WINDOW)
    build_features(dataset, "trips", config(), tmp_path / "splits")
    whole = config()
    whole["not_inputs"] = []
    whole["derived"]["text"] = whole["derived"]["same"] = "coalesce(story, story)"
    build_features(dataset, "all", whole, tmp_path / "all")
    rows, every = (
        pl.concat([pl.DataFrame(read_part(tmp_path / name, part)) for part in PARTS])
        for name in ("splits", "all")
    )
    assert_frame_equal(rows, every.select(rows.columns))
    return read_splits(tmp_path / "splits"), every


def bundle_of(splits: Splits) -> Bundle:
    return Bundle(
        name=splits.project,
        features=splits.features,
        key=splits.key,
        entities=splits.entities,
        feature_service=splits.feature_service,
        threshold=0.5,
        vocabularies={},
        data_hash="",
        sources=splits.sources,
        derived=splits.derived,
    )


def test_the_tables_have_what_the_expressions_say(built: tuple[Splits, pl.DataFrame]) -> None:
    splits, rows = built
    kinds = {feature.name: feature.kind for feature in splits.features}
    assert {name: kinds[name] for name in DERIVED} == {
        "rush": "boolean", "per_trip": "numeric", "corridor": "categorical", "tired": "boolean",
        "band": "numeric", "lasting": "numeric", "when": "time",
    }  # fmt: skip
    assert [feature.name for feature in splits.sources] == ["to", "story", "driver_last"]
    assert not {"to", "driver_last", "story"} & set(kinds)
    grams = [f"story_gram_{bucket}" for bucket in range(5)]
    assert [feature.name for feature in splits.features][-5:] == grams
    words = rows["text"].str.to_lowercase().str.extract_all(r"\w+").list.len()
    words = words.fill_null(0).cast(pl.Int64)
    counted = words + (words - 1).clip(0)
    assert rows.select(pl.sum_horizontal(grams)).to_series().to_list() == counted.to_list()
    assert counted.sum() > 100
    assert kinds["old"] == "boolean" and kinds["usual_side"] == "categorical"
    assert {name: splits.derived[name] for name in DERIVED} == DERIVED
    c = pl.col
    rush = c("leaves").dt.hour().is_in([7, 8])
    per_trip = pl.when(c("driver_trips") == 0).then(0.0).otherwise(c("miles") / c("driver_trips"))
    at_night = c("night") | rush
    wanted = rows.select(
        rush=rush,
        per_trip=per_trip,
        corridor=pl.when(at_night).then(c("to").str.slice(0, 2)),
        tired=per_trip * 2 > c("driver_delay").fill_null(0),
        band=(c("age") >= 35).cast(pl.Float64) + (c("age") >= 50).cast(pl.Float64),
        lasting=c("driver_last"),
        when=pl.when(c("night")).then(c("leaves")),
    )
    assert_frame_equal(rows.select(*DERIVED), wanted)
    assert all(0 < rows[name].null_count() + 1 <= rows.height for name in DERIVED)
    assert rows.select("decade").equals(rows.select(decade=(c("age") // 10)))
    assert 0 < rows["late_share"].drop_nulls().mean() < 1
    assert set(rows["usual_side"].drop_nulls()) == {"n", "s"}


def test_columns_of_a_view_are_those_of_the_source(
    built: tuple[Splits, pl.DataFrame], make_dataset: MakeDataset, tmp_path: Path
) -> None:
    """The same view over a table that has the columns already."""
    tables = told()
    tables["trips"] = tables["trips"].with_columns(
        late=pl.col("delay") > 10,
        far=(pl.col("miles") > 5) & (pl.col("delay") > 10),
        side=pl.col("zone").str.slice(0, 1),
    )
    plain = config()
    del plain["views"][3]["columns"]
    build_features(make_dataset(tables, WINDOW, "made"), "made", plain, tmp_path / "made")
    made = pl.read_parquet(locate("made").table("driver_delays"))
    assert_frame_equal(made, pl.read_parquet(locate("trips").table("driver_delays")))


def test_a_request_that_brings_no_derived_value_is_one_that_brings_all(
    built: tuple[Splits, pl.DataFrame],
) -> None:
    """What a request leaves out is made of what it brings: for all rows at once, and one at a time."""
    splits, rows = built
    bundle = bundle_of(splits)
    reader = RowReader(bundle, max_rows=1000, missing_as_null=False)
    arrow = rows.rename({"text": "story"}).to_arrow(compat_level=pl.CompatLevel.oldest())
    wanted = model_inputs(bundle, arrow)
    base = [f for f in (*splits.features, *splits.sources) if f.name not in splits.derived]
    requests = [
        (v2_inputs(base, arrow), slice(None)),
        (v2_inputs(splits.features, arrow), slice(None)),
    ]
    requests += [(v2_inputs(base, arrow.slice(n, 1)), slice(n, n + 1)) for n in range(60)]
    # A value that came stands, and what reads it reads it as it came.
    requests.append(
        (v2_inputs([*base, *(f for f in splits.features if f.name == "rush")], arrow), slice(None))
    )
    for tensors, place in requests:
        for _ in range(2):  # a layout that came before is read in another way
            read = reader.read(deepcopy(tensors))
            np.testing.assert_array_equal(read.numeric.astype(np.float32), wanted["numeric"][place])
            np.testing.assert_array_equal(read.categorical, wanted["categorical"][place])
            np.testing.assert_array_equal(read.time, wanted["time"][place])
    sent = [t for t in v2_inputs(base, arrow.slice(0, 1)) if t["name"] != "driver_trips"]
    sent.append({"name": "per_trip", "datatype": "FP64", "shape": [1], "data": [900.0]})
    with pytest.raises(RequestError, match="lacks the input 'driver_trips'"):
        reader.read(sent)
    sent.append({"name": "driver_trips", "datatype": "FP64", "shape": [1], "data": [0.0]})
    one = reader.read(sent).numeric[0]
    assert one[bundle.numeric.index("per_trip")] == 900
    assert one[bundle.numeric.index("tired")] == 1


def test_what_a_derived_input_is_made_of_must_be_there(built: tuple[Splits, pl.DataFrame]) -> None:
    splits, rows = built
    rows = rows.rename({"text": "story"})
    arrow = rows.head(1).to_arrow(compat_level=pl.CompatLevel.oldest())
    reader = RowReader(bundle_of(splits), max_rows=10, missing_as_null=False)
    tensors = [
        t for t in v2_inputs(splits.features, arrow) if t["name"] not in ("corridor", "lasting")
    ]
    with pytest.raises(RequestError, match="lacks the inputs 'to', 'driver_last'"):
        reader.read(tensors)
    lenient = RowReader(bundle_of(splits), max_rows=10, missing_as_null=True)
    assert lenient.read(tensors).categorical[0][0] is not None
    keys = [
        {"name": name, "datatype": "BYTES", "shape": [1], "data": ["1"]} for name in splits.entities
    ]
    assert {f.name for f in reader.absent([*tensors, *keys])} == {"to", "driver_last"}
    rest = [t for t in tensors if t["name"] != "story_gram_3"]
    assert {f.name for f in reader.absent([*rest, *keys])} == {"to", "driver_last", "story"}
    whole = v2_inputs(splits.features, arrow)
    assert reader.absent([*whole, *keys]) == []
    # V1 brings the same.
    base = [f for f in (*splits.features, *splits.sources) if f.name not in splits.derived]
    instance = {t["name"]: t["data"][0] for t in v2_inputs(base, arrow)}
    made = reader.read(reader.instance_tensors([instance]))
    np.testing.assert_array_equal(made.numeric, reader.read(whole).numeric)
    del instance["to"]
    with pytest.raises(RequestError, match="Instance 0 lacks the input 'to'"):
        reader.instance_tensors([instance])


def test_scoring_and_a_backfill_make_the_same(
    built: tuple[Splits, pl.DataFrame], make_dataset: MakeDataset, tmp_path: Path
) -> None:
    start = datetime(2024, 1, 9, tzinfo=UTC)
    given = config()
    for view in given["views"]:
        if "time" in view:
            view["ttl"] = view.get("ttl", "3d")
    dataset = make_dataset(told(), WINDOW, "again")
    build_features(dataset, "scored", given, tmp_path / "scored")
    trained = pl.DataFrame(read_part(tmp_path / "scored", "test")).drop(LABEL)
    window = Window(start=start, end=start + timedelta(days=2))
    look_up_features(dataset, "scored", given, window, tmp_path / "rows")
    rows = pl.read_parquet(tmp_path / "rows" / ROWS)
    scored = rows.join(trained.select("trip_id"), on="trip_id").select(trained.columns)
    assert_frame_equal(scored, trained)
    table = locate("scored").table("driver_delays")
    before = pl.read_parquet(table)
    around = Window(start=start - timedelta(days=5), end=start - timedelta(days=3))
    backfill_features(dataset, "scored", given, around, False, tmp_path / "record.json")
    assert_frame_equal(pl.read_parquet(table), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"derived": {"x": "y", "y": "x + 1"}},
            "x reads y reads x: an expression cannot read itself",
        ),
        ({"derived": {"x": "miles +"}}, "'miles +' is not an expression"),
        ({"derived": {"miles": "age"}}, "the derived feature miles has a name that is taken"),
        (
            {"derived": {"driver": "age"}},
            "the derived feature driver has a name that is taken by a key",
        ),
        ({"derived": {"label": "age"}}, "the derived feature label has a name that Slipway uses"),
        (
            {"not_inputs": ["age"], "derived": {}},
            "`not_inputs` names age, which no derived feature",
        ),
        ({"view": {"columns": {"x": "z", "z": "x"}}}, "x reads z reads x"),
        (
            {"view": {"columns": {"x": "delay > 1"}, "fields": {"x": "x"}}},
            "view plan reads the label's column delay before the label is known",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused_when_the_file_is_read(
    change: dict[str, Any], words: str
) -> None:
    made = deepcopy(CONFIG)
    made["views"][0] |= change.pop("view", {})
    with pytest.raises(ValidationError) as caught:
        FeaturesConfig.model_validate(made | change)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"derived": {"x": "hour(miles)"}},
            "features.derived: x: hour takes time, and is given number",
        ),
        ({"derived": {"x": "mile"}}, "there is no mile (did you mean miles?); there are age, "),
        ({"derived": {"x": "driver"}}, "there is no driver"),
        ({"ngrams": {"miles": {}}}, "grams takes text, text"),
        ({"ngrams": {"story": {}}}, "there is no story"),
        ({"columns": {"z": "zone + 1"}}, "features.views.plan.columns: z: + takes number, number"),
        ({"columns": {"zone": "miles"}}, "table trips has a column zone: give it another name"),
        (
            {"columns": {"z": "nothing"}},
            "view plan reads nothing, which table 'trips' does not have",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_the_tables_do_not_hold_is_refused_by_its_name(
    change: dict[str, Any], words: str, make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    """Where the file does not say the types, the stage does."""
    made = deepcopy(CONFIG)
    made["views"][0]["columns"] = change.pop("columns", {})
    with pytest.raises(SlipwayError) as caught:
        build_features(make_dataset(world(), WINDOW), "trips", made | change, tmp_path / "splits")
    assert words in str(caught.value)
