"""KServe's controller and webhooks for InferenceServices, of release 0.20 or 0.21.

Asynchronous, as the real one: a look at its cache, which may be a moment old, then the objects, then the
status, refused if the object changed meanwhile ("Operation cannot be fulfilled", an event InternalError).

What it leans on (kserve/kserve, pkg/controller/v1beta1/inferenceservice unless another path is given):

- names and labels: constants.go PredictorServiceName, GetRawServiceLabel; predictor.go buildObjectMeta:
  the InferenceService's labels and annotations are the pods' too, so a changed one restarts them.
- Standard: predictor.go reconcileRawDeployment, reconcileCanaryDeployments: in 0.20 the stable
  predictor gives replicas to a canary that is not ready yet; predictors that the spec no longer names
  are deleted at once, and their Services.
- status: pkg/apis/serving/v1beta1/inference_service_status.go, PropagateRawStatus (conditions and
  observedGeneration are the Deployment's, as they were before the update) and PropagateStatus (the
  Knative Service's, with latest, previous and rolled-out revisions).
- address: reconcilers/ingress, getRawServiceHost: the host of the predictor's own name.
- routes: httproute_reconciler.go, not before the predictor is ready; weights for canaries only since
  kserve#5912 and by readiness since kserve#5984, both after 0.20.0, and only with the Gateway API.
- Knative traffic: reconcilers/knative/ksvc_reconciler.go, createKnativeService.
- webhook: pkg/apis/serving/v1beta1/inference_service_validation.go.
"""

import copy
import math
import random
from typing import Any

from support.knative_double import Knative
from support.kube_api import KubeApi, Object
from support.kube_workloads import Deployment, Workloads
from support.sim_clock import SimClock

KIND = "inferenceservices"
SERVICE = "serving.kserve.io/inferenceservice"
WEBHOOK = (
    'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: '
)
_EXTENSION = (
    "name",
    "labels",
    "annotations",
    "minReplicas",
    "maxReplicas",
    "scaleTarget",
    "scaleMetric",
    "autoScaling",
    "canaryTrafficPercent",
)


class KServe:
    """One InferenceService's controller; the name is the one that is applied."""

    def __init__(
        self, clock: SimClock, api: KubeApi, work: Workloads, rng: random.Random, release: str
    ) -> None:
        self.clock, self.api, self.work, self.rng, self.release = clock, api, work, rng, release
        self.knative = Knative(clock, work, rng, self.kick)
        self.weights: dict[str, int] = {}
        self.security: Object | None = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        self._cache: list[Object] = []
        self._name = ""
        self._busy = self._again = False
        self._programmed: tuple[str, ...] | None = None
        work.inject = self._inject
        work.watchers.append(lambda _: self.kick())
        work.watchers.append(self.knative.pods_changed)
        api.changed[KIND] = self._changed
        api.admit[KIND] = self._admit

    # Webhooks.

    def _admit(self, old: Object | None, new: Object) -> str | None:
        for container in new["spec"]["predictor"].get("containers", []):
            container.setdefault("resources", {})
            for port in container.get("ports", []):
                port.setdefault("protocol", "TCP")
        mode = new["metadata"]["annotations"].get("serving.kserve.io/deploymentMode")
        predictor, canaries = new["spec"]["predictor"], new["spec"].get("canary", [])
        least, most = predictor.get("minReplicas", 1), predictor.get("maxReplicas", 0)
        if most and least > most:
            return WEBHOOK + "'MinReplicas' cannot be greater than MaxReplicas"
        running = (old or {}).get("status", {}).get("deploymentMode")
        if running and mode != running:
            return (
                f"{WEBHOOK}update rejected: deploymentMode cannot be changed from '{running}' to"
                f" '{mode}'"
            )
        renamed = old and old["spec"]["predictor"].get("name") != predictor.get("name")
        if renamed and _uri(old["spec"]["predictor"]) == _uri(predictor):  # type: ignore[index]
            return WEBHOOK + "predictor.name change requires a model change (e.g. storageUri)"
        if canaries and mode != "Standard":
            return WEBHOOK + "canary is only supported in Standard deployment mode"
        for entry in canaries:
            name = entry["predictor"].get("name", "")
            if not name or name == predictor.get("name", ""):
                return (
                    f'{WEBHOOK}canary predictor.name "{name}" conflicts with stable predictor name'
                )
            if entry["predictor"].get("maxReplicas"):
                return f'{WEBHOOK}canary "{name}" must not set maxReplicas'
            if entry["predictor"].get("minReplicas", 1) > least:
                return f'{WEBHOOK}canary "{name}" minReplicas must not exceed stable predictor'
        return None

    def _inject(self, spec: Object) -> Object:
        """The pod webhook: the storage initializer, with the context that its definition has."""
        container: Object = {"name": "storage-initializer"}
        if self.security is not None:
            container["securityContext"] = self.security
        return spec | {"initContainers": [container]}

    # The controller's loop.

    def _changed(self, name: str) -> None:
        self._name = name
        found = self.api.objects.get((KIND, name))
        self._cache = [*self._cache[-1:], found] if found else []
        if found is None:
            self._children_go()
        self.kick()

    def kick(self) -> None:
        """Something changed. One object is worked on by one worker at a time (controller-runtime)."""
        if self._busy:
            self._again = True
        elif self._name:
            self._busy = True
            self.clock.after(self.rng.uniform(0.05, 1.0), self._look)

    def _done(self) -> None:
        self._busy = False
        if self._again:
            self._again = False
            self.kick()

    def _look(self) -> None:
        if not self._cache:
            self._done()
            return
        stale = len(self._cache) > 1 and self.rng.random() < 0.2
        read = self._cache[0 if stale else -1]
        if stale:
            self._again = True  # its cache is told of the change in a moment
        else:
            self._cache = self._cache[-1:]
        self.clock.after(self.rng.uniform(0.05, 0.5), lambda: self._act(read))

    def _act(self, read: Object) -> None:
        found = self.api.objects.get((KIND, self._name))
        if found is None or found["metadata"]["uid"] != read["metadata"]["uid"]:
            self._done()
            return
        if "deletionTimestamp" in found["metadata"]:
            self.clock.after(self.rng.uniform(0.5, 5), self._finalize)
            self._done()
            return
        if not found["metadata"].get("finalizers"):
            marked = copy.deepcopy(found)
            marked["metadata"]["finalizers"] = ["inferenceservice.finalizers"]
            self.api.store(KIND, self._name, marked)
            self._done()
            return
        status = copy.deepcopy(read.get("status", {}))
        mode = read["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
        status["deploymentMode"] = mode
        again = (
            self._standard(read, status) if mode == "Standard" else self._serverless(read, status)
        )
        both = [_condition(status, "PredictorReady"), _condition(status, "IngressReady")]
        ready = "False" if "False" in both else "True" if both == ["True"] * 2 else "Unknown"
        _set(status, "Ready", ready)
        self.clock.after(self.rng.uniform(0.05, 0.5), lambda: self._write(read, status))
        if again:
            self.clock.after(1.0, self.kick)

    def _write(self, read: Object, status: Object) -> None:
        if not self.api.write_status(KIND, self._name, read, status):
            text = (
                f"fails to update InferenceService status: Operation cannot be fulfilled on"
                f' inferenceservices.serving.kserve.io "{self._name}": the object has been modified;'
                " please apply your changes to the latest version and try again"
            )
            self.api.warn("InferenceService", self._name, "InternalError", text)
            self._again = True
        self._done()

    def _finalize(self) -> None:
        if (KIND, self._name) in self.api.objects:
            self.api.remove(KIND, self._name)

    def _children_go(self) -> None:
        for name in list(self.work.deployments):
            self.work.remove(name)
        self.knative.clear()
        self.weights, self._programmed = {}, None

    # Standard.

    def _standard(self, read: Object, status: Object) -> bool:
        spec = read["spec"]
        stable = self._workload(spec["predictor"])
        steps = [lambda: self._stable(read, status, stable), lambda: self._canaries(read, status)]
        for step in steps if self.release == "0.20" else reversed(steps):
            step()
        expected = {stable, *(self._workload(c["predictor"]) for c in spec.get("canary", []))}
        for name in sorted(set(self.work.deployments) - expected):
            self.work.remove(name)
        return self._ingress(spec, status, stable)

    def _workload(self, predictor: Object) -> str:
        name = predictor.get("name")
        return f"{self._name}-{name}-predictor" if name else f"{self._name}-predictor"

    def _template(self, read: Object, predictor: Object, name: str) -> Object:
        labels = read["metadata"].get("labels", {}) | predictor.get("labels", {})
        labels |= {SERVICE: self._name, "component": "predictor", "app": f"isvc.{name}"}
        pod = {k: v for k, v in predictor.items() if k not in _EXTENSION}
        return {"labels": labels, "annotations": read["metadata"]["annotations"], "spec": pod}

    def _stable(self, read: Object, status: Object, name: str) -> None:
        predictor, canaries = read["spec"]["predictor"], read["spec"].get("canary", [])
        replicas = predictor.get("minReplicas", 1)
        readiness = {s["name"]: s["ready"] for s in status.get("canaryStatuses", [])}
        given = sum(
            _canary_replicas(predictor, entry)
            for entry in canaries
            if self.release == "0.20" or readiness.get(entry["predictor"]["name"])
        )
        before = copy.copy(self.work.deployments.get(name))
        autoscaler = read["metadata"]["annotations"].get("serving.kserve.io/autoscalerClass")
        wanted = max(replicas - given, 1) if canaries else replicas
        fixed = wanted if autoscaler == "none" or before is None else None
        self.work.put(name, self._template(read, predictor, name), fixed)
        _raw_status(status, before)

    def _canaries(self, read: Object, status: Object) -> None:
        statuses, stable = [], read["spec"]["predictor"]
        for entry in read["spec"].get("canary", []):
            merged = copy.deepcopy(stable) | {
                k: (stable.get(k, {}) | v if isinstance(v, dict) else v)
                for k, v in entry["predictor"].items()
            }
            name = self._workload(merged)
            replicas = _canary_replicas(stable, entry)
            made = self.work.put(name, self._template(read, merged, name), replicas)
            ready = bool(self.work.ready(name)) and made.observed > 0
            percent = entry["trafficPercent"]
            statuses.append({"name": merged["name"], "ready": ready, "trafficPercent": percent})
        status["canaryStatuses"] = statuses

    def _ingress(self, spec: Object, status: Object, stable: str) -> bool:
        """The route: it is not looked at while the predictor is not ready. True: look again."""
        if _condition(status, "PredictorReady") != "True":
            _set(status, "IngressReady", "False", "Predictor ingress not created")
            return False
        weights = {stable: 100}
        if self.release != "0.20":
            readiness = {s["name"]: s["ready"] for s in status["canaryStatuses"]}
            for entry in spec.get("canary", []):
                if readiness.get(entry["predictor"]["name"]):
                    weights[self._workload(entry["predictor"])] = entry["trafficPercent"]
                    weights[stable] -= entry["trafficPercent"]

        def program() -> None:
            self.weights, self._programmed = weights, (stable,)

        if weights != self.weights:
            self.clock.after(self.rng.uniform(0.1, 3), program)
        if self._programmed != (stable,):
            _set(status, "IngressReady", "False", "HTTPRoute not ready")
            return True
        _set(status, "IngressReady", "True")
        status["url"] = f"http://{self._name}-models.example.com"
        status["address"] = {"url": f"http://{stable}.models.svc.cluster.local"}
        return False

    # Knative.

    def _serverless(self, read: Object, status: Object) -> bool:
        predictor = read["spec"]["predictor"]
        component = status.setdefault("components", {}).setdefault("predictor", {})
        share, rolled = (
            predictor.get("canaryTrafficPercent"),
            component.get("latestRolledoutRevision"),
        )
        tag = "latest" if _ENABLED.items() <= read["metadata"]["annotations"].items() else None
        traffic = [{"latest": True, "percent": 100, "tag": tag}]
        if share is not None and rolled:
            traffic[0]["percent"] = share
            if share < 100:
                prev = {"latest": False, "revision": rolled, "percent": 100 - share, "tag": "prev"}
                traffic.append(prev)
        template = self._template(read, predictor, f"{self._name}-predictor")
        least = predictor.get("minReplicas", 1)
        template["annotations"] = template["annotations"] | {"min-scale": str(least)}
        known = copy.deepcopy(self.knative.status)
        self.knative.put(f"{self._name}-predictor", template, traffic, least)
        _propagate(status, component, known)
        if _condition(status, "PredictorReady") == "True":
            _set(status, "IngressReady", "True")
            status["url"] = f"http://{self._name}.models.example.com"
            status["address"] = {"url": f"http://{self._name}.models.svc.cluster.local"}
        elif _condition(status, "IngressReady") is None:
            _set(status, "IngressReady", "Unknown")
        return False


_ENABLED = {"serving.kserve.io/enable-tag-routing": "true"}


def _canary_replicas(stable: Object, entry: Object) -> int:
    own = entry["predictor"].get("minReplicas")
    share = math.ceil(stable.get("minReplicas", 1) * entry["trafficPercent"] / 100)
    return share if own is None else int(own)


def _raw_status(status: Object, deployment: Deployment | None) -> None:
    """PropagateRawStatus."""
    if deployment is None or deployment.available is None:
        _set(status, "PredictorReady", "False")
        return
    state, reason = (
        ("True", "") if deployment.available else ("False", "MinimumReplicasUnavailable")
    )
    if deployment.failure:
        state, reason = "False", deployment.failure
    _set(status, "PredictorReady", state, reason)
    status["observedGeneration"] = deployment.observed
    status.setdefault("components", {}).setdefault("predictor", {})


def _propagate(status: Object, component: Object, known: dict[str, Any]) -> None:
    """PropagateStatus."""
    created, ready = known.get("latestCreated"), known.get("latestReady")
    component["latestCreatedRevision"] = created
    by_revision: dict[str, int] = {}
    for target in known.get("traffic", []):
        name = target["revisionName"]
        by_revision[name] = by_revision.get(name, 0) + target["percent"]
    for target in known.get("traffic", []):
        if target["revisionName"] != ready or not target["latestRevision"]:
            continue
        if component.get("latestRolledoutRevision") != ready:
            if target["percent"] == 100:
                component["previousRolledoutRevision"] = component.get("latestRolledoutRevision")
                component["latestRolledoutRevision"] = ready
        elif ready == created and target["percent"] < 100 and by_revision[ready] == 100:
            previous = component.get("previousRolledoutRevision")
            component["latestRolledoutRevision"] = previous or ready
    component["latestReadyRevision"] = ready
    component["traffic"] = known.get("traffic", [])
    if known.get("ready") is not None:
        _set(status, "PredictorReady", known["ready"])
    if known.get("observed"):
        status["observedGeneration"] = known["observed"]


def _condition(status: Object, kind: str) -> str | None:
    found = (c["status"] for c in status.get("conditions", []) if c["type"] == kind)
    return next(found, None)


def _set(status: Object, kind: str, state: str, reason: str = "") -> None:
    kept = [c for c in status.get("conditions", []) if c["type"] != kind]
    status["conditions"] = [*kept, {"type": kind, "status": state, "reason": reason}]


def _uri(predictor: Object) -> str:
    environment = predictor["containers"][0].get("env", [])
    return next((e.get("value", "") for e in environment if e["name"] == "STORAGE_URI"), "")
