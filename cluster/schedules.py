"""`slipway schedule`: makes the server's recurring runs what the project file declares.

KFP cannot change a recurring run, and lets two have the same name. So each that Slipway creates says in
its description whose it is and, as a hash, what it was created from. Replacing creates the new one
paused, deletes the old, then lets the new one start runs: whenever this is cut short, there are never
two at work, and the next `slipway schedule` finishes it.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import kfp_server_api as kfp

from slipway.cluster.api import Kubeflow
from slipway.components.config.base import format_duration
from slipway.components.config.model import Project
from slipway.components.config.orchestration import Schedule, cron_with_seconds
from slipway.components.support.errors import SlipwayError
from slipway.components.support.kubeflow import KfpApiError
from slipway.pipelines.package import Package, check_arguments

MARK = re.compile(r"\[slipway ([a-z0-9-]+)/([a-z0-9-]+) ([0-9a-f]{16})\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A recurring run as it should be."""

    project: str
    name: str
    schedule: Schedule
    pipeline_id: str
    version_id: str
    version: str
    arguments: dict[str, object]
    experiment_id: str = ""
    service_account: str = ""

    @property
    def fingerprint(self) -> str:
        """Names everything that cannot be changed later; whether it is paused can."""
        content = {
            "schedule": self.schedule.to_struct() | {"enabled": None},
            "version": [self.version, self.version_id],
            "arguments": self.arguments,
            "account": self.service_account,
        }
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """The display name."""
        return f"{self.project}-{self.name}"

    def body(self) -> kfp.V2beta1RecurringRun:
        """The request that creates it, paused."""
        schedule = self.schedule
        if schedule.cron is not None:
            cron = kfp.V2beta1CronSchedule(cron=cron_with_seconds(schedule.cron))
            trigger = kfp.V2beta1Trigger(cron_schedule=cron)
        else:
            seconds = str(int(schedule.every.total_seconds()) if schedule.every else 0)
            periodic = kfp.V2beta1PeriodicSchedule(interval_second=seconds)
            trigger = kfp.V2beta1Trigger(periodic_schedule=periodic)
        mark = f"[slipway {self.project}/{self.name} {self.fingerprint}]"
        return kfp.V2beta1RecurringRun(
            display_name=self.title,
            description=f"Kept by `slipway schedule`; change the project file instead. {mark}",
            experiment_id=self.experiment_id,
            pipeline_version_reference=kfp.V2beta1PipelineVersionReference(
                pipeline_id=self.pipeline_id, pipeline_version_id=self.version_id
            ),
            runtime_config=kfp.V2beta1RuntimeConfig(parameters=self.arguments),
            trigger=trigger,
            mode="DISABLE",
            max_concurrency=str(schedule.max_concurrency),
            no_catchup=not schedule.catchup,
            service_account=self.service_account or None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleChange:
    """One change: what happens to which recurring run, and why."""

    action: str
    title: str
    why: str
    identity: str = ""
    wanted: Wanted | None = None


def arguments_for(
    schedule: Schedule, look_back: timedelta = timedelta(0), *, timed: bool = True
) -> dict[str, object]:
    """The window's parameters: it ends at the scheduled time, which the run itself knows.

    Args:
        schedule: the recurring run.
        look_back: how far before the window monitoring looks for labels that came late.
        timed: whether the examples have a time. Without one only what was asked of the endpoint has
            a window, and all else reads what the project's own window says.
    """
    window = {}
    if timed or schedule.pipeline == "monitoring":
        window = {"window_start": format_duration(schedule.window), "window_end": ""}
    if timed and schedule.pipeline == "monitoring":
        window["labels_start"] = format_duration(schedule.window + look_back)
    return {**window, **schedule.parameters}


def wanted_for(
    project: Project,
    packages: dict[str, Package],
    versions: dict[str, tuple[str, str]],
    service_account: str = "",
) -> list[Wanted]:
    """What the project file declares.

    Args:
        project: the project.
        packages: pipeline name ("monitoring") to its compiled package.
        versions: the same to (pipeline id, version id) on the server.
        service_account: that the runs' pods run as.
    """
    wanted = []
    for name, schedule in project.recurring.items():
        package = packages[schedule.pipeline]
        timed = project.features.examples.time is not None
        arguments = arguments_for(schedule, project.monitoring.look_back, timed=timed)
        check_arguments(package, arguments)
        pipeline_id, version_id = versions[schedule.pipeline]
        wanted.append(
            Wanted(
                project=project.project_name,
                name=name,
                schedule=schedule,
                pipeline_id=pipeline_id,
                version_id=version_id,
                version=package.version_name,
                arguments=arguments,
                service_account=service_account,
            )
        )
    return wanted


def plan(
    project: str, wanted: list[Wanted], existing: list[kfp.V2beta1RecurringRun]
) -> list[ScheduleChange]:
    """The steps that make what exists into what is wanted; none where they agree.

    Recurring runs without this project's mark are left alone.
    """
    steps: list[ScheduleChange] = []
    mine: dict[str, list[tuple[str, kfp.V2beta1RecurringRun]]] = {}
    for run in existing:
        match = MARK.search(run.description or "")
        if match and match[1] == project:
            mine.setdefault(match[2], []).append((match[3], run))
    for want in wanted:
        found = sorted(mine.pop(want.name, []), key=_age)
        same = [run for fingerprint, run in found if fingerprint == want.fingerprint]
        keep = same[0] if same else None
        rest = [run for _, run in found if run is not keep]
        enabled = want.schedule.enabled
        if keep is None:
            why = "it changed" if rest else "it is new"
            steps.append(ScheduleChange(action="create", title=want.title, why=why, wanted=want))
        steps += [
            ScheduleChange(
                action="delete",
                title=want.title,
                why="there are two" if keep else "it is replaced",
                identity=r.recurring_run_id,
            )
            for r in rest
        ]
        if keep is None and enabled:
            steps.append(
                ScheduleChange(
                    action="enable", title=want.title, why="the new one takes over", wanted=want
                )
            )
        elif keep is not None and (keep.status == "ENABLED") != enabled:
            action, why = ("enable", "it is paused") if enabled else ("pause", "it is not enabled")
            steps.append(
                ScheduleChange(
                    action=action,
                    title=want.title,
                    why=why,
                    identity=keep.recurring_run_id,
                    wanted=want,
                )
            )
    for runs in mine.values():
        steps += [
            ScheduleChange(
                action="delete",
                title=run.display_name,
                why="the project no longer declares it",
                identity=run.recurring_run_id,
            )
            for _, run in runs
        ]
    return steps


def apply(
    kubeflow: Kubeflow,
    steps: list[ScheduleChange],
    experiment_id: str,
    tell: Callable[[ScheduleChange], None],
) -> None:
    """Carries the steps out, in order."""
    created: dict[str, str] = {}
    for step in steps:
        match step.action:
            case "create":
                if step.wanted is None:
                    raise SlipwayError(f"Nothing says what {step.title} should be.")
                created[step.title] = _create(kubeflow, step.wanted, experiment_id)
            case "delete":
                kubeflow.delete_recurring_run(step.identity)
            case "enable":
                identity = step.identity or created[step.title]
                kubeflow.switch_recurring_run(identity, on=True)
            case "pause":
                kubeflow.switch_recurring_run(step.identity, on=False)
        tell(step)


def reconcile(
    kubeflow: Kubeflow,
    project: str,
    wanted: list[Wanted],
    *,
    dry_run: bool = False,
    tell: Callable[[ScheduleChange], None] = lambda step: None,
) -> list[ScheduleChange]:
    """Makes the project's recurring runs what is wanted; run twice, the second changes nothing.

    Args:
        kubeflow: the server.
        project: the project's name, also that of its experiment.
        wanted: what should be there.
        dry_run: only say what would change.
        tell: is called after each step.

    Returns:
        The steps that were needed.
    """
    experiment = kubeflow.find_experiment(project) if dry_run else kubeflow.experiment(project)
    identity = experiment.experiment_id if experiment else ""
    existing = kubeflow.recurring_runs(identity) if identity else []
    steps = plan(project, wanted, existing)
    if dry_run:
        return steps
    apply(kubeflow, steps, identity, tell)
    if any(step.action == "create" for step in steps):
        # Another `slipway schedule` may have created the same ones at the same moment: both now see
        # both, and agree on which of them stays.
        again = plan(project, wanted, kubeflow.recurring_runs(identity))
        apply(kubeflow, [s for s in again if s.action != "create"], identity, tell)
    return steps


def _create(kubeflow: Kubeflow, want: Wanted, experiment_id: str) -> str:
    body = want.body()
    body.experiment_id = experiment_id
    try:
        return str(kubeflow.create_recurring_run(body).recurring_run_id)
    except KfpApiError as error:
        if not error.unknown:
            raise
        for run in kubeflow.recurring_runs(experiment_id):
            if want.fingerprint in (run.description or ""):
                return str(run.recurring_run_id)
        return str(kubeflow.create_recurring_run(body).recurring_run_id)


def _age(entry: tuple[str, kfp.V2beta1RecurringRun]) -> tuple[str, str]:
    run = entry[1]
    return str(run.created_at or ""), run.recurring_run_id
