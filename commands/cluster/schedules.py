"""Recurring runs on a cluster, as the project file declares them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.commands.cluster.options import (
    COMPILED,
    HERE,
    REFUSED,
    Account,
    KubeflowServer,
    asks_kubeflow,
    warn_of_local_sources,
)
from slipway.commands.console.terminal import AsJson, Quiet, deliver, say
from slipway.commands.projects import ProjectFolder, load

if TYPE_CHECKING:
    from slipway.cluster.api import Kubeflow
    from slipway.cluster.schedules import ScheduleChange
    from slipway.components.config.model import Project
    from slipway.pipelines.package import Package


@asks_kubeflow
def schedule(
    project: ProjectFolder,
    compiled: Annotated[Path, typer.Option(help="Folder of the compiled pipelines.")] = COMPILED,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would change; exit with 3 if anything.")
    ] = False,
    service_account: Account = "",
    server: KubeflowServer = HERE,
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

    loaded = load(project, None).project
    packages = _packages_for(loaded, compiled)
    kubeflow = server.connect()
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
        warn_of_local_sources(packages[want.schedule.pipeline], want.arguments, advice)
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


def _packages_for(project: "Project", folder: Path) -> dict[str, "Package"]:
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


def _tell(step: "ScheduleChange", prefix: str = "") -> None:
    say(f"{prefix}{step.action} {step.title} {step.identity}: {step.why}".replace(" :", ":"))
