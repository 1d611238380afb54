"""`slipway retrain`: a person asks for a training, and it runs here or on the cluster."""

import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.commands.cluster.options import (
    HERE,
    FailOnRefusal,
    KubeflowServer,
    asks_kubeflow,
)
from slipway.commands.console.terminal import AsJson, Quiet, console, deliver, errors, say
from slipway.commands.projects import RUN_FOLDER, Out, Overrides, ProjectFolder
from slipway.components.config.base import parse_instant
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.components.support.libraries.extras import require_extra

if TYPE_CHECKING:
    from datetime import datetime

    from slipway.components.config.project import LoadedProject
    from slipway.components.contracts.monitoring.monitoring_record import RetrainRequest
    from slipway.components.monitor.retraining.retrain import Decision
    from slipway.local.workspace import Workspace

REFUSED, INTERRUPTED = 3, 130


@asks_kubeflow
def retrain(
    why: Annotated[str, typer.Option("--why", help="The reason, kept with the request.")],
    project: ProjectFolder,
    until: Annotated[
        str, typer.Option(help="End of the training data; else of the last monitored window.")
    ] = "",
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Start it on Kubeflow instead of on this machine.")
    ] = False,
    out: Out = RUN_FOLDER,
    fail_on_refusal: FailOnRefusal = False,
    overrides: Overrides = None,
    server: KubeflowServer = HERE,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Retrain the model on data up to now, through the same gate, whatever monitoring says.

    Cooldown and weekly budget hold back alerts, not people; but nothing starts while a training runs,
    and the same words for the same data start nothing twice, unless it failed here.

    Example: `slipway retrain --why "a new airline joined"`
    """
    from slipway.commands.projects import load, load_served
    from slipway.local.workspace import Workspace

    workspace = Workspace.at(out)
    loaded = load(project, overrides) if cluster else load_served(project, overrides, workspace)
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
        _train_here(loaded, workspace, why.strip(), end, fail_on_refusal)
        return
    root = os.environ.get("MONITORING_URI", "")
    if not root:
        raise SlipwayError(
            "MONITORING_URI is not set: give the value that the namespace's config map has, so that"
            " the cluster's own retraining sees this request."
        )
    request = _ask(root, loaded, why.strip(), end)
    _start(loaded, request, root, server)


def _ask(
    root: str, loaded: "LoadedProject", why: str, until: "datetime | None"
) -> "RetrainRequest":
    from slipway.local.retraining import ask_by_hand

    decision: Decision = ask_by_hand(root, loaded.project, why, until)
    if decision.request is None:
        deliver({"started": None, "why": decision.why}, lambda: say(decision.why))
        raise typer.Exit(REFUSED)
    say(decision.why)
    return decision.request


def _start(
    loaded: "LoadedProject",
    request: "RetrainRequest",
    root: str,
    server: KubeflowServer,
) -> None:
    from slipway.components.monitor.retraining.launcher import start_once
    from slipway.components.monitor.retraining.retrain import arguments_for
    from slipway.local.retraining import ClusterRuns

    kubeflow = server.connect()
    project = loaded.project
    start, _ = project.data.window_texts
    launched = start_once(
        root=root,
        model=project.project_name,
        key=request.key,
        runs=ClusterRuns(kubeflow, project.project_name),
        arguments=arguments_for(request, start, project.monitoring),
    )
    link = kubeflow.link("runs", launched.run) if launched.run else ""
    answer = {"started": launched.run or None, "why": launched.why, "link": link}
    deliver(answer, lambda: say("\n".join(filter(None, (launched.why, link)))))
    if not launched.run:
        raise typer.Exit(REFUSED)


def _train_here(
    loaded: "LoadedProject",
    workspace: "Workspace",
    why: str,
    until: "datetime | None",
    fail_on_refusal: bool,
) -> None:
    require_extra("local", "A training on this machine")
    from slipway.commands.console.runs import Display, show_retraining
    from slipway.local.job import Job
    from slipway.local.retraining import close_lost, serve

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    root = workspace.settings()["MONITORING_URI"]
    try:
        with workspace.locked():
            close_lost(workspace, loaded.project.project_name)
            request = _ask(root, loaded, why, until)
            if request.status in ("started", "finished"):
                why = f"It is {request.status} already: {request.run}."
                deliver({"started": None, "why": why}, lambda: say(why))
                return
            job = Job(loaded, workspace, Display(console))
            job.compile("training")
            result = serve(job, request)
    except KeyboardInterrupt as interrupt:
        say("Interrupted. Nothing half-done was left, and no endpoint was changed.", to=errors)
        raise typer.Exit(INTERRUPTED) from interrupt
    deliver(result.summary(), lambda: show_retraining(console, result))
    if fail_on_refusal and not result.passed:
        raise typer.Exit(REFUSED)
