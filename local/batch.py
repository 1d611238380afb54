"""`slipway monitor`, `score` and `backfill`: pipelines over a window on one machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.components.contracts.backfill_record import BackfillRecord
from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
from slipway.components.contracts.predictions import Predictions, read_predictions
from slipway.components.support.errors import ProjectError
from slipway.local.job import Job, as_html, monitor
from slipway.pipelines.backfill import backfill_arguments
from slipway.pipelines.scoring import scoring_arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What a scoring came to: the predictions and where they are, their drift and its report."""

    predictions: Predictions
    folder: Path
    record: MonitoringRecord
    report: Path


def monitor_project(job: Job, *, window: tuple[str, str]) -> tuple[MonitoringRecord, Path]:
    """Monitors a window of what the workspace's endpoint was asked, and nothing is sent.

    Args:
        job: the project and where it is run.
        window: first instant of the moments of prediction, and the first after them.

    Returns:
        The window's record, and its report.

    Raises:
        SlipwayError: a stage failed; the message says which, why, and where its log is.
    """
    from slipway.components.deploy.local.target import status

    name = job.loaded.project.project_name
    home = Path(job.workspace.settings()["SLIPWAY_HOME"])
    running = [e.url for e in status(home) if e.project == name and e.state == "running"]
    with job.workspace.locked():
        job.workspace.prune()
        job.compile("monitoring")
        run, record = monitor(job, window, running[0] if running else "")
    return record, as_html(Path(run.output("monitor", "report")))


def score_project(job: Job, *, model: str, window: tuple[str, str], publish: str = "") -> Scored:
    """Predicts the rows of a window with a version that the workspace's registry has.

    Args:
        job: the project and where it is run.
        model: an alias or a number.
        window: first instant of the rows (or how long before the end), and the first after them.
        publish: folder or prefix that the predictions are copied below; empty: nowhere.

    Raises:
        ProjectError: a container could not write to `publish`.
        SlipwayError: a stage failed; the message says which, why, and where its log is.
    """
    publish = _absolute(publish)
    elsewhere = "://" not in publish and not Path(publish).is_relative_to(job.workspace.root)
    if publish and elsewhere and job.runner == "docker":
        raise ProjectError(
            f"--publish {publish}: containers see only the run's own folder. Give a folder below"
            f" {job.workspace.root}, or an object store."
        )
    with job.workspace.locked():
        job.workspace.prune()
        job.compile("scoring")
        run = job.run(
            "scoring",
            {
                **scoring_arguments(job.loaded.project, job.loaded.schema_content),
                "data_root": job.data_root,
                "model": model,
                "window_start": window[0],
                "window_end": window[1],
                "publish": publish,
            },
        )
    folder = Path(run.output("score", "predictions"))
    return Scored(
        predictions=read_predictions(folder),
        folder=folder,
        record=MonitoringRecord.read(Path(run.output("monitor-predictions", "record"))),
        report=as_html(Path(run.output("monitor-predictions", "report"))),
    )


def backfill_project(
    job: Job,
    *,
    window: tuple[str, str],
    online: bool = True,
    margins: Mapping[str, str] | None = None,
) -> BackfillRecord:
    """Recomputes the feature values of a range in the workspace's feature store.

    Args:
        job: the project and where it is run.
        window: first instant of the range (or how long before the end), and the first after it.
        online: whether the online store is brought up to date too.
        margins: `before` and `after`, where the tables are to be read further around the range than the
            views' windows ask for.

    Raises:
        SlipwayError: a stage failed; the message says which, why, and where its log is.
    """
    with job.workspace.locked():
        job.workspace.prune()
        job.compile("backfill")
        run = job.run(
            "backfill",
            {
                **backfill_arguments(job.loaded.project, job.loaded.schema_content),
                "data_root": job.data_root,
                "window_start": window[0],
                "window_end": window[1],
                "online": online,
                **(margins or {}),
            },
        )
    return BackfillRecord.read(Path(run.output("backfill", "record")))


def _absolute(publish: str) -> str:
    """Stages work in folders of their own: a relative path means the caller's."""
    return publish if not publish or "://" in publish else str(Path(publish).resolve())
