"""The Open Inference Protocol (V2) on the wire: JSON and the binary tensor extension."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson

from slipway.components.contracts.rows.requests import DATATYPES as WIRE_TYPES
from slipway.serving.errors import RequestError
from slipway.serving.model import Model
from slipway.serving.protocol.bounds import Body, Bounds, Loads, is_plain, read_tensors
from slipway.serving.protocol.ranking import CANDIDATE, best, read_rank, score_of, spread
from slipway.serving.protocol.tensors import attach, encode_tensor, short_text

MAX_ID = 256


@dataclass(slots=True, kw_only=True)
class InferRequest:
    """A V2 request: its tensors as they came, and what it asks of the answer.

    Attributes:
        outputs: name to whether it is wanted as a binary tensor.
        time: the parameter `time`, if any. log: False keeps it out of the inference log.
        moment: of the prediction, in microseconds since 1970, UTC, once something asked for it.
        rank: how many of the rows are wanted, the best first; None: all, as they came.
    """

    id: str
    inputs: Any
    outputs: dict[str, bool]
    time: str | None
    log: bool
    moment: int | None = None
    rank: int | None = None


def parse_request(
    body: Body, header_length: int | None, bounds: Bounds, outputs: tuple[str, ...]
) -> InferRequest:
    """Reads the body of an infer request.

    Args:
        body: JSON, or JSON followed by binary tensors.
        bounds: of a request.
        outputs: that the model has.
        header_length: length of the JSON (header Inference-Header-Content-Length), if it was given.

    Raises:
        RequestError: 400 or 413, with what is wrong.
    """
    if header_length is not None and header_length > len(body):
        raise RequestError(
            f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes."
        )
    content = load_json(
        body if header_length is None else body[:header_length], bounds, read_tensors
    )
    inputs = content.get("inputs")
    if header_length is not None:
        attach(inputs, memoryview(body)[header_length:], bounds.rows)
    elif isinstance(inputs, list) and _may_name_size(body):
        for tensor in inputs:
            parameters = tensor.get("parameters") if type(tensor) is dict else None
            if type(parameters) is dict and "binary_data_size" in parameters:
                raise RequestError(
                    f"Input '{short_text(tensor.get('name'))}' is a binary tensor: the request needs"
                    " the header Inference-Header-Content-Length."
                )
    time, log, binary = read_parameters(content)
    rank = read_rank(content.get("parameters"))
    return InferRequest(
        id=request_id(content.get("id")),
        inputs=inputs if rank is None else spread(inputs, bounds.rows),
        outputs=outputs_wanted(content.get("outputs"), outputs, binary=binary),
        time=time,
        log=log,
        rank=rank,
    )


def _may_name_size(body: Body) -> bool:
    """Whether a tensor may say that it is a binary one; a backslash may stand for any letter."""
    return type(body) is memoryview or b"binary_data_size" in body or b"\\" in body


def read_parameters(content: dict[str, object]) -> tuple[str | None, bool, bool]:
    """A request's parameters: its `time`, whether to `log` it, whether its outputs are to be binary.

    Raises:
        RequestError: 400, one is of another type.
    """
    parameters = content.get("parameters")
    if parameters is None:
        return None, True, False
    if type(parameters) is not dict:
        raise RequestError("'parameters' must be an object.")
    time, log = parameters.get("time"), parameters.get("log", True)
    if time is not None and type(time) is not str:
        raise RequestError("The parameter 'time' must be an ISO 8601 text.")
    if type(log) is not bool:
        raise RequestError("The parameter 'log' must be true or false.")
    return time, log, parameters.get("binary_data_output") is True


def load_json(
    body: Body, bounds: Bounds, read_long: Callable[[Body, Bounds, Loads], object]
) -> dict[str, object]:
    """Reads a JSON object.

    Args:
        body: JSON.
        bounds: of a request.
        read_long: reads a body that is not plain.

    Raises:
        RequestError: 400, it is none, or has more in it than the bounds say.
    """
    if not body:
        raise RequestError("The body is empty: send a JSON object.")
    try:
        plain = is_plain(body, bounds)
        content = orjson.loads(body) if plain else read_long(body, bounds, orjson.loads)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body is not JSON that can be read: {error}") from error
    if type(content) is not dict:
        raise RequestError("The body must be a JSON object.")
    return content


def request_id(value: object) -> str:
    """The request's id, or an empty text where it has none.

    Raises:
        RequestError: 400, it is not a text, or too long.
    """
    if value is None:
        return ""
    if type(value) is not str or len(value) > MAX_ID:
        raise RequestError(f"'id' must be a text of at most {MAX_ID} characters.")
    return value


def outputs_wanted(wanted: object, known: tuple[str, ...], *, binary: bool) -> dict[str, bool]:
    """The outputs that a request names (none: all), each with whether it is to be binary.

    Raises:
        RequestError: 400, the model has no such output.
    """
    if wanted is None:
        return dict.fromkeys(known, binary)
    if type(wanted) is not list:
        raise RequestError("'outputs' must be a list.")
    chosen: dict[str, bool] = {}
    for output in wanted:
        name = output.get("name") if type(output) is dict else None
        if type(name) is not str or name not in known:
            raise RequestError(
                f"The model has no output '{short_text(name)}'; it has {' and '.join(known)}."
            )
        parameters = output.get("parameters") or {}
        if type(parameters) is not dict:
            raise RequestError(f"'parameters' of output '{name}' must be an object.")
        chosen[name] = bool(parameters.get("binary_data", binary))
    return chosen or dict.fromkeys(known, binary)


def encode_response(
    model: Model, request: InferRequest, answers: np.ndarray
) -> tuple[bytes, int | None]:
    """The body of the answer and, where it has binary tensors, the length of its JSON."""
    outputs, blobs = [], []
    served = model.label.respond(answers)
    wanted = [
        (output.name, output.datatype, request.outputs[output.name])
        for output in model.label.outputs
        if output.name in request.outputs
    ]
    if request.rank is not None:
        places = best(score_of(served), request.rank)
        served = {name: values[places] for name, values in served.items()}
        served[CANDIDATE] = places
        wanted.append((CANDIDATE, "INT64", wanted[0][2]))
    for name, datatype, binary in wanted:
        values = served[name]
        tensor: dict[str, object] = {
            "name": name,
            "datatype": datatype,
            "shape": list(values.shape),
        }
        if binary:
            blob = encode_tensor(datatype, values)
            tensor["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            # JSON carries a tensor flat, row by row.
            flat = values.reshape(-1)
            tensor["data"] = flat.tolist() if flat.dtype == object else flat
        outputs.append(tensor)
    header = orjson.dumps(
        {
            "model_name": model.name,
            "model_version": model.version,
            "id": request.id,
            "outputs": outputs,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    if not blobs:
        return header, None
    return b"".join([header, *blobs]), len(header)


def _meaning(model: Model) -> dict[str, str]:
    """What is predicted, and of a binary label what 1 stands for."""
    predicts = model.bundle.predicts
    if not predicts:
        return {}
    if model.label.kind != "binary":
        return {"predicts": predicts}
    return {"predicts": predicts, "positive": predicts.removeprefix("whether ")}


def model_metadata(model: Model) -> dict[str, object]:
    """The V2 model metadata: one input a feature, and those that inputs are made of."""
    inputs = [
        {"name": feature.name, "datatype": WIRE_TYPES[feature.kind], "shape": [-1]}
        for feature in (*model.bundle.features, *model.bundle.sources)
    ]
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": "onnxruntime_onnx",
        "inputs": inputs,
        "outputs": [
            {
                "name": output.name,
                "datatype": output.datatype,
                "shape": [-1] if output.width is None else [-1, output.width],
            }
            for output in model.label.outputs
        ],
        "properties": {
            "model_hash": model.model_hash,
            **model.label.facts(),
            **_meaning(model),
            "key": model.bundle.key,
            "key_columns": orjson.dumps(model.bundle.key_columns).decode(),
            # What a transformer needs to look features up by their entity keys.
            "features": orjson.dumps([asdict(f) for f in model.bundle.features]).decode(),
            "sources": orjson.dumps([asdict(f) for f in model.bundle.sources]).decode(),
            "derived": orjson.dumps(model.bundle.derived).decode(),
            "entities": orjson.dumps(model.bundle.entities).decode(),
            "feature_service": model.bundle.feature_service,
        },
    }
