"""Notifies the alert routes, at once, that a person approved a model that the gate refused."""

from pathlib import Path
from typing import Any

from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.monitoring_record import Alert
from slipway.components.contracts.verdict import Override, Verdict, read_verdict
from slipway.components.monitor.alerting.failure import NotificationResult
from slipway.components.monitor.alerting.notice import single_alert_notice
from slipway.components.monitor.alerting.routes import (
    read_route_state,
    routes_for,
    write_route_state,
)
from slipway.components.monitor.alerting.senders import deliver
from slipway.components.monitor.state import folder
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import stage

NAME = "GATE_OVERRIDDEN"


@stage("report-override")
def report_override(
    *, project: str, config: dict[str, Any], verdict_path: Path
) -> NotificationResult:
    """What the task does: `notify_of_override`, with its events."""
    verdict = read_verdict(verdict_path)
    failures = notify_of_override(project=project, config=config, verdict=verdict)
    return NotificationResult.report(
        "the gate was overridden" if verdict.override else "no override", failures
    )


def notify_of_override(*, project: str, config: dict[str, Any], verdict: Verdict) -> list[str]:
    """Notifies every route of an override, once; without one it does nothing.

    Args:
        project: the project's name.
        config: the project's `monitoring` section: its routes.
        verdict: the gate's decision.

    Returns:
        A sentence for each route that could not be notified: a route that is down stops no release.
    """
    if verdict.override is None:
        return []
    settings = MonitoringConfig.parse(config, "monitoring")
    alert = _alert(verdict, verdict.override)
    failures = []
    for route in routes_for(settings, alert):
        path = f"{folder(environment.monitoring_uri(), project)}/routes/{route.name}.override.json"
        this = {"model_hash": verdict.model_hash, "message": alert.message}
        try:
            if read_route_state(path) == this:
                continue
            deliver(route, single_alert_notice(project, alert))
            write_route_state(path, this)
        except SlipwayError as error:
            failures.append(
                f"The route {route.name} could not be notified of the override: {error}"
            )
    return failures


def _alert(verdict: Verdict, override: Override) -> Alert:
    return Alert(
        name=NAME,
        severity="critical",
        value=None,
        threshold=None,
        message=f"{override.approver} let the model {verdict.model_hash[:12]} pass, which the gate"
        f" refused: “{override.reason}” What did not hold: {' '.join(verdict.reasons)}",
    )
