"""The Kubernetes objects of one endpoint: plain dictionaries, built from the settings."""

import hashlib
import json
from collections.abc import Sequence

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.endpoint import TRANSFORMER
from slipway.components.contracts.release import Release
from slipway.components.support import environment
from slipway.components.support.documents import KubeObject
from slipway.components.support.images import image
from slipway.components.support.kubernetes import pod_security

GROUP, VERSION, KIND = "serving.kserve.io", "v1beta1", "InferenceService"
CONTAINER = "kserve-container"
LABEL = "slipway.dev"
PORT, GRPC_PORT = 8080, 9000
# From SIGTERM to SIGKILL. In Standard mode a pod still gets connections for a moment after SIGTERM.
GRACE_SECONDS, LINGER_SECONDS = 60, 5
VERSION_LABEL = f"{LABEL}/model-version"
# What a pod was made from. Pods are told apart by it, since no counter of the status tells them apart.
REVISION = f"{LABEL}/revision"
# Holds the predictor that serves while another one is tried, so that a retry knows it. It stands on the
# network policy: KServe copies an InferenceService's annotations to its pods, so that each change of one
# would start them anew.
STABLE = f"{LABEL}/stable-predictor"
# The service account that `slipway stack render` makes for predictors.
ACCOUNT = "slipway-predictor"
# What stands in no pod of a Deployment, so that changing it starts none anew; nor may a canary have it.
UNTEMPLATED = (
    "name",
    "minReplicas",
    "maxReplicas",
    "scaleMetric",
    "scaleMetricType",
    "scaleTarget",
    "autoScaling",
)
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
_USER = 1000
_POD = pod_security.POD | {"runAsUser": _USER, "fsGroup": _USER}
_RESTRICTED = pod_security.CONTAINER | {"readOnlyRootFilesystem": True}
_TAG_ROUTING = "serving.kserve.io/enable-tag-routing"


def revision_name(release: Release) -> str:
    """What a version's predictor is called while it is a canary."""
    return f"v{release.model_version}"


def workload(project: str, name: str | None) -> str:
    """The Deployment, and Service, of a predictor in mode Standard: KServe's PredictorServiceName."""
    return f"{project}-{name}-predictor" if name else f"{project}-predictor"


def labels(release: Release) -> dict[str, str]:
    """What every object and pod of a version says of itself; the verdict was checked before."""
    return {
        "app.kubernetes.io/managed-by": "slipway",
        VERSION_LABEL: release.model_version,
        f"{LABEL}/model-hash": release.model_hash[:16],
        f"{LABEL}/run": release.run_id[:63] or "none",
        f"{LABEL}/verdict": "pass",
    }


def predictor(
    release: Release,
    project: str,
    storage_uri: str,
    config: DeploymentConfig,
    vouched: Sequence[str] = (),
) -> KubeObject:
    """The `predictor` of the InferenceService for one version.

    The model comes by reference: KServe's storage initializer reads STORAGE_URI of the container
    and puts the files at /mnt/models. `vouched` are flags about its signature (`Vouched.flags`).
    """
    spec: KubeObject = {
        "labels": labels(release),
        "minReplicas": config.replicas,
        "maxReplicas": config.autoscaling.max_replicas if config.autoscaling else config.replicas,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "securityContext": dict(_POD),
        "containers": [_container(release, project, storage_uri, config, vouched)],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "2Gi"}}],
    }
    if config.service_account:
        spec["serviceAccountName"] = config.service_account
    if config.node_selector:
        spec["nodeSelector"] = config.node_selector
    if config.tolerations:
        spec["tolerations"] = config.tolerations
    spec |= _scaling(config)
    if config.mode == "Standard":
        # Knative forbids this field unless an administrator allows it; it spreads pods by itself.
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {SERVICE_LABEL: project}},
            }
        ]
    spec["labels"][REVISION] = _digest(spec, config)
    return spec


def _digest(spec: KubeObject, config: DeploymentConfig) -> str:
    """A predictor's revision. In Knative its scale stands in the pod template too."""
    left = UNTEMPLATED if config.mode == "Standard" else ()
    template = {key: value for key, value in spec.items() if key not in left}
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def _container(
    release: Release,
    project: str,
    storage_uri: str,
    config: DeploymentConfig,
    vouched: Sequence[str],
) -> KubeObject:
    environ = {
        "STORAGE_URI": storage_uri,
        "INFERENCE_LOG_URI": environment.inference_log_uri(),
        "SLIPWAY_LOG_SPOOL": "/scratch/spool",
        "SLIPWAY_LOG_SAMPLE": str(config.log_sample),
        "SLIPWAY_LINGER_SECONDS": str(LINGER_SECONDS if config.mode == "Standard" else 0),
        "TMPDIR": "/scratch",
    }
    container: KubeObject = {
        "name": CONTAINER,
        "image": config.image or image("predictor"),
        "args": [
            "--model-dir=/mnt/models",
            f"--model-name={project}",
            f"--model-version={release.model_version}",
            f"--port={PORT}",
            *vouched,
        ],
        "env": [
            *({"name": name, "value": value} for name, value in environ.items()),
            # By reference: whoever deploys cannot change whom the namespace trusts.
            _from_config_map("MODEL_PUBLIC_KEYS"),
            _from_config_map("MODEL_SIGNERS"),
        ],
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        **_probes(project),
        "resources": _resources(config),
        "securityContext": dict(_RESTRICTED),
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    }
    if config.grpc:
        container["args"].append(f"--grpc-port={GRPC_PORT}")
        container["ports"].append({"containerPort": GRPC_PORT, "name": "grpc", "protocol": "TCP"})
        # KServe makes a Service port of each; with several, each needs a name.
        container["ports"][0]["name"] = "http1"
    if config.online == "predictor":
        container["args"].append("--online")
        container["args"].append(f"--feature-project={project}")
        container["args"] += [
            f"--{n.replace('_', '-')}={v}" for n, v in config.online_flags().items()
        ]
        uri = environment.feature_store_uri()
        container["env"].append({"name": "FEATURE_STORE_URI", "value": uri})
    if config.trust_request_time:
        container["args"].append("--trust-request-time")
    if config.secret:
        container["envFrom"] = [{"secretRef": {"name": config.secret}}]
    return container


def _probes(project: str) -> KubeObject:
    return {
        "readinessProbe": {
            "httpGet": {"path": f"/v2/models/{project}/ready", "port": PORT},
            "periodSeconds": 5,
        },
        "livenessProbe": {
            "httpGet": {"path": "/v2/health/live", "port": PORT},
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
    }


def _resources(config: DeploymentConfig) -> dict[str, dict[str, str]]:
    wanted = config.resources
    limits = {"cpu": wanted.max_cpu, "memory": wanted.max_memory}
    if wanted.gpus:
        limits[wanted.gpu_type] = str(wanted.gpus)
    return {"requests": {"cpu": wanted.cpu, "memory": wanted.memory}, "limits": limits}


def _from_config_map(name: str) -> KubeObject:
    reference = {"name": environment.CONFIG_MAP, "key": name, "optional": True}
    return {"name": name, "valueFrom": {"configMapKeyRef": reference}}


def transformer(project: str, config: DeploymentConfig) -> KubeObject:
    """The part that looks features up by entity keys; KServe tells it where the predictor is."""
    wanted = config.resources
    return {
        "minReplicas": config.replicas,
        "maxReplicas": config.autoscaling.max_replicas if config.autoscaling else config.replicas,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "securityContext": dict(_POD),
        **({"serviceAccountName": config.service_account} if config.service_account else {}),
        "containers": [
            {
                "name": CONTAINER,
                "image": image("features"),
                "command": ["python3", "-m", TRANSFORMER],
                # As two arguments each: KServe adds those that it does not find so.
                "args": [
                    *("--model_name", project, "--http_port", str(PORT)),
                    *(part for n, v in config.online_flags().items() for part in (f"--{n}", v)),
                ],
                "env": [
                    {"name": "FEATURE_STORE_URI", "value": environment.feature_store_uri()},
                    {"name": "TMPDIR", "value": "/scratch"},
                    {"name": "HOME", "value": "/scratch"},
                ],
                "envFrom": [{"secretRef": {"name": config.secret}}],
                "ports": [{"containerPort": PORT, "protocol": "TCP"}],
                "readinessProbe": {
                    "httpGet": {"path": "/v2/health/ready", "port": PORT},
                    "periodSeconds": 5,
                },
                "livenessProbe": {
                    "httpGet": {"path": "/v2/health/live", "port": PORT},
                    "periodSeconds": 10,
                    "failureThreshold": 6,
                },
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                "resources": {
                    "requests": {"cpu": wanted.cpu, "memory": wanted.memory},
                    "limits": {"cpu": wanted.max_cpu, "memory": wanted.max_memory},
                },
                "securityContext": dict(_RESTRICTED),
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
            }
        ],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}],
    }


def _scaling(config: DeploymentConfig) -> KubeObject:
    scaling = config.autoscaling
    if scaling is None:
        return {}
    if scaling.by != "keda":
        return {"scaleMetric": scaling.metric, "scaleTarget": scaling.target}
    return {
        "autoScaling": {
            "metrics": [
                {
                    "type": "External",
                    "external": {
                        "metric": {
                            "backend": "prometheus",
                            "serverAddress": scaling.server,
                            "query": scaling.query,
                        },
                        "target": {"type": "Value", "value": str(scaling.target)},
                    },
                }
            ]
        }
    }


def inference_service(
    project: str, namespace: str, config: DeploymentConfig, spec: KubeObject
) -> KubeObject:
    """The InferenceService with a `spec`, labelled as its predictor is."""
    has_transformer = config.online == "transformer"
    annotations: dict[str, str] = {"serving.kserve.io/deploymentMode": config.mode}
    if config.mode == "Knative":
        annotations[_TAG_ROUTING] = "true"
    elif config.autoscaling is None:
        # KServe would make an HPA by itself.
        annotations["serving.kserve.io/autoscalerClass"] = "none"
    else:
        annotations["serving.kserve.io/autoscalerClass"] = config.autoscaling.by
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {
            "name": project,
            "namespace": namespace,
            "labels": spec["predictor"].get("labels", {}),
            "annotations": annotations,
        },
        "spec": spec | ({"transformer": transformer(project, config)} if has_transformer else {}),
    }


def record(project: str, namespace: str, stable: KubeObject | None) -> KubeObject:
    """What notes the predictor that serves, beside the InferenceService; None takes the note away."""
    note = {STABLE: json.dumps(stable, sort_keys=True)} if stable else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": f"{project}-predictor",
            "namespace": namespace,
            "annotations": note,
        },
    }


def companions(
    project: str, namespace: str, release: Release, config: DeploymentConfig
) -> list[KubeObject]:
    """What stands beside the InferenceService: a disruption budget and a network policy."""
    pods = {"matchLabels": {SERVICE_LABEL: project}}
    metadata = {"name": f"{project}-predictor", "namespace": namespace, "labels": labels(release)}
    sources: list[KubeObject] = [{"podSelector": {}}]
    if config.allow_from:
        names = {"key": "kubernetes.io/metadata.name", "operator": "In"}
        selector = {"matchExpressions": [{**names, "values": config.allow_from}]}
        sources.append({"namespaceSelector": selector})
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {
            "podSelector": pods,
            "policyTypes": ["Ingress"],
            "ingress": [{"from": sources}],
        },
    }
    if config.replicas == 1:
        return [policy]
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        "spec": {"maxUnavailable": 1, "selector": pods},
    }
    return [policy, budget]
