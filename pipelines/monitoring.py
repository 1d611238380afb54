"""The monitoring pipeline: one window of a served model, watched on a schedule."""

from datetime import timedelta

from kfp import dsl, kubernetes
from kfp.dsl.base_component import BaseComponent

from slipway.components.config.base import format_duration
from slipway.components.config.model import Project
from slipway.components.features.component import prune_online
from slipway.components.monitor.component import monitor, retrain
from slipway.pipelines.interface import Channels, ParameterTypes, pipeline_function
from slipway.pipelines.packed import pack_section, shared_root
from slipway.pipelines.reading import read_dataset
from slipway.pipelines.tasks import (
    notify_at_end,
    pipeline_config,
    route_secrets,
    scratch_of,
    settle,
)
from slipway.pipelines.watching import watch_in_shards

_PARAMETERS: ParameterTypes = {
    "project": str,
    "data_root": str,
    "window_start": str,
    "window_end": str,
    "labels_start": str,
    "data_start": str,
    "endpoint": str,
    "data": dict,
    "features": dict,
    "monitoring": dict,
}
_TEXTS = """Looks at one window of a served model.

Args:
    project: Name of the served model. Leave it.
    data_root: Folder of the tables in an object store, as s3://bucket/lake. Relative paths start there.
    window_start: First instant of the window, as 2024-06-01 or 2024-06-01T06:00:00Z (no zone means UTC);
        or how long before its end, as 1d.
    window_end: First instant after the window, as 2024-06-02. Empty: when the run was scheduled, or now.
    labels_start: From when on the labels' table is read, as window_start: early enough for the
        labels of earlier windows that arrive late, as 29d. Empty: whole, where it has no time.
    data_start: First instant of the data that a retraining trains on, as 2024-01-01, where the
        monitoring section does not say how long its window is.
    endpoint: Base URL of the predictor, for its metrics, as http://flights.team-a. Empty: the log alone.
    data: The project file's data section: where late labels are. Leave it.
    features: The project file's features section: what the label is. Leave it.
    monitoring: The project file's monitoring section.
"""
# A window of a day, as a schedule that says nothing else has it.
WINDOW = timedelta(days=1)


def monitoring_arguments(project: Project) -> dict[str, object]:
    """The pipeline's parameters as a project sets them."""
    window = project.data.window
    start = window.texts[0] if window else ""
    timed = project.features.examples.time is not None
    labels = format_duration(WINDOW + project.monitoring.look_back) if timed else start
    return {
        "project": project.project_name,
        "data_root": shared_root(project),
        # What is served goes on: the window is the last day, whatever stretch the model learnt from.
        "window_start": format_duration(WINDOW),
        "window_end": "",
        "labels_start": labels,
        "data_start": start,
        "endpoint": "",
        "data": pack_section(project, "labels").value,
        "features": pack_section(project, "features").value,
        "monitoring": pack_section(project, "monitoring").value,
    }


def monitoring_pipeline(loaded: Project) -> BaseComponent:
    """Builds the monitoring pipeline with a project's settings as the defaults."""
    name = f"{loaded.project_name}-monitoring"
    scratch = scratch_of(loaded.orchestration, "monitoring")

    def wire(given: Channels) -> None:
        with notify_at_end(loaded, name, given.monitoring, given.data_root, "ingest-to-monitor"):
            watched = _watch(given, loaded, scratch)
            _retrain_where_asked(given, loaded, watched)
            if loaded.monitoring.retention.online is not None:
                pruned = prune_online(
                    project=given.project, config=given.monitoring, data_root=given.data_root
                )
                settle(pruned, loaded).set_caching_options(False).after(watched)

    return dsl.pipeline(
        name=name,
        display_name=f"{loaded.project_name}: monitoring",
        description=(
            "Watches drift, accuracy, latency, throughput and errors of one window of the served"
            " model, raises alerts, and starts the retraining pipeline where it must."
        ),
        pipeline_config=pipeline_config(loaded.orchestration, "monitoring"),
    )(pipeline_function(_PARAMETERS, _TEXTS, monitoring_arguments(loaded), wire))


def _watch(given: Channels, project: Project, scratch: dict[str, str]) -> dsl.PipelineTask:
    """Reads the labels that are known by now and looks at the window."""
    # Labels of this window arrive later, so what was read once must not be served again.
    labels, _ = read_dataset(
        given,
        project,
        cached=False,
        window_start=given.labels_start,
        window_end=given.window_end,
        scheduled_at=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
        # What has no example yet has no label yet: monitor says so.
        may_be_empty=True,
    )
    watched = watch_window(given, project, labels, **scratch)
    if project.monitoring.retention.pipeline_runs is not None:
        _let_in(watched)
    return watched


def watch_window(
    given: Channels, project: Project, labels: object, **scratch: object
) -> dsl.PipelineTask:
    """Looks at the window in one task, or in shards whose merge judges as if it had been one."""
    due = dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER
    window = {"window_start": given.window_start, "window_end": given.window_end}
    whole = {**scratch, "endpoint": given.endpoint}
    if project.orchestration.shards != 1:
        return watch_in_shards(given, project, labels, {**window, "scheduled_at": due}, whole)
    watched = settle(
        monitor(
            labels=labels,
            project=given.project,
            config=given.monitoring,
            features=given.features,
            data_root=given.data_root,
            **window,
            **whole,
            scheduled_at=due,
        ),
        project,
    ).set_caching_options(False)
    route_secrets(watched, project)
    return watched


def _retrain_where_asked(given: Channels, project: Project, watched: dsl.PipelineTask) -> None:
    """Starts the retraining pipeline through Kubeflow's API, where monitor decided so.

    The task itself looks at the decision. Behind a condition that does not hold no container would be
    the last to end, and Kubeflow would tell the exit handler that the run is still going.
    """
    started = settle(
        retrain(
            record=watched.outputs["record"],
            decision=watched.outputs["Output"],
            project=given.project,
            config=given.monitoring,
            data_start=given.data_start,
            data_root=given.data_root,
        ),
        project,
    ).set_caching_options(False)
    _let_in(started)
    # What it starts runs as the account that it runs as itself.
    kubernetes.use_field_path_as_env(started, "SLIPWAY_SERVICE_ACCOUNT", "spec.serviceAccountName")


def _let_in(task: dsl.PipelineTask) -> None:
    """Kubeflow's webhook gives a pod with this label the token that its API asks for."""
    kubernetes.add_pod_label(task, "access-ml-pipeline", "true")
