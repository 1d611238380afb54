"""Why a revision does not become ready, from pods, events and conditions: a sentence for a person.

Only what still holds is a diagnosis. An event is history: a refusal of pods counts until a later pod of
the revision was created, and a status conflict ("Operation cannot be fulfilled": KServe wrote a status
that somebody had written before) never does, since the controller tries again at once.
"""

import re

from slipway.components.deploy.kserve.seen import ObservedService
from slipway.components.support.documents import KubeObject
from slipway.components.support.kubernetes.cluster import NEVER, Cluster, Moment, created, last_seen

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CRASH = ("CrashLoopBackOff", "RunContainerError", "CreateContainerConfigError", "Error")
_CONFLICT = "Operation cannot be fulfilled"
# The ReplicaSets of a service's predictors, canaries among them.
_REPLICA_SETS = r"{service}-(v\d+(-next)?-)?predictor-"


def diagnose(cluster: Cluster, seen: ObservedService, revision: str | None) -> str:
    """What stands in the way of a service's new revision.

    Args:
        cluster: where it runs.
        seen: the InferenceService and its pods, as last read.
        revision: the new revision, as its pods are labelled.
    """
    pods = seen.of_revision(revision)
    for pod in pods:
        if found := _of_pod(cluster, pod):
            return found
    newest = max(map(created, pods), default=NEVER)
    if refused := _refusal(cluster, seen.service["metadata"]["name"], newest):
        return refused
    failure = seen.status.get("modelStatus", {}).get("lastFailureInfo") or {}
    if failure.get("message"):
        return f"KServe says {failure.get('reason', 'it failed')}: {failure['message']}"
    waiting = [
        f"{condition['type']}: {condition.get('reason', '')} {condition.get('message', '')}".strip()
        for condition in seen.status.get("conditions", [])
        if condition.get("status") != "True" and _matters(condition)
    ]
    if waiting:
        return f"KServe's conditions say: {'; '.join(waiting)}"
    if not seen.status:
        return "KServe has not looked at the InferenceService at all: is its controller running?"
    return f"its {len(pods)} pods run, but do not become ready"


def _matters(condition: KubeObject) -> bool:
    """Not `Stopped`, which is False where all is well, and nothing that is for information only."""
    return condition["type"] != "Stopped" and condition.get("severity") != "Info"


def _refusal(cluster: Cluster, service: str, newest: Moment) -> str | None:
    """The latest event that says why no further pod of a service is made."""
    events = cluster.list("Event", fieldSelector="type=Warning")
    for event in sorted(events, key=last_seen, reverse=True):
        about, message = event.get("involvedObject", {}), event.get("message", "")
        if event.get("reason") == "FailedCreate":
            ours = re.match(_REPLICA_SETS.format(service=service), about.get("name", ""))
            if not ours or last_seen(event) < newest:
                continue
            if "exceeded quota" in message:
                return f"The namespace's quota does not let pods be created: {message}"
            if "violates PodSecurity" in message:
                hint = " `slipway doctor` shows the patch" * ("storage-initializer" in message)
                return f"The namespace's Pod Security level refuses the pods: {message}.{hint}"
            return f"The cluster does not let pods be created: {message}"
        if event.get("reason") == "InternalError" and about.get("name") == service:
            if _CONFLICT in message or last_seen(event) < newest:
                continue
            return f"KServe's controller fails: {message}"
    return None


def _of_pod(cluster: Cluster, pod: KubeObject) -> str | None:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for condition in status.get("conditions", []):
        if condition.get("reason") == "Unschedulable":
            message = condition.get("message", "")
            hint = ""
            if "nvidia.com/gpu" in message or "gpu" in message.lower():
                hint = " No node has a free GPU: set deployment.resources.gpus to 0, or add nodes."
            return f"pod {name} fits on no node: {message}.{hint}"
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    for container in containers:
        state, last = container.get("state", {}), container.get("lastState", {})
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        reason = waiting.get("reason") or ended.get("reason") or ""
        if reason in _IMAGE:
            return (
                f"the image {container.get('image')} cannot be pulled for pod {name}:"
                f" {waiting.get('message', reason)}. Check images/images.lock.yaml and the pull secret"
            )
        if reason == "OOMKilled" or (last.get("terminated") or {}).get("reason") == "OOMKilled":
            return (
                f"container {container['name']} of pod {name} needs more memory than its limit: set"
                " deployment.resources.max_memory higher"
            )
        if reason in _CRASH:
            previous = bool(last.get("terminated"))
            words = cluster.logs(name, container["name"], previous=previous)
            said = " | ".join(words.splitlines()[-5:]) or waiting.get("message", "nothing")
            return (
                f"container {container['name']} of pod {name} ends with {reason}; it says: {said}"
            )
    return None
