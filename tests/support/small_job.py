"""A whole job small enough to be run many times: one table, a handful of features, and its stores.

A run takes about 25 seconds on two cores, nearly all of it the start of the stages' processes.
"""

import json
import math
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import yaml

from slipway.components.support.retry import wait_until

SLIPWAY = Path(sys.executable).parent / "slipway"
ROWS, DAYS = 2_000, 20
START = datetime(2024, 1, 1, tzinfo=UTC)


def free_port() -> int:
    """A loopback port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def orders() -> pl.DataFrame:
    """Orders of a shop: whether one is returned follows from its price and its buyer."""
    chance = random.Random(7)
    rows = []
    for number in range(ROWS):
        at = START + timedelta(days=DAYS) * number / ROWS
        price, age = round(chance.uniform(1, 100), 2), chance.randrange(18, 80)
        risk = 1 / (1 + math.exp(4 - price / 12 - (age - 50) / 20))
        rows.append(
            {
                "order": f"o{number:05d}",
                "at": at,
                "settled": at + timedelta(hours=1),
                "price": price,
                "age": age,
                "shop": chance.choice(["north", "south", "west"]),
                "returned": int(chance.random() < risk),
            }
        )
    return pl.DataFrame(rows)


def project(root: str, port: int) -> dict[str, Any]:
    """The project file of the shop."""
    fields = {"price": "price", "age": "age", "shop": "shop"}
    return {
        "project_name": "shop",
        "cloud_provider": "onprem",
        "experiment_tracker": "mlflow",
        "model_registry": "mlflow",
        "feature_store": "feast",
        "orchestrator": "kubeflow",
        "monitoring_tool": "evidently",
        "ci_cd_platform": "github-actions",
        "data": {
            "root": root,
            "window": {"start": "2024-01-01", "end": "2024-01-21"},
            "tables": {"orders": {"path": "orders.parquet", "time": "at"}},
        },
        "schema": "schema.json",
        "features": {
            "entities": {"order": "order"},
            "examples": {"table": "orders", "key": "order", "time": "at"},
            "label": {"column": "returned", "known": "settled"},
            "split": {"validation": "4d", "test": "4d", "gap": "2h"},
            "views": [
                {
                    "name": "order_facts",
                    "entity": "order",
                    "table": "orders",
                    "time": "at",
                    "available": "1h",
                    "fields": fields,
                }
            ],
        },
        "training": {
            "epochs": 1,
            "members": 1,
            "min_steps": 1,
            "network": {"architecture": "mlp"},
            "allow_cpu": True,
        },
        "gate": {
            "accuracy": 0.6,
            "f1": 0.5,
            "auc": 0.6,
            "min_rows": 100,
            "calibration_error": 1.0,
            "resamples": 100,
            "baseline": {"linear": False},
            # Two cores may be busy with other tests.
            "rehearsal": {"p99_ms": 5000},
        },
        "deployment": {"port": port},
    }


@dataclass(frozen=True, kw_only=True)
class SmallJob:
    """A folder with the shop's project, its lake and its runs.

    Attributes:
        environment: what a run finds in its environment besides the machine's own.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """Where the runs keep everything."""
        return self.folder / "run"

    def command(self, *arguments: str) -> list[str]:
        """A command line of `slipway` on this project."""
        where = ["--project", str(self.folder / "project"), "--out", str(self.out)]
        return [str(SLIPWAY), *arguments, *where]

    def variables(self) -> dict[str, str]:
        """The environment of a command."""
        ours = ("MLFLOW_", "FEAST_", "FEATURE_", "SLIPWAY_", "INFERENCE_", "MONITORING_", "AWS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**kept, **self.environment}

    def run(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def summary(self) -> dict[str, Any]:
        """What the last run wrote."""
        content: dict[str, Any] = json.loads((self.out / "summary.json").read_text())
        return content

    def stop(self) -> None:
        """Stops the predictors of this folder."""
        subprocess.run(
            [str(SLIPWAY), "stop", "--out", str(self.out)],
            cwd=self.folder,
            env=self.variables(),
            capture_output=True,
            check=False,
        )


def make_small_job(
    folder: Path, environment: dict[str, str] | None = None, root: str = ""
) -> SmallJob:
    """Lays out the project and its lake; `root` names another place that holds the table."""
    (folder / "project").mkdir(parents=True)
    (folder / "lake").mkdir()
    orders().write_parquet(folder / "lake" / "orders.parquet")
    content = project(root or str(folder / "lake"), free_port())
    (folder / "project" / "project.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    schema = {"tables": {"orders": {"properties": {"price": {"type": "number", "minimum": 0}}}}}
    (folder / "project" / "schema.json").write_text(json.dumps(schema))
    return SmallJob(folder=folder, environment=environment or {})


@dataclass(kw_only=True)
class Stores:
    """The servers that a job may use, each with a secret of its own."""

    mlflow_port: int
    redis_port: int
    s3_port: int
    secrets: dict[str, str]

    def environment(self) -> dict[str, str]:
        """The settings that lead to them."""
        return {
            "MLFLOW_TRACKING_URI": (
                f"http://slipway:{self.secrets['mlflow']}@127.0.0.1:{self.mlflow_port}"
            ),
            "FEAST_REDIS_URL": f"127.0.0.1:{self.redis_port},password={self.secrets['redis']}",
            "FEATURE_STORE_URI": "s3://slipway/features",
            "INFERENCE_LOG_URI": "s3://slipway/log",
            "MONITORING_URI": "s3://slipway/monitoring",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.s3_port}",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": self.secrets["s3 key"],
            "AWS_SECRET_ACCESS_KEY": self.secrets["s3"],
        }


@contextmanager
def served_stores(folder: Path, secrets: dict[str, str]) -> Iterator[Stores]:
    """MLflow on sqlite, Redis with a password, and S3 (moto's), until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    stores = Stores(
        mlflow_port=free_port(), redis_port=free_port(), s3_port=free_port(), secrets=secrets
    )
    with ExitStack() as stack:
        stack.enter_context(serve_mlflow(folder, stores.mlflow_port))
        stack.enter_context(serve_redis(folder, stores.redis_port, secrets["redis"]))
        stack.enter_context(serve_s3(stores.s3_port))
        httpx.put(
            f"http://127.0.0.1:{stores.s3_port}/slipway",
            content="<CreateBucketConfiguration><LocationConstraint>eu-central-1"
            "</LocationConstraint></CreateBucketConfiguration>",
            headers={"Authorization": "AWS4-HMAC-SHA256 Credential=a/b/eu-central-1/s3/c"},
        ).raise_for_status()
        yield stores


@contextmanager
def serve_mlflow(folder: Path, port: int) -> Iterator[None]:
    """An MLflow server on sqlite that keeps the artifacts itself."""
    command = [
        str(Path(sys.executable).parent / "mlflow"), "server", "--host", "127.0.0.1",
        "--port", str(port), "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", str(folder / "mlflow-artifacts"), "--serve-artifacts",
    ]  # fmt: skip
    with _serving(command, folder / "mlflow.log"):
        assert wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), timeout=90, every=0.2)
        yield


@contextmanager
def serve_redis(folder: Path, port: int, password: str) -> Iterator[None]:
    """A Redis server that keeps nothing on disk."""
    binary = shutil.which("redis-server")
    assert binary, "redis-server is not installed (Debian: apt-get install redis-server)"
    settings = folder / "redis.conf"
    settings.write_text(
        f'bind 127.0.0.1\nport {port}\nsave ""\nappendonly no\nrequirepass {password}\n'
    )
    with _serving([binary, str(settings)], folder / "redis.log"):
        assert wait_until(lambda: _listens(port), timeout=20)
        yield


@contextmanager
def serve_s3(port: int) -> Iterator[None]:
    """An S3 server in memory."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        yield
    finally:
        server.stop()


@contextmanager
def _serving(command: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(url: str) -> bool:
    """Whether a server answers well."""
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
