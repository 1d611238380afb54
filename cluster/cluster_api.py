"""The cluster itself, through its API server: with the pod's account, else the kubeconfig."""

from typing import TYPE_CHECKING

from slipway.components.support.kubernetes.cluster import cluster_access

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, CoreV1Api


def cluster_client(context: str) -> tuple["ApiClient", str]:
    """A client of the API server, and the namespace that it is used in by default.

    Raises:
        SlipwayError: there is neither a pod's account nor a kubeconfig.
    """
    from kubernetes import client

    settings, namespace = cluster_access(context, instead=", or give --context")
    settings.retries = 2
    return client.ApiClient(settings), namespace or "default"


def core_api(context: str, namespace: str) -> tuple["CoreV1Api", str]:
    """The core API, and the namespace that is meant."""
    from kubernetes import client

    api, current = cluster_client(context)
    return client.CoreV1Api(api), namespace or current
