"""One command's local runs: what they share, and what came of them."""

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from slipway.components.config.project import LoadedProject
from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
from slipway.components.contracts.release import Deployment, Release
from slipway.components.contracts.signing.identities import parse_signers
from slipway.components.contracts.signing.policy import read_trust_root
from slipway.components.contracts.signing.signature import read_key
from slipway.components.contracts.verdict import UNTOUCHED, Verdict, read_verdict
from slipway.components.ingest.sources import join_uri
from slipway.components.support.environment import LOCAL_RUN
from slipway.components.support.errors import SlipwayError
from slipway.components.support.images import STAGES
from slipway.components.support.settings import locate
from slipway.local.runner.execution import (
    PipelineRun,
    TaskRun,
    cached_headline,
    execute,
    keep_headline,
    require_success,
)
from slipway.local.runner.progress import Progress
from slipway.local.runner.request import RunRequest
from slipway.local.traffic import Traffic, send_traffic, wait_until_logged
from slipway.local.under_way import NotedProgress
from slipway.local.workspace import Workspace, source_version
from slipway.pipelines.monitoring import monitoring_arguments
from slipway.pipelines.training import training_arguments


@dataclass(slots=True, kw_only=True)
class RunResult:
    """What a run came to; `summary()` is what summary.json holds.

    Attributes:
        serving: the version that the local endpoint serves at the run's end, which a rollback may have
            changed; empty: none serves; None: it was not asked.
        serving_at: where it does.
    """

    project: str
    verdict: Verdict | None = None
    release: Release | None = None
    deployment: Deployment | None = None
    serving: str | None = None
    serving_at: str = ""
    traffic: Traffic | None = None
    record: MonitoringRecord | None = None
    retraining: "RunResult | None" = None
    tasks: list[TaskRun] = field(default_factory=list)
    reports: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether the gate let the model pass."""
        return self.verdict is not None and self.verdict.outcome == "pass"

    @property
    def meanwhile(self) -> str:
        """What serves where this run deployed nothing, as a part of a sentence."""
        if self.serving is None:
            return UNTOUCHED
        on = f"version {self.serving} serves on at {self.serving_at}"
        return on if self.serving else "nothing serves"

    def _is_in_service(self) -> bool:
        """Whether what this run deployed serves on, as far as it is known."""
        if self.deployment is None:
            return False
        return self.serving in (None, self.deployment.model_version)

    def summary(self) -> dict[str, object]:
        """The run as JSON values."""
        names = list(self.verdict.thresholds) if self.verdict else ["accuracy", "f1", "auc"]
        monitoring = None
        if self.record:
            monitoring = {
                "drift_status": self.record.drift_status,
                "summary": self.record.summary,
                "alerts": [asdict(alert) for alert in self.record.alerts],
            }
        verdict = self.verdict
        return {
            "project": self.project,
            "error": self.error or None,
            "verdict": verdict and verdict.outcome,
            "reasons": verdict.reasons if verdict else [],
            "override": verdict and verdict.override and asdict(verdict.override),
            "metrics": {name: verdict and verdict.metrics.get(name) for name in names},
            "thresholds": {name: verdict and verdict.thresholds.get(name) for name in names},
            "notes": self.notes,
            "model": self.release
            and {
                "name": self.release.name,
                "version": self.release.model_version,
                "alias": "champion" if self._is_in_service() else self.release.alias,
            },
            "endpoint": self.deployment and self.deployment.endpoint,
            "serving": self.serving,
            "stages": [
                {
                    "name": task.name,
                    "status": task.status,
                    "seconds": task.seconds,
                    "peak_mb": task.peak_mb,
                    "headline": task.headline,
                }
                for task in self.tasks
            ],
            "monitoring": monitoring,
            "retraining": self.retraining and self.retraining.summary(),
            "reports": self.reports,
        }


def train(
    job: "Job", changes: dict[str, Any] | None = None, result: RunResult | None = None
) -> tuple[PipelineRun, RunResult]:
    """Runs the training pipeline to its end: ingest to deploy, past the gate or not.

    Args:
        job: what the pipeline runs share.
        changes: parameters that differ from the project's.
        result: is filled in, also where a stage fails; None: a new one.
    """
    project = job.loaded.project
    arguments = training_arguments(project, job.loaded.schema_content)
    arguments |= {
        "data_root": job.data_root,
        "data_version": source_version(job.sources),
        "training_gpus": "0" if job.target == "local" else arguments["training_gpus"],
        "deployment_target": job.target,
        **(changes or {}),
    }
    result = result or RunResult(project=project.project_name)
    training = job.attempt("training", arguments)
    result.tasks = _all_stages(training)
    if training.error is None:
        for task in result.tasks:
            # Monitoring is a pipeline of its own, which may yet come.
            if task.status == "skipped" and task.name != "monitor":
                job.display.ended(task)
    verdict, card = (training.output("evaluate", name) for name in ("verdict", "card"))
    release = training.output("register", "release")
    deployment = training.output("deploy", "deployment")
    add_report(result, "model card", card)
    add_report(result, "training report", training.output("train", "report"))
    add_report(result, "validation report", training.output("validate", "report"))
    if _is_there(verdict):
        result.verdict = read_verdict(Path(verdict))
    if _is_there(release):
        result.release = Release.read(Path(release))
    if _is_there(deployment):
        result.deployment = Deployment.read(Path(deployment))
    require_success(training)
    if result.verdict is None:
        raise SlipwayError(f"The training pipeline ended without a verdict: see {training.log}.")
    return training, result


def see_what_serves(job: "Job", result: RunResult) -> None:
    """Asks the local endpoint at the end what it serves, and notes where that is not what was deployed.

    Where nothing was deployed an earlier version may serve, or none. A rollback, `slipway stop` or a
    retraining needs no leave of a run that is still at work.
    """
    from slipway.components.deploy.local.target import status

    if job.target != "local":
        return
    home = Path(job.workspace.settings()["SLIPWAY_HOME"])
    running = [e for e in status(home) if e.project == result.project and e.state != "stopped"]
    result.serving = running[0].model_version if running else ""
    result.serving_at = running[0].url if running else ""
    if result.deployment is None:
        return
    deployed = result.deployment.model_version
    later = result.retraining.deployment if result.retraining else None
    if result.serving in (deployed, later and later.model_version):
        return
    now = f"version {result.serving} serves now" if result.serving else "nothing serves now"
    note = (
        f"version {deployed} was deployed, and {now}: it was rolled back, replaced or stopped while the"
        " run was at work. What was measured above is of the version that was deployed."
    )
    job.notes.append(note)
    job.display.note(note)


def _is_there(path: Any) -> bool:
    return bool(path) and Path(path).is_file()


def monitor(
    job: "Job", window: tuple[str, str], endpoint: str
) -> tuple[PipelineRun, MonitoringRecord]:
    """Runs the monitoring pipeline on a window, without sending anything.

    Args:
        job: what the pipeline runs share.
        window: first instant of the window, and the first after it.
        endpoint: base URL of the predictor, whose log is waited for; empty: none is asked.
    """
    if endpoint and (missing := wait_until_logged(endpoint)):
        job.notes.append(missing)
        job.display.note(missing)
    arguments = monitoring_arguments(job.loaded.project)
    arguments |= {
        "data_root": job.data_root,
        "window_start": window[0],
        "window_end": window[1],
        "endpoint": endpoint,
    }
    if job.loaded.project.features.examples.time is not None:
        arguments["labels_start"] = window[0]
    run = job.run("monitoring", arguments)
    return run, MonitoringRecord.read(Path(run.output("monitor", "record")))


def _all_stages(training: PipelineRun) -> list[TaskRun]:
    """The stages in order; those that the gate kept from running count as skipped."""
    return [training.task(name) or TaskRun(name=name, status="skipped") for name in STAGES]


def add_report(result: RunResult, name: str, path: str | None) -> None:
    """Notes where a report lies, where the stage made one."""
    if path and Path(path).is_file():
        result.reports[name] = str(as_html(Path(path)))


def as_html(path: Path) -> Path:
    """A stage's page under a name that a browser shows as one: a copy beside it that ends in .html."""
    page = path.with_name(f"{path.name}.html")
    partial = page.with_name(f".{page.name}.partial")
    shutil.copyfile(path, partial)
    partial.replace(page)
    return page


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
        self.display = NotedProgress(display, workspace, loaded.project.project_name)
        self.runner = runner
        self.target = target
        root = loaded.project.data.root
        self.data_root = root if "://" in root or not root else str(Path(root).resolve())
        self.notes: list[str] = []
        # Stage to what is asked once it has ended well: what fails there need not wait for the rest.
        self.after: dict[str, Callable[[dict[str, Any]], None]] = {}

    @property
    def sources(self) -> list[str]:
        """Where the tables lie."""
        tables = self.loaded.project.data.tables.values()
        return [join_uri(self.data_root, table.path) for table in tables]

    def compile(self, *names: str) -> None:
        """Compiles these of the project's pipelines into the workspace: those that are to be run."""
        from slipway.pipelines.compiler import compile_pipelines, write_packed

        compile_pipelines(self.loaded, self.workspace.compiled, names)
        write_packed(self.loaded, self.workspace.compiled)

    def run(self, name: str, arguments: dict[str, object]) -> PipelineRun:
        """Runs one compiled pipeline; raises where a task failed."""
        run = self.attempt(name, arguments)
        require_success(run)
        return run

    def attempt(self, name: str, arguments: dict[str, object]) -> PipelineRun:
        """Runs one compiled pipeline, whatever comes of it."""
        project = self.loaded.project.project_name
        # The predictor of a local run trusts the requests' own time: the traffic is a replay.
        moment = datetime.now(UTC)
        settings = {
            **_with_keys(self.workspace.settings()),
            "SLIPWAY_TRUST_REQUEST_TIME": "1",
            LOCAL_RUN: f"{project}-{name}-{moment:%Y%m%dT%H%M%S.%fZ}",
        }
        request = RunRequest(
            pipeline=str(self.workspace.compiled / f"{project}-{name}.yaml"),
            # What is too large for an argument lies beside the compiled pipelines.
            arguments={n: locate(v, self.workspace.compiled) for n, v in arguments.items()},
            root=str(self.workspace.outputs),
            cache=str(self.workspace.cache),
            runner=self.runner,
            environment=settings,
            lock=str(self.workspace.work_lock),
            mounts=[str(self.workspace.root), self.data_root],
        )
        log = self.workspace.logs / f"{moment:%Y%m%dT%H%M%SZ}-{name}.log"
        with self.display.pipeline(name):
            return execute(request, settings, log, self._watch)

    def send(self, result: RunResult, splits: Path, stretch: timedelta) -> Traffic:
        """Sends the traffic and notes it among the tasks."""
        if result.deployment is None:
            raise SlipwayError("There is no endpoint to send requests to.")
        deployment = result.deployment
        task = TaskRun(name="requests")
        started = time.monotonic()
        # A replay of the same stretch is the same traffic again, not more of it.
        log = Path(self.workspace.settings()["INFERENCE_LOG_URI"])
        if log.is_relative_to(self.workspace.root):
            shutil.rmtree(log / deployment.name, ignore_errors=True)
        with self.display.pipeline("requests"):
            self.display.started(task)

            def tell(done: int, of: int) -> None:
                self.display.progress(task, f"{done:,} of {of:,} answered", done / of)

            traffic = send_traffic(deployment.endpoint, deployment.name, splits, stretch, tell)
            task.seconds = round(time.monotonic() - started, 3)
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
                for output in task.outputs.values():
                    self.workspace.use(output)
            elif task.status == "succeeded":
                keep_headline(task)
                if task.name == "evaluate" and task.outputs.get("Output") == "fail":
                    task.status = "refused"
            self.display.ended(task)
            if task.status in ("cached", "succeeded") and task.name in self.after:
                self.after[task.name](task.outputs)


def _with_keys(settings: dict[str, str]) -> dict[str, str]:
    """The settings with what is trusted itself: a container does not see the caller's files.

    Raises:
        SlipwayError: one is neither what it should be nor a file with it that can be read.
    """
    keys = [n for n in ("MODEL_PRIVATE_KEY", "MODEL_PUBLIC_KEYS") if settings.get(n, "").strip()]
    own = {name: read_key(settings[name], name) for name in keys}
    if signers := parse_signers(settings.get("MODEL_SIGNERS", "")):
        own["MODEL_SIGNERS"] = "\n".join(map(str, signers))
    if root := read_trust_root(settings.get("MODEL_TRUST_ROOT", "")):
        own["MODEL_TRUST_ROOT"] = root
    return settings | own
