"""The kinds of alert routes: how a notice is sent to each."""

import json
import logging
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from slipway.components.config.base import format_instant, parse_instant
from slipway.components.config.monitoring import Route
from slipway.components.contracts.monitoring.monitoring_record import Alert
from slipway.components.monitor.alerting.notice import SEVERITY_ORDER, Notice
from slipway.components.support import environment
from slipway.components.support.addresses import refuse_metadata
from slipway.components.support.answers import read_answer
from slipway.components.support.errors import SlipwayError
from slipway.components.support.libraries.hanging import within
from slipway.components.support.retry import retry
from slipway.components.support.secrets import remember
from slipway.components.support.stage import emit

if TYPE_CHECKING:
    import httpx
    from prometheus_client import CollectorRegistry

ATTEMPTS = 3
TIMEOUT_S = 10.0
"""How long a server may be silent."""
LONGEST_S = 30.0
"""How long one try may take in all, however often the server says a little."""
_MOST_BYTES = 64 << 10
_TELLS = re.compile(r"^(WARNING|ERROR|CRITICAL) |^DEBUG [\w -]*Exception: ")
# A run's parameters name the routes: they must not carry the stage's own secrets away.
_OWN_VARIABLES = frozenset(
    (*environment.VARIABLES, *environment.OWN_NAMES.values(), *environment.STORE_SECRETS)
)


def expand(url: str) -> str:
    """The url with its environment variables.

    Raises:
        SlipwayError: one is not set, or is a setting of Slipway's own.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] in _OWN_VARIABLES:
            raise SlipwayError(
                f"its url names {match[1]}, which is a setting of Slipway's own and is sent nowhere: give"
                " the route a variable of its own"
            )
        found = os.environ.get(match[1], "")
        if not found:
            raise SlipwayError(
                f"its url needs the environment variable {match[1]}, which is not set"
            )
        return remember(found)

    return re.sub(r"\$\{(\w+)\}", value, url)


def deliver(route: Route, notice: Notice) -> None:
    """Sends a notice to a route; three times at most, where it may work the next time.

    Raises:
        SlipwayError: it could not be delivered, or leads where no alert goes. The message says what came
            of it and what to do, and does not show the URL, which may hold a token.
    """
    url = expand(route.url)
    refuse_metadata(url, f"The url of the route {route.name}")
    tried = 0

    def send() -> None:
        nonlocal tried
        tried += 1
        if route.kind == "log":
            SENDERS[route.kind](url, notice)
        else:
            within(LONGEST_S, lambda: SENDERS[route.kind](url, notice))

    try:
        retry(send, attempts=ATTEMPTS, when=_may_pass)
    except Exception as error:  # of httpx, apprise or prometheus_client
        times = f" ({tried} times)" if tried > 1 else ""
        raise SlipwayError(f"{_reason(error, url)}{times}") from error


def _may_pass(error: BaseException) -> bool:
    """Whether the same notice may be taken a moment later."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status >= 500 or status in (408, 425, 429)
    # Built-in: a try that took all its time. Another one would take as long.
    return not isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | TimeoutError)


def _reason(error: Exception, url: str) -> str:
    """Why a notice was not delivered, and what to do; without the URL."""
    import httpx

    name = type(error).__name__
    match error:
        case SlipwayError():
            return str(error)
        case httpx.HTTPStatusError():
            return _refusal(error.response)
        case TimeoutError():
            return (
                f"its server had not answered to the end after {LONGEST_S:g} s, though it began to: is it"
                " what it should be?"
            )
        case httpx.TimeoutException():
            return f"it did not answer within {TIMEOUT_S:g} s: is its server up? ({name})"
        case httpx.ConnectError():
            return (
                "its server cannot be reached: check the url, and that the task may reach it"
                f" ({name})"
            )
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return f"its url is no address that begins with http:// or https:// ({name})"
        case httpx.HTTPError():
            return (
                f"what answers at its url is no HTTP server, or broke the connection off ({name})"
            )
    if isinstance(error, UnicodeEncodeError):  # its words hold a part of what it could not write
        return "its user or password has a character that its server cannot be sent: use ASCII"
    text = str(error).replace(url, "its url")
    return f"{name}: {' '.join(text.split())[:300]}"


def _refusal(response: "httpx.Response") -> str:
    """What a server said, and what to do."""
    status = response.status_code
    match status:
        case 401 | 403 | 407:
            advice = ": check the user, password or token of its url"
        case 404 | 405:
            advice = ": check the path of its url"
        case _ if 300 <= status < 400:
            advice = (
                ", which leads elsewhere, where no alert follows: give the url that it leads to"
            )
        case _ if 400 <= status < 500:
            text = " ".join(response.text[:1_000].split())[:200]
            advice = f": {text}" if text else ""
        case _:
            advice = ": read its server's log"
    return f"it answered {status}{advice}"


def _ask(method: str, url: str, content: bytes, headers: list[tuple[str, str]]) -> None:
    """One request, whose answer is read as far as it is of use."""
    import httpx

    headers = [*headers, ("Accept-Encoding", "identity")]
    with httpx.stream(method, url, timeout=TIMEOUT_S, content=content, headers=headers) as answer:
        try:
            body = read_answer(answer, most=_MOST_BYTES, seconds=LONGEST_S)
        except httpx.DecodingError:
            body = b""  # the status says enough
        httpx.Response(answer.status_code, content=body, request=answer.request).raise_for_status()


def _post(url: str, content: object) -> None:
    _ask(
        "POST",
        url,
        json.dumps(content, allow_nan=False).encode(),
        [("Content-Type", "application/json")],
    )


def _webhook(url: str, notice: Notice) -> None:
    def described(alert: Alert, status: str) -> dict[str, object]:
        return {**asdict(alert), "status": status, "since": notice.since[alert.name]}

    _post(
        url,
        {
            "model": notice.model,
            "window": list(notice.window),
            "title": notice.title,
            "text": notice.body,
            "report": notice.report,
            "alerts": [described(alert, "firing") for alert in notice.firing]
            + [described(alert, "resolved") for alert in notice.resolved],
        },
    )


def _apprise(url: str, notice: Notice) -> None:
    import apprise

    sender = apprise.Apprise()
    if not sender.add(url):
        raise SlipwayError("Apprise does not know the kind of its url")
    for server in sender:
        server.redirects = False  # whatever its url says: see `refuse_metadata`
    worst = max((SEVERITY_ORDER[alert.severity] for alert in notice.firing), default=-1)
    kind = {
        -1: apprise.NotifyType.SUCCESS,
        0: apprise.NotifyType.INFO,
        1: apprise.NotifyType.WARNING,
        2: apprise.NotifyType.FAILURE,
    }[worst]
    with apprise.LogCapture(level=logging.DEBUG, fmt="%(levelname)s %(message)s") as log:
        delivered = sender.notify(title=notice.title, body=notice.body, notify_type=kind)
        log_text = log.getvalue()
    if not delivered:
        if re.search(r"'(ascii|latin-1)' codec can't encode", log_text):
            raise SlipwayError(
                "the user or password of its url has a character that this mail server's way to log in"
                " cannot carry: give it a password of ASCII"
            )
        # What went wrong is a warning; what the server said stands below it, for developers.
        lines = log_text.splitlines()
        told = [line.partition(" ")[2] for line in lines if _TELLS.search(line)]
        why = " ".join(" ".join(told).split())[:400] or "it does not say why."
        raise SlipwayError(f"Apprise could not deliver the message: {why}")


def _alertmanager(url: str, notice: Notice) -> None:
    now = datetime.now(UTC)
    start, end = (parse_instant(moment) for moment in notice.window)
    # It resolves by itself what is not repeated: keep it until two more runs were missed.
    until = now + 3 * max(end - start, timedelta(minutes=5))

    def entry(alert: Alert, ends: datetime) -> dict[str, object]:
        # For Alertmanager an alert of a past window begins when it is sent.
        begins = min(parse_instant(notice.since[alert.name]), now - timedelta(seconds=1))
        return {
            "labels": {
                "alertname": alert.name,
                "severity": alert.severity,
                "model": notice.model,
                "source": "slipway",
            },
            "annotations": {
                "summary": alert.message,
                "report": notice.report,
                "window": " to ".join(notice.window),
            },
            "startsAt": format_instant(begins),
            "endsAt": format_instant(ends),
        }

    active = (*notice.firing, *notice.going_on)
    _post(
        url.rstrip("/") + "/api/v2/alerts",
        [entry(a, until) for a in active] + [entry(a, now) for a in notice.resolved],
    )


def _log(_: str, notice: Notice) -> None:
    for status, alerts in {"firing": notice.firing, "resolved": notice.resolved}.items():
        for alert in alerts:
            emit(
                "alert",
                status=status,
                model=notice.model,
                window=list(notice.window),
                since=notice.since[alert.name],
                report=notice.report,
                **asdict(alert),
            )


def window_gauges(notice: Notice) -> "CollectorRegistry":
    """What of a window is pushed as gauges: its numbers, its end, and the alerts that fire."""
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()
    for name, value in sorted(notice.numbers.items()):
        Gauge(f"slipway_window_{name}", "of the last window", registry=registry).set(value)
    end = Gauge("slipway_window_end_seconds", "end of the last window", registry=registry)
    end.set(parse_instant(notice.window[1]).timestamp())
    alerts = Gauge("slipway_alert", "1 while it fires", ["alert", "severity"], registry=registry)
    for alert in (*notice.firing, *notice.going_on):
        alerts.labels(alert.name, alert.severity).set(1)
    return registry


def _put(
    url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
) -> Callable[[], None]:
    """How the gateway is asked: as every other route, with the user and password of its URL."""

    def put() -> None:
        _ask(method, url, data, headers)

    return put


def _pushgateway(url: str, notice: Notice) -> None:
    import httpx
    from prometheus_client import push_to_gateway

    httpx.URL(url)  # says what is none better than what puts it together
    push_to_gateway(
        url,
        job="slipway-monitor",
        grouping_key={"model": notice.model},
        registry=window_gauges(notice),
        timeout=TIMEOUT_S,
        handler=_put,
    )


SENDERS: dict[str, Callable[[str, Notice], None]] = {
    "webhook": _webhook,
    "apprise": _apprise,
    "alertmanager": _alertmanager,
    "pushgateway": _pushgateway,
    "log": _log,
}
