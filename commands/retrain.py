"""`slipway retrain`: a person asks for a training, and it runs here or on the cluster."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from slipway.commands.cluster import Authorities, Context, Host, Namespace
from slipway.commands.projects import RUN_FOLDER, ProjectFolder
from slipway.components.config.base import parse_instant
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.components.support.extras import require_extra

if TYPE_CHECKING:
    from datetime import datetime

    from slipway.components.config.project import LoadedProject
    from slipway.components.contracts.monitoring_record import RetrainRequest
    from slipway.components.monitor.retraining.retrain import Decision
    from slipway.local.workspace import Workspace

REFUSED, INTERRUPTED = 3, 130
console = Console(width=None if sys.stdout.isatty() else 120)


def retrain(
    why: Annotated[str, typer.Option("--why", help="The reason, kept with the request.")],
    project: ProjectFolder,
    until: Annotated[
        str, typer.Option(help="End of the training data; else of the last monitored window.")
    ] = "",
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Start it on Kubeflow instead of on this machine.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder of local runs.")] = RUN_FOLDER,
    fail_on_refusal: Annotated[
        bool, typer.Option("--fail-on-refusal", help="Exit with 3 where the gate refuses.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key of the project file.", metavar="KEY=VALUE"),
    ] = None,
    host: Host = "",
    namespace: Namespace = "",
    context: Context = "",
    ca: Authorities = "",
) -> None:
    """Retrain the model on data up to now, through the same gate, whatever monitoring says.

    Cooldown and weekly budget hold back alerts, not people; but nothing starts while a training runs,
    and the same words for the same data start nothing twice, unless it failed here.

    **Example:** `slipway retrain --why "a new airline joined"`
    """
    from slipway.commands.projects import load
    from slipway.local.workspace import Workspace

    loaded = load(project, overrides)
    if not why.strip():
        raise ProjectError("--why is empty: say why to retrain the model.")
    try:
        end = parse_instant(until) if until else None
    except ValueError as error:
        raise ProjectError(f"--until {until} is not an ISO 8601 time: {error}.") from error
    if end is not None and loaded.project.data.window is None:
        raise ProjectError(
            f"--until {until}: without data.window the tables are read whole. Leave it out."
        )
    if not cluster:
        _train_here(loaded, Workspace.at(out), why.strip(), end, fail_on_refusal)
        return
    root = os.environ.get("MONITORING_URI", "")
    if not root:
        raise SlipwayError(
            "MONITORING_URI is not set: give the value that the namespace's config map has, so that"
            " the cluster's own retraining sees this request."
        )
    request = _ask(root, loaded, why.strip(), end)
    _start(loaded, request, root, host, namespace, context, ca)


def _ask(
    root: str, loaded: "LoadedProject", why: str, until: "datetime | None"
) -> "RetrainRequest":
    from slipway.local.retraining import ask_by_hand

    decision: Decision = ask_by_hand(root, loaded.project, why, until)
    _say(decision.why)
    if decision.request is None:
        raise typer.Exit(REFUSED)
    return decision.request


def _start(
    loaded: "LoadedProject",
    request: "RetrainRequest",
    root: str,
    host: str,
    namespace: str,
    context: str,
    ca: str,
) -> None:
    from slipway.cluster.api import Kubeflow
    from slipway.cluster.connection import Connection
    from slipway.components.monitor.retraining.launcher import start_once
    from slipway.components.monitor.retraining.retrain import arguments_for
    from slipway.local.retraining import ClusterRuns

    connection = Connection.of(host=host, namespace=namespace, context=context, ca=ca)
    kubeflow = Kubeflow(connection)
    project = loaded.project
    start, _ = project.data.window_texts
    launched = start_once(
        root=root,
        model=project.project_name,
        key=request.key,
        runs=ClusterRuns(kubeflow, project.project_name),
        arguments=arguments_for(request, start, project.monitoring),
    )
    _say(launched.why)
    if not launched.run:
        raise typer.Exit(REFUSED)
    _say(kubeflow.link("runs", launched.run))


def _train_here(
    loaded: "LoadedProject",
    workspace: "Workspace",
    why: str,
    until: "datetime | None",
    fail_on_refusal: bool,
) -> None:
    require_extra("local", "A training on this machine")
    from slipway.commands.console import Display, show_retraining
    from slipway.local.job import Job
    from slipway.local.retraining import close_lost, serve

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    root = workspace.settings()["MONITORING_URI"]
    try:
        with workspace.locked():
            close_lost(workspace, loaded.project.project_name)
            request = _ask(root, loaded, why, until)
            if request.status in ("started", "finished"):
                _say(f"It is {request.status} already: {request.run}.")
                return
            job = Job(loaded, workspace, Display(console))
            job.compile()
            result = serve(job, request)
    except KeyboardInterrupt as interrupt:
        _say("Interrupted. Nothing half-done was left, and what served before still does.")
        raise typer.Exit(INTERRUPTED) from interrupt
    show_retraining(console, result)
    if fail_on_refusal and not result.passed:
        raise typer.Exit(REFUSED)


def _say(text: str) -> None:
    from rich.markup import escape

    console.print(escape(text), highlight=False, soft_wrap=True)
