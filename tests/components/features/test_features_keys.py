"""Keys of several columns, and none: joined, parted, filled, mended and looked up like any other."""

import asyncio
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from support.customers_world import CONFIG as CUSTOMERS
from support.customers_world import customers
from support.datasets import write_dataset
from support.ratings_world import CONFIG, ratings

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.feature_store import locate
from slipway.components.contracts.rows.row_key import HASH_DIGITS
from slipway.components.contracts.splits import LABEL, PARTS, TIME, Splits, read_part
from slipway.components.features import tables as module
from slipway.components.features.backfill import backfill_features
from slipway.components.features.features import build_features
from slipway.components.features.look_up import look_up_features
from slipway.components.monitor.measures.performance import read_known_labels
from slipway.components.support.errors import SlipwayError
from slipway.serving.online.features import OnlineFeatures, OnlineMetrics, OnlinePolicy
from slipway.serving.protocol.rows import RowReader

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
REFUSED = [
    ({"source_key": "visitor"}, "is looked up by user_id, item_id, and its `source_key` names visitor"),
    ({"source_key": ["a", "b", "c"]}, "name one column for each, in that order"),
    ({"entity": "couple"}, "of entity 'couple', which is not among the entities"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "says"), REFUSED)
def test_a_view_by_a_pair_is_refused(change: dict[str, Any], says: str) -> None:
    config = deepcopy(CONFIG)
    config["views"][3] |= change
    with pytest.raises(ValidationError, match=says):
        FeaturesConfig.model_validate(config)


def test_a_view_without_a_key_to_look_it_up_by_is_refused() -> None:
    config = deepcopy(CUSTOMERS)
    del config["examples"]["key"], config["views"][1]["entity"]
    with pytest.raises(
        ValidationError, match="view place names no entity, and the examples have no"
    ):
        FeaturesConfig.model_validate(config)


def build(
    folder: Path, config: dict[str, Any], frames: dict[str, pl.DataFrame], window: Any = None
) -> tuple[Splits, pl.DataFrame]:
    dataset = write_dataset(folder / "dataset", frames, window)
    splits = build_features(
        dataset=dataset, project="pairs", config=config, output=folder / "splits"
    )
    parts = [
        pl.DataFrame(read_part(folder / "splits", part)).with_columns(part=pl.lit(part))
        for part in PARTS
    ]
    return splits, pl.concat(parts)


def lookup(splits: Splits) -> tuple[RowReader, OnlineFeatures]:
    bundle = Bundle(
        name="pairs", features=splits.features, key=splits.key, key_columns=splits.key_columns,
        entities=splits.entities, feature_service=splits.feature_service, threshold=0.5,
        vocabularies={}, data_hash="",
    )  # fmt: skip
    reader = RowReader(bundle, max_rows=10_000, missing_as_null=False)
    online = OnlineFeatures("pairs", bundle, OnlineMetrics(CollectorRegistry()), OnlinePolicy())
    return reader, online


def asked(rows: pl.DataFrame, names: list[str]) -> list[dict[str, Any]]:
    """The keys of rows as a request brings them."""
    return [
        {
            "name": name, "shape": [rows.height], "data": rows[name].to_list(),
            "datatype": "BYTES" if rows.schema[name] == pl.String else "INT64",
        }
        for name in names
    ]  # fmt: skip


def test_pairs_from_tables_to_online_values(store_uri: Path, tmp_path: Path) -> None:
    frames = ratings(600)
    splits, rows = build(tmp_path, CONFIG, frames)
    assert (splits.key, splits.key_columns) == ("row_id", ("user_id", "item_id"))
    assert splits.entities == {"user_id": "int64", "item_id": "string"}
    source = (
        frames["ratings"].join(frames["users"], on="user_id").join(frames["items"], on="item_id")
    )
    visits = frames["visits"].rename({"visitor": "user_id", "article": "item_id"})
    source = source.join(visits, on=["user_id", "item_id"])
    both = rows.join(source, on=["user_id", "item_id"], suffix=" source", validate="1:1")
    assert both.height == rows.height == 600
    for name in ("age", "price", "visits", "device"):
        theirs = both[f"{name} source"].cast(both.schema[name])
        assert both[name].equals(theirs.rename(name), null_equal=True), name
    assert both[LABEL].to_list() == both["liked"].to_list()
    escaped = [k.split("|", 1) for k in rows["row_id"].to_list()]
    assert [int(user) for user, _ in escaped] == rows["user_id"].to_list()
    assert (rows.group_by("user_id").agg(pl.col("part").n_unique())["part"] == 1).all()
    # The online store, asked by both columns, gives what training saw; the log gets the same key.
    reader, online = lookup(splits)
    tensors = asked(rows, ["user_id", "item_id"])
    found = reader.read(asyncio.run(online.complete(reader, tensors)))
    assert found.keys == rows["row_id"].to_list()
    for place, name in enumerate(reader.numeric):
        assert found.numeric[:, place].tolist() == rows[name].to_list(), name
    assert found.categorical[:, 0].tolist() == rows["device"].to_list()


def test_scoring_and_labels_name_a_row_as_training_did(store_uri: Path, tmp_path: Path) -> None:
    for name, config, frames, window in (
        ("pairs", CONFIG, ratings(300), None),
        ("nameless", nameless(), customers(300), None),
    ):
        _, rows = build(tmp_path / name, config, frames)
        dataset = tmp_path / name / "dataset"
        scored = look_up_features(dataset, "pairs", config, window, tmp_path / name / "rows")
        table = pl.read_parquet(tmp_path / name / "rows" / "rows.parquet")
        assert scored.rows == 300 and sorted(table["row_id"]) == sorted(rows["row_id"])
        features = [f.name for f in scored.features]
        both = rows.join(table, on="row_id", suffix=" scored")
        for feature in features:
            assert both[feature].equals(both[f"{feature} scored"], null_equal=True), feature
        labels = read_known_labels(dataset, FeaturesConfig.model_validate(config), START)
        known = rows.join(labels.rows, left_on="row_id", right_on="key", validate="1:1")
        assert known.height == 300 and known[LABEL].to_list() == known["actual"].to_list()


def test_a_pair_with_a_gap_and_a_pair_twice_are_refused(store_uri: Path, tmp_path: Path) -> None:
    frames = ratings(50)
    twice = pl.concat([frames["ratings"], frames["ratings"].head(1)])
    with pytest.raises(
        SlipwayError,
        match=r"2 rows of table 'ratings' share their key .* \(for example user_id .*, item_id .*\)",
    ):
        build(tmp_path / "twice", CONFIG, {**frames, "ratings": twice})
    gap = frames["ratings"].with_columns(
        pl.when(pl.int_range(pl.len()) > 0).then(pl.col("item_id")).alias("item_id")
    )
    with pytest.raises(
        SlipwayError, match=r"1 rows of table 'ratings' have an empty key \(user_id and item_id\)"
    ):
        build(tmp_path / "gap", CONFIG, {**frames, "ratings": gap})


def test_backfill_mends_pairs(store_uri: Path, tmp_path: Path) -> None:
    frames = ratings(200)
    build(tmp_path, CONFIG, frames)
    table = locate("pairs").table("past")
    before = pl.read_parquet(table)
    assert before.columns == ["user_id", "item_id", TIME, "visits"]
    frames["visits"] = frames["visits"].with_columns(pl.col("visits") + 1)
    changed = write_dataset(tmp_path / "changed", frames, None)
    record = backfill_features(changed, "pairs", CONFIG, None, True, tmp_path / "record")
    assert record.window is None and record.views["past"].written == 200
    after = pl.read_parquet(table).sort("user_id", "item_id")
    assert (after["visits"] - before.sort("user_id", "item_id")["visits"]).unique().to_list() == [
        1.0
    ]


def nameless() -> dict[str, Any]:
    config = deepcopy(CUSTOMERS)
    del config["examples"]["key"]
    config["views"][0]["fields"]["home"] = "city"
    return config


def test_a_table_without_a_key(store_uri: Path, tmp_path: Path, monkeypatch: Any) -> None:
    frames = customers(400)
    table = frames["customers"].drop("customer_id")
    # Rows that are equal, also in what is not a feature, and one that differs in its label alone.
    copies = pl.concat([table.head(3), table.head(1).with_columns(churned=1 - pl.col("churned"))])
    frames["customers"] = pl.concat([table, copies])
    splits, rows = build(tmp_path / "first", nameless(), frames)
    assert splits.key == "row_id" and "row_id" not in splits.entities
    assert rows["row_id"].n_unique() == rows.height == 404
    columns = ["age", "contract", "balance", "calls", "home", LABEL]
    wanted = frames["customers"].select(
        pl.col("age").cast(float), contract="plan", balance="balance",
        calls=pl.col("calls").cast(float), home="city", label=pl.col("churned").cast(pl.Int8),
    )  # fmt: skip
    assert rows.select(columns).sort(columns).equals(wanted.sort(columns), null_equal=True)
    # Equal rows are in one part: none is tested on what it learnt.
    base = rows.with_columns(pl.col("row_id").str.slice(0, HASH_DIGITS))
    assert (base.group_by("row_id").agg(pl.col("part").n_unique())["part"] == 1).all()
    # In any order, and made a share at a time, it is the same.
    monkeypatch.setattr(module, "SHARE", 50)
    frames["customers"] = frames["customers"].sample(fraction=1, shuffle=True, seed=3)
    _, again = build(tmp_path / "again", nameless(), frames)
    assert again.equals(rows, null_equal=True)


EVENTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 60), st.integers(-5, 5)),
    min_size=1, max_size=40,
)  # fmt: skip


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events=EVENTS, swapped=st.booleans())
def test_pairs_are_one_value_offline_and_online(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    events: list[tuple[int, int, int, int]],
    swapped: bool,
) -> None:
    """Sums and last values of events of a user with an item, at the moment that the store stands for."""
    folder = tmp_path_factory.mktemp("pairs")
    monkeypatch.setenv("FEATURE_STORE_URI", str(folder / "store"))
    monkeypatch.delenv("FEAST_REDIS_URL", raising=False)
    key = ["user_id", "item_id"]
    config: dict[str, Any] = {
        "entities": {"pair": key[::-1] if swapped else key},
        "examples": {"table": "offers", "key": key, "time": "at"},
        "label": {"column": "taken"},
        "split": {"validation": "10h", "test": "5h"},
        "views": [
            {
                "name": "seen", "entity": "pair", "table": "events", "time": "at",
                "aggregates": {
                    "amount": {"function": "sum", "column": "amount", "window": "30h"},
                    "latest": {"function": "last", "column": "amount", "window": "20h"},
                },
            },
        ],
    }  # fmt: skip
    instant = pl.Datetime("us", "UTC")
    table = pl.DataFrame(
        {
            "user_id": [u for u, *_ in events],
            "item_id": [f"i{i}" for _, i, *_ in events],
            # Half past, so that no window ends between the offers' minute and the store's.
            "at": pl.Series([START + at * HOUR + HOUR / 2 for *_, at, _ in events], dtype=instant),
            "amount": [float(a) for *_, a in events],
        }
    )
    # All pairs at the window's end, and rows before it for the other parts.
    grid = [(u, f"i{i}") for u in range(3) for i in range(3)]
    moments = [59 * HOUR + timedelta(minutes=59)] * 9
    offers = pl.DataFrame(
        {
            "user_id": [u for u, _ in grid] + [9, 9],
            "item_id": [i for _, i in grid] + ["a", "b"],
            "at": pl.Series([START + m for m in [*moments, HOUR, 50 * HOUR]], dtype=instant),
            "taken": [n % 2 for n in range(11)],
        }
    )
    window = ("2024-01-01T00:00:00Z", "2024-01-03T12:00:00Z")
    late = table.filter(pl.col("at") < START + 60 * HOUR)
    if late.is_empty():
        return
    splits, rows = build(folder, config, {"events": late, "offers": offers}, window)
    rows = rows.filter(pl.col("part") == "test").sort("row_id")
    moment = START + 59 * HOUR + timedelta(minutes=59)
    for row in rows.iter_rows(named=True):
        mine = late.filter(
            (pl.col("user_id") == row["user_id"]) & (pl.col("item_id") == row["item_id"])
        )
        inside = mine.filter(pl.col("at") > moment - 30 * HOUR)
        assert row["amount"] == inside["amount"].sum()
    reader, online = lookup(splits)
    found = reader.read(asyncio.run(online.complete(reader, asked(rows, key))))
    assert found.keys == rows["row_id"].to_list()
    for place, name in enumerate(reader.numeric):
        ours = [None if v != v else v for v in found.numeric[:, place].tolist()]
        # The store stands for a minute later, in which no hour changes.
        assert ours == rows[name].to_list(), name
