"""Point-in-time join through Feast: our Polars store, Feast's duckdb store, bare `join_asof`.

A million entity rows against two views of 300,000 and 1,000,000 rows with four features each,
spread over a year; TTL 30 days. What the duckdb store costs depends on the history of a key, as it
joins by key first and looks at the times afterwards: so there is a row for each of several histories.
Of the example's views two have one row a key (schedule, plane); the others have 320 (aircraft), 8,700
(weather of an airport), 23,000 (destination), 117,000 (airline) and 393,000 (airport). After that
views of 1 to 50 million rows, for time and memory as the data grow.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, cpu_seconds, interleave, report, run_python

ENTITIES = 1_000_000
VIEWS = {"few": 300_000, "many": 1_000_000}
HISTORIES = (1_000, 5_000, 50_000, 1_000_000)
"""Numbers of keys: 1,000 rows a key of the larger view, then 200, 20 and 1."""
MAIN = 1_000
"""The duckdb store's sample is one at this size: it takes minutes."""
GROWTH = (1_000_000, 10_000_000, 50_000_000)


def write_view(path: Path, rows: int, seed: int, keys: int = 50_000) -> None:
    """A view's table, written in pieces of a million rows so that this takes little memory."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(seed)
    writer = None
    for start in range(0, rows, 1_000_000):
        size = min(1_000_000, rows - start)
        stamps = random.integers(0, 365 * 86_400_000_000, size) + 1_700_000_000_000_000
        table = pa.table(
            {
                "key": pa.array(random.integers(0, keys, size)),
                "at": pa.array(stamps, pa.timestamp("us", "UTC")),
                **{f"x{i}": pa.array(random.normal(size=size)) for i in range(4)},
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=250_000)
    if writer:
        writer.close()


def entity_frame(rows: int, keys: int = 50_000) -> Any:
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(7)
    stamps = random.integers(0, 365 * 86_400, rows) + 1_700_000_000
    return pd.DataFrame(
        {
            "key": random.integers(0, keys, rows),
            "event_timestamp": pd.to_datetime(stamps, unit="s", utc=True),
        }
    )


def open_store(folder: Path, offline: str, views: list[str]) -> Any:
    """A Feast project over the views' files."""
    from datetime import timedelta

    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64, Int64

    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(folder / f"{offline.rsplit('.')[-1]}.db"),
            offline_store={"type": offline},
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
        )
    )
    entity = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
    fields = [Field(name=f"x{i}", dtype=Float64) for i in range(4)]
    store.apply(
        [
            entity,
            *(
                FeatureView(
                    name=name,
                    entities=[entity],
                    ttl=timedelta(days=30),
                    schema=[Field(name="key", dtype=Int64), *fields],
                    source=FileSource(
                        name=f"{name}_source",
                        path=str(folder / f"{name}.parquet"),
                        timestamp_field="at",
                    ),
                )
                for name in views
            ),
        ]
    )
    return store


def through_feast(store: Any, entities: Any, views: list[str]) -> Any:
    references = [f"{view}:x{i}" for view in views for i in range(4)]
    return store.get_historical_features(
        entity_df=entities, features=references, full_feature_names=True
    ).to_arrow()


def bare(folder: Path, entities: Any, views: list[str]) -> Any:
    """The same values with `join_asof` and nothing else: no store, rows in the order of time."""
    import polars as pl

    rows = pl.from_pandas(entities).sort("event_timestamp")
    rows = rows.with_columns(pl.col("event_timestamp").cast(pl.Datetime("us", "UTC")))
    for view in views:
        right = pl.read_parquet(folder / f"{view}.parquet").sort("at")
        rows = rows.join_asof(
            right.rename({f"x{i}": f"{view}__x{i}" for i in range(4)}),
            left_on="event_timestamp",
            right_on="at",
            by="key",
            tolerance="30d",
            check_sortedness=False,
        ).drop("at", strict=False)
    return rows


GROW = """
import sys; from pathlib import Path
from benchmarks import pit_join
folder = Path(sys.argv[1])
store = pit_join.open_store(folder, pit_join.OURS, ["grown"])
assert pit_join.through_feast(store, pit_join.entity_frame(1_000_000), ["grown"]).num_rows == 1_000_000
"""
OURS = "slipway.components.features.offline_store.PolarsOfflineStore"


def compare(keys: int, duckdb_times: int) -> list[Row]:
    """The three ways on views with this many keys; duckdb only where it is asked for."""
    views = list(VIEWS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, (view, rows) in enumerate(VIEWS.items()):
            write_view(folder / f"{view}.parquet", rows, seed, keys)
        entities = entity_frame(ENTITIES, keys)
        ours, duckdb = (open_store(folder, kind, views) for kind in (OURS, "duckdb"))
        mine, plain = interleave(
            lambda: cpu_seconds(lambda: through_feast(ours, entities, views)),
            lambda: cpu_seconds(lambda: bare(folder, entities, views)),
            times=5,
        )
        theirs = [
            cpu_seconds(lambda: through_feast(duckdb, entities, views)) for _ in range(duckdb_times)
        ]
    history = " and ".join(f"{max(rows // keys, 1):,}" for rows in VIEWS.values())
    work = f"10⁶ rows × 2 views, about {history} rows a key"
    found = [Row(work, "bare polars join_asof", "CPU s", mine, plain, reach="≤ 2")]
    if theirs:
        found.insert(0, Row(work, "Feast duckdb store", "CPU s", mine, theirs, reach="≤ 1/30"))
    return found


def grow() -> list[Row]:
    """A view of each size in GROWTH, joined in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        taken = []
        for size in GROWTH:
            write_view(Path(name) / "grown.parquet", size, 3)
            taken.append(run_python(GROW, name))
    for size, result in zip(GROWTH[1:], taken[1:], strict=True):
        what, peer = (f"view of {n // 1_000_000} M rows" for n in (size, GROWTH[0]))
        for unit, key, reach in (
            ("CPU s a process", "cpu_s", f"≤ {size // GROWTH[0]}"),
            ("peak MB", "peak_mb", "≤ 2"),
        ):
            rows.append(Row(what, peer, unit, [result[key]], [taken[0][key]], reach=reach))
    return rows


def main() -> None:
    """Measures each history, then the growth. PIT_JOIN_DUCKDB=0 leaves the duckdb store out."""
    rows = []
    wanted = int(os.environ.get("PIT_JOIN_DUCKDB", "2"))
    for keys in HISTORIES:
        rows += compare(keys, min(wanted, 1) if keys == MAIN else wanted)
    report("pit_join", rows + grow())


if __name__ == "__main__":
    main()
