"""`slipway prune`: what the project keeps no longer, shown first and deleted when asked."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from slipway.commands.projects import RUN_FOLDER, ProjectFolder
from slipway.components.support.errors import ProjectError
from slipway.components.support.extras import require_extra

console = Console()


def prune(
    project: ProjectFolder,
    apply: Annotated[
        bool, typer.Option("--apply", help="Delete it; without, it is only shown.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder of local runs.")] = RUN_FOLDER,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key of the project file.", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Delete old days of the inference log, versions that never served, and runs: never what is in use.

    `monitoring.retention` says how much stays, and the recurring monitoring run then does the same. For a
    cluster, set MLFLOW_TRACKING_URI and INFERENCE_LOG_URI as its namespace has them.

    **Example:** `slipway prune --set monitoring.retention.log=180d --apply`
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
    for line in plan.lines:
        console.print(line, highlight=False, soft_wrap=True)
    if plan.is_empty:
        console.print("Nothing is past its time.")
    elif not apply:
        console.print("Nothing was deleted. Add --apply to delete it.")
    else:
        apply_retention(plan, server)
        console.print("Deleted.")
