"""Deployments and their pods, each step a while after the other.

- a Deployment is updated pod by pod: it adds at most a quarter more pods, rounded up, and takes none
  away before enough are available, a quarter rounded down (kubernetes, pkg/controller/deployment,
  rolling.go; the shares are KServe's: deployment_reconciler.go, setDefaultDeploymentSpec).
- `Available` is False while fewer are ready than that allows, so also while a Deployment grows.
- a pod that admission refuses is an event of the ReplicaSet, `FailedCreate`, tried again ever later; the
  Deployment gets the condition ReplicaFailure.
- a deleted pod answers for a moment yet, and its endpoint goes a moment after it.
"""

import copy
import itertools
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.kube_api import KubeApi, Object
from support.sim_clock import SimClock

VERSION = "slipway.dev/model-version"
_LINGER_SECONDS = 5.0


@dataclass
class Deployment:
    """What the controllers read of a Deployment."""

    name: str
    template: Object
    replicas: int = 1
    generation: int = 1
    observed: int = 0
    available: bool | None = None
    progressing: str = ""
    failure: str = ""
    backoff: float = 1.0
    uid: int = 0

    @property
    def hash(self) -> str:
        return f"{abs(hash(json.dumps(self.template, sort_keys=True))) % 10**9}"


class Workloads:
    """All Deployments of the namespace; `broken` maps a model version to the status of its pods."""

    def __init__(self, clock: SimClock, api: KubeApi, rng: random.Random) -> None:
        self.clock, self.api, self.rng = clock, api, rng
        self.deployments: dict[str, Deployment] = {}
        self.pods: dict[str, Object] = {}
        self.endpoints: dict[str, set[str]] = {}
        self.broken: dict[str, Object] = {}
        self.quota_pods = 100
        self.enforce = "restricted"
        self.inject: Callable[[Object], Object] = lambda spec: spec
        self.watchers: list[Callable[[str], None]] = []
        self._numbers = itertools.count(1)
        self._due: set[str] = set()

    def put(self, name: str, template: Object, replicas: int | None) -> Deployment:
        """Creates or updates a Deployment; replicas None: an autoscaler's business."""
        found = self.deployments.get(name)
        if found is None:
            found = Deployment(name, template, replicas or 1, uid=next(self._numbers))
            self.deployments[name] = found
        elif found.template != template or replicas not in (None, found.replicas):
            found.template = template
            found.replicas = found.replicas if replicas is None else replicas
            found.generation += 1
        else:
            return found
        self._kick(name)
        return found

    def scale(self, name: str, replicas: int) -> None:
        found = self.deployments[name]
        if found.replicas != replicas:
            found.replicas, found.generation = replicas, found.generation + 1
            self._kick(name)

    def remove(self, name: str) -> None:
        """Deletes it; its pods follow in the background, also where a new one of its name is there."""
        del self.deployments[name]
        self.clock.after(self.rng.uniform(0.05, 1.5), lambda: self._collect(name))

    def _collect(self, name: str) -> None:
        found = self.deployments.get(name)
        for pod in self.of(name):
            if found is None or pod["_uid"] != found.uid:
                self._end(pod)

    def of(self, deployment: str) -> list[Object]:
        return [p for p in self.pods.values() if p["_of"] == deployment]

    def ready(self, deployment: str) -> list[Object]:
        return [p for p in self.of(deployment) if is_ready(p)]

    def answering(self, deployment: str) -> list[Object]:
        """Pods that a Service of this name leads to, and that answer."""
        names = self.endpoints.get(deployment, set())
        return [self.pods[n] for n in sorted(names) if n in self.pods]

    def shown(self) -> list[Object]:
        """The pods as a client lists them; nothing reads their long specs."""
        return [{k: p[k] for k in ("metadata", "status")} for p in self.pods.values()]

    def _kick(self, name: str, least: float = 0.05, most: float = 1.5) -> None:
        if name not in self._due:
            self._due.add(name)
            self.clock.after(self.rng.uniform(least, most), lambda: self._reconcile(name))

    def _reconcile(self, name: str) -> None:
        self._due.discard(name)
        found = self.deployments.get(name)
        if found is None:
            return
        found.observed = found.generation
        surge, unavailable = math.ceil(found.replicas / 4), found.replicas // 4
        living = [p for p in self.of(name) if lives(p) and p["_uid"] == found.uid]
        new = [p for p in living if p["_hash"] == found.hash]
        old = [p for p in living if p["_hash"] != found.hash]
        found.failure = ""
        while len(new) < found.replicas and len(new) + len(old) < found.replicas + surge:
            pod = self._create(found)
            if pod is None:
                break
            new.append(pod)
        for pod in sorted(new, key=is_ready)[: max(0, len(new) - found.replicas)]:
            self._end(pod)
            new.remove(pod)
        least = found.replicas - unavailable
        for pod in sorted(old, key=is_ready):
            left = sum(map(is_ready, [*new, *old])) - is_ready(pod)
            if left >= least:
                self._end(pod)
                old.remove(pod)
        ready = sum(map(is_ready, [*new, *old]))
        found.available = ready >= least
        done = len(new) == found.replicas == sum(map(is_ready, new)) and not old
        found.progressing = "NewReplicaSetAvailable" if done else "ReplicaSetUpdated"
        for watch in self.watchers:
            watch(name)

    def _create(self, deployment: Deployment) -> Object | None:
        name = f"{deployment.name}-{deployment.hash[:5]}-{next(self._numbers):05d}"
        spec = self.inject(deployment.template["spec"])
        refusal = self._refusal(name, spec)
        if refusal:
            deployment.failure = refusal
            set_name = f"{deployment.name}-{deployment.hash[:5]}"
            self.api.warn("ReplicaSet", set_name, "FailedCreate", refusal)
            deployment.backoff = min(deployment.backoff * 2, 60)
            self.clock.after(deployment.backoff, lambda: self._kick(deployment.name))
            return None
        deployment.backoff = 1.0
        labels = dict(deployment.template["labels"])
        pod: Object = {
            "metadata": {
                "name": name,
                "labels": labels,
                "creationTimestamp": self.clock.stamp(),
            },
            "spec": spec,
            "status": {"phase": "Pending", "conditions": []},
            "_of": deployment.name,
            "_hash": deployment.hash,
            "_uid": deployment.uid,
        }
        self.pods[name] = pod
        self.clock.after(self.rng.uniform(1, 20), lambda: self._start(pod))
        return pod

    def _refusal(self, name: str, spec: Object) -> str | None:
        if self.enforce == "restricted" and (why := violations(spec)):
            return f'pods "{name}" is forbidden: violates PodSecurity "restricted:latest": {why}'
        used = sum(map(lives, self.pods.values()))
        if used >= self.quota_pods:
            return (
                f'pods "{name}" is forbidden: exceeded quota: compute, requested: pods=1,'
                f" used: pods={used}, limited: pods={self.quota_pods}"
            )
        return None

    def _start(self, pod: Object) -> None:
        name, version = pod["metadata"]["name"], pod["metadata"]["labels"].get(VERSION, "")
        if name not in self.pods or not lives(pod):
            return
        number = int(name.rsplit("-", 1)[1])
        pod["status"]["podIP"] = f"10.0.{number // 250}.{number % 250 + 1}"
        pod["status"]["phase"] = "Running"
        if version in self.broken:
            pod["status"] |= {"conditions": [{"type": "Ready", "status": "False"}]}
            pod["status"] |= copy.deepcopy(self.broken[version])
        else:
            pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
            self._route(pod, there=True)
        self._kick(pod["_of"])

    def _end(self, pod: Object) -> None:
        if not lives(pod):
            return
        name = pod["metadata"]["name"]
        pod["metadata"]["deletionTimestamp"] = self.clock.stamp()
        self._route(pod, there=False)
        self.clock.after(_LINGER_SECONDS, lambda: self._gone(name))

    def _gone(self, name: str) -> None:
        pod = self.pods.pop(name)
        self._kick(pod["_of"])

    def _route(self, pod: Object, *, there: bool) -> None:
        """The Service's endpoints follow the pod."""

        def do() -> None:
            names = self.endpoints.setdefault(pod["_of"], set())
            (names.add if there and lives(pod) else names.discard)(pod["metadata"]["name"])

        self.clock.after(self.rng.uniform(0, 1), do)


def lives(pod: Object) -> bool:
    return "deletionTimestamp" not in pod["metadata"]


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return lives(pod) and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def violations(spec: dict[str, Any]) -> str:
    """The restricted profile of the Pod Security Standards, as far as containers differ in it."""
    pod = spec.get("securityContext", {})
    found = []
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        name, own = container["name"], container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            found.append(
                f'allowPrivilegeEscalation != false (container "{name}" must set'
                " securityContext.allowPrivilegeEscalation=false)"
            )
        if "ALL" not in own.get("capabilities", {}).get("drop", []):
            found.append(
                f'unrestricted capabilities (container "{name}" must set'
                ' securityContext.capabilities.drop=["ALL"])'
            )
        if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
            found.append(f'runAsNonRoot != true (pod or container "{name}" must set it)')
        if not (own.get("seccompProfile") or pod.get("seccompProfile")):
            found.append(f'seccompProfile (pod or container "{name}" must set it)')
    return ", ".join(found)
