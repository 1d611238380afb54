"""Runs on a cluster: submit one, list them, follow one, read its logs, cancel it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from slipway.commands.cluster.options import (
    BROKEN,
    HERE,
    INTERRUPTED,
    REFUSED,
    TRAINING,
    Account,
    Context,
    FailOnRefusal,
    KubeflowServer,
    Namespace,
    Overrides,
    PipelineFile,
    RunId,
    Wait,
    asks_kubeflow,
    warn_of_local_sources,
)
from slipway.commands.console.terminal import AsJson, Quiet, console, deliver, errors, say
from slipway.commands.projects import ProjectFolder, load
from slipway.components.support.errors import ProjectError, SlipwayError

if TYPE_CHECKING:
    from slipway.cluster.api import Kubeflow
    from slipway.cluster.runs import RunState, TaskState
    from slipway.pipelines.package import Package

COLOURS = {
    "succeeded": "green",
    "refused": "red",
    "failed": "red",
    "skipped": "dim",
    "running": "cyan",
}

# What `submit` adds to a pipeline's name to name a run; the table says when it was created.
MOMENT = re.compile(r"-\d{8}t\d{6}-[0-9a-f]{6}$")


@asks_kubeflow
def submit(
    file: PipelineFile = TRAINING,
    overrides: Overrides = None,
    wait: Wait = False,
    fail_on_refusal: FailOnRefusal = False,
    experiment: Annotated[str, typer.Option(help="Else the project's name.")] = "",
    service_account: Account = "",
    pipeline_root: Annotated[str, typer.Option(help="Where artifacts are kept.")] = "",
    limit: Annotated[str, typer.Option(help="Longest wait, as in 2h.")] = "0s",
    every: Annotated[str, typer.Option(help="Time between two looks.")] = "5s",
    server: KubeflowServer = HERE,
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
    kubeflow = server.connect()
    uploaded = send(kubeflow, package, str(arguments.get("data_root", "")))
    warn_of_local_sources(package, arguments)
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
        _follow(kubeflow, state.run_id, pause, longest, fail_on_refusal, server)
    else:
        deliver({**asdict(state), "version": uploaded.version}, lambda: None)


@asks_kubeflow
def runs(
    project: ProjectFolder,
    run_id: Annotated[str | None, typer.Argument(help="One run, stage by stage.")] = None,
    experiment: Annotated[str, typer.Option(help="Else the project's name.")] = "",
    count: Annotated[int, typer.Option("--count", "-c", help="How many, at most.", min=1)] = 20,
    wait: Wait = False,
    fail_on_refusal: FailOnRefusal = False,
    server: KubeflowServer = HERE,
    as_json: AsJson = False,
) -> None:
    """List a project's runs, the newest first; or show or follow one, stage by stage.

    Kubeflow's API does not say why a stage failed: that is read from its pod, with the kubeconfig.

    Example: `slipway runs --count 5`
    """
    from slipway.cluster.api import instant
    from slipway.cluster.reasons import explain
    from slipway.cluster.runs import listed, state_of

    kubeflow = server.connect()
    if run_id and wait:
        _follow(kubeflow, run_id, 5.0, 0.0, fail_on_refusal, server)
    elif run_id:
        state = state_of(kubeflow, kubeflow.run(run_id))
        explain(state, namespace=kubeflow.namespace, context=server.context)
        deliver(asdict(state), lambda: _show_run(state))
    else:
        name = experiment or load(project, None).project.project_name
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


@asks_kubeflow
def cancel(
    run_id: RunId,
    server: KubeflowServer = HERE,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """End a run: its pods are stopped, what it registered or deployed before stays.

    Example: `slipway cancel 5f2c…`
    """
    from slipway.cluster.runs import state_of

    kubeflow = server.connect()
    state = state_of(kubeflow, kubeflow.run(run_id))
    if state.ended:
        said = f"{state.name} had ended already: {state.state}."
    else:
        said = f"{state.name} is being cancelled."
        if state.state != "canceling":
            kubeflow.terminate(run_id)
    deliver({"run_id": run_id, "ended": state.ended, "said": said}, lambda: say(said))


def _project_of(package: "Package") -> str:
    default = package.parameters.get("project", {}).get("defaultValue")
    return str(default or package.name)


def _follow(
    kubeflow: "Kubeflow",
    run_id: str,
    every: float,
    limit: float,
    fail_on_refusal: bool,
    server: KubeflowServer,
) -> None:
    """Watches a run to its end."""
    from slipway.cluster.reasons import explain
    from slipway.cluster.runs import follow

    with _interruptible(run_id, server.words):
        state = follow(kubeflow, run_id, _show_task, every=every, limit=limit, options=server.words)
    explain(state, namespace=kubeflow.namespace, context=server.context)
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


def _seconds(option: str, text: str) -> float:
    from slipway.components.config.base import parse_duration

    try:
        return float(parse_duration(text).total_seconds())
    except ValueError as error:
        raise ProjectError(f"{option}: {error}.") from error
