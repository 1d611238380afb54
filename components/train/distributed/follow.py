"""A TrainJob from its creation to its end: what it prints, what holds it up, and what is left of it.

What Kubeflow Trainer 2.3 really does stands in docs/platform.md.
"""

import math
import re
import time
from dataclasses import dataclass, field

from slipway.components.support.documents import KubeObject
from slipway.components.support.errors import SlipwayError
from slipway.components.support.kubernetes.cluster import Cluster, created, last_seen
from slipway.components.support.retry import wait_until
from slipway.components.support.stage import progress
from slipway.components.train.process.preemption import stop_on_sigterm

KIND = "TrainJob"
POLL_SECONDS = 5.0
# A pod may take half a minute to end, and the job is kept until its last one has.
_DELETED_SECONDS = 300.0
# Refusals that no waiting ends, once they have stood for so long.
_REFUSED_SECONDS = 60.0
_CONTAINER = "node"


@dataclass(slots=True)
class TrainJobRunner:
    """Creates a TrainJob or finds it, follows it, and deletes it at the end.

    Attributes:
        cluster: the namespace that it runs in.
        poll_seconds: between two looks at the job.
    """

    cluster: Cluster
    poll_seconds: float = field(default_factory=lambda: POLL_SECONDS)
    _printed: str = ""
    _told: set[str] = field(default_factory=set)
    _refused_since: float | None = None

    def run(self, manifest: KubeObject) -> None:
        """Runs the job to its end.

        Raises:
            SlipwayError: the job failed, no pod of it may be made, it was deleted by someone else, or
                this task received SIGTERM.
        """
        name = manifest["metadata"]["name"]
        with stop_on_sigterm() as cancelled:
            self._start(name, manifest)

            def is_done() -> bool:
                if cancelled.is_set():
                    self.cluster.delete(KIND, name)
                    raise SlipwayError(
                        f"Training received SIGTERM; TrainJob {name} was deleted, its checkpoint"
                        " kept."
                    )
                return self._is_done(name)

            wait_until(is_done, timeout=math.inf, every=self.poll_seconds, clock=time)
        self.cluster.delete(KIND, name)

    def _is_done(self, name: str) -> bool:
        """One look. Whether the job is complete; what ended it otherwise is raised."""
        job = self.cluster.get(KIND, name)
        where = f"TrainJob {name} in namespace {self.cluster.namespace}"
        if job is None or job["metadata"].get("deletionTimestamp"):
            raise SlipwayError(f"{where} was deleted.")
        pods = self._pods(name)
        self._print_logs(pods)
        conditions = _conditions(job)
        if "Complete" in conditions:
            return True
        if "Failed" in conditions:
            raise SlipwayError(
                f"{where} failed: {conditions['Failed']}. It is kept to look at; the next try"
                " replaces it."
            )
        if "Suspended" in conditions:
            self._tell(f"{where} is suspended: {conditions['Suspended']} (a queue may hold it)")
        elif not pods and (refusal := self._refusal(name)):
            self._wait_or_give_up(name, refusal)
        else:
            self._refused_since = None
        return False

    def _start(self, name: str, manifest: KubeObject) -> None:
        """Creates the job, where no earlier try of the task has left one that can be followed."""
        found = self.cluster.get(KIND, name)
        if found is not None and "Failed" in _conditions(found):
            self.cluster.delete(KIND, name)
        self.cluster.wait_gone(KIND, name, _DELETED_SECONDS, self.poll_seconds)
        if self.cluster.get(KIND, name) is not None:
            progress(f"TrainJob {name} is there from an earlier try: following it")
            return
        self.cluster.create(manifest)
        nodes = manifest["spec"]["trainer"]["numNodes"]
        progress(f"TrainJob {name} created in namespace {self.cluster.namespace}, {nodes} nodes")

    def _wait_or_give_up(self, name: str, refusal: str) -> None:
        """A quota may have room later; other refusals stay."""
        if "exceeded quota" in refusal:
            self._tell(f"TrainJob {name} waits for the namespace's quota: {refusal}")
            return
        now = time.monotonic()
        self._refused_since = now if self._refused_since is None else self._refused_since
        if now - self._refused_since > _REFUSED_SECONDS:
            self.cluster.delete(KIND, name)
            raise SlipwayError(
                f"No pod of TrainJob {name} may be made in namespace {self.cluster.namespace}:"
                f" {refusal}. The job was deleted."
            )

    def _refusal(self, name: str) -> str:
        """The latest event that says why there is no pod; no condition of the job says it."""
        jobs = re.compile(rf"{re.escape(name)}(-{_CONTAINER}-\d+)?$")
        refusals = [
            event
            for event in self.cluster.list("Event", fieldSelector="type=Warning")
            if event.get("reason") in ("FailedCreate", "TrainJobResourcesCreationFailed")
            and jobs.match(event.get("involvedObject", {}).get("name", ""))
        ]
        return str(max(refusals, key=last_seen).get("message", "")) if refusals else ""

    def _pods(self, name: str) -> list[dict[str, object]]:
        """The first node's pods, the newest last: a job that is tried again has several."""
        selector = (
            f"jobset.sigs.k8s.io/jobset-name={name},batch.kubernetes.io/job-completion-index=0"
        )
        pods = self.cluster.list("Pod", labelSelector=selector)
        return sorted(pods, key=created)

    def _print_logs(self, pods: list[KubeObject]) -> None:
        """Prints what the first node has printed since the last look."""
        for pod in pods[-1:]:
            name = pod["metadata"]["name"]
            for moment, line in self.cluster.read_log(name, _CONTAINER, self._printed):
                print(line, flush=True)
                self._printed = moment

    def _tell(self, text: str) -> None:
        """Says it, but not again at every look."""
        if text not in self._told:
            self._told.add(text)
            progress(text)


def _conditions(job: KubeObject) -> dict[str, str]:
    """The conditions that hold, with their messages."""
    return {
        condition["type"]: condition.get("message") or "no reason given"
        for condition in job.get("status", {}).get("conditions", [])
        if condition["status"] == "True"
    }
