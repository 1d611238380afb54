"""The app (ASGI, and the same without its messages): routes, the life of a request, every outcome."""

import asyncio
import itertools
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson

from slipway.components.support.libraries.packages import own_version
from slipway.serving.admission import Admission, too_much
from slipway.serving.batcher import Batcher
from slipway.serving.errors import RequestError
from slipway.serving.http.asgi import Receive, Scope, Send
from slipway.serving.log.record import LogRecord
from slipway.serving.metrics import CONTENT_TYPE, Metrics
from slipway.serving.model import Model
from slipway.serving.online.features import OnlineFeatures
from slipway.serving.protocol.bounds import INLINE_BYTES
from slipway.serving.protocol.rows import Rows
from slipway.serving.protocol.v1 import encode_predictions, parse_instances
from slipway.serving.protocol.v2 import (
    InferRequest,
    encode_response,
    model_metadata,
    parse_request,
)
from slipway.serving.settings import PredictorSettings

if TYPE_CHECKING:
    from slipway.serving.log.writer import InferenceLog

Headers = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_HEADER_LENGTH = b"inference-header-content-length"
_LATEST = datetime(2200, 1, 1, tzinfo=UTC).timestamp()
_SCRAPE_SECONDS = 1.0
_FAILED = "The predictor failed; its log says why."
_logger = logging.getLogger("serving")


@dataclass(slots=True)
class HttpRequest:
    """One HTTP request while it arrives.

    Attributes:
        header_length: length of the body's JSON part, where binary tensors follow it.
        body: what has come of it; a bytearray where it came in several parts.
        size: bytes of it that are held.
        error: why it is already refused, if it is.
        started: when its head was read, on `time.perf_counter`.
    """

    method: str
    path: str
    started: float
    header_length: int | None = None
    body: bytes | bytearray = b""
    size: int = 0
    error: RequestError | None = None


@dataclass(slots=True)
class InferenceCall:
    """An inference as it is counted and logged, whatever becomes of it.

    Attributes:
        started: when it began, on `time.perf_counter`.
        request_id: the client's id of it, once that is read; empty: none.
    """

    started: float
    request_id: str = ""


class Answer(NamedTuple):
    """The answer to a request; `close`: the connection ends after it."""

    status: int
    body: bytes
    headers: Headers
    close: bool = False


class Predictor:
    """One model behind the V2 and V1 protocols.

    Attributes:
        model: what answers; a reload puts another one here.
        admission: what is taken on at one time.
        ready: False once the process is to end.
    """

    def __init__(
        self,
        settings: PredictorSettings,
        model: Model,
        batcher: Batcher,
        admission: Admission,
        metrics: Metrics,
        log: "InferenceLog | None",
        online: OnlineFeatures | None = None,
    ) -> None:
        self._online = online
        self.model, self.ready = model, True
        self._settings, self._batcher, self._metrics, self._log = settings, batcher, metrics, log
        self._max_body = settings.max_body_mb * 1_000_000
        self.admission = admission
        self._scrape: asyncio.Task[bytes] | None = None
        self._scraped = 0.0
        self._id_prefix, self._ids = uuid.uuid4().hex[:20], itertools.count()
        self._infer_path = f"/v2/models/{model.name}/infer"
        self._predict_path = f"/v1/models/{model.name}:predict"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request (ASGI 3)."""
        request = self.begin(scope["method"], scope["path"], scope["headers"])
        more = True
        while more and not (request.error is not None and request.error.close):
            message = await receive()
            if message["type"] == "http.disconnect":
                self.drop(request)
                return
            self.take(request, message.get("body", b""))
            more = message.get("more_body", False)
        answer = await self.respond(request)
        headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
        if answer.close:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def begin(self, method: str, path: str, headers: Headers) -> HttpRequest:
        """A request whose head has arrived; `take` its body, then `respond` to it or `drop` it."""
        request = HttpRequest(method, path, time.perf_counter())
        for name, value in headers:
            if name == _HEADER_LENGTH:
                if value.isdigit() and len(value) <= 12:
                    request.header_length = int(value)
                else:
                    request.error = RequestError(
                        "Inference-Header-Content-Length must be a number."
                    )
            elif name == b"content-length" and int(value) > self._max_body:
                request.error = RequestError(self._too_big(), 413, close=True)
            elif name == b"content-encoding" and value.lower() != b"identity":
                request.error = RequestError("Send the body uncompressed.", 415, close=True)
        return request

    def take(self, request: HttpRequest, chunk: bytes) -> None:
        """Holds a part of the body, within the bounds; past them `request.error` is set."""
        if request.error is not None:
            return
        if not request.size:
            request.body = chunk
        elif type(request.body) is bytearray:
            request.body += chunk
        else:
            request.body = bytearray(request.body) + chunk
        request.size += len(chunk)
        fits = self.admission.hold(len(chunk))
        if request.size > self._max_body:
            request.error = RequestError(self._too_big(), 413, close=True)
        elif not fits:
            request.error = too_much()

    def drop(self, request: HttpRequest) -> None:
        """Lets go of the body."""
        self.admission.hold(-request.size)
        request.size, request.body = 0, b""

    async def respond(self, request: HttpRequest) -> Answer:
        """Answers a request that has arrived whole, or is already refused."""
        try:
            if request.path == self._infer_path:
                answer = await self._predict(request, self._infer)
            elif request.path == self._predict_path:
                answer = await self._predict(request, self._predict_v1)
            else:
                answer = await self._route(request)
        except RequestError as error:
            answer = refusal(error)
        finally:
            self.drop(request)
        if request.error is not None and request.error.close:
            return answer._replace(close=True)
        return answer

    async def _route(self, request: HttpRequest) -> Answer:
        path, model = request.path, self.model
        match path.strip("/").split("/"):
            case ["metrics"]:
                content = await self._scraped_once() if request.error is None else b""
                return _get(request, content, (b"content-type", CONTENT_TYPE.encode()))
            case [""] | ["v2", "health", "live"]:
                return _get(request, {"live": True})
            case ["v2", "health", "ready"]:
                self._check_ready()
                return _get(request, {"ready": True})
            case ["v2"]:
                return _get(request, server_metadata())
            case ["v1" | "v2", "models"]:
                return _get(request, {"models": [model.name]})
            case ["v1", "models", name] if ":" not in name:
                self.check_model(name)
                return _get(request, {"name": name, "ready": self.ready})
            case ["v2", "models", name, *rest]:
                if rest[:1] == ["versions"] and len(rest) > 1:
                    self.check_model(name, rest[1])
                    rest = rest[2:]
                self.check_model(name)
                if rest == ["infer"]:
                    return await self._predict(request, self._infer)
                if rest == ["ready"]:
                    self._check_ready()
                    return _get(request, {"name": name, "ready": True})
                if not rest:
                    return _get(request, model_metadata(model))
            case ["v1", "models", name] if name.endswith(":predict"):
                self.check_model(name.removesuffix(":predict"))
                return await self._predict(request, self._predict_v1)
        raise RequestError(f"There is nothing at {path[:200]}.", 404)

    async def _scraped_once(self) -> bytes:
        """The metrics as they are now, or when a second has passed since they were last rendered.

        All who ask meanwhile get the same text, so that scrapes without end cost next to nothing.
        """
        if self._scrape is None:
            self._scrape = asyncio.create_task(self._render())
        return await asyncio.shield(self._scrape)

    async def _render(self) -> bytes:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._scraped + _SCRAPE_SECONDS - loop.time())
        self._scraped, self._scrape = loop.time(), None
        return self._metrics.render()

    def _check_ready(self) -> None:
        if not self.ready:
            raise RequestError("The predictor is shutting down.", 503)

    def check_model(self, name: str, version: str | None = None) -> None:
        """Refuses, with 404, a model or version that is not here."""
        if name != self.model.name:
            raise RequestError(
                f"There is no model '{name[:100]}' here, only '{self.model.name}'.", 404
            )
        if version is not None and version != self.model.version:
            raise RequestError(
                f"Version '{version[:100]}' is not here, only '{self.model.version}'.", 404
            )

    async def _predict(
        self,
        request: HttpRequest,
        answer: Callable[..., Awaitable[tuple[bytes, Headers, LogRecord | None]]],
    ) -> Answer:
        """Answers an inference, and sees that every outcome is counted and logged."""
        model = self.model
        call = InferenceCall(request.started)
        record = None
        try:
            if request.method != "POST":
                raise RequestError(f"{request.method} is not answered here: use POST.", 405)
            if request.error is not None:
                raise request.error
            payload, headers, record = await answer(model, request, call)
            result = Answer(200, payload, headers)
        except RequestError as error:
            result = refusal(error)
        except Exception:
            _logger.exception("A request could not be answered.")
            result = Answer(500, orjson.dumps({"error": _FAILED}), [_JSON])
        self._finish(model, result.status, call, record)
        return result

    def _too_big(self) -> str:
        return f"The body is larger than the {self._settings.max_body_mb} MB that are taken."

    async def _infer(
        self, model: Model, asked: HttpRequest, call: InferenceCall
    ) -> tuple[bytes, Headers, LogRecord | None]:
        def parse() -> InferRequest:
            return parse_request(
                asked.body, asked.header_length, model.reader.bounds, model.output_names
            )

        request, rows = await self.read(model, call, asked.size, parse)
        answers, record = await self.infer(model, request, rows)
        clock = time.perf_counter()
        payload, json_length = encode_response(model, request, answers)
        headers = [_JSON]
        if json_length is not None:
            headers = [_BINARY, (_HEADER_LENGTH, str(json_length).encode())]
        self._metrics.postprocess.observe(time.perf_counter() - clock)
        return payload, headers, record

    async def read(
        self, model: Model, call: InferenceCall, size: int, parse: Callable[[], InferRequest]
    ) -> tuple[InferRequest, Rows]:
        """Reads the rows of a request, off the event loop and in its turn where it is long.

        Args:
            model: that answers it.
            call: takes the request's id as soon as that is known.
            size: bytes of the request.
            parse: reads its message.

        Raises:
            RequestError: the request cannot be read, or not be completed.
        """
        clock = time.perf_counter()
        if size <= INLINE_BYTES:
            request = parse()
            self._note(call, request, clock)
            return request, model.reader.read(await self._complete(model, request))
        admission = self.admission
        async with admission.turn:
            request = await admission.off_loop(parse)
            self._note(call, request, clock)
            tensors = await self._complete(model, request)
            return request, await admission.off_loop(model.reader.read, tensors)

    def _note(self, call: InferenceCall, request: InferRequest, begun: float) -> None:
        call.request_id = request.id
        self._metrics.preprocess.observe(time.perf_counter() - begun)

    async def _complete(self, model: Model, request: InferRequest) -> object:
        """The request's tensors with what the online store has; the request lets go of them."""
        tensors, request.inputs = request.inputs, None
        if self._online is not None and model.reader.absent(tensors):
            request.moment = self._moment(request)
            return await self._online.complete(model.reader, tensors, request.moment)
        return tensors

    async def infer(
        self, model: Model, request: InferRequest, rows: Rows
    ) -> tuple[np.ndarray, LogRecord | None]:
        """The answers of a request, float32 [N] or [N, W], and its log record.

        Raises:
            RequestError: the request cannot be answered.
        """
        moment = self._moment(request)
        started = time.perf_counter()
        answers = await self._batcher.predict(model, rows)
        self._metrics.predict.observe(time.perf_counter() - started)
        self._metrics.rows.inc(rows.count)
        if not request.log:
            self._metrics.log_skipped.labels("asked").inc(rows.count)
            return answers, None
        self._metrics.answers.add(model.label.place(answers))
        record = LogRecord(
            request_id=request.id,
            time=moment,
            served_at=0,
            model_version=model.version,
            status=200,
            latency_ms=0.0,
            rows=rows,
            answers=answers,
        )
        return answers, record

    async def account(
        self, answer: Callable[[Model, InferenceCall], Awaitable[tuple[bytes, LogRecord | None]]]
    ) -> tuple[int, bytes | str]:
        """Runs an inference that arrived by another protocol than HTTP; it is counted and logged alike.

        Returns:
            The HTTP status that it would have had, and the answer or an error's message.
        """
        model, call = self.model, InferenceCall(time.perf_counter())
        result: bytes | str
        status, record = 200, None
        try:
            result, record = await answer(model, call)
        except RequestError as error:
            status, result = error.status, str(error)
        except Exception:
            _logger.exception("A request could not be answered.")
            status, result = 500, _FAILED
        self._finish(model, status, call, record)
        return status, result

    async def _predict_v1(
        self, model: Model, asked: HttpRequest, call: InferenceCall
    ) -> tuple[bytes, Headers, LogRecord | None]:
        def parse() -> InferRequest:
            return parse_instances(asked.body, model.reader, keyed=self._online is not None)

        request, rows = await self.read(model, call, asked.size, parse)
        answers, record = await self.infer(model, request, rows)
        clock = time.perf_counter()
        payload = encode_predictions(model, answers)
        self._metrics.postprocess.observe(time.perf_counter() - clock)
        return payload, [_JSON], record

    def _moment(self, request: InferRequest) -> int:
        """When the prediction was made, in microseconds since 1970, UTC."""
        if request.moment is not None:
            return request.moment
        if request.time is None or not self._settings.trust_request_time:
            return time.time_ns() // 1000
        try:
            moment = datetime.fromisoformat(request.time)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = moment.timestamp()
        except (ValueError, OverflowError) as error:
            raise RequestError("The parameter 'time' is not an ISO 8601 time.") from error
        if not 0 <= seconds < _LATEST:
            raise RequestError("The parameter 'time' is not between 1970 and 2200.")
        return int(seconds * 1_000_000)

    def _finish(
        self, model: Model, status: int, call: InferenceCall, record: LogRecord | None
    ) -> None:
        """Counts and logs what a request came to."""
        if record is None and status == 200:
            # Rehearsals and golden rows: they would distort the figures of real requests.
            self._metrics.unlogged.inc()
            return
        seconds = time.perf_counter() - call.started
        self._metrics.request.observe(seconds)
        self._metrics.count_request(status)
        if self._log is not None:
            self._write_log(model, status, seconds, record, call.request_id)

    def _new_id(self) -> str:
        """An id that no other request has, here or in another process: 32 hexadecimal digits."""
        return f"{self._id_prefix}{next(self._ids):012x}"

    def _write_log(
        self, model: Model, status: int, seconds: float, record: LogRecord | None, request_id: str
    ) -> None:
        assert self._log is not None  # noqa: S101 - the caller looked
        now = time.time_ns() // 1000
        if record is None:
            record = LogRecord(
                request_id=request_id,
                time=now,
                served_at=now,
                model_version=model.version,
                status=status,
                latency_ms=0.0,
            )
        sample = self._settings.log_sample
        if sample < 1 and random.random() >= sample:  # noqa: S311 - no secret hangs on it
            self._metrics.log_skipped.labels("sampling").inc(record.count)
            return
        record.served_at = now
        record.latency_ms = seconds * 1000
        record.request_id = record.request_id or self._new_id()
        self._log.add(record)


def server_metadata() -> dict[str, object]:
    """The V2 server metadata."""
    return {
        "name": "slipway-predictor",
        "version": own_version(),
        "extensions": ["binary_tensor_data"],
    }


def refusal(error: RequestError) -> Answer:
    """The answer that reports an error to the client."""
    headers = [_JSON]
    if error.status == 503:
        headers.append((b"retry-after", b"1"))
    return Answer(error.status, orjson.dumps({"error": str(error)}), headers, error.close)


def _get(
    request: HttpRequest, content: object, content_type: tuple[bytes, bytes] = _JSON
) -> Answer:
    """The answer to a GET: JSON, or bytes as they are."""
    if request.error is not None:
        raise request.error
    if request.method not in ("GET", "HEAD"):
        raise RequestError(f"{request.method} is not answered here: use GET.", 405)
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return Answer(200, body, [content_type])
