"""The Kubernetes objects of a project's namespace, as plain dictionaries."""

from urllib.parse import urlsplit

from slipway.components.support.documents import KubeObject
from slipway.components.support.environment import CONFIG_MAP, SECRETS
from slipway.components.support.kubernetes import pod_security
from slipway.stack.rights import TASK_RIGHTS
from slipway.stack.site import PREDICTOR, TASKS, Site

EXTERNAL = "external-secrets.io"
SECRET_KEYS = {
    "MLFLOW_TRACKING_URI": "the MLflow server, with user and password where it asks for them",
    "FEAST_REDIS_URL": "host:port[,password=…] of the Redis online store",
    "DOCKER_REGISTRY_TOKEN": "what the nodes pull the images with",
}
SIGNING_KEYS = {"MODEL_PRIVATE_KEY": "the key that register signs models with, as PEM text"}
# Made of DOCKER_REGISTRY_TOKEN in the form that nodes read; the service accounts name it.
PULL_SECRET = "slipway-registry"  # noqa: S105 - a name
# What fetches a model for KServe, and the predictor's log, read a self-hosted store with this one.
MODELS_SECRET = "slipway-models"  # noqa: S105 - a name
MODELS_KEYS = {
    "AWS_ENDPOINT_URL": "the object store's address, as in slipway-config",
    "AWS_ACCESS_KEY_ID": "who reads models and writes the inference log",
    "AWS_SECRET_ACCESS_KEY": "the key of that account",
}
# Where a pod on GKE asks for its identity: the second with Dataplane V2
# (cloud.google.com/kubernetes-engine/docs/how-to/workload-identity, "network policy").
GOOGLE_IDENTITY = {"169.254.169.252/32": 988, "169.254.169.254/32": 80}
# Where the pods' requests go, beside the cluster's name service.
KFP_PORTS = (8080, 8887, 8888, 9000)
PLATFORM_PORTS = (5000, 6379, 9000)
PLATFORM_NAMESPACES = ("mlflow", "redis", "minio")


def base(site: Site) -> dict[str, list[KubeObject]]:
    """What is alike on every cloud: file name to objects."""
    return {
        "namespace.yaml": [_namespace(site)],
        "config-map.yaml": [_object("v1", "ConfigMap", CONFIG_MAP, data=site.settings())],
        "service-accounts.yaml": [
            _account(site, TASKS, token=True),
            _account(site, PREDICTOR, token=False),
        ],
        "task-role.yaml": _task_role(),
        "network-policies.yaml": _network_policies(site),
        "quota.yaml": [_quota(site), _limits()],
    }


def storage_initializer() -> KubeObject:
    """A security context for the container that KServe adds to fetch a model, as a server-side apply."""
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterStorageContainer",
        "metadata": {"name": "default"},
        "spec": {"container": {"securityContext": pod_security.ADDED}},
    }


def overlay(site: Site) -> dict[str, list[KubeObject]]:
    """What a cloud adds: secrets, ways to an identity, patches of settings and of accounts."""
    policies = {"network-policies.yaml": [_google_identity()]} if site.cloud == "gcp" else {}
    return policies | {
        "secrets.yaml": _secrets(site),
        "patches.yaml": [
            _object("v1", "ConfigMap", CONFIG_MAP, data=site.settings()),
            *(_identity(site, account) for account in (TASKS, PREDICTOR) if site.identity(account)),
            *([_store_of_models()] if site.secret_store() is None else []),
        ],
    }


def _object(version: str, kind: str, name: str, **content: object) -> KubeObject:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **content}


def _namespace(site: Site) -> KubeObject:
    namespace = _object("v1", "Namespace", site.namespace)
    level = {
        f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")
    }
    namespace["metadata"]["labels"] = {
        **site.labels,
        **level,
        "pod-security.kubernetes.io/enforce-version": "latest",
        "pipelines.kubeflow.org/enabled": "true",
    }
    return namespace


def _account(site: Site, name: str, *, token: bool) -> KubeObject:
    account = {**_object("v1", "ServiceAccount", name), "automountServiceAccountToken": token}
    if site.registry:
        account["imagePullSecrets"] = [{"name": PULL_SECRET}]
    return account


def _identity(site: Site, account: str) -> KubeObject:
    patch = _object("v1", "ServiceAccount", account)
    patch["metadata"]["annotations"] = site.identity(account)
    if site.cloud == "azure":
        patch["metadata"]["labels"] = {"azure.workload.identity/use": "true"}
    return patch


def _store_of_models() -> KubeObject:
    """KServe takes a store's credentials from the secrets of the account that a predictor runs as."""
    return {**_object("v1", "ServiceAccount", PREDICTOR), "secrets": [{"name": MODELS_SECRET}]}


def _task_role() -> list[KubeObject]:
    rules = []
    for right in TASK_RIGHTS:
        rule: KubeObject = {
            "apiGroups": [right.group],
            "resources": list(right.resources),
            "verbs": list(right.verbs),
        }
        rules.append(rule | ({"resourceNames": list(right.names)} if right.names else {}))
    group = "rbac.authorization.k8s.io"
    return [
        _object(f"{group}/v1", "Role", "slipway-task", rules=rules),
        _object(
            f"{group}/v1",
            "RoleBinding",
            "slipway-task",
            roleRef={"apiGroup": group, "kind": "Role", "name": "slipway-task"},
            subjects=[{"kind": "ServiceAccount", "name": TASKS}],
        ),
    ]


def _policy(name: str, pods: KubeObject, **spec: object) -> KubeObject:
    directions = [name.capitalize() for name in spec]
    return _object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        name,
        spec={"podSelector": pods, "policyTypes": directions, **spec},
    )


def _to(ports: tuple[int, ...], *namespaces: str) -> KubeObject:
    names = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(namespaces)}
    return {
        "to": [{"namespaceSelector": {"matchExpressions": [names]}}],
        "ports": [{"protocol": "TCP", "port": port} for port in ports],
    }


def _google_identity() -> KubeObject:
    """Every other cloud gives identities out over HTTPS, which all pods may use."""
    way = [
        {"to": [{"ipBlock": {"cidr": block}}], "ports": [{"protocol": "TCP", "port": port}]}
        for block, port in GOOGLE_IDENTITY.items()
    ]
    return _policy("google-identity", {}, egress=way)


def _network_policies(site: Site) -> list[KubeObject]:
    """Nothing in or out but what is named. The predictor's own ingress comes with deploy."""
    everyone: KubeObject = {}
    tasks = {"matchExpressions": [{"key": "pipeline/runid", "operator": "Exists"}]}
    predictor = {"matchLabels": {"serving.kserve.io/inferenceservice": site.project.project_name}}
    names = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    web = {
        "to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}],
        "ports": [{"protocol": "TCP", "port": port} for port in (443, 6443)],
    }
    platform = _to(PLATFORM_PORTS, *PLATFORM_NAMESPACES)
    serving = {"to": [{"podSelector": predictor}], "ports": [{"protocol": "TCP", "port": 8080}]}
    return [
        _policy("default-deny", everyone, ingress=[], egress=[]),
        _policy("names", everyone, egress=[{"ports": names}]),
        _policy("tasks", tasks, egress=[_to(KFP_PORTS, "kubeflow"), platform, web, serving]),
        _policy("predictor", predictor, egress=[platform, web]),
    ]


def _quota(site: Site) -> KubeObject:
    accelerator = site.project.training.accelerator.type
    return _object(
        "v1",
        "ResourceQuota",
        "slipway",
        spec={
            "hard": {
                "requests.cpu": "64",
                "requests.memory": "256Gi",
                f"requests.{accelerator}": str(site.gpus),
                "persistentvolumeclaims": "20",
                "pods": "200",
            }
        },
    )


def _limits() -> KubeObject:
    container = {
        "type": "Container",
        "defaultRequest": {"cpu": "100m", "memory": "128Mi"},
        "default": {"cpu": "1", "memory": "1Gi"},
    }
    return _object("v1", "LimitRange", "slipway", spec={"limits": [container]})


def _secrets(site: Site) -> list[KubeObject]:
    """References to the secrets, never a value."""
    provider = site.secret_store()
    if provider is None:
        models = _empty(MODELS_SECRET, MODELS_KEYS)
        if endpoint := site.settings().get("AWS_ENDPOINT_URL"):
            # How KServe's storage initializer is told of a store that is not Amazon's
            # (pkg/credentials/s3).
            address = urlsplit(endpoint)
            models["metadata"]["annotations"] |= {
                "serving.kserve.io/s3-endpoint": address.netloc,
                "serving.kserve.io/s3-usehttps": "1" if address.scheme == "https" else "0",
            }
        return [_empty(SECRETS, _secret_keys(site)), models]
    prefix = f"{site.project.project_name}-{site.environment}"
    keys = {key: f"{prefix}-{key.lower().replace('_', '-')}" for key in _secret_keys(site)}
    store = _object(f"{EXTERNAL}/v1", "SecretStore", "slipway", spec={"provider": provider})
    found = [store, _external(SECRETS, keys, {})]
    if site.registry:
        # The operator of External Secrets fills in the token; what stands here is a template.
        login = '{{ printf "slipway:%s" .token | b64enc }}'
        config = f'{{"auths":{{"{site.registry}":{{"auth":"{login}"}}}}}}'
        template = {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": config}}
        token = {"token": keys["DOCKER_REGISTRY_TOKEN"]}
        found.append(_external(PULL_SECRET, token, {"template": template}))
    return found


def _secret_keys(site: Site) -> dict[str, str]:
    """What the secret holds: a key that signs only where signatures by keys are asked for."""
    return SECRET_KEYS | (SIGNING_KEYS if site.public_keys else {})


def _empty(name: str, keys: dict[str, str]) -> KubeObject:
    """A secret that a person fills in, with what each key is."""
    secret = _object("v1", "Secret", name, type="Opaque")
    secret["metadata"]["annotations"] = {
        f"slipway.dev/{key.lower().replace('_', '-')}": meaning for key, meaning in keys.items()
    }
    return secret


def _external(name: str, keys: dict[str, str], target: KubeObject) -> KubeObject:
    """A secret that External Secrets fetches: key in it to key in the cloud's store."""
    made: KubeObject = {"name": name, "creationPolicy": "Owner", **target}
    return _object(
        f"{EXTERNAL}/v1",
        "ExternalSecret",
        name,
        spec={
            "refreshInterval": "1h",
            "secretStoreRef": {"name": "slipway", "kind": "SecretStore"},
            "target": made,
            "data": [
                {"secretKey": key, "remoteRef": {"key": there}} for key, there in keys.items()
            ],
        },
    )
