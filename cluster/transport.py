"""Requests that end: timeouts, retries with backoff where they are safe, and errors for a person.

A request that only reads, or that can be repeated, is repeated after any passing fault. One that
creates something is repeated only where the server surely did not act on it: no connection, 429, 503.
Where that is unknown (a dropped connection, a timeout, 500, 502, 504), the caller has to look.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import kfp_server_api
import urllib3

from slipway.cluster.connection import Connection, configure
from slipway.components.support.errors import SlipwayError
from slipway.components.support.retry import retry

TRIES = 4
BACKOFF = 0.5
LONGEST_WAIT = 30
REFUSED_UNSEEN = (429, 503)
PASSING = (429, 500, 502, 503, 504)
REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})

T = TypeVar("T")


class KfpApiError(SlipwayError):
    """The API refused a request, or did not answer.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        unknown: whether the server may have acted on the request all the same.
    """

    def __init__(self, message: str, status: int = 0, unknown: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.unknown = unknown


class _Retry(urllib3.Retry):
    """Also repeats a POST that was turned away unseen."""

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        if method.upper() not in REPEATABLE:
            return bool(self.total) and status_code in REFUSED_UNSEEN
        return super().is_retry(method, status_code, has_retry_after)

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """What the server asks for, up to our own longest wait: a gateway may ask for hours."""
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, LONGEST_WAIT)


class _ApiClient(kfp_server_api.ApiClient):  # type: ignore[misc]
    """The generated client with a timeout on every request."""

    def __init__(self, timeout: float, **options: object) -> None:
        super().__init__(**options)
        self._timeout = timeout

    def request(self, *args: object, **options: object) -> object:
        options["_request_timeout"] = (min(self._timeout, 10.0), self._timeout)
        try:
            return super().request(*args, **options)
        except kfp_server_api.ApiException as error:
            # The generated code decodes a body that a failed TLS handshake does not have.
            error.body = error.body if error.body is not None else str(error.reason).encode()
            raise


def connect(connection: Connection, *, backoff: float = BACKOFF) -> kfp_server_api.ApiClient:
    """A client of the API; nothing is sent yet."""
    configuration, cookie = configure(connection)
    configuration.retries = _Retry(
        total=TRIES - 1,
        backoff_factor=backoff,
        backoff_max=LONGEST_WAIT,
        backoff_jitter=backoff,
        status_forcelist=PASSING,
        allowed_methods=REPEATABLE,
        raise_on_status=False,
    )
    return _ApiClient(connection.timeout, configuration=configuration, cookie=cookie)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns the faults of a request into an `KfpApiError` that says what was tried and what to do."""
    try:
        yield
    except kfp_server_api.ApiException as error:
        status = int(error.status or 0)
        detail = _detail(error.body)
        unknown = status in (500, 502, 504)
        raise KfpApiError(f"{what}: {_advice(status, detail)}", status, unknown) from error
    except urllib3.exceptions.HTTPError as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, urllib3.exceptions.SSLError):
            text = f"the server's certificate was not accepted ({reason}). Give its CA with --ca."
            raise KfpApiError(f"{what}: {text}") from error
        unknown = not isinstance(
            reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError
        )
        text = f"Kubeflow Pipelines did not answer: {_plain(reason)}."
        raise KfpApiError(f"{what}: {text}", unknown=unknown) from error


def ensure(create: Callable[[], T], find: Callable[[], T | None], *, backoff: float = BACKOFF) -> T:
    """Creates something once: where the outcome is unknown, looks before it tries again.

    Args:
        create: sends the request; raises `KfpApiError`.
        find: looks whether it is there.
        backoff: seconds before the second try, doubled for each further one.
    """

    def create_or_find() -> T:
        try:
            return create()
        except KfpApiError as error:
            if not error.unknown and error.status != 409:
                raise
            try:
                found = find()
            except KfpApiError as looking:
                looking.unknown = False  # it only read
                raise
            if found is None:
                raise
            return found

    return retry(create_or_find, attempts=TRIES, first_wait=backoff, when=is_unknown)


def is_unknown(error: BaseException) -> bool:
    """Whether the server may have acted on the request that failed."""
    return isinstance(error, KfpApiError) and error.unknown


def _plain(error: BaseException) -> str:
    text = str(error)
    return text.split(">: ", 1)[-1].rstrip(".") if ">: " in text else text.rstrip(".")


def _detail(body: object) -> str:
    """The server's own words: gRPC gateway, upload server and proxies each put them elsewhere."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    try:
        content = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:300]
    if isinstance(content, dict):
        for key in ("error_message", "message", "error", "detail"):
            if content.get(key):
                return " ".join(str(content[key]).split())[:300]
    return ""


def _advice(status: int, detail: str) -> str:
    said = f" It said: {detail}" if detail else ""
    match status:
        case 401:
            return (
                "the credentials were not accepted (401). Renew the token or cookie; `slipway"
                f" doctor` names the way in that is used.{said}"
            )
        case 403:
            return (
                "this identity may not do that here (403). Check --namespace and the role that"
                f" manifests/ gives.{said}"
            )
        case 404:
            return f"it does not exist (404).{said}"
        case 409:
            return f"something of that name exists already (409).{said}"
        case 429:
            return f"the server is busy (429) and stayed so. Try again later.{said}"
        case _:
            return f"the server answered {status}.{said}"
