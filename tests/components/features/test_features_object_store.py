"""A feature store in an object store, over its real protocol: S3 (moto's server) with Redis."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from slipway.components.config.data import Window
from slipway.components.contracts.feature_store import locate, repo_config
from slipway.components.contracts.splits import PARTS, read_part
from slipway.components.features.backfill import backfill_features
from slipway.components.features.features import build_features
from slipway.components.features.tables import read_parts, write_parts

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
END = START + 10 * DAY
CONFIG: dict[str, Any] = {
    "entities": {"trip": "trip_id", "driver": "driver"},
    "examples": {"table": "trips", "key": "trip_id", "time": "starts", "lead": "1h"},
    "label": {"column": "delay", "above": 10, "known": "ends"},
    "split": {"validation": "2d", "test": "2d"},
    "views": [
        {
            "name": "driver_delays",
            "entity": "driver",
            "table": "trips",
            "time": "starts",
            "known": "ends",
            "aggregates": {"driver_delay": {"function": "mean", "column": "delay", "window": "1d"}},
        }
    ],
}


def trips(more: float = 0) -> pl.DataFrame:
    starts = [START + n * HOUR for n in range(240)]
    return pl.DataFrame(
        {
            "trip_id": [f"t{n}" for n in range(240)],
            "starts": starts,
            "ends": [start + 2 * HOUR for start in starts],
            "driver": [n % 5 for n in range(240)],
            "delay": [n * 7 % 25 + more for n in range(240)],
        }
    )


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 server on a port of its own, reached by endpoint, with an empty bucket."""
    import httpx
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    httpx.post(f"{endpoint}/moto-api/reset")
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem(endpoint_url=endpoint)
    store.mkdir("bucket")
    yield store
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_the_same_features_as_on_this_machine(
    s3: Any, make_dataset: Any, redis_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Splits, tables, a backfill, and what is served: all as with a folder and sqlite."""
    from feast import FeatureStore, RepoConfig

    window = (START.isoformat(), END.isoformat())
    dataset = make_dataset({"trips": trips()}, window, "first")
    changed = make_dataset({"trips": trips(more=5)}, window, "changed")

    def made(name: str, uri: str, redis: str) -> tuple[Any, ...]:
        monkeypatch.setenv("FEATURE_STORE_URI", uri)
        monkeypatch.setenv("FEAST_REDIS_URL", redis)
        build_features(dataset, "trips", CONFIG, tmp_path / name)
        result = backfill_features(
            changed,
            "trips",
            CONFIG,
            Window(start=START + 3 * DAY, end=START + 5 * DAY),
            True,
            tmp_path / "record",
        )
        store = FeatureStore(config=RepoConfig(**repo_config("trips")))
        served = store.get_online_features(
            features=store.get_feature_service("trips"),
            entity_rows=[{"driver": driver} for driver in range(5)],
        ).to_dict()
        table = pl.concat(read_parts(locate("trips").table("driver_delays")))
        return [read_part(tmp_path / name, part) for part in PARTS], table, result, served

    parts, table, result, served = made("there", "s3://bucket/store", redis_server)
    local_parts, local_table, local_result, local_served = made("here", str(tmp_path / "store"), "")
    assert s3.exists("bucket/store/trips/registry.db")
    assert parts == local_parts
    assert_frame_equal(table, local_table)
    assert result == local_result and result.views["driver_delays"].written > 0
    assert served == local_served and None not in served["driver_delay"]


def test_a_table_that_could_not_be_written_whole_leaves_the_old_one(s3: Any) -> None:
    target, old = "s3://bucket/tables/view.parquet", pl.DataFrame({"n": [1, 2]})
    write_parts([old], target)

    def parts() -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"n": [3]})
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_parts(parts(), target)
    assert_frame_equal(pl.concat(read_parts(target)), old)
    assert s3.find("bucket/tables") == ["bucket/tables/view.parquet"]
