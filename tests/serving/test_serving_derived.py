"""Derived inputs over the wire: what a request leaves out is made of what it brings, and of the store."""

import json
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import polars as pl
import pytest
from support.datasets import write_dataset
from support.serving_bundles import Running, predictor
from support.trips_world import CONFIG, WINDOW, world

from slipway.components.contracts.bundle import ONNX, model_inputs, read_bundle
from slipway.components.contracts.feature_store import locate
from slipway.components.contracts.rows.requests import v2_inputs
from slipway.components.contracts.splits import PARTS, read_part, read_splits
from slipway.components.features.features import build_features
from slipway.components.train.train import TrainingTask, train_model

PAST = deepcopy(CONFIG["views"][3])
PAST["aggregates"]["since_trip"] = {"function": "since", "window": "9000d"}
FEATURES: dict[str, Any] = CONFIG | {
    "views": [*CONFIG["views"][:3], PAST],
    "derived": {
        "rush": "hour(leaves) in [7, 8]",
        "per_trip": "ratio(miles, driver_trips, 0)",
        "side": "prefix(to, 2) if night or rush else None",
    },
    "not_inputs": ["leaves"],
    "ngrams": {"to": {"of": "characters", "n": [2], "buckets": 4}},
}
MADE = {"rush", "per_trip", "side", *(f"to_gram_{bucket}" for bucket in range(4))}
SETTINGS = {
    "members": 1,
    "min_steps": 1,
    "network": {"architecture": "mlp", "width": 8, "layers": 1, "bins": 4},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the stages, with its splits and its feature store."""
    folder = tmp_path_factory.mktemp("derived")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATURE_STORE_URI", str(folder / "store"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.delenv("FEAST_REDIS_URL", raising=False)
        build_features(
            write_dataset(folder / "dataset", world(), WINDOW), "trips", FEATURES, folder / "splits"
        )
        task = TrainingTask(
            splits=folder / "splits", project="trips", config=SETTINGS, seed=1, epochs=1,
            learning_rate=1e-2, gpus=0, allow_cpu=True, bundle=folder / "bundle",
            report=folder / "report.html",
        )  # fmt: skip
        train_model(task)
    return folder


def test_a_trained_model_is_asked_without_what_is_made(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURE_STORE_URI", str(trained / "store"))
    bundle, splits = read_bundle(trained / "bundle"), read_splits(trained / "splits")
    assert {f.name for f in bundle.sources} == {"leaves", "to"}
    assert set(bundle.derived) == MADE and {f.name for f in bundle.features} >= MADE
    every = pl.concat([pl.DataFrame(read_part(trained / "splits", part)) for part in PARTS])
    trips = world()["trips"].select("trip_id", leaves="starts_local", to="zone")
    rows = every.join(trips, on="trip_id", how="left", maintain_order="left").head(40)
    arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    session = onnxruntime.InferenceSession(str(trained / "bundle" / ONNX))
    wanted = session.run([bundle.output[0]], model_inputs(bundle, arrow))[0]
    base = [f for f in (*splits.features, *splits.sources) if f.name not in MADE]
    flags = ("--online", "--trust-request-time", "--feature-project=trips", "--model-name=flights")
    with predictor(tmp_path / "p", *flags, bundle=trained / "bundle") as running:
        for features in (splits.features, base):
            answer = running.infer(v2_inputs(features, arrow)).json()
            np.testing.assert_array_equal(np.float32(answer["outputs"][0]["data"]), wanted)
        lacking = [t for t in v2_inputs(base, arrow) if t["name"] != "to"]
        refused = running.infer(lacking)
        assert refused.status_code == 400 and "lacks the input 'to'" in refused.text
        instances = [
            {t["name"]: t["data"][n] for t in v2_inputs(base, arrow)} for n in range(arrow.num_rows)
        ]
        predicted = httpx.post(
            f"{running.url}/v1/models/flights:predict", json={"instances": instances}
        ).json()["predictions"]
        np.testing.assert_array_equal(np.float32([p["probability"] for p in predicted]), wanted)
        _asked_by_keys(running, rows, base)
        described = httpx.get(f"{running.url}/v2/models/flights").json()
    assert [i["name"] for i in described["inputs"]][-2:] == ["leaves", "to"]
    assert json.loads(described["properties"]["derived"])["rush"] == FEATURES["derived"]["rush"]


def _asked_by_keys(running: Running, rows: pl.DataFrame, base: list[Any]) -> None:
    """The keys, and what only the request can know: the store gives the rest, and all else is made."""
    row = rows.tail(1).to_arrow(compat_level=pl.CompatLevel.oldest())
    keys = [
        {"name": name, "datatype": "BYTES", "shape": [1], "data": [str(row[name][0].as_py())]}
        for name in ("trip_id", "driver", "zone")
    ]
    by_keys = running.infer(keys).json()
    brought = [t for t in v2_inputs(base, row) if t["name"] in ("miles", "to", "leaves")]
    both = running.infer([*keys, *brought]).json()
    # The store has the same values of this trip.
    assert both["outputs"] == by_keys["outputs"]
    for tensor in brought:
        if tensor["name"] == "miles":
            tensor["data"] = [5000.0]
    other = running.infer([*keys, *brought]).json()
    assert other["outputs"][0]["data"] != both["outputs"][0]["data"]
    # Hours since a moment that the store holds: to that of the request.
    table = pl.read_parquet(locate("trips").table("driver_delays"))
    last = table.filter(pl.col("driver") == row["driver"][0].as_py())["since_trip"].max()
    for hours in (2.5, 300.0):
        moment = last + timedelta(hours=hours)
        sent = [t for t in v2_inputs(base, row) if t["name"] != "since_trip"]
        at = running.infer([*keys, *sent], parameters={"time": moment.isoformat()}).json()
        since = {"name": "since_trip", "datatype": "FP64", "shape": [1], "data": [hours]}
        assert at["outputs"] == running.infer([*sent, since]).json()["outputs"]
