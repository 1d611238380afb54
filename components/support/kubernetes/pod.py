"""Whether this process runs in a pod, and the files that Kubernetes puts there."""

import base64
import json
from pathlib import Path

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
