"""A predictor of several classes, and one of numbers: every protocol, the metadata, the log."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from support.serving_bundles import (
    CLASSES,
    Running,
    expected,
    flight_tensors,
    free_port,
    make_bundle,
    predictor,
)

from slipway.components.contracts.bundle import write_bundle
from slipway.components.contracts.monitoring.inference_log import log_schema
from slipway.components.metrics.kinds.choose import label_type_of

ROWS = 3


def truth(kind: str, rows: int = ROWS) -> dict[str, Any]:
    """What the model answers to `flight_tensors`, by hand."""
    chance = np.array(expected(rows))
    logit = np.log(chance / (1 - chance))
    if kind == "number":
        return {"value": 10 * logit, "low": 10 * logit - 5, "high": 10 * logit + 5}
    shares = np.exp(np.stack([logit, 0 * logit, -logit], 1))
    shares /= shares.sum(1, keepdims=True)
    return {
        "probabilities": shares,
        "probability": shares.max(1),
        "label": [CLASSES[place] for place in shares.argmax(1)],
    }


@pytest.fixture(scope="module", params=["multiclass", "number"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def running(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp(kind)
    make_bundle(folder / "bundle", kind=kind)  # type: ignore[arg-type]
    grpc = free_port()
    with predictor(folder, f"--grpc-port={grpc}") as started:
        started.grpc = f"127.0.0.1:{grpc}"
        yield started


def check(kind: str, served: dict[str, Any]) -> None:
    wanted = truth(kind)
    assert list(served) == list(wanted)
    for name, values in wanted.items():
        if name == "label":
            assert list(served[name]) == values
        else:
            found = np.array(served[name], float).reshape(values.shape)
            assert found == pytest.approx(values, abs=1e-4)


def test_v2_json(kind: str, running: Running) -> None:
    answer = running.infer(flight_tensors(ROWS)).json()
    check(kind, {output["name"]: output["data"] for output in answer["outputs"]})
    shapes = {output["name"]: output["shape"] for output in answer["outputs"]}
    if kind == "multiclass":
        assert shapes == {"probabilities": [3, 3], "probability": [3], "label": [3]}
    types = {output["name"]: output["datatype"] for output in answer["outputs"]}
    assert types.get("label", "BYTES") == "BYTES" and types.get("value", "FP32") == "FP32"


def test_one_output_is_given_where_one_is_asked_for(kind: str, running: Running) -> None:
    name = list(truth(kind))[-1]
    answer = running.infer(flight_tensors(1), outputs=[{"name": name}]).json()
    assert [output["name"] for output in answer["outputs"]] == [name]
    refused = running.infer(flight_tensors(1), outputs=[{"name": "nothing"}])
    assert refused.status_code == 400
    assert " and ".join(truth(kind)) in refused.json()["error"]


def test_v2_binary_by_tritonclient(kind: str, running: Running) -> None:
    import tritonclient.http as triton

    client = triton.InferenceServerClient(running.url.removeprefix("http://"))
    inputs = []
    for item in flight_tensors(ROWS):
        made = triton.InferInput(item["name"], item["shape"], item["datatype"])
        numpy_kind = {"FP64": np.float64, "BOOL": bool, "BYTES": object}[item["datatype"]]
        made.set_data_from_numpy(np.array(item["data"], numpy_kind))
        inputs.append(made)
    outputs = [triton.InferRequestedOutput(name, binary_data=True) for name in truth(kind)]
    result = client.infer("flights", inputs, outputs=outputs)
    served = {name: result.as_numpy(name) for name in truth(kind)}
    if kind == "multiclass":
        served["label"] = [value.decode() for value in served["label"]]
        assert served["probabilities"].shape == (3, 3)
    check(kind, served)


def ask_v1(running: Running) -> list[dict[str, Any]]:
    columns = {item["name"]: item["data"] for item in flight_tensors(ROWS)}
    rows = [{name: values[i] for name, values in columns.items()} for i in range(ROWS)]
    url = f"{running.url}/v1/models/flights:predict"
    return list(httpx.post(url, json={"instances": rows}).json()["predictions"])


def ask_grpc(running: Running) -> tuple[Any, Any]:
    """The answer by gRPC, and the client."""
    import tritonclient.grpc as triton

    client = triton.InferenceServerClient(running.grpc)
    inputs = []
    for item in flight_tensors(ROWS):
        made = triton.InferInput(item["name"], item["shape"], item["datatype"])
        numpy_kind = {"FP64": np.float64, "BOOL": bool, "BYTES": object}[item["datatype"]]
        made.set_data_from_numpy(np.array(item["data"], numpy_kind))
        inputs.append(made)
    return client.infer("flights", inputs), client


def test_v1(kind: str, running: Running) -> None:
    predictions = ask_v1(running)
    check(kind, {name: [row[name] for row in predictions] for name in predictions[0]})


def test_grpc(kind: str, running: Running) -> None:
    result, client = ask_grpc(running)
    served = {name: result.as_numpy(name) for name in truth(kind)}
    if kind == "multiclass":
        served["label"] = [value.decode() for value in served["label"]]
    check(kind, served)
    outputs = client.get_model_metadata("flights").outputs
    assert [output.name for output in outputs] == list(truth(kind))


def test_the_metadata_says_how_to_read_an_answer(kind: str, running: Running) -> None:
    content = httpx.get(f"{running.url}/v2/models/flights").json()
    shapes = {output["name"]: output["shape"] for output in content["outputs"]}
    if kind == "multiclass":
        assert shapes == {"probabilities": [-1, 3], "probability": [-1], "label": [-1]}
        assert json.loads(content["properties"]["classes"]) == list(CLASSES)
    else:
        assert shapes == {"value": [-1], "low": [-1], "high": [-1]}
        assert content["properties"]["level"] == "0.8"


def test_the_histogram_lets_two_models_be_compared(kind: str, running: Running) -> None:
    before = running.metric("slipway_probability_count")
    running.infer(flight_tensors(50))
    assert running.metric("slipway_probability_count") == before + 50
    assert 0 < running.metric("slipway_probability_sum") < before + 50


@pytest.mark.parametrize("of", ["multiclass", "number"])
def test_the_log_holds_the_answers_and_refusals(of: str, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", kind=of)  # type: ignore[arg-type]
    with predictor(tmp_path) as running:
        running.infer(flight_tensors(2), id="first")
        running.infer(flight_tensors(1)[1:], id="refused")
        running.infer(flight_tensors(3), id="last")
        assert running.stop() == 0
    files = sorted((tmp_path / "log").rglob("*.parquet"))
    label = label_type_of(bundle)
    schema = log_schema(bundle.features, label.columns())
    assert all(pq.read_schema(file).equals(schema) for file in files)
    rows = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    assert [row["request_id"] for row in rows] == ["first"] * 2 + ["refused"] + ["last"] * 3
    names = [name for name, _ in label.columns()]
    assert [rows[2][name] for name in names] == [None] * len(names)
    wanted = truth(of)
    for name in names:
        found = [row[name] for row in rows[3:]]
        if name == "label":
            assert found == wanted[name]
        else:
            assert np.array(found) == pytest.approx(np.array(wanted[name]), abs=1e-4)


def test_sets_of_classes_over_every_protocol(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle", kind="multiclass")
    shares = truth("multiclass")["probabilities"]
    edge = float(np.sort(shares, axis=None)[-5]) - 1e-4
    write_bundle(tmp_path / "bundle", replace(made, level=0.9, set_threshold=edge))
    wanted = [
        [CLASSES[k] for k in range(3) if row[k] >= edge or k == row.argmax()] for row in shares
    ]
    assert len({len(one) for one in wanted}) > 1
    grpc = free_port()
    with predictor(tmp_path, f"--grpc-port={grpc}") as running:
        answer = running.infer(flight_tensors(ROWS)).json()
        output = {one["name"]: one for one in answer["outputs"]}["set"]
        assert (output["datatype"], output["shape"]) == ("BYTES", [ROWS])
        assert [json.loads(text) for text in output["data"]] == wanted
        assert [row["set"] for row in ask_v1(running)] == wanted
        running.grpc = f"127.0.0.1:{grpc}"
        served = ask_grpc(running)[0].as_numpy("set")
        assert [json.loads(text.decode()) for text in served] == wanted
        meta = httpx.get(f"{running.url}/v2/models/flights").json()
        assert meta["properties"]["set_threshold"] == str(edge)
        assert {"name": "set", "datatype": "BYTES", "shape": [-1]} in meta["outputs"]
