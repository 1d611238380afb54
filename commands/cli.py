"""The `slipway` command."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from slipway.commands.batch import backfill, monitor, score
from slipway.commands.cluster.doctor import doctor
from slipway.commands.cluster.images import images_app
from slipway.commands.cluster.pipelines import diff, upload
from slipway.commands.cluster.runs import cancel, logs, runs, submit
from slipway.commands.cluster.schedules import schedule
from slipway.commands.cluster.stack import stack_app
from slipway.commands.console.help import MARKUP, Commands
from slipway.commands.console.terminal import (
    AsJson,
    Quiet,
    console,
    deliver,
    deliver_error,
    errors,
    reset_output,
    say,
)
from slipway.commands.init import init
from slipway.commands.new.command import new_app
from slipway.commands.open import open_
from slipway.commands.projects import RUN_FOLDER, Out, Overrides, ProjectFolder, Runner, load_served
from slipway.commands.projects import load as _load
from slipway.commands.prune import prune
from slipway.commands.push import push
from slipway.commands.retrain import retrain
from slipway.commands.schema import schema_app
from slipway.commands.sign import sign
from slipway.commands.ui import ui
from slipway.components.config.base import parse_duration
from slipway.components.contracts.verdict import Override
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.components.support.files import short_path, write_text
from slipway.components.support.libraries.extras import explain_missing, require_extra
from slipway.components.support.libraries.packages import own_version
from slipway.components.support.secrets import guard_output
from slipway.components.support.stores import bound_stores

if TYPE_CHECKING:
    from slipway.components.config.model import Project
    from slipway.components.deploy.local.target import LocalEndpoint
    from slipway.local.job import RunResult
    from slipway.local.workspace import Workspace
    from slipway.pipelines.graph import Task

BROKEN, USAGE, REFUSED, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    name="slipway",
    help="Take a tabular model from raw data to a monitored KServe endpoint, if it passes the gate.",
    no_args_is_help=True,
    cls=Commands,
    rich_markup_mode=MARKUP,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Target(StrEnum):
    """Where the model is deployed."""

    local = "local"
    kserve = "kserve"


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"slipway {own_version()}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Take a tabular model from raw data to a monitored KServe endpoint, if it passes the gate."""
    reset_output()
    if debug:
        os.environ["SLIPWAY_DEBUG"] = "1"


def run(
    project: ProjectFolder,
    overrides: Overrides = None,
    runner: Annotated[Runner, typer.Option(help="Where stages work.")] = Runner.subprocess,
    target: Annotated[Target, typer.Option(help="Where the model is deployed.")] = Target.local,
    traffic: Annotated[
        str | None,
        typer.Option(
            help="Stretch of the test part's end to send as requests; 0d for none. Default: 7d, or"
            " the whole part where it is shorter.",
            show_default=False,
        ),
    ] = None,
    out: Out = RUN_FOLDER,
    fail_on_refusal: Annotated[
        bool, typer.Option("--fail-on-refusal", help="Exit with 3 where the gate refuses.")
    ] = False,
    override_approver: Annotated[
        str, typer.Option(help="Who lets the model pass where the gate refuses it.")
    ] = "",
    override_reason: Annotated[
        str, typer.Option(help="Why; both are kept with the model and sent to the alert routes.")
    ] = "",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole way on this machine: train, gate, register, deploy, monitor.

    Exit codes: 0 done (also where the gate refused the model), 1 a stage broke, 2 bad usage or
    project file, 3 refused with --fail-on-refusal, 130 interrupted.

    Example: `slipway run --project examples/flights --set gate.auc=0.9`
    """
    require_extra("local", "slipway run")
    from slipway.commands.console.runs import Display, show_result
    from slipway.local.run import RunError, run_project
    from slipway.local.workspace import Workspace

    loaded, workspace = _load(project, overrides), Workspace.at(out)
    # A run that receives SIGTERM (from a CI system, say) ends its stages as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = run_project(
            loaded,
            workspace,
            Display(console),
            runner=runner.value,
            target=target.value,
            traffic=None if traffic is None else _duration("--traffic", traffic),
            override=_override(override_approver, override_reason),
        )
    except KeyboardInterrupt as interrupt:
        say("Interrupted. Nothing half-done was left; run the same command again.", to=errors)
        raise typer.Exit(INTERRUPTED) from interrupt
    except RunError as error:
        broken = error.result
        deliver(broken.summary(), lambda: _show_verdict(broken, workspace))
        raise
    deliver(result.summary(), lambda: show_result(console, result, workspace))
    if fail_on_refusal and not result.passed:
        raise typer.Exit(REFUSED)


def _override(approver: str, reason: str) -> Override | None:
    return Override(approver=approver, reason=reason) if approver or reason else None


def _show_verdict(broken: "RunResult", workspace: "Workspace") -> None:
    """Whatever broke after it, the verdict stands."""
    from slipway.commands.console.runs import show_result

    if broken.verdict:
        show_result(console, broken, workspace)


def compile_(
    project: ProjectFolder,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the YAML.")] = Path("compiled"),
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster",
            help="Refuse images without a digest, and places of this machine.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compile a project's pipelines and the components to YAML.

    Example: `slipway compile --project examples/flights --out compiled`
    """
    from slipway.components.support.images import STAGES, require_digests
    from slipway.pipelines.compiler import compile_project

    loaded = _load(project, overrides)
    if cluster:
        _refuse_local_places(loaded.project)
        require_digests([*STAGES, "predictor"])
    written = [str(path) for path in compile_project(loaded, out)]
    deliver({"files": written}, lambda: say("\n".join(map(short_path, written))))


def _refuse_local_places(project: "Project") -> None:
    """Refuses what a pod cannot see: it starts on an empty disk, on another machine."""
    from slipway.components.config.checks.places import local_places

    if found := local_places(project):
        raise ProjectError(
            f"{', '.join(found)}: on a cluster that is no place. Name an object store, as in --set"
            " data.root=s3://bucket/lake, and deployment.target kserve."
        )


def graph(
    pipeline: Annotated[Path, typer.Argument(help="Compiled pipeline YAML.")] = Path(
        "compiled/flights-training.yaml"
    ),
    as_json: AsJson = False,
) -> None:
    """Show a compiled pipeline's stages in execution order and what each depends on.

    Example: `slipway graph compiled/flights-training.yaml`
    """
    from slipway.pipelines.graph import read_tasks

    found = read_tasks(pipeline)
    tasks = [
        {
            "name": t.name,
            "needs": list(t.needs),
            "condition": _spoken(t.condition),
            "image": t.image,
        }
        for t in found
    ]
    deliver({"tasks": tasks}, lambda: _show_graph(found))


def _spoken(condition: str | None) -> str:
    """A condition of the compiled YAML in words."""
    text = (condition or "").replace("inputs.parameter_values", "")
    for channel, word in (("evaluate", "verdict"), ("monitor", "decision")):
        text = text.replace(f"['pipelinechannel--{channel}-Output']", word)
    return text


def _show_graph(tasks: "Sequence[Task]") -> None:
    table = Table("", "stage", "depends on", "only if", "image")
    table.columns[1].no_wrap = True
    for number, task in enumerate(tasks, start=1):
        condition = _spoken(task.condition)
        table.add_row(str(number), task.name, ", ".join(task.needs), condition, task.image)
    console.print(table)


def start(
    project: Annotated[
        str | None, typer.Option("--project-name", help="Start this project's predictor only.")
    ] = None,
    out: Out = RUN_FOLDER,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Serve again what served last, after `slipway stop` or a restart of this machine.

    The version, its port and its settings stay; a predictor that runs is left alone.

    Example: `slipway start`
    """
    require_extra("local", "slipway start")
    from slipway.components.deploy.local.target import start as start_endpoints
    from slipway.local.workspace import Workspace

    workspace = Workspace.at(out)
    os.environ.update(workspace.settings())
    with workspace.locked() if workspace.root.is_dir() else nullcontext():
        endpoints = start_endpoints(Path(os.environ["SLIPWAY_HOME"]), project)
    deliver(
        {"endpoints": [asdict(endpoint) for endpoint in endpoints]},
        lambda: say("\n".join(endpoint.headline for endpoint in endpoints)),
    )


def stop(
    project: Annotated[
        str | None, typer.Option("--project-name", help="Stop this project's predictor only.")
    ] = None,
    out: Out = RUN_FOLDER,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Stop the predictors that local runs left serving.

    Example: `slipway stop`
    """
    from slipway.components.deploy.local.target import stop as stop_endpoints
    from slipway.local.workspace import Workspace

    home = Path(Workspace.at(out).settings()["SLIPWAY_HOME"])
    stopped = stop_endpoints(home, project)
    deliver({"stopped": stopped}, lambda: say("\n".join(stopped) or "No predictor is running."))


def rollback(
    project: ProjectFolder,
    version: Annotated[
        str | None,
        typer.Argument(help="Registered version; without it the one that served before."),
    ] = None,
    overrides: Overrides = None,
    target: Annotated[Target, typer.Option(help="Where the model serves.")] = Target.local,
    out: Out = RUN_FOLDER,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Serve an earlier version again; `champion` moves back once it has answered.

    For kserve, run it where the cluster's names resolve: the older version is asked before it takes
    requests.

    Example: `slipway rollback` or `slipway rollback 3 --target kserve`
    """
    from slipway.local.rollback import roll_back_project
    from slipway.local.workspace import Workspace

    workspace = Workspace.at(out)
    is_here = target is Target.local
    loaded = load_served(project, overrides, workspace) if is_here else _load(project, overrides)

    def show(line: str) -> None:
        say(f"  {line}")

    record = roll_back_project(loaded, workspace, target=target.value, version=version, show=show)
    deliver(asdict(record), lambda: say(f"{record.headline}, champion again."))


def status(
    out: Out = RUN_FOLDER,
    model: Annotated[str | None, typer.Option(help="Show this model only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a run at work, what serves, a refused training, and each model's monitoring with its trend.

    Example: `slipway status`
    """
    from slipway.commands.console.runs import show_status
    from slipway.components.deploy.local.target import status as endpoints
    from slipway.components.monitor.history import latest
    from slipway.local.ui.found import find_refusals
    from slipway.local.under_way import find_under_way
    from slipway.local.workspace import Workspace

    workspace = Workspace.at(out)
    settings, run = workspace.settings(), find_under_way(workspace)
    records = [r for r in latest(settings["MONITORING_URI"]) if model in (None, r["model"])]
    running = list(endpoints(Path(settings["SLIPWAY_HOME"])))
    refused = [r for r in find_refusals(workspace) if model in (None, r.project)]
    serving = {e.project: e.model_version for e in running if e.state != "stopped"}
    lines = [
        *([run.headline] if run else []),
        *(_endpoint_lines(running, out) if running else ["No predictor is running here."]),
        *(refusal.headline(serving.get(refusal.project, "")) for refusal in refused),
    ]
    deliver(
        {
            "run": asdict(run) if run else None,
            "endpoints": [asdict(endpoint) for endpoint in running],
            "refused": [asdict(refusal) for refusal in refused],
            "models": records,
        },
        lambda: show_status(console, lines, records),
    )


def _endpoint_lines(endpoints: "list[LocalEndpoint]", out: Path) -> Iterator[str]:
    """What each endpoint does, and how what does not run, or runs alone, comes back."""
    from slipway.commands.console.runs import out_option

    for endpoint in endpoints:
        yield endpoint.headline
        name = ["--project-name", endpoint.project] if len(endpoints) > 1 else []
        command = shlex.join(["slipway", "start", *name, *out_option(out.resolve())])
        if endpoint.state == "orphaned":
            yield f"  its supervisor was killed; what starts it again when it ends: {command}"
        elif endpoint.state == "stopped" and endpoint.model_version != "none":
            yield f"  serve it again: {command}"


def evidence(
    model: Annotated[str, typer.Argument(help="MODEL, MODEL@alias or MODEL/version.")],
    out: Out = RUN_FOLDER,
    page: Annotated[
        Path | None,
        typer.Option("--page", help="Also write it as an HTML page.", dir_okay=False),
    ] = None,
    annex_iv: Annotated[
        Path | None,
        typer.Option(
            "--annex-iv",
            help="Also write a draft of the EU AI Act's technical documentation (Markdown).",
            dir_okay=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what a registered version rests on, and verify every hash of it.

    Exits with 1 where a hash does not agree.

    Example: `slipway evidence flights@champion --page evidence.html`
    """
    from slipway.components.register.evidence_report import show_evidence
    from slipway.local.evidence_page import write_evidence_page
    from slipway.local.workspace import Workspace

    os.environ.update(Workspace.at(out).settings())
    name, _, which = model.replace("/", "@", 1).partition("@")
    report = show_evidence(name, which or "challenger")

    def show() -> None:
        for fact, value in report.lines:
            say(value, label=f"{fact:<14} ")

    deliver(asdict(report), show)
    if page is not None:
        write_evidence_page(page, report)
        say(f"written: {page}")
    if report.problems:
        raise typer.Exit(BROKEN)
    if annex_iv is not None:
        write_text(annex_iv, report.documentation)
        say(f"written: {annex_iv}")


GROUPS: dict[str, tuple[Callable[..., object], ...]] = {
    "On this machine": (
        init,
        run,
        monitor,
        score,
        backfill,
        push,
        retrain,
        rollback,
        start,
        stop,
        prune,
        sign,
    ),
    "What there is": (status, open_, evidence, ui),
    "Pipelines": (compile_, graph, diff),
    "On a cluster": (
        doctor,
        upload,
        submit,
        runs,
        logs,
        cancel,
        schedule,
    ),
}
"""The commands as the help shows them."""
for group, functions in GROUPS.items():
    for function in functions:
        app.command(function.__name__.strip("_"), rich_help_panel=group)(function)
app.add_typer(stack_app, rich_help_panel="On a cluster")
app.add_typer(images_app, rich_help_panel="On a cluster")
app.add_typer(schema_app, rich_help_panel="Pipelines")
app.add_typer(new_app, rich_help_panel="Pipelines")


def _duration(option: str, text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ProjectError(f"{option}: {error}.") from error


def main() -> None:
    """Runs the command: errors are one clear paragraph, with a traceback only under --debug."""
    bound_stores()
    guard_output()
    try:
        app()
    except SlipwayError as error:
        if os.environ.get("SLIPWAY_DEBUG"):
            raise
        deliver_error(error)
        sys.exit(USAGE if isinstance(error, ProjectError) else BROKEN)
    except ModuleNotFoundError as error:
        if os.environ.get("SLIPWAY_DEBUG") or not error.name or error.name.startswith("slipway"):
            raise
        deliver_error(SlipwayError(explain_missing(error.name)))
        sys.exit(BROKEN)
    except OSError as error:
        if os.environ.get("SLIPWAY_DEBUG"):
            raise
        name = f"{error.filename}: " if error.filename else ""
        deliver_error(SlipwayError(f"{name}{error.strerror}."))
        sys.exit(BROKEN)
