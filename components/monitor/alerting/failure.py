"""What an exit handler calls: notifies the routes that a pipeline failed, and when it succeeds again."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slipway.components.config.base import format_instant
from slipway.components.config.monitoring import MonitoringConfig, Route
from slipway.components.contracts.monitoring.monitoring_record import Alert
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
from slipway.components.support.secrets import redact
from slipway.components.support.stage import progress, stage

NAME = "PIPELINE_FAILED"
ENDED_WELL = frozenset({"COMPLETE", "CACHED", "SUCCEEDED"})
"""How a group of tasks stands that ended well: the backend gives MLMD's words, kfp.local its own."""

# A group whose last task never said how it ended is still going, to Kubeflow.
_HOW = {"RUNNING": "did not end (a pod was killed, or never started)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationResult:
    """What a notifying task did: its headline, and a sentence for each route that failed."""

    headline: str
    failures: tuple[str, ...]

    @classmethod
    def report(cls, what: str, failures: list[str]) -> "NotificationResult":
        """Shows each failure as progress, so that it stands in the log and on the screen."""
        for failure in failures:
            progress(failure)
        suffix = f"; routes that were not notified: {len(failures)}" if failures else ""
        return cls(headline=what + suffix, failures=tuple(failures))


@stage("report-end")
def report_end(**run: Any) -> NotificationResult:
    """What the exit handler does: `report_pipeline`, with its events."""
    return NotificationResult.report(
        f"{run['pipeline']} ended as {run['state']}", report_pipeline(**run)
    )


def report_pipeline(
    *,
    project: str,
    config: dict[str, object],
    pipeline: str,
    run: str,
    state: str,
    error: str = "",
    link: str = "",
) -> list[str]:
    """Notifies every route of a failed run, once, and of the first success after it.

    Args:
        project: the project's name.
        config: the project's `monitoring` section: its routes.
        pipeline: the pipeline's name.
        run: the run's name or id.
        state: the final state as Kubeflow gives it; any but those of `ENDED_WELL` is a failure.
        error: what Kubeflow says about it.
        link: a page that shows the run.

    Returns:
        A sentence for each route that could not be notified: never an exception, since a pipeline that
        failed must not look as if its exit handler had.
    """
    settings = MonitoringConfig.parse(config, "monitoring")
    alert = Alert(
        name=NAME,
        severity="critical",
        value=None,
        threshold=None,
        message=f"{pipeline} {_HOW.get(state, f'ended as {state}')} in run {run}. {redact(error)}".strip()
        + " Read the log of the task that failed.",
    )
    root = folder(environment.monitoring_uri(), project)
    failures = []
    for route in routes_for(settings, alert):
        path = f"{root}/routes/{route.name}.{pipeline}.json"
        try:
            if state in ENDED_WELL:
                _notify_of_recovery(route, path, project, alert, link)
            else:
                _notify_of_failure(route, path, project, alert, run, link)
        except SlipwayError as error_:
            failures.append(
                f"The route {route.name} could not be notified that {pipeline} failed: {error_}"
            )
    return failures


def _notify_of_failure(
    route: Route, path: str, project: str, alert: Alert, run: str, link: str
) -> None:
    known = read_route_state(path) or {"run": ""}
    if known["run"] == run:
        return
    since = known.get("since") or format_instant(datetime.now(UTC))
    deliver(route, single_alert_notice(project, alert, since=since, report=link))
    write_route_state(path, {"run": run, "since": since})


def _notify_of_recovery(route: Route, path: str, project: str, alert: Alert, link: str) -> None:
    known = read_route_state(path)
    if not known or not known["run"]:
        return
    since = known.get("since", "")
    deliver(route, single_alert_notice(project, alert, since=since, is_over=True, report=link))
    write_route_state(path, {"run": ""})
