"""What an exit handler calls: tells the routes that a pipeline failed, and when it is well again."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.components.config.base import format_instant
from slipway.components.config.monitoring import MonitoringConfig, Route
from slipway.components.contracts.monitoring_record import Alert
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
from slipway.components.support.stage import progress, stage

NAME = "PIPELINE_FAILED"
REMEMBERED = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Told:
    """What a task that only tells has done: its headline, and a sentence for each route that failed."""

    headline: str
    troubles: tuple[str, ...]

    @classmethod
    def of(cls, what: str, troubles: list[str]) -> "Told":
        """Shows each trouble as progress, so that it stands in the log and on the screen."""
        for trouble in troubles:
            progress(trouble)
        return cls(
            what + (f"; routes that were not told: {len(troubles)}" if troubles else ""),
            (*troubles,),
        )


@stage("report-end")
def report_end(**run: Any) -> Told:
    """What the exit handler does: `report_pipeline`, with its events."""
    return Told.of(f"{run['pipeline']} ended as {run['state']}", report_pipeline(**run))


def report_pipeline(
    *,
    project: str,
    config: dict[str, Any],
    pipeline: str,
    run: str,
    state: str,
    error: str = "",
    link: str = "",
) -> list[str]:
    """Tells every route of a run that failed, once, and of the first that succeeds after it.

    Args:
        project: the project's name.
        config: the project's `monitoring` section: its routes.
        pipeline: the pipeline's name.
        run: the run's name or id.
        state: the final state as Kubeflow gives it; anything but SUCCEEDED is a failure.
        error: what Kubeflow says of it.
        link: where the run is to be seen.

    Returns:
        A sentence for each route that could not be told: never an exception, since a pipeline that
        failed must not look as if its exit handler had.
    """
    settings = MonitoringConfig.model_validate(config)
    now = datetime.now(UTC)
    alert = Alert(
        name=NAME,
        severity="critical",
        value=None,
        threshold=None,
        message=f"{pipeline} ended as {state} in run {run}. {error}".strip()
        + " Read the log of the task that failed.",
    )
    failures = []
    for route in settings.routes:
        # The gateway holds numbers of windows; a failed pipeline has none.
        if route.kind == "pushgateway" or ORDER[alert.severity] < ORDER[route.least]:
            continue
        path = (
            f"{folder(environment.monitoring_uri(), project)}/routes/{route.name}.{pipeline}.json"
        )
        try:
            _tell(route, path, project, alert, now, run, state == "SUCCEEDED", link)
        except SlipwayError as error_:
            failures.append(
                f"The route {route.name} could not be told that {pipeline} failed: {error_}"
            )
    return failures


def _tell(
    route: Route,
    path: str,
    project: str,
    alert: Alert,
    now: datetime,
    run: str,
    succeeded: bool,
    link: str,
) -> None:
    known = read_told(path) or {"run": ""}
    if known["run"] == run or (succeeded and not known["run"]):
        return
    since = known.get("since") or format_instant(now)
    notice = Notice(
        model=project,
        window=(format_instant(now - REMEMBERED), format_instant(now)),
        firing=() if succeeded else (alert,),
        going_on=(),
        resolved=(alert,) if succeeded else (),
        since={NAME: since},
        report=link,
        numbers={},
    )
    deliver(SENDERS[route.kind], expand(route.url), notice)
    write_told(path, {"run": ""} if succeeded else {"run": run, "since": since})
