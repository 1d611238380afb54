"""Notifies the alert routes, at once, of what the gate decided where a person must know it."""

from pathlib import Path

from slipway.components.config.monitoring import MonitoringConfig, Severity
from slipway.components.contracts.monitoring.monitoring_record import Alert
from slipway.components.contracts.verdict import Verdict, read_verdict
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

OVERRIDDEN, REFUSED = "GATE_OVERRIDDEN", "GATE_REFUSED"


@stage("report-verdict")
def report_verdict(
    *, project: str, config: dict[str, object], verdict_path: Path
) -> NotificationResult:
    """What the task does: `notify_of_verdict`, with its events."""
    verdict = read_verdict(verdict_path)
    failures = notify_of_verdict(project=project, config=config, verdict=verdict)
    return NotificationResult.report(_decision(verdict), failures)


def notify_of_verdict(*, project: str, config: dict[str, object], verdict: Verdict) -> list[str]:
    """Notifies every route of a refusal or an override, once; of a plain pass it does nothing.

    Args:
        project: the project's name.
        config: the project's `monitoring` section: its routes.
        verdict: the gate's decision.

    Returns:
        A sentence for each route that could not be notified: a route that is down stops no release.
    """
    alert = _alert(verdict)
    settings = MonitoringConfig.parse(config, "monitoring")
    failures = []
    for route in settings.routes if alert is None else routes_for(settings, alert):
        path = f"{folder(environment.monitoring_uri(), project)}/routes/{route.name}.gate.json"
        try:
            known = read_route_state(path)
            if alert is None:
                # The same refusal after a pass is another one.
                if known:
                    write_route_state(path, {})
                continue
            this = {"model_hash": verdict.model_hash, "message": alert.message}
            if known == this:
                continue
            deliver(route, single_alert_notice(project, alert))
            write_route_state(path, this)
        except SlipwayError as error:
            failures.append(
                f"The route {route.name} could not be notified that {_decision(verdict)}: {error}"
            )
    return failures


def _decision(verdict: Verdict) -> str:
    if verdict.override is not None:
        return "the gate was overridden"
    return "the gate let the model pass" if verdict.outcome == "pass" else "the gate refused"


def _alert(verdict: Verdict) -> Alert | None:
    """What a person must know; None for a model that passed by itself."""
    model, reasons, by = verdict.model_hash[:12], " ".join(verdict.reasons), verdict.override
    if by is not None:
        message = f"{by.approver} let the model {model} pass, which the gate refused: “{by.reason}”"
        return _alert_of(OVERRIDDEN, "critical", f"{message} What did not hold: {reasons}")
    if verdict.outcome == "pass":
        return None
    message = f"The gate refused the model {model}; what serves goes on. {reasons}"
    return _alert_of(REFUSED, "warning", message)


def _alert_of(name: str, severity: Severity, message: str) -> Alert:
    return Alert(name=name, severity=severity, value=None, threshold=None, message=message)
