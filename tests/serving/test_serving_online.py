"""Entity keys in place of features: the online store's values, through Feast itself."""

from pathlib import Path
from typing import Any

import pytest
from serving_bundles import expected, flight_tensors, predictor, tensor


@pytest.fixture
def feature_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three flights in a sqlite online store, written by Feast."""
    import pandas as pd
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
    from feast.repo_config import RepoConfig
    from feast.types import Bool, Float64, String, UnixTimestamp
    from feast.value_type import ValueType

    from components.contracts.feature_store import repo_config

    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))
    monkeypatch.delenv("FEAST_REDIS_URL", raising=False)
    (tmp_path / "store" / "flights").mkdir(parents=True)
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
    store.write_to_online_store("schedule", frame)
    return tmp_path


def test_keys_and_features_give_the_same_answer(feature_store: Path) -> None:
    with predictor(feature_store / "p", "--online") as running:
        keys = [
            tensor("tailnum", "BYTES", ["flight-1", "flight-0", "unknown"]),
            tensor("flight_id", "BYTES", ["a", "b", "c"]),
        ]
        answer = running.infer(keys).json()["outputs"][0]["data"]
        truth = expected(2)
        assert answer[:2] == pytest.approx([truth[1], truth[0]], abs=1e-6)
        nothing = [
            tensor(name, kind, [None])
            for name, kind in {
                "miles": "FP64",
                "delay": "FP64",
                "weekend": "BOOL",
                "carrier": "BYTES",
                "origin": "BYTES",
                "departs": "BYTES",
            }.items()
        ]
        assert running.infer(nothing).json()["outputs"][0]["data"][0] == answer[2]
        # What comes with the request stands.
        more = [tensor("tailnum", "BYTES", ["flight-0"]), tensor("miles", "FP64", [101.5])]
        features = [t for t in flight_tensors(1) if t["name"] != "miles"]
        features.append(tensor("miles", "FP64", [101.5]))
        assert running.infer(more).json()["outputs"] == running.infer(features).json()["outputs"]
        for bad in ([None], [7]):
            response = running.infer([tensor("tailnum", "BYTES", bad)])
            assert response.status_code == 400 and "'tailnum' is an entity key" in response.text
