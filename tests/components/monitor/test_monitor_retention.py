"""Retention: what is past its time goes, what is in use stays, and what a killed run left goes later."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.gate_world import new_registry
from support.registry import mlflow_client
from support.serving_bundles import free_port
from support.small_job import serve_mlflow
from typer.testing import CliRunner

from slipway.commands.cli import app
from slipway.components.config.monitoring import MonitoringConfig, RetentionConfig
from slipway.components.contracts.monitoring.inference_log import partition
from slipway.components.contracts.release import EVIDENCE_INDEX, Tag
from slipway.components.monitor.retention import retention
from slipway.components.monitor.retention.retention import (
    RetentionPlan,
    apply_retention,
    plan_retention,
)
from slipway.components.support.errors import SlipwayError
from slipway.components.support.tracking import LoggedModel, RegisteredVersion, connect

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
URIS = (Tag.BUNDLE_URI, Tag.REFERENCE_URI, Tag.EVIDENCE_URI)


@dataclass
class World:
    """A log and a registry."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "log"

    def write_log(self, model: str, time: datetime, content: bytes = b"rows") -> Path:
        file = self.log / partition(model, time) / "a.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def train(self, name: str = "training") -> str:
        server = connect()
        run_id = server.open_run("toy", name=name)
        server.end_run(run_id)
        return run_id

    def register(self, *, served: str = "", run_id: str = "") -> RegisteredVersion:
        server = connect()
        run_id = run_id or self.train()
        (self.root / "f.txt").write_text("x")
        tags = {}
        for tag in URIS:
            place = f"release-{run_id[:6]}/{tag.split('.')[-1]}"
            tags[tag] = server.log_files(run_id, [self.root / "f.txt"], place)
        source = LoggedModel(uri=tags[Tag.BUNDLE_URI], model_id="")
        version = server.create_version("toy", source=source, run_id=run_id, tags=tags)
        if served:
            server.tag_version("toy", version.version, {Tag.SERVED: served})
        return version

    def plan(self, **config: Any) -> RetentionPlan:
        parsed = RetentionConfig.model_validate(config)
        return plan_retention("toy", parsed, server=connect(), log_uri=str(self.log), now=NOW)

    def prune(self, **config: Any) -> RetentionPlan:
        plan = self.plan(**config)
        apply_retention(plan, connect())
        return plan

    def versions(self) -> list[str]:
        return [version.version for version in connect().list_versions("toy")]

    def files(self, version: RegisteredVersion) -> list[str]:
        """Which of a version's folders are still there."""
        root = Path(
            mlflow_client().get_run(version.run_id).info.artifact_uri.removeprefix("file://")
        )
        places = (version.tags[tag].split("/", 2)[2] for tag in URIS)
        return [place for place in places if (root / place).exists()]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    new_registry(tmp_path, monkeypatch)
    return World(tmp_path)


@pytest.fixture
def flights_project(repository: Path) -> Path:
    return repository / "examples" / "flights"


def test_days_of_the_log_that_ended_go_and_no_other(world: World) -> None:
    gone = [
        world.write_log("toy", datetime(2026, 4, 30, 23, 59, tzinfo=UTC)),
        world.write_log("toy", datetime(2026, 1, 1, tzinfo=UTC), b"12345678"),
    ]
    kept = [
        # 30 days and 12 hours ago it was the second of May, noon: that day had not ended.
        world.write_log("toy", datetime(2026, 5, 2, tzinfo=UTC)),
        world.write_log("toy", NOW),
        world.write_log("toys", datetime(2026, 1, 1, tzinfo=UTC)),
        world.log / "toy" / "note.txt",
        world.log / "toy" / "date=2026-13-45" / "x.parquet",
    ]
    for file in kept[-2:]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("not ours")
    plan = world.plan(log="30d")
    assert sorted(plan.log_days) == ["2026-01-01", "2026-04-30"] and plan.log_bytes == 12
    assert plan.lines[0] == "inference log: 2 days (2026-01-01 to 2026-04-30, 0.0 MB)"
    assert all(file.exists() for file in (*gone, *kept)), "a plan deletes nothing"
    world.prune(log="30d")
    assert not any(file.exists() for file in gone) and all(file.exists() for file in kept)
    assert world.plan(log="30d").is_empty


def test_versions_in_use_stay_whatever_their_age(world: World) -> None:
    made = [
        world.register(served="2026-01-01"),  # 1: long ago
        world.register(),
        world.register(served="2026-03-01"),  # 3: served last: a rollback returns to it
        world.register(),  # 4: challenger
        world.register(),
        world.register(),  # 6: the newest
    ]
    connect().point_alias("toy", "challenger", "4")
    plan = world.prune(versions=1)
    assert plan.kept == {"3": "served", "4": "challenger", "6": "newest"}
    assert world.versions() == ["3", "4", "6"]
    assert "versions: 3 (1, 2, 5)" in plan.lines
    assert "versions that stay: 3 (served), 4 (challenger), 6 (newest)" in plan.lines
    for version in made:
        assert len(world.files(version)) == (3 if version.version in "346" else 0)


def test_runs_that_made_nothing_that_stays_go(world: World) -> None:
    old, version = world.train("refused"), world.register()
    connect().open_run("toy", name="still running")
    now = datetime.now(UTC) + timedelta(days=40)
    server = connect()
    plan = plan_retention(
        "toy",
        RetentionConfig.model_validate({"runs": "30d"}),
        server=server,
        log_uri=str(world.log),
        now=now,
    )
    assert plan.run_ids == (old,)
    apply_retention(plan, server)
    assert not server.has_run(old) and server.has_run(version.run_id)
    assert world.plan(runs="30d").run_ids == (), "runs of today are not past their time"


def test_a_version_that_comes_into_use_between_plan_and_deed_stays(world: World) -> None:
    versions = [world.register() for _ in range(4)]
    plan = world.plan(versions=1)
    assert [version.version for version in plan.versions] == ["1", "2", "3"]
    connect().point_alias("toy", "champion", "1")
    connect().tag_version("toy", "2", {Tag.SERVED: "2026-05-31"})
    apply_retention(plan, connect())
    assert world.versions() == ["1", "2", "4"]
    assert [len(world.files(version)) for version in versions] == [3, 3, 0, 3]


def killed_after(calls: int, real: Callable[[str], None]) -> Callable[[str], None]:
    """The same function, whose process ends at the call after so many."""
    left = [calls]

    def call(uri: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise SystemExit("killed")
        real(uri)

    return call


def test_a_run_that_is_killed_on_the_way_is_gone_on_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [world.register() for _ in range(3)]
    server = connect()
    for survived in range(6):
        monkeypatch.setattr(server, "delete_files", killed_after(survived, server.delete_files))
        plan = plan_retention(
            "toy", RetentionConfig(versions=1), server=server, log_uri=str(world.log), now=NOW
        )
        try:
            apply_retention(plan, server)
        except SystemExit:
            left = world.versions()
            # What has no files any more may still be named; what is not named has none.
            for version in versions:
                assert version.version in left or world.files(version) == []
        monkeypatch.undo()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert world.versions() == ["3"] and len(world.files(versions[-1])) == 3


def test_two_that_prune_at_once_leave_what_one_would(world: World) -> None:
    """A doubled task has the same plan; whoever comes second finds less."""
    world.write_log("toy", datetime(2026, 1, 1, tzinfo=UTC))
    kept = world.write_log("toy", NOW)
    runs = [world.train() for _ in range(4)]
    versions = [world.register() for _ in range(4)]
    plans = [replace(world.plan(log="30d", versions=1), run_ids=tuple(runs)) for _ in range(3)]
    failed: list[BaseException] = []

    def prune(plan: RetentionPlan) -> None:
        try:
            apply_retention(plan, connect(), tell=lambda line: None)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=prune, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    prune(plans[0])
    assert failed == []
    assert world.versions() == ["4"] and len(world.files(versions[-1])) == 3
    assert kept.exists() and list(world.log.rglob("*.parquet")) == [kept]
    states = {mlflow_client().get_run(run).info.lifecycle_stage for run in runs}
    assert states == {"deleted"}


def test_a_place_that_register_did_not_make_is_left(world: World) -> None:
    (world.root / "treasure").mkdir()
    (world.root / "treasure" / "gold").write_text("ours")
    other = world.register()
    stolen = [str(world.root / "treasure"), (world.root / "treasure").as_uri()]
    stolen += [other.tags[Tag.BUNDLE_URI], f"runs:/{other.run_id}/../..", "models:/toy/1"]
    for uri in stolen:
        version = world.register()
        connect().tag_version("toy", version.version, {Tag.BUNDLE_URI: uri})
    world.register()
    connect().point_alias("toy", "champion", other.version)
    world.prune(versions=1)
    assert (world.root / "treasure" / "gold").read_text() == "ours"
    assert len(world.files(other)) == 3
    assert world.versions() == [other.version, "7"]


def test_the_run_that_made_a_version_is_read_from_one_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, version = connect(), world.register()
    (world.root / EVIDENCE_INDEX).write_text('{"runs": {"pipeline": "run-7"}}')
    (world.root / "statistics.json").write_text("{}")
    files = [world.root / EVIDENCE_INDEX, world.root / "statistics.json"]
    uri = server.log_files(version.run_id, files, "release-x/evidence")
    server.tag_version("toy", version.version, {Tag.EVIDENCE_URI: uri})
    fetched, fetch = [], server.fetch

    def spy(uri: str, into: Path, *, what: str) -> Path:
        found = fetch(uri, into, what=what)
        fetched.extend(path.name for path in (found.rglob("*") if found.is_dir() else [found]))
        return found

    monkeypatch.setattr(server, "fetch", spy)
    assert retention._pipeline_runs(server, server.list_versions("toy")) == {"run-7"}
    assert fetched == [EVIDENCE_INDEX]
    (world.root / EVIDENCE_INDEX).write_text("{}")
    server.log_files(version.run_id, [world.root / EVIDENCE_INDEX], "release-x/evidence")
    with pytest.raises(SlipwayError, match="does not say which Kubeflow run made it"):
        retention._pipeline_runs(server, server.list_versions("toy"))


@given(
    facts=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12),
    newest=st.integers(1, 5),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_was_registered_enough_stays(facts: list[tuple[bool, bool]], newest: int) -> None:
    versions = tuple(
        RegisteredVersion(
            name="toy",
            version=str(number),
            run_id="",
            tags={Tag.SERVED: f"2026-01-{number:02}"} if served else {},
            aliases=("champion",) if alias else (),
        )
        for number, (served, alias) in enumerate(facts, 1)
    )
    kept = retention._kept(versions, newest)
    assert {v.version for v in versions if v.aliases} <= kept.keys()
    assert {v.version for v in versions[-newest:]} <= kept.keys()
    served = [v.version for v in versions if v.tags][-newest:]
    assert set(served) <= kept.keys()
    aliases = sum(alias for _, alias in facts)
    assert len(kept) <= 2 * newest + aliases


def test_the_log_that_windows_are_measured_from_again_must_stay() -> None:
    good = {"look_back": "7d", "label_wait": "2d", "retention": {"log": "10d"}}
    assert MonitoringConfig.model_validate(good).retention.log == timedelta(days=10)
    with pytest.raises(ValidationError, match=r"retention\.log is 239h.*10d of the log must stay"):
        MonitoringConfig.model_validate({**good, "retention": {"log": "239h"}})
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        MonitoringConfig.model_validate({"retention": {"versions": 0}})


def test_a_store_that_refuses_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write_log("toy", datetime(2026, 1, 1, tzinfo=UTC))
    plan = world.plan(log="30d")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    system, _ = retention._open(str(world.log))
    monkeypatch.setattr(type(system), "rm", refuse)
    with pytest.raises(SlipwayError, match=r"log of 2026-01-01 below .* cannot be deleted: Access"):
        apply_retention(plan, connect())


def test_a_server_deletes_the_files_that_it_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    (tmp_path / "server").mkdir()
    with serve_mlflow(tmp_path / "server", port):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        world = World(tmp_path)
        versions = [world.register() for _ in range(3)]
        connect().point_alias("toy", "challenger", "1")
        stored = tmp_path / "server" / "mlflow-artifacts"
        places = [
            [
                stored / "1" / found.run_id / "artifacts" / found.tags[tag].split("/", 2)[2]
                for tag in URIS
            ]
            for found in versions
        ]
        assert all(place.is_dir() for three in places for place in three)
        plan = world.prune(versions=1)
        assert plan.kept == {"1": "challenger", "3": "newest"} and world.versions() == ["1", "3"]
        assert [[any(p.rglob("*.txt")) for p in three] for three in places] == [
            [True] * 3,
            [False] * 3,
            [True] * 3,
        ]
        connect().delete_files(versions[1].tags[Tag.BUNDLE_URI])  # gone already: no error


def test_the_command_shows_first_and_deletes_when_asked(
    world: World, flights_project: Path
) -> None:
    log = world.write_log("flights", datetime(2013, 1, 1, tzinfo=UTC))
    options = ["prune", "--project", str(flights_project), "--out", str(world.root / "run")]
    environment = {
        "INFERENCE_LOG_URI": str(world.log),
        "MLFLOW_TRACKING_URI": connect().uri,
    }

    def run(*more: str) -> Result:
        return CliRunner().invoke(app, [*options, *more], env=environment)

    nothing = run()
    assert nothing.exit_code != 0 and "monitoring.retention sets nothing" in str(nothing.exception)
    limit = "--set=monitoring.retention.log=180d"
    shown = run(limit)
    assert shown.exit_code == 0, shown.output
    assert "inference log: 1 day (2013-01-01 to 2013-01-01" in shown.output
    assert "Nothing was deleted. Add --apply" in shown.output and log.exists()
    assert shown.output.startswith("Past its time:\ninference log: ")
    assert "Deleted." in run(limit, "--apply").output and not log.exists()
    assert "Nothing is past its time." in run(limit, "--apply").output
