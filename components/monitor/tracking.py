"""The windows of a model as time series in MLflow: one run a model, one point a window."""

from collections.abc import Mapping

from slipway.components.config.base import parse_instant
from slipway.components.support.tracking import (
    asking,
    connect,
    monitoring_experiment,
    open_experiment,
)

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
    from mlflow.entities import Metric

    client = connect()
    end = parse_instant(window_end)
    stamp, step = int(end.timestamp() * 1000), int(end.timestamp() // 3600)
    metrics = [Metric(name, value, stamp, step) for name, value in sorted(numbers.items())]
    with asking(f"keep the window's numbers in the experiment '{monitoring_experiment(model)}'"):
        identity = open_experiment(client, monitoring_experiment(model))
        found = client.search_runs([identity], f"tags.`{SERIES_TAG}` = '{model}'", max_results=1)
        if found:
            run_id: str = found[0].info.run_id
        else:
            tags = {SERIES_TAG: model, "mlflow.runName": model}
            run_id = client.create_run(identity, tags=tags).info.run_id
        client.log_batch(run_id, metrics=metrics)
    return run_id
