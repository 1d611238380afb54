"""`orchestration.shards`: a loop of one task a shard and a merge, on a cluster and on this machine."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest
from kfp import dsl
from support import deploy_world
from support.kfp_double import Double
from support.local_runs import run_in

from slipway.cluster.api import Kubeflow
from slipway.cluster.checks import containers, find_faults
from slipway.cluster.connection import Connection
from slipway.cluster.runs import follow, submit
from slipway.cluster.upload import upload
from slipway.components.config.orchestration import Shards
from slipway.components.config.project import LoadedProject, load_project
from slipway.components.contracts.feature_rows import read_feature_rows, write_feature_rows
from slipway.components.contracts.predictions import read_predictions
from slipway.components.deploy.score import score_rows
from slipway.components.support.errors import ProjectError
from slipway.components.support.files import hash_directory
from slipway.local.runner.execution import PipelineRun
from slipway.pipelines.compiler import compile_project
from slipway.pipelines.graph import read_tasks
from slipway.pipelines.interface import Channels
from slipway.pipelines.package import read_package
from slipway.pipelines.scoring import predict_rows

INGEST = ("plan-ingest", "ingest-shard", "merge-dataset")
VALIDATE = ("validate-shard", "merge-validated")
IN_SHARDS = ("plan-scoring", "score-shard", "merge-predictions")
WATCH = ("plan-monitoring", "monitor-shard", "merge-monitoring")


def _sharded(repository: Path, shards: str) -> LoadedProject:
    return load_project(repository / "examples" / "flights", {"orchestration.shards": shards})


@pytest.fixture(scope="module")
def sharded(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flights' pipelines in four shards."""
    folder = tmp_path_factory.mktemp("sharded")
    compile_project(_sharded(repository, "4"), folder)
    return folder


def test_one_shard_is_the_pipeline_that_has_none(
    repository: Path, compiled: Path, tmp_path: Path
) -> None:
    compile_project(_sharded(repository, "1"), tmp_path)
    for path in tmp_path.glob("*.yaml"):
        assert path.read_bytes() == (compiled / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("pipeline", "order"),
    [
        ("training", [*INGEST, *VALIDATE, "features"]),
        ("retraining", [*INGEST, *VALIDATE, "features"]),
        ("scoring", [*INGEST, *VALIDATE, "scoring-features", *IN_SHARDS, *WATCH]),
        ("backfill", [*INGEST, *VALIDATE, "backfill"]),
        ("monitoring", [*INGEST, "merge-monitoring", "retrain"]),
        ("monitoring", [*WATCH, "retrain"]),
    ],
)
def test_each_stage_is_a_plan_a_loop_and_a_merge(
    pipeline: str, order: list[str], sharded: Path
) -> None:
    package = read_package(sharded / f"flights-{pipeline}.yaml")
    assert find_faults(package) == []
    tasks = {task.name: task for task in read_tasks(sharded / f"flights-{pipeline}.yaml")}
    assert not {"ingest", "validate", "score", "monitor", "monitor-predictions"} & tasks.keys()
    for earlier, later in pairwise(order):
        assert earlier in tasks[later].needs, later
    for name in {"ingest-shard", "validate-shard", "monitor-shard"} & set(order):
        (loop,) = [c for c in package.spec["components"].values() if name in _tasks(c)]
        assert _tasks(loop).keys() == {name}
        assert _tasks(loop)[name]["retryPolicy"]["maxRetryCount"] == 3
        limits = containers(package)[f"exec-{name}"]["resources"]
        assert limits["resourceMemoryLimit"] == "2Gi"


def test_a_shard_is_a_task_with_retries_of_its_own_and_the_merge_waits_for_all(
    sharded: Path,
) -> None:
    package = read_package(sharded / "flights-scoring.yaml")
    assert find_faults(package) == []
    order = {task.name: task.needs for task in read_tasks(sharded / "flights-scoring.yaml")}
    assert set(IN_SHARDS) <= order.keys() and "score" not in order
    assert "plan-scoring" in order["score-shard"]
    assert "score-shard" in order["merge-predictions"]
    assert "merge-predictions" in order["plan-monitoring"]
    (loop,) = [c for c in package.spec["components"].values() if "score-shard" in _tasks(c)]
    assert _tasks(loop).keys() == {"score-shard"}
    shard = _tasks(loop)["score-shard"]
    assert shard["retryPolicy"]["maxRetryCount"] == 3
    assert not shard["cachingOptions"].get("enableCache")
    assert containers(package)["exec-score-shard"]["resources"]["resourceMemoryLimit"] == "4Gi"
    (group,) = [c for c in package.spec["components"].values() if "plan-scoring" in _tasks(c)]
    loops = [t for t in _tasks(group).values() if "parameterIterator" in t]
    # A loop itself is never tried again, which would do every shard anew.
    assert len(loops) == 4 and not any("retryPolicy" in task for task in loops)


def _tasks(component: dict[str, Any]) -> dict[str, Any]:
    return dict(component.get("dag", {}).get("tasks", {}))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0", "at least 1"),
        ("129", "at most 128"),
        ("2.5", "a whole number or auto, and is 2.5"),
        ("all", "a whole number or auto, and is 'all'"),
        ("[4]", "a whole number or auto, and is a list"),
    ],
)
def test_what_is_no_number_of_shards_is_refused(value: str, said: str, repository: Path) -> None:
    with pytest.raises(ProjectError, match=rf"orchestration\.shards: .*{said}"):
        _sharded(repository, value)


@pytest.mark.parametrize(
    ("pipeline", "shard", "given", "others"),
    [
        ("scoring", "score-shard", "predictions", 1),
        ("training", "ingest-shard", "part", 2),
        ("training", "validate-shard", "part", 4),
        ("monitoring", "monitor-shard", "part", 6),
        ("scoring", "monitor-shard", "part", 7),
    ],
)
def test_what_the_merge_is_given_fits_one_argument(
    pipeline: str, shard: str, given: str, others: int, sharded: Path
) -> None:
    """The executor input as the driver writes it (v2/driver/driver.go), with the most shards."""
    most = get_args(get_args(Shards)[0])[1].metadata[1].le
    session = {
        "Provider": "minio",
        "Params": {
            "accessKeyKey": "accesskey",
            "disableSSL": "true",
            "endpoint": "minio-service.kubeflow.svc.cluster.local:9000",
            "fromEnv": "false",
            "region": "us-gov-west-1",
            "secretKeyKey": "secretkey",
            "secretName": "mlpipeline-minio-artifact",
        },
    }
    identity = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    artifact = {
        "name": "1234567890",
        "type": {"instanceSchema": "title: system.Dataset\ntype: object\nproperties: {}\n"},
        "uri": f"s3://{'b' * 63}/{'prefix/' * 6}{'p' * 60}/{identity}/{shard}/{identity}/{given}",
        "metadata": {
            "display_name": given,
            "rows": 4_194_304.0,
            "store_session_info": json.dumps(session),
        },
        "artifactId": "1234567890",
    }
    whole = {"inputs": {"artifacts": {"parts": {"artifacts": [artifact] * (most + others)}}}}
    assert 80_000 < len(json.dumps(whole)) < 120_000, "of the 131,072 that an argument may have"
    source = containers(read_package(sharded / f"flights-{pipeline}.yaml"))[f"exec-{shard}"]
    assert f'{given}.metadata["rows"]' in json.dumps(source).replace('\\"', '"')
    assert "metadata.update" not in json.dumps(source)


def test_a_run_shows_each_shard_and_no_node_of_the_loop(
    sharded: Path, kubeflow_server: Double
) -> None:
    kubeflow = Kubeflow(Connection.of(host=kubeflow_server.url), backoff=0.01)
    package = read_package(sharded / "flights-scoring.yaml")
    for failed in ("", "score-shard"):
        kubeflow_server.fail_task = failed
        uploaded = upload(kubeflow, package)
        started = submit(kubeflow, package, uploaded, experiment="flights", arguments={})
        end = follow(kubeflow, started.run_id, lambda task: None, every=0.0)
        shards = [task.state for task in end.tasks if task.name == "score-shard"]
        assert shards == ["failed" if failed else "succeeded"] * 2
        assert {task.name for task in end.tasks} == {
            *(*INGEST, *VALIDATE, "scoring-features", *IN_SHARDS),
            *(*WATCH, "report-end"),
        }
        states = {task.name: task.state for task in end.tasks}
        assert states["merge-predictions"] == ("omitted" if failed else "succeeded") or failed


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A registry with a champion of flights, and the rows it scores, in nine row groups."""
    import mlflow

    root = tmp_path_factory.mktemp("world")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        # A test before may have set another registry in this process.
        mlflow.set_registry_uri(uri)
        client = mlflow.MlflowClient()
        client.create_registered_model("flights")
        client.create_model_version("flights", source=str(root))
        world = deploy_world.World(root, 0)
        deploy_world.make_splits(root / "splits")
        world.release(1, threshold=0.6)
        world.register(1)
        client.set_registered_model_alias("flights", "champion", "1")
        deploy_world.make_rows(root / "rows", group=7)
        yield world, uri


def _run_here(
    repository: Path, shards: str, rows: Path, uri: str, folder: Path
) -> tuple[PipelineRun, list[str]]:
    """The scoring pipeline's own tasks from the rows on, by the local runner."""
    project = _sharded(repository, shards).project

    @dsl.pipeline(name="scoring")
    def scoring(project_name: str = "flights") -> None:
        found = dsl.importer(artifact_uri=str(rows), artifact_class=dsl.Dataset)
        given = Channels(project=project_name, model="champion", publish="")
        predict_rows(given, project, found.output)

    started: list[str] = []

    def watch(task: Any, event: dict[str, Any]) -> None:
        if event["event"] == "task_end":
            started.append(task.name)

    return run_in(folder, scoring, {"MLFLOW_TRACKING_URI": uri}, watch), started


def test_on_this_machine_shards_run_one_after_another_and_give_the_same(
    registered: Any, repository: Path, tmp_path: Path
) -> None:
    world, uri = registered
    rows = world.root / "rows"
    run, ended = _run_here(repository, "4", rows, uri, tmp_path / "run")
    assert run.error is None, run.error
    assert [name for name in ended if name != "importer"] == [
        "plan-scoring",
        *(f"score-shard-{number}" for number in range(4)),
        "merge-predictions",
    ]
    # What each said is told of it, not of another that ran beside it.
    counts = [int(run.tasks[f"score-shard-{n}"].headline.split()[0]) for n in range(4)]
    assert sum(counts) == 60 and min(counts) >= 14
    merged = Path(run.output("merge-predictions", "predictions"))
    (moment,) = set(pq.ParquetDataset(merged / "flights").read()["served_at"].to_pylist())
    whole = tmp_path / "whole"
    score_rows(rows=rows, project="flights", model="1", predictions=whole, now=moment)
    assert read_predictions(merged).rows == 60
    assert hash_directory(merged) == hash_directory(whole)


def test_on_this_machine_a_shard_that_fails_ends_the_run_and_says_so(
    registered: Any, repository: Path, tmp_path: Path
) -> None:
    world, uri = registered
    rows = tmp_path / "rows"
    shutil.copytree(world.root / "rows", rows)
    table = pq.read_table(rows / "rows.parquet")
    order = [*range(21), 59, *range(21, 59)]  # the second shard begins with a row of the next day
    write_feature_rows(rows, replace(read_feature_rows(rows), lead_seconds=0))
    pq.write_table(table.take(order), rows / "rows.parquet", row_group_size=7)
    run, ended = _run_here(repository, "3", rows, uri, tmp_path / "run")
    assert ended[-2:] == ["score-shard-0", "score-shard-1"]
    assert [run.tasks[name].status for name in ended[-2:]] == ["succeeded", "failed"]
    assert "is not ordered by time" in str(run.error)
