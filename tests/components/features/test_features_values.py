"""Values at the edges: no event yet, names that are ours too, NaN, infinity, columns without a type."""

import json
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from slipway.components.config.data import Window
from slipway.components.config.features.features import FeaturesConfig
from slipway.components.contracts.feature_rows import ROWS, read_feature_rows
from slipway.components.contracts.feature_store import locate, repo_config
from slipway.components.contracts.splits import PARTS, read_part, read_splits
from slipway.components.features.backfill import backfill_features
from slipway.components.features.features import build_features
from slipway.components.features.look_up import look_up_features
from slipway.components.support.errors import SlipwayError

MakeDataset = Callable[..., Path]
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WINDOW = ("2024-01-01T00:00:00Z", "2024-01-21T00:00:00Z")
INSTANT = pl.Datetime("us", "UTC")
FUNCTIONS = ("count", "sum", "rate", "mean", "min", "max", "std", "last")
CONFIG: dict[str, Any] = {
    "entities": {"customer": "customer"},
    "examples": {"table": "orders", "key": "order", "time": "placed", "lead": "1h"},
    "label": {"column": "returned"},
    "split": {"validation": "4d", "test": "4d"},
    "views": [
        {
            "name": "visits",
            "entity": "customer",
            "table": "visits",
            "time": "at",
            "ttl": "3d",
            "aggregates": {
                name: {"function": name, "window": "2d"}
                | ({} if name in ("count", "rate") else {"column": "pages"})
                for name in FUNCTIONS
            },
        }
    ],
}


def orders() -> pl.DataFrame:
    """One order an hour, of four customers and of nobody in turn."""
    numbers = range(20 * 24)
    return pl.DataFrame(
        {
            "order": [f"o{n:03d}" for n in numbers],
            "customer": [None if n % 5 == 4 else f"c{n % 5}" for n in numbers],
            "placed": [START + n * HOUR for n in numbers],
            "returned": [n % 3 == 0 for n in numbers],
        },
        schema_overrides={"placed": INSTANT},
    )


def visits(first: datetime) -> pl.DataFrame:
    """Customer c0 visits twice a day from `first` on, c1 from a week later, c2 and c3 never."""
    at = [first + n * 12 * HOUR for n in range(30)]
    return pl.DataFrame(
        {
            "customer": ["c0" if n % 2 or t < first + 7 * DAY else "c1" for n, t in enumerate(at)],
            "at": at,
            "pages": [float(n) for n in range(30)],
        },
        schema_overrides={"at": INSTANT},
    )


def build(dataset: Path, config: dict[str, Any], output: Path) -> pl.DataFrame:
    build_features(dataset=dataset, project="shop", config=config, output=output)
    return pl.concat([pl.DataFrame(read_part(output, part)) for part in PARTS])


def test_an_entity_without_events_has_counted_none_once_the_data_begin(
    make_dataset: MakeDataset,
    store_uri: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = START + 5 * DAY
    dataset = make_dataset({"orders": orders(), "visits": visits(first)}, WINDOW)
    rows = build(dataset, CONFIG, tmp_path / "splits").to_dicts()
    events = visits(first).to_dicts()
    empty = 0
    for row in rows:
        moment = row["event_timestamp"] - HOUR
        mine = [
            e["pages"]
            for e in events
            if e["customer"] == row["customer"] and moment - 2 * DAY < e["at"] <= moment
        ]
        if row["customer"] is None or moment < first:
            assert {row[name] for name in FUNCTIONS} == {None}, row
            continue
        assert row["count"] == len(mine), row
        assert row["rate"] == pytest.approx(len(mine) / 48), row
        assert row["sum"] == pytest.approx(sum(mine)), row
        empty += not mine
        for name in ("mean", "min", "max", "last"):
            assert (row[name] is None) == (not mine), row
    assert empty > 150
    before = sum(START + n * HOUR - HOUR < first for n in range(20 * 24))
    assert read_splits(tmp_path / "splits").notes["before_data"] == {"visits": before}
    assert (
        f"visits: {before:,} examples are predicted before its data begin"
        in capsys.readouterr().out
    )

    # Scoring reads a part of the data, of which c2 and c3 have no event and nobody has an early one.
    look_up_features(
        dataset=dataset, project="shop", config=CONFIG, output=tmp_path / "rows",
        window=Window(start=START + 15 * DAY, end=START + 20 * DAY),
    )  # fmt: skip
    scored = pl.read_parquet(tmp_path / "rows" / ROWS)
    trained = pl.DataFrame(rows, infer_schema_length=None).join(
        scored.select("order"), on="order", how="semi"
    )
    assert trained.select("order", *FUNCTIONS).equals(scored.select("order", *FUNCTIONS))
    defaults = {f.name: f.default for f in read_splits(tmp_path / "splits").features}
    assert defaults == dict.fromkeys(FUNCTIONS) | dict.fromkeys(("count", "sum", "rate"), 0.0)


def test_each_aggregate_is_of_its_own_column_whatever_the_order(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    """Features are taken in the order of their names, and may be declared in any other."""
    seen = visits(START).with_columns(price=pl.col("pages") * 100 + 0.5, kind=pl.col("pages") * -1)
    specs = {
        "z_price": {"function": "sum", "column": "price", "window": "2d"},
        "b_kind": {"function": "min", "column": "kind", "window": "2d"},
        "a_pages": {"function": "sum", "column": "pages", "window": "2d"},
        "m_price": {"function": "mean", "column": "price", "above": 700, "window": "2d"},
        "c_count": {"function": "count", "window": "2d"},
    }
    config = deepcopy(CONFIG)
    config["views"][0]["aggregates"] = specs
    dataset = make_dataset({"orders": orders(), "visits": seen}, WINDOW)
    rows = build(dataset, config, tmp_path / "splits").filter(pl.col("c_count") > 0)
    assert rows.height > 100
    assert (rows["z_price"] == rows["a_pages"] * 100 + rows["c_count"] * 0.5).all()
    assert (rows["b_kind"] <= 0).all() and rows["b_kind"].n_unique() > 5
    assert rows["m_price"].is_between(0, 1).all() and rows["m_price"].n_unique() > 1


def test_a_table_without_rows_says_nothing(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = {"orders": orders(), "visits": visits(START).clear()}
    rows = build(make_dataset(tables, WINDOW), CONFIG, tmp_path / "splits")
    assert rows.select(FUNCTIONS).null_count().row(0) == (rows.height,) * len(FUNCTIONS)
    splits = read_splits(tmp_path / "splits")
    told = "count is null in 100.0% of train, 100.0% of validation, 100.0% of test"
    assert told in splits.mostly_null
    assert f"WARNING: {told}" in splits.headline
    assert f"WARNING: {told}" in capsys.readouterr().out


def test_a_feature_with_a_hundredth_of_values_is_not_called_empty(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    config = deepcopy(CONFIG)
    config["views"] = [
        {"name": "own", "entity": "order", "table": "orders", "fields": {"rare": "rare"}}
    ]
    config["entities"] = {"order": "order"}
    table = orders().with_columns(rare=pl.when(pl.int_range(pl.len()) % 90 == 0).then(pl.lit(1.0)))
    build(make_dataset({"orders": table}, WINDOW), config, tmp_path / "splits")
    splits = read_splits(tmp_path / "splits")
    assert 0.98 < splits.nulls["train"]["rare"] < 0.99
    assert not splits.mostly_null


def test_no_name_of_ours_meets_a_column_of_the_source(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    """Columns named as our times, as the key (beside another key), and as the label's place."""
    profile = pl.DataFrame(
        {
            "code": [f"c{n}" for n in range(4)],
            "customer": ["retail", "trade", "retail", None],
            "event_timestamp": [datetime(2020, 1, 1 + n) for n in range(4)],
            "label": [1.5, 2.5, 3.5, 4.5],
            "probability": [True, False, True, False],
        }
    )
    table = orders().rename({"placed": "event_timestamp", "returned": "label"})
    config = deepcopy(CONFIG)
    config["examples"]["time"] = "event_timestamp"
    config["label"] = {"column": "label"}
    fields = {
        "kind": "customer", "since": "event_timestamp", "grade": "label", "member": "probability",
    }  # fmt: skip
    config["views"] = [
        {"name": "who", "entity": "customer", "table": "profile", "source_key": "code", "fields": fields},
        {
            "name": "past", "entity": "customer", "table": "orders", "time": "event_timestamp",
            "aggregates": {"orders_1d": {"function": "count", "window": "1d"}},
        },
    ]  # fmt: skip
    rows = build(
        make_dataset({"orders": table, "profile": profile}, WINDOW), config, tmp_path / "s"
    )
    assert rows.height == 20 * 24
    for row in rows.filter(pl.col("customer").is_not_null()).to_dicts():
        number = int(row["customer"][1:])
        assert row["kind"] == profile["customer"][number]
        assert row["since"] == profile["event_timestamp"][number]
        assert row["grade"] == profile["label"][number]
        assert row["member"] == profile["probability"][number]
        assert row["label"] == int(int(row["order"][1:]) % 3 == 0)
    assert rows["event_timestamp"].to_list() == orders()["placed"].to_list()
    assert rows["orders_1d"].max() == 4  # one each five hours, the last an hour before


@pytest.mark.parametrize(
    "name", ["event_timestamp", "label", "part", "predicted", "probability", "__read_at"]
)
def test_reserved_names_are_refused_at_load(name: str) -> None:
    said = rf"{name} .*has a name that Slipway uses itself \(event_timestamp, label, part"
    config = deepcopy(CONFIG)
    config["views"][0]["aggregates"][name] = {"function": "count", "window": "1d"}
    with pytest.raises(ValidationError, match=f"feature {said}"):
        FeaturesConfig.model_validate(config)
    config = deepcopy(CONFIG)
    config["entities"]["customer"] = name
    with pytest.raises(ValidationError, match=f"key column {said}"):
        FeaturesConfig.model_validate(config)
    config = deepcopy(CONFIG)
    config["examples"]["key"] = name
    with pytest.raises(ValidationError, match=f"key column {said}"):
        FeaturesConfig.model_validate(config)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_what_no_model_can_take_is_missing(
    odd: float, make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    """In a field and in every aggregate, with and without `above`; nothing of it reaches the JSON."""
    pages = pl.when(pl.int_range(pl.len()) % 3 == 0).then(odd).otherwise(pl.col("pages"))
    seen = visits(START).with_columns(pages=pages)
    without = visits(START).with_columns(
        pages=pl.when(pl.int_range(pl.len()) % 3 != 0).then(pl.col("pages"))
    )
    config = deepcopy(CONFIG)
    config["views"][0]["aggregates"]["many"] = {
        "function": "mean", "column": "pages", "above": 3, "window": "2d",
    }  # fmt: skip
    config["views"].append(
        {"name": "last_visit", "entity": "customer", "table": "visits", "time": "at",
         "fields": {"pages": "pages"}}
    )  # fmt: skip
    made = [
        build(
            make_dataset({"orders": orders(), "visits": table}, WINDOW, name),
            config,
            tmp_path / name,
        )
        for name, table in (("odd", seen), ("null", without))
    ]
    assert made[0].equals(made[1])
    assert made[0]["mean"].drop_nulls().len() > 50
    assert read_splits(tmp_path / "odd").statistics == read_splits(tmp_path / "null").statistics


def test_a_column_that_is_all_null_and_has_no_type_is_a_feature_all_the_same(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    """Training, scoring and a backfill; of every kind, in an aggregate, as a key, as `known`."""
    table = visits(START).with_columns(
        coupon=pl.lit("x"), vip=pl.lit(value=True), until=pl.lit(START + DAY), told=pl.col("at")
    )
    config = deepcopy(CONFIG)
    config["views"].append(
        {
            "name": "newest", "entity": "customer", "table": "visits", "time": "at", "known": "told",
            "ttl": "5d",
            "fields": {"coupon": "coupon", "vip": "vip", "until": "until", "seen": "pages"},
        }
    )  # fmt: skip
    dataset = make_dataset({"orders": orders(), "visits": table}, WINDOW)
    build(dataset, config, tmp_path / "splits")
    kinds = {f.name: f.kind for f in read_splits(tmp_path / "splits").features}

    untyped = ["coupon", "vip", "until", "pages"]
    empty = table.with_columns(pl.lit(None).alias(name) for name in untyped)
    later = make_dataset({"orders": orders(), "visits": empty}, WINDOW, "later")
    result = look_up_features(
        dataset=later, project="shop", config=config, output=tmp_path / "rows",
        window=Window(start=START + 15 * DAY, end=START + 20 * DAY),
    )  # fmt: skip
    assert read_feature_rows(tmp_path / "rows") == result
    assert result.untyped == ("coupon", "seen", "until", "vip")
    scored = pl.read_parquet(tmp_path / "rows" / ROWS)
    assert all(scored.schema[name] == pl.Null for name in result.untyped)
    assert scored["sum"].drop_nulls().unique().to_list() == [0.0]

    stored = pl.read_parquet(locate("shop").table("newest"))
    record = backfill_features(
        later, "shop", config, Window(start=START + 8 * DAY, end=START + 12 * DAY), online=True,
        record=tmp_path / "record.json",
    )  # fmt: skip
    assert record.views["newest"].written > 5
    mended = pl.read_parquet(locate("shop").table("newest"))
    assert mended.schema == stored.schema
    inside = pl.col("event_timestamp").is_between(START + 8 * DAY, START + 12 * DAY, closed="left")
    assert mended.filter(inside)["coupon"].null_count() == mended.filter(inside).height > 5
    from feast import FeatureStore, RepoConfig

    store = FeatureStore(config=RepoConfig(**repo_config("shop")))
    registered = {
        field.name: str(field.dtype) for field in store.get_feature_view("newest").features
    }
    assert registered["coupon"] == "String" and registered["until"] == "UnixTimestamp"
    assert kinds["coupon"] == "categorical" and kinds["seen"] == "numeric"

    # Nothing is known yet, and no example has a customer.
    unknown = table.with_columns(told=pl.lit(None))
    nobody = orders().with_columns(customer=pl.lit(None))
    look_up_features(
        dataset=make_dataset({"orders": nobody, "visits": unknown}, WINDOW, "unknown"),
        project="shop", config=config, output=tmp_path / "rows",
        window=Window(start=START + 15 * DAY, end=START + 20 * DAY),
    )  # fmt: skip
    assert pl.read_parquet(tmp_path / "rows" / ROWS)["seen"].null_count() == 5 * 24


KEYS: dict[str, tuple[Any, list[Any], Any, list[Any]]] = {
    "int64": (pl.Int64, [-5, 2**62, 7], pl.Int64, [-5, 2**62, 7]),
    "int32 and int64": (pl.Int32, [-5, 0, 7], pl.Int64, [-5, 0, 7]),
    "uint64 beyond int64": (pl.UInt64, [2**64 - 1, 2**63, 7], pl.UInt64, [2**64 - 1, 2**63, 7]),
    "uint64 and int64": (pl.UInt64, [5, 2**40, 7], pl.Int64, [5, 2**40, 7]),
    "int64 and uint64": (pl.Int64, [5, 2**40, 7], pl.UInt64, [5, 2**40, 7]),
    "int64 and doubles with gaps": (pl.Int64, [5, 2**40, 7], pl.Float64, [5.0, 2.0**40, 7.0]),
    "text and int64": (pl.String, ["5", "-6", "7"], pl.Int64, [5, -6, 7]),
    "int64 and text": (pl.Int64, [5, -6, 7], pl.String, ["5", "-6", "7"]),
    "text": (pl.String, ["", "b", "007"], pl.String, ["", "b", "007"]),
    "a category": (pl.String, ["a", "b", "c"], pl.Categorical, ["a", "b", "c"]),
}


@pytest.mark.parametrize(("kind", "keys", "other", "others"), KEYS.values(), ids=KEYS)
def test_keys_are_one_by_value_in_every_store(
    kind: Any,
    keys: list[Any],
    other: Any,
    others: list[Any],
    make_dataset: MakeDataset,
    store_uri: Path,
    tmp_path: Path,
) -> None:
    """With nulls between them, so that nothing may take a key through a double."""
    from feast import FeatureStore, RepoConfig

    spread = [keys[n % 4] if n % 4 < 3 else None for n in range(20 * 24)]
    table = orders().with_columns(pl.Series("customer", spread, kind))
    # A key's neighbours are what a double would take it for.
    near = [f"{k}0" if isinstance(k, str) else k + 1 if k < 2**63 else k - 1 for k in others]
    there = pl.Series("customer", [*others, *(n for n in near if n not in others), None], other)
    wares = there.to_frame().with_columns(shelf=pl.int_range(pl.len()).cast(pl.Float64))
    config = deepcopy(CONFIG)
    config["views"] = [
        {"name": "shelves", "entity": "customer", "table": "wares", "fields": {"shelf": "shelf"}}
    ]
    dataset = make_dataset({"orders": table, "wares": wares}, WINDOW)
    rows = build(dataset, config, tmp_path / "splits")
    expected = [float(n % 4) if n % 4 < 3 else None for n in range(20 * 24)]
    assert rows["shelf"].to_list() == expected
    assert rows["customer"].to_list() == spread
    store = FeatureStore(config=RepoConfig(**repo_config("shop")))
    asked = [{"customer": str(k) if kind in (pl.UInt64, pl.String) else k} for k in keys]
    answer = store.get_online_features(
        features=store.get_feature_service("shop"), entity_rows=asked
    ).to_dict()
    assert answer["shelf"] == [0.0, 1.0, 2.0]


def test_a_key_of_another_type_is_refused(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path
) -> None:
    table = orders().with_columns(customer=pl.lit(1.5))
    dataset = make_dataset({"orders": table, "visits": visits(START)}, WINDOW)
    with pytest.raises(SlipwayError, match="Entity key customer is of type double"):
        build(dataset, CONFIG, tmp_path / "splits")
    dataset = make_dataset(
        {"orders": orders(), "visits": visits(START).with_columns(customer=pl.col("at"))},
        WINDOW,
        "b",
    )
    with pytest.raises(SlipwayError, match="view visits: key column customer is Datetime"):
        build(dataset, CONFIG, tmp_path / "splits")


BIG = 2**53 + 1


@pytest.mark.parametrize(
    ("kind", "values", "above", "counted"),
    [
        (pl.Int64, [BIG - 1, BIG, BIG + 1], BIG - 1, 2.0),
        (pl.UInt64, [2**64 - 1, 2**64 - 2, 2**64 - 3], 2**64 - 2, 1.0),
        (pl.Decimal(38, 2), [f"{BIG}.25", f"{BIG}.26", f"{BIG}.27"], f"{BIG}.25", 2.0),
        (pl.Float64, [0.1, 0.2, 0.3], 0.1, 2.0),
        (pl.Float32, [0.1, 0.2, 0.3], 0.1, 2.0),
        (pl.Int8, [1, 2, 127], 300, 0.0),
        (pl.Boolean, [True, False, True], 0, 2.0),
    ],
    ids=["int64", "uint64", "decimal", "double", "float32", "beyond the type", "boolean"],
)
def test_above_is_exact_through_the_pipeline_s_struct(
    make_dataset: MakeDataset,
    store_uri: Path,
    tmp_path: Path,
    kind: Any,
    values: list[Any],
    above: Any,
    counted: float,
) -> None:
    """Of three events long ago; the struct makes every number a double on the way."""
    config = deepcopy(CONFIG)
    config["views"][0]["ttl"] = None
    high = {"function": "sum", "column": "size", "above": above, "window": "900d"}
    config["views"][0]["aggregates"] = {"high": high}
    struct = FeaturesConfig.model_validate(config).to_struct()
    travelled = json.loads(json.dumps(struct), parse_int=float)
    assert FeaturesConfig.parse(travelled, "features") == FeaturesConfig.model_validate(config)
    sizes = pl.Series(values).cast(kind)
    events = pl.DataFrame({"customer": ["c0"] * 3, "at": [START] * 3, "size": sizes})
    tables = {"orders": orders(), "visits": events.with_columns(pl.col("at").cast(INSTANT))}
    rows = build(make_dataset(tables, WINDOW), travelled, tmp_path / "splits")
    seen = rows.filter(pl.col("customer") == "c0", pl.col("event_timestamp") > START + DAY)
    assert seen["high"].unique().to_list() == [counted]
