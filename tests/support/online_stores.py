"""Online stores for the serving tests: a Redis server of their own, and three flights in a store."""

import shutil
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support.serving_bundles import flight_tensors, free_port, tensor, wait_for

KEYS = [
    tensor("tailnum", "BYTES", ["flight-1", "flight-0", "unknown"]),
    tensor("flight_id", "BYTES", ["a", "b", "c"]),
]


class RedisServer:
    """A Redis server that keeps nothing on disk, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        binary = shutil.which("redis-server")
        assert binary, "redis-server is not installed (Debian: apt-get install redis-server)"
        command = [binary, "--port", str(self._port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self._folder), "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for(self._answers)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), 1).close()
        except OSError:
            return False
        return True


def fill_store(tmp_path: Path, *, by_stage: bool = False) -> None:
    """Three flights in the online store, written by Feast, or as the features stage does."""
    import pandas as pd
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
    from feast.repo_config import RepoConfig
    from feast.types import Bool, Float64, String, UnixTimestamp
    from feast.value_type import ValueType

    from slipway.components.contracts.feature_store import repo_config

    (tmp_path / "store" / "flights").mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({t["name"]: t["data"] for t in flight_tensors(3)})
    frame = frame.rename(columns={"flight_id": "tailnum"})
    frame["departs"] = pd.to_datetime(frame["departs"], utc=True)
    frame["event_timestamp"] = pd.Timestamp("2013-12-01", tz="UTC")
    frame.loc[2, "delay"] = None
    source = tmp_path / "source.parquet"
    frame.to_parquet(source)
    types: dict[str, Any] = {"miles": Float64, "delay": Float64, "weekend": Bool}
    types |= {"carrier": String, "origin": String, "departs": UnixTimestamp}
    view = FeatureView(
        name="schedule",
        entities=[Entity(name="aircraft", join_keys=["tailnum"], value_type=ValueType.STRING)],
        schema=[Field(name=name, dtype=kind) for name, kind in types.items()],
        source=FileSource(path=str(source), timestamp_field="event_timestamp"),
    )
    service = FeatureService(name="flights_v1", features=[view])
    store = FeatureStore(config=RepoConfig(**repo_config("flights")))
    store.apply([view.entities and Entity(name="aircraft", join_keys=["tailnum"]), view, service])
    if by_stage:
        from slipway.components.features.store.online import materialise

        assert materialise(store, "schedule", datetime(2013, 12, 2, tzinfo=UTC)) == 3
    else:
        store.write_to_online_store("schedule", frame)
