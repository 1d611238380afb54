"""The doctor's check of Kubeflow's MLflow plug-in (KEP-12862), which opens runs beside ours.

Read in kubeflow/pipelines 2.17.0, `backend/src/apiserver/plugins/mlflow/config.go` and
`backend/src/v2/common/plugins/mlflow/handler.go`. An administrator sets it up in the API server's
`config.json`; a namespace may change four settings in `kfp-launcher`, and nothing is read if there is
another key. With `injectUserEnvVars` every container gets the plug-in's MLFLOW_TRACKING_URI, which our
tasks then use in place of the namespace's own.
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from slipway.cluster.doctor.findings import DoctorTarget, Line, fail, ok, or_none, warn

WHAT = "MLflow plug-in"
LAUNCHER, KEY = "kfp-launcher", "plugins.mlflow"
_ALLOWED = frozenset(
    {
        "experimentDescription",
        "defaultExperimentName",
        "injectUserEnvVars",
        "credentialSecretRef",
    }
)


def mlflow_plugin(site: DoctorTarget) -> Iterator[Line]:
    """That the plug-in, where it is set up, sends tasks to the server that the project uses."""
    from kubernetes.client import CoreV1Api

    shared = _of_the_server(site)
    launcher = or_none(CoreV1Api(site.api).read_namespaced_config_map, LAUNCHER, site.namespace)
    text = ((launcher and launcher.data) or {}).get(KEY) or "{}"
    try:
        own = json.loads(text)
        settings = own.get("settings") or {}
        unknown = sorted({*own} - {"settings"} | {*settings} - _ALLOWED)
    except (ValueError, AttributeError):
        unknown = ["no JSON object"]
    if unknown:
        yield fail(
            WHAT,
            f"Kubeflow does not read {KEY} of {LAUNCHER} in {site.namespace} ({', '.join(unknown)}): it"
            f" may have settings alone, with {', '.join(sorted(_ALLOWED))}",
        )
        return
    merged = {**(shared.get("settings") or {}), **settings}
    if not shared and not settings:
        yield ok(WHAT, "is not set up: tasks log to the namespace's own MLflow")
    elif not merged.get("injectUserEnvVars"):
        yield ok(
            WHAT,
            "opens runs of its own; training does not join them (settings.injectUserEnvVars is off)",
        )
    else:
        yield from _injected(site, str(shared.get("endpoint") or ""))


def _injected(site: DoctorTarget, endpoint: str) -> Iterator[Line]:
    """What it means that tasks are given the plug-in's server."""
    ours = _server(site.settings.get("MLFLOW_TRACKING_URI", ""))
    if not endpoint:
        yield warn(
            WHAT,
            "gives tasks its own server (injectUserEnvVars), and which one that is may not be read here:"
            f" it must be MLFLOW_TRACKING_URI of the secret, {ours or 'which was not read'}",
        )
    elif _server(endpoint) == ours:
        yield ok(WHAT, f"training joins its runs on {ours}")
    else:
        yield fail(
            WHAT,
            f"gives tasks the server {_server(endpoint)} (injectUserEnvVars), the secret names"
            f" {ours or 'none'}: models would be registered where nothing else looks. Set both to one"
            f" server, or settings.injectUserEnvVars to false in {LAUNCHER}",
        )


def _of_the_server(site: DoctorTarget) -> dict[str, Any]:
    """The plug-in's settings in the API server's config.json; empty where none can be read."""
    from kubernetes.client import ApiException, AppsV1Api, CoreV1Api

    try:
        deployment = or_none(
            AppsV1Api(site.api).read_namespaced_deployment, "ml-pipeline", site.kfp_namespace
        )
        volumes = (deployment and deployment.spec.template.spec.volumes) or ()
        for name in (v.config_map.name for v in volumes if v.config_map):
            core = CoreV1Api(site.api)
            found = or_none(core.read_namespaced_config_map, name, site.kfp_namespace)
            config = json.loads(((found and found.data) or {}).get("config.json") or "{}")
            plugins = {key.lower(): value for key, value in config.items()}.get("plugins") or {}
            if plugin := plugins.get("mlflow"):
                return dict(plugin)
    except (ApiException, ValueError, AttributeError, TypeError):
        return {}  # What an administrator keeps to himself is not known here.
    return {}


def _server(address: str) -> str:
    """An address without credentials and without what makes no difference."""
    parts = urlsplit(address)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/')}" if address else ""
