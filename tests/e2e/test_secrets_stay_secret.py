"""A whole job with a canary as every secret: no file, log, terminal, process list or run shows one."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.small_job import SmallJob, Stores, free_port, make_small_job, served_stores

from slipway.images.plan import ROOT, read_images

CANARIES = {
    name: f"cAnary{name[:2]}7Qz{len(name)}xW" for name in ("mlflow", "redis", "s3 key", "s3")
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with served_stores(tmp_path_factory.mktemp("stores"), CANARIES) as stores:
        yield stores


@pytest.fixture
def make_job(stores: Stores, tmp_path: Path) -> Iterator[Callable[..., SmallJob]]:
    """Makes the job, with some of its settings changed; its predictor is stopped at the end."""
    made: list[SmallJob] = []

    def make(**changes: str) -> SmallJob:
        made.append(make_small_job(tmp_path / "job", {**stores.environment(), **changes}))
        return made[-1]

    yield make
    for job in made:
        job.stop()


class ProcessList:
    """The command lines of all processes, as `ps` lists them, from time to time while the block runs."""

    def __init__(self) -> None:
        self.lines: set[str] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "ProcessList":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            for process in psutil.process_iter(["cmdline"]):
                self.lines.add(" ".join(process.info["cmdline"] or ()))


def holders(folder: Path) -> list[str]:
    """Files below a folder that hold a canary; the settings of the test's own Redis are left out."""
    command = [
        "grep",
        "-rlaF",
        *(f"--regexp={canary}" for canary in CANARIES.values()),
        str(folder),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return [path for path in found if not path.endswith("/redis.conf")]


def check_nothing_shows_one(
    job: SmallJob, done: subprocess.CompletedProcess[str], seen: ProcessList
) -> None:
    told = done.stdout + done.stderr
    assert [name for name, canary in CANARIES.items() if canary in told] == [], told
    assert holders(job.folder) == []
    for line in seen.lines:
        assert not any(canary in line for canary in CANARIES.values()), line
    assert any("local_run" in line for line in seen.lines), "the processes of the run were listed"


def test_a_healthy_job_shows_no_secret(
    make_job: Callable[..., SmallJob], tmp_path_factory: pytest.TempPathFactory
) -> None:
    job = make_job()
    with ProcessList() as seen:
        done = job.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert job.summary()["monitoring"]["summary"]["total_predictions"] > 100
    check_nothing_shows_one(job, done, seen)
    # What the MLflow server keeps: its database, the artifacts, and what it printed.
    assert holders(tmp_path_factory.getbasetemp()) == []
    # A build's context: nothing of a run or of the environment is in it.
    for image in read_images().values():
        for source in image.sources:
            assert holders(ROOT / source) == []


DEAD = {
    "MLflow": {"MLFLOW_TRACKING_URI": "http://slipway:" + CANARIES["mlflow"] + "@127.0.0.1:{port}"},
    "Redis": {"FEAST_REDIS_URL": "127.0.0.1:{port},password=" + CANARIES["redis"]},
    "S3": {"AWS_ENDPOINT_URL": "http://key:" + CANARIES["s3"] + "@127.0.0.1:{port}"},
    "S3 that knows no such bucket": {"FEATURE_STORE_URI": "s3://nowhere/features"},
}


@pytest.mark.parametrize("changes", DEAD.values(), ids=DEAD)
def test_a_job_whose_server_is_dead_shows_no_secret(
    make_job: Callable[..., SmallJob], changes: dict[str, str]
) -> None:
    job = make_job(**{name: value.format(port=free_port()) for name, value in changes.items()})
    with ProcessList() as seen:
        done = job.run("run")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed" in done.stdout + done.stderr
    check_nothing_shows_one(job, done, seen)
