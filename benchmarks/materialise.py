"""Materialising a view to the online store: our batches against Feast's own `materialize`.

Forty thousand entities with four features each, to sqlite and to a Redis server that this starts. Both
write the same bytes (tests/components/features/test_features_online.py compares them).
"""

import shutil
import socket
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, cpu_seconds, interleave, report

ENTITIES = 40_000
START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(days=30)


def write_rows(path: Path) -> None:
    import numpy as np
    import polars as pl

    random = np.random.default_rng(0)
    pl.DataFrame(
        {
            "key": np.arange(ENTITIES),
            "event_timestamp": START.timestamp() * 1e6
            + random.integers(0, 29 * 86400, ENTITIES) * 1e6,
            **{f"x{i}": random.normal(size=ENTITIES) for i in range(3)},
            "word": [f"word {i % 500}" for i in range(ENTITIES)],
        }
    ).with_columns(
        pl.col("event_timestamp").cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
    ).write_parquet(path)


def open_store(folder: Path, name: str, online: dict[str, Any]) -> Any:
    """A Feast project with one view, its online store empty."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64, Int64, String

    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(folder / f"{name}.db"),
            offline_store={"type": "slipway.components.features.offline_store.PolarsOfflineStore"},
            online_store=online,
            entity_key_serialization_version=3,
        )
    )
    entity = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
    fields = [Field(name=f"x{i}", dtype=Float64) for i in range(3)]
    view = FeatureView(
        name="view",
        entities=[entity],
        ttl=timedelta(days=60),
        schema=[Field(name="key", dtype=Int64), *fields, Field(name="word", dtype=String)],
        source=FileSource(
            name="rows", path=str(folder / "rows.parquet"), timestamp_field="event_timestamp"
        ),
    )
    store.apply([entity, view])
    return store


def rate(folder: Path, kind: str, port: int, feast: bool) -> float:
    """Entities a CPU second into an empty store."""
    from slipway.components.features.store.online import materialise

    name = f"{kind}-{time.monotonic_ns()}"
    if kind == "sqlite":
        online = {"type": "sqlite", "path": str(folder / f"{name}.sqlite")}
    else:
        online = {"type": "redis", "connection_string": f"127.0.0.1:{port}"}
    store = open_store(folder, name, online)
    if kind == "redis":
        store._get_provider().online_store._get_client(store.config.online_store).flushdb()
    if feast:
        seconds = cpu_seconds(lambda: store.materialize(START - timedelta(days=1), END))
    else:
        seconds = cpu_seconds(lambda: materialise(store, "view", END))
    found = store.get_online_features(
        features=["view:word"], entity_rows=[{"key": ENTITIES - 1}]
    ).to_dict()
    assert found["word"] == [f"word {(ENTITIES - 1) % 500}"]
    return ENTITIES / seconds


def main() -> None:
    kinds = ["sqlite"]
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        folder = Path(name)
        write_rows(folder / "rows.parquet")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        server = None
        if binary := shutil.which("redis-server"):
            command = [binary, "--port", str(port), "--save", "", "--dir", name]
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            time.sleep(1)
            kinds.append("redis")
        rows = []
        try:
            for kind in kinds:
                ours, theirs = interleave(
                    partial(rate, folder, kind, port, feast=False),
                    partial(rate, folder, kind, port, feast=True),
                    times=3,
                )
                what = f"{ENTITIES // 1000} k entities × 4 features to {kind}"
                rows.append(Row(what, "feast materialize", "entities/CPU s", ours, theirs, "≥ 10"))
        finally:
            if server:
                server.terminate()
                server.wait()
    report("materialise", rows)


if __name__ == "__main__":
    main()
