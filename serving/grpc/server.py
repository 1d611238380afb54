"""The Open Inference Protocol over gRPC, on a port of its own: the same reading, model and log."""

from typing import Any

import grpc
from google.protobuf.message import DecodeError

from slipway.serving.app import Call, Predictor, server_metadata
from slipway.serving.errors import RequestError
from slipway.serving.grpc.messages import METHODS, SERVICE, message
from slipway.serving.model import Model
from slipway.serving.protocol.tensors import DATATYPES, decode_tensor, decode_text
from slipway.serving.protocol.v2 import InferRequest, model_metadata, outputs_wanted, request_id

_CODES = {
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    500: grpc.StatusCode.INTERNAL,
}
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_MESSAGES = {name: (message(f"{name}Request"), message(f"{name}Response")) for name in METHODS}


async def start_grpc(predictor: Predictor, host: str, port: int, max_bytes: int) -> Any:
    """Starts the gRPC server; it runs on the event loop of the caller.

    Raises:
        RuntimeError: the port is taken.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.so_reuseport", 0),
        ]
    )
    service = _Service(predictor)
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            _reading(request, getattr(service, name)),
            response_serializer=response.SerializeToString,
        )
        for name, (request, response) in _MESSAGES.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"{host}:{port}")
    await server.start()
    return server


def _reading(kind: Any, method: Any) -> Any:
    """Reads the request here: gRPC's own reading answers damaged bytes with UNKNOWN."""

    async def call(raw: bytes, context: Any) -> Any:
        try:
            request = kind.FromString(raw)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The request is no protobuf.")
        return await method(request, context)

    return call


class _Service:
    """One method a method of the protocol; names are the protocol's."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return _MESSAGES["ServerLive"][1](live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return _MESSAGES["ServerReady"][1](ready=self._predictor.ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        model = self._predictor.model
        known = request.name == model.name and request.version in ("", model.version)
        return _MESSAGES["ModelReady"][1](ready=known and self._predictor.ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        return _MESSAGES["ServerMetadata"][1](**server_metadata())

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        try:
            self._predictor.check_model(request.name, request.version or None)
        except RequestError as error:
            await context.abort(_CODES[error.status], str(error))
        content = model_metadata(self._predictor.model)
        del content["properties"]
        return _MESSAGES["ModelMetadata"][1](**content)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """Answers as the HTTP route does: the same checks, queue, metrics and log."""

        async def answer(model: Model, call: Call) -> Any:
            self._predictor.check_model(request.model_name, request.model_version or None)
            parsed = _parse(request)
            call.request_id = parsed.id
            probability, label, record = await self._predictor.infer(model, parsed)
            return _encode(model, parsed, probability, label), record

        status, result = await self._predictor.account(answer)
        if status != 200:
            await context.abort(_CODES.get(status, grpc.StatusCode.INVALID_ARGUMENT), result)
        return result


def _parse(request: Any) -> InferRequest:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise RequestError(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs.")
    tensors = []
    for number, item in enumerate(request.inputs):
        shape = list(item.shape)
        if raw:
            data = decode_tensor(item.name, item.datatype, shape, memoryview(raw[number]))
        else:
            field = _CONTENTS.get(item.datatype)
            if field is None:
                raise RequestError(f"Input '{item.name}' has a datatype that V2 has not here.")
            data = list(getattr(item.contents, field))
            if field == "bytes_contents":
                data = [decode_text(item.name, value) for value in data]
            elif item.datatype in ("FP32", "FP64"):
                data = [None if value != value else value for value in data]
        tensors.append({"name": item.name, "datatype": item.datatype, "shape": shape, "data": data})
    time, log = None, True
    if "time" in request.parameters:
        time = request.parameters["time"].string_param
    if "log" in request.parameters:
        log = request.parameters["log"].bool_param
    wanted = [{"name": output.name} for output in request.outputs] or None
    return InferRequest(
        request_id(request.id or None), tensors, outputs_wanted(wanted, True), time, log
    )


def _encode(model: Model, request: InferRequest, probability: Any, label: Any) -> Any:
    response = _MESSAGES["ModelInfer"][1](
        model_name=model.name, model_version=model.version, id=request.id
    )
    for name in request.outputs:
        values, datatype = (probability, "FP32") if name == "probability" else (label, "INT64")
        response.outputs.add(name=name, datatype=datatype, shape=[len(values)])
        response.raw_output_contents.append(values.astype(DATATYPES[datatype]).tobytes())
    return response
