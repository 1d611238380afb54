"""The doctor's checks that ask the cluster's API server."""

import base64
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from slipway.cluster.doctor.findings import (
    RENDER,
    DoctorTarget,
    Line,
    fail,
    ok,
    or_none,
    skip,
    warn,
)
from slipway.components.support.documents import KubeObject
from slipway.stack.rights import DEPLOY_RIGHTS, TASK_RIGHTS

if TYPE_CHECKING:
    from kubernetes.client import V1Taint

BACKEND = (2, 17)


def kubeflow_version(site: DoctorTarget) -> Iterator[Line]:
    """The tag of the API server's image."""
    from kubernetes.client import AppsV1Api

    deployment = AppsV1Api(site.api).read_namespaced_deployment("ml-pipeline", site.kfp_namespace)
    image = str(deployment.spec.template.spec.containers[0].image)
    match = re.search(r":v?(\d+)\.(\d+)(\.\d+)?", image)
    if not match:
        yield warn("Kubeflow version", f"{image} does not tell; Slipway is made for 2.17")
        return
    found = (int(match[1]), int(match[2]))
    if found >= BACKEND:
        yield ok("Kubeflow version", match[0].lstrip(":"))
    else:
        yield warn(
            "Kubeflow version",
            f"{match[0].lstrip(':')} is older than 2.17: schedules may not get their time, and"
            " parameters of node placement may be ignored. Upgrade",
        )


def namespace(site: DoctorTarget) -> Iterator[Line]:
    """That it is there, and which pods it takes."""
    from kubernetes.client import ApiException, CoreV1Api

    try:
        found = CoreV1Api(site.api).read_namespace(site.namespace)
    except ApiException as error:
        if error.status != 404:
            raise
        yield fail(
            "namespace",
            f"there is no namespace {site.namespace}: give --namespace, or {RENDER}",
        )
        return
    level = (found.metadata.labels or {}).get("pod-security.kubernetes.io/enforce", "not enforced")
    yield ok("namespace", f"{site.namespace}, pod security {level}")


def service_account(site: DoctorTarget) -> Iterator[Line]:
    """That the account is there and may do what the stages do, asked as that account."""
    from kubernetes.client import ApiException, CoreV1Api

    try:
        CoreV1Api(site.api).read_namespaced_service_account(site.account, site.namespace)
    except ApiException as error:
        if error.status != 404:
            raise
        yield fail(
            "service account",
            f"{site.namespace} has no {site.account}: give --service-account, or {RENDER}",
        )
        return
    deploys = site.default("deployment_target") == "kserve"
    missing = []
    for right in (*TASK_RIGHTS, *(DEPLOY_RIGHTS if deploys else ())):
        for resource in right.resources:
            asked = [(verb, name) for verb in right.verbs for name in right.names or ("",)]
            refused = [pair for pair in asked if not _may(site, right.group, resource, *pair)]
            if refused:
                verbs = "/".join(dict.fromkeys(verb for verb, _ in refused))
                kind = f"{resource}.{right.group}" if right.group else resource
                missing.append(f"{verbs} {kind} (for {right.whose})")
    if missing:
        yield fail(
            "service account", f"{site.account} may not {'; '.join(missing)}. Apply manifests/"
        )
    else:
        yield ok("service account", f"{site.account} may do what the stages do")


def _may(site: DoctorTarget, group: str, resource: str, verb: str, object_name: str) -> bool:
    """A SelfSubjectAccessReview, sent as the service account."""
    name, _, sub = resource.partition("/")
    attributes = {"namespace": site.namespace, "group": group, "resource": name, "verb": verb}
    if sub:
        attributes["subresource"] = sub
    if object_name:
        attributes["name"] = object_name
    answer = _request(
        site,
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        },
        {"Impersonate-User": f"system:serviceaccount:{site.namespace}:{site.account}"},
    )
    return bool(answer.get("status", {}).get("allowed"))


def _request(
    site: DoctorTarget,
    method: str,
    path: str,
    body: dict[str, object] | None = None,
    headers: dict[str, str] | None = None,
) -> KubeObject:
    response = site.api.call_api(
        path,
        method,
        header_params={"Accept": "application/json", **(headers or {})},
        body=body,
        auth_settings=["BearerToken"],
        _preload_content=False,
        _return_http_data_only=True,
    )
    content: dict[str, object] = json.loads(response.data)
    return content


def config_map(site: DoctorTarget) -> Iterator[Line]:
    """That the settings that the tasks read are there."""
    from kubernetes.client import CoreV1Api

    core = CoreV1Api(site.api)
    for name, keys in site.references("configMap").items():
        found = or_none(core.read_namespaced_config_map, name, site.namespace)
        if found is None:
            yield fail("config map", f"there is no {name} in {site.namespace}: {RENDER}")
            continue
        values = found.data or {}
        site.settings |= values
        yield _keys("config map", name, keys, set(values))


def secret(site: DoctorTarget) -> Iterator[Line]:
    """That the secret's keys are there; its values are not shown."""
    from kubernetes.client import CoreV1Api

    core = CoreV1Api(site.api)
    for name, keys in site.references("secret").items():
        found = or_none(core.read_namespaced_secret, name, site.namespace)
        if found is None:
            yield fail(
                "secret",
                f"there is no {name} in {site.namespace}: fill it in, or let External Secrets"
                " make it (docs/stack.md)",
            )
            continue
        values = {
            k: base64.b64decode(v or "").decode("utf-8", "replace")
            for k, v in (found.data or {}).items()
        }
        site.settings |= values
        yield _keys("secret", name, keys, {key for key, value in values.items() if value.strip()})


def _keys(what: str, name: str, keys: dict[str, bool], present: set[str]) -> Line:
    missing = sorted(key for key, optional in keys.items() if key not in present and not optional)
    if missing:
        return fail(what, f"{name} lacks {', '.join(missing)}")
    return ok(what, f"{name} has {', '.join(sorted(set(keys) & present))}")


def gpu_nodes(site: DoctorTarget) -> Iterator[Line]:
    """That a node has as many free accelerators as training asks for, and would take its pod."""
    count = int(site.default("training_gpus") or 0)
    if not count:
        yield skip("GPU nodes", "this pipeline asks for none")
        return
    from kubernetes.client import CoreV1Api

    core = CoreV1Api(site.api)
    kind = str(site.default("training_gpu_type"))
    selector = site.default("training_gpu_node_selector") or {}
    tolerations = site.default("training_gpu_tolerations") or []
    used: dict[str, int] = {}
    for pod in core.list_pod_for_all_namespaces(
        field_selector="status.phase!=Succeeded,status.phase!=Failed"
    ).items:
        for container in pod.spec.containers:
            limits = container.resources.limits if container.resources else None
            wants = (limits or {}).get(kind, 0)
            used[pod.spec.node_name] = used.get(pod.spec.node_name, 0) + int(wants)
    reasons = []
    for node in core.list_node().items:
        name, labels = node.metadata.name, node.metadata.labels or {}
        total = int((node.status.allocatable or {}).get(kind, 0))
        if not total:
            continue
        free = total - used.get(name, 0)
        taints = [t for t in node.spec.taints or () if not _tolerated(t, tolerations)]
        unlike = [f"{k}={v}" for k, v in selector.items() if labels.get(k) != v]
        if node.spec.unschedulable:
            reasons.append(f"{name} is cordoned")
        elif unlike:
            reasons.append(f"{name} lacks label {', '.join(unlike)}")
        elif taints:
            shown = ", ".join(f"{t.key}={t.value or ''}:{t.effect}" for t in taints)
            reasons.append(f"{name} has taint {shown}, which training does not tolerate")
        elif free < count:
            reasons.append(f"{name} has {free} of {total} free")
        else:
            yield ok("GPU nodes", f"{name} has {free} of {total} {kind} free")
            return
    if site.default("training_allow_cpu"):
        text = "; ".join(reasons) or f"no node offers {kind}"
        yield warn(
            "GPU nodes", f"{text}: the pod would wait. Set training_gpus=0 to train on the CPU"
        )
        return
    yield fail(
        "GPU nodes",
        ("; ".join(reasons) or f"no node offers {kind}: install its device plugin")
        + f". Training asks for {count} {kind}",
    )


def _tolerated(taint: "V1Taint", tolerations: list[dict[str, object]]) -> bool:
    """Whether a toleration matches a taint, by Kubernetes' own rules."""
    if taint.effect == "PreferNoSchedule":
        return True
    for toleration in tolerations:
        if toleration.get("effect") not in (None, "", taint.effect):
            continue
        operator = toleration.get("operator") or "Equal"
        if operator == "Exists" and toleration.get("key") in (None, "", taint.key):
            return True
        same = (toleration.get("key"), toleration.get("value") or "") == (
            taint.key,
            taint.value or "",
        )
        if operator == "Equal" and same:
            return True
    return False
