"""Where this process is: in a pod, whose files Kubernetes puts there, or beside a kubeconfig."""

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    from kubernetes.client import Configuration

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TOKEN_FILE = NAMESPACE_FILE.with_name("token")
PIPELINES_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
"""What Kubeflow's webhook gives a pod that has the label `access-ml-pipeline`."""


def in_pod() -> bool:
    """Whether this process runs in a pod."""
    return NAMESPACE_FILE.is_file()


def own_namespace() -> str:
    """The namespace of this pod; empty where this is none."""
    try:
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def own_account() -> str:
    """The name of the service account that this pod runs as; empty where this is no pod."""
    try:
        payload = TOKEN_FILE.read_text().split(".")[1]
        subject = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"]
    except (OSError, IndexError, ValueError, KeyError):
        return ""
    return str(subject).rsplit(":", 1)[-1]


def cluster_access(context: str = "", *, instead: str = "") -> "tuple[Configuration, str]":
    """How to reach the cluster's API: as the pod's account, else as the kubeconfig says.

    Args:
        context: of the kubeconfig, which is then taken in a pod too; empty: the current one.
        instead: what else a person can do, as the end of a sentence, where there is no cluster.

    Returns:
        Settings of a client, and the namespace that is meant where none is named; empty: not known.

    Raises:
        SlipwayError: there is neither.
    """
    from kubernetes import client, config

    settings = client.Configuration()
    if not context:
        try:
            config.load_incluster_config(client_configuration=settings)
            return settings, own_namespace()
        except config.ConfigException:
            pass
    file = os.environ.get("KUBECONFIG")
    try:
        config.load_kube_config(file, client_configuration=settings, context=context or None)
        _, current = config.list_kube_config_contexts(file)
    except (config.ConfigException, OSError) as error:
        raise SlipwayError(
            "There is no cluster to talk to: this is no pod, and no kubeconfig was found"
            f" ({str(error).rstrip('.')}). Set KUBECONFIG{instead}."
        ) from error
    return settings, str((current or {}).get("context", {}).get("namespace") or "")
