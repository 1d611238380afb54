"""The KFP faces of monitor: a window (in one task or in shards), the training asked for, a failed run."""

from kfp import dsl

from slipway.components.support.images import image


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
    evidently: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    scheduled_at: str = "",
    data_root: str = "",
    scratch: str = "",
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
        evidently: Evidently's own page of a sample, to look closer.
        metrics: The window's metrics.
        scheduled_at: When the run was scheduled; it stands in for an empty window_end.
        data_root: Folder or object-store prefix below which large settings lie as files.
        scratch: Folder for what does not fit into memory; empty: the pod's own disk.

    Returns:
        "retrain" or "keep".
    """
    from pathlib import Path

    from slipway.components.config.data import resolve_window
    from slipway.components.monitor.monitor import MonitoringTask, monitor_window
    from slipway.components.support.environment import use_scratch
    from slipway.components.support.settings import given

    use_scratch(scratch)
    result = monitor_window(
        MonitoringTask(
            labels_path=Path(labels.path),
            project=project,
            config=given("monitoring", config, data_root),
            features=given("features", features, data_root),
            window=resolve_window(window_start, window_end, scheduled_at),
            endpoint=endpoint,
            record_path=Path(record.path),
            report_path=Path(report.path),
            evidently_path=Path(evidently.path),
        )
    )
    record.metadata.update(result.metadata())
    for name, value in result.numbers.items():
        metrics.log_metric(name, value)
    return result.decision


@dsl.component(base_image=image("monitor"), install_kfp_package=False)
def monitor_predictions(
    predictions: dsl.Input[dsl.Dataset],
    labels: dsl.Input[dsl.Dataset],
    project: str,
    config: dict,
    features: dict,
    record: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    evidently: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    data_root: str = "",
):
    """Records the drift, and where labels are known the accuracy, of a scored table; raises alerts.

    Args:
        predictions: The scored table.
        labels: Tables in which labels are looked up, where they are known already.
        project: The project's name: the registered model. The history is PROJECT-scoring's.
        config: The project's `monitoring` section.
        features: The project's `features` section: where labels stand.
        record: What was found, as JSON.
        report: The same, to look at.
        evidently: Evidently's own page of a sample, to look closer.
        metrics: The table's metrics.
        data_root: Folder or object-store prefix below which large settings lie as files.
    """
    from pathlib import Path

    from slipway.components.config.data import parse_window
    from slipway.components.contracts.predictions import read_predictions
    from slipway.components.monitor.monitor import MonitoringTask, monitor_window
    from slipway.components.support.settings import given

    result = monitor_window(
        MonitoringTask(
            labels_path=Path(labels.path),
            project=project,
            # A scored table raises alerts; only what is served decides about retraining.
            config={**given("monitoring", config, data_root), "retrain": False},
            features=given("features", features, data_root),
            window=parse_window(*read_predictions(Path(predictions.path)).moments),
            endpoint="",
            record_path=Path(record.path),
            report_path=Path(report.path),
            evidently_path=Path(evidently.path),
            log_uri=predictions.path,
            series=f"{project}-scoring",
        )
    )
    record.metadata.update(result.metadata())
    for name, value in result.numbers.items():
        metrics.log_metric(name, value)


@dsl.component(base_image=image("monitor"), install_kfp_package=False)
def plan_monitoring(
    project: str,
    config: dict,
    shards: int,
    plan: dsl.Output[dsl.Artifact],
    predictions: dsl.Input[dsl.Dataset] = None,
    window_start: str = "",
    window_end: str = "",
    scheduled_at: str = "",
    data_root: str = "",
) -> list:
    """Settles once for all shards which files of the log they read, and which version is measured.

    Args:
        project: The project's name: the served model.
        config: The project's `monitoring` section.
        shards: How many shards at most; 0: as many as the log's rows ask for.
        plan: The window and the files.
        predictions: A scored table, which is looked at in the place of the log; its window is its own.
        window_start: As for `monitor`.
        window_end: As for `monitor`.
        scheduled_at: As for `monitor`.
        data_root: Folder or object-store prefix below which large settings lie as files.

    Returns:
        A text for each shard, which `monitor_shard` reads.
    """
    from pathlib import Path

    from slipway.components.config.data import parse_window, resolve_window
    from slipway.components.contracts.predictions import read_predictions
    from slipway.components.monitor.shards import plan_monitoring as work
    from slipway.components.support.settings import given

    if predictions is None:
        window = resolve_window(window_start, window_end, scheduled_at)
    else:
        window = parse_window(*read_predictions(Path(predictions.path)).moments)
    return work(
        project=project,
        config=given("monitoring", config, data_root),
        window=window,
        plan=Path(plan.path),
        shards=int(shards),
        log_uri=predictions.path if predictions else "",
    ).shards


@dsl.component(base_image=image("monitor"), install_kfp_package=False)
def monitor_shard(
    plan: dsl.Input[dsl.Artifact],
    project: str,
    config: dict,
    features: dict,
    shard: str,
    part: dsl.Output[dsl.Dataset],
    predictions: dsl.Input[dsl.Dataset] = None,
    data_root: str = "",
):
    """Sketches the features of one shard of the log, and hands on its answers.

    Args:
        plan: What all shards agreed on.
        project: The project's name: the served model.
        config: The project's `monitoring` section.
        features: The project's `features` section.
        shard: Which shard it is, as planned.
        part: The sketches, the answers and a sample of the rows.
        predictions: As for `plan_monitoring`.
        data_root: Folder or object-store prefix below which large settings lie as files.
    """
    from pathlib import Path

    from slipway.components.monitor.shards import monitor_shard as work
    from slipway.components.support.settings import given

    found = work(
        plan=Path(plan.path),
        project=project,
        config=given("monitoring", config, data_root),
        features=given("features", features, data_root),
        shard=shard,
        part=Path(part.path),
        log_uri=predictions.path if predictions else "",
    )
    # Little: Kubeflow gives the merge what is noted of all shards in one argument.
    part.metadata["rows"] = found.answers


@dsl.component(base_image=image("monitor"), install_kfp_package=False)
def merge_monitoring(
    plan: dsl.Input[dsl.Artifact],
    parts: dsl.Input[list[dsl.Dataset]],
    labels: dsl.Input[dsl.Dataset],
    project: str,
    config: dict,
    features: dict,
    record: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    evidently: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    predictions: dsl.Input[dsl.Dataset] = None,
    endpoint: str = "",
    data_root: str = "",
    scratch: str = "",
) -> str:
    """Puts the shards of a window together and judges it, as if one task had measured all.

    Args:
        plan: What all shards agreed on.
        parts: What each shard found.
        labels: As for `monitor`.
        project: As for `monitor`.
        config: As for `monitor`.
        features: As for `monitor`.
        record: As for `monitor`.
        report: As for `monitor`.
        evidently: As for `monitor`.
        metrics: As for `monitor`.
        predictions: As for `plan_monitoring`. Its history is PROJECT-scoring's, and nothing retrains.
        endpoint: As for `monitor`.
        data_root: Folder or object-store prefix below which large settings lie as files.
        scratch: Folder for what does not fit into memory; empty: the pod's own disk.

    Returns:
        "retrain" or "keep".
    """
    from pathlib import Path

    from slipway.components.monitor.monitor import MonitoringTask
    from slipway.components.monitor.shards import merge_monitoring as work
    from slipway.components.monitor.shards import planned_window
    from slipway.components.support.environment import use_scratch
    from slipway.components.support.settings import given

    use_scratch(scratch)
    settings = given("monitoring", config, data_root)
    result = work(
        MonitoringTask(
            labels_path=Path(labels.path),
            project=project,
            config={**settings, "retrain": False} if predictions else settings,
            features=given("features", features, data_root),
            window=planned_window(Path(plan.path)),
            endpoint=endpoint,
            record_path=Path(record.path),
            report_path=Path(report.path),
            evidently_path=Path(evidently.path),
            log_uri=predictions.path if predictions else "",
            series=f"{project}-scoring" if predictions else "",
        ),
        plan=Path(plan.path),
        parts=[Path(part.path) for part in parts],
    )
    record.metadata.update(result.metadata())
    for name, value in result.numbers.items():
        metrics.log_metric(name, value)
    return result.decision


@dsl.component(base_image=image("monitor"), install_kfp_package=False)
def retrain(
    record: dsl.Input[dsl.Artifact],
    decision: str,
    project: str,
    config: dict,
    data_start: str,
    kubeflow: str = "",
    data_root: str = "",
) -> str:
    """Starts the training that monitor asked for, once: cooldown, budget and one at a time.

    Args:
        record: The window's record, which names the request.
        decision: What monitor decided; anything but `retrain` starts nothing.
        project: The project's name: its experiment and its pipelines.
        config: The project's `monitoring` section.
        data_start: First instant of the data, where the `monitoring` section does not say how long the
            training's window is.
        kubeflow: Base URL of Kubeflow Pipelines; empty: that of the cluster that this runs in.
        data_root: Folder or object-store prefix below which large settings lie as files.

    Returns:
        The run's id; empty where nothing was started, or where `slipway` on this machine does it.
    """
    from pathlib import Path

    from slipway.components.config.monitoring import MonitoringConfig
    from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
    from slipway.components.monitor.retraining.launcher import KubeflowRuns, launch, leave
    from slipway.components.monitor.retraining.retrain import arguments_for, find_request
    from slipway.components.support import environment
    from slipway.components.support.kubernetes.pod import in_pod
    from slipway.components.support.settings import given

    if decision != "retrain":
        return leave("nothing asked for it").run
    if not kubeflow and not in_pod():
        return leave("left to the command that runs this pipeline").run
    key = MonitoringRecord.read(Path(record.path)).details["request"]
    settings = MonitoringConfig.parse(given("monitoring", config, data_root), "monitoring")
    request = find_request(environment.monitoring_uri(), project, key)
    return launch(
        root=environment.monitoring_uri(),
        model=project,
        key=key,
        runs=KubeflowRuns(project, kubeflow),
        arguments=arguments_for(request, data_start, settings),
    ).run


@dsl.component(base_image=image("monitor"), install_kfp_package=False)
def report_end(
    project: str,
    config: dict,
    pipeline: str,
    status: dsl.PipelineTaskFinalStatus,
    data_root: str = "",
) -> None:
    """Notifies the alert routes of a failed run, and of the first success after it.

    Args:
        project: The project's name.
        config: The project's `monitoring` section: its routes.
        pipeline: The pipeline's name.
        status: How the run ended, from Kubeflow.
        data_root: Folder or object-store prefix below which large settings lie as files.
    """
    from slipway.components.monitor.alerting.failure import report_end as work
    from slipway.components.support import environment
    from slipway.components.support.settings import given

    work(
        project=project,
        config=given("monitoring", config, data_root),
        pipeline=pipeline,
        run=environment.local_run() or status.pipeline_job_resource_name,
        state=status.state,
        error=status.error_message or "",
    )


@dsl.component(base_image=image("monitor"), install_kfp_package=False)
def report_verdict(verdict: dsl.Input[dsl.Artifact], project: str, config: dict):
    """Notifies the alert routes of a model that the gate refused, or that a person let pass all the same.

    Args:
        verdict: The gate's decision.
        project: The project's name.
        config: The project's `monitoring` section: its routes.
    """
    from pathlib import Path

    from slipway.components.monitor.alerting.gate import report_verdict as work

    work(project=project, config=config, verdict_path=Path(verdict.path))
