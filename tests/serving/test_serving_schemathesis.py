"""schemathesis against a running predictor, by the Open Inference Protocol's OpenAPI description."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from support.serving_bundles import Running, flight_tensors

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"enum": [t["name"] for t in flight_tensors(1)] + ["mils", ""]},
        "shape": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        "datatype": {"enum": ["FP64", "FP32", "INT64", "INT8", "BOOL", "BYTES", "FP128"]},
        "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer"}}},
        "data": {
            "type": "array",
            "maxItems": 4,
            "items": {"type": ["number", "string", "boolean", "null", "array"]},
        },
    },
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {
            "type": "object",
            "properties": {"time": {"type": "string"}, "log": {"type": "boolean"}},
        },
        "inputs": {"type": "array", "items": _TENSOR, "maxItems": 8},
        "outputs": {
            "type": "array",
            "maxItems": 2,
            "items": {"properties": {"name": {"enum": ["label", "probability", "x"]}}},
        },
    },
}
_V1 = {
    "type": "object",
    "required": ["instances"],
    "properties": {"instances": {"type": "array", "maxItems": 3, "items": {"type": "object"}}},
}


def _name(name: str) -> dict[str, Any]:
    kind = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": kind}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"default": {"description": "an answer"}},
    }


_GET = {"get": {"responses": {"default": {"description": "an answer"}}}}
SCHEMA = schemathesis.openapi.from_dict(
    {
        "openapi": "3.1.0",
        "info": {"title": "Open Inference Protocol", "version": "2"},
        "paths": {
            "/v2": _GET,
            "/v2/health/ready": _GET,
            "/v2/models/{model}": {"parameters": [_name("model")], **_GET},
            "/v2/models/{model}/versions/{version}/infer": {
                "parameters": [_name("model"), _name("version")],
                "post": _body(_REQUEST),
            },
            "/v2/models/flights/infer": {"post": _body(_REQUEST)},
            "/v1/models/flights:predict": {"post": _body(_V1)},
        },
    }
)


@pytest.fixture(scope="module")
def base_url(served: Running) -> str:
    return served.url


@SCHEMA.parametrize()
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_request_makes_a_server_error(case: Any, base_url: str) -> None:
    response = case.call_and_validate(base_url=base_url, checks=[not_a_server_error])
    assert response.status_code < 500
    if response.status_code >= 400:
        assert response.json()["error"]


def test_the_predictor_still_answers(served: Running) -> None:
    assert served.infer(flight_tensors(2)).status_code == 200
