"""Training on several nodes: a Kubeflow Trainer `TrainJob` that this stage creates and follows.

The job's name follows from what decides the weights. A task that is tried again therefore finds the
job of its earlier try, and follows it in place of starting another.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.training import TrainingConfig
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.images import image
from slipway.components.support.kubernetes import pod_security
from slipway.components.support.kubernetes.cluster import Cluster
from slipway.components.support.kubernetes.pod import own_account
from slipway.components.support.secrets import holds_secret
from slipway.components.train.distributed.follow import TrainJobRunner
from slipway.components.train.distributed.processes import (
    WORKER,
    WorkerJob,
    read_members,
    remove_job,
    send_splits,
    write_job,
)

if TYPE_CHECKING:
    from slipway.components.train.loop import TrainedMember

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where torch's loaders and NCCL look for it
# The name of a node's pod is at most 63 characters (JobSet's webhook): the job's name, "-node-0-", the
# node's number, and six of Kubernetes' own.
_PROJECT_CHARACTERS = 30


def run_on_nodes(
    job: WorkerJob, splits: Path, config: TrainingConfig, identity: str, gpus: int
) -> "list[TrainedMember]":
    """Sends the splits to the object store, trains on several nodes, and takes the result back.

    Raises:
        SlipwayError: there is no object store that the nodes could share, the devices that they need
            have no name, or the job failed.
    """
    if "://" not in job.checkpoints:
        raise SlipwayError(
            f"training.nodes.count is {config.nodes.count}: set training.checkpoints to a prefix in"
            " an object store (s3://bucket/checkpoints) that all nodes can reach."
        )
    if gpus and not config.accelerator.type:
        raise SlipwayError(
            f"Each of the {config.nodes.count} nodes needs {gpus} GPU(s), and training_gpu_type is empty:"
            " name their resource, as nvidia.com/gpu, or set training_gpus=0."
        )
    cluster = Cluster(None, "task-role.yaml")
    name = f"{job.project[:_PROJECT_CHARACTERS]}-train-{identity[:10]}"
    uri = f"{job.checkpoints.rstrip('/')}/{job.project}/jobs/{identity[:16]}"
    send_splits(uri, splits)
    write_job(uri, replace(job, splits=""))
    manifest = train_job(name=name, uri=uri, image=image("train"), config=config, gpus=gpus)
    TrainJobRunner(cluster).run(manifest)
    members = read_members(uri)
    remove_job(uri)
    return members


def train_job(
    *, name: str, uri: str, image: str, config: TrainingConfig, gpus: int
) -> dict[str, object]:
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
    pod: dict[str, object] = {
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
        # The runtime that the job refers to sets no security context and no account.
        "securityContext": pod_security.POD,
        "containers": [
            {
                "name": "node",
                "volumeMounts": [{"name": "shm", "mountPath": _SHARED_MEMORY}],
                "securityContext": pod_security.CONTAINER,
            }
        ],
    }
    if account := own_account():
        pod["serviceAccountName"] = account
    if gpus:
        resources["limits"][accelerator.type] = str(gpus)
        pod["nodeSelector"] = accelerator.node_selector
        pod["tolerations"] = accelerator.tolerations
    replica = {"name": "node", "template": {"spec": {"template": {"spec": pod}}}}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "slipway"}},
        "spec": {
            "runtimeRef": {"name": nodes.runtime},
            "trainer": {
                "image": image,
                "command": ["python", "-m", "torch.distributed.run"],
                "args": ["-m", WORKER, uri],
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


def _worker_environment() -> list[dict[str, object]]:
    """What a worker reads: the MLflow server and the object store, secrets only by reference."""
    variables: list[dict[str, object]] = []
    uri = environment.optional("MLFLOW_TRACKING_URI")
    if uri and not holds_secret(uri):
        variables.append({"name": "MLFLOW_TRACKING_URI", "value": uri})
    elif uri:
        variables.append(_reference("secretKeyRef", environment.SECRETS, "MLFLOW_TRACKING_URI"))
    variables += [
        _reference("configMapKeyRef", environment.CONFIG_MAP, name)
        for name in environment.STORE_SETTINGS
    ]
    variables += [
        _reference("secretKeyRef", environment.SECRETS, name) for name in environment.STORE_SECRETS
    ]
    return variables


def _reference(kind: str, place: str, name: str) -> dict[str, object]:
    return {
        "name": name,
        "valueFrom": {
            kind: {"name": place, "key": name, "optional": name != "MLFLOW_TRACKING_URI"}
        },
    }
