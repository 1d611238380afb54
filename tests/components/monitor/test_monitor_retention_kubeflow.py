"""Kubeflow's runs and their artifacts: real S3 protocol, the API double, and what may never go."""

import itertools
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kfp_double import Fault
from support.small_job import free_port, serve_s3
from typer.testing import CliRunner

from slipway.commands.cli import app
from slipway.components.config.monitoring import RetentionConfig
from slipway.components.monitor.retention import kubeflow
from slipway.components.monitor.retention.kubeflow import (
    PipelinePlan,
    apply_pipelines,
    plan_pipelines,
)
from slipway.components.monitor.retention.runs import KubeflowHistory
from slipway.components.support.errors import SlipwayError
from slipway.components.support.kubeflow import Json, KfpApiError, pod_api

NOW = datetime.now(UTC)
TASKS = ("ingest", "validate", "features", "train")
ROOT = "minio://mlpipeline/v2/artifacts"


@dataclass
class World:
    """A bucket, and a server whose runs lie in it as Kubeflow lays them out."""

    server: Any
    store: Any
    experiment: str = "e1"
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def run(
        self,
        age: float,
        *,
        kind: str = "training",
        made: tuple[str, ...] = TASKS,
        cached: tuple[str, ...] = (),
        state: str = "SUCCEEDED",
        project: str = "flights",
        **parameters: Any,
    ) -> str:
        """A run so many days old; `made` are the tasks that wrote, `cached` those that did not."""
        run_id = f"{next(self.numbers):02}-{uuid.uuid4()}"
        nodes = [(f"{task}-driver", "SUCCEEDED") for task in (*made, *cached)]
        nodes += [(task, "SUCCEEDED") for task in made] + [(task, "SKIPPED") for task in cached]
        self.server.runs[run_id] = {
            "run_id": run_id,
            "display_name": run_id,
            "experiment_id": self.experiment,
            "created_at": (NOW - timedelta(days=age)).isoformat().replace("+00:00", "Z"),
            "state": state,
            "pipeline_version_reference": {"pipeline_id": kind, "pipeline_version_id": "v"},
            "runtime_config": {"parameters": {"data_version": "one", **parameters}},
            "run_details": {"task_details": [{"display_name": n, "state": s} for n, s in nodes]},
        }
        for task in made:
            folder = f"mlpipeline/v2/artifacts/{project}-{kind}/{run_id}/{task}"
            self.store.pipe_file(f"{folder}/{uuid.uuid4()}/output", b"12345")
        return run_id

    @property
    def history(self) -> KubeflowHistory:
        return KubeflowHistory(pod_api(self.server.url), [self.experiment])

    def settings(self, **config: Any) -> RetentionConfig:
        given = {"pipeline_runs": "30d", "pipeline_runs_kept": 1, "pipeline_root": ROOT, **config}
        return RetentionConfig.model_validate(given)

    def plan(
        self, *, evidence: frozenset[str] = frozenset(), later: float = 0, **config: Any
    ) -> PipelinePlan:
        now = NOW + timedelta(days=later)
        settings = self.settings(**config)
        return plan_pipelines("flights", settings, runs=self.history, evidence=evidence, now=now)

    def apply(self, plan: PipelinePlan, *, later: float = 0) -> None:
        now, settings = NOW + timedelta(days=later), self.settings()
        apply_pipelines(plan, "flights", settings, runs=self.history, evidence=frozenset(), now=now)

    def lies(self, kind: str = "training", project: str = "flights") -> set[str]:
        """Ids of the runs that have artifacts."""
        self.store.invalidate_cache()
        found = self.store.glob(f"mlpipeline/v2/artifacts/{project}-{kind}/*")
        return {path.rsplit("/", 1)[-1] for path in found}


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    port = free_port()
    with serve_s3(port):
        yield port


@pytest.fixture
def world(kubeflow_server: Any, s3_port: int, monkeypatch: pytest.MonkeyPatch) -> World:
    import httpx
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    httpx.post(f"http://127.0.0.1:{s3_port}/moto-api/reset")
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    store.mkdir("mlpipeline")
    kubeflow_server.experiments["e1"] = {
        "experiment_id": "e1",
        "display_name": "flights",
        "created_at": "2026-01-01T00:00:00Z",
        "storage_state": "AVAILABLE",
    }
    return World(server=kubeflow_server, store=store)


def test_old_runs_go_with_their_artifacts_and_nothing_else(world: World) -> None:
    other = world.run(99, project="flights-eu")  # a project whose name begins alike
    world.server.runs[other]["experiment_id"] = "e2"
    old = [world.run(90, data_version="1"), world.run(40, data_version="2", state="FAILED")]
    world.run(80, kind="monitoring")
    watched = world.run(70, kind="monitoring")
    kept = [world.run(20, data_version="3"), world.run(1, data_version="4")]
    plan = world.plan()
    assert len(plan.run_ids) == 3 and set(old) < set(plan.run_ids)
    assert plan.size == 3 * 4 * 5 and len(plan.folders) == 3
    assert plan.lines == [
        "Kubeflow runs: 3",
        "folders of their artifacts: 3 (0.0 MB)",
        "Kubeflow runs that stay: 2 young enough, 1 newest of their pipeline",
    ]
    assert world.server.writes() == [] and world.lies() == {*old, *kept}, "a plan deletes nothing"
    world.apply(plan)
    assert world.server.runs.keys() == {other, watched, *kept}
    assert world.lies() == set(kept) and world.lies("monitoring") == {watched}
    assert world.lies(project="flights-eu") == {other}
    assert world.plan().is_empty


def test_what_made_a_version_that_stays_and_the_newest_stay(world: World) -> None:
    runs = [world.run(age, data_version=str(age)) for age in (100, 90, 80, 70)]
    plan = world.plan(evidence=frozenset({runs[1]}), pipeline_runs_kept=2)
    assert plan.run_ids == (runs[0],)
    assert plan.kept == {"newest of their pipeline": 2, "that made a version that stays": 1}


def test_what_is_at_work_stays_and_so_does_what_it_may_have_from_the_cache(world: World) -> None:
    source, other_data = world.run(90), world.run(80, data_version="two")
    world.run(60, made=("ingest",), state="RUNNING")
    newest = world.run(1, data_version="three")
    assert newest not in world.plan().run_ids
    assert world.plan().run_ids == (other_data,)
    assert world.plan().kept["that the cache may need"] == 1
    assert world.lies() >= {source}


def test_the_source_of_a_cached_task_stays_while_its_user_does(world: World) -> None:
    source = world.run(90)
    refused = world.run(85, made=(*TASKS, "register"))  # has more than the user ever had
    user = world.run(2, made=("train",), cached=("ingest", "validate", "features"))
    assert world.plan().is_empty and world.plan().kept["that the cache may need"] == 2
    # With the user's own files there, both go: that `register` did not run there is no use of it.
    for task in TASKS:
        path = f"mlpipeline/v2/artifacts/flights-training/{user}/{task}/x/output"
        world.store.pipe_file(path, b"1")
    assert set(world.plan().run_ids) == {source, refused}


def test_a_user_without_any_file_of_its_own_keeps_its_sources(world: World) -> None:
    source = world.run(90)
    world.run(2, made=(), cached=TASKS)
    assert source not in world.plan().run_ids


def test_artifacts_of_a_run_that_somebody_deleted_go_when_they_are_old(world: World) -> None:
    gone, elsewhere = world.run(90, data_version="1"), world.run(90, data_version="2")
    world.run(1, data_version="3")
    del world.server.runs[gone]
    world.server.runs[elsewhere]["experiment_id"] = "another"
    assert world.plan().is_empty, "its files were written today"
    plan = world.plan(later=40)
    assert plan.run_ids == () and set(plan.folders) == {gone}
    world.apply(plan, later=40)
    assert gone not in world.lies() and elsewhere in world.lies()


def test_a_run_that_begins_between_plan_and_deed_keeps_what_it_may_use(world: World) -> None:
    old = world.run(90)
    world.run(1, data_version="other")
    plan = world.plan()
    assert plan.run_ids == (old,)
    world.run(0, made=(), cached=("ingest",), state="RUNNING")
    world.apply(plan)
    assert old in world.server.runs and old in world.lies()


def test_a_run_that_begins_while_runs_are_deleted_keeps_the_artifacts(world: World) -> None:
    old = world.run(90)
    world.run(1, data_version="other")
    began: list[str] = []

    def begin(line: str) -> None:
        if line.startswith("DELETE") and not began:
            began.append(world.run(0, made=(), cached=("ingest",), state="RUNNING"))

    world.server.on_request = begin
    world.apply(world.plan())
    assert old not in world.server.runs and old in world.lies()
    world.server.runs[began[0]]["state"] = "SUCCEEDED"
    assert world.plan(later=25).is_empty, "the run that was answered with them still stays"
    del world.server.runs[began[0]]
    assert set(world.plan(later=40).folders) == {old}


@pytest.mark.parametrize("calls", range(4))
def test_a_prune_that_is_killed_is_gone_on_with(
    world: World, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age in (90, 80):
        world.run(age, data_version=str(age))
    kept = world.run(1, data_version="x")
    left = [calls]

    def die(*_: Any, **__: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise SystemExit("killed")

    remove, delete = kubeflow.Artifacts.remove, KubeflowHistory.delete_run
    with monkeypatch.context() as patch:
        patch.setattr(kubeflow.Artifacts, "remove", lambda s, f: (die(), remove(s, f)))
        patch.setattr(KubeflowHistory, "delete_run", lambda s, i: (die(), delete(s, i)))
        with pytest.raises(SystemExit):
            world.apply(world.plan())
    # No artifact is gone whose run could still answer for it.
    assert set(world.server.runs) <= world.lies()
    world.apply(world.plan(later=40), later=40)
    assert set(world.server.runs) == world.lies() == {kept}


def test_a_root_that_holds_nothing_of_the_project_deletes_nothing(world: World) -> None:
    for age in (90, 80, 1):
        world.run(age)
    world.store.mkdir("empty")
    for root in ("s3://empty/v2/artifacts", "s3://mlpipeline/v2"):
        with pytest.raises(SlipwayError, match=r"pipeline_root, .* holds nothing of flights's"):
            world.plan(pipeline_root=root)
    with pytest.raises(ValueError, match="pipeline_runs needs pipeline_root"):
        RetentionConfig.model_validate({"pipeline_runs": "30d"})


def test_a_server_or_a_store_that_refuses_is_named_and_deletes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [world.run(90, data_version="1"), world.run(1)]
    world.server.faults = [Fault("GET", "/runs$", 500, times=9)]
    with pytest.raises(SlipwayError, match="GET /runs: the server answered 500"):
        world.plan()
    world.server.faults = [Fault("DELETE", "/runs/", 403)]
    with pytest.raises(SlipwayError, match=r"DELETE /runs/\S+: the pod.s service account may not"):
        world.apply(world.plan())
    assert world.lies() == set(runs)
    world.server.faults = [Fault("DELETE", "/runs/", 404)]
    world.apply(world.plan())  # somebody else deleted it: no error
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(
        SlipwayError, match="pipeline_root, minio://mlpipeline/v2/artifacts, cannot"
    ):
        world.plan()


def test_many_runs_come_in_pages(world: World) -> None:
    world.server.page_size = 7
    runs = [world.run(40 + n, data_version=str(n), made=("ingest",)) for n in range(23)]
    assert set(world.plan().run_ids) == set(runs[1:])


def test_the_command_asks_the_cluster_shows_first_and_deletes_when_asked(
    world: World, repository: Path, tmp_path: Path
) -> None:
    old = world.run(90, data_version="1")
    world.run(1)
    options = ["prune", "--project", str(repository / "examples" / "flights")]
    options += ["--out", str(tmp_path), "--host", world.server.url]
    for setting in ("pipeline_runs=30d", f"pipeline_root={ROOT}", "pipeline_runs_kept=1"):
        options += ["--set", f"monitoring.retention.{setting}"]
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/m.db"}
    shown = CliRunner().invoke(app, options, env=environment)
    assert shown.exit_code == 0, (shown.output, shown.exception)
    assert "Kubeflow runs: 1\nfolders of their artifacts: 1" in shown.output
    assert old in world.server.runs and old in world.lies()
    done = CliRunner().invoke(app, [*options, "--apply", "--json"], env=environment)
    assert json.loads(done.output)["deleted"] is True, done.output
    assert old not in world.server.runs and old not in world.lies()


def test_no_task_of_monitoring_is_answered_by_the_cache(repository: Path) -> None:
    """What `UNCACHED` says, and that it says no more."""
    cached = set()
    for kind in kubeflow.PIPELINES:
        text = (repository / "compiled" / f"flights-{kind}.yaml").read_text()
        spec = next(yaml.safe_load_all(text))
        groups = [spec["root"], *spec["components"].values()]
        tasks = [t for g in groups for t in g.get("dag", {}).get("tasks", {}).values()]
        if any(task.get("cachingOptions", {}).get("enableCache") for task in tasks):
            cached.add(kind)
    assert cached & set(kubeflow.UNCACHED) == set()
    assert {"training", "retraining"} <= cached


def test_the_artifacts_of_evidence_stay_where_the_server_knows_their_run_no_more(
    world: World,
) -> None:
    champion, lost = world.run(90, data_version="1"), world.run(80, data_version="2")
    world.run(1, data_version="3")
    for run_id in (champion, lost):
        del world.server.runs[run_id]
    assert set(world.plan(evidence=frozenset({champion}), later=60).folders) == {lost}


def test_another_server_than_the_one_that_made_the_artifacts_deletes_nothing(world: World) -> None:
    for age in (90, 80, 1):
        world.run(age)
    world.server.runs.clear()
    with pytest.raises(SlipwayError, match="Kubeflow knows no run of flights with artifacts"):
        world.plan(later=60)
    assert len(world.lies()) == 3


def test_a_run_that_was_retried_keeps_what_a_younger_one_made(world: World) -> None:
    old = world.run(50, made=("train",), cached=("ingest",))
    source = world.run(45)
    world.run(1, data_version="two")
    kept = frozenset({old})
    assert source in world.plan(evidence=kept).run_ids
    world.server.runs[old]["finished_at"] = (NOW - timedelta(days=40)).isoformat()
    assert source not in world.plan(evidence=kept).run_ids


@pytest.mark.parametrize("state", ["RUNNING", "SUCCEEDED"])
def test_a_run_that_began_while_the_last_plan_was_made_keeps_the_artifacts(
    state: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = world.run(40)
    world.run(1, data_version="two")
    plan = world.plan()
    assert set(plan.folders) == {old}

    def slow(*given: Any, **more: Any) -> PipelinePlan:
        made = plan_pipelines(*given, **more)
        world.run(0, made=(), cached=TASKS, state=state)
        return made

    monkeypatch.setattr(kubeflow, "plan_pipelines", slow)
    world.apply(plan)
    assert old in world.lies()


def test_a_run_of_another_namespace_is_there_and_none_of_ours(world: World) -> None:
    foreign = world.run(90, data_version="1")
    del world.server.runs[foreign]
    world.run(1)

    class Forbidding(KubeflowHistory):
        def _run(self, run_id: str) -> Json | None:
            if run_id == foreign:
                raise KfpApiError("no", 403)
            return super()._run(run_id)

    history = Forbidding(pod_api(world.server.url), ["e1"])
    later = NOW + timedelta(days=60)
    found = plan_pipelines(
        "flights", world.settings(), runs=history, evidence=frozenset(), now=later
    )
    assert foreign not in found.folders


@pytest.mark.parametrize("root", ["foo://bucket/x", "oss://bucket/x"])
def test_a_kind_of_store_that_nobody_reads_is_named(root: str, world: World) -> None:
    with pytest.raises(SlipwayError, match=r"pipeline_root, \w+://bucket/x, is of a kind of store"):
        world.plan(pipeline_root=root)
