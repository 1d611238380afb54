"""The Open Inference Protocol over gRPC, on a port of its own: the same reading, model and log."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import grpc
import numpy as np
from google.protobuf.message import DecodeError, Message

from slipway.serving.admission import too_much
from slipway.serving.app import InferenceCall, Predictor, server_metadata
from slipway.serving.errors import RequestError
from slipway.serving.grpc.messages import METHODS, SERVICE, message
from slipway.serving.grpc.wire import check_request
from slipway.serving.log.record import LogRecord
from slipway.serving.model import Model
from slipway.serving.protocol.bounds import Bounds
from slipway.serving.protocol.tensors import decode_tensor, decode_text, encode_tensor, short_text
from slipway.serving.protocol.v2 import InferRequest, model_metadata, outputs_wanted, request_id
from slipway.serving.settings import PredictorSettings

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
_Context: TypeAlias = grpc.aio.ServicerContext
# A method of the service, on the message; and the same on the message's bytes.
_Method = Callable[[Message, _Context], Awaitable[Message | bytes]]
_BytesMethod = Callable[[bytes, _Context], Awaitable[bytes]]
_MESSAGES = {name: (message(f"{name}Request"), message(f"{name}Response")) for name in METHODS}


# Calls whose request is on its way at one time. gRPC holds each message whole before it is seen here.
_RECEIVING = 8
# Calls that are open at one time; those past it are refused at once.
_OPEN_CALLS = 1024
# Bytes of a request that is not an inference.
_SHORT_REQUEST = 8192
_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 128),  # of one connection; its client lets the others wait
    ("grpc.http2.bdp_probe", 0),  # else a call that still waits is sent megabytes of its message
    ("grpc.http2.lookahead_bytes", 64 * 1024),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 32 * 1024),
]


async def start_grpc(predictor: Predictor, settings: PredictorSettings) -> grpc.aio.Server:
    """Starts the gRPC server; it runs on the event loop of the caller.

    Raises:
        RuntimeError: the port is taken.
    """
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_of_the_server)
    gate = _Gate(settings.receive_seconds)
    server = grpc.aio.server(
        maximum_concurrent_rpcs=_OPEN_CALLS,
        options=[
            *_OPTIONS,
            ("grpc.max_receive_message_length", settings.max_body_mb * 1_000_000),
            ("grpc.max_connection_idle_ms", settings.keep_alive_seconds * 1000),
        ],
    )
    service = _Service(predictor)
    handlers = {
        name: gate.through(_reading(request, getattr(service, name)))
        for name, (request, _) in _MESSAGES.items()
        if name != "ModelInfer"
    }
    handlers["ModelInfer"] = gate.through(service.infer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"{settings.host}:{settings.grpc_port}")
    await server.start()
    return server


def _is_of_the_server(record: logging.LogRecord) -> bool:
    """Whether it says more than that a call was over: a client left, or sent what cannot be unpacked.

    gRPC writes a traceback for each of those, so that a client could fill the log.
    """
    return not record.getMessage().startswith("ExecuteBatchError raised in core")


class _Gate:
    """Lets a few calls receive their message at one time; the others' bytes wait at their clients."""

    def __init__(self, receive_seconds: float) -> None:
        self._seconds = receive_seconds
        self._free = asyncio.Semaphore(_RECEIVING)

    def through(self, method: _BytesMethod) -> grpc.RpcMethodHandler:
        """The handler of a call with one message.

        To gRPC it is one with a stream of messages, which on the wire is the same: only those are
        called before their message is here.
        """

        async def call(_: object, context: _Context) -> bytes:
            try:
                async with self._free:
                    raw = await asyncio.wait_for(context.read(), self._seconds)
            except TimeoutError:
                code = grpc.StatusCode.DEADLINE_EXCEEDED
                return _refuse(context, code, "The request did not arrive whole in time.")
            if type(raw) is not bytes:
                return _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "There is no request.")
            return await method(raw, context)

        return grpc.stream_unary_rpc_method_handler(call)


def _reading(kind: type[Message], method: _Method) -> _BytesMethod:
    """Reads the request here: gRPC's own reading answers damaged bytes with UNKNOWN."""

    async def call(raw: bytes, context: _Context) -> bytes:
        request = _message(kind, raw) if len(raw) <= _SHORT_REQUEST else None
        if request is None:
            return _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "The request is no protobuf.")
        answer = await method(request, context)
        return answer if isinstance(answer, bytes) else answer.SerializeToString()

    return call


def _refuse(context: _Context, code: grpc.StatusCode, message: str) -> bytes:
    """Ends a call with an error. An abort would be an exception that keeps the request in memory."""
    context.set_code(code)
    context.set_details(message)
    return b""


def _message(kind: type[Message], raw: bytes) -> Message | None:
    """The message, or None where the bytes are none."""
    try:
        return kind.FromString(raw)
    except DecodeError:
        return None


class _Service:
    """One method a method of the protocol; names are the protocol's."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    async def ServerLive(self, request: Message, context: _Context) -> Message:
        return _MESSAGES["ServerLive"][1](live=True)

    async def ServerReady(self, request: Message, context: _Context) -> Message:
        return _MESSAGES["ServerReady"][1](ready=self._predictor.ready)

    async def ModelReady(self, request: Message, context: _Context) -> Message:
        model = self._predictor.model
        known = request.name == model.name and request.version in ("", model.version)
        return _MESSAGES["ModelReady"][1](ready=known and self._predictor.ready)

    async def ServerMetadata(self, request: Message, context: _Context) -> Message:
        return _MESSAGES["ServerMetadata"][1](**server_metadata())

    async def ModelMetadata(self, request: Message, context: _Context) -> Message | bytes:
        try:
            self._predictor.check_model(request.name, request.version or None)
        except RequestError as error:
            return _refuse(context, _CODES[error.status], str(error))
        content = model_metadata(self._predictor.model)
        del content["properties"]
        return _MESSAGES["ModelMetadata"][1](**content)

    async def infer(self, raw: bytes, context: _Context) -> bytes:
        """Answers as the HTTP route does: the same bounds, checks, queue, metrics and log."""
        status, result = await self._infer(raw)
        if isinstance(result, str):
            return _refuse(context, _CODES.get(status, grpc.StatusCode.INVALID_ARGUMENT), result)
        return result

    async def _infer(self, raw: bytes) -> tuple[int, bytes | str]:
        """The status, and the response's bytes or an error's message."""
        predictor, size = self._predictor, len(raw)

        async def answer(model: Model, call: InferenceCall) -> tuple[bytes, LogRecord | None]:
            if not fits:
                raise too_much()

            def parse() -> InferRequest:
                return _parse(predictor, raw, model)

            request, rows = await predictor.read(model, call, size, parse)
            answers, record = await predictor.infer(model, request, rows)
            return _encode(model, request, answers).SerializeToString(), record

        fits = predictor.admission.hold(size)
        try:
            return await predictor.account(answer)
        finally:
            predictor.admission.hold(-size)


def _parse(predictor: Predictor, raw: bytes, model: Model) -> InferRequest:
    check_request(raw, model.reader.bounds)
    request = _message(_MESSAGES["ModelInfer"][0], raw)
    if request is None:
        raise RequestError("The request is no protobuf.")
    predictor.check_model(request.model_name, request.model_version or None)
    return read_message(request, model.reader.bounds, model.output_names)


def read_message(request: Message, bounds: Bounds, outputs: tuple[str, ...]) -> InferRequest:
    """Reads a ModelInferRequest to a model that has these outputs.

    Raises:
        RequestError: 400 or 413, with what is wrong.
    """
    blobs = request.raw_input_contents
    if blobs and len(blobs) != len(request.inputs):
        raise RequestError(f"{len(blobs)} raw_input_contents for {len(request.inputs)} inputs.")
    tensors = []
    for number, item in enumerate(request.inputs):
        shape = list(item.shape)
        if blobs:
            blob = memoryview(blobs[number])
            data = decode_tensor(item.name, item.datatype, shape, blob, bounds.rows)
        else:
            data = _typed(item)
        tensors.append({"name": item.name, "datatype": item.datatype, "shape": shape, "data": data})
    time, log = None, True
    if "time" in request.parameters:
        time = request.parameters["time"].string_param
    if "log" in request.parameters:
        log = request.parameters["log"].bool_param
    if "rank" in request.parameters:
        raise RequestError("The parameter 'rank' is answered over HTTP only.")
    wanted = [{"name": output.name} for output in request.outputs] or None
    chosen = outputs_wanted(wanted, outputs, binary=True)
    return InferRequest(
        id=request_id(request.id or None), inputs=tensors, outputs=chosen, time=time, log=log
    )


def _typed(item: Message) -> list[object]:
    """The values of an input that came as a message's lists."""
    field = _CONTENTS.get(item.datatype)
    if field is None:
        raise RequestError(f"Input '{short_text(item.name)}' has a datatype that V2 has not here.")
    values = getattr(item.contents, field)
    if field == "bytes_contents":
        return [decode_text(item.name, value) for value in values]
    if item.datatype in ("FP32", "FP64"):
        return [None if value != value else value for value in values]
    return list(values)


def _encode(model: Model, request: InferRequest, answers: np.ndarray) -> Message:
    response = _MESSAGES["ModelInfer"][1](
        model_name=model.name, model_version=model.version, id=request.id
    )
    served = model.label.respond(answers)
    for output in model.label.outputs:
        if output.name in request.outputs:
            values = served[output.name]
            response.outputs.add(
                name=output.name, datatype=output.datatype, shape=list(values.shape)
            )
            response.raw_output_contents.append(encode_tensor(output.datatype, values))
    return response
