"""The monitoring pipeline: one window of a served model, watched on a schedule."""

from typing import Any

from kfp import dsl, kubernetes

from slipway.components.config.model import Project
from slipway.components.ingest.component import ingest
from slipway.components.monitor.component import monitor, retrain
from slipway.pipelines.interface import Channels, ParameterTypes, pipeline_function
from slipway.pipelines.packed import pack_section
from slipway.pipelines.tasks import (
    notify_at_end,
    pipeline_config,
    route_secrets,
    scratch_of,
    settle,
)

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
    project: Name of the served model.
    data_root: Folder or object-store prefix that relative table paths start from.
    window_start: First instant of the window, ISO 8601 (no zone means UTC); or how long
        before its end, as in 1d.
    window_end: First instant after the window; empty: when the run was scheduled.
    labels_start: From when on the labels' table is read, as window_start: early enough for the
        labels of earlier windows that arrive late. Empty: whole, where it has no time.
    data_start: First instant of the data that a retraining trains on, where the monitoring
        section does not say how long its window is.
    endpoint: Base URL of the predictor, for its metrics; empty reads the log alone.
    data: The project file's data section: where late labels are.
    features: The project file's features section: what the label is.
    monitoring: The project file's monitoring section.
"""


def monitoring_arguments(project: Project) -> dict[str, Any]:
    """The pipeline's parameters as a project sets them."""
    window = project.data.window
    start, end = window.texts if window else ("1d", "")
    return {
        "project": project.project_name,
        "data_root": project.data.root,
        "window_start": start,
        "window_end": end,
        "labels_start": start if window else "",
        "data_start": start if window else "",
        "endpoint": "",
        "data": pack_section(project, "labels").value,
        "features": pack_section(project, "features").value,
        "monitoring": pack_section(project, "monitoring").value,
    }


def monitoring_pipeline(loaded: Project) -> Any:
    """Builds the monitoring pipeline with a project's settings as the defaults."""
    name = f"{loaded.project_name}-monitoring"
    scratch = scratch_of(loaded.orchestration, "monitoring")

    def wire(given: Channels) -> None:
        with notify_at_end(loaded, name, given.monitoring, given.data_root):
            watched = _watch(given, loaded, scratch)
            with dsl.If(watched.outputs["Output"] == "retrain", name="retraining-asked-for"):
                _ask_for_retraining(given, loaded, watched.outputs["record"])

    return dsl.pipeline(
        name=name,
        display_name=f"{loaded.project_name}: monitoring",
        description=(
            "Watches drift, accuracy, latency, throughput and errors of one window of the served"
            " model, raises alerts, and starts the retraining pipeline where it must."
        ),
        pipeline_config=pipeline_config(loaded.orchestration, "monitoring"),
    )(pipeline_function(_PARAMETERS, _TEXTS, monitoring_arguments(loaded), wire))


def _watch(given: Channels, project: Project, scratch: dict[str, Any]) -> dsl.PipelineTask:
    """Reads the labels that are known by now and looks at the window."""
    # Labels of this window arrive later, so what was read once must not be served again.
    labels = settle(
        ingest(
            config=given.data,
            data_root=given.data_root,
            window_start=given.labels_start,
            window_end=given.window_end,
            scheduled_at=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
            # What has no example yet has no label yet: monitor says so.
            may_be_empty=True,
        ),
        project,
    ).set_caching_options(False)
    watched = settle(
        monitor(
            labels=labels.outputs["dataset"],
            project=given.project,
            config=given.monitoring,
            features=given.features,
            data_root=given.data_root,
            window_start=given.window_start,
            window_end=given.window_end,
            endpoint=given.endpoint,
            scheduled_at=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
            **scratch,
        ),
        project,
    ).set_caching_options(False)
    route_secrets(watched, project)
    return watched


def _ask_for_retraining(given: Channels, project: Project, record: Any) -> None:
    """Starts the retraining pipeline through Kubeflow's API."""
    started = settle(
        retrain(
            record=record,
            project=given.project,
            config=given.monitoring,
            data_start=given.data_start,
            data_root=given.data_root,
        ),
        project,
    ).set_caching_options(False)
    # Kubeflow's webhook gives a pod with this label the token that its API asks for.
    kubernetes.add_pod_label(started, "access-ml-pipeline", "true")
    # What it starts runs as the account that it runs as itself.
    kubernetes.use_field_path_as_env(started, "SLIPWAY_SERVICE_ACCOUNT", "spec.serviceAccountName")
