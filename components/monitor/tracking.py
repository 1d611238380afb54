"""The windows of a model in MLflow: one run a model, one point a window, and the newest reports."""

from collections.abc import Mapping
from pathlib import Path

from slipway.components.config.base import parse_instant
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress
from slipway.components.support.tracking import connect, monitoring_experiment

SERIES_TAG = "slipway.monitoring"
REPORTS = "reports"
KEPT_REPORTS = 100
"""Windows whose report stays in MLflow; the record and the numbers of all stay."""


def log_series(model: str, window_end: str, numbers: Mapping[str, float]) -> str:
    """Logs a window's numbers at its end.

    The step is the hour since 1970 and the timestamp the window's end, so a window that is run again
    writes to the same point.

    Returns:
        The MLflow run's id.

    Raises:
        SlipwayError: MLflow refuses, or does not answer.
    """
    server = connect()
    end = parse_instant(window_end)
    stamp, step = int(end.timestamp() * 1000), int(end.timestamp() // 3600)
    experiment = monitoring_experiment(model)
    run_id = server.find_run(experiment, SERIES_TAG, model)
    if run_id is None:
        said = (
            f"The monitored windows of {model}: their numbers at each window's end, and below"
            f" `{REPORTS}/` the report of each of the newest {KEPT_REPORTS}."
        )
        tags = {SERIES_TAG: model, "mlflow.note.content": said}
        run_id = server.open_run(experiment, name=model, tags=tags)
    server.log_metrics(run_id, dict(sorted(numbers.items())), stamp_ms=stamp, step=step)
    # A run that has ended takes more points, and one that never ends looks as if it hung.
    server.end_run(run_id)
    return run_id


def log_report(run_id: str, window_end: str, report: Path) -> None:
    """Adds a window's report to the run of its series, in a folder named by the window's end.

    A window that is run again has its report replaced, and of many windows the oldest go.

    Raises:
        SlipwayError: MLflow refuses, or does not answer.
    """
    server = connect()
    folder = f"{parse_instant(window_end):%Y-%m-%dT%H%M%SZ}"
    server.log_page(run_id, report, f"{REPORTS}/{folder}/report.html")
    try:
        for old in server.list_folders(run_id, REPORTS)[:-KEPT_REPORTS]:
            server.delete_files(f"runs:/{run_id}/{REPORTS}/{old}")
    except SlipwayError as error:
        # Tidying: who may write here need not be let delete, and the window is whole.
        progress(f"WARNING: the reports of old windows stay: {error}")
