"""The V2 and V1 protocols over real HTTP, with clients that others wrote."""

import json
import subprocess
import sys
from typing import Any

import httpx
import numpy as np
import pytest
from support.serving_bundles import Running, expected, flight_tensors, logistic, tensor

PROBABILITY, LABEL = 0, 1


def outputs(response: httpx.Response) -> dict[str, list[Any]]:
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


def test_answers_are_the_models(served: Running) -> None:
    response = served.infer(flight_tensors(40), id="forty")
    content = response.json()
    assert (content["model_name"], content["model_version"], content["id"]) == (
        "flights",
        "7",
        "forty",
    )
    assert outputs(response)["probability"] == pytest.approx(expected(40), abs=1e-6)
    assert outputs(response)["label"] == [int(p >= 0.5) for p in expected(40)]
    assert [o["datatype"] for o in content["outputs"]] == ["FP32", "INT64"]


def test_order_of_inputs_and_column_shape_do_not_matter(served: Running) -> None:
    tensors = flight_tensors(3)[::-1]
    for item in tensors:
        item["shape"] = [3, 1]
        item["data"] = [[value] for value in item["data"]]
    assert outputs(served.infer(tensors))["probability"] == pytest.approx(expected(3), abs=1e-6)


def test_nulls_are_missing_values(served: Running) -> None:
    names = {
        "miles": "FP64",
        "delay": "FP64",
        "weekend": "BOOL",
        "carrier": "BYTES",
        "origin": "BYTES",
        "departs": "BYTES",
    }
    answer = outputs(served.infer([tensor(n, t, [None]) for n, t in names.items()]))
    assert answer["probability"] == pytest.approx([logistic(*[None] * 6)], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "datatype", "data"),
    [
        ("miles", "INT64", [100]),
        ("miles", "INT32", [100]),
        ("miles", "UINT8", [100]),
        ("miles", "FP32", [100.0]),
        ("weekend", "INT64", [1]),
        ("weekend", "FP64", [1.0]),
        ("departs", "INT64", [1_385_859_600_000_000]),
        ("departs", "BYTES", ["2013-12-01T01:00:00-05:00"]),
        ("departs", "BYTES", ["2013-12-01 01:00"]),
    ],
)
def test_every_datatype_of_a_kind(
    served: Running, name: str, datatype: str, data: list[Any]
) -> None:
    values = {"miles": 100.0, "weekend": True, "departs": 1_385_859_600_000_000}
    tensors = [t for t in flight_tensors(1) if t["name"] != name] + [tensor(name, datatype, data)]
    base = {"miles": 100.5, "weekend": False, "departs": 1_385_856_900_000_000}
    base[name] = values[name]
    truth = logistic(base["miles"], 0.0, base["weekend"], "AA", "EWR", int(base["departs"]))
    assert outputs(served.infer(tensors))["probability"] == pytest.approx([truth], abs=1e-6)


def test_outputs_that_are_asked_for(served: Running) -> None:
    response = served.infer(flight_tensors(1), outputs=[{"name": "label"}])
    assert list(outputs(response)) == ["label"]


def test_metadata_health_and_versions(served: Running) -> None:
    get = lambda path: httpx.get(served.url + path)  # noqa: E731
    assert get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert get("/v2/health/live").json() == {"live": True}
    assert get("/v2/models/flights/ready").json() == {"name": "flights", "ready": True}
    described = get("/v2/models/flights").json()
    assert described["versions"] == ["7"] and described["properties"]["key"] == "flight_id"
    assert described["properties"]["positive"] == "a flight is late", "what label 1 stands for"
    assert described["properties"]["predicts"] == "whether a flight is late"
    assert {i["name"]: i["datatype"] for i in described["inputs"]}["departs"] == "BYTES"
    assert get("/v2/models/flights/versions/7").status_code == 200
    assert get("/v2/models/flights/versions/8").status_code == 404
    assert get("/v1/models/flights").json() == {"name": "flights", "ready": True}
    body = {"inputs": flight_tensors(1)}
    versioned = httpx.post(f"{served.url}/v2/models/flights/versions/7/infer", json=body)
    assert versioned.status_code == 200
    for path, status in (
        ("/v2/models/other/infer", 404),
        ("/nowhere", 404),
        ("/v2/models/flights/explain", 404),
    ):
        assert httpx.post(served.url + path, json=body).status_code == status
    assert httpx.get(f"{served.url}/v2/models/flights/infer").status_code == 405
    assert httpx.post(f"{served.url}/v2/health/live").status_code == 405


def test_v1_predict(served: Running) -> None:
    rows = [
        {t["name"]: t["data"][i] for t in flight_tensors(3) if t["name"] != "flight_id"}
        for i in range(3)
    ]
    response = httpx.post(f"{served.url}/v1/models/flights:predict", json={"instances": rows})
    answer = [p["probability"] for p in response.json()["predictions"]]
    assert answer == pytest.approx(expected(3), abs=1e-6)
    del rows[1]["miles"]
    response = httpx.post(f"{served.url}/v1/models/flights:predict", json={"instances": rows})
    assert response.status_code == 400 and "Instance 1 lacks" in response.json()["error"]


def test_v1_is_counted_and_logged_as_v2_is(served: Running) -> None:
    """It skipped `log: false` and the request histograms."""
    rows = [{t["name"]: t["data"][0] for t in flight_tensors(1) if t["name"] != "flight_id"}]
    url = f"{served.url}/v1/models/flights:predict"
    names = [
        *(f"request_{part}_seconds_count" for part in ("preprocess", "predict", "postprocess")),
        "slipway_unlogged_requests_total",
        "slipway_probability_count",
    ]
    before = [served.metric(name) for name in names]
    body = {"instances": rows, "parameters": {"log": False}}
    assert httpx.post(url, json=body).status_code == 200
    after = [served.metric(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1, 1, 0]
    refused = httpx.post(url, json={"instances": rows, "parameters": {"log": "no"}})
    assert refused.status_code == 400 and "'log' must be true or false" in refused.json()["error"]


def test_missing_features_may_be_taken_as_null(tmp_path: Any) -> None:
    from support.serving_bundles import make_bundle

    from slipway.components.contracts.bundle import read_bundle
    from slipway.serving.protocol.rows import RowReader

    make_bundle(tmp_path)
    reader = RowReader(read_bundle(tmp_path), max_rows=10, missing_as_null=True)
    rows = reader.read([tensor("miles", "FP64", [1.5, None])])
    assert rows.count == 2 and rows.numeric[0, 0] == 1.5 and np.isnan(rows.numeric[1]).all()
    assert rows.categorical.tolist() == [["", ""]] * 2 and (rows.time == -(2**63)).all()


class TestTritonClient:
    """tritonclient speaks the binary extension by default."""

    def ask(self, served: Running, *, binary: bool) -> Any:
        import tritonclient.http as triton

        client = triton.InferenceServerClient(served.url.removeprefix("http://"))
        assert client.is_server_ready() and client.is_model_ready("flights", "7")
        inputs = []
        for item in flight_tensors(5):
            dtype = {"FP64": np.float64, "BOOL": bool, "BYTES": object}[item["datatype"]]
            values = np.array(item["data"], dtype)
            made = triton.InferInput(item["name"], [5], item["datatype"])
            made.set_data_from_numpy(values, binary_data=binary)
            inputs.append(made)
        wanted = [
            triton.InferRequestedOutput("probability", binary_data=binary),
            triton.InferRequestedOutput("label", binary_data=binary),
        ]
        return client.infer("flights", inputs, request_id="t", outputs=wanted if binary else None)

    @pytest.mark.parametrize("binary", [True, False])
    def test_infer(self, served: Running, binary: bool) -> None:
        result = self.ask(served, binary=binary)
        assert result.as_numpy("probability").dtype == np.float32
        assert result.as_numpy("probability") == pytest.approx(np.array(expected(5)), abs=1e-6)
        assert result.as_numpy("label").tolist() == [int(p >= 0.5) for p in expected(5)]

    def test_error_reaches_the_client(self, served: Running) -> None:
        import tritonclient.http as triton
        from tritonclient.utils import InferenceServerException

        client = triton.InferenceServerClient(served.url.removeprefix("http://"))
        wrong = triton.InferInput("milse", [1], "FP64")
        wrong.set_data_from_numpy(np.zeros(1))
        with pytest.raises(InferenceServerException, match="Did you mean 'miles'"):
            client.infer("flights", [wrong])


KSERVE_CLIENT = """
import asyncio, json, sys
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.constants.constants import PredictorProtocol

url, tensors = sys.argv[1], json.loads(sys.argv[2])
inputs = [InferInput(t["name"], t["shape"], t["datatype"], t["data"]) for t in tensors]

async def ask():
    client = InferenceRESTClient(RESTConfig(protocol=PredictorProtocol.REST_V2))
    assert await client.is_server_ready(url)
    request = InferRequest(model_name="flights", infer_inputs=inputs)
    return await client.infer(url, request, model_name="flights")

print(json.dumps({output.name: output.data for output in asyncio.run(ask()).outputs}))
"""


def test_kserve_client(served: Running) -> None:
    # In a process of its own: the protobuf types of kserve and tritonclient have the same names.
    arguments = [served.url, json.dumps(flight_tensors(3))]
    done = subprocess.run(
        [sys.executable, "-c", KSERVE_CLIENT, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["probability"] == pytest.approx(expected(3), abs=1e-6)
    assert len(answer["label"]) == 3


def test_curl(served: Running, tmp_path: Any) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"inputs": flight_tensors(1)}))
    url = f"{served.url}/v2/models/flights/infer"
    # More than 1024 bytes: curl asks first, with Expect: 100-continue.
    done = subprocess.run(
        ["curl", "-sS", "-H", "Expect: 100-continue", "--data-binary", f"@{body}", url],
        capture_output=True,
        check=True,
    )
    answer = json.loads(done.stdout)["outputs"][PROBABILITY]["data"]
    assert answer == pytest.approx(expected(1), abs=1e-6)


def test_metrics_have_the_names_of_kserve(served: Running) -> None:
    before = served.metric('slipway_requests_total{code="400"')
    served.infer([tensor("miles", "FP64", [1.0])])
    served.infer(flight_tensors(2))
    assert served.metric('slipway_requests_total{code="400"') == before + 1
    for name in ("request_preprocess_seconds", "request_predict_seconds"):
        assert served.metric(f'{name}_count{{model_name="flights"}}') > 0
    assert served.metric("slipway_predicted_rows_total") > 0
