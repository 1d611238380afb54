"""The batch scoring pipeline: a registered version over the rows of a window, with its drift record."""

from typing import Any

from kfp import dsl

from slipway.components.config.base import format_duration
from slipway.components.config.model import Project
from slipway.components.config.reach import scoring_history
from slipway.components.deploy.component import score
from slipway.components.features.component import scoring_features
from slipway.components.ingest.component import ingest
from slipway.components.monitor.component import monitor_predictions
from slipway.components.validate.component import validate
from slipway.pipelines.packed import pack_section
from slipway.pipelines.tasks import (
    batch_arguments,
    notify_at_end,
    pipeline_config,
    route_secrets,
    scratch_of,
    settle,
)


def scoring_arguments(project: Project, schema: dict[str, Any]) -> dict[str, Any]:
    """The pipeline's parameters as a project sets them."""
    data = project.data
    history = scoring_history(project.features, data.window.end - data.window.start)
    return batch_arguments(project, schema) | {
        "model": "champion",
        "window_start": "1d",
        "window_end": "",
        "history": format_duration(history),
        "publish": "",
        "monitoring": pack_section(project, "monitoring").value,
    }


def scoring_pipeline(loaded: Project, schema: dict[str, Any]) -> Any:
    """Builds the scoring pipeline with a project's settings as the defaults of its parameters."""
    default = scoring_arguments(loaded, schema)
    name = loaded.project_name
    scratch = scratch_of(loaded.orchestration, "scoring")

    @dsl.pipeline(
        name=f"{name}-scoring",
        display_name=f"{name}: batch scoring",
        description=(
            "Predicts the rows of a window with a registered version, on the features that training"
            " gave it, and records how far they drifted from what it was trained on."
        ),
        pipeline_config=pipeline_config(loaded.orchestration, "scoring"),
    )
    def scoring(
        project: str = default["project"],
        model: str = default["model"],
        data_root: str = default["data_root"],
        window_start: str = default["window_start"],
        window_end: str = default["window_end"],
        history: str = default["history"],
        publish: str = default["publish"],
        data: dict = default["data"],
        schema: str = default["schema"],
        features: dict = default["features"],
        monitoring: dict = default["monitoring"],
    ) -> None:
        """Predicts a table.

        Args:
            project: Name of the registered model.
            model: Which version: an alias, as champion, or a number.
            data_root: Folder or object-store prefix that relative table paths start from.
            window_start: First instant of the rows to predict, ISO 8601 (no zone means UTC); or how
                long before the end, as in 1d.
            window_end: First instant after them; empty: when the run was scheduled.
            history: How long before the rows the tables are read too: as far as the features look back.
            publish: Folder or object-store prefix that the predictions are copied below; empty: they
                are the run's artifact alone.
            data: The project file's data section: tables, formats, time columns.
            schema: What the tables must satisfy, as JSON text; or the file below the data root that holds
                it, where it is large.
            features: The project file's features section.
            monitoring: The project file's monitoring section.
        """
        due = dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER
        with notify_at_end(loaded, f"{name}-scoring", monitoring, data_root):
            # New rows come in, and labels of old ones: what was read once must not be served again.
            ingested = settle(
                ingest(
                    config=data,
                    data_root=data_root,
                    window_start=window_start,
                    window_end=window_end,
                    scheduled_at=due,
                    before=history,
                ),
                loaded,
            ).set_caching_options(False)
            validated = settle(
                validate(
                    dataset=ingested.outputs["dataset"],
                    schema=schema,
                    data_root=data_root,
                    **scratch,
                ),
                loaded,
            )
            looked_up = settle(
                scoring_features(
                    dataset=validated.outputs["good"],
                    project=project,
                    config=features,
                    data_root=data_root,
                    window_start=window_start,
                    window_end=window_end,
                    scheduled_at=due,
                    **scratch,
                ),
                loaded,
            )
            # An alias names another version tomorrow.
            scored = settle(
                score(
                    rows=looked_up.outputs["rows"], project=project, model=model, publish=publish
                ),
                loaded,
            ).set_caching_options(False)
            watched = settle(
                monitor_predictions(
                    predictions=scored.outputs["predictions"],
                    labels=validated.outputs["good"],
                    project=project,
                    config=monitoring,
                    features=features,
                    data_root=data_root,
                ),
                loaded,
            ).set_caching_options(False)
            route_secrets(watched, loaded)

    return scoring
