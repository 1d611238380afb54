"""The commands that talk to a cluster."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slipway.commands.projects import ProjectFolder
from slipway.components.support.errors import ProjectError, SlipwayError

if TYPE_CHECKING:
    from slipway.cluster.api import Kubeflow
    from slipway.cluster.runs import RunState, TaskState
    from slipway.cluster.schedules import Step
    from slipway.components.config.model import Project as ProjectFile
    from slipway.pipelines.package import Package

BROKEN, USAGE, REFUSED, INTERRUPTED = 1, 2, 3, 130
COMPILED = Path("compiled")
COLOURS = {"succeeded": "green", "failed": "red", "skipped": "dim", "running": "cyan"}

# What `submit` adds to a pipeline's name to name a run; the table says when it was created.
MOMENT = re.compile(r"-\d{8}t\d{6}-[0-9a-f]{6}$")

WORDS = {
    "ok": "[green]ok  [/green]",
    "warn": "[yellow]warn[/yellow]",
    "fail": "[red]fail[/red]",
    "skip": "[dim]skip[/dim]",
}

console = Console(width=None if sys.stdout.isatty() else 120)

PipelineFile = Annotated[Path, typer.Argument(help="Compiled pipeline.", metavar="YAML")]
Host = Annotated[
    str,
    typer.Option(
        help="Address of Kubeflow Pipelines [env KF_PIPELINES_ENDPOINT]; without it: the pod's own"
        " cluster, else the kubeconfig's.",
        metavar="URL",
    ),
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="The user's namespace [env SLIPWAY_NAMESPACE].")
]
Context = Annotated[str, typer.Option(help="Context of the kubeconfig.")]
Authorities = Annotated[
    str, typer.Option("--ca", help="File of certificate authorities [env SLIPWAY_KFP_CA].")
]
Account = Annotated[
    str, typer.Option("--service-account", help="That the pods run as; else the server's default.")
]
RunId = Annotated[str, typer.Argument(help="Id of the run.", metavar="RUN")]


def add_commands(app: typer.Typer) -> None:
    """Adds the commands of this module to the slipway command."""
    for function in (upload, submit, runs, logs, cancel, schedule, diff, doctor):
        app.command(function.__name__)(function)


def upload(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Compiled pipelines.", metavar="YAML...")
    ] = None,
    host: Host = "",
    namespace: Namespace = "",
    context: Context = "",
    ca: Authorities = "",
) -> None:
    """Upload compiled pipelines, each content as one version.

    The version is named after Slipway's version and the content's hash, so that the same content
    uploaded twice is one version. Without files: all pipelines in compiled/.

    **Example:** `slipway upload compiled/flights-training.yaml`
    """
    from slipway.cluster.upload import upload as send
    from slipway.pipelines.package import read_package

    packages = [read_package(path) for path in files or _compiled()]
    kubeflow = _kubeflow(host, namespace, context, ca)
    for package in packages:
        uploaded = send(kubeflow, package)
        word = "uploaded" if uploaded.created else "was there already"
        _say(f"{uploaded.pipeline} {uploaded.version} {word}  {uploaded.link}")


def submit(
    file: PipelineFile = COMPILED / "flights-training.yaml",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A parameter of the pipeline.", metavar="NAME=VALUE"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end.")] = False,
    fail_on_refusal: Annotated[
        bool, typer.Option("--fail-on-refusal", help="Exit with 3 where the gate refuses.")
    ] = False,
    experiment: Annotated[str, typer.Option(help="Else the project's name.")] = "",
    service_account: Account = "",
    pipeline_root: Annotated[str, typer.Option(help="Where artifacts are kept.")] = "",
    limit: Annotated[str, typer.Option(help="Longest wait, as in 2h.")] = "0s",
    every: Annotated[str, typer.Option(help="Time between two looks.")] = "5s",
    host: Host = "",
    namespace: Namespace = "",
    context: Context = "",
    ca: Authorities = "",
) -> None:
    """Upload a compiled pipeline where it is new, and run it.

    Sources are read again, unless `--set data_version=TEXT` names what they hold: then a run on the same
    window and version takes from the cache what did not change.

    Exit codes with --wait: 0 done (also where the gate refused the model), 1 a stage broke or the run
    was cancelled, 2 bad usage, 3 refused with --fail-on-refusal, 130 interrupted (the run goes on).

    **Example:** `slipway submit compiled/flights-training.yaml --set epochs=3 --set gate_auc=0.74 --wait`
    """
    from slipway.cluster.runs import submit as start
    from slipway.cluster.upload import upload as send
    from slipway.pipelines.package import arguments_from, read_anew, read_package

    package = read_package(file)
    arguments = read_anew(package, arguments_from(package, overrides or []))
    pause, longest = _seconds("--every", every), _seconds("--limit", limit)
    kubeflow = _kubeflow(host, namespace, context, ca)
    uploaded = send(kubeflow, package, str(arguments.get("data_root", "")))
    _warn_of_local_sources(package, arguments)
    state = start(
        kubeflow,
        package,
        uploaded,
        experiment=experiment or _project_of(package),
        arguments=arguments,
        service_account=service_account,
        pipeline_root=pipeline_root,
    )
    _say(f"{state.name}  {state.link}")
    _say(f"run {state.run_id} of {uploaded.version}")
    if wait:
        _follow(kubeflow, state.run_id, pause, longest, fail_on_refusal, context)


def runs(
    project: ProjectFolder,
    run_id: Annotated[str | None, typer.Argument(help="One run, stage by stage.")] = None,
    experiment: Annotated[str, typer.Option(help="Else the project's name.")] = "",
    count: Annotated[int, typer.Option("--count", "-c", help="How many, at most.", min=1)] = 20,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end.")] = False,
    fail_on_refusal: Annotated[
        bool, typer.Option("--fail-on-refusal", help="Exit with 3 where the gate refuses.")
    ] = False,
    host: Host = "",
    namespace: Namespace = "",
    context: Context = "",
    ca: Authorities = "",
) -> None:
    """List a project's runs, the newest first; or show or follow one, stage by stage.

    Kubeflow's API does not say why a stage failed: that is read from its pod, with the kubeconfig.

    **Example:** `slipway runs --count 5`
    """
    from slipway.cluster.api import instant
    from slipway.cluster.reasons import explain
    from slipway.cluster.runs import listed, state_of

    kubeflow = _kubeflow(host, namespace, context, ca)
    if run_id:
        if wait:
            _follow(kubeflow, run_id, 5.0, 0.0, fail_on_refusal, context)
            return
        state = state_of(kubeflow, kubeflow.run(run_id))
        explain(state, namespace=kubeflow.namespace, context=context)
        table = Table("stage", "state", "seconds", "why", title=state.name, title_justify="left")
        for task in state.tasks:
            seconds = f"{task.seconds:.0f}" if task.seconds else ""
            table.add_row(task.name, _coloured(task.state), seconds, escape(task.error))
        console.print(table)
        _show_end(state)
        return
    name = experiment or _load(project).project_name
    # The id is what every other command asks for: it stands whole on 80 columns, all else may fold.
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("id", no_wrap=True, min_width=36)
    table.add_column("state", no_wrap=True)
    for title in ("created (UTC)", "finished", "run"):
        table.add_column(title, overflow="fold")
    for run in listed(kubeflow, name, count):
        table.add_row(
            run.run_id,
            _coloured(str(run.state or "pending").lower()),
            instant(run.created_at),
            instant(run.finished_at),
            escape(MOMENT.sub("", run.display_name)),
        )
    console.print(table)


def logs(
    run_id: RunId,
    task: Annotated[str | None, typer.Option(help="Of one task; else of all.")] = None,
    tail: Annotated[int, typer.Option(help="Last lines of each task.", min=1)] = 200,
    namespace: Namespace = "",
    context: Context = "",
) -> None:
    """Print what a run's stages printed, read from their pods.

    **Example:** `slipway logs 5f2c… --task train`
    """
    from slipway.cluster.logs import pod_logs

    found = False
    for name, text in pod_logs(run_id, namespace=namespace, context=context, task=task, tail=tail):
        found = True
        _say(f"── {name}")
        _say(text.rstrip())
    if not found:
        raise SlipwayError(
            f"Run {run_id} has no pods{f' of task {task}' if task else ''} in the namespace: it has"
            " not started one, or they were cleaned up. The artifacts and MLflow keep what they gave."
        )


def cancel(
    run_id: RunId,
    host: Host = "",
    namespace: Namespace = "",
    context: Context = "",
    ca: Authorities = "",
) -> None:
    """End a run: its pods are stopped, what it registered or deployed before stays.

    **Example:** `slipway cancel 5f2c…`
    """
    from slipway.cluster.runs import state_of

    kubeflow = _kubeflow(host, namespace, context, ca)
    state = state_of(kubeflow, kubeflow.run(run_id))
    if state.ended:
        _say(f"{state.name} had ended already: {state.state}.")
        return
    if state.state != "canceling":
        kubeflow.terminate(run_id)
    _say(f"{state.name} is being cancelled.")


def schedule(
    project: ProjectFolder,
    compiled: Annotated[Path, typer.Option(help="Folder of the compiled pipelines.")] = COMPILED,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would change; exit with 3 if anything.")
    ] = False,
    service_account: Account = "",
    host: Host = "",
    namespace: Namespace = "",
    context: Context = "",
    ca: Authorities = "",
) -> None:
    """Make the recurring runs what the project file declares.

    Creates, replaces, pauses and removes; a second time it changes nothing. Recurring runs that
    Slipway did not create for this project are left alone.

    **Example:** `slipway schedule --project examples/flights --dry-run`
    """
    from slipway.cluster.schedules import reconcile, wanted_for
    from slipway.cluster.upload import place_settings
    from slipway.cluster.upload import upload as send

    loaded = _load(project)
    packages = _packages_for(loaded, compiled)
    kubeflow = _kubeflow(host, namespace, context, ca)
    versions: dict[str, tuple[str, str]] = {}
    for name, package in packages.items():
        if dry_run:
            versions[name] = _version_ids(kubeflow, package)
        else:
            uploaded = send(kubeflow, package)
            for schedule in loaded.recurring.values():
                if schedule.pipeline == name and "data_root" in schedule.parameters:
                    place_settings(package, str(schedule.parameters["data_root"]))
            versions[name] = (uploaded.pipeline_id, uploaded.version_id)
    wanted = wanted_for(loaded, packages, versions, service_account)
    for want in wanted:
        advice = f"Give schedules.{want.name}.parameters.data_root"
        _warn_of_local_sources(packages[want.schedule.pipeline], want.arguments, advice)
    steps = reconcile(
        kubeflow, loaded.project_name, wanted, dry_run=dry_run, tell=lambda step: _tell(step)
    )
    if not steps:
        runs = "recurring run is" if len(wanted) == 1 else "recurring runs are"
        _say(f"{len(wanted)} {runs} as declared.")
    elif dry_run:
        for step in steps:
            _tell(step, "would ")
        raise typer.Exit(REFUSED)


def diff(
    old: Annotated[Path, typer.Argument(help="Compiled pipeline.", metavar="YAML")],
    new: Annotated[
        Path | None,
        typer.Argument(help="Another; else the newest version on the server.", metavar="YAML"),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="For a comment on a change.")
    ] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 where they differ.")
    ] = False,
    host: Host = "",
    namespace: Namespace = "",
    context: Context = "",
    ca: Authorities = "",
) -> None:
    """Say what two compiled pipelines do differently: stages, images, parameters, wiring.

    With one file: what uploading it would change on the server.

    **Example:** `slipway diff main/compiled/flights-training.yaml compiled/flights-training.yaml`
    """
    from slipway.cluster.diff import compare, newest_on_server, show
    from slipway.pipelines.package import read_package

    if new is not None:
        before, after = read_package(old), read_package(new)
    else:
        after = read_package(old)
        before = newest_on_server(_kubeflow(host, namespace, context, ca), after)
    changes = compare(before, after)
    _say(show(before, after, changes, markdown=markdown))
    if changes and exit_code:
        raise typer.Exit(REFUSED)


def doctor(
    file: PipelineFile = COMPILED / "flights-training.yaml",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="As a run is to be started with.", metavar="NAME=VALUE"),
    ] = None,
    service_account: Account = "pipeline-runner",
    host: Host = "",
    namespace: Namespace = "",
    context: Context = "",
    ca: Authorities = "",
) -> None:
    """Examine a cluster before anything is sent: each line is ok, or says what to do.

    **Example:** `slipway doctor compiled/flights-training.yaml --namespace team-a`
    """
    from slipway.cluster.doctor.doctor import examine
    from slipway.pipelines.package import arguments_from, read_package

    package = read_package(file)
    arguments = arguments_from(package, overrides or [])
    connection = _connection(host, namespace, context, ca)
    worst = False
    for line in examine(connection, package, service_account, arguments):
        word = WORDS[line.status]
        # Folded beside what it is about; a log has each in one line, and a command is one to copy.
        if console.is_terminal and "kubectl " not in line.message:
            grid = Table.grid(padding=(0, 1, 0, 0))
            grid.add_column(no_wrap=True)
            grid.add_column(no_wrap=True, min_width=22)
            grid.add_column(overflow="fold")
            grid.add_row(word, line.what, escape(line.message))
            console.print(grid, highlight=False)
        else:
            console.print(
                f"{word} {line.what:<22} {escape(line.message)}", soft_wrap=True, highlight=False
            )
        worst = worst or line.status == "fail"
    if worst:
        raise typer.Exit(BROKEN)


# What the commands share


def _connection(host: str, namespace: str, context: str, ca: str) -> Any:
    from slipway.cluster.connection import Connection

    return Connection.of(host=host, namespace=namespace, context=context, ca=ca)


def _kubeflow(host: str, namespace: str, context: str, ca: str) -> "Kubeflow":
    from slipway.cluster.api import Kubeflow

    return Kubeflow(_connection(host, namespace, context, ca))


def _load(folder: Path) -> "ProjectFile":
    from slipway.components.config.project import load_project

    return load_project(folder).project


def _compiled() -> list[Path]:
    found = sorted(COMPILED.glob("*.yaml"))
    if not found:
        raise SlipwayError(f"There is no compiled pipeline in {COMPILED}. Run `slipway compile`.")
    return found


def _packages_for(project: "ProjectFile", folder: Path) -> dict[str, "Package"]:
    from slipway.pipelines.package import read_package

    names = {schedule.pipeline for schedule in project.recurring.values()}
    return {
        name: read_package(folder / f"{project.project_name}-{name}.yaml") for name in sorted(names)
    }


def _version_ids(kubeflow: "Kubeflow", package: "Package") -> tuple[str, str]:
    pipeline = kubeflow.find_pipeline(package.name)
    version = pipeline and kubeflow.find_version(pipeline.pipeline_id, package.version_name)
    if not pipeline or not version:
        return "", ""
    return pipeline.pipeline_id, version.pipeline_version_id


def _project_of(package: "Package") -> str:
    default = package.parameters.get("project", {}).get("defaultValue")
    return str(default or package.name)


def _warn_of_local_sources(
    package: "Package", arguments: dict[str, Any], advice: str = "Give --set data_root=s3://…"
) -> None:
    from slipway.cluster.sources import read_sources

    _, _, found = read_sources(package, arguments)
    if found:
        _say(
            f"warning: {package.name}: {', '.join(found)} is a place on one machine, which a pod does not"
            f" see. {advice}, or compile with --cluster, which refuses it."
        )


def _follow(
    kubeflow: "Kubeflow",
    run_id: str,
    every: float,
    limit: float,
    fail_on_refusal: bool,
    context: str,
) -> None:
    from slipway.cluster.reasons import explain
    from slipway.cluster.runs import follow

    with _interruptible(run_id):
        state = follow(kubeflow, run_id, _show_task, every=every, limit=limit)
    explain(state, namespace=kubeflow.namespace, context=context)
    for task in state.tasks:
        if task.state == "failed":
            _say(f"{task.name} failed: {task.error}")
    _show_end(state)
    if state.state not in ("succeeded", "skipped"):
        raise typer.Exit(BROKEN)
    if fail_on_refusal and state.verdict == "fail":
        raise typer.Exit(REFUSED)


@contextmanager
def _interruptible(run_id: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interrupt:
        _say(
            f"\nNo longer watching. The run goes on: `slipway runs {run_id} --wait` watches again,"
            f" `slipway cancel {run_id}` ends it."
        )
        raise typer.Exit(INTERRUPTED) from interrupt


def _show_task(task: "TaskState") -> None:
    seconds = f"{task.seconds:6.0f} s" if task.state in ("succeeded", "failed") else ""
    console.print(
        f"  {task.name:<12} {_coloured(task.state, 9)} {seconds}".rstrip(),
        highlight=False,
        soft_wrap=True,
    )


def _coloured(state: str, width: int = 0) -> str:
    colour = COLOURS.get(state, "")
    return f"[{colour}]{state:<{width}}[/{colour}]" if colour else f"{state:<{width}}"


def _show_end(state: "RunState") -> None:
    word = f"{state.state} (it was cancelled)" if state.cancelled else state.state
    _say(f"{state.name}: {word}  {state.link}")
    if state.error:
        _say(f"  {state.error}")
    if state.verdict == "pass":
        console.print("Verdict: [green]PASS[/green]", style="bold")
    elif state.verdict == "fail":
        console.print("Verdict: [red]FAIL[/red]", style="bold")
        _say("Nothing was registered and nothing deployed; what served before still does.")


def _tell(step: "Step", prefix: str = "") -> None:
    _say(f"{prefix}{step.action} {step.title} {step.identity}: {step.why}".replace(" :", ":"))


def _say(text: str) -> None:
    console.print(escape(text).rstrip(), highlight=False, soft_wrap=True)


def _seconds(option: str, text: str) -> float:
    from slipway.components.config.base import parse_duration

    try:
        return float(parse_duration(text).total_seconds())
    except ValueError as error:
        raise ProjectError(f"{option}: {error}.") from error
