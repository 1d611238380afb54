"""A Knative Service: revisions, and a route between them (knative/serving 1.18).

- the Configuration makes a revision of each changed template, named by its generation
  (pkg/reconciler/configuration); the latest ready one is the newest that became ready.
- the Service's status follows Configuration and Route, each when it has seen its own change: until then
  Ready is Unknown (pkg/reconciler/service/service.go).
- unless the template names its revision, the Route is changed while the Configuration still works
  (service.go, reconcile: only "BYO-Revision" waits), so its traffic may be told of before the revision
  is: `early_routes` is the share of changes in which that happens.
- a route to the latest revision leads to the latest ready one; a revision that no route names is scaled
  to zero after a while, whatever its least scale says (pkg/reconciler/autoscaling/kpa).
"""

import random
from collections.abc import Callable
from typing import Any

from support.kube_api import Object
from support.kube_workloads import Workloads
from support.sim_clock import SimClock

REVISION = "serving.knative.dev/revision"


class Knative:
    """One Knative Service; `tell` is called whenever its status changes."""

    def __init__(
        self, clock: SimClock, work: Workloads, rng: random.Random, tell: Callable[[], None]
    ) -> None:
        self.clock, self.work, self.rng, self.tell = clock, work, rng, tell
        self.early_routes = 0.0
        self.clear()

    def clear(self) -> None:
        self.status: dict[str, Any] = {}
        self.weights: dict[str, int] = {}
        self.revisions: dict[str, int] = {}
        self._spec: Any = None
        self._generation = 0
        self._template: Object | None = None
        self._made = 0
        self._seen_ready: set[str] = set()

    def put(self, name: str, template: Object, traffic: list[Object], least: int) -> None:
        spec = (name, template, traffic, least)
        if spec == self._spec:
            return
        self._spec, self._generation = spec, self._generation + 1
        delay = self.rng.uniform(0.05, 1.0)
        if self.early_routes and self.rng.random() < self.early_routes:
            self.clock.after(delay, self._route_early)
            delay += self.rng.uniform(0.5, 3)
        self.clock.after(delay, self._configure)

    def deployment(self, revision: str) -> str:
        return f"{revision}-deployment"

    def _configure(self) -> None:
        if self._spec is None:
            return
        name, template, _, least = self._spec
        if template != self._template:
            self._template, self._made = template, self._made + 1
            revision = f"{name}-{self._made:05d}"
            self.revisions[revision] = least
            labels = template["labels"] | {REVISION: revision}
            del labels["app"]
            self.work.put(self.deployment(revision), template | {"labels": labels}, least)
            self.status["latestCreated"] = revision
        self.status["ready"] = "Unknown"
        self.tell()
        self.clock.after(self.rng.uniform(0.05, 1.5), self._route)

    def pods_changed(self, deployment: str) -> None:
        revision = deployment.removesuffix("-deployment")
        if revision not in self.revisions or revision in self._seen_ready:
            return
        if self.work.ready(deployment):
            self._seen_ready.add(revision)
            self.status["latestReady"] = max(self._seen_ready)
            self.tell()
            self.clock.after(self.rng.uniform(0.05, 1.5), self._route)

    def _route_early(self) -> None:
        self._route()
        self.status["ready"] = "Unknown"  # the Configuration is not reconciled
        self.tell()

    def _route(self) -> None:
        ready = self.status.get("latestReady")
        if self._spec is None or ready is None:
            return
        weights: dict[str, int] = {}
        shown = []
        for target in self._spec[2]:
            revision = ready if target["latest"] else target["revision"]
            weights[revision] = weights.get(revision, 0) + target["percent"]
            shown.append(
                {
                    "revisionName": revision,
                    "latestRevision": target["latest"],
                    "percent": target["percent"],
                    "tag": target["tag"],
                    "url": f"http://{target['tag']}-{self._spec[0]}.models.example.com",
                }
            )
        self.weights = weights
        self.status["traffic"] = shown
        self.status["observed"] = self._generation
        self.status["ready"] = "True" if ready == self.status["latestCreated"] else "Unknown"
        for revision, least in self.revisions.items():
            if revision in weights:
                self.work.scale(self.deployment(revision), least)
            elif revision != self.status["latestCreated"]:
                self.clock.after(self.rng.uniform(20, 60), lambda r=revision: self._idle(r))
        self.tell()

    def _idle(self, revision: str) -> None:
        routed = revision in self.weights or revision == self.status.get("latestCreated")
        if revision in self.revisions and not routed:
            self.work.scale(self.deployment(revision), 0)
