"""The Polars offline store: what Feast's duckdb store answers, value for value, and no row lost."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.components.features import offline_store, point_in_time

OURS = {"type": "slipway.components.features.offline_store.PolarsOfflineStore"}
THEIRS = {"type": "duckdb"}
ZERO = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def open_store(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Opens a Feast project with three views over parquet files, on either offline store."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64, Int64, String

    folder = tmp_path_factory.mktemp("repo")
    opened: dict[tuple[str, tuple[int, ...]], Any] = {}

    def open_(store: dict[str, str], ttls: tuple[int, int, int]) -> Any:
        if (store["type"], ttls) in opened:
            return opened[store["type"], ttls]
        name = f"{store['type'][-20:].replace('.', '_')}_{'_'.join(map(str, ttls))}"
        config = {
            "project": "peers",
            "provider": "local",
            "registry": str(folder / f"{name}.db"),
            "offline_store": store,
            "online_store": {"type": "sqlite", "path": str(folder / f"{name}.sqlite")},
            "entity_key_serialization_version": 3,
        }
        feast = FeatureStore(config=RepoConfig(**config, repo_path=folder))
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
        shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.STRING)
        keys = {"user_id": Int64, "shop_id": String}
        views = []
        for view, entities, ttl in zip(
            ("users", "shops", "pairs"), ([user], [shop], [user, shop]), ttls, strict=True
        ):
            views.append(
                FeatureView(
                    name=view,
                    entities=entities,
                    ttl=ttl * MINUTE,
                    schema=[
                        *(Field(name=e.join_key, dtype=keys[e.join_key]) for e in entities),
                        Field(name="amount", dtype=Float64),
                        Field(name="word", dtype=String),
                    ],
                    source=FileSource(
                        name=f"{view}_source",
                        path=str(folder / f"{view}.parquet"),
                        timestamp_field="at",
                        created_timestamp_column="written",
                    ),
                )
            )
        feast.apply([user, shop, *views])
        opened[store["type"], ttls] = feast
        return feast

    empty = view_table([])
    for view in ("users", "shops", "pairs"):
        empty.write_parquet(folder / f"{view}.parquet")
    open_.folder = folder  # type: ignore[attr-defined]
    return open_


Row = tuple[int | None, str | None, int, int, float | None, str | None]


def view_table(rows: list[Row]) -> pl.DataFrame:
    """Rows of (user, shop, minute, minute written, amount, word)."""
    instant = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        [(u, s, ZERO + at * MINUTE, ZERO + w * MINUTE, a, t) for u, s, at, w, a, t in rows],
        schema={
            "user_id": pl.Int64,
            "shop_id": pl.String,
            "at": instant,
            "written": instant,
            "amount": pl.Float64,
            "word": pl.String,
        },
        orient="row",
    )


user = st.none() | st.integers(1, 3)
shop = st.none() | st.sampled_from(["x", "y", "ü"])
minute = st.integers(0, 12)
view_row = st.tuples(
    user,
    shop,
    minute,
    minute,
    st.none() | st.floats(-5, 5, width=16),
    st.sampled_from([None, "", "w"]),
)
# Of rows equal in key, time and creation Feast may take any: each such group has one row here.
view_rows = st.lists(view_row, max_size=20, unique_by=lambda row: (row[2], row[3]))
entity_rows = st.lists(st.tuples(user, shop, minute), min_size=1, max_size=12)
FEATURES = [f"{view}:{name}" for view in ("users", "shops", "pairs") for name in ("amount", "word")]


def entity_frame(rows: list[tuple[int | None, str | None, int]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row": range(len(rows)),
            "user_id": pd.array([row[0] for row in rows], dtype="Int64"),
            "shop_id": pd.array([row[1] for row in rows], dtype="object"),
            "event_timestamp": pd.to_datetime([ZERO + row[2] * MINUTE for row in rows], utc=True),
        }
    )


def answer(store: Any, frame: pd.DataFrame, **kwargs: Any) -> list[dict[str, Any]]:
    """The joined rows, in the entity rows' order."""
    job = store.get_historical_features(
        entity_df=frame, features=FEATURES, full_feature_names=True, **kwargs
    )
    rows = pl.DataFrame(job.to_arrow())
    return rows.sort("row").to_dicts()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    views=st.tuples(view_rows, view_rows, view_rows),
    entities=entity_rows,
    ttls=st.sampled_from([(0, 0, 0), (3, 0, 7), (1, 5, 2)]),
    created=st.booleans(),
    chunk=st.sampled_from([1, 3, 1000]),
)
def test_equal_to_feasts_duckdb_store(
    open_store: Open,
    views: tuple[list[Row], ...],
    entities: list[tuple[int | None, str | None, int]],
    ttls: tuple[int, int, int],
    created: bool,
    chunk: int,
) -> None:
    for name, rows in zip(("users", "shops", "pairs"), views, strict=True):
        view_table(rows).write_parquet(open_store.folder / f"{name}.parquet")  # type: ignore[attr-defined]
    frame = entity_frame(entities)
    with pytest.MonkeyPatch.context() as patch:
        # Views larger than a chunk are read in several: here of one, three or all rows.
        patch.setattr(point_in_time, "CHUNK_VALUES", 0)
        patch.setattr(point_in_time, "MIN_CHUNK", chunk)
        ours = answer(open_store(OURS, ttls), frame, filter_by_created_timestamp=created)
    theirs = answer(open_store(THEIRS, ttls), frame, filter_by_created_timestamp=created)
    assert len(ours) == len(entities)
    assert ours == theirs


@dataclass(frozen=True)
class Case:
    """One entity row of user 1 at minute 10 against the rows of the view, and what it gets."""

    name: str
    rows: list[Row]
    expected: float | None
    ttl: int = 5


CASES = [
    Case("the newest counts", [(1, "", 7, 7, 1.0, ""), (1, "", 9, 9, 2.0, "")], 2.0),
    Case("the moment itself counts", [(1, "", 10, 10, 1.0, "")], 1.0),
    Case("the future does not", [(1, "", 11, 11, 1.0, "")], None),
    Case("exactly as old as the ttl counts", [(1, "", 5, 5, 1.0, "")], 1.0),
    Case("older than the ttl does not", [(1, "", 4, 4, 1.0, "")], None),
    Case("no ttl, no limit", [(1, "", 0, 0, 1.0, "")], 1.0, ttl=0),
    Case("a newer null hides an older value", [(1, "", 7, 7, 1.0, ""), (1, "", 9, 9, None, "")], None),
    Case("of equal times the later written counts",
         [(1, "", 9, 12, 2.0, ""), (1, "", 9, 11, 1.0, "")], 2.0),
    Case("another key does not count", [(2, "", 9, 9, 1.0, "")], None),
    Case("a null key matches nothing", [(None, "", 9, 9, 1.0, "")], None),
    Case("no rows at all", [], None),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_row(case: Case, open_store: Open) -> None:
    view_table(case.rows).write_parquet(open_store.folder / "users.parquet")  # type: ignore[attr-defined]
    frame = entity_frame([(1, "x", 10), (None, "x", 10)])
    [found, without_key] = answer(open_store(OURS, (case.ttl, 0, 0)), frame)
    assert found["users__amount"] == case.expected
    assert without_key["users__amount"] is None


def test_keeps_the_rows_that_feasts_default_store_drops(open_store: Open) -> None:
    """All of a key's rows outside the TTL: the dask store drops the entity row, this one keeps it."""
    view_table([(1, "x", 0, 0, 1.0, "w")]).write_parquet(open_store.folder / "users.parquet")  # type: ignore[attr-defined]
    for view in ("shops", "pairs"):
        view_table([(1, "x", 0, 0, 1.0, "w")]).write_parquet(
            open_store.folder / f"{view}.parquet"  # type: ignore[attr-defined]
        )
    frame = entity_frame([(1, "x", 10), (1, "x", 2)])
    ours = answer(open_store(OURS, (5, 0, 0)), frame)
    assert [row["users__amount"] for row in ours] == [None, 1.0]
    dask = open_store({"type": "dask"}, (5, 0, 0))
    assert len(answer(dask, frame)) == 1


def test_duplicated_and_unordered_entity_rows_come_back_in_their_places(open_store: Open) -> None:
    view_table([(1, "x", m, m, float(m), "w") for m in range(10)]).write_parquet(
        open_store.folder / "users.parquet"  # type: ignore[attr-defined]
    )
    frame = entity_frame([(1, "x", 9), (1, "x", 3), (1, "x", 9), (2, "x", 5), (1, "x", 3)])
    job = open_store(OURS, (0, 0, 0)).get_historical_features(
        entity_df=frame, features=["users:amount"]
    )
    table = job.to_df()
    assert table["row"].tolist() == [0, 1, 2, 3, 4]
    assert table["amount"].tolist()[:3] == [9.0, 3.0, 9.0]
    assert table["amount"].isna().tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_pulls_the_latest_and_all_rows_as_duckdb_does(
    chunk: int, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline_store, "CHUNK_ROWS", chunk)
    rows = [
        (u, s, (7 * u + i) % 11, i, float(i), "w") for i in range(12) for u, s in [(i % 3, "x")]
    ]
    view_table(rows).write_parquet(open_store.folder / "users.parquet")  # type: ignore[attr-defined]
    results = []
    for kind in (OURS, THEIRS):
        store = open_store(kind, (0, 0, 0))
        view = store.get_feature_view("users")
        arguments = {
            "config": store.config,
            "data_source": view.batch_source,
            "join_key_columns": ["user_id"],
            "feature_name_columns": ["amount"],
            "timestamp_field": "at",
            "created_timestamp_column": "written",
            "start_date": ZERO + 2 * MINUTE,
            "end_date": ZERO + 9 * MINUTE,
        }
        offline = store._get_provider().offline_store
        latest = pl.DataFrame(offline.pull_latest_from_table_or_query(**arguments).to_arrow())
        everything = pl.DataFrame(offline.pull_all_from_table_or_query(**arguments).to_arrow())
        results.append(
            (
                latest.sort("user_id").to_dicts(),
                everything.sort("user_id", "at", "written").to_dicts(),
            )
        )
    assert results[0] == results[1]
    assert len(results[0][0]) == 3


def test_saves_writes_back_and_logs(open_store: Open, tmp_path: Path) -> None:
    """What else Feast asks of a store: saved datasets, `push` to the offline store."""
    from feast.errors import SavedDatasetLocationAlreadyExists
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    view_table([(1, "x", 1, 1, 5.0, "w")]).write_parquet(open_store.folder / "users.parquet")  # type: ignore[attr-defined]
    store = open_store(OURS, (0, 0, 0))
    job = store.get_historical_features(
        entity_df=entity_frame([(1, "x", 2)]), features=["users:amount"]
    )
    storage = SavedDatasetFileStorage(str(tmp_path / "saved.parquet"))
    job.persist(storage)
    assert pl.read_parquet(tmp_path / "saved.parquet")["amount"].to_list() == [5.0]
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        job.persist(storage)
    job.persist(storage, allow_overwrite=True)

    more = view_table([(1, "x", 2, 2, 6.0, "w")]).to_pandas()
    store.write_to_offline_store("users", more)
    [row] = store.get_historical_features(
        entity_df=entity_frame([(1, "x", 2)]), features=["users:amount"]
    ).to_df()["amount"]
    assert row == 6.0


def test_sql_and_foreign_sources_are_refused(open_store: Open) -> None:
    store = open_store(OURS, (0, 0, 0))
    with pytest.raises(ValueError, match="pandas DataFrame, not SQL"):
        store.get_historical_features(entity_df="SELECT 1", features=["users:amount"])
