"""The doctor's checks of KServe: that it is there, takes our pods, and routes as the project asks."""

import json
import re
from collections.abc import Iterator

from slipway.cluster.doctor.findings import DoctorTarget, Line, fail, ok, or_none, skip, warn
from slipway.components.deploy.kserve.storage import as_kserve_reads
from slipway.components.support.documents import KubeObject
from slipway.components.support.kubernetes import pod_security

NAMESPACE = "kserve"
# The first release that routes requests to a canary of mode Standard, and only to a ready one:
# kserve#5912 and kserve#5984.
CANARY_RELEASE = (0, 21)
_CANARY_ADVICE = (
    "set deployment.canary.share to 0 (golden rows only), or deployment.mode to Knative"
)


def kserve(site: DoctorTarget) -> Iterator[Line]:
    """That KServe's types are there, and the mode that it deploys in."""
    if site.default("deployment_target") != "kserve":
        yield skip("KServe", "this pipeline does not deploy to it")
        return
    from kubernetes.client import ApiextensionsV1Api

    name = "inferenceservices.serving.kserve.io"
    found = or_none(ApiextensionsV1Api(site.api).read_custom_resource_definition, name)
    if found is None:
        yield fail("KServe", f"the cluster has no {name}: install KServe 0.20 or later")
        return
    versions = ", ".join(v.name for v in found.spec.versions if v.served)
    mode = _section(site, "deploy").get("defaultDeploymentMode", "not told")
    yield ok("KServe", f"serves {versions}, default mode {mode}")


def canary(site: DoctorTarget) -> Iterator[Line]:
    """That the share of real requests that a canary is to answer is one that KServe routes to it."""
    settings = site.default("deployment") or {}
    share = int(settings.get("canary", {}).get("share", 0))
    if site.default("deployment_target") != "kserve" or not share:
        yield skip("canary", "no real requests are asked for")
        return
    if settings.get("mode") == "Knative":
        yield ok("canary", f"{share} % of real requests, by Knative's route")
        return
    from kubernetes.client import AppsV1Api

    name = "kserve-controller-manager"
    deployment = or_none(AppsV1Api(site.api).read_namespaced_deployment, name, NAMESPACE)
    if deployment is None:
        yield warn("canary", f"there is no {name} in {NAMESPACE}, so its release is not known")
        return
    images = [str(container.image) for container in deployment.spec.template.spec.containers]
    found = next((m for i in images if (m := re.search(r":v?(\d+)\.(\d+)", i))), None)
    ingress = _section(site, "ingress")
    if found is None:
        wanted = ".".join(map(str, CANARY_RELEASE))
        yield warn("canary", f"{', '.join(images)} does not tell its release; it needs {wanted}")
    elif (int(found[1]), int(found[2])) < CANARY_RELEASE:
        yield warn(
            "canary",
            f"KServe {found[1]}.{found[2]} routes no request to a canary in mode Standard"
            f" (kserve#5912), or answers 503 at the switch (kserve#5984), so canary.share {share} is"
            f" not obeyed: upgrade to 0.21, {_CANARY_ADVICE}",
        )
    elif not ingress.get("enableGatewayApi") or ingress.get("disableIngressCreation"):
        yield warn(
            "canary",
            "KServe splits requests only on routes of the Gateway API, which inferenceservice-config"
            f" does not ask for (ingress.enableGatewayApi), so canary.share {share} is not obeyed:"
            f" enable it, {_CANARY_ADVICE}",
        )
    else:
        yield ok(
            "canary", f"{share} % of real requests, by KServe {found[1]}.{found[2]}'s HTTPRoute"
        )


def storage_initializer(site: DoctorTarget) -> Iterator[Line]:
    """That the container which KServe adds to fetch a model may run in the namespace."""
    what = "storage initializer"
    if site.default("deployment_target") != "kserve":
        yield skip(what, "this pipeline does not deploy to KServe")
        return
    from kubernetes.client import CoreV1Api, CustomObjectsApi

    found = or_none(CoreV1Api(site.api).read_namespace, site.namespace)
    if found is None:
        yield skip(what, f"there is no namespace {site.namespace} yet")
        return
    labels = found.metadata.labels or {}
    level = labels.get("pod-security.kubernetes.io/enforce", "not enforced")
    if level != "restricted":
        yield ok(what, f"{site.namespace} does not enforce the restricted level ({level})")
        return
    listed = or_none(
        CustomObjectsApi(site.api).list_cluster_custom_object,
        "serving.kserve.io",
        "v1alpha1",
        "clusterstoragecontainers",
    )
    uri = as_kserve_reads((site.default("deployment") or {}).get("storage") or "s3://bucket/model")
    used = next((item for item in (listed or {}).get("items", []) if _fetches(item, uri)), None)
    if used is None:
        yield fail(
            what,
            f"no ClusterStorageContainer fetches {uri}: KServe then adds one without a security"
            f" context, which {site.namespace} refuses (pod security restricted)",
        )
        return
    name = used["metadata"]["name"]
    context = used["spec"].get("container", {}).get("securityContext") or {}
    if _is_restricted(context):
        yield ok(what, f"ClusterStorageContainer {name} may run at the restricted level")
        return
    patch = json.dumps({"spec": {"container": {"securityContext": pod_security.ADDED}}})
    yield fail(
        what,
        f"ClusterStorageContainer {name} sets no security context, as in KServe's release manifests:"
        f" {site.namespace} refuses every predictor (pod security restricted). Run: kubectl patch"
        f" clusterstoragecontainer {name} --type merge -p '{patch}' (or apply"
        " manifests/platform/storage-initializer.yaml)",
    )


def _fetches(item: KubeObject, uri: str) -> bool:
    """Whether KServe takes this one for a URI: its GetStorageContainerSpec."""
    spec = item["spec"]
    if item.get("disabled") or spec.get("workloadType", "initContainer") != "initContainer":
        return False
    return any(
        uri.startswith(form["prefix"])
        if form.get("prefix")
        else re.search(form.get("regex") or r"$.", uri)
        for form in spec.get("supportedUriFormats", [])
    )


def _is_restricted(context: KubeObject) -> bool:
    dropped = context.get("capabilities", {}).get("drop", [])
    return context.get("allowPrivilegeEscalation") is False and "ALL" in dropped


def _section(site: DoctorTarget, name: str) -> dict[str, object]:
    """One section of KServe's settings, which are JSON in a config map; empty where there is none."""
    from kubernetes.client import CoreV1Api

    found = or_none(
        CoreV1Api(site.api).read_namespaced_config_map, "inferenceservice-config", NAMESPACE
    )
    try:
        section: dict[str, object] = json.loads(((found and found.data) or {}).get(name) or "{}")
    except ValueError:
        return {}
    return section
