"""The V1 protocol on the wire: `instances` in, `predictions` out, with the parameters of V2."""

import numpy as np
import orjson

from slipway.serving.model import Model
from slipway.serving.protocol.bounds import Body, read_instances
from slipway.serving.protocol.rows import RowReader
from slipway.serving.protocol.v2 import InferRequest, load_json, read_parameters, request_id


def parse_instances(body: Body, reader: RowReader, *, keyed: bool) -> InferRequest:
    """Reads the body of a predict request; `parameters` may say `log` and `time`, as in V2.

    Args:
        body: JSON.
        reader: of the model's features.
        keyed: whether features may be left out that the online store has.

    Raises:
        RequestError: 400 or 413, with what is wrong.
    """
    content = load_json(body, reader.bounds, read_instances)
    name = request_id(content.get("id"))
    moment, log, _ = read_parameters(content)
    inputs = reader.instance_tensors(content.get("instances"), keyed=keyed)
    return InferRequest(id=name, inputs=inputs, outputs={}, time=moment, log=log)


def encode_predictions(model: Model, answers: np.ndarray) -> bytes:
    """The body of the answer: an object a row, with the outputs by name."""
    served = {name: values.tolist() for name, values in model.label.respond(answers).items()}
    for output in model.label.outputs:
        if output.listed:
            served[output.name] = [orjson.loads(text) for text in served[output.name]]
    predictions = [
        dict(zip(served, row, strict=True)) for row in zip(*served.values(), strict=True)
    ]
    return orjson.dumps({"predictions": predictions})
