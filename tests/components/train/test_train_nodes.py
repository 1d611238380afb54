"""Several nodes: the TrainJob that is made, and how it is followed, against a small API server."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import read_bundle
from slipway.components.support.errors import SlipwayError
from slipway.components.train.distributed.processes import WorkerJob
from slipway.components.train.distributed.trainjob import TrainJobRunner, run_on_nodes, train_job
from slipway.components.train.train import TrainingTask, train_model

CRD = Path(__file__).parents[4] / "shared/crds/trainer.kubeflow.org_trainjobs.yaml"
CONFIG = TrainingConfig.model_validate(
    {
        "nodes": {"count": 2},
        "accelerator": {
            "type": "nvidia.com/gpu",
            "node_selector": {"pool": "gpu"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        },
    }
)
COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}]}
FAILED = {"conditions": [{"type": "Failed", "status": "True", "message": "a node was lost"}]}


def manifest() -> dict[str, Any]:
    return train_job(name="toy-train", uri="s3://b/jobs/1", image="train:1", config=CONFIG, gpus=4)


class Cluster:
    """Jobs by name; a job that is looked at `looks` times gets the status `ends`."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.ends: dict[str, Any] = COMPLETE
        self.looks = 3

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        name = path.rpartition("/")[2].partition("?")[0]
        if "trainjobs" not in path:
            if path.endswith("/log"):
                return 200, "epoch 1\nepoch 2\n"
            return 200, {"items": [{"metadata": {"name": "toy-train-0"}}]}
        if method != "GET":
            self.calls.append(method)
        if method == "POST":
            self.jobs[body["metadata"]["name"]] = {**body, "status": {}}
            return 201, body
        if name not in self.jobs:
            return 404, {"kind": "Status", "code": 404}
        if method == "DELETE":
            return 200, self.jobs.pop(name)
        self.looks -= 1
        if self.looks <= 0:
            self.jobs[name]["status"] = self.ends
        return 200, self.jobs[name]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    state = Cluster()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else {}
            code, content = state.answer(self.command, self.path, body)
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(code)
            kind = "text/plain" if isinstance(content, str) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    access = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [
            {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(access))
    import kubernetes.config.kube_config as module

    monkeypatch.setattr(module, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    yield state
    server.shutdown()
    server.server_close()


def test_the_job_asks_for_what_the_project_says() -> None:
    job = manifest()
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "4"
    assert trainer["args"] == ["-m", "slipway.components.train.distributed.worker", "s3://b/jobs/1"]
    patch = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]
    pod = patch["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert pod["volumes"] == [{"name": "shm", "emptyDir": {"medium": "Memory"}}]


def test_no_secret_stands_in_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    from slipway.pipelines import tasks

    def variables() -> dict[str, Any]:
        return {entry["name"]: entry for entry in manifest()["spec"]["trainer"]["env"]}

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("FEAST_REDIS_URL", "redis:6379,password=hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hunter2@mlflow")
    assert "hunter2" not in json.dumps(manifest())
    found = variables()
    assert found["MLFLOW_TRACKING_URI"]["valueFrom"]["secretKeyRef"]["name"] == tasks.SECRETS
    assert found["AWS_REGION"]["valueFrom"]["configMapKeyRef"]["name"] == tasks.CONFIG_MAP
    assert set(found) == {"MLFLOW_TRACKING_URI", *tasks.STORE_SETTINGS, *tasks.STORE_SECRETS}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow")
    assert variables()["MLFLOW_TRACKING_URI"]["value"] == "https://mlflow"


@pytest.mark.skipif(not CRD.exists(), reason="the custom resource definitions are not there")
def test_the_job_is_what_the_definition_allows() -> None:
    import jsonschema

    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    def close(part: Any) -> Any:
        """An API server drops unknown fields; here they are an error."""
        if isinstance(part, list):
            return [close(item) for item in part]
        if not isinstance(part, dict):
            return part
        closed = {key: close(value) for key, value in part.items()}
        if isinstance(part.get("properties"), dict) and part.get("type") == "object":
            closed["additionalProperties"] = False
        return closed

    schema["properties"].pop("metadata")
    body = {key: value for key, value in manifest().items() if key != "metadata"}
    jsonschema.validate(body, close(schema))


def test_a_job_is_created_followed_and_deleted(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    TrainJobRunner(namespace="ns", poll_seconds=0.01).run(manifest())
    assert cluster.calls == ["POST", "DELETE"]
    assert capfd.readouterr().out.count("epoch 2") == 1


def test_a_retry_follows_the_job_that_is_there(cluster: Cluster) -> None:
    cluster.jobs["toy-train"] = {**manifest(), "status": {}}
    TrainJobRunner(namespace="ns", poll_seconds=0.01).run(manifest())
    assert cluster.calls == ["DELETE"]


def test_a_failed_job_is_named_and_replaced_by_the_next_try(cluster: Cluster) -> None:
    cluster.ends = FAILED
    with pytest.raises(SlipwayError, match="toy-train in namespace ns failed: a node was lost"):
        TrainJobRunner(namespace="ns", poll_seconds=0.01).run(manifest())
    cluster.ends, cluster.looks = COMPLETE, 3
    TrainJobRunner(namespace="ns", poll_seconds=0.01).run(manifest())
    assert cluster.calls == ["POST", "DELETE", "POST", "DELETE"]


def test_a_cancelled_task_deletes_its_job(cluster: Cluster) -> None:
    cluster.looks = 10**9
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(SlipwayError, match="TrainJob toy-train was deleted"):
        TrainJobRunner(namespace="ns", poll_seconds=0.05).run(manifest())
    assert cluster.calls == ["POST", "DELETE"]


class Runner(Cluster):
    """A cluster that runs what a job's pod would: its command, on this machine, as one node."""

    process: subprocess.Popen[bytes] | None = None

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if method == "POST":
            trainer = body["spec"]["trainer"]
            assert trainer["command"] == ["python", "-m", "torch.distributed.run"]
            self.process = subprocess.Popen(
                [sys.executable, *trainer["command"][1:], "--standalone", *trainer["args"]],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            )
        self.looks = 10**9
        if self.process is not None and self.process.poll() is not None:
            self.looks = 0
            self.ends = FAILED if self.process.returncode else COMPLETE
        return super().answer(method, path, body)


def test_the_stage_takes_the_result_of_its_job_back(
    cluster: Cluster,
    make_splits: Any,
    tmp_path: Path,
    tracking: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole stage on nodes: the job's workers train and log, the stage exports and cleans up."""
    from mlflow.tracking import MlflowClient

    import slipway.components.train.distributed.trainjob as module

    runner = Runner()
    monkeypatch.setattr(cluster, "answer", runner.answer)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.1)
    store = tmp_path / "store"
    result = train_model(
        TrainingTask(
            splits=make_splits(rows=600),
            project="toy",
            config={
                "network": {"width": 16, "architecture": "mlp"},
                "members": 2,
                "batch_size": 64,
                "min_steps": 60,
                "nodes": {"count": 2},
                "checkpoints": f"file://{store}",
            },
            seed=0,
            epochs=2,
            learning_rate=5e-3,
            gpus=0,
            allow_cpu=False,
            bundle=tmp_path / "bundle",
            report=tmp_path / "report.html",
        )
    )
    assert runner.calls == ["POST", "DELETE"]
    assert result.members == 2
    assert result.metrics["auc"] > 0.7
    assert read_bundle(tmp_path / "bundle").threshold == result.threshold
    assert [path for path in store.rglob("*") if path.is_file()] == []
    history = MlflowClient(tracking).get_metric_history(str(result.run_id), "member_2/auc")
    assert len(history) == 2, "the workers log into the run that the stage opened"


def test_nodes_need_a_shared_store(tmp_path: Path) -> None:
    job = WorkerJob(splits="", project="toy", config={}, device="cpu", run_id=None, checkpoints="")
    with pytest.raises(SlipwayError, match=r"set training\.checkpoints"):
        run_on_nodes(job, tmp_path, CONFIG, "0" * 64, 0)
