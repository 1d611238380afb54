"""The batch scoring pipeline: a registered version over the rows of a window, with its drift record."""

from collections.abc import Mapping

from kfp import dsl
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.pipeline_channel import PipelineChannel

from slipway.components.config.base import format_duration
from slipway.components.config.features.reach import scoring_history
from slipway.components.config.model import Project
from slipway.components.deploy.component import (
    merge_predictions,
    plan_scoring,
    score,
    score_shard,
)
from slipway.components.features.component import scoring_features
from slipway.components.monitor.component import monitor_predictions
from slipway.pipelines.interface import Channels, ParameterTypes, pipeline_function
from slipway.pipelines.packed import pack_section
from slipway.pipelines.reading import asked_shards, read_good_rows
from slipway.pipelines.tasks import (
    batch_arguments,
    notify_at_end,
    pipeline_config,
    route_secrets,
    scratch_of,
    settle,
)
from slipway.pipelines.watching import watch_in_shards

_PARAMETERS: ParameterTypes = {
    "project": str,
    "model": str,
    "data_root": str,
    "window_start": str,
    "window_end": str,
    "history": str,
    "publish": str,
    "data": dict,
    "schema": str,
    "features": dict,
    "monitoring": dict,
}
_TEXTS = """Predicts a table.

Args:
    project: Name of the registered model. Leave it.
    model: Which version: an alias, as champion, or a number, as 3.
    data_root: Folder of the tables in an object store, as s3://bucket/lake. Relative paths start there.
    window_start: First instant of the rows to predict, as 2024-06-01 (no zone means UTC); or how
        long before the end, as 1d. Empty: all rows, where they have no time.
    window_end: First instant after them, as 2024-06-02. Empty: when the run was scheduled, or now.
    history: How long before the rows the tables are read too, as 30d: as far as the features look back.
    publish: Folder that the predictions are copied below, as s3://bucket/scores. Empty: they are the
        run's artifact alone.
    data: The project file's data section: tables, formats, time columns. Leave it.
    schema: What the tables must satisfy, as JSON text; or the file below the data root that holds
        it, where it is large. Leave it.
    features: The project file's features section. Leave it.
    monitoring: The project file's monitoring section.
"""


def scoring_arguments(project: Project, schema: Mapping[str, object]) -> dict[str, object]:
    """The pipeline's parameters as a project sets them."""
    data = project.data
    start, end, history = "1d", "", ""
    if project.features.examples.time is None:
        # All rows are scored; a window cuts the tables that have a time, as in training.
        start, end = data.window_texts
    elif data.window is not None:
        history = format_duration(scoring_history(project.features, data.window.length))
    return batch_arguments(project, schema) | {
        "model": "champion",
        "window_start": start,
        "window_end": end,
        "history": history,
        "publish": "",
        "monitoring": pack_section(project, "monitoring").value,
    }


def scoring_pipeline(loaded: Project, schema: Mapping[str, object]) -> BaseComponent:
    """Builds the scoring pipeline with a project's settings as the defaults of its parameters."""
    name = f"{loaded.project_name}-scoring"
    scratch = scratch_of(loaded.orchestration, "scoring")

    def wire(given: Channels) -> None:
        with notify_at_end(loaded, name, given.monitoring, given.data_root, "ingest-to-score"):
            good, rows = _look_up_rows(given, loaded, scratch)
            _score(given, loaded, good, rows)

    return dsl.pipeline(
        name=name,
        display_name=f"{loaded.project_name}: batch scoring",
        description=(
            "Predicts the rows of a window with a registered version, on the features that training"
            " gave it, and records how far they drifted from what it was trained on."
        ),
        pipeline_config=pipeline_config(loaded.orchestration, "scoring"),
    )(pipeline_function(_PARAMETERS, _TEXTS, scoring_arguments(loaded, schema), wire))


def _look_up_rows(
    given: Channels, project: Project, scratch: dict[str, str]
) -> tuple[PipelineChannel, PipelineChannel]:
    """The window's tables without their bad rows, and its rows with their features."""
    due = dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER
    # New rows come in, and labels of old ones: what was read once must not be served again.
    good = read_good_rows(
        given,
        project,
        scratch,
        cached=False,
        window_start=given.window_start,
        window_end=given.window_end,
        scheduled_at=due,
        before=given.history,
    )
    looked_up = settle(
        scoring_features(
            dataset=good,
            project=given.project,
            config=given.features,
            data_root=given.data_root,
            window_start=given.window_start,
            window_end=given.window_end,
            scheduled_at=due,
            **scratch,
        ),
        project,
    )
    return good, looked_up.outputs["rows"]


def _score(
    given: Channels, project: Project, labels: PipelineChannel, rows: PipelineChannel
) -> None:
    """Predicts the rows, and records their drift and, where labels are known, how right it was."""
    predictions = predict_rows(given, project, rows)
    if project.orchestration.shards != 1:
        watch_in_shards(given, project, labels, {"predictions": predictions}, {})
        return
    watched = settle(
        monitor_predictions(
            predictions=predictions,
            labels=labels,
            project=given.project,
            config=given.monitoring,
            features=given.features,
            data_root=given.data_root,
        ),
        project,
    ).set_caching_options(False)
    route_secrets(watched, project)


def predict_rows(given: Channels, project: Project, rows: PipelineChannel) -> PipelineChannel:
    """Predicts the rows in one task, or in shards that are put together as if it had been one."""
    # An alias names another version tomorrow: nothing here is taken from the cache.
    if project.orchestration.shards == 1:
        scored = score(rows=rows, project=given.project, model=given.model, publish=given.publish)
        return settle(scored, project).set_caching_options(False).outputs["predictions"]
    plan = plan_scoring(
        rows=rows,
        project=given.project,
        model=given.model,
        shards=asked_shards(project),
    )
    settle(plan, project).set_caching_options(False)
    with dsl.ParallelFor(plan.output, name="shards") as shard:
        part = score_shard(rows=rows, project=given.project, shard=shard)
        settle(part, project).set_caching_options(False)
    merged = merge_predictions(
        parts=dsl.Collected(part.outputs["predictions"]), publish=given.publish
    )
    return settle(merged, project).set_caching_options(False).outputs["predictions"]
