"""Runs on Kubeflow and their artifacts: which go. Kubeflow deletes a run when asked, its artifacts never.

Of Kubeflow Pipelines 2.17.0 this leans on (docs/platform.md): an artifact lies at
`<root>/<pipeline>/<run id>/<task>/…` (`v2/driver/driver.go`); a task's entry in the cache goes with the
run that made it, so that no later run is answered with its artifacts (`apiserver/model/task.go`); a task
that was answered by the cache has no folder of its own, and its run goes on with another run's files.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from slipway.components.config.monitoring import RetentionConfig
from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import redact
from slipway.components.support.stage import progress
from slipway.components.support.stores import asking_store

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PIPELINES = ("training", "retraining", "monitoring", "scoring", "backfill")
UNCACHED = ("monitoring",)
"""Pipelines of which no task is ever answered by the cache."""
DATA = ("data_root", "data_version", "window_start", "window_end")
"""Parameters of ingest, which each task rests on: where one differs no answer is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeflowRun:
    """A run of the project on Kubeflow.

    Attributes:
        run_id: its id. created: when. pipeline: id of its pipeline; empty: it has none.
        finished: when it ended, a Retry of it included; None: it has not, or nothing says so.
        active: whether it has not ended. parameters: that it was started with.
    """

    run_id: str
    created: datetime
    finished: datetime | None = None
    pipeline: str = ""
    active: bool = False
    parameters: Mapping[str, object] = field(default_factory=dict)


class PipelineRuns(Protocol):
    """The runs of one project on a Kubeflow server."""

    def list_runs(self) -> list[KubeflowRun]:
        """All of the project's experiment, the newest first."""

    def has_run(self, run_id: str) -> bool:
        """Whether the server knows a run, of whatever experiment."""

    def ended_tasks(self, run_id: str) -> set[str]:
        """The tasks of a run that ended well, those among them that the cache answered."""

    def delete_run(self, run_id: str) -> None:
        """Deletes a run and its cache entries; one that is gone is no error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinePlan:
    """What goes.

    Attributes:
        run_ids: runs to delete at the server.
        folders: of artifacts, by the id of their run, also of runs that the server knows no more.
        size: of their files, in bytes.
        kept: why the runs that stay do, each reason with how many.
    """

    run_ids: tuple[str, ...] = ()
    folders: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    kept: Mapping[str, int] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """What goes and what stays, for a person."""
        stays = ", ".join(f"{count} {why}" for why, count in self.kept.items())
        return [
            f"Kubeflow runs: {len(self.run_ids)}",
            f"folders of their artifacts: {len(self.folders)} ({self.size / 1e6:,.1f} MB)",
            f"Kubeflow runs that stay: {stays or 'none'}",
        ]

    @property
    def is_empty(self) -> bool:
        """Whether nothing goes."""
        return not (self.run_ids or self.folders)


class Artifacts:
    """The artifacts of a project's runs, in the store that its pipelines write to.

    Args:
        root: the pipelines' root, as s3://mlpipeline/v2/artifacts; minio:// is S3 too.
        project: the project's name.
    """

    def __init__(self, root: str, project: str) -> None:
        from fsspec.core import url_to_fs

        self._uri = redact(root)
        try:
            # Kubeflow's own name for S3 at the address that AWS_ENDPOINT_URL names.
            system, place = url_to_fs(root.replace("minio://", "s3://", 1))
        except (ValueError, ImportError) as error:
            raise SlipwayError(
                f"monitoring.retention.pipeline_root, {self._uri}, is of a kind of store that cannot be"
                " read here. Give one with s3://, minio://, gs:// or abfss://, or a folder."
            ) from error
        self._system: AbstractFileSystem = system
        self._tasks: dict[str, set[str]] = {}
        self.folders: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self._system.invalidate_cache()
        for kind in PIPELINES:
            # One that is not there was never run.
            for folder in self._list(f"{str(place).rstrip('/')}/{project}-{kind}"):
                run_id = folder.rsplit("/", 1)[-1]
                self.folders[run_id], self.kinds[run_id] = folder, kind

    def tasks(self, run_id: str) -> set[str]:
        """The tasks that have files of their own."""
        if run_id not in self._tasks:
            folder = self.folders.get(run_id)
            found = self._list(folder) if folder else []
            self._tasks[run_id] = {path.rsplit("/", 1)[-1] for path in found}
        return self._tasks[run_id]

    def newest(self, run_id: str) -> datetime:
        """When the last file of a run was written."""
        found = self._find(run_id)
        return max((_written(entry) for entry in found), default=datetime.min.replace(tzinfo=UTC))

    def size(self, run_id: str) -> int:
        """Of a run's files, in bytes."""
        return sum(int(entry.get("size") or 0) for entry in self._find(run_id))

    def remove(self, folder: str) -> None:
        """Removes a folder; one that is gone is no error."""
        with (
            suppress(FileNotFoundError),
            asking_store(f"The artifacts in {folder} cannot be deleted"),
        ):
            self._system.rm(folder, recursive=True)

    def _list(self, folder: str) -> list[str]:
        try:
            with asking_store(f"monitoring.retention.pipeline_root, {self._uri}, cannot be listed"):
                found = self._system.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return [path for entry in found if (path := str(entry).rstrip("/")) != folder]

    def _find(self, run_id: str) -> list[dict[str, Any]]:
        with asking_store(f"The artifacts in {self.folders[run_id]} cannot be listed"):
            found = self._system.find(self.folders[run_id], detail=True)
        return list(found.values())


def plan_pipelines(
    project: str,
    config: RetentionConfig,
    *,
    runs: PipelineRuns,
    evidence: Collection[str],
    now: datetime,
) -> PipelinePlan:
    """Looks for what the settings let go, of a project with `pipeline_runs`.

    Args:
        project: its name.
        config: how much stays.
        runs: its runs on the server.
        evidence: ids of runs that the evidence of a version that stays names.
        now: what ages are counted from.

    Raises:
        SlipwayError: server or store cannot be read, or the store has nothing of the project.
    """
    assert config.pipeline_runs is not None  # noqa: S101 - the caller asks only then
    before = now - config.pipeline_runs
    known, store = runs.list_runs(), Artifacts(config.pipeline_root, project)
    reasons = _reasons(known, config.pipeline_runs_kept, evidence, before)
    old = [run for run in known if run.run_id not in reasons]
    if old and not store.folders:
        raise SlipwayError(
            f"monitoring.retention.pipeline_root, {redact(config.pipeline_root)}, holds nothing of"
            f" {project}'s pipelines, while Kubeflow has {len(known)} of its runs. Name the root that"
            " they keep their artifacts below: else those would stay for good."
        )
    ids = {run.run_id for run in known}
    if store.folders and not ids & set(store.folders):
        raise SlipwayError(
            f"Kubeflow knows no run of {project} with artifacts below"
            f" {redact(config.pipeline_root)}, which holds those of {len(store.folders)}: is it the"
            " server that they were made by? Nothing is deleted."
        )
    unknown = [
        i for i in store.folders if i not in ids and i not in evidence and not runs.has_run(i)
    ]
    orphans = [i for i in unknown if store.newest(i) < before]
    users = [run for run in known if run.run_id in reasons]
    going = [run for run in old if not _is_used(run, users, store, runs)]
    reasons |= {run.run_id: "that the cache may need" for run in old if run not in going}
    folders = [run.run_id for run in going if run.run_id in store.folders]
    for run_id in orphans:
        lost = KubeflowRun(run_id=run_id, created=datetime.min.replace(tzinfo=UTC))
        if not _is_used(lost, users, store, runs):
            folders.append(run_id)
    return PipelinePlan(
        run_ids=tuple(run.run_id for run in going),
        folders={run_id: store.folders[run_id] for run_id in folders},
        size=sum(map(store.size, folders)),
        kept=Counter(reasons.values()),
    )


def apply_pipelines(
    plan: PipelinePlan,
    project: str,
    config: RetentionConfig,
    *,
    runs: PipelineRuns,
    evidence: Collection[str],
    now: datetime,
    tell: Callable[[str], None] = progress,
) -> None:
    """Deletes what a plan says and what is still past its time: first the runs, then their artifacts.

    In that order: without its run an artifact is found again by the next plan, and nothing new is
    answered with it. What a run that began meanwhile may have been answered with stays until the next.

    Raises:
        SlipwayError: server or store refuses. What was deleted until then is gone, all else is whole.
    """
    # Before the plan, which takes its time: what began meanwhile is not known to it.
    seen = {run.run_id for run in runs.list_runs()}
    again = plan_pipelines(project, config, runs=runs, evidence=evidence, now=now)
    for run_id in plan.run_ids:
        if run_id in again.run_ids:
            runs.delete_run(run_id)
    # One that has ended already may have been answered by the cache all the same.
    began = [run for run in runs.list_runs() if run.run_id not in seen]
    if began:
        tell(f"{len(began)} runs began meanwhile: the artifacts go the next time")
        return
    store = Artifacts(config.pipeline_root, project)
    for run_id, folder in plan.folders.items():
        if run_id in again.folders:
            store.remove(folder)


def _reasons(
    runs: list[KubeflowRun], newest: int, evidence: Collection[str], before: datetime
) -> dict[str, str]:
    """Why each run that stays for its own sake does, by id; the runs come newest first."""
    reasons, count = {}, Counter[str]()
    for run in runs:
        count[run.pipeline] += 1
        if run.active:
            reasons[run.run_id] = "at work"
        elif run.created >= before:
            reasons[run.run_id] = "young enough"
        elif count[run.pipeline] <= newest:
            reasons[run.run_id] = "newest of their pipeline"
        elif run.run_id in evidence:
            reasons[run.run_id] = "that made a version that stays"
    return reasons


def _is_used(
    run: KubeflowRun, users: list[KubeflowRun], store: Artifacts, runs: PipelineRuns
) -> bool:
    """Whether a run that stays may have been answered with files of this one."""
    kind = store.kinds.get(run.run_id)
    if kind is None or kind in UNCACHED:
        return False
    for user in users:
        # Where all that a user did was answered by the cache it has no folder, and no known kind.
        # A run that was retried may have been answered by one that is younger than it.
        if not user.active and (user.finished or user.created) < run.created:
            continue
        if store.kinds.get(user.run_id, kind) != kind:
            continue
        if any(_differ(run.parameters, user.parameters, name) for name in DATA):
            continue
        lacking = store.tasks(run.run_id) - store.tasks(user.run_id)
        if lacking and (user.active or lacking & runs.ended_tasks(user.run_id)):
            return True
    return False


def _differ(one: Mapping[str, object], other: Mapping[str, object], name: str) -> bool:
    return name in one and name in other and one[name] != other[name]


def _written(entry: Mapping[str, object]) -> datetime:
    """When a file was written, as its store calls it; what does not say counts as just now."""
    for name in ("LastModified", "last_modified", "updated", "mtime", "created"):
        value = entry.get(name)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str) and value:
            return datetime.fromisoformat(value)
    return datetime.now(UTC)
