"""`slipway logs`: what a run's stages printed, read from their pods."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from slipway.cluster.cluster_api import core_api
from slipway.components.config.orchestration import STAGE_LABEL
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

RUN_LABEL = "pipeline/runid"
MAIN = "main"
DRIVER = "-driver"


def pod_logs(
    run_id: str, *, namespace: str, context: str, task: str | None, tail: int
) -> Iterator[tuple[str, str]]:
    """Gives each stage's name with its last lines, in the order in which the pods started.

    Args:
        run_id: of the run.
        namespace: that it runs in; empty: the kubeconfig's.
        context: of the kubeconfig; empty: the current one.
        task: only this task.
        tail: how many lines of each.
    """
    from kubernetes.client import ApiException

    core, namespace = core_api(context, namespace)
    try:
        pods = core.list_namespaced_pod(namespace, label_selector=f"{RUN_LABEL}={run_id}").items
    except ApiException as error:
        raise SlipwayError(
            f"The pods of namespace {namespace} cannot be listed ({error.status} {error.reason})."
        ) from error
    for pod in sorted(pods, key=lambda pod: str(pod.metadata.creation_timestamp)):
        name = stage_of(pod)
        if is_driver(pod) or (task and name != task):
            continue
        try:
            text = core.read_namespaced_pod_log(
                pod.metadata.name, namespace, container=MAIN, tail_lines=tail
            )
        except ApiException as error:
            text = f"(no log: {error.status} {error.reason})"
        yield f"{name}  {pod.metadata.name}  {pod.status.phase}", text


def is_driver(pod: "V1Pod") -> bool:
    """Whether a pod is one that Kubeflow prepares a task with."""
    return DRIVER in pod.metadata.name


def stage_of(pod: "V1Pod") -> str:
    """The stage that a pod is of: by its label, else by the driver's arguments, else by its name."""
    label = (pod.metadata.labels or {}).get(STAGE_LABEL)
    if label:
        return str(label)
    for container in pod.spec.containers:
        arguments = [*(container.command or ()), *(container.args or ())]
        if "--task_name" in arguments[:-1]:
            return str(arguments[arguments.index("--task_name") + 1])
    return str(pod.metadata.name)
