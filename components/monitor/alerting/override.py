"""Tells the alert routes, at once, that a person let a model pass that the gate refused."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.components.config.base import format_instant
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.monitoring_record import Alert
from slipway.components.contracts.verdict import Override, Verdict, read_verdict
from slipway.components.monitor.alerting.failure import REMEMBERED, Told
from slipway.components.monitor.alerting.routes import (
    ORDER,
    SENDERS,
    Notice,
    deliver,
    expand,
    read_told,
    write_told,
)
from slipway.components.monitor.state import folder
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import stage

NAME = "GATE_OVERRIDDEN"


@stage("report-override")
def report_override(*, project: str, config: dict[str, Any], verdict: Path) -> Told:
    """What the task does: `tell_override`, with its events."""
    troubles = tell_override(project=project, config=config, verdict=verdict)
    overridden = read_verdict(verdict).override is not None
    return Told.of("the gate was overridden" if overridden else "no override", troubles)


def tell_override(*, project: str, config: dict[str, Any], verdict: Path) -> list[str]:
    """Tells every route of an override, once; without one it does nothing.

    Args:
        project: the project's name.
        config: the project's `monitoring` section: its routes.
        verdict: the gate's decision.

    Returns:
        A sentence for each route that could not be told: a route that is down stops no release.
    """
    decision = read_verdict(verdict)
    if decision.override is None:
        return []
    settings = MonitoringConfig.model_validate(config)
    alert = _alert(decision, decision.override)
    failures = []
    for route in settings.routes:
        # The gateway holds numbers of windows; a decision has none.
        if route.kind == "pushgateway" or ORDER[alert.severity] < ORDER[route.least]:
            continue
        path = f"{folder(environment.monitoring_uri(), project)}/routes/{route.name}.override.json"
        this = {"model_hash": decision.model_hash, "message": alert.message}
        try:
            if read_told(path) == this:
                continue
            now = datetime.now(UTC)
            notice = Notice(
                model=project,
                window=(format_instant(now - REMEMBERED), format_instant(now)),
                firing=(alert,),
                going_on=(),
                resolved=(),
                since={NAME: format_instant(now)},
                report="",
                numbers={},
            )
            deliver(SENDERS[route.kind], expand(route.url), notice)
            write_told(path, this)
        except SlipwayError as error:
            failures.append(f"The route {route.name} could not be told of the override: {error}")
    return failures


def _alert(decision: Verdict, override: Override) -> Alert:
    return Alert(
        name=NAME,
        severity="critical",
        value=None,
        threshold=None,
        message=f"{override.approver} let the model {decision.model_hash[:12]} pass, which the gate"
        f" refused: “{override.reason}” What did not hold: {' '.join(decision.reasons)}",
    )
