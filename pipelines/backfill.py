"""The backfill pipeline: feature values of a past range, recomputed in the feature store."""

from collections.abc import Mapping

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from slipway.components.config.base import format_duration
from slipway.components.config.features.reach import backfill_margins
from slipway.components.config.model import Project
from slipway.components.features.component import backfill
from slipway.pipelines.interface import Channels, ParameterTypes, pipeline_function
from slipway.pipelines.reading import read_good_rows
from slipway.pipelines.tasks import (
    batch_arguments,
    notify_at_end,
    pipeline_config,
    scratch_of,
    settle,
)

_PARAMETERS: ParameterTypes = {
    "project": str,
    "data_root": str,
    "window_start": str,
    "window_end": str,
    "before": str,
    "after": str,
    "online": bool,
    "data": dict,
    "schema": str,
    "features": dict,
}
_TEXTS = """Fills a range of the feature store.

Args:
    project: Name of the Feast project. Leave it.
    data_root: Folder of the tables in an object store, as s3://bucket/lake. Relative paths start there.
    window_start: First instant of the range, as 2024-06-01 (no zone means UTC); or how long before
        its end, as 7d. Empty: all values, where the examples have no time.
    window_end: First instant after it, as 2024-06-08. Empty: when the run was scheduled, or now.
    before: How long before the range the tables are read too, as 30d: the longest window that a
        feature sums up, and what it takes until all is known.
    after: How long after it, as 1d: so long a changed event still counts, or is known ahead.
    online: true: bring the online store up to date too. Else false.
    data: The project file's data section: tables, formats, time columns. Leave it.
    schema: What the tables must satisfy, as JSON text; or the file below the data root that holds
        it, where it is large. Leave it.
    features: The project file's features section. Leave it.
"""


def backfill_arguments(project: Project, schema: Mapping[str, object]) -> dict[str, object]:
    """The pipeline's parameters as a project sets them."""
    start, end = project.data.window_texts
    before, after = backfill_margins(project.features)
    return batch_arguments(project, schema) | {
        "window_start": start,
        "window_end": end,
        "before": format_duration(before),
        "after": format_duration(after),
        "online": True,
    }


def backfill_pipeline(loaded: Project, schema: Mapping[str, object]) -> BaseComponent:
    """Builds the backfill pipeline with a project's settings as the defaults of its parameters."""
    name = f"{loaded.project_name}-backfill"
    scratch = scratch_of(loaded.orchestration, "backfill")

    def wire(given: Channels) -> None:
        with notify_at_end(
            loaded, name, loaded.monitoring.to_struct(), given.data_root, "ingest-to-backfill"
        ):
            _fill(given, loaded, scratch)

    return dsl.pipeline(
        name=name,
        display_name=f"{loaded.project_name}: feature backfill",
        description=(
            "Recomputes the feature values of a past range from validated sources, replaces them in"
            " the offline store, and brings the online store up to date."
        ),
        pipeline_config=pipeline_config(loaded.orchestration, "backfill"),
    )(pipeline_function(_PARAMETERS, _TEXTS, backfill_arguments(loaded, schema), wire))


def _fill(given: Channels, project: Project, scratch: dict[str, str]) -> None:
    """Reads the range's tables again and fills its part of the feature store."""
    due = dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER
    # The sources were corrected since they were read: a backfill has no other reason.
    good = read_good_rows(
        given,
        project,
        scratch,
        cached=False,
        window_start=given.window_start,
        window_end=given.window_end,
        scheduled_at=due,
        before=given.before,
        after=given.after,
    )
    settle(
        backfill(
            dataset=good,
            project=given.project,
            config=given.features,
            data_root=given.data_root,
            window_start=given.window_start,
            window_end=given.window_end,
            online=given.online,
            scheduled_at=due,
            **scratch,
        ),
        project,
    ).set_caching_options(False)
