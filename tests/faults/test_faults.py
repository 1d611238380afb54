"""Stages that are killed, terminated, out of disk, or before a faulty store, at points of a seed.

Each point: a stage is disturbed at a moment that the seed chooses, then runs again undisturbed. The
invariants: what can be read is whole; the second run comes to what an undisturbed one does; nothing
half-done is left; nothing is registered twice. `make test-faults` runs many points and writes the table
of docs/faults.md; the suite runs a few.
"""

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import gate_world
from support.fault_points import SCALE, SEED, Start, count, new_folder, undisturbed
from support.fault_proxy import faulty
from support.fault_stages import REFUSED, register_toy, take_in, taken_in
from support.small_job import free_port, make_small_job, orders, serve_mlflow, serve_s3


def fresh(folder: Path, registry: str) -> str:
    """An empty registry of a point's own."""
    shutil.copyfile(registry.removeprefix("sqlite:///"), folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """The small job's table."""
    (tmp_path / "lake").mkdir()
    orders().write_parquet(tmp_path / "lake" / "orders.parquet")
    return str(tmp_path / "lake")


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_ingest_and_validate_are_ended_at_any_moment(
    sign: signal.Signals, start: Start, lake: str, tmp_path: Path
) -> None:
    expected, seconds = {}, 0.0
    for number in range(2):  # the first also starts the server of processes
        folder = new_folder(tmp_path, -number - 1)
        seconds = undisturbed(start, take_in, folder, lake)
        expected = taken_in(folder)
    assert len(expected) == 5
    chance, tally = random.Random(SEED + sign), count("ingest, validate", sign.name)
    for number in range(4 * SCALE):
        folder = new_folder(tmp_path, number)
        process = start(take_in, folder, lake)
        process.join(chance.uniform(0, seconds))
        if process.is_alive():
            os.kill(process.pid or 0, sign)
        process.join(30)
        found = taken_in(folder)
        assert found.items() <= expected.items(), "what can be read is whole"
        tally.outcomes[f"with {len(found)} of 5 outputs, each whole"] += 1
        undisturbed(start, take_in, folder, lake)
        assert taken_in(folder) == expected
        assert list(folder.rglob("*.partial")) == []


def test_the_disk_is_full_for_ingest_and_validate(start: Start, lake: str, tmp_path: Path) -> None:
    folder = new_folder(tmp_path, -1)
    undisturbed(start, take_in, folder, lake)
    expected = taken_in(folder)
    most = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    chance, tally = random.Random(SEED), count("ingest, validate", "disk full")
    for number in range(3 * SCALE):
        folder = new_folder(tmp_path, number)
        largest = chance.randrange(4_000, most)  # what it prints fits
        process = start(take_in, folder, lake, largest=largest)
        process.join(60)
        output = (tmp_path / "output").read_text()
        assert process.exitcode == REFUSED, f"{largest} bytes: {output}"
        assert '"event": "error"' in output and str(folder) in output, "it names the file"
        found = taken_in(folder)
        assert found.items() <= expected.items()
        assert list(folder.rglob("*.partial")) == []
        tally.outcomes[f"an error that names the file, {len(found)} of 5 outputs, each whole"] += 1
        undisturbed(start, take_in, folder, lake)
        assert taken_in(folder) == expected


STORE = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-central-1"}
FAULTS = ("500", "503", "reset", "truncated", "pause")


@pytest.fixture
def bucket(lake: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """An S3 server that has the table; gives its port."""
    import boto3

    port = free_port()
    with serve_s3(port):
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="eu-central-1",
        )
        place = {"LocationConstraint": "eu-central-1"}
        # On a busy machine the server's first answer may be cut off, and boto asks again.
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket="lake", CreateBucketConfiguration=place)
        client.upload_file(f"{lake}/orders.parquet", "lake", "orders.parquet")
        yield port


def test_ingest_reads_from_a_faulty_store(start: Start, bucket: int, tmp_path: Path) -> None:
    healthy = {**STORE, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{bucket}"}
    folder = new_folder(tmp_path, -1)
    undisturbed(start, take_in, folder, "s3://lake", healthy)
    expected = taken_in(folder)
    tally = count("ingest from S3", ", ".join(FAULTS))
    for number in range(2 * SCALE):
        folder = new_folder(tmp_path, number)
        with faulty(
            bucket, seed=SEED + number, share=(number % 5 + 1) / 5, faults=FAULTS, pause=0.2
        ) as proxy:
            faults = {**STORE, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
            process = start(take_in, folder, "s3://lake", faults)
            process.join(120)
        output = (tmp_path / "output").read_text()
        assert process.exitcode in (0, REFUSED), output
        found = taken_in(folder)
        if process.exitcode == 0:
            assert found == expected
            tally.outcomes["done, equal to an undisturbed one"] += 1
        else:
            assert "s3://lake" in output and found == {}
            tally.outcomes["an error that names the object, nothing written"] += 1
        undisturbed(start, take_in, folder, "s3://lake", healthy)
        assert taken_in(folder) == expected


@pytest.fixture
def world(tmp_path: Path) -> str:
    """A bundle that passed the gate, and its splits."""
    gate_world.make_splits(tmp_path / "world" / "splits")
    gate_world.make_bundle(tmp_path / "world" / "bundle")
    return str(tmp_path / "world")


def check_registry(uri: str, *, is_whole: bool) -> int:
    """At most one version of the one bundle, `challenger` only on it; its evidence holds."""
    from slipway.components.register.evidence_report import show_evidence
    from slipway.components.support.tracking import connect

    server = connect(uri)
    found = server.list_versions("toy")
    assert len(found) <= 1, "registered twice"
    if is_whole:
        challenger = server.find_version("toy", "challenger")
        assert challenger is not None and challenger.version == "1"
    if found:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", uri)
            assert show_evidence("toy", "1").problems == ()
    return len(found)


def test_register_is_killed_at_any_moment(
    start: Start, world: str, tmp_path: Path, registry: str
) -> None:
    settings = {"MLFLOW_TRACKING_URI": registry}
    chance, tally = random.Random(SEED), count("register, a made bundle", "SIGKILL")
    seconds = 0.0
    for number in range(2):
        folder = new_folder(tmp_path, -number - 1)
        uri = fresh(folder, registry)
        seconds = undisturbed(start, register_toy, folder, world, {"MLFLOW_TRACKING_URI": uri})
    assert check_registry(uri, is_whole=True) == 1
    for number in range(SCALE):
        folder = new_folder(tmp_path, number)
        uri = fresh(folder, registry)
        settings = {"MLFLOW_TRACKING_URI": uri}
        process = start(register_toy, folder, world, settings)
        process.join(chance.uniform(0, seconds))
        if process.is_alive():
            process.kill()
        process.join(30)
        there = check_registry(uri, is_whole=False)
        tally.outcomes["a whole version" if there else "no version"] += 1
        assert (folder / "release.json").exists() <= there
        undisturbed(start, register_toy, folder, world, settings)
        assert check_registry(uri, is_whole=True) == 1


def test_a_run_that_register_opened_and_did_not_end_is_ended_by_the_next(
    world: str, tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from slipway.components.support.tracking.mlflow_server import MlflowServer

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)

    def killed(*_: object) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowServer, "end_run", killed)
        with pytest.raises(SystemExit):
            register_toy(tmp_path, world)
    client = MlflowClient(tracking_uri=registry, registry_uri=registry)
    experiments = [found.experiment_id for found in client.search_experiments()]
    assert len(client.search_runs(experiments, "attributes.status = 'RUNNING'")) == 1
    register_toy(tmp_path, world)
    states = sorted(run.info.status for run in client.search_runs(experiments))
    assert states == ["FINISHED", "KILLED"]


@pytest.mark.many_points  # a point takes minutes
def test_register_stands_before_a_faulty_server(start: Start, world: str, tmp_path: Path) -> None:
    port = free_port()
    server = tmp_path / "server"
    server.mkdir()
    tally = count("register", f"MLflow: {', '.join(FAULTS)}")
    with serve_mlflow(server, port):
        healthy = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
        for number in range(max(1, SCALE // 4)):
            folder = new_folder(tmp_path, number)
            with faulty(port, seed=SEED + number, share=0.1, faults=FAULTS, pause=0.2) as proxy:
                faults = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{proxy.port}"}
                process = start(register_toy, folder, world, faults)
                process.join(200)
            output = (tmp_path / "output").read_text()
            assert process.exitcode in (0, REFUSED), output
            assert process.exitcode == 0 or "MLflow at" in output, output
            said = "an error that names the server" if process.exitcode else "registered"
            tally.outcomes[said] += 1
            undisturbed(start, register_toy, folder, world, healthy)
            assert check_registry(healthy["MLFLOW_TRACKING_URI"], is_whole=True) == 1


@pytest.mark.many_points  # a run takes a minute
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_whole_run_is_ended_at_any_moment(sign: signal.Signals, tmp_path: Path) -> None:
    """The next run in the folder comes to what an undisturbed one does; one version, one champion."""
    chance, tally = random.Random(SEED + sign), count("slipway run", sign.name)
    for number in range(max(1, SCALE // 4)):
        job = make_small_job(new_folder(tmp_path, number))
        started = subprocess.Popen(
            job.command("run", "--traffic", "0d"),
            cwd=job.folder,
            env=job.variables(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with suppress(subprocess.TimeoutExpired):
                started.wait(chance.uniform(1, 60))
            started.send_signal(sign)
            ended = started.wait(60)
            again = job.run("run", "--traffic", "0d")
            assert again.returncode == 0, again.stdout + again.stderr
            summary = job.summary()
            assert (summary["verdict"], summary["serving"]) == ("pass", "1")
            assert summary["model"] == {"name": "shop", "version": "1", "alias": "champion"}
            assert list((job.out / "pipelines").rglob("*.partial")) == []
            tally.outcomes[f"it ended with {ended}; the next run served version 1"] += 1
        finally:
            job.stop()
