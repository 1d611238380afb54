"""`slipway prune`: what the project keeps no longer, shown first and deleted when asked."""

import os
from datetime import UTC, datetime
from typing import Annotated

import typer

from slipway.commands.projects import RUN_FOLDER, Out, Overrides, ProjectFolder
from slipway.commands.terminal import AsJson, Quiet, deliver, say
from slipway.components.support.errors import ProjectError
from slipway.components.support.extras import require_extra


def prune(
    project: ProjectFolder,
    apply: Annotated[
        bool, typer.Option("--apply", help="Delete it; without, it is only shown.")
    ] = False,
    out: Out = RUN_FOLDER,
    overrides: Overrides = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Delete old days of the inference log, versions that never served, and runs: never what is in use.

    `monitoring.retention` says how much stays, and the recurring monitoring run then does the same. For a
    cluster, set MLFLOW_TRACKING_URI and INFERENCE_LOG_URI as its namespace has them.

    Example: `slipway prune --set monitoring.retention.log=180d --apply`
    """
    from slipway.commands.projects import load
    from slipway.components.config.monitoring import RetentionConfig

    loaded = load(project, overrides).project
    retention = loaded.monitoring.retention
    if retention == RetentionConfig():
        raise ProjectError(
            "monitoring.retention sets nothing, so nothing is deleted. Say how much stays: --set"
            " monitoring.retention.log=180d (of the inference log), monitoring.retention.versions=20"
            " (newest versions), monitoring.retention.runs=90d (MLflow runs)."
        )
    require_extra("cluster", "slipway prune")
    from slipway.components.monitor.retention import apply_retention, plan_retention
    from slipway.components.support.environment import inference_log_uri
    from slipway.components.support.tracking import connect
    from slipway.local.workspace import Workspace

    os.environ.update(Workspace.at(out).settings())
    server = connect()
    plan = plan_retention(
        loaded.project_name,
        retention,
        server=server,
        log_uri=inference_log_uri(),
        now=datetime.now(UTC),
    )
    deletes = apply and not plan.is_empty
    if deletes:
        apply_retention(plan, server)
    said = "Deleted." if deletes else "Nothing was deleted. Add --apply to delete it."
    said = "Nothing is past its time." if plan.is_empty else said
    # Without a heading "versions: 0" reads as if there were none.
    lines = ["Past its time:", *plan.lines, said]
    deliver({"past": list(plan.lines), "deleted": deletes}, lambda: say("\n".join(lines)))
