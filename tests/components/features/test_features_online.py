"""The online store: Feast's own bytes, equal to the offline store, incremental and resumable."""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway.components.features.store import encoding, online, past
from slipway.components.features.store.online import materialise

ZERO = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KINDS = ("sqlite", "redis")

Open = Callable[[str], Any]


def rows_table(users: int = 60) -> pl.DataFrame:
    """Some rows a user, with nulls, text beyond ASCII, and every kind of feature."""
    count = users * 5
    return pl.DataFrame(
        {
            "user_id": [i % users for i in range(count)],
            "event_timestamp": [ZERO + timedelta(minutes=17 * i) for i in range(count)],
            "amount": [
                None if i % 7 == 0 else (-1) ** i * i / 3 * 10.0 ** (i % 9 * 5 - 20)
                for i in range(count)
            ],
            "word": [None if i % 5 == 0 else ("ü" * (i % 3)) for i in range(count)],
            "flag": [None if i % 11 == 0 else i % 2 == 0 for i in range(count)],
            "when": [
                None if i % 13 == 0 else datetime(1969, 12, 31) + i * HOUR for i in range(count)
            ],
        },
        schema_overrides={
            "event_timestamp": pl.Datetime("us", "UTC"),
            "when": pl.Datetime("us"),
        },
    ).with_columns(shop_id=pl.format("s{}", "user_id"))


@pytest.fixture
def open_store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a Feast project with a view by number and a view by text, on sqlite or Redis."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Bool, Float64, Int64, String, UnixTimestamp

    path = tmp_path / "rows.parquet"
    rows_table().write_parquet(path)
    fields = [
        Field(name="amount", dtype=Float64),
        Field(name="word", dtype=String),
        Field(name="flag", dtype=Bool),
        Field(name="when", dtype=UnixTimestamp),
    ]

    def open_(kind: str, name: str = "online", ttl: timedelta = timedelta(0)) -> Any:
        if kind == "redis":
            address = request.getfixturevalue("redis_server")
            database = {"online": 0, "theirs": 1}[name]
            place = {"type": "redis", "connection_string": f"{address},db={database}"}
        else:
            place = {"type": "sqlite", "path": str(tmp_path / f"{name}.sqlite")}
        config = {
            "project": "parity",
            "provider": "local",
            "registry": str(tmp_path / f"{name}-{kind}.db"),
            "offline_store": {
                "type": "slipway.components.features.offline_store.PolarsOfflineStore"
            },
            "online_store": place,
            "entity_key_serialization_version": 3,
        }
        store = FeatureStore(config=RepoConfig(**config, repo_path=tmp_path))
        if kind == "redis":
            store._get_provider().online_store._get_client(store.config.online_store).flushdb()
        entities = {
            "users": Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64),
            "shops": Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.STRING),
        }
        keys = {
            "users": Field(name="user_id", dtype=Int64),
            "shops": Field(name="shop_id", dtype=String),
        }
        views = [
            FeatureView(
                name=view,
                entities=[entity],
                ttl=ttl,
                schema=[keys[view], *fields],
                source=FileSource(
                    name=f"{view}_rows", path=str(path), timestamp_field="event_timestamp"
                ),
            )
            for view, entity in entities.items()
        ]
        store.apply([*entities.values(), *views])
        return store

    open_.path = path  # type: ignore[attr-defined]
    yield open_


def dump(store: Any) -> dict[Any, Any]:
    """Everything of Feast's that the online store holds, byte for byte."""
    place = store._get_provider().online_store
    if store.config.online_store.type == "sqlite":
        connection = place._get_conn(store.config)
        return {
            (view, row[0], row[1]): row[2:]
            for view in ("users", "shops")
            for row in connection.execute(
                "SELECT entity_key, feature_name, value, value_text, vector_value,"
                f" cast(event_ts AS text), cast(created_ts AS text) FROM parity_{view}"
            )
        }
    client = place._get_client(store.config.online_store)
    return {
        key: client.hgetall(key) for key in client.scan_iter() if not key.startswith(b"slipway:")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_are_feasts_own(kind: str, open_store: Open) -> None:
    end = ZERO + 48 * HOUR
    ours, theirs = open_store(kind), open_store(kind, "theirs")  # type: ignore[call-arg]
    for view in ("users", "shops"):
        assert materialise(ours, view, end) == 60
    theirs.materialize(ZERO - HOUR, end)
    assert len(dump(ours)) >= 60
    assert dump(ours) == dump(theirs)


@given(st.lists(st.floats(allow_nan=False) | st.none()))
@example([0.0, -0.0, 1e-4, 9.999999999999999e-05, 9999999999999998.0, 1e16, 5e-324, float("-inf")])
def test_numbers_are_written_as_python_writes_them(numbers: list[float | None]) -> None:
    column = pa.chunked_array([pa.array(numbers, pa.float64())])
    assert encoding.texts(column) == [None if n is None else repr(n) for n in numbers]


KEYS = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(KEYS, st.text(max_size=300)), max_size=30))
@example([(256, "b"), (1, "aa"), (-1, "ü"), (1, "a" * 256), (1, "")])
def test_rows_are_ordered_as_their_keys_bytes(keys: list[tuple[int, str]]) -> None:
    from feast.types import Int64, String

    columns = [SimpleNamespace(name="n", dtype=Int64), SimpleNamespace(name="t", dtype=String)]
    view: Any = SimpleNamespace(join_keys=["t", "n"], entity_columns=columns)
    rows = pl.DataFrame(keys, schema={"n": pl.Int64, "t": pl.String}, orient="row")
    ordered = encoding.in_key_order(view, rows)
    found = encoding.entity_keys(view, ordered.to_arrow())
    assert found == sorted(encoding.entity_keys(view, rows.to_arrow()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ttl", [timedelta(0), 20 * HOUR], ids=["no ttl", "ttl"])
def test_online_and_offline_are_equal_at_the_same_moment(
    kind: str, ttl: timedelta, open_store: Open
) -> None:
    import pandas as pd

    store = open_store(kind, ttl=ttl)  # type: ignore[call-arg]
    features = [f"users:{name}" for name in ("amount", "word", "flag", "when")]
    # The second moment leaves values behind that are past the TTL; user 99 never was.
    for end in (ZERO + 30 * HOUR, ZERO + 60 * HOUR, ZERO + 90 * HOUR):
        materialise(store, "users", end)
        users = [*range(60), 99]
        found = store.get_online_features(
            features=features, entity_rows=[{"user_id": user} for user in users]
        ).to_dict()
        asked = pd.DataFrame({"user_id": users, "event_timestamp": [end] * len(users)})
        offline = pl.DataFrame(
            store.get_historical_features(entity_df=asked, features=features).to_arrow()
        )
        offline = offline.with_columns(pl.col("when").dt.replace_time_zone("UTC"))
        for name in ("amount", "word", "flag", "when"):
            assert found[name] == offline[name].to_list(), (name, end)


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_new_is_written(kind: str, open_store: Open) -> None:
    store = open_store(kind)
    first, second = ZERO + 70 * HOUR, ZERO + 75 * HOUR
    assert materialise(store, "users", first) == 60
    assert materialise(store, "users", first) == 0
    news = rows_table().filter(
        (pl.col("event_timestamp") > first) & (pl.col("event_timestamp") <= second)
    )
    assert 0 < news["user_id"].n_unique() < 60
    assert materialise(store, "users", second) == news["user_id"].n_unique()
    # An earlier moment does not take the store back.
    assert materialise(store, "users", first) == 0
    full = open_store(kind, "theirs")  # type: ignore[call-arg]
    full.materialize(ZERO - HOUR, second, feature_views=["users"])
    assert dump(store) == dump(full)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_past_is_written_again(kind: str, open_store: Open) -> None:
    store = open_store(kind)
    end = ZERO + 70 * HOUR
    materialise(store, "users", end)
    changed = rows_table().with_columns(pl.col("amount") + 1)
    changed.write_parquet(open_store.path)  # type: ignore[attr-defined]
    assert materialise(store, "users", end) == 60
    [value] = store.get_online_features(
        features=["users:amount"], entity_rows=[{"user_id": 5}]
    ).to_dict()["amount"]
    newest = changed.filter((pl.col("user_id") == 5) & (pl.col("event_timestamp") <= end))
    assert value == newest["amount"][-1]


@pytest.mark.parametrize("kind", KINDS)
def test_goes_on_where_it_stopped(
    kind: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(kind)
    end = ZERO + 70 * HOUR
    monkeypatch.setattr(online, "BATCH", 25)
    writer = type(online.open_writer(store, store.get_feature_view("users")))
    write, calls = writer.write, []

    def cut(self: Any, rows: Any, note: Any) -> None:
        calls.append(rows.num_rows)
        if len(calls) == 2:
            raise ConnectionError("the line is cut")
        write(self, rows, note)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write", cut)
        with pytest.raises(ConnectionError):
            materialise(store, "users", end)
    assert calls == [25, 25]
    assert materialise(store, "users", end) == 35
    whole = open_store(kind, "theirs")  # type: ignore[call-arg]
    materialise(whole, "users", end)
    assert dump(store) == dump(whole)


def test_a_view_that_was_removed_and_declared_again_is_written_again(open_store: Open) -> None:
    store = open_store("sqlite")
    end = ZERO + 70 * HOUR
    materialise(store, "users", end)
    view, entity = store.get_feature_view("users"), store.get_entity("user")
    store.apply([], objects_to_delete=[view], partial=False)
    view.created_timestamp = view.last_updated_timestamp = None
    store.apply([entity, view])
    assert materialise(store, "users", end) == 60


def test_a_new_database_gets_wide_pages_and_one_with_rows_or_a_reader_stays(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def width(store: Any) -> int:
        connection = store._get_provider().online_store._get_conn(store.config)
        return int(connection.execute("PRAGMA page_size").fetchone()[0])

    store, end = open_store("sqlite"), ZERO + 70 * HOUR
    with monkeypatch.context() as patch:
        patch.setattr(online, "FEW_PAGES", 0)
        assert materialise(store, "users", end) == 60
        assert width(store) == 4096
    reader = sqlite3.connect(store.config.online_store.path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM parity_users").fetchone()
    connection = store._get_provider().online_store._get_conn(store.config)
    connection.execute("PRAGMA busy_timeout = 1")
    online.open_writer(store, store.get_feature_view("users"))
    assert width(store) == 4096
    reader.close()
    held = dump(store)
    materialise(store, "shops", end)
    assert width(store) == 16_384
    assert {key: row for key, row in dump(store).items() if key[0] == "users"} == held


def test_an_entity_that_redis_refuses_stops_the_batch_and_leaves_the_connection_clean(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redis import Connection
    from redis.exceptions import ResponseError

    store = open_store("redis")  # type: ignore[call-arg]
    assert materialise(store, "users", ZERO + HOUR) == 4
    client = store._get_provider().online_store._get_client(store.config.online_store)
    (taken,) = (key for key in client.scan_iter() if b"user_id" in key and b"\x02\0\0\0\0\0" in key)
    client.delete(taken)
    client.set(taken, b"no hash")

    # redis-py's pool renews a connection on which it sees answers wait. Here they are still on the way.
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "can_read", lambda *_: False)
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            materialise(store, "users", ZERO + 48 * HOUR)
        assert client.get(taken) == b"no hash"  # not the answer to a command of the batch
    client.delete(taken)
    assert materialise(store, "users", ZERO + 48 * HOUR) == 60
    assert len(dump(store)) == 60


@pytest.mark.parametrize("kind", KINDS)
def test_rows_past_their_ttl_are_counted_and_removed_and_no_others(
    kind: str, open_store: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = open_store(kind, ttl=timedelta(days=2))  # type: ignore[call-arg]
    for view in ("users", "shops"):
        materialise(store, view, ZERO + 48 * HOUR)
    everything = dump(store)
    times = pl.read_parquet(open_store.path)["event_timestamp"]  # type: ignore[attr-defined]
    monkeypatch.setattr(past, "open_store", lambda place: store)
    (tmp_path / "parity").mkdir()
    (tmp_path / "parity" / "registry.db").touch()
    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path))

    def prune(now: datetime, *, remove: bool) -> dict[str, int]:
        found = past.find_past_rows("parity", timedelta(days=1), now=now, remove=remove)
        return found.views

    # Three days after the oldest value (TTL and grace) nothing is past them yet.
    assert prune(times.min() + timedelta(days=3), remove=True) == {"users": 0, "shops": 0}
    late = ZERO + 47 * HOUR + timedelta(days=3)
    counted = prune(late, remove=False)
    assert dump(store) == everything, "it was only counted"
    assert 0 < counted["users"] == counted["shops"] < 60
    assert prune(late, remove=True) == counted
    left = dump(store)
    entities = 120 if kind == "redis" else 120 * 4
    assert len(left) == entities - sum(counted.values()) * (1 if kind == "redis" else 4)
    assert left.items() <= everything.items()
    assert prune(late, remove=True) == {"users": 0, "shops": 0}
    assert sum(prune(late + timedelta(days=9), remove=True).values()) == 120 - sum(counted.values())
    assert dump(store) == {}


def test_a_row_that_is_pushed_while_rows_are_pruned_stays(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a row's time and its deletion another process writes the row anew."""
    from google.protobuf.timestamp_pb2 import Timestamp

    from slipway.components.features.store.online import open_writer

    store = open_store("redis", ttl=timedelta(days=2))  # type: ignore[call-arg]
    materialise(store, "users", ZERO + 48 * HOUR)
    writer: Any = open_writer(store, store.get_feature_view("users"))
    late = ZERO + timedelta(days=90)
    fresh = Timestamp()
    fresh.FromDatetime(late + timedelta(days=1))
    key = next(iter(writer._keys()))
    pipelines, make = [], writer.client.pipeline

    def pipeline(**given: Any) -> Any:
        pipelines.append(given)
        if len(pipelines) == 2:
            writer.client.hset(key, writer.stamp, fresh.SerializeToString())
        return make(**given)

    monkeypatch.setattr(writer.client, "pipeline", pipeline)
    assert writer.forget(late) == 59
    assert writer.client.hget(key, writer.stamp) == fresh.SerializeToString()
    assert list(writer._keys()) == [key]
