"""Retention: what of a model's past is deleted, and never what serving, rollback or evidence needs.

What grows for good otherwise: the inference log, registered versions with their files, MLflow runs, and
runs on Kubeflow with their artifacts. `plan_retention` says what the project's `monitoring.retention`
lets go, and `apply_retention` deletes it. Both can be run again at any time: what a killed run left is
planned again.
"""

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.monitoring import RetentionConfig
from slipway.components.contracts.monitoring.inference_log import model_folder
from slipway.components.contracts.release import EVIDENCE_INDEX, Tag
from slipway.components.monitor.retention.kubeflow import (
    PipelinePlan,
    PipelineRuns,
    apply_pipelines,
    plan_pipelines,
)
from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import redact
from slipway.components.support.stage import progress
from slipway.components.support.stores import asking_store
from slipway.components.support.tracking import RegisteredVersion, TrackingServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsspec import AbstractFileSystem

_DAY = "date="


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPlan:
    """What goes.

    Attributes:
        model: whose. log_uri: root of its inference log.
        log_days: folders of whole days of the log, by day. log_bytes: of their files.
        versions: registered versions, with their files. run_ids: MLflow runs.
        kept: why the versions that stay do, by number.
        config: what says so. now: what ages were counted from.
        pipelines: what goes of Kubeflow; None: it was not asked.
        evidence: ids of the runs there that the evidence of versions that stay names.
    """

    model: str
    log_uri: str
    log_days: dict[str, str]
    log_bytes: int
    versions: tuple[RegisteredVersion, ...]
    run_ids: tuple[str, ...]
    kept: dict[str, str]
    config: RetentionConfig
    now: datetime
    pipelines: PipelinePlan | None = None
    evidence: frozenset[str] = frozenset()

    @property
    def lines(self) -> list[str]:
        """What goes and what stays, for a person."""
        days = sorted(self.log_days)
        spans = f" ({days[0]} to {days[-1]}, {self.log_bytes / 1e6:,.1f} MB)" if days else ""
        numbers = ", ".join(version.version for version in self.versions)
        stays = ", ".join(f"{number} ({why})" for number, why in self.kept.items())
        return [
            f"inference log: {len(days)} day{'' if len(days) == 1 else 's'}{spans}",
            f"versions: {len(self.versions)}" + (f" ({numbers})" if numbers else ""),
            f"versions that stay: {stays or 'none'}",
            f"MLflow runs: {len(self.run_ids)}",
            *(self.pipelines.lines if self.pipelines else ()),
        ]

    @property
    def is_empty(self) -> bool:
        """Whether nothing goes."""
        nothing = self.pipelines is None or self.pipelines.is_empty
        return nothing and not (self.log_days or self.versions or self.run_ids)


def plan_retention(
    model: str,
    config: RetentionConfig,
    *,
    server: TrackingServer,
    log_uri: str,
    now: datetime,
    kubeflow: PipelineRuns | None = None,
) -> RetentionPlan:
    """Looks for what the settings let go.

    Args:
        model: the project's name: registered model, experiment and folder of the log.
        config: how much stays.
        server: the registry and tracker.
        log_uri: root of the inference log.
        now: what ages are counted from.
        kubeflow: the project's runs there; None: they stay.

    Raises:
        SlipwayError: a store cannot be read. Nothing was deleted.
    """
    days, size = _old_days(model, log_uri, now - config.log) if config.log else ({}, 0)
    versions = server.list_versions(model)
    kept = _kept(versions, config.versions)
    gone = tuple(version for version in versions if version.version not in kept)
    runs: tuple[str, ...] = ()
    if config.runs:
        needed = {version.run_id for version in versions if version.version in kept}
        runs = tuple(sorted(set(server.list_ended_runs(model, before=now - config.runs)) - needed))
    pipelines, evidence = None, frozenset[str]()
    if kubeflow is not None and config.pipeline_runs is not None:
        evidence = _pipeline_runs(server, [v for v in versions if v.version in kept])
        pipelines = plan_pipelines(model, config, runs=kubeflow, evidence=evidence, now=now)
    return RetentionPlan(
        model=model,
        log_uri=log_uri,
        log_days=days,
        log_bytes=size,
        versions=gone,
        run_ids=runs,
        kept=kept,
        config=config,
        now=now,
        pipelines=pipelines,
        evidence=evidence,
    )


def apply_retention(
    plan: RetentionPlan,
    server: TrackingServer,
    kubeflow: PipelineRuns | None = None,
    tell: Callable[[str], None] = progress,
) -> None:
    """Deletes what a plan says, and looks once more at each version and run before it goes.

    `tell` is told what was left after all, and at the end what is gone.

    Raises:
        SlipwayError: a store refuses. What was deleted until then is gone, all else is whole.
    """
    system, _ = _open(plan.log_uri)
    for day, folder in sorted(plan.log_days.items()):
        with (
            suppress(FileNotFoundError),  # Another run was there first.
            asking_store(f"The log of {day} below {redact(plan.log_uri)} cannot be deleted"),
        ):
            system.rm(folder, recursive=True)
    for version in plan.versions:
        _delete_version(server, version, tell)
    for run_id in plan.run_ids:
        server.delete_run(run_id)
    if kubeflow is not None and plan.pipelines is not None:
        apply_pipelines(
            plan.pipelines,
            plan.model,
            plan.config,
            runs=kubeflow,
            evidence=plan.evidence,
            now=plan.now,
            tell=tell,
        )
    for line in plan.lines:
        tell(line if " that stay: " in line else f"deleted: {line}")


def _kept(versions: tuple[RegisteredVersion, ...], newest: int | None) -> dict[str, str]:
    """Why each version that stays does, by number."""
    if newest is None:
        return {version.version: "no limit" for version in versions}
    served = sorted(
        (version for version in versions if version.tags.get(Tag.SERVED)),
        key=lambda version: (version.tags[Tag.SERVED], int(version.version)),
    )
    reasons = {version.version: "newest" for version in versions[-newest:]}
    reasons |= {version.version: "served" for version in served[-newest:]}
    reasons |= {
        version.version: ", ".join(version.aliases) for version in versions if version.aliases
    }
    return dict(sorted(reasons.items(), key=lambda entry: int(entry[0])))


def _pipeline_runs(
    server: TrackingServer, versions: "Sequence[RegisteredVersion]"
) -> frozenset[str]:
    """Ids of the Kubeflow runs that made these versions, from their evidence.

    Raises:
        SlipwayError: the evidence of one cannot be read: then nobody knows which run it rests on.
    """
    found = set()
    for version in versions:
        if not (uri := version.tags.get(Tag.EVIDENCE_URI, "")):
            continue  # not registered by Slipway: no run of ours made it
        what = f"The evidence of {version.name} version {version.version}"
        with tempfile.TemporaryDirectory() as folder:
            # The index alone: the rest holds the splits' statistics, pages and a bill of materials.
            place = server.fetch(f"{uri.rstrip('/')}/{EVIDENCE_INDEX}", Path(folder), what=what)
            try:
                index = json.loads(place.read_bytes())
                found.add(str(index["runs"]["pipeline"]))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise SlipwayError(
                    f"{what} does not say which Kubeflow run made it ({error}), so none is deleted."
                ) from error
    return frozenset(found - {""})


def _delete_version(
    server: TrackingServer, version: RegisteredVersion, tell: Callable[[str], None]
) -> None:
    """Deletes a version's files, then the version: where it is cut off between, the next run goes on."""
    found = server.find_version(version.name, version.version)
    if found is None:
        return
    if found.aliases or found.tags.get(Tag.SERVED, "") != version.tags.get(Tag.SERVED, ""):
        tell(f"version {version.version} came into use meanwhile, and stays")
        return
    for tag in (Tag.BUNDLE_URI, Tag.REFERENCE_URI, Tag.EVIDENCE_URI, Tag.MODEL_URI):
        uri = found.tags.get(tag, "")
        # Anybody who may write to the registry can write a tag: what is deleted is register's own.
        if uri.startswith((f"runs:/{found.run_id}/release-", "models:/m-")):
            server.delete_files(uri)
        elif uri:
            tell(f"version {version.version}: {tag} is none of register's places, and is left")
    server.delete_version(found)


def _old_days(model: str, log_uri: str, before: datetime) -> tuple[dict[str, str], int]:
    """The folders of the days that ended before a moment, by day, and the bytes in them."""
    system, root = _open(log_uri)
    folder = f"{root.rstrip('/')}/{model_folder(model)}"
    try:
        with asking_store(f"The inference log at {redact(log_uri)} cannot be listed"):
            system.invalidate_cache()
            found = [str(path).rstrip("/") for path in system.ls(folder, detail=False)]
            days = {day: path for path in found if (day := _ended_day(path, before))}
            size = sum(int(system.du(path)) for path in days.values())
    except FileNotFoundError:
        return {}, 0
    return days, size


def _ended_day(path: str, before: datetime) -> str:
    """The day of a folder of the log, where it ended before a moment; else nothing."""
    name = path.rsplit("/", 1)[-1]
    try:
        day = datetime.strptime(name, f"{_DAY}%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return ""
    return name.removeprefix(_DAY) if day + timedelta(days=1) <= before else ""


def _open(uri: str) -> "tuple[AbstractFileSystem, str]":
    from fsspec.core import url_to_fs

    system: object
    system, root = url_to_fs(uri)
    return system, str(root)
