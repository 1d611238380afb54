"""Kubeflow Pipelines' v2beta1 API: requests that end, retries where they are safe, errors with a status.

The only client of that server: in a pod it goes by the pod's account (`pod_api`), from an operator's
machine by the ways of `cluster/`. Not the generated client (kfp-server-api), which is published as source
alone: images install wheels and nothing else.

A request that only reads, or that can be repeated, is repeated after any passing fault. One that
creates something is repeated only where the server surely did not act on it: no connection, 429, 503.
Where that is unknown (a dropped connection, a timeout, 500, 502, 504), the caller has to look.
"""

import json
import math
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slipway.components.support.answers import read_answer
from slipway.components.support.errors import SlipwayError
from slipway.components.support.kubernetes import pod
from slipway.components.support.retry import retry
from slipway.components.support.secrets import remember

if TYPE_CHECKING:
    import httpx

Json = dict[str, Any]
"""An object of the API's, as the server writes it."""

SERVICE = "http://ml-pipeline.{}.svc.cluster.local:8888"
"""Where the server is inside its cluster, by the namespace that it is installed in."""
PAGE = 100
TRIES = 4
BACKOFF = 0.5
LONGEST_WAIT = 30.0
REFUSED_UNSEEN = frozenset({429, 503})
PASSING = frozenset({429, 500, 502, 503, 504})
REPEATABLE = frozenset({"GET", "PUT", "DELETE"})
MOST_BYTES = 256 << 20
"""Of one answer: a page of a hundred large pipelines has a tenth."""
_REDIRECTS = 10
_LONG = 12


class KfpApiError(SlipwayError):
    """The API refused a request, or did not answer.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        unknown: whether the server may have acted on the request all the same.
        passing: whether the same request may be answered a moment later.
        wait: seconds that the server asks for before that; None: it does not say.
    """

    def __init__(
        self,
        message: str,
        status: int = 0,
        *,
        unknown: bool = False,
        passing: bool = False,
        wait: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.unknown = unknown
        self.passing = passing
        self.wait = wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the API is, and as whom it is asked.

    Attributes:
        host: base URL.
        authorization: gives the header of that name, for each request anew; empty: none is sent.
        cookie: to send; empty: none.
        tls: what the server's certificate is checked against; None: the certificate authorities of httpx.
        server_name: that the certificate must have; empty: the host's.
        timeout: seconds that the server may be silent, and that an answer may take once it has begun.
    """

    host: str
    authorization: Callable[[], str] = lambda: ""
    cookie: str = ""
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    timeout: float = 30.0


def advise(status: int, detail: str) -> str:
    """What a refusal means to the account of a pod."""
    said = f" It said: {detail}" if detail else ""
    if status in (401, 403):
        return (
            f"the pod's service account may not do that ({status}; see docs/monitoring.md).{said}"
        )
    return f"the server answered {status}.{said}"


class KfpApi:
    """A server, asked by method and path.

    Args:
        access: where it is, and as whom it is asked.
        namespace: of the user, where the server has several; else empty.
        backoff: seconds before the first repetition of a request.
        advise: says what a status means to whom this asks for, with the server's own words.

    Attributes:
        calls: how many requests were asked for.

    Raises:
        KfpApiError: by every method, where the server refuses or does not answer.
    """

    def __init__(
        self,
        access: Access,
        *,
        namespace: str = "",
        backoff: float = BACKOFF,
        advise: Callable[[int, str], str] = advise,
    ) -> None:
        import httpx

        self.namespace = namespace
        self.calls = 0
        self._access, self._backoff, self._advise = access, backoff, advise
        inside = (urlsplit(access.host).hostname or "").endswith(".svc.cluster.local")
        self._http = httpx.Client(
            base_url=f"{access.host.rstrip('/')}/apis/v2beta1",
            timeout=httpx.Timeout(access.timeout, connect=min(access.timeout, 10.0)),
            verify=access.tls or True,
            trust_env=not inside,  # no proxy stands between a pod and a service of its cluster
            headers={"Accept-Encoding": "gzip, deflate"},  # what `read_answer` takes
        )

    def ask(
        self,
        method: str,
        path: str,
        *,
        what: str = "",
        content: object = None,
        file: Path | None = None,
        **query: object,
    ) -> Json:
        """The answer to one request.

        Args:
            method: of HTTP.
            path: below /apis/v2beta1.
            what: what it is for, to begin an error with.
            content: the body, as JSON.
            file: a pipeline that is uploaded.
            query: parameters; an empty one is left out.
        """
        return self._ask(method, path, query, what, content, file)

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        what: str,
        content: object = None,
        file: Path | None = None,
    ) -> Json:
        self.calls += 1
        body = None if content is None else json.dumps(content).encode()
        sent = {"uploadfile": (file.name, file.read_bytes())} if file else None
        parameters = {name: str(value) for name, value in query.items() if value not in ("", None)}
        request = self._http.build_request(
            method,
            path,
            params=parameters,
            content=body,
            files=sent,
            headers={"Content-Type": "application/json"} if body is not None else None,
            extensions={"sni_hostname": self._access.server_name}
            if self._access.server_name
            else {},
        )
        request.read()  # what can be sent again
        return retry(
            lambda: self._send(request, what or f"Kubeflow Pipelines, {method} {path}"),
            attempts=TRIES,
            first_wait=self._backoff,
            longest_wait=LONGEST_WAIT,
            when=lambda error: isinstance(error, KfpApiError) and error.passing,
            asked_to_wait=lambda error: getattr(error, "wait", None),
        )

    def pages(self, path: str, field: str, *, what: str = "", **query: object) -> Iterator[Json]:
        """All entries of a list, page by page."""
        token = ""
        while True:
            asked = {**query, "page_size": PAGE, "page_token": token}
            page = self._ask("GET", path, asked, what)
            yield from page.get(field) or ()
            if not (token := str(page.get("next_page_token") or "")):
                return

    def named(self, kind: str, name: str, *, what: str = "", path: str = "") -> Iterator[Json]:
        """The experiments, pipelines or versions of this display name, in the namespace.

        Args:
            kind: the field of the answer that has them.
            name: the name.
            what: as for `ask`.
            path: of the list; empty: that of the kind, in the namespace.
        """
        found = self.pages(
            path or f"/{kind}",
            kind,
            what=what,
            filter=name_filter(name),
            namespace="" if path else self.namespace,
        )
        return (entry for entry in found if entry.get("display_name") == name)

    def _send(self, request: "httpx.Request", what: str) -> Json:
        import httpx

        if authorization := _header("token", self._access.authorization()):
            request.headers["Authorization"] = authorization
        if cookie := _header("cookie", self._access.cookie):
            request.headers["Cookie"] = cookie
        repeatable = request.method in REPEATABLE
        try:
            answer = self._follow(request, what)
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise KfpApiError(f"{what}: the request cannot be sent: {_sentence(error)}") from error
        except httpx.TransportError as error:
            raise _unanswered(error, what, repeatable) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise KfpApiError(
                f"{what}: what Kubeflow Pipelines answered is of no use: {_sentence(error)}",
                unknown=not repeatable,
            ) from error
        status = answer.status_code
        if not answer.is_success:
            raise KfpApiError(
                f"{what}: {self._advise(status, _detail(answer.text))}",
                status,
                unknown=status in (500, 502, 504),
                passing=status in (PASSING if repeatable else REFUSED_UNSEEN),
                wait=asked_wait(answer.headers),
            )
        try:
            found = answer.json() if answer.content.strip() else {}
        except (ValueError, RecursionError) as error:
            raise KfpApiError(
                f"{what}: {answer.url.host} answered with a page and not with JSON. Is it the address of"
                " the API, and are there credentials for it?"
            ) from error
        return found if isinstance(found, dict) else {}

    def _follow(self, request: "httpx.Request", what: str) -> "httpx.Response":
        """The answer, also where it lies elsewhere; what creates is never turned into a reading."""
        import httpx

        for _ in range(_REDIRECTS):
            answer = self._http.send(request, stream=True)
            try:
                body = read_answer(answer, most=MOST_BYTES, seconds=self._access.timeout)
            finally:
                answer.close()
            following = answer.next_request
            if following is None:
                headers = {
                    name: answer.headers[name]
                    for name in ("Retry-After", "Content-Type")
                    if name in answer.headers
                }
                return httpx.Response(
                    answer.status_code, headers=headers, content=body, request=request
                )
            if following.method != request.method:
                raise KfpApiError(
                    f"{what}: {request.url.host} answered {answer.status_code} and leads to"
                    f" {following.url.copy_with(query=None)}, where nothing is created. Give the address"
                    " that it leads to, or credentials where that is a page to log in.",
                    answer.status_code,
                )
            if _origin(following.url) == _origin(request.url) and "Cookie" in request.headers:
                following.headers["Cookie"] = request.headers["Cookie"]
            request = following
        raise httpx.TooManyRedirects(f"it leads elsewhere more than {_REDIRECTS} times")


def _origin(url: "httpx.URL") -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _header(what: str, value: str) -> str:
    """A secret as a header's value.

    Raises:
        KfpApiError: no header can hold it; the library's words would show it.
    """
    if not re.fullmatch(r"[\t -~]*", value):
        raise KfpApiError(
            f"The {what} for Kubeflow Pipelines has a line break or another character that no header"
            " takes: was it copied whole, and nothing else with it?"
        )
    for part in value.split(";"):
        given = part.partition("=")[2] if what == "cookie" else part.rpartition(" ")[2]
        if len(given) >= _LONG:  # a shorter one may be a word
            remember(given.strip())
    return value


def _sentence(error: Exception) -> str:
    return f"{str(error).rstrip('.') or type(error).__name__}."


def pod_api(host: str = "") -> KfpApi:
    """The server as the account that this pod runs as.

    Args:
        host: its base URL; empty: the service in this pod's cluster.
    """
    api = KfpApi(Access(host=host or SERVICE.format("kubeflow"), authorization=_pod_authorization))
    if api.ask("GET", "/healthz").get("multi_user", False):
        api.namespace = pod.own_namespace()
    return api


def name_filter(name: str) -> str:
    """The filter of a list by display name."""
    where = {"operation": "EQUALS", "key": "display_name", "string_value": name}
    return json.dumps({"predicates": [where]})


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """What the server asks for, up to our own longest wait: a gateway may ask for hours."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_WAIT)


def _pod_authorization() -> str:
    """The token that Kubeflow puts into the pod; read each time, since it is renewed in place."""
    path = Path(os.environ.get("KF_PIPELINES_SA_TOKEN_PATH") or pod.PIPELINES_TOKEN)
    return f"Bearer {path.read_text(encoding='utf-8').strip()}" if path.is_file() else ""


def _unanswered(error: "httpx.TransportError", what: str, repeatable: bool) -> KfpApiError:
    """Why there is no answer, and whether the server may have acted."""
    import httpx

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return KfpApiError(
                f"{what}: the server's certificate was not accepted ({cause}). Give its CA with --ca."
            )
        cause = cause.__cause__ or cause.__context__
    unseen = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
    return KfpApiError(
        f"{what}: Kubeflow Pipelines did not answer: {_sentence(error)}",
        unknown=not unseen,
        passing=unseen or repeatable,
    )


def _detail(text: str) -> str:
    """The server's own words: gRPC gateway, upload server and proxies each put them elsewhere."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return " ".join(text.split())[:300]
    if isinstance(content, dict):
        for key in ("error_message", "message", "error", "detail"):
            if content.get(key):
                return " ".join(str(content[key]).split())[:300]
    return ""
