"""Why a revision does not become ready, from conditions, pods and events: a sentence for a person."""

from typing import Any

from slipway.components.deploy.kserve.cluster import Cluster
from slipway.components.deploy.kserve.manifest import SERVICE_LABEL

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CRASH = ("CrashLoopBackOff", "RunContainerError", "CreateContainerConfigError", "Error")


def diagnose(cluster: Cluster, service: dict[str, Any], selector: str) -> str:
    """What stands in the way of a service's new revision.

    Args:
        cluster: where it runs.
        service: the InferenceService as last read.
        selector: labels of the new revision's pods.
    """
    name = service["metadata"]["name"]
    pods = cluster.list("Pod", labelSelector=f"{SERVICE_LABEL}={name},{selector}")
    for pod in pods:
        if found := _of_pod(cluster, pod):
            return found
    events = cluster.list("Event", fieldSelector="type=Warning")
    for event in sorted(events, key=lambda event: event.get("lastTimestamp") or "", reverse=True):
        about = event.get("involvedObject", {}).get("name", "")
        message = event.get("message", "")
        if about.startswith(name) and event.get("reason") in ("FailedCreate", "InternalError"):
            kind = "The namespace's quota" if "exceeded quota" in message else "The cluster"
            return f"{kind} does not let pods be created: {message}"
    status = service.get("status", {})
    failure = status.get("modelStatus", {}).get("lastFailureInfo") or {}
    if failure.get("message"):
        return f"KServe says {failure.get('reason', 'it failed')}: {failure['message']}"
    waiting = [
        f"{condition['type']}: {condition.get('reason', '')} {condition.get('message', '')}".strip()
        for condition in status.get("conditions", [])
        if condition.get("status") != "True" and condition.get("severity") != "Info"
    ]
    if waiting:
        return f"KServe's conditions say: {'; '.join(waiting)}"
    if not status:
        return "KServe has not looked at the InferenceService at all: is its controller running?"
    return f"its {len(pods)} pods run, but do not become ready"


def _of_pod(cluster: Cluster, pod: dict[str, Any]) -> str | None:
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
