"""Telling people: each route learns of an alert once, hears when it is over, and may be down.

What a route was told lies in `<model>/routes/<route>.json` (see `state`). A run compares that with
the alerts of its window and sends the difference, so a repeated run sends nothing twice, and what
could not be delivered is sent by the next run. A route that fails never fails the run.
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from slipway.components.config.base import format_instant, parse_instant
from slipway.components.config.monitoring import MonitoringConfig, Route, Severity
from slipway.components.contracts.monitoring_record import Alert, MonitoringRecord
from slipway.components.monitor import state
from slipway.components.monitor.state import Root, folder
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import emit

ATTEMPTS = 3
TIMEOUT_S = 10.0
ORDER: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What one route is to be told about one window.

    Attributes:
        firing: alerts that are new, or that are due to be repeated. going_on: alerts that the route
            knows. resolved: alerts that are over, as they were told.
        since: alert to the end of the window in which it began.
    """

    model: str
    window: tuple[str, str]
    firing: tuple[Alert, ...]
    going_on: tuple[Alert, ...]
    resolved: tuple[Alert, ...]
    since: dict[str, str]
    report: str
    numbers: dict[str, float]

    @property
    def title(self) -> str:
        """One line: the model and the alerts."""
        parts = [alert.name for alert in self.firing]
        parts += [f"{alert.name} is over" for alert in self.resolved]
        return f"{self.model}: {', '.join(parts)}"

    @property
    def body(self) -> str:
        """The messages, with what to do, and the report."""
        lines = [f"[{a.severity}] {a.name}: {a.message}" for a in self.firing]
        lines += [f"[resolved] {a.name} since {self.window[1]}" for a in self.resolved]
        return "\n".join([*lines, f"Window {self.window[0]} to {self.window[1]}", self.report])


def notify(
    root: Root, record: MonitoringRecord, config: MonitoringConfig, report: Path
) -> list[str]:
    """Tells every route what changed with this window.

    Args:
        root: where monitoring keeps its files.
        record: the window. An older window than the last that was told about changes nothing.
        config: the routes.
        report: the page; `config.report_url` may say where people find it.

    Returns:
        A sentence for each route that could not be told.
    """
    failures = []
    for route in config.routes:
        path = f"{folder(root, record.model)}/routes/{route.name}.json"
        try:
            told = read_told(path) or {"window_end": "", "alerts": {}}
            try:
                if told["window_end"] and parse_instant(record.window[1]) < parse_instant(
                    told["window_end"]
                ):
                    continue
                notice, after = _difference(told, record, route, _link(config, record, report))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise SlipwayError(
                    f"{path} is not what a route was told ({error!r}). Remove it to start anew."
                ) from error
            if _worth_sending(route, notice):
                deliver(SENDERS[route.kind], expand(route.url), notice)
            write_told(path, after)
        except SlipwayError as error:
            failures.append(
                f"The route {route.name} could not be told and is tried again with the next run:"
                f" {error}"
            )
    return failures


def read_told(path: str) -> dict[str, Any] | None:
    """What a route was told; None: nothing yet.

    Raises:
        SlipwayError: the file is damaged.
    """
    text = state.read(path)
    if text is None:
        return None
    try:
        content: dict[str, Any] = {**json.loads(text)}
    except (ValueError, TypeError) as error:
        raise SlipwayError(f"{path} cannot be read ({error}). Remove it to start anew.") from error
    return content


def write_told(path: str, told: dict[str, Any]) -> None:
    """Keeps what a route was told."""
    state.write(path, (json.dumps(told, indent=2, sort_keys=True) + "\n").encode())


def _difference(
    told: dict[str, Any], record: MonitoringRecord, route: Route, report: str
) -> tuple[Notice, dict[str, Any]]:
    """What to tell a route, and what it will have been told."""
    end = record.window[1]
    alerts = {a.name: a for a in record.alerts if ORDER[a.severity] >= ORDER[route.least]}
    known: dict[str, dict[str, Any]] = told["alerts"]
    firing: list[Alert] = []
    going_on: list[Alert] = []
    after: dict[str, dict[str, Any]] = {}
    for name, alert in alerts.items():
        before = known.get(name)
        sent = before["sent"] if before else ""
        due = not before or (
            route.repeat is not None and parse_instant(end) - parse_instant(sent) >= route.repeat
        )
        (firing if due else going_on).append(alert)
        after[name] = {
            "since": before["since"] if before else end,
            "sent": end if due else sent,
            "alert": asdict(alert),
        }
    # What cannot be measured now is not over.
    unknown = record.details.get("unknown", ())
    for name, entry in known.items():
        if name not in alerts and name in unknown:
            after[name] = entry
            going_on.append(Alert(**entry["alert"]))
    over = {name: entry for name, entry in known.items() if name not in after}
    since = {name: entry["since"] for name, entry in {**over, **after}.items()}
    notice = Notice(
        model=record.model,
        window=record.window,
        firing=tuple(firing),
        going_on=tuple(going_on),
        resolved=tuple(Alert(**entry["alert"]) for entry in over.values()),
        since=since,
        report=report,
        numbers=_gauges(record),
    )
    return notice, {"window_end": end, "alerts": after}


def _gauges(record: MonitoringRecord) -> dict[str, float]:
    values = {**asdict(record.metrics), **record.summary}
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _worth_sending(route: Route, notice: Notice) -> bool:
    if route.kind == "pushgateway":
        return True
    if route.kind == "alertmanager":  # forgets an alert that is not repeated
        return bool(notice.firing or notice.going_on or notice.resolved)
    return bool(notice.firing or notice.resolved)


def _link(config: MonitoringConfig, record: MonitoringRecord, report: Path) -> str:
    if not config.report_url:
        return str(report)
    fields = {
        "model": record.model,
        "window_start": record.window[0],
        "window_end": record.window[1],
    }
    return re.sub(r"\{(\w+)\}", lambda m: fields.get(m[1], m[0]), config.report_url)


def expand(url: str) -> str:
    """The url with its environment variables.

    Raises:
        SlipwayError: one is not set.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1], "")
        if not found:
            raise SlipwayError(
                f"its url needs the environment variable {match[1]}, which is not set"
            )
        return found

    return re.sub(r"\$\{(\w+)\}", value, url)


def deliver(send: Callable[[str, Notice], None], url: str, notice: Notice) -> None:
    """Sends, three times at most.

    Raises:
        SlipwayError: it could not be delivered. The message does not show the URL, which may hold a
            token.
    """
    import httpx
    from tenacity import RetryError, Retrying, stop_after_attempt, wait_exponential

    try:
        for attempt in Retrying(
            stop=stop_after_attempt(ATTEMPTS), wait=wait_exponential(multiplier=0.5, max=4)
        ):
            with attempt:
                send(url, notice)
    except RetryError as error:
        cause = error.last_attempt.exception()
        if isinstance(cause, httpx.HTTPStatusError):
            why = f"it answered {cause.response.status_code}"
        elif isinstance(cause, SlipwayError):
            why = str(cause)
        else:
            why = type(cause).__name__
        raise SlipwayError(f"{why}, {ATTEMPTS} times") from error


def _post(url: str, content: Any) -> None:
    import httpx

    httpx.post(url, json=content, timeout=TIMEOUT_S).raise_for_status()


def _webhook(url: str, notice: Notice) -> None:
    def described(alert: Alert, status: str) -> dict[str, Any]:
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
    worst = max((ORDER[alert.severity] for alert in notice.firing), default=-1)
    kind = {
        -1: apprise.NotifyType.SUCCESS,
        0: apprise.NotifyType.INFO,
        1: apprise.NotifyType.WARNING,
        2: apprise.NotifyType.FAILURE,
    }[worst]
    if not sender.notify(title=notice.title, body=notice.body, notify_type=kind):
        raise SlipwayError("Apprise could not deliver the message")


def _alertmanager(url: str, notice: Notice) -> None:
    now = datetime.now(UTC)
    start, end = (parse_instant(moment) for moment in notice.window)
    # It resolves by itself what is not repeated: keep it until two more runs were missed.
    until = now + 3 * max(end - start, timedelta(minutes=5))

    def entry(alert: Alert, ends: datetime) -> dict[str, Any]:
        # An alert of a window in the past begins for Alertmanager when it is told.
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
    told = {"firing": notice.firing, "resolved": notice.resolved}
    for status, alerts in told.items():
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


def _registry(notice: Notice) -> Any:
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


def gauges_of(notice: Notice) -> str:
    """The gauges of a window in Prometheus' text format."""
    from prometheus_client import generate_latest

    return str(generate_latest(_registry(notice)).decode())


def _pushgateway(url: str, notice: Notice) -> None:
    from prometheus_client import push_to_gateway

    push_to_gateway(
        url,
        job="slipway-monitor",
        grouping_key={"model": notice.model},
        registry=_registry(notice),
        timeout=TIMEOUT_S,
    )


SENDERS: dict[str, Callable[[str, Notice], None]] = {
    "webhook": _webhook,
    "apprise": _apprise,
    "alertmanager": _alertmanager,
    "pushgateway": _pushgateway,
    "log": _log,
}
