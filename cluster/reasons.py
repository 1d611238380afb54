"""Why stages of a run failed, where Kubeflow's API does not say: from their pods, else from the workflow.

The details of a run have no error (docs/platform.md). The pod of a stage has printed one, or the cluster
says what became of it; once the pods are gone, Argo's workflow still has a message for each node.
"""

import base64
import json
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from slipway.cluster.cluster_api import cluster_client
from slipway.cluster.logs import MAIN, RUN_LABEL, stage_of
from slipway.cluster.runs import RunState
from slipway.components.support.documents import KubeObject
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import EVENT_PREFIX

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api, V1Pod

TAIL = 200
TIMEOUT = (3.0, 10.0)
# What a container waits for that no waiting cures.
STUCK = ("Err", "ImagePull", "InvalidImage", "CreateContainer", "CrashLoop")


def explain(state: RunState, *, namespace: str, context: str) -> None:
    """Fills in why the stages of a run failed; says where to look where nothing is to be found.

    Args:
        state: of the run.
        namespace: that it ran in; empty: the kubeconfig's.
        context: of the kubeconfig; empty: the current one.
    """
    unexplained = [task for task in state.tasks if task.state == "failed" and not task.error]
    stuck = [task for task in state.tasks if task.state in ("running", "pending")]
    if not unexplained and (state.ended or not stuck):
        return
    try:
        reasons = find_reasons(state.run_id, namespace=namespace, context=context)
    except SlipwayError:
        reasons = {}
    for task in [*unexplained, *stuck]:
        task.error = reasons.get(task.name, "")
    for task in unexplained:
        if not task.error:
            hint = f"`slipway logs {state.run_id} --task {task.name}`, or the run's page"
            task.error = f"the server does not say why, see {hint}"
        if task.in_driver:
            task.error = f"its driver failed: {task.error}"


def find_reasons(run_id: str, *, namespace: str, context: str) -> dict[str, str]:
    """Stage to why it failed, or why its pod does not start.

    Raises:
        SlipwayError: there is no cluster to ask, or it refuses.
    """
    from kubernetes import client
    from urllib3.exceptions import HTTPError

    api, current = cluster_client(context)
    namespace = namespace or current
    asked: dict[str, object] = {
        "label_selector": f"{RUN_LABEL}={run_id}",
        "_request_timeout": TIMEOUT,
    }
    try:
        core = client.CoreV1Api(api)
        pods = core.list_namespaced_pod(namespace, **asked).items
        reasons: dict[str, str] = {}
        for pod in sorted(pods, key=lambda pod: str(pod.metadata.creation_timestamp)):
            if reason := _reason(core, pod):
                reasons[stage_of(pod)] = reason
        workflows = client.CustomObjectsApi(api).list_namespaced_custom_object(
            "argoproj.io", "v1alpha1", namespace, "workflows", **asked
        )
    except client.ApiException as error:
        raise SlipwayError(
            f"Namespace {namespace} does not tell of its pods ({error.status} {error.reason})."
        ) from error
    except HTTPError as error:
        raise SlipwayError("The cluster's API server does not answer.") from error
    for workflow in workflows.get("items", ()):
        for stage, message in _messages(workflow.get("status", {})):
            reasons.setdefault(stage, message)
    return reasons


def _reason(core: "CoreV1Api", pod: "V1Pod") -> str:
    """Why a pod failed or cannot start; empty where it did neither."""
    status = pod.status
    for state in status.container_statuses or ():
        waiting = state.state.waiting if state.state else None
        if waiting and str(waiting.reason).startswith(STUCK):
            return _line(f"{waiting.reason}: {waiting.message or 'the container cannot start'}")
    if status.phase == "Pending":
        for condition in status.conditions or ():
            if condition.type == "PodScheduled" and condition.status == "False":
                return _line(f"{condition.reason}: {condition.message}")
        return ""
    if status.phase != "Failed":
        return ""
    ends = [
        state.state.terminated
        for state in status.container_statuses or ()
        if state.name == MAIN and state.state and state.state.terminated
    ]
    if ends and ends[0].reason == "OOMKilled":
        return "killed for lack of memory (OOMKilled): give the task more in orchestration.tasks"
    if status.reason == "DeadlineExceeded":
        return "it took longer than its timeout (DeadlineExceeded): see orchestration.tasks"
    said = _said(core, pod)
    end = f"exit code {ends[0].exit_code}" if ends else status.message or status.reason or ""
    return _line(said or end)


def _said(core: "CoreV1Api", pod: "V1Pod") -> str:
    """The stage's own error in its pod's log, else the last line that it printed."""
    from kubernetes.client import ApiException

    try:
        text = core.read_namespaced_pod_log(
            pod.metadata.name,
            pod.metadata.namespace,
            container=MAIN,
            tail_lines=TAIL,
            _request_timeout=TIMEOUT,
        )
    except ApiException:
        return ""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    for line in reversed(lines):
        _, mark, event = line.partition(EVENT_PREFIX)
        if mark and (message := _error_in(event)):
            return message
    return lines[-1] if lines else ""


def _error_in(event: str) -> str:
    try:
        content = json.loads(event)
    except ValueError:
        return ""
    return str(content.get("message", "")) if content.get("event") == "error" else ""


def _messages(status: KubeObject) -> Iterator[tuple[str, str]]:
    """The messages of a workflow's failed pods, each with the stage that the pod is of."""
    nodes = status.get("nodes") or {}
    if packed := status.get("compressedNodes"):
        nodes = json.loads(zlib.decompress(base64.b64decode(packed), wbits=47))
    for node in nodes.values():
        if node.get("type") != "Pod" or node.get("phase") not in ("Failed", "Error"):
            continue
        name = str(node.get("displayName", ""))
        if name.startswith("executor"):
            name = str(nodes.get(node.get("boundaryID"), {}).get("displayName", name))
        if message := node.get("message"):
            yield name.removesuffix("-driver"), _line(str(message))


def _line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 400 else text[:399] + "…"
