"""The monitoring pipeline: one window of a served model, watched on a schedule."""

from typing import Any

from kfp import dsl

from components.contracts.project import Project
from components.ingest.component import ingest
from components.monitor.component import monitor
from pipelines.tasks import kept, settle


def monitoring_arguments(project: Project) -> dict[str, Any]:
    """The pipeline's parameters as a project sets them."""
    window = project.data.window.to_struct()
    return {
        "project": project.project_name,
        "data_root": project.data.root,
        "window_start": window["start"],
        "window_end": window["end"],
        "endpoint": "",
        "data": project.data.to_struct(),
        "feature_views": project.features.to_struct(),
        "monitoring": project.monitoring.to_struct(),
    }


def monitoring_pipeline(project: Project) -> Any:
    """Builds the monitoring pipeline with a project's settings as the defaults."""
    default = monitoring_arguments(project)
    name, orchestration = project.project_name, project.orchestration

    @dsl.pipeline(
        name=f"{project.project_name}-monitoring",
        display_name=f"{project.project_name}: monitoring",
        description=(
            "Watches drift, accuracy, latency, throughput and errors of one window of the served"
            " model, raises alerts, and decides whether to retrain."
        ),
        pipeline_config=kept(orchestration.deadline, orchestration.keep),
    )
    def monitoring(
        project: str = default["project"],
        data_root: str = default["data_root"],
        window_start: str = default["window_start"],
        window_end: str = default["window_end"],
        endpoint: str = default["endpoint"],
        data: dict = default["data"],
        feature_views: dict = default["feature_views"],
        monitoring: dict = default["monitoring"],
    ) -> None:
        """Looks at one window of a served model.

        Args:
            project: Name of the served model.
            data_root: Folder or object-store prefix that relative table paths start from.
            window_start: First instant of the window, ISO 8601 (no zone means UTC); or how long
                before its end, as in 1d.
            window_end: First instant after the window; empty: when the run was scheduled.
            endpoint: Base URL of the predictor, for its metrics; empty reads the log alone.
            data: The project file's data section: where late labels are.
            feature_views: The project file's features section: what the label is.
            monitoring: The project file's monitoring section.
        """
        # Labels of this window arrive later, so what was read once must not be served again.
        labels = settle(
            ingest(
                config=data,
                data_root=data_root,
                window_start=window_start,
                window_end=window_end,
                scheduled_at=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
            ),
            name,
        ).set_caching_options(False)
        settle(
            monitor(
                labels=labels.outputs["dataset"],
                project=project,
                config=monitoring,
                features=feature_views,
                window_start=window_start,
                window_end=window_end,
                endpoint=endpoint,
                scheduled_at=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
            ),
            name,
            settings=(
                "MLFLOW_TRACKING_URI",
                "INFERENCE_LOG_URI",
                "SLIPWAY_HOME",
                "FEATURE_STORE_URI",
                "FEAST_REDIS_URL",
            ),
        ).set_caching_options(False)

    return monitoring
