"""Places that only one machine has are told from those that a pod reaches, and refused by name."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from slipway.components.config.checks.places import is_local, is_loopback, local_places
from slipway.components.config.project import load_project
from slipway.components.support.images import STAGES

LOCAL = [
    "",
    "build/lake",
    "./lake",
    "/mnt/lake",
    "~/lake",
    "lake/s3://odd",
    "C:\\lake",
    "C:/lake",
    "file:///mnt/lake",
    "file:/mnt/lake",
    "FILE:///mnt/lake",
    "local://mnt/lake",
    "sqlite:///mlflow.db",
    "sqlite+pysqlite:///mlflow.db",
    "simplecache::file:///mnt/lake",
    "http://localhost:9000/lake",
    "https://127.0.0.1/lake",
    "http://[::1]:9000/lake",
    "http://minio.localhost/lake",
    "postgresql://user@localhost/mlflow",
]
SHARED = [
    "s3://bucket/lake",
    "gs://bucket/lake",
    "https://host.example/lake.csv",
    "http://minio.minio.svc.cluster.local:9000/lake",
    "abfs://container@account.dfs.core.windows.net/lake",
    "abfss://container@account.dfs.core.windows.net/lake",
    "hdfs://namenode/lake",
    "postgresql://db.example/mlflow",
    "postgresql+psycopg2://db.example/mlflow",
    "mysql+pymysql://db.example/mlflow",
    "simplecache::s3://bucket/lake",
]


@pytest.mark.parametrize("place", LOCAL)
def test_is_of_one_machine(place: str) -> None:
    assert is_local(place)


@pytest.mark.parametrize("place", SHARED)
def test_is_reached_by_a_pod(place: str) -> None:
    assert not is_local(place) and not is_loopback(place)


# The project as a cluster takes it, and each field that can hold a local place: what is said of it.
CLUSTER = {"data.root": "s3://bucket/lake", "deployment.target": "kserve"}
FIELDS: dict[str, tuple[dict[str, str], str]] = {
    "root": ({"data.root": "build/lake"}, "data.root (build/lake)"),
    "root of a scheme": ({"data.root": "file:///lake"}, "data.root (file:///lake)"),
    "no root": ({"data.root": "''"}, "data.root (empty)"),
    "source": ({"data.tables.planes.path": "/mnt/p"}, "data.tables.planes.path (/mnt/p)"),
    "source of a scheme": (
        {"data.tables.planes.path": "file:///p"},
        "data.tables.planes.path (file:///p)",
    ),
    "source on this host": (
        {"data.tables.planes.path": "http://localhost/p.csv"},
        "data.tables.planes.path (http://localhost/p.csv)",
    ),
    "delta": (
        {"data.tables.planes.path": "/mnt/p", "data.tables.planes.format": "delta"},
        "data.tables.planes.path (/mnt/p)",
    ),
    "checkpoints": ({"training.checkpoints": "build/c"}, "training.checkpoints (build/c)"),
    "checkpoints of a scheme": (
        {"training.checkpoints": "file:///c"},
        "training.checkpoints (file:///c)",
    ),
    "bundles": ({"deployment.storage": "/models"}, "deployment.storage (/models)"),
    "target": ({"deployment.target": "local"}, "deployment.target (local)"),
    "alerts": (
        {"monitoring.routes": "[{name: a, kind: webhook, url: 'http://localhost:9093'}]"},
        "monitoring.routes.a (http://localhost:9093)",
    ),
    "prometheus": (
        {
            "deployment.autoscaling": "{by: keda, max_replicas: 5, query: q,"
            " server: 'http://127.0.0.1:9090'}"
        },
        "deployment.autoscaling.server (http://127.0.0.1:9090)",
    ),
    "a schedule's data": (
        {"schedules.s": "{pipeline: scoring, every: 1d, parameters: {data_root: lake}}"},
        "schedules.s.parameters.data_root (lake)",
    ),
    "a schedule's predictions": (
        {"schedules.s": "{pipeline: scoring, every: 1d, parameters: {publish: build/scores}}"},
        "schedules.s.parameters.publish (build/scores)",
    ),
    "a schedule's endpoint": (
        {
            "schedules.s": "{pipeline: monitoring, every: 1d,"
            " parameters: {endpoint: 'http://localhost:8080'}}"
        },
        "schedules.s.parameters.endpoint (http://localhost:8080)",
    ),
}
FINE: dict[str, dict[str, str]] = {
    "as it is": {},
    "gs": {"data.root": "gs://bucket/lake", "deployment.storage": "gs://bucket/models"},
    "azure": {"data.root": "abfss://c@a.dfs.core.windows.net/lake"},
    "full addresses alone": {
        "data.root": "build/lake",
        **{
            f"data.tables.{name}.path": f"s3://bucket/{name}/"
            for name in ("flights", "weather", "planes")
        },
    },
    "https source": {"data.tables.planes.path": "https://host.example/planes.parquet"},
    "stores": {"training.checkpoints": "s3://bucket/c", "deployment.storage": "abfs://c@a/m"},
    "alerts": {
        "monitoring.routes": "[{name: a, kind: webhook, url: 'https://chat.example/${TOKEN}'},"
        " {name: l, kind: log}]"
    },
    "schedules": {
        "schedules.s": "{pipeline: scoring, every: 1d, parameters: {publish: 's3://b/s',"
        " data_root: 's3://b/l'}}"
    },
}


@pytest.fixture
def folder(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository / "examples" / "flights", tmp_path / "flights"))


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_holds_a_local_place_is_named(folder: Path, field: str) -> None:
    overrides, named = FIELDS[field]
    assert local_places(load_project(folder, CLUSTER | overrides).project) == [named]


@pytest.mark.parametrize("name", FINE)
def test_what_a_pod_reaches_is_not_named(folder: Path, name: str) -> None:
    assert local_places(load_project(folder, CLUSTER | FINE[name]).project) == []


def test_compile_for_a_cluster_refuses_all_of_them_at_once(folder: Path, tmp_path: Path) -> None:
    images = {name: f"registry.example/{name}@sha256:{'0' * 64}" for name in (*STAGES, "predictor")}
    (tmp_path / "images.yaml").write_text(yaml.safe_dump({"images": images}))

    def compile_(*options: str) -> "subprocess.CompletedProcess[str]":
        command = [str(Path(sys.executable).parent / "slipway"), "compile", "--cluster"]
        return subprocess.run(
            [*command, "--project", str(folder), "--out", str(tmp_path / "out"), *options],
            capture_output=True,
            text=True,
            env={
                "SLIPWAY_IMAGES": str(tmp_path / "images.yaml"),
                "PATH": "/usr/bin",
                "COLUMNS": "80",
            },
        )

    refused = compile_("--set", "training.checkpoints=build/c", "--set", "deployment.target=local")
    assert refused.returncode == 2
    said = re.sub(r"\s+", " ", refused.stderr)
    for part in ("data.root (build/lake)", "training.checkpoints (build/c)", "target (local)"):
        assert part in said
    assert not (tmp_path / "out").exists()
    taken = compile_("--set", "data.root=s3://bucket/lake")
    assert taken.returncode == 0, taken.stderr
    assert (tmp_path / "out" / "flights-training.yaml").is_file()
