"""The `restricted` profile of the Pod Security Standards: what a pod of ours says of itself.

The namespaces that `slipway stack render` makes enforce it, and KServe and Kubeflow Trainer set nothing
of it in the pods that they make for us.
"""

from typing import Any

POD: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "privileged": False,
    "runAsNonRoot": True,
}
# What the pod's own context cannot say for a container that somebody else adds to it.
ADDED: dict[str, Any] = {k: CONTAINER[k] for k in ("allowPrivilegeEscalation", "capabilities")}
