"""The windows of a model as time series in MLflow: one run a model, one point a window."""

from collections.abc import Mapping

from slipway.components.config.base import parse_instant
from slipway.components.support.tracking import connect, monitoring_experiment

SERIES_TAG = "slipway.monitoring"


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
        run_id = server.open_run(experiment, name=model, tags={SERIES_TAG: model})
    server.log_metrics(run_id, dict(sorted(numbers.items())), stamp_ms=stamp, step=step)
    # A run that has ended takes more points, and one that never ends looks as if it hung.
    server.end_run(run_id)
    return run_id
