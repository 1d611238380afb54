"""The `restricted` profile of the Pod Security Standards: what a pod of ours says of itself.

The namespaces that `slipway stack render` makes enforce it, and KServe and Kubeflow Trainer set nothing
of it in the pods that they make for us.
"""

POD: dict[str, object] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER: dict[str, object] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "privileged": False,
    "runAsNonRoot": True,
}
# What the pod's own context cannot say for a container that somebody else adds to it.
ADDED: dict[str, object] = {k: CONTAINER[k] for k in ("allowPrivilegeEscalation", "capabilities")}
