"""The KFP face of monitor."""

from kfp import dsl

from components.contracts.images import image


@dsl.component(base_image=image("monitor"), install_kfp_package=False)
def monitor(
    labels: dsl.Input[dsl.Dataset],
    project: str,
    config: dict,
    features: dict,
    window_start: str,
    window_end: str,
    endpoint: str,
    record: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    scheduled_at: str = "",
) -> str:
    """Watches drift, accuracy, latency, throughput and errors of one window; raises alerts.

    Args:
        labels: Tables of the window in which late labels are looked up.
        project: The project's name: the served model.
        config: The project's `monitoring` section.
        features: The project's `features` section: where labels stand.
        window_start: First instant of the window, ISO 8601 (no zone means UTC); or how long before
            its end, as in 1d.
        window_end: First instant after the window; empty: when the run was scheduled.
        endpoint: The predictor's base URL, for its metrics; empty: only the log is read.
        record: What was found, as JSON.
        report: The same, to look at.
        metrics: The window's metrics.
        scheduled_at: When the run was scheduled; it stands in for an empty window_end.

    Returns:
        "retrain" or "keep".
    """
    from pathlib import Path

    from components.contracts.config.data import resolve_window
    from components.monitor.monitor import monitor_window

    window = resolve_window(window_start, window_end, scheduled_at).to_struct()
    result = monitor_window(
        labels=Path(labels.path),
        project=project,
        config=config,
        features=features,
        window_start=window["start"],
        window_end=window["end"],
        endpoint=endpoint,
        record=Path(record.path),
        report=Path(report.path),
    )
    record.metadata.update(result.metadata())
    for name, value in result.numbers.items():
        metrics.log_metric(name, value)
    return result.decision
