"""`slipway run`: the main job on one machine, from source tables to a monitored endpoint."""

import shutil
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from slipway.components.config.project import LoadedProject
from slipway.components.contracts.monitoring_record import MonitoringRecord, read_monitoring_record
from slipway.components.contracts.release import Deployment, Release, read_record
from slipway.components.contracts.verdict import Override, Verdict, read_verdict
from slipway.components.support import files
from slipway.components.support.errors import SlipwayError
from slipway.local.execution import (
    PipelineRun,
    TaskRun,
    cached_headline,
    execute,
    keep_headline,
    require_success,
)
from slipway.local.local_run import Request
from slipway.local.progress import Progress
from slipway.local.traffic import Traffic, send_traffic
from slipway.local.workspace import Workspace, source_version
from slipway.pipelines.monitoring import monitoring_arguments
from slipway.pipelines.training import training_arguments

STAGES = ("ingest", "validate", "features", "train", "evaluate", "register", "deploy", "monitor")


@dataclass(slots=True)
class RunResult:
    """What a run came to; `summary()` is what summary.json holds."""

    project: str
    verdict: Verdict
    release: Release | None = None
    deployment: Deployment | None = None
    traffic: Traffic | None = None
    record: MonitoringRecord | None = None
    retraining: "RunResult | None" = None
    tasks: list[TaskRun] = field(default_factory=list)
    reports: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The run as JSON values."""
        names = ("accuracy", "f1", "auc")
        monitoring = None
        if self.record:
            monitoring = {
                "drift_status": self.record.drift_status,
                "summary": self.record.summary,
                "alerts": [asdict(alert) for alert in self.record.alerts],
            }
        return {
            "project": self.project,
            "verdict": self.verdict.outcome,
            "reasons": self.verdict.reasons,
            "override": self.verdict.override and asdict(self.verdict.override),
            "metrics": {name: self.verdict.metrics.get(name) for name in names},
            "thresholds": {name: self.verdict.thresholds.get(name) for name in names},
            "model": self.release
            and {
                "name": self.release.name,
                "version": self.release.model_version,
                "alias": "champion" if self.deployment else self.release.alias,
            },
            "endpoint": self.deployment and self.deployment.endpoint,
            "stages": [
                {"name": task.name, "status": task.status, "seconds": task.seconds}
                for task in self.tasks
            ],
            "monitoring": monitoring,
            "retraining": self.retraining and self.retraining.summary(),
            "reports": self.reports,
        }


def run_project(
    loaded: LoadedProject,
    workspace: Workspace,
    display: Progress,
    *,
    runner: str = "subprocess",
    target: str = "local",
    traffic: timedelta = timedelta(days=7),
    override: Override | None = None,
) -> RunResult:
    """Compiles a project, runs its training pipeline, sends traffic, and runs its monitoring.

    Args:
        loaded: the project, overrides applied.
        workspace: where everything is kept.
        display: shows progress.
        runner: "subprocess" or "docker".
        target: where the model is deployed: "local", or "kserve" with the kubeconfig at hand.
        traffic: how long a stretch of the test part's end is sent to the endpoint.
        override: who lets the model pass where the gate refuses it, and why.

    Raises:
        SlipwayError: a stage failed; the message says which, why, and where its log is.
    """
    from slipway.local.retraining import serve_if_asked

    with workspace.locked():
        workspace.prune()
        job = Job(loaded, workspace, display, runner, target)
        job.compile()
        decided = {f"override_{k}": v for k, v in asdict(override).items()} if override else None
        training, result = train(job, decided)
        if result.deployment and traffic and target == "local":
            splits = Path(training.output("features", "splits"))
            result.traffic = job.send(result, splits, traffic)
            _monitor(job, result)
            result.retraining = serve_if_asked(job, result.record)
        files.write_json(workspace.summary, result.summary())
    return result


def train(job: "Job", changes: dict[str, Any] | None = None) -> tuple[PipelineRun, RunResult]:
    """Runs the training pipeline to its end: ingest to deploy, past the gate or not.

    Args:
        job: what the pipeline runs share.
        changes: parameters that differ from the project's.
    """
    project = job.loaded.project
    arguments = training_arguments(project, job.loaded.schema_content)
    arguments |= {
        "data_root": job.data_root,
        "data_version": source_version(job.data_root),
        "gpus": "0" if job.target == "local" else arguments["gpus"],
        "deploy_target": job.target,
        **(changes or {}),
    }
    training = job.run("training", arguments)
    result = RunResult(
        project=project.project_name,
        verdict=read_verdict(Path(training.output("evaluate", "verdict"))),
        tasks=_all_stages(training),
    )
    _add_report(result, "model card", training.output("evaluate", "card"))
    _add_report(result, "training report", training.output("train", "report"))
    _add_report(result, "validation report", training.output("validate", "report"))
    if result.verdict.outcome == "pass":
        result.release = read_record(Path(training.output("register", "release")), Release)
        result.deployment = read_record(Path(training.output("deploy", "deployment")), Deployment)
    return training, result


def _monitor(job: "Job", result: RunResult) -> None:
    deployment, traffic = result.deployment, result.traffic
    if deployment is None or traffic is None:
        raise SlipwayError("There is nothing to monitor: no model was deployed.")
    window = (traffic.window_start, traffic.window_end)
    run, result.record = monitor(job, window, deployment.endpoint)
    _add_report(result, "monitoring report", run.output("monitor", "report"))
    result.tasks = [task for task in result.tasks if task.name != "monitor"]
    result.tasks.append(run.tasks["monitor"])


def monitor(
    job: "Job", window: tuple[str, str], endpoint: str
) -> tuple[PipelineRun, MonitoringRecord]:
    """Runs the monitoring pipeline on a window, without sending anything."""
    arguments = monitoring_arguments(job.loaded.project)
    arguments |= {
        "data_root": job.data_root,
        "window_start": window[0],
        "window_end": window[1],
        "labels_start": window[0],
        "endpoint": endpoint,
    }
    run = job.run("monitoring", arguments)
    return run, read_monitoring_record(Path(run.output("monitor", "record")))


def _all_stages(training: PipelineRun) -> list[TaskRun]:
    """The stages in order; those that the gate kept from running count as skipped."""
    return [training.tasks.get(name) or TaskRun(name, status="skipped") for name in STAGES]


def _add_report(result: RunResult, name: str, path: str | None) -> None:
    if path and Path(path).is_file():
        result.reports[name] = path


class Job:
    """One command's local runs: what they share.

    Args:
        loaded: the project.
        workspace: where everything is kept.
        display: shows progress.
        runner: "subprocess" or "docker".
        target: where models are deployed.
    """

    def __init__(
        self,
        loaded: LoadedProject,
        workspace: Workspace,
        display: Progress,
        runner: str = "subprocess",
        target: str = "local",
    ) -> None:
        self.loaded = loaded
        self.workspace = workspace
        self.display = display
        self.runner = runner
        self.target = target
        root = loaded.project.data.root
        self.data_root = root if "://" in root or not root else str(Path(root).resolve())

    def compile(self) -> None:
        """Compiles the project into the workspace."""
        from slipway.pipelines.compiler import compile_project

        compile_project(self.loaded, self.workspace.compiled)

    def run(self, name: str, arguments: dict[str, Any]) -> PipelineRun:
        """Runs one compiled pipeline; raises where a task failed."""
        project = self.loaded.project.project_name
        # The predictor of a local run trusts the requests' own time: the traffic is a replay.
        settings = {**self.workspace.settings(), "SLIPWAY_TRUST_REQUEST_TIME": "1"}
        request = Request(
            pipeline=str(self.workspace.compiled / f"{project}-{name}.yaml"),
            arguments=arguments,
            root=str(self.workspace.outputs),
            cache=str(self.workspace.cache),
            runner=self.runner,
            environment=settings,
            mounts=[str(self.workspace.root), self.data_root],
        )
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        log = self.workspace.logs / f"{moment}-{name}.log"
        with self.display.pipeline(name):
            run = execute(request, settings, log, self._watch)
        require_success(run)
        return run

    def send(self, result: RunResult, splits: Path, stretch: timedelta) -> Traffic:
        """Sends the traffic and notes it among the tasks."""
        if result.deployment is None:
            raise SlipwayError("There is no endpoint to send requests to.")
        deployment = result.deployment
        task = TaskRun("requests")
        started = datetime.now(UTC)
        # A replay of the same stretch is the same traffic again, not more of it.
        log = Path(self.workspace.settings()["INFERENCE_LOG_URI"])
        if log.is_relative_to(self.workspace.root):
            shutil.rmtree(log / deployment.name, ignore_errors=True)
        with self.display.pipeline("requests"):
            self.display.started(task)
            traffic = send_traffic(deployment.endpoint, deployment.name, splits, stretch)
            task.seconds = round((datetime.now(UTC) - started).total_seconds(), 3)
            task.status = "succeeded" if not traffic.failed else "failed"
            task.headline = f"{traffic.requests:,} requests, {traffic.failed:,} failed"
            self.display.ended(task)
        result.tasks.insert(-1, task)
        return traffic

    def _watch(self, task: TaskRun, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "task_start":
            self.display.started(task)
        elif kind == "progress":
            self.display.progress(task, event["message"], event.get("done"))
        elif kind == "task_end":
            if task.status == "cached":
                task.headline = cached_headline(task)
            elif task.status == "succeeded":
                keep_headline(task)
            self.display.ended(task)
