"""Notifies the alert routes: of an alert once, and once more when it is over.

What a route was notified of lies in `<model>/routes/<route>.json` (see `state`). A run compares that with
the alerts of its window and sends the difference, so a repeated run sends nothing twice, and what
could not be delivered is sent by the next run. A route that fails never fails the run.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slipway.components.config.base import parse_instant
from slipway.components.config.monitoring import MonitoringConfig, Route
from slipway.components.contracts.monitoring.monitoring_record import Alert, MonitoringRecord
from slipway.components.monitor import state
from slipway.components.monitor.alerting.notice import SEVERITY_ORDER, Notice
from slipway.components.monitor.alerting.senders import deliver
from slipway.components.monitor.state import Root, folder
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError

RouteState = dict[str, Any]
"""What a route was notified of, as its file holds it."""


def notify(
    root: Root, record: MonitoringRecord, config: MonitoringConfig, report: Path
) -> list[str]:
    """Notifies every route of what changed with this window.

    Args:
        root: where monitoring keeps its files.
        record: the window. A window older than the last one that a route was notified of changes nothing.
        config: the routes.
        report: the page; `config.report_url` may say where people find it.

    Returns:
        A sentence for each route that could not be notified.
    """
    failures = []
    for route in config.routes:
        path = f"{folder(root, record.model)}/routes/{route.name}.json"
        try:
            sent = read_route_state(path) or {"window_end": "", "alerts": {}}
            try:
                if sent["window_end"] and parse_instant(record.window[1]) < parse_instant(
                    sent["window_end"]
                ):
                    continue
                notice, after = _difference(sent, record, route, _link(config, record, report))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise SlipwayError(
                    f"{path} does not hold what a route was notified of ({error!r}). Delete it to start"
                    " afresh."
                ) from error
            if _worth_sending(route, notice):
                deliver(route, notice)
            write_route_state(path, after)
        except SlipwayError as error:
            failures.append(
                f"The route {route.name} could not be notified; the next run tries again: {error}"
            )
    return failures


def read_route_state(path: str) -> RouteState | None:
    """What a route was notified of; None: nothing yet.

    Raises:
        SlipwayError: the file is damaged.
    """
    text = state.read(path)
    if text is None:
        return None
    try:
        content: RouteState = {**json.loads(text)}
    except (ValueError, TypeError, RecursionError) as error:
        raise SlipwayError(
            f"{path} cannot be read ({error}). Delete it to start afresh."
        ) from error
    return content


def write_route_state(path: str, sent: RouteState) -> None:
    """Keeps what a route was notified of."""
    state.write(path, (json.dumps(sent, indent=2, sort_keys=True) + "\n").encode())


def _difference(
    sent: RouteState, record: MonitoringRecord, route: Route, report: str
) -> tuple[Notice, RouteState]:
    """What to send to a route, and its state once that is delivered."""
    end = record.window[1]
    alerts = {
        a.name: a
        for a in record.alerts
        if SEVERITY_ORDER[a.severity] >= SEVERITY_ORDER[route.least]
    }
    known: dict[str, dict[str, Any]] = sent["alerts"]
    firing: list[Alert] = []
    going_on: list[Alert] = []
    after: dict[str, dict[str, object]] = {}
    for name, alert in alerts.items():
        before = known.get(name)
        last = before["sent"] if before else ""
        due = not before or (
            route.repeat is not None and parse_instant(end) - parse_instant(last) >= route.repeat
        )
        (firing if due else going_on).append(alert)
        after[name] = {
            "since": before["since"] if before else end,
            "sent": end if due else last,
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
        # Kubeflow's runner gives a path without a suffix; a run on this machine puts a page beside it.
        bare = environment.local_run() and not report.suffix
        return f"{report}.html" if bare else str(report)
    fields = {
        "model": record.model,
        "window_start": record.window[0],
        "window_end": record.window[1],
    }
    return re.sub(r"\{(\w+)\}", lambda m: fields.get(m[1], m[0]), config.report_url)


def routes_for(config: MonitoringConfig, alert: Alert) -> Iterator[Route]:
    """The routes that take an alert which belongs to no window."""
    for route in config.routes:
        # The gateway holds numbers of windows, and such an alert has none.
        if route.kind != "pushgateway" and (
            SEVERITY_ORDER[alert.severity] >= SEVERITY_ORDER[route.least]
        ):
            yield route
