"""The commands that talk to a cluster."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from slipway.commands.console.terminal import AsJson, Quiet, console, deliver, errors, say
from slipway.commands.projects import ProjectFolder
from slipway.components.support.errors import ProjectError, SlipwayError

if TYPE_CHECKING:
    from slipway.cluster.api import Kubeflow
    from slipway.cluster.runs import RunState, TaskState
    from slipway.cluster.schedules import ScheduleChange
    from slipway.components.config.model import Project as ProjectFile
    from slipway.pipelines.package import Package

BROKEN, USAGE, REFUSED, INTERRUPTED = 1, 2, 3, 130
COMPILED = Path("compiled")
COLOURS = {
    "succeeded": "green",
    "refused": "red",
    "failed": "red",
    "skipped": "dim",
    "running": "cyan",
}

# What `submit` adds to a pipeline's name to name a run; the table says when it was created.
MOMENT = re.compile(r"-\d{8}t\d{6}-[0-9a-f]{6}$")

# The columns of the state and of what was examined.
LABEL = 28
STYLES = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "dim"}

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


def upload(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Compiled pipelines.", metavar="YAML...")
    ] = None,
    host: Host = "",
    namespace: Namespace = "",
    context: Context = "",
    ca: Authorities = "",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Upload compiled pipelines, each content as one version.

    The version is named after Slipway's version and the content's hash, so that the same content
    uploaded twice is one version. Without files: all pipelines in compiled/.

    Example: `slipway upload compiled/flights-training.yaml`
    """
    from slipway.cluster.upload import upload as send
    from slipway.pipelines.package import read_package

    packages = [read_package(path) for path in files or _compiled()]
    kubeflow = _kubeflow(host, namespace, context, ca)
    done = []
    for package in packages:
        uploaded = send(kubeflow, package)
        done.append(asdict(uploaded))
        word = "uploaded" if uploaded.created else "was there already"
        say(f"{uploaded.pipeline} {uploaded.version} {word}  {uploaded.link}")
    deliver({"pipelines": done}, lambda: None)


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
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Upload a compiled pipeline where it is new, and run it.

    Sources are read again, unless `--set data_version=TEXT` names what they hold: then a run on the same
    window and version takes from the cache what did not change.

    Exit codes with --wait: 0 done (also where the gate refused the model), 1 a stage broke or the run
    was cancelled, 2 bad usage, 3 refused with --fail-on-refusal, 130 interrupted (the run goes on).

    Example: `slipway submit compiled/flights-training.yaml --set gate_auc=0.74 --wait`
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
    say(f"{state.name}  {state.link}")
    say(f"run {state.run_id} of {uploaded.version}")
    if wait:
        again = _options(host, namespace, context, ca)
        _follow(kubeflow, state.run_id, pause, longest, fail_on_refusal, context, again)
    else:
        deliver({**asdict(state), "version": uploaded.version}, lambda: None)


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
    as_json: AsJson = False,
) -> None:
    """List a project's runs, the newest first; or show or follow one, stage by stage.

    Kubeflow's API does not say why a stage failed: that is read from its pod, with the kubeconfig.

    Example: `slipway runs --count 5`
    """
    from slipway.cluster.api import instant
    from slipway.cluster.reasons import explain
    from slipway.cluster.runs import listed, state_of

    kubeflow = _kubeflow(host, namespace, context, ca)
    if run_id and wait:
        again = _options(host, namespace, context, ca)
        _follow(kubeflow, run_id, 5.0, 0.0, fail_on_refusal, context, again)
    elif run_id:
        state = state_of(kubeflow, kubeflow.run(run_id))
        explain(state, namespace=kubeflow.namespace, context=context)
        deliver(asdict(state), lambda: _show_run(state))
    else:
        name = experiment or _load(project).project_name
        found = [
            {
                "run_id": run.run_id,
                "state": str(run.state or "pending").lower(),
                "created": instant(run.created_at),
                "finished": instant(run.finished_at),
                "name": run.display_name,
            }
            for run in listed(kubeflow, name, count)
        ]
        deliver({"runs": found}, lambda: _show_runs(found))


def _show_run(state: "RunState") -> None:
    table = Table("stage", "state", "seconds", "why", title=state.name, title_justify="left")
    for task in state.tasks:
        seconds = f"{task.seconds:.0f}" if task.seconds else ""
        table.add_row(task.name, _coloured(_word(task, state)), seconds, escape(task.error))
    console.print(table)
    _show_end(state)


def _show_runs(found: list[dict[str, str]]) -> None:
    # The id is what every other command asks for: it stands whole on 80 columns, all else may fold.
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("id", no_wrap=True, min_width=36)
    table.add_column("state", no_wrap=True)
    for title in ("created (UTC)", "finished", "run"):
        table.add_column(title, overflow="fold")
    for run in found:
        name = escape(MOMENT.sub("", run["name"]))
        table.add_row(run["run_id"], _coloured(run["state"]), run["created"], run["finished"], name)
    console.print(table)


def logs(
    run_id: RunId,
    task: Annotated[str | None, typer.Option(help="Of one task; else of all.")] = None,
    tail: Annotated[int, typer.Option(help="Last lines of each task.", min=1)] = 200,
    namespace: Namespace = "",
    context: Context = "",
) -> None:
    """Print what a run's stages printed, read from their pods.

    Example: `slipway logs 5f2c… --task train`
    """
    from slipway.cluster.logs import pod_logs

    found = False
    for name, text in pod_logs(run_id, namespace=namespace, context=context, task=task, tail=tail):
        found = True
        say(f"── {name}")
        say(text.rstrip())
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
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """End a run: its pods are stopped, what it registered or deployed before stays.

    Example: `slipway cancel 5f2c…`
    """
    from slipway.cluster.runs import state_of

    kubeflow = _kubeflow(host, namespace, context, ca)
    state = state_of(kubeflow, kubeflow.run(run_id))
    if state.ended:
        said = f"{state.name} had ended already: {state.state}."
    else:
        said = f"{state.name} is being cancelled."
        if state.state != "canceling":
            kubeflow.terminate(run_id)
    deliver({"run_id": run_id, "ended": state.ended, "said": said}, lambda: say(said))


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
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make the recurring runs what the project file declares.

    Creates, replaces, pauses and removes; a second time it changes nothing. Recurring runs that
    Slipway did not create for this project are left alone.

    Example: `slipway schedule --project examples/flights --dry-run`
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
    changes = [
        {"action": s.action, "title": s.title, "identity": s.identity, "why": s.why} for s in steps
    ]
    deliver(
        {"declared": len(wanted), "dry_run": dry_run, "changes": changes},
        lambda: _show_schedule(len(wanted), steps if dry_run else [], changed=bool(steps)),
    )
    if steps and dry_run:
        raise typer.Exit(REFUSED)


def _show_schedule(declared: int, planned: "list[ScheduleChange]", *, changed: bool) -> None:
    if not changed:
        say(
            f"{declared} {'recurring run is' if declared == 1 else 'recurring runs are'} as declared."
        )
    for step in planned:
        _tell(step, "would ")


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
    as_json: AsJson = False,
) -> None:
    """Say what two compiled pipelines do differently: stages, images, parameters, wiring.

    With one file: what uploading it would change on the server.

    Example: `slipway diff main/compiled/flights-training.yaml compiled/flights-training.yaml`
    """
    from slipway.cluster.diff import compare, newest_on_server, show
    from slipway.pipelines.package import read_package

    if new is not None:
        before, after = read_package(old), read_package(new)
    else:
        after = read_package(old)
        before = newest_on_server(_kubeflow(host, namespace, context, ca), after)
    changes = compare(before, after)
    answer = {"changes": [asdict(change) for change in changes]}
    deliver(answer, lambda: say(show(before, after, changes, markdown=markdown)))
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
    as_json: AsJson = False,
) -> None:
    """Examine a cluster before anything is sent: each line is ok, or says what to do.

    Example: `slipway doctor compiled/flights-training.yaml --namespace team-a`
    """
    from slipway.cluster.doctor.doctor import examine
    from slipway.pipelines.package import arguments_from, read_package

    package = read_package(file)
    arguments = arguments_from(package, overrides or [])
    connection = _connection(host, namespace, context, ca)
    found = []
    for line in examine(connection, package, service_account, arguments):
        found.append(line)
        label = Text.assemble((f"{line.status:<4}", STYLES[line.status]), f" {line.what:<22} ")
        if cell_len(label.plain) > LABEL:  # a long one has a line of its own
            console.print(label, soft_wrap=True)
            label = Text(" " * 5)
        say(line.message, label=label)
    deliver({"findings": [asdict(line) for line in found]}, lambda: None)
    if any(line.status == "fail" for line in found):
        raise typer.Exit(BROKEN)


# What the commands share


def _connection(host: str, namespace: str, context: str, ca: str) -> Any:
    from slipway.cluster.connection import Connection

    return Connection.of(host=host, namespace=namespace, context=context, ca=ca)


def _options(host: str, namespace: str, context: str, ca: str) -> str:
    """The options that lead another command to the same server."""
    given = {"--host": host, "--namespace": namespace, "--context": context, "--ca": ca}
    return shlex.join(word for name, value in given.items() if value for word in (name, value))


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
    package: "Package", arguments: dict[str, object], advice: str = "Give --set data_root=s3://…"
) -> None:
    from slipway.cluster.sources import read_sources

    _, _, found = read_sources(package, arguments)
    if found:
        say(
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
    again: str,
) -> None:
    """Watches a run to its end; `again` are the options that lead another command to it."""
    from slipway.cluster.reasons import explain
    from slipway.cluster.runs import follow

    with _interruptible(run_id, again):
        state = follow(kubeflow, run_id, _show_task, every=every, limit=limit, options=again)
    explain(state, namespace=kubeflow.namespace, context=context)
    for task in state.tasks:
        if task.state == "failed":
            say(f"{task.name} failed: {task.error}")
    deliver(asdict(state), lambda: _show_end(state))
    if state.state not in ("succeeded", "skipped"):
        raise typer.Exit(BROKEN)
    if fail_on_refusal and state.verdict == "fail":
        raise typer.Exit(REFUSED)


@contextmanager
def _interruptible(run_id: str, again: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interrupt:
        more = f" {again}" if again else ""
        say(
            f"No longer watching. The run goes on: `slipway runs {run_id} --wait{more}` watches again,"
            f" `slipway cancel {run_id}{more}` ends it.",
            to=errors,
        )
        raise typer.Exit(INTERRUPTED) from interrupt


def _show_task(task: "TaskState") -> None:
    seconds = f"{task.seconds:6.0f} s" if task.state in ("succeeded", "failed") else ""
    line = Text.assemble(f"  {task.name:<12} ", (f"{task.state:<9}", COLOURS.get(task.state, "")))
    line.append(f" {seconds}").rstrip()
    console.print(line, soft_wrap=True)


def _word(task: "TaskState", state: "RunState") -> str:
    """A stage's state; of the gate that refused the model, that it did."""
    from slipway.cluster.runs import BEFORE_GATE

    refused = task.name == BEFORE_GATE and state.verdict == "fail"
    return "refused" if refused else task.state


def _coloured(state: str) -> str:
    colour = COLOURS.get(state, "")
    return f"[{colour}]{state}[/{colour}]" if colour else state


def _show_end(state: "RunState") -> None:
    from slipway.components.contracts.verdict import UNTOUCHED

    word = "refused by the gate" if state.verdict == "fail" else state.state
    word = f"{state.state} (it was cancelled)" if state.cancelled else word
    say(f"{state.name}: {word}  {state.link}")
    if state.error:
        say(f"  {state.error}")
    if state.verdict == "pass":
        console.print(Text.assemble(("Verdict: ", "bold"), ("PASS", "bold green")))
    elif state.verdict == "fail":
        console.print(Text.assemble(("Verdict: ", "bold"), ("FAIL", "bold red")))
        say(f"Nothing was registered and nothing deployed; {UNTOUCHED}.")


def _tell(step: "ScheduleChange", prefix: str = "") -> None:
    say(f"{prefix}{step.action} {step.title} {step.identity}: {step.why}".replace(" :", ":"))


def _seconds(option: str, text: str) -> float:
    from slipway.components.config.base import parse_duration

    try:
        return float(parse_duration(text).total_seconds())
    except ValueError as error:
        raise ProjectError(f"{option}: {error}.") from error
