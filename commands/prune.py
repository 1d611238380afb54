"""`slipway prune`: what the project keeps no longer, shown first and deleted when asked."""

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.commands.cluster.options import HERE, KubeflowServer, asks_kubeflow
from slipway.commands.console.terminal import AsJson, Quiet, deliver, say
from slipway.commands.projects import RUN_FOLDER, Out, Overrides, ProjectFolder
from slipway.components.support.errors import ProjectError
from slipway.components.support.libraries.extras import require_extra

if TYPE_CHECKING:
    from slipway.components.monitor.retention.runs import KubeflowHistory

NOTHING_SET = (
    "monitoring.retention sets nothing, so nothing is deleted. Say how much stays: --set"
    " monitoring.retention.log=180d (of the inference log), monitoring.retention.versions=20"
    " (newest versions), monitoring.retention.runs=90d (MLflow runs),"
    " monitoring.retention.pipeline_runs=90d (Kubeflow runs),"
    " monitoring.retention.online=1d (rows past their TTL)."
)


@asks_kubeflow
def prune(
    project: ProjectFolder,
    apply: Annotated[
        bool, typer.Option("--apply", help="Delete it; without, it is only shown.")
    ] = False,
    out: Out = RUN_FOLDER,
    overrides: Overrides = None,
    server: KubeflowServer = HERE,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Delete what the project keeps no longer: never what is in use, and shown first.

    `monitoring.retention` says how much stays of the inference log, registered versions, MLflow runs,
    Kubeflow runs with their artifacts, and online rows; the recurring monitoring run then does the same.
    For a cluster, set MLFLOW_TRACKING_URI, INFERENCE_LOG_URI and the like as its namespace has them.

    Example: `slipway prune --set monitoring.retention.log=180d --apply`
    """
    from slipway.commands.projects import load
    from slipway.components.config.monitoring import RetentionConfig

    loaded = load(project, overrides).project
    name, retention = loaded.project_name, loaded.monitoring.retention
    if retention == RetentionConfig():
        raise ProjectError(NOTHING_SET)
    require_extra("cluster", "slipway prune")
    from slipway.components.monitor.retention.retention import apply_retention, plan_retention
    from slipway.components.support.environment import inference_log_uri
    from slipway.components.support.stores import bound_stores
    from slipway.components.support.tracking import connect
    from slipway.local.workspace import Workspace

    os.environ.update(Workspace.at(out).settings())
    bound_stores()
    registry, now = connect(), datetime.now(UTC)
    kubeflow = None if retention.pipeline_runs is None else _history(server, name)
    plan = plan_retention(
        name, retention, server=registry, log_uri=inference_log_uri(), now=now, kubeflow=kubeflow
    )
    lines, is_empty = list(plan.lines), plan.is_empty
    deletes = apply and not is_empty
    if deletes:
        told: list[str] = []
        apply_retention(plan, registry, kubeflow, told.append)
        # What is gone stands there already; what was left after all is news.
        lines += [line for line in told if not line.startswith("deleted") and line not in lines]
    if retention.online is not None:
        from slipway.components.features.store.past import find_past_rows

        past = find_past_rows(name, retention.online, now=now, remove=apply)
        lines.append(f"online rows past their TTL: {sum(past.views.values()):,}")
        is_empty = is_empty and not any(past.views.values())
        deletes = apply and not is_empty
    _show(lines, is_empty=is_empty, deletes=deletes)


def _show(lines: list[str], *, is_empty: bool, deletes: bool) -> None:
    said = "Deleted." if deletes else "Nothing was deleted. Add --apply to delete it."
    said = "Nothing is past its time." if is_empty else said
    # Without a heading "versions: 0" reads as if there were none.
    text = "\n".join(["Past its time:", *lines, said])
    deliver({"past": lines, "deleted": deletes}, lambda: say(text))


def _history(server: KubeflowServer, project: str) -> "KubeflowHistory":
    """The project's runs on the cluster."""
    from slipway.components.monitor.retention.runs import KubeflowHistory

    kubeflow = server.connect()
    experiment = kubeflow.find_experiment(project)
    return KubeflowHistory(kubeflow.api, [experiment.experiment_id] if experiment else [])
