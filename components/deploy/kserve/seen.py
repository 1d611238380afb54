"""What one look at a cluster shows of an InferenceService: its status, and the pods behind it.

A pod carries the labels of the predictor that it was made from, so it tells its revision itself.
"""

from dataclasses import dataclass

from slipway.components.deploy.kserve.manifest import REVISION
from slipway.components.support.documents import KubeObject

_KNATIVE_REVISION = "serving.knative.dev/revision"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedService:
    """An InferenceService and its pods, as read one after the other."""

    service: KubeObject
    pods: list[KubeObject]

    @property
    def status(self) -> KubeObject:
        """What KServe says; it may be of a moment ago."""
        found: KubeObject = self.service.get("status", {})
        return found

    @property
    def component(self) -> KubeObject:
        """The predictor's part of the status; in mode Standard it has no revisions."""
        found: KubeObject = self.status.get("components", {}).get("predictor", {})
        return found

    @property
    def is_ready(self) -> bool:
        """The condition Ready: of the service as it was when KServe last looked."""
        conditions = self.status.get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    @property
    def address(self) -> str:
        """The base URL of the endpoint, inside the cluster where there is one."""
        url = (self.status.get("address") or {}).get("url") or self.status.get("url") or ""
        return str(url).rstrip("/")

    @property
    def share_of_latest(self) -> int:
        """Knative: percent of the traffic that goes to the latest ready revision."""
        latest = self.component.get("latestReadyRevision")
        return sum(
            target.get("percent") or 0
            for target in self.component.get("traffic", [])
            if target.get("revisionName") == latest
        )

    def any_ready(self) -> bool:
        """Whether anything serves at all."""
        return any(_is_ready(pod) for pod in self.pods)

    def runs(self, workload: str, revision: str | None) -> bool:
        """Standard: whether all pods of a Deployment are of one revision, and ready.

        Pods of the revision before live until enough new ones are ready, so none of them left means
        that the Deployment's update is through.
        """
        # KServe's label of a Deployment's pods: constants.GetRawServiceLabel.
        pods = [
            pod for pod in self.pods if _label(pod, "app") == f"isvc.{workload}" and _lives(pod)
        ]
        return bool(pods) and all(_is_ready(p) and _label(p, REVISION) == revision for p in pods)

    def latest_ready(self, revision: str | None) -> bool:
        """Knative: whether the latest revision is ready, and is the one that was applied.

        Which revision the latest one is, its own pods tell: the status may still name the one before.
        """
        latest = self.component.get("latestCreatedRevision")
        return (
            bool(latest)
            and latest == self.component.get("latestReadyRevision")
            and any(
                _is_ready(pod) and _label(pod, REVISION) == revision
                for pod in self.pods
                if _label(pod, _KNATIVE_REVISION) == latest
            )
        )

    @property
    def rolled_out(self) -> str:
        """Knative: the revision that gets what the canary does not: KServe's latestRolledoutRevision."""
        return str(self.component.get("latestRolledoutRevision") or "")

    def is_rolled_out(self, revision: str | None) -> bool:
        """Knative: whether that revision was made from this predictor, as its pods tell."""
        return any(
            _label(pod, REVISION) == revision
            for pod in self.pods
            if _label(pod, _KNATIVE_REVISION) == self.rolled_out
        )

    def addresses(self, port: int) -> list[str]:
        """Base URLs of the ready pods."""
        ips = [pod["status"].get("podIP", "") for pod in self.pods if _is_ready(pod)]
        return [f"http://[{ip}]:{port}" if ":" in ip else f"http://{ip}:{port}" for ip in ips if ip]

    def of_revision(self, revision: str | None) -> list[KubeObject]:
        """The pods of one revision, but for those that are being deleted."""
        return [p for p in self.pods if _label(p, REVISION) == revision and _lives(p)]


def _label(pod: KubeObject, name: str) -> str | None:
    value: str | None = pod["metadata"].get("labels", {}).get(name)
    return value


def _lives(pod: KubeObject) -> bool:
    ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not ended and not pod["metadata"].get("deletionTimestamp")


def _is_ready(pod: KubeObject) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return _lives(pod) and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
