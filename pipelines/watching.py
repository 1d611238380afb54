"""Monitoring in shards: a plan, a loop over parts of a log or a scored table, and a merge that judges."""

from kfp import dsl

from slipway.components.config.model import Project
from slipway.components.monitor.component import merge_monitoring, monitor_shard, plan_monitoring
from slipway.pipelines.interface import Channels
from slipway.pipelines.reading import asked_shards
from slipway.pipelines.tasks import route_secrets, settle


def watch_in_shards(
    given: Channels,
    project: Project,
    labels: object,
    log: dict[str, object],
    whole: dict[str, object],
) -> dsl.PipelineTask:
    """Looks at a window; returns the merge, whose outputs are those of one task.

    Args:
        given: the pipeline's parameters `project`, `monitoring`, `features` and `data_root`.
        project: the project.
        labels: the dataset in which labels are looked up.
        log: what is looked at, as `plan_monitoring` takes it: a window, or predictions.
        whole: what the merge is given beside.
    """
    common = {
        "project": given.project,
        "config": given.monitoring,
        "data_root": given.data_root,
    }
    table = {name: value for name, value in log.items() if name == "predictions"}
    plan = plan_monitoring(**common, **log, shards=asked_shards(project))
    settle(plan, project).set_caching_options(False)
    with dsl.ParallelFor(plan.outputs["Output"], name="monitoring-shards") as shard:
        part = monitor_shard(
            **common, **table, features=given.features, plan=plan.outputs["plan"], shard=shard
        )
        settle(part, project).set_caching_options(False)
    merged = merge_monitoring(
        **common,
        **table,
        **whole,
        features=given.features,
        plan=plan.outputs["plan"],
        parts=dsl.Collected(part.outputs["part"]),
        labels=labels,
    )
    settle(merged, project).set_caching_options(False)
    route_secrets(merged, project)
    return merged
