"""Kubeflow Trainer 2.3 with JobSet: its webhooks, its controller, and the pods of a TrainJob.

What it does, and where (kubeflow/trainer v2.3.0 unless it says otherwise):

- the runtime must be there, patches may name only jobs and containers that it has, no environment of its
  trainer, none that torchrun sets: 403 (pkg/webhooks/trainjob_webhook.go;
  pkg/runtime/framework/plugins/jobset/jobset.go and torch/torch.go, Validate).
- defaults: suspend, managedBy, runtimeRef, the time of each patch (trainjob_types.go; TrainJobDefaulter).
- a JobSet of the job's name; names of pods beyond 63 characters are refused (kubernetes-sigs/jobset,
  pkg/webhooks/jobset_webhook.go): an event TrainJobResourcesCreationFailed and no condition
  (pkg/controller/trainjob_controller.go, Reconcile).
- the conditions are the JobSet's of that name, whoever made it, and Failed goes when the JobSet goes
  (jobset.go, Status; removeFailedCondition). A JobSet that runs is not touched (jobset.go, Build).
- the runtime torch-distributed sets no security context (manifests/base/runtimes).
- a TrainJob has no finalizer: deleted in the background it is gone at once, its JobSet later.
"""

import copy
import random
from collections.abc import Callable
from pathlib import Path

from support.kube_api import KubeApi, Object
from support.kube_double import serve_api
from support.kube_workloads import violations
from support.sim_clock import SimClock

KIND = "trainjobs"
HOOK = 'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request: '
RESERVED = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR"}
COMPLETE = ("Complete", "jobset completed successfully")
FAILED = ("Failed", "jobset failed due to one or more job failures")


class TrainerDouble:
    """One namespace, `models`, with Trainer; each JobSet ends as `outcome` says, once it says so.

    Attributes:
        outcome: asked of a running JobSet: COMPLETE, FAILED, or None while it runs.
        calls: what clients changed, in order.
    """

    def __init__(self, clock: SimClock | None = None, seed: int = 0, runtime: bool = True) -> None:
        self.clock, self.rng = clock or SimClock(), random.Random(seed)
        self.api = KubeApi(self.clock)
        self.runtime = runtime
        self.quota_pods = 100
        self.job_sets: dict[str, Object] = {}
        self.pods: list[Object] = []
        self.outcome: Callable[[Object], tuple[str, str] | None] = self._after(30)
        self.server = None
        self.api.admit[KIND] = self._admit
        self.api.changed[KIND] = self._changed
        self.api.lists["pods"] = lambda: self.pods

    def _after(self, seconds: float, end: tuple[str, str] = COMPLETE) -> Callable[[Object], object]:
        return lambda job_set: end if self.clock.now - job_set["began"] > seconds else None

    def end_after(self, seconds: float, end: tuple[str, str]) -> None:
        self.outcome = self._after(seconds, end)  # type: ignore[assignment]

    def serve(self, folder: Path) -> dict[str, str]:
        self.server, settings = serve_api(self, folder)
        return settings

    def close(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()

    def _admit(self, old: Object | None, new: Object) -> str | None:
        spec = new["spec"]
        name = spec["runtimeRef"]["name"]
        spec["runtimeRef"] |= {"apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime"}
        spec.setdefault("suspend", False)
        spec.setdefault("managedBy", "trainer.kubeflow.org/trainjob-controller")
        if not self.runtime:
            return (
                f'{HOOK}spec.RuntimeRef: Invalid value: clustertrainingruntimes "{name}" not found:'
                " specified clusterTrainingRuntime must be created before the TrainJob is created"
            )
        if RESERVED & {entry["name"] for entry in spec["trainer"].get("env", [])}:
            return HOOK + "spec.trainer.env: Invalid value: must not have reserved envs"
        for patch in spec.get("runtimePatches", []):
            patch["time"] = self.clock.stamp()
            if "/" not in patch["manager"]:
                return HOOK + "spec.runtimePatches.manager: must be a domain-prefixed path"
            for job in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
                if job["name"] != "node":
                    return HOOK + "must not have replicated job that doesn't exist in the runtime"
                for container in job["template"]["spec"]["template"]["spec"]["containers"]:
                    if container["name"] != "node" or container.get("env"):
                        return HOOK + "must not have container that doesn't exist, or envs for node"
        return None

    def _changed(self, name: str) -> None:
        if (KIND, name) not in self.api.objects:  # deleted in the background: the children later
            self.clock.after(self.rng.uniform(2, 20), lambda: self._collect(name))
        self._kick(name)

    def _collect(self, name: str) -> None:
        """The garbage collector: a JobSet whose owner is gone, also where a new one has its name."""
        job = self.api.objects.get((KIND, name))
        job_set = self.job_sets.get(name)
        if job_set and (job is None or job_set["owner"] != job["metadata"]["uid"]):
            del self.job_sets[name]
            self.pods = [p for p in self.pods if p["metadata"]["labels"][_JOBSET] != name]
            self._kick(name)

    def _kick(self, name: str) -> None:
        self.clock.after(self.rng.uniform(0.05, 2), lambda: self._reconcile(name))

    def _reconcile(self, name: str) -> None:
        job = self.api.objects.get((KIND, name))
        if job is None:
            return
        if "deletionTimestamp" in job["metadata"]:
            uid = job["metadata"]["uid"]
            self.clock.after(self.rng.uniform(2, 20), lambda: self._gone(name, uid))
            return
        if name not in self.job_sets and not self._make(name, job):
            self._kick(name)
            return
        job_set = self.job_sets[name]
        conditions = [_condition(*job_set["end"])] if job_set["end"] else []
        if job["spec"]["suspend"]:
            conditions.append(_condition("Suspended", "TrainJob is suspended"))
        status = {"conditions": conditions}
        self.api.write_status(KIND, name, job, status)

    def _gone(self, name: str, uid: str) -> None:
        """The children of a job that is deleted in the foreground are away, and so is it."""
        job = self.api.objects.get((KIND, name))
        if job is not None and job["metadata"]["uid"] == uid:
            self.job_sets.pop(name, None)
            self.pods = [p for p in self.pods if p["metadata"]["labels"][_JOBSET] != name]
            self.api.remove(KIND, name)

    def _make(self, name: str, job: Object) -> bool:
        nodes = job["spec"]["trainer"]["numNodes"]
        if len(f"{name}-node-0-{nodes - 1}-abcde") > 63:
            text = "JobSet name is too long, pod names generated for this JobSet will exceed 63"
            reason = "TrainJobResourcesCreationFailed"
            self.api.warn("TrainJob", name, reason, f"resources reconciliation failed: {text}")
            return False
        uid = job["metadata"]["uid"]
        self.job_sets[name] = {"owner": uid, "job": job, "began": self.clock.now, "end": None}
        self.clock.after(self.rng.uniform(0.1, 3), lambda: self._run(name, uid))
        return True

    def _run(self, name: str, uid: str) -> None:
        """The JobSet's pods, and later its end."""
        job_set = self.job_sets.get(name)
        if job_set is None or job_set["owner"] != uid or job_set["end"]:
            return
        job = self.api.objects.get((KIND, name))
        again = self.rng.uniform(1, 5)
        self.clock.after(again, lambda: self._run(name, uid))
        if job is not None and job["spec"]["suspend"]:
            return
        if not any(p["metadata"]["labels"][_JOBSET] == name for p in self.pods):
            self._create_pods(name, job_set)
            job_set["began"] = self.clock.now
            return
        job_set["end"] = self.outcome(job_set)
        if job_set["end"]:
            self._kick(name)

    def _create_pods(self, name: str, job_set: Object) -> None:
        spec = pod_spec(job_set["job"])
        for index in range(job_set["job"]["spec"]["trainer"]["numNodes"]):
            pod = f"{name}-node-0-{index}-abcde"
            refusal = violations(spec) and f'violates PodSecurity "restricted:latest": {spec}'
            if len(self.pods) >= self.quota_pods:
                refusal = "exceeded quota: compute, requested: pods=1"
            if refusal:
                text = f'pods "{pod}" is forbidden: {refusal}'
                self.api.warn("Job", f"{name}-node-0", "FailedCreate", text)
                return
            labels = {_JOBSET: name, "batch.kubernetes.io/job-completion-index": str(index)}
            meta = {"name": pod, "labels": labels, "creationTimestamp": self.clock.stamp()}
            self.pods.append({"metadata": meta, "status": {"phase": "Running"}})


_JOBSET = "jobset.sigs.k8s.io/jobset-name"


def pod_spec(job: Object) -> Object:
    """The runtime's pod, with the job's patches laid over it."""
    spec: Object = {"containers": [{"name": "node"}]}
    for patch in job["spec"].get("runtimePatches", []):
        for replicated in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            own = copy.deepcopy(replicated["template"]["spec"]["template"]["spec"])
            spec["containers"][0] |= own.pop("containers")[0]
            spec |= own
    return spec


def _condition(kind: str, message: str) -> Object:
    return {"type": kind, "status": "True", "message": message, "reason": kind}
