"""Training on several nodes: a Kubeflow Trainer `TrainJob` that this stage creates and follows.

The job's name follows from what decides the weights. A task that is tried again therefore finds the
job of its earlier try, and follows it in place of starting another.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slipway.components.config.training import TrainingConfig
from slipway.components.support.errors import SlipwayError
from slipway.components.support.images import image
from slipway.components.support.stage import progress
from slipway.components.train.distributed.processes import (
    WorkerJob,
    read_members,
    remove_job,
    send_splits,
    write_job,
)
from slipway.components.train.preemption import stop_on_sigterm

if TYPE_CHECKING:
    from slipway.components.train.loop import TrainedMember

# The namespace's own, as every task has them: see pipelines/tasks.py.
CONFIG_MAP, SECRETS = "slipway-config", "slipway-secrets"
STORE_SETTINGS = ("AWS_ENDPOINT_URL", "AWS_REGION")
STORE_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_GROUP, _VERSION, _PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
POLL_SECONDS = 5.0
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where torch's loaders and NCCL look for it
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def run_on_nodes(
    job: WorkerJob, splits: Path, config: TrainingConfig, identity: str, gpus: int
) -> "list[TrainedMember]":
    """Sends the splits to the object store, trains on several nodes, and takes the result back.

    Raises:
        SlipwayError: there is no object store that the nodes could share, or the job failed.
    """
    if "://" not in job.checkpoints:
        raise SlipwayError(
            f"training.nodes.count is {config.nodes.count}: set training.checkpoints to a prefix in"
            " an object store (s3://bucket/checkpoints) that all nodes can reach."
        )
    name = f"{job.project[:40]}-train-{identity[:10]}"
    uri = f"{job.checkpoints.rstrip('/')}/{job.project}/jobs/{identity[:16]}"
    send_splits(uri, splits)
    write_job(uri, replace(job, splits=""))
    manifest = train_job(name=name, uri=uri, image=image("train"), config=config, gpus=gpus)
    TrainJobRunner().run(manifest)
    members = read_members(uri)
    remove_job(uri)
    return members


def train_job(
    *, name: str, uri: str, image: str, config: TrainingConfig, gpus: int
) -> dict[str, Any]:
    """The TrainJob: `nodes.count` pods, each a torchrun of the same worker as on one machine.

    Args:
        name: of the TrainJob.
        uri: where job.json and the splits are.
        image: the stage's image.
        config: the `training` section.
        gpus: devices a node; 0 runs one process a node on the CPU.
    """
    accelerator, nodes = config.accelerator, config.nodes
    resources: dict[str, dict[str, str]] = {
        "requests": {"cpu": nodes.cpu, "memory": nodes.memory},
        "limits": {"memory": nodes.memory},
    }
    pod: dict[str, Any] = {
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
        "containers": [
            {"name": "node", "volumeMounts": [{"name": "shm", "mountPath": _SHARED_MEMORY}]}
        ],
    }
    if gpus:
        resources["limits"][accelerator.type] = str(gpus)
        pod["nodeSelector"] = accelerator.node_selector
        pod["tolerations"] = accelerator.tolerations
    replica = {"name": "node", "template": {"spec": {"template": {"spec": pod}}}}
    return {
        "apiVersion": f"{_GROUP}/{_VERSION}",
        "kind": "TrainJob",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "slipway"}},
        "spec": {
            "runtimeRef": {"name": nodes.runtime},
            "trainer": {
                "image": image,
                "command": ["python", "-m", "torch.distributed.run"],
                "args": ["-m", "slipway.components.train.distributed.worker", uri],
                "env": _worker_environment(),
                "numNodes": nodes.count,
                "numProcPerNode": max(gpus, 1),
                "resourcesPerNode": resources,
            },
            "runtimePatches": [
                {
                    "manager": "slipway.io/train",
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [replica]}}},
                }
            ],
        },
    }


def _worker_environment() -> list[dict[str, Any]]:
    """What a worker reads: the MLflow server and the object store, secrets only by reference."""
    variables: list[dict[str, Any]] = []
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri and urlsplit(uri).password is None:
        variables.append({"name": "MLFLOW_TRACKING_URI", "value": uri})
    elif uri:
        variables.append(_reference("secretKeyRef", SECRETS, "MLFLOW_TRACKING_URI"))
    variables += [_reference("configMapKeyRef", CONFIG_MAP, name) for name in STORE_SETTINGS]
    variables += [_reference("secretKeyRef", SECRETS, name) for name in STORE_SECRETS]
    return variables


def _reference(kind: str, place: str, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "valueFrom": {
            kind: {"name": place, "key": name, "optional": name != "MLFLOW_TRACKING_URI"}
        },
    }


@dataclass(slots=True, kw_only=True)
class TrainJobRunner:
    """Creates a TrainJob or finds it, follows it, and deletes it at the end.

    Attributes:
        namespace: empty takes the pod's own.
        poll_seconds: between two looks at the job.
    """

    namespace: str = ""
    poll_seconds: float = field(default_factory=lambda: POLL_SECONDS)
    _jobs: Any = field(init=False)
    _pods: Any = field(init=False)
    _shown: int = 0

    def __post_init__(self) -> None:
        from kubernetes import client, config

        try:
            config.load_incluster_config()
        except config.ConfigException:
            config.load_kube_config()
        self._jobs, self._pods = client.CustomObjectsApi(), client.CoreV1Api()
        if not self.namespace and _NAMESPACE_FILE.exists():
            self.namespace = _NAMESPACE_FILE.read_text().strip()
        self.namespace = self.namespace or "default"

    def run(self, manifest: dict[str, Any]) -> None:
        """Runs the job to its end.

        Raises:
            SlipwayError: the job failed, was deleted by someone else, or this task received SIGTERM.
        """
        name = manifest["metadata"]["name"]
        with stop_on_sigterm() as cancelled:
            self._start(name, manifest)
            while True:
                job = self._get(name)
                if job is None:
                    raise SlipwayError(f"TrainJob {name} in {self.namespace} was deleted.")
                self._show_logs(name)
                state, message = _condition(job)
                if state == "Complete":
                    self._delete(name)
                    return
                if state == "Failed":
                    raise SlipwayError(
                        f"TrainJob {name} in namespace {self.namespace} failed: {message}. It is"
                        " kept to look at; the next try replaces it."
                    )
                if cancelled.wait(self.poll_seconds):
                    self._delete(name)
                    raise SlipwayError(
                        f"Training received SIGTERM; TrainJob {name} was deleted, its checkpoint"
                        " kept."
                    )

    def _start(self, name: str, manifest: dict[str, Any]) -> None:
        found = self._get(name)
        if found is not None and _condition(found)[0] == "Failed":
            self._delete(name)
            found = None
        if found is not None:
            progress(f"TrainJob {name} is there from an earlier try: following it")
            return
        nodes = manifest["spec"]["trainer"]["numNodes"]
        self._jobs.create_namespaced_custom_object(
            _GROUP, _VERSION, self.namespace, _PLURAL, manifest
        )
        progress(f"TrainJob {name} created in namespace {self.namespace}, {nodes} nodes")

    def _get(self, name: str) -> dict[str, Any] | None:
        from kubernetes.client import ApiException

        try:
            found: dict[str, Any] = self._jobs.get_namespaced_custom_object(
                _GROUP, _VERSION, self.namespace, _PLURAL, name
            )
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return found

    def _delete(self, name: str) -> None:
        from kubernetes.client import ApiException

        try:
            self._jobs.delete_namespaced_custom_object(
                _GROUP, _VERSION, self.namespace, _PLURAL, name
            )
        except ApiException as error:
            if error.status != 404:
                raise

    def _show_logs(self, name: str) -> None:
        """Prints what the first node has printed since the last look."""
        from kubernetes.client import ApiException

        try:
            pods = self._pods.list_namespaced_pod(
                self.namespace,
                label_selector=(
                    f"jobset.sigs.k8s.io/jobset-name={name},"
                    "batch.kubernetes.io/job-completion-index=0"
                ),
            ).items
            text = (
                self._pods.read_namespaced_pod_log(pods[0].metadata.name, self.namespace)
                if pods
                else ""
            )
        except ApiException:
            # A pod that is being made has no log yet; the job's status tells what matters.
            return
        lines = text.splitlines()
        if len(lines) < self._shown:
            self._shown = 0
        for line in lines[self._shown :]:
            print(line, flush=True)
        self._shown = len(lines)


def _condition(job: dict[str, Any]) -> tuple[str, str]:
    """The condition that ended the job, and its message; empty while it runs."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return condition["type"], condition.get("message", "no reason given")
    return "", ""
