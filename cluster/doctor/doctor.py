"""`slipway doctor`: examines a cluster before anything is sent, and says how to mend what is wrong.

It only looks, but for one small object that it writes to the object store and deletes again. Values of
secrets are used to reach what they point at and are never shown.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from slipway.cluster.connection import Connection
from slipway.cluster.doctor import cluster as doctor_cluster
from slipway.cluster.doctor import data as doctor_data
from slipway.cluster.doctor import plugin as doctor_plugin
from slipway.cluster.doctor import serving as doctor_serving
from slipway.cluster.doctor import stores as doctor_stores
from slipway.cluster.doctor.findings import DoctorTarget, Line, fail, ok, skip
from slipway.components.support.errors import SlipwayError
from slipway.pipelines.package import Package

if TYPE_CHECKING:
    from kubernetes.client import ApiException

    from slipway.cluster.api import Kubeflow

Check = Callable[[DoctorTarget], Iterator[Line]]
ON_CLUSTER: dict[str, Check] = {
    "Kubeflow version": doctor_cluster.kubeflow_version,
    "namespace": doctor_cluster.namespace,
    "service account": doctor_cluster.service_account,
    "config map": doctor_cluster.config_map,
    "secret": doctor_cluster.secret,
    "MLflow": doctor_stores.mlflow,
    doctor_plugin.WHAT: doctor_plugin.mlflow_plugin,
    "feature registry": doctor_stores.feature_registry,
    "online store": doctor_stores.online_store,
    "object store": doctor_stores.object_store,
    "KServe": doctor_serving.kserve,
    "canary": doctor_serving.canary,
    "storage initializer": doctor_serving.storage_initializer,
    "GPU nodes": doctor_cluster.gpu_nodes,
    "images": doctor_stores.images,
}


def examine(
    connection: Connection,
    package: Package,
    account: str,
    arguments: dict[str, object] | None = None,
) -> Iterator[Line]:
    """Examines everything that a run of the package needs, line by line.

    Args:
        connection: how Kubeflow is reached.
        package: the compiled pipeline that is to run.
        account: the service account that its pods run as.
        arguments: parameters that a run is to be started with, if not the pipeline's own.
    """
    yield from _package(package)
    yield from _sources(package, arguments or {})
    try:
        from slipway.cluster.api import Kubeflow

        kubeflow = Kubeflow(connection)
        way = connection.way or "no credentials of its own"
        health = kubeflow.health()
        users = "several users" if health.multi_user else "one user"
        yield ok("Kubeflow Pipelines", f"answers, serves {users} (way in: {way})")
        yield from _permission(kubeflow, bool(health.multi_user))
    except SlipwayError as error:
        yield fail("Kubeflow Pipelines", str(error))
    try:
        from slipway.cluster.cluster_api import cluster_client

        api, current = cluster_client(connection.context)
    except SlipwayError as error:
        yield skip("cluster", f"not examined: {error}")
        return
    site = DoctorTarget(
        api=api,
        namespace=connection.namespace or current,
        kfp_namespace=connection.kfp_namespace,
        account=account,
        package=package,
        arguments=arguments or {},
    )
    for what, check in ON_CLUSTER.items():
        yield from _safely(what, check, site)


def _package(package: Package) -> Iterator[Line]:
    from slipway.cluster.checks import RULES, find_faults

    faults = find_faults(package)
    for fault in faults:
        yield fail("package", f"{fault.rule}: {fault.message}")
    if not faults:
        yield ok("package", f"{package.name} {package.version_name}: {len(RULES)} rules hold")


def _sources(package: Package, arguments: dict[str, object]) -> Iterator[Line]:
    try:
        yield from doctor_data.sources(package, arguments)
    except SlipwayError as error:
        yield fail("data", str(error).rstrip("."))


def _permission(kubeflow: "Kubeflow", multi_user: bool) -> Iterator[Line]:
    if multi_user and not kubeflow.namespace:
        yield fail("permission", "this server has several users: give your namespace, --namespace")
        return
    pipeline = kubeflow.find_pipeline("slipway-doctor-asks")
    yield ok("permission", "may read pipelines" + (" of that name" if pipeline else ""))


def _safely(what: str, check: Check, site: DoctorTarget) -> Iterator[Line]:
    """One check's lines; what keeps it from an answer is a line too."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield from check(site)
    except ApiException as error:
        if error.status == 403:
            yield skip(what, f"you may not look ({_reason(error)})")
        else:
            yield fail(what, f"the cluster answered {error.status} {error.reason}")
    except (SlipwayError, HTTPError, OSError) as error:
        yield fail(what, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _reason(error: "ApiException") -> str:
    import json

    try:
        return str(json.loads(error.body)["message"])[:160]
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
