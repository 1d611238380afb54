"""The cluster itself, through its API server: with the pod's account, else the kubeconfig."""

from typing import TYPE_CHECKING, Any

from slipway.cluster.connection import POD_NAMESPACE
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


def cluster_client(context: str) -> tuple["ApiClient", str]:
    """A client of the API server, and the namespace that it is used in by default.

    Raises:
        SlipwayError: there is neither a pod's account nor a kubeconfig.
    """
    from kubernetes import client, config

    configuration = client.Configuration()
    configuration.retries = 2
    namespace = "default"
    try:
        if POD_NAMESPACE.is_file() and not context:
            config.load_incluster_config(client_configuration=configuration)
            namespace = POD_NAMESPACE.read_text(encoding="utf-8").strip()
        else:
            config.load_kube_config(client_configuration=configuration, context=context or None)
            _, current = config.list_kube_config_contexts()
            namespace = str((current or {}).get("context", {}).get("namespace") or namespace)
    except (config.ConfigException, OSError) as error:
        raise SlipwayError(
            f"There is no cluster to ask: {str(error).rstrip('.')}. Set KUBECONFIG, or give --context."
        ) from error
    return client.ApiClient(configuration), namespace


def core_api(context: str, namespace: str) -> tuple[Any, str]:
    """The core API, and the namespace that is meant."""
    from kubernetes import client

    api, current = cluster_client(context)
    return client.CoreV1Api(api), namespace or current
