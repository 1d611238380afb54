"""`slipway run`: the main job on one machine, from source tables to a monitored endpoint."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slipway.components.config.base import format_duration
from slipway.components.config.model import Project
from slipway.components.config.project import LoadedProject
from slipway.components.contracts.verdict import Override
from slipway.components.support import files
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.local.job import Job, RunResult, add_report, monitor, see_what_serves, train
from slipway.local.retraining import serve_if_asked
from slipway.local.run_page import publish
from slipway.local.runner.progress import Progress
from slipway.local.traffic import require_traffic
from slipway.local.workspace import Workspace
from slipway.pipelines.graph import read_tasks

TRAFFIC = timedelta(days=7)


class RunError(SlipwayError):
    """A run that broke. `result` is what it had come to by then, which summary.json holds too."""

    def __init__(self, message: str, result: RunResult) -> None:
        super().__init__(message)
        self.result = result


def run_project(
    loaded: LoadedProject,
    workspace: Workspace,
    display: Progress,
    *,
    runner: str = "subprocess",
    target: str = "local",
    traffic: timedelta | None = None,
    override: Override | None = None,
) -> RunResult:
    """Compiles a project, runs its training pipeline, sends traffic, and runs its monitoring.

    Args:
        loaded: the project, overrides applied.
        workspace: where everything is kept.
        display: shows progress.
        runner: "subprocess" or "docker".
        target: where the model is deployed: "local", or "kserve" with the kubeconfig at hand.
        traffic: how long a stretch of the test part's end is sent to the endpoint; None: a week, or
            the whole part where it is shorter.
        override: who lets the model pass where the gate refuses it, and why.

    Raises:
        ProjectError: what was asked for cannot be done with this project.
        RunError: a stage failed; the message says which, why, and where its log is.
    """
    stretch = check_request(loaded, workspace, runner=runner, target=target, traffic=traffic)
    with workspace.locked():
        workspace.prune()
        job = Job(loaded, workspace, display, runner, target)
        job.compile("training", "monitoring")
        result = RunResult(project=loaded.project.project_name)
        decided = (
            {f"gate_override_{k}": v for k, v in asdict(override).items()} if override else None
        )
        try:
            _run(job, result, stretch, decided)
        except SlipwayError as error:
            see_what_serves(job, result)
            result.error, result.notes = str(error), job.notes
            _write_pages(job, result)
            files.write_json(workspace.summary, result.summary())
            raise RunError(str(error), result) from error
        see_what_serves(job, result)
        result.notes = job.notes
        _write_pages(job, result)
        files.write_json(workspace.summary, result.summary())
    return result


def check_request(
    loaded: LoadedProject,
    workspace: Workspace,
    *,
    runner: str,
    target: str,
    traffic: timedelta | None,
) -> timedelta:
    """Refuses, before anything is run, what could not end well.

    Returns:
        The stretch of traffic to send; zero: none.

    Raises:
        ProjectError: more traffic than the test part holds, or a registry that the cluster cannot read.
        SlipwayError: another program has the endpoint's port.
    """
    project = loaded.project
    settings, most = workspace.settings(), _most_traffic(project, traffic)
    if target == "kserve":
        if settings["MLFLOW_TRACKING_URI"].startswith("sqlite:") and not project.deployment.storage:
            raise ProjectError(
                "--target kserve: the registry is a file on this machine, which the cluster cannot"
                " read. Set deployment.storage to an object-store prefix (s3://bucket/models) that the"
                " bundle may be copied to, or MLFLOW_TRACKING_URI to a server."
            )
        return timedelta(0)
    if runner == "subprocess":
        from slipway.components.deploy.local.target import require_port

        require_port(Path(settings["SLIPWAY_HOME"]), project.project_name, project.deployment.port)
    return min(TRAFFIC, most) if traffic is None else traffic


def _most_traffic(project: Project, asked: timedelta | None) -> timedelta:
    """How long a stretch the test part has; of rows without time any stretch is all of them.

    Raises:
        ProjectError: more was asked for.
    """
    if project.features.examples.time is None:
        if asked:
            raise ProjectError(
                f"--traffic {format_duration(asked)}: the examples have no time, so that there is no such"
                " stretch of them. Leave it out to send the test part, or give 0d to send nothing."
            )
        return TRAFFIC
    window, length, key = project.data.window, project.features.split.test_length, "split.test"
    if length is None:
        length, key = window.length if window else TRAFFIC, "split: drawn from all of data.window"
    if asked is not None and asked > length:
        raise ProjectError(
            f"--traffic {format_duration(asked)} is longer than the test part, which is"
            f" {format_duration(length)} (features.{key})."
        )
    return length


def _run(
    job: Job, result: RunResult, stretch: timedelta, changes: dict[str, object] | None
) -> None:
    """Fills in the result, as far as it gets."""
    if stretch:
        job.after["features"] = lambda outputs: require_traffic(Path(outputs["splits"]), stretch)
    training, _ = train(job, changes, result)
    job.after.clear()
    if result.deployment and stretch:
        splits = Path(training.output("features", "splits"))
        result.traffic = job.send(result, splits, stretch)
        _monitor(job, result)
        result.retraining = serve_if_asked(job, result.record)


def _write_pages(job: Job, result: RunResult) -> None:
    """The run's page with its parts, in a folder of its own."""
    moment = datetime.now(UTC)
    folder = job.workspace.reports / f"{result.project}-{moment:%Y-%m-%d-%H-%M-%S-%f}"
    compiled = job.workspace.compiled / f"{result.project}-training.yaml"
    needs = {task.name: task.needs for task in read_tasks(compiled)} if compiled.is_file() else {}
    publish(folder, result, job.workspace.experiments, needs)


def _monitor(job: Job, result: RunResult) -> None:
    deployment, traffic = result.deployment, result.traffic
    if deployment is None or traffic is None:
        raise SlipwayError("There is nothing to monitor: no model was deployed.")
    window = (traffic.window_start, traffic.window_end)
    run, result.record = monitor(job, window, deployment.endpoint)
    add_report(result, "monitoring report", run.output("monitor", "report"))
    add_report(result, "Evidently's page", run.output("monitor", "evidently"))
    result.tasks = [task for task in result.tasks if task.name != "monitor"]
    watched = run.task("monitor")
    result.tasks += [watched] if watched else []
