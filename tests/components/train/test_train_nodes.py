"""Several nodes: the TrainJob that is made, and how it is followed, against a double of Trainer."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kube_workloads import violations
from support.sim_clock import SimClock
from support.trainer_double import COMPLETE, FAILED, TrainerDouble, pod_spec

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import read_bundle
from slipway.components.support.errors import SlipwayError
from slipway.components.support.kubernetes import cluster as cluster_module
from slipway.components.support.kubernetes import pod
from slipway.components.support.kubernetes.cluster import Cluster
from slipway.components.train.distributed import follow
from slipway.components.train.distributed import trainjob as module
from slipway.components.train.distributed.follow import TrainJobRunner
from slipway.components.train.distributed.processes import WorkerJob
from slipway.components.train.distributed.trainjob import run_on_nodes, train_job
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


def manifest() -> dict[str, Any]:
    return train_job(name="toy-train", uri="s3://b/jobs/1", image="train:1", config=CONFIG, gpus=4)


class SlowClock(SimClock):
    """Simulated time that takes a little real time, for what really runs."""

    def sleep(self, seconds: float) -> None:
        time.sleep(0.02)
        super().sleep(seconds)


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainerDouble]:
    double = TrainerDouble()
    yield attach(double, tmp_path, monkeypatch)
    double.close()


def attach(double: TrainerDouble, folder: Path, monkeypatch: pytest.MonkeyPatch) -> TrainerDouble:
    for name, value in double.serve(folder).items():
        monkeypatch.setenv(name, value)
    for user in (follow, cluster_module):
        monkeypatch.setattr(user, "time", double.clock)
    double.api.log_text = "epoch 1\nepoch 2\n"
    # A kubeconfig names no namespace that a pod would have.
    (folder / "namespace").write_text("models")
    monkeypatch.setattr(pod, "NAMESPACE_FILE", folder / "namespace")
    return double


def run(job: dict[str, Any] | None = None) -> None:
    TrainJobRunner(Cluster("models", "task-role.yaml")).run(job or manifest())


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
    from slipway.components.support import environment

    def variables() -> dict[str, Any]:
        return {entry["name"]: entry for entry in manifest()["spec"]["trainer"]["env"]}

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("FEAST_REDIS_URL", "redis:6379,password=hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hunter2@mlflow")
    assert "hunter2" not in json.dumps(manifest())
    found = variables()
    assert found["MLFLOW_TRACKING_URI"]["valueFrom"]["secretKeyRef"]["name"] == environment.SECRETS
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://hunter2@mlflow")
    assert "hunter2" not in json.dumps(manifest())
    assert found["AWS_REGION"]["valueFrom"]["configMapKeyRef"]["name"] == environment.CONFIG_MAP
    assert set(found) == {
        "MLFLOW_TRACKING_URI",
        *environment.STORE_SETTINGS,
        *environment.STORE_SECRETS,
    }
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
    trainer: TrainerDouble, capfd: pytest.CaptureFixture[str]
) -> None:
    run()
    assert ("trainer.kubeflow.org", "trainjobs", "create") in trainer.api.verbs
    assert capfd.readouterr().out.count("epoch 2") == 1, "each line is printed once"
    trainer.clock.sleep(60)
    assert trainer.api.objects == {} and trainer.job_sets == {} and trainer.pods == []


def test_its_pods_may_be_made_in_a_restricted_namespace(trainer: TrainerDouble) -> None:
    """The runtime sets no security context: a job without ours gets no pod, and no condition."""
    assert violations(pod_spec(manifest())) == ""
    bare = manifest()
    bare["spec"]["runtimePatches"] = []
    with pytest.raises(
        SlipwayError, match=r"No pod of TrainJob toy-train may be made .*PodSecurity"
    ):
        run(bare)
    trainer.clock.sleep(60)
    assert trainer.api.objects == {}


def test_a_retry_follows_the_job_that_is_there(
    trainer: TrainerDouble, capfd: pytest.CaptureFixture[str]
) -> None:
    Cluster("models", "task-role.yaml").create(manifest())
    run()
    assert "is there from an earlier try: following it" in capfd.readouterr().out


@pytest.mark.parametrize("seed", range(20))
def test_a_failed_job_is_named_and_replaced_by_the_next_try(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next job has the same name: until the JobSet of the failed one is gone it would fail too."""
    trainer = attach(TrainerDouble(seed=seed), tmp_path, monkeypatch)
    trainer.end_after(10, FAILED)
    with pytest.raises(SlipwayError, match=r"toy-train in namespace models failed: jobset failed"):
        run()
    assert trainer.api.objects, "it is kept to look at"
    trainer.end_after(10, COMPLETE)
    run()
    trainer.close()


def test_a_job_that_another_deletes_is_waited_for(trainer: TrainerDouble) -> None:
    """A try that was stopped deletes its job; the next one comes while its pods still end."""
    cluster = Cluster("models", "task-role.yaml")
    cluster.create(manifest())
    trainer.clock.sleep(20)
    cluster.delete("TrainJob", "toy-train")
    run()
    path = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/models/trainjobs/toy-train"
    trainer.clock.after(20, lambda: trainer.api.request("DELETE", path, {}, None))
    with pytest.raises(SlipwayError, match="toy-train in namespace models was deleted"):
        run()


def test_quota_and_a_queue_are_waited_for(
    trainer: TrainerDouble, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer.quota_pods = 0
    trainer.clock.after(900, lambda: setattr(trainer, "quota_pods", 9))
    run()
    said = capfd.readouterr().out
    assert said.count("waits for the namespace's quota: ") == 1
    job = manifest()
    job["spec"]["suspend"] = True  # as Kueue's webhook does it, and its controller takes it back

    def resume() -> None:
        found = trainer.api.objects["trainjobs", "toy-train"]
        trainer.api.store(
            "trainjobs", "toy-train", found | {"spec": found["spec"] | {"suspend": False}}
        )

    trainer.clock.after(900, resume)
    run(job)
    assert capfd.readouterr().out.count("is suspended: TrainJob is suspended") == 1


def test_of_a_job_that_is_tried_again_the_newest_pod_is_printed(
    trainer: TrainerDouble, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its first pod stays for a look; the server lists them in no order."""
    name = "toy-train-node-0-0-later"

    def start_again() -> None:
        meta = trainer.pods[0]["metadata"] | {
            "name": name,
            "creationTimestamp": trainer.clock.stamp(),
        }
        trainer.api.logs[name] = "2026-11-27T00:00:20.5Z epoch 1 again\n"
        trainer.pods.insert(0, {"metadata": meta, "status": {"phase": "Running"}})

    def go_on() -> None:
        # As text this moment is before the other.
        trainer.api.logs[name] += "2026-11-27T00:00:20.51Z epoch 2 again\n"

    trainer.clock.after(12, start_again)
    trainer.clock.after(24, go_on)
    run()
    said = capfd.readouterr().out
    assert [said.count(line) for line in ("epoch 1 again", "epoch 2 again", "epoch 1\n")] == [
        1,
        1,
        1,
    ]


def test_the_latest_refusal_is_told_whatever_order_the_server_has(trainer: TrainerDouble) -> None:
    job = manifest()
    job["spec"]["runtimePatches"] = []
    event = {"type": "Warning", "reason": "FailedCreate", "message": "exceeded quota: of yesterday"}
    event["involvedObject"] = {"name": "toy-train-node-0"}  # type: ignore[assignment]
    trainer.api.lists["events"] = lambda: [
        *trainer.api.events,
        event | {"lastTimestamp": "2026-11-26T00:00:00Z", "metadata": {}},
    ]
    with pytest.raises(SlipwayError, match=r"No pod of TrainJob toy-train may be .*PodSecurity"):
        run(job)


def test_what_the_webhooks_refuse_is_told(
    trainer: TrainerDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = manifest()
    long["metadata"]["name"] = f"{'p' * 40}-train-0123456789"
    with pytest.raises(SlipwayError, match=r"No pod of .* may be made .*JobSet name is too long"):
        run(long)
    trainer.runtime = False
    refused = r"admission webhook or policy .*clusterTrainingRuntime must be created before"
    with pytest.raises(SlipwayError, match=refused):
        run()
    unknown = manifest()
    unknown["spec"]["nodes"] = 3
    if CRD.exists():
        with pytest.raises(SlipwayError, match=r"has no field spec\.nodes"):
            run(unknown)


@pytest.mark.parametrize("project", ["toy", "p" * 40])
def test_the_names_of_its_pods_are_short_enough(
    project: str, trainer: TrainerDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "send_splits", lambda *_: None)
    monkeypatch.setattr(module, "write_job", lambda *_: None)
    monkeypatch.setattr(module, "read_members", lambda *_: [])
    monkeypatch.setattr(module, "remove_job", lambda *_: None)
    monkeypatch.setattr(module.TrainJobRunner, "run", lambda self, job: made.append(job))
    job = WorkerJob(
        splits="", project=project, config={}, device="cpu", run_id=None, checkpoints="s3://b/c"
    )
    many = CONFIG.model_copy(update={"nodes": CONFIG.nodes.model_copy(update={"count": 100})})
    module.run_on_nodes(job, tmp_path, many, "0123456789abcdef", 0)
    name = made[0]["metadata"]["name"]
    assert len(f"{name}-node-0-99-abcde") <= 63 and name.endswith("-train-0123456789")


def test_its_pods_run_as_the_tasks_own_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default account has no pull secret, and no identity in a cloud."""
    assert "serviceAccountName" not in pod_spec(manifest())
    claims = {"sub": "system:serviceaccount:models:pipeline-runner"}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    (tmp_path / "token").write_text(f"head.{payload}.signature")
    monkeypatch.setattr(pod, "TOKEN_FILE", tmp_path / "token")
    assert pod_spec(manifest())["serviceAccountName"] == "pipeline-runner"


def test_a_cancelled_task_deletes_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = attach(TrainerDouble(SlowClock()), tmp_path, monkeypatch)
    trainer.end_after(10**9, COMPLETE)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(SlipwayError, match="TrainJob toy-train was deleted"):
        run()
    trainer.clock.sleep(60)
    assert trainer.api.objects == {}
    trainer.close()


def test_the_stage_takes_the_result_of_its_job_back(
    make_splits: Any, tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole stage on nodes: the job's workers train and log, the stage exports and cleans up."""
    from mlflow.tracking import MlflowClient

    trainer = attach(TrainerDouble(SlowClock()), tmp_path, monkeypatch)
    started: list[subprocess.Popen[bytes]] = []

    def end(job_set: dict[str, Any]) -> tuple[str, str] | None:
        """What a job's pod would run, on this machine, as one node."""
        command = job_set["job"]["spec"]["trainer"]
        assert command["command"] == ["python", "-m", "torch.distributed.run"]
        if not started:
            line = [sys.executable, *command["command"][1:], "--standalone", *command["args"]]
            started.append(subprocess.Popen(line))
        code = started[0].poll()
        return None if code is None else FAILED if code else COMPLETE

    trainer.outcome = end
    store = tmp_path / "store"
    result = train_model(
        TrainingTask(
            splits=make_splits(rows=600),
            project="toy",
            config={
                "network": {"width": 16, "architecture": "mlp"},
                "members": 2,
                "batch_size": 64,
                "model": "network",
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
    trainer.clock.sleep(60)
    assert started and trainer.api.objects == {}
    assert result.members == 2
    assert result.metrics["auc"] > 0.7
    assert read_bundle(tmp_path / "bundle").threshold == result.threshold
    assert [path for path in store.rglob("*") if path.is_file()] == []
    history = MlflowClient(tracking).get_metric_history(str(result.run_id), "member_2/auc")
    assert len(history) == 2, "the workers log into the run that the stage opened"
    trainer.close()


def test_nodes_need_a_shared_store(tmp_path: Path) -> None:
    job = WorkerJob(splits="", project="toy", config={}, device="cpu", run_id=None, checkpoints="")
    with pytest.raises(SlipwayError, match=r"set training\.checkpoints"):
        run_on_nodes(job, tmp_path, CONFIG, "0" * 64, 0)


def test_nodes_need_a_name_for_their_devices(tmp_path: Path) -> None:
    """A form's field that was blanked, which asks a task of one node for no device."""
    job = WorkerJob(
        splits="", project="toy", config={}, device="cuda", run_id=None, checkpoints="s3://b/c"
    )
    blank = CONFIG.accelerator.model_copy(update={"type": ""})
    config = CONFIG.model_copy(update={"accelerator": blank})
    with pytest.raises(SlipwayError, match=r"needs 2 GPU\(s\), and training_gpu_type is empty"):
        run_on_nodes(job, tmp_path, config, "0" * 64, 2)
