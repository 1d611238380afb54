"""A KServe transformer: completes requests that carry entity keys, and passes them on to the predictor.

For users who want the split (Knative scales each part by itself, and Feast stays out of the predictor's
image). It learns from the predictor's metadata which features the model takes and which keys they hang
on; what a request leaves out is read from Feast in one batch. Everything else passes through as it is.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.splits import Feature
from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import guard_output
from slipway.serving.admission import Admission, too_much
from slipway.serving.errors import RequestError
from slipway.serving.http.asgi import Receive, Scope, Send
from slipway.serving.online.features import OnlineFeatures, OnlineMetrics, OnlinePolicy
from slipway.serving.protocol.bounds import (
    INLINE_BYTES,
    Body,
    Bounds,
    is_plain,
    read_tensors,
    strict_json,
)
from slipway.serving.protocol.ranking import read_rank, spread
from slipway.serving.protocol.rows import RowReader
from slipway.serving.protocol.tensors import attach

_HEADER_LENGTH = "inference-header-content-length"
_PASSED_ON = ("content-type", _HEADER_LENGTH, "retry-after")
_REFRESH_SECONDS = 30.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_ROWS = 16384
_MAX_BODY, _MAX_HELD = 16_000_000, 64_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerSettings:
    """How the transformer runs. KServe gives `model_name`, `predictor_host` and `http_port` itself.

    Attributes:
        feature_project: whose feature store; empty: the model's name.
        host: address to listen on.
        online_unfit, online_max_age_seconds: as the predictor's.
    """

    model_name: str
    predictor_host: str
    http_port: int = 8080
    feature_project: str = ""
    host: str = "0.0.0.0"  # noqa: S104 - a pod's transformer is reached from outside
    online_unfit: str = "refuse"
    online_max_age_seconds: float = 0.0

    @property
    def predictor(self) -> str:
        """Base URL of the predictor."""
        known = self.predictor_host.startswith(("http://", "https://"))
        return self.predictor_host.rstrip("/") if known else f"http://{self.predictor_host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    """What the predictor's model takes, as its metadata says; `at` is when it said so."""

    version: str
    reader: RowReader
    service: str
    at: float


class Transformer:
    """The ASGI app."""

    def __init__(self, settings: TransformerSettings) -> None:
        self._settings = settings
        self._admission = Admission(_MAX_HELD)
        self._session: Any = None
        self._signature: _Signature | None = None
        self._online: dict[str, OnlineFeatures] = {}
        self._registry = CollectorRegistry()
        self._counted = OnlineMetrics(self._registry)
        self._requests = Counter(
            "slipway_transformer_requests",
            "requests by HTTP status",
            ["code"],
            registry=self._registry,
        )
        self._lookups = Histogram(
            "slipway_lookup_seconds", "reading online features", registry=self._registry
        )

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answers one HTTP request (ASGI 3)."""
        try:
            status, headers, body = await self._answer(scope, receive)
        except RequestError as error:
            status, headers = error.status, {"content-type": "application/json"}
            body = json.dumps({"error": str(error)}).encode()
            if status == 503:
                headers["retry-after"] = "1"
        self._requests.labels(str(status)).inc()
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        raw.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, dict[str, str], Body]:
        path: str = scope["path"]
        if path == "/metrics":
            return 200, {"content-type": "text/plain"}, generate_latest(self._registry)
        if path in ("/", "/v2/health/live"):
            return 200, {"content-type": "application/json"}, b'{"live":true}'
        body = bytearray()
        try:
            await self._receive(receive, body)
            return await self._answer_whole(scope, path, body)
        finally:
            self._admission.hold(-len(body))

    async def _receive(self, receive: Receive, body: bytearray) -> None:
        """Fills the body, within what one request and all of them may hold."""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError("The client went away.", 400)
            chunk = message.get("body", b"")
            body += chunk
            fits = self._admission.hold(len(chunk))
            if len(body) > _MAX_BODY:
                raise RequestError(f"The body is larger than {_MAX_BODY // 1_000_000} MB.", 413)
            if not fits:
                raise too_much()
            more = message.get("more_body", False)

    async def _answer_whole(
        self, scope: Scope, path: str, body: bytearray
    ) -> tuple[int, dict[str, str], Body]:
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        sent = {name: headers[name] for name in ("content-type", _HEADER_LENGTH) if name in headers}
        if scope["method"] != "POST" or not path.endswith("/infer"):
            return await self._pass_on(scope["method"], path, body, sent)
        if len(body) <= INLINE_BYTES:
            return await self._infer(path, body, sent)
        async with self._admission.turn:
            return await self._infer(path, body, sent)

    async def _infer(
        self, path: str, body: bytearray, sent: dict[str, str]
    ) -> tuple[int, dict[str, str], Body]:
        """Completes an inference and passes it on; a long one in its turn."""
        signature = await self._known(_REFRESH_SECONDS)
        completed = await self._complete(signature, body, sent.get(_HEADER_LENGTH))
        if completed is None:
            return await self._pass_on("POST", path, body, sent)
        plain = {"content-type": "application/json"}
        answer = await self._pass_on("POST", path, completed, plain)
        if answer[0] == 400:
            # Another version may have taken over meanwhile, with other features.
            newer = await self._known(0)
            if newer.version != signature.version:
                again = await self._complete(newer, body, sent.get(_HEADER_LENGTH))
                answer = await self._pass_on("POST", path, again or body, plain)
        return answer

    async def _complete(
        self, signature: _Signature, body: Body, header_length: str | None
    ) -> bytes | None:
        """The request with the features that it leaves out, as JSON; None: it lacks nothing."""
        bounds = signature.reader.bounds
        if len(body) <= INLINE_BYTES:
            content = _read(body, header_length, bounds)
        else:
            content = await self._admission.off_loop(_read, body, header_length, bounds)
        reader = signature.reader
        tensors: Any = content.get("inputs")
        if read_rank(content.get("parameters")) is not None:
            tensors = spread(tensors, reader.bounds.rows)
        if not reader.absent(tensors):
            return None
        online = self._online.get(signature.service)
        if online is None:
            project = self._settings.feature_project or self._settings.model_name
            bundle = _bundle(self._settings.model_name, (), {}, signature.service)
            try:
                policy = OnlinePolicy(
                    refuse=self._settings.online_unfit == "refuse",
                    max_age_seconds=self._settings.online_max_age_seconds,
                )
                online = OnlineFeatures(project, bundle, self._counted, policy)
                self._online[signature.service] = online
            except SlipwayError as error:
                raise RequestError(str(error), 503) from error
        with self._lookups.time():
            tensors = await online.complete(reader, tensors, _moment(content))
        return json.dumps({**content, "inputs": [_plain(tensor) for tensor in tensors]}).encode()

    async def _known(self, age: float) -> _Signature:
        """The predictor's signature, asked again where what is known is older than `age` seconds."""
        known = self._signature
        if known is not None and time.monotonic() - known.at < age:
            return known
        name = self._settings.model_name
        status, _, body = await self._pass_on("GET", f"/v2/models/{name}", b"", {})
        if status != 200:
            raise RequestError("The predictor does not say what its model takes.", 503)
        content = json.loads(body)
        properties = content["properties"]
        features, sources = (
            tuple(Feature(**feature) for feature in json.loads(properties[name]))
            for name in ("features", "sources")
        )
        service = properties["feature_service"]
        bundle = _bundle(
            name, features, json.loads(properties["entities"]), service, properties["key"]
        )
        bundle = replace(bundle, sources=sources, derived=json.loads(properties["derived"]))
        reader = RowReader(bundle, max_rows=_MAX_ROWS, missing_as_null=False)
        made = _Signature(
            version=content["versions"][0], reader=reader, service=service, at=time.monotonic()
        )
        self._signature = made
        return made

    async def _pass_on(
        self, method: str, path: str, body: Body, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        import aiohttp

        if self._session is None:
            # Without a bound of its own: the predictor's queue says when it is too much.
            connector = aiohttp.TCPConnector(limit=0)
            timeout = aiohttp.ClientTimeout(total=60)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        url = self._settings.predictor + path
        try:
            async with self._session.request(method, url, data=body, headers=headers) as answer:
                kept = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
                return answer.status, kept, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RequestError(f"The predictor does not answer: {error!r}.", 503) from error


def _bundle(
    name: str,
    features: tuple[Feature, ...],
    entities: dict[str, str],
    service: str,
    key: str = "",
) -> Bundle:
    """The part of a bundle's signature that reading requests needs."""
    return Bundle(
        name=name,
        features=features,
        key=key,
        entities=entities,
        feature_service=service,
        threshold=0.5,
        vocabularies={},
        data_hash="",
    )


def _read(body: Body, header_length: str | None, bounds: Bounds) -> dict[str, object]:
    """The request's JSON, with the binary tensors' values in it."""
    if header_length is not None and not (header_length.isdigit() and len(header_length) < 12):
        raise RequestError("Inference-Header-Content-Length must be a number.")
    length = len(body) if header_length is None else int(header_length)
    text = body[:length]
    try:
        plain = is_plain(text, bounds)
        content = strict_json(text) if plain else read_tensors(text, bounds, strict_json)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body is not JSON that can be read: {error}") from error
    if type(content) is not dict:
        raise RequestError("The body must be a JSON object.")
    if header_length is not None:
        attach(content.get("inputs"), memoryview(body)[length:], bounds.rows)
    return content


def _moment(content: dict[str, object]) -> int | None:
    """The moment that the request's parameter `time` names; None: it names none that the predictor takes.

    Whether the parameter is trusted is the predictor's setting: it says so in its log. Here it decides
    no more than the values that the client could have sent itself.
    """
    parameters = content.get("parameters")
    text = parameters.get("time") if type(parameters) is dict else None
    if type(text) is not str:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None  # the predictor refuses it
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _plain(tensor: dict[str, object]) -> dict[str, object]:
    """A tensor as JSON has it: what came as bytes becomes a list, NaN null."""
    made = {name: value for name, value in tensor.items() if name != "parameters"}
    data = tensor.get("data")
    if isinstance(data, np.ndarray):
        made["data"] = [None if value != value else value for value in data.tolist()]
    return made


def parse(arguments: list[str]) -> TransformerSettings:
    """Reads the command line; KServe adds arguments of its own, and those not known are let be."""
    parser = argparse.ArgumentParser(
        prog="python -m slipway.serving.online.transformer", description=__doc__
    )
    parser.add_argument("--model_name", required=True, help="the served model's name")
    parser.add_argument("--predictor_host", required=True, help="host[:port] of the predictor")
    parser.add_argument("--http_port", type=int, default=8080, help="port to listen on")
    parser.add_argument("--feature_project", default="", help="whose feature store (model_name)")
    parser.add_argument("--host", default="0.0.0.0", help="address")  # noqa: S104 - as above
    parser.add_argument(
        "--online_unfit",
        choices=("refuse", "answer"),
        default="refuse",
        help="an unfit online store",
    )
    parser.add_argument(
        "--online_max_age_seconds", type=float, default=0.0, help="of the online store; 0: any"
    )
    known, _ = parser.parse_known_args(arguments)
    return TransformerSettings(**vars(known))


def main(arguments: list[str]) -> None:
    """Runs the transformer until a signal ends it; requests in flight are answered first."""
    import uvicorn

    settings = parse(arguments)
    uvicorn.run(
        Transformer(settings),
        host=settings.host,
        port=settings.http_port,
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=20,
    )


if __name__ == "__main__":
    import sys

    guard_output()
    main(sys.argv[1:])
