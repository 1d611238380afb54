"""The tables of a run: ingested and validated, each in one task or as a loop of shards and a merge."""

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel

from slipway.components.config.model import Project
from slipway.components.ingest.component import (
    ingest,
    ingest_shard,
    merge_dataset,
    plan_ingest,
)
from slipway.components.validate.component import merge_validated, validate, validate_shard
from slipway.pipelines.interface import Channels
from slipway.pipelines.tasks import settle


def asked_shards(project: Project) -> int:
    """How many shards the project asks for at most; 0: as many as a table's rows ask for."""
    shards = project.orchestration.shards
    return 0 if shards == "auto" else shards


def read_dataset(
    given: Channels, project: Project, *, cached: bool = True, **window: object
) -> tuple[PipelineChannel, PipelineChannel | None]:
    """Ingests the tables.

    Args:
        given: the pipeline's parameters `data` and `data_root`.
        project: the project.
        cached: whether what was read once serves again.
        window: what of the tables is read, as `ingest` takes it.

    Returns:
        The dataset, and the shards in which the next stage reads it; None: in one task.
    """
    source = {"config": given.data, "data_root": given.data_root}
    if project.orchestration.shards == 1:
        task = _settle(ingest(**source, **window), project, cached)
        return task.outputs["dataset"], None
    shards = asked_shards(project)
    plan = _settle(plan_ingest(**source, **window, shards=shards), project, cached)
    with dsl.ParallelFor(plan.outputs["Output"], name="ingest-shards") as shard:
        part = ingest_shard(**source, plan=plan.outputs["plan"], shard=shard)
        _settle(part, project, cached)
    merged = merge_dataset(
        plan=plan.outputs["plan"], parts=dsl.Collected(part.outputs["part"]), shards=shards
    )
    _settle(merged, project, cached)
    return merged.outputs["dataset"], merged.outputs["Output"]


def read_good_rows(
    given: Channels,
    project: Project,
    scratch: dict[str, str],
    *,
    cached: bool = True,
    **window: object,
) -> PipelineChannel:
    """Ingests the tables and validates them; returns the dataset without the bad rows.

    Args:
        given: as for `read_dataset`, and `schema` and `project`.
        project: the project.
        scratch: what a task that may write much is given.
        cached: whether what was read once serves again.
        window: what of the tables is read, as `ingest` takes it.
    """
    dataset, shards = read_dataset(given, project, cached=cached, **window)
    schema = {"schema": given.schema, "data_root": given.data_root}
    if shards is None:
        checked = settle(
            validate(dataset=dataset, project=given.project, **schema, **scratch), project
        )
        return checked.outputs["good"]
    with dsl.ParallelFor(shards, name="validate-shards") as shard:
        part = settle(validate_shard(dataset=dataset, shard=shard, **schema, **scratch), project)
    merged = merge_validated(parts=dsl.Collected(part.outputs["part"]), project=given.project)
    return settle(merged, project).outputs["good"]


def _settle(task: dsl.PipelineTask, project: Project, cached: bool) -> dsl.PipelineTask:
    settle(task, project)
    return task if cached else task.set_caching_options(False)
