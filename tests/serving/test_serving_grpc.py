"""The gRPC protocol, with tritonclient and with the kserve SDK's client."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support.serving_bundles import expected, flight_tensors, free_port, predictor


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with predictor(tmp_path_factory.mktemp("grpc"), f"--grpc-port={port}"):
        yield f"127.0.0.1:{port}"


def triton_inputs(rows: int) -> list[Any]:
    import tritonclient.grpc as triton

    made = []
    for item in flight_tensors(rows):
        kind = {"FP64": np.float64, "BOOL": bool, "BYTES": object}[item["datatype"]]
        values = np.array(item["data"], kind)
        tensor = triton.InferInput(item["name"], [rows], item["datatype"])
        tensor.set_data_from_numpy(values)
        made.append(tensor)
    return made


def test_tritonclient(address: str) -> None:
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    client = triton.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("flights", "7") and not client.is_model_ready("other")
    assert client.get_server_metadata().name == "slipway-predictor"
    assert client.get_model_metadata("flights").inputs[0].name == "departs"
    result = client.infer("flights", triton_inputs(4), request_id="r")
    assert result.as_numpy("probability") == pytest.approx(np.array(expected(4)), abs=1e-6)
    assert result.as_numpy("label").dtype == np.int64 and result.get_response().id == "r"
    cases = [
        ("flights", triton_inputs(1)[1:], "StatusCode.INVALID_ARGUMENT", "'miles'"),
        ("other", triton_inputs(1), "StatusCode.NOT_FOUND", "no model 'other'"),
    ]
    for model, inputs, code, message in cases:
        with pytest.raises(InferenceServerException) as error:
            client.infer(model, inputs)
        assert error.value.status() == code and message in error.value.message()
    assert client.infer("flights", triton_inputs(1)).as_numpy("label") is not None


_KSERVE = """
import asyncio, json, sys
from kserve import InferenceGRPCClient, InferInput, InferRequest
inputs = []
for item in json.loads(sys.argv[2]):
    data = item["data"]
    if item["datatype"] == "BYTES":
        data = [value.encode() for value in data]
    inputs.append(InferInput(item["name"], item["shape"], item["datatype"], data))
async def ask():
    return await InferenceGRPCClient(sys.argv[1]).infer(InferRequest("flights", inputs))
print(json.dumps(asyncio.run(ask()).outputs[0].as_numpy().tolist()))
"""


def test_typed_contents_by_the_kserve_sdk(address: str) -> None:
    # A process of its own: its messages and tritonclient's cannot be in one.
    command = [sys.executable, "-c", _KSERVE, address, json.dumps(flight_tensors(2))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer == pytest.approx(expected(2), abs=1e-6)


def test_fuzzed_bytes_are_no_internal_error(address: str) -> None:
    import random

    import grpc

    from slipway.serving.grpc.messages import message

    request = message("ModelInferRequest")(model_name="flights")
    for item in flight_tensors(1):
        request.inputs.add(name=item["name"], datatype=item["datatype"], shape=[1])
        request.raw_input_contents.append(b"\x01\x00\x00\x00A")
    whole = request.SerializeToString()
    generator = random.Random(7)
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for _ in range(150):
            damaged = bytearray(whole)
            for _ in range(generator.randrange(6)):
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
            with pytest.raises(grpc.RpcError) as error:
                call(bytes(damaged), timeout=20)
            allowed = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}
            assert error.value.code().name in allowed, error.value.details()
