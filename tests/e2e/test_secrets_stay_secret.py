"""A whole job with a canary as every secret: no file, log, terminal, process list or run shows one."""

import base64
import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import boto3
import psutil
import pytest
import redis
import yaml
from support.model_keys import make_keys
from support.small_job import SmallJob, Stores, free_port, make_small_job, served_stores

from slipway.images.plan import ROOT, read_images

NAMES = ("mlflow", "redis", "s3 key", "s3", "key's password", "gateway", "mail")
CANARIES = {name: f"cAnary{name[:2]}7Qz{len(name)}xW" for name in NAMES}
# A password as people choose them: it is found by the canary in it, however the rest is written.
ODD = "@'\"%/ &+="
KEYS = make_keys(password=CANARIES["key's password"] + ODD)
SIGNERS = [CANARIES["key's password"], *KEYS.private.splitlines()[1:3]]


def written(canary: str) -> Iterator[str]:
    """A canary plain, and as base64 has it wherever it begins."""
    yield canary
    for shift, begins in ((0, 0), (1, 2), (2, 3)):
        text = base64.b64encode(bytes(shift) + canary.encode() + bytes(2)).decode()
        yield text[begins : (shift + len(canary)) * 8 // 6]


SOUGHT = [form for c in CANARIES.values() for form in written(c)] + KEYS.private.splitlines()[1:3]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with served_stores(tmp_path_factory.mktemp("stores"), CANARIES) as stores:
        yield stores


@pytest.fixture
def make_job(stores: Stores, tmp_path: Path) -> Iterator[Callable[..., SmallJob]]:
    """Makes the job, with some of its settings changed; its predictor is stopped at the end."""
    made: list[SmallJob] = []

    def make(**changes: str) -> SmallJob:
        own = {
            "MLFLOW_TRACKING_URI": address("http", "mlflow", stores.mlflow_port),
            "MODEL_PRIVATE_KEY": KEYS.private,
            "MODEL_PRIVATE_KEY_PASSWORD": CANARIES["key's password"] + ODD,
            "MODEL_PUBLIC_KEYS": KEYS.public,
            "OPS_GATEWAY": f"http://127.0.0.1:{free_port()}/{CANARIES['gateway']}",
            "OPS_MAIL": address("mailto", "mail", free_port()) + "?smtp=127.0.0.1",
        }
        job = make_small_job(tmp_path / "job", {**stores.environment(), **own, **changes})
        made.append(job)
        project = job.folder / "project" / "project.yaml"
        content = yaml.safe_load(project.read_text())
        routes = [("gate", "pushgateway", "${OPS_GATEWAY}"), ("mail", "apprise", "${OPS_MAIL}")]
        content["monitoring"] = {
            "routes": [
                {"name": name, "kind": kind, "url": url, "least": "info"}
                for name, kind, url in routes
            ]
        }
        project.write_text(yaml.safe_dump(content, sort_keys=False))
        return job

    yield make
    for job in made:
        job.stop()


def address(scheme: str, name: str, port: int) -> str:
    """One with a user and an odd password."""
    return f"{scheme}://slipway:{quote(CANARIES[name] + ODD, safe='')}@127.0.0.1:{port}"


class ProcessList:
    """The command lines of all processes, as `ps` lists them, from time to time while the block runs.

    Attributes:
        lines: the command lines. predictors: the environments of predictors, as /proc shows them.
    """

    def __init__(self) -> None:
        self.lines: set[str] = set()
        self.predictors: set[str] = set()
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
                line = " ".join(process.info["cmdline"] or ())
                self.lines.add(line)
                if "slipway.serving" in line:
                    with contextlib.suppress(psutil.Error):
                        self.predictors.add(str(process.environ()))


def holders(folder: Path) -> list[str]:
    """Files below a folder that hold a canary; the settings of the test's own Redis are left out."""
    command = [
        "grep",
        "-rlaF",
        *(f"--regexp={form}" for form in SOUGHT),
        str(folder),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return [path for path in found if not path.endswith("/redis.conf")]


def check_nothing_shows_one(
    job: SmallJob, done: subprocess.CompletedProcess[str], seen: ProcessList
) -> None:
    told = done.stdout + done.stderr
    assert [form for form in SOUGHT if form in told] == [], told
    assert holders(job.folder) == []
    for line in seen.lines:
        assert not any(form in line for form in SOUGHT), line
    assert any("local_run" in line for line in seen.lines), "the processes of the run were listed"


def check_stores(stores: Stores) -> None:
    """Nothing in the bucket or the online store holds a canary."""
    bucket = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{stores.s3_port}",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        region_name="eu-central-1",
    )
    objects = bucket.list_objects_v2(Bucket="slipway")["Contents"]
    assert len(objects) > 5
    online = redis.Redis(port=stores.redis_port, password=stores.secrets["redis"])
    keys = online.keys()
    assert len(keys) > 100
    kept = [bucket.get_object(Bucket="slipway", Key=o["Key"])["Body"].read() for o in objects]
    kept += [key + (online.dump(key) or b"") for key in keys]
    assert [form for form in SOUGHT if any(form.encode() in content for content in kept)] == []


def test_a_healthy_job_shows_no_secret(
    make_job: Callable[..., SmallJob], stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> None:
    job = make_job()
    with ProcessList() as seen:
        done = job.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert job.summary()["monitoring"]["summary"]["total_predictions"] > 100
    check_nothing_shows_one(job, done, seen)
    # What signs is for register alone, and the predictor has not so much as its password.
    assert seen.predictors
    for variables in seen.predictors:
        assert not any(signer in variables for signer in SIGNERS), variables
    for arguments in (
        ("status", "--json"),
        ("evidence", "shop@champion", "--json", "--page", str(job.folder / "evidence.html")),
    ):
        asked = subprocess.run(
            [*job.command(*arguments)[: 1 + len(arguments)], "--out", str(job.out)],
            cwd=job.folder,
            env=job.variables(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.returncode == 0, asked.stdout + asked.stderr
        assert [form for form in SOUGHT if form in asked.stdout + asked.stderr] == []
    assert "valid, by the trusted key" in (job.folder / "evidence.html").read_text()
    assert holders(job.folder) == []
    check_stores(stores)
    # What the MLflow server keeps: its database, the artifacts, and what it printed.
    assert holders(tmp_path_factory.getbasetemp()) == []
    # A build's context: nothing of a run or of the environment is in it.
    for image in read_images().values():
        for source in image.sources:
            assert holders(ROOT / source) == []


DEAD = {
    "MLflow": {"MLFLOW_TRACKING_URI": address("http", "mlflow", 0).replace(":0", ":{port}")},
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
