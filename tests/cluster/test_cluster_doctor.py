"""The doctor: each line says ok where all is well, and what to do where it is not."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kfp_double import Double

from slipway.cluster.connection import Connection
from slipway.cluster.doctor.doctor import examine
from slipway.cluster.doctor.findings import Line
from slipway.pipelines.package import Package, read_package

ACCOUNT = "pipeline-runner"


class Cluster:
    """A Kubernetes API server that answers what the doctor asks, from plain objects.

    Paths that it does not know are 404, as on a cluster that lacks the object.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.refused: set[tuple[str, str]] = set()
        self.forbidden: list[str] = []
        self.reviews: list[dict[str, Any]] = []

    def answer(self, method: str, path: str, body: Any, headers: Any) -> tuple[int, Any]:
        if any(re.search(pattern, path) for pattern in self.forbidden):
            return 403, {"kind": "Status", "message": f"user cannot get {path}", "code": 403}
        if method == "POST" and path.endswith("selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            self.reviews.append({**asked, "as": headers.get("Impersonate-User")})
            allowed = (asked["verb"], asked["resource"]) not in self.refused
            return 201, {**body, "status": {"allowed": allowed}}
        if path in self.objects:
            return 200, self.objects[path]
        return 404, {"kind": "Status", "message": "not found", "code": 404}


CONTROLLER = "/apis/apps/v1/namespaces/kserve/deployments/kserve-controller-manager"
STORAGE = "/apis/serving.kserve.io/v1alpha1/clusterstoragecontainers"
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def storage_container(**context: Any) -> dict[str, Any]:
    """As in kserve's config/storagecontainers/default.yaml, which has no security context."""
    container = {"name": "storage-initializer"} | ({"securityContext": context} if context else {})
    return {
        "metadata": {"name": "default"},
        "spec": {
            "container": container,
            "supportedUriFormats": [{"prefix": "gs://"}, {"prefix": "s3://"}],
            "workloadType": "initContainer",
        },
    }


def healthy(mlflow: str, registry: str, redis_port: int, bucket: str) -> dict[str, Any]:
    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    core = "/api/v1/namespaces"
    node = {
        "metadata": {"name": "gpu-1", "labels": {"pool": "gpu"}},
        "spec": {},
        "status": {"allocatable": {"nvidia.com/gpu": "2"}},
    }
    image = f"{registry}/kfp-api-server:2.17.1"
    return {
        "/apis/apps/v1/namespaces/kubeflow/deployments/ml-pipeline": {
            "spec": {
                "selector": {},
                "template": {"spec": {"containers": [{"name": "api", "image": image}]}},
            }
        },
        f"{core}/team": {
            "metadata": {
                "name": "team",
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            }
        },
        f"{core}/team/serviceaccounts/{ACCOUNT}": {"metadata": {"name": ACCOUNT}},
        f"{core}/team/configmaps/slipway-config": {
            "data": {
                "FEATURE_STORE_URI": bucket,
                "INFERENCE_LOG_URI": bucket,
                "MONITORING_URI": bucket,
                "SLIPWAY_HOME": "/tmp/slipway",
            }
        },
        f"{core}/team/secrets/slipway-secrets": {
            "data": {
                "MLFLOW_TRACKING_URI": encoded(mlflow),
                "FEAST_REDIS_URL": encoded(f"127.0.0.1:{redis_port}"),
            }
        },
        f"{core}/kserve/configmaps/inferenceservice-config": {
            "data": {
                "deploy": json.dumps({"defaultDeploymentMode": "Standard"}),
                "ingress": json.dumps({"enableGatewayApi": True}),
            }
        },
        CONTROLLER: {
            "spec": {
                "selector": {},
                "template": {"spec": {"containers": [{"name": "m", "image": "x/kserve:v0.21.0"}]}},
            }
        },
        STORAGE: {"items": [storage_container(**RESTRICTED)]},
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
        "inferenceservices.serving.kserve.io": {
            "spec": {
                "group": "serving.kserve.io",
                "names": {"kind": "InferenceService", "plural": "inferenceservices"},
                "scope": "Namespaced",
                "versions": [{"name": "v1beta1", "served": True, "storage": True}],
            }
        },
        "/api/v1/nodes": {"items": [node]},
        "/api/v1/pods": {"items": []},
    }


class _Server:
    """Serves one function over HTTP on a free port."""

    def __init__(self, answer: Any) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.split("?")[0]
                content = json.loads(body) if body else None
                status, value = answer(self.command, path, content, self.headers)
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_POST = do_HEAD = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_port
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


class _Redis(threading.Thread):
    """Answers every command with PONG, or with an error: all that a PING needs."""

    def __init__(self) -> None:
        import socketserver

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while line := self.rfile.readline():
                    if line.startswith(b"*"):
                        words = []
                        for _ in range(int(line[1:])):
                            size = int(self.rfile.readline()[1:])
                            words.append(self.rfile.read(size + 2)[:-2].upper())
                        self.wfile.write(b"+PONG\r\n" if words == [b"PING"] else b"+OK\r\n")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        super().__init__(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.port = self.server.server_address[1]
        self.start()


class Site:
    """All the servers of a site that is well, and a package that asks for what they have."""

    def __init__(self, double: Double, folder: Path, package: Package) -> None:
        self.cluster = Cluster()
        self.tracking = 200
        self.registry_status = 200
        api = _Server(self.cluster.answer)
        mlflow = _Server(lambda *_: (self.tracking, "OK"))
        registry = _Server(lambda *_: (self.registry_status, {}))
        self.redis = _Redis()
        self.servers = [api, mlflow, registry]
        self.double = double
        self.registry = f"127.0.0.1:{registry.port}"
        self.cluster.objects = healthy(
            f"http://127.0.0.1:{mlflow.port}",
            self.registry,
            self.redis.port,
            f"memory://{folder.name}",
        )
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                    "clusters": [
                        {"name": "test", "cluster": {"server": f"http://127.0.0.1:{api.port}"}}
                    ],
                    "users": [{"name": "test", "user": {"token": "t"}}],
                }
            )
        )
        self.spec = deepcopy(package)
        for executor in self.spec.spec["deploymentSpec"]["executors"].values():
            container = executor["container"]
            container["image"] = f"{self.registry}/{container['image']}"
        self.arguments: dict[str, Any] = {"data_root": "s3://lake"}

    def set(self, parameter: str, value: Any) -> None:
        self.spec.parameters[parameter]["defaultValue"] = value

    def lines(self) -> dict[str, Line]:
        connection = Connection.of(host=self.double.url, namespace="team")
        return {line.what: line for line in examine(connection, self.spec, ACCOUNT, self.arguments)}

    def close(self) -> None:
        for server in self.servers:
            server.close()
        self.redis.server.shutdown()
        self.redis.server.server_close()


@pytest.fixture
def site(
    kubeflow_server: Double, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    site = Site(kubeflow_server, tmp_path, read_package(compiled / "flights-training.yaml"))
    monkeypatch.setenv("KUBECONFIG", str(site.kubeconfig))
    # kubernetes reads the path once, when it is imported.
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(site.kubeconfig)
    )
    yield site
    site.close()


def test_a_site_that_is_well(site: Site) -> None:
    lines = site.lines()
    assert {what: line.status for what, line in lines.items()} == dict.fromkeys(
        [
            "package",
            "data",
            "Kubeflow Pipelines",
            "permission",
            "Kubeflow version",
            "namespace",
            "service account",
            "config map",
            "secret",
            "MLflow",
            "MLflow plug-in",
            "feature registry",
            "online store",
            "object store",
            "KServe",
            "canary",
            "storage initializer",
            "GPU nodes",
            "images",
        ],
        "ok",
    ), lines
    assert "restricted" in lines["namespace"].message
    assert "mode Standard" in lines["KServe"].message
    assert lines["Kubeflow version"].message == "2.17.1"
    assert "2 of 2 nvidia.com/gpu free" in lines["GPU nodes"].message
    # The rights were asked as the pods' account, not as the caller.
    assert {r["as"] for r in site.cluster.reviews} == {f"system:serviceaccount:team:{ACCOUNT}"}
    secret = site.cluster.objects["/api/v1/namespaces/team/secrets/slipway-secrets"]["data"]
    values = [base64.b64decode(value).decode() for value in secret.values()]
    assert values[1] not in lines["secret"].message


CORE = "/api/v1/namespaces"


@dataclass(frozen=True)
class Case:
    name: str
    what: str
    status: str
    message: str
    remove: str = ""
    change: tuple[str, str, Any] | None = None
    forbid: str = ""


def _gpu(**changes: Any) -> tuple[str, str, Any]:
    node: dict[str, Any] = {
        "metadata": {"name": "gpu-1", "labels": {"pool": "gpu"}},
        "spec": {},
        "status": {"allocatable": {"nvidia.com/gpu": "2"}},
    }
    for key, value in changes.items():
        node[key] = value
    return ("/api/v1/nodes", "items", [node])


BUSY = {
    "metadata": {"name": "p"},
    "spec": {
        "nodeName": "gpu-1",
        "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "2"}}}],
    },
}

CASES = [
    Case(
        "no namespace",
        "namespace",
        "fail",
        "no namespace team: give --namespace, or make it with `slipway stack render`",
        remove=f"{CORE}/team",
    ),
    Case(
        "no namespace whose level could be read",
        "storage initializer",
        "skip",
        "no namespace team yet",
        remove=f"{CORE}/team",
    ),
    Case(
        "no account",
        "service account",
        "fail",
        f"has no {ACCOUNT}",
        remove=f"{CORE}/team/serviceaccounts/{ACCOUNT}",
    ),
    Case(
        "no config map",
        "config map",
        "fail",
        "there is no slipway-config",
        remove=f"{CORE}/team/configmaps/slipway-config",
    ),
    Case(
        "config map without a key",
        "config map",
        "fail",
        "slipway-config lacks FEATURE_STORE_URI, INFERENCE_LOG_URI",
        change=(f"{CORE}/team/configmaps/slipway-config", "data", {"SLIPWAY_HOME": "/tmp"}),
    ),
    Case(
        "no secret",
        "secret",
        "fail",
        "there is no slipway-secrets",
        remove=f"{CORE}/team/secrets/slipway-secrets",
    ),
    Case(
        "secret with an empty key",
        "secret",
        "fail",
        "lacks MLFLOW_TRACKING_URI",
        change=(f"{CORE}/team/secrets/slipway-secrets", "data", {"MLFLOW_TRACKING_URI": "IA=="}),
    ),
    Case(
        "no redis setting",
        "online store",
        "fail",
        "FEAST_REDIS_URL is empty",
        change=(
            f"{CORE}/team/secrets/slipway-secrets",
            "data",
            {"MLFLOW_TRACKING_URI": "aHR0cDovLzEyNy4wLjAuMToxCg=="},
        ),
    ),
    Case(
        "tracking on sqlite",
        "MLflow",
        "fail",
        "pods need http",
        change=(
            f"{CORE}/team/secrets/slipway-secrets",
            "data",
            {"MLFLOW_TRACKING_URI": base64.b64encode(b"sqlite:///x.db").decode()},
        ),
    ),
    Case("no KServe", "KServe", "fail", "install KServe", remove="inferenceservices"),
    Case(
        "a storage initializer without a security context",
        "storage initializer",
        "fail",
        """kubectl patch clusterstoragecontainer default --type merge -p '{"spec": {"container":"""
        """ {"securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}""",
        change=(STORAGE, "items", [storage_container()]),
    ),
    Case(
        "no storage container for the URI",
        "storage initializer",
        "fail",
        "no ClusterStorageContainer fetches s3://",
        change=(STORAGE, "items", []),
    ),
    Case(
        "a namespace that enforces nothing",
        "storage initializer",
        "ok",
        "does not enforce the restricted level",
        change=(f"{CORE}/team", "metadata", {"name": "team"}),
    ),
    Case(
        "KServe before canaries got requests",
        "canary",
        "warn",
        "KServe 0.20 routes no request to a canary in mode Standard (kserve#5912)",
        change=(
            CONTROLLER,
            "spec",
            {
                "selector": {},
                "template": {"spec": {"containers": [{"name": "m", "image": "x/kserve:v0.20.0"}]}},
            },
        ),
    ),
    Case(
        "KServe without the Gateway API",
        "canary",
        "warn",
        "set deployment.canary.share to 0 (golden rows only), or deployment.mode to Knative",
        change=(f"{CORE}/kserve/configmaps/inferenceservice-config", "data", {}),
    ),
    Case("KServe elsewhere", "canary", "warn", "its release is not known", remove=CONTROLLER),
    Case("no GPU", "GPU nodes", "warn", "no node offers", change=("/api/v1/nodes", "items", [])),
    Case(
        "GPUs in use",
        "GPU nodes",
        "warn",
        "0 of 2 free",
        change=("/api/v1/pods", "items", [BUSY]),
    ),
    Case(
        "tainted",
        "GPU nodes",
        "warn",
        "has taint gpu=yes:NoSchedule, which training does not tolerate",
        change=_gpu(spec={"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}),
    ),
    Case("cordoned", "GPU nodes", "warn", "is cordoned", change=_gpu(spec={"unschedulable": True})),
    Case("may not look", "GPU nodes", "skip", "you may not look", forbid="/api/v1/nodes"),
    Case(
        "old Kubeflow",
        "Kubeflow version",
        "warn",
        "2.5.0 is older than 2.17",
        change=(
            "/apis/apps/v1/namespaces/kubeflow/deployments/ml-pipeline",
            "spec",
            {
                "selector": {},
                "template": {"spec": {"containers": [{"name": "a", "image": "x/api:2.5.0"}]}},
            },
        ),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_wrong_is_named(case: Case, site: Site) -> None:
    if case.remove:
        for path in [
            p
            for p in site.cluster.objects
            if case.remove in p and (p == case.remove or "/" not in case.remove)
        ]:
            del site.cluster.objects[path]
    if case.change:
        path, key, value = case.change
        site.cluster.objects[path] = {**site.cluster.objects[path], key: value}
    if case.forbid:
        site.cluster.forbidden.append(case.forbid)
    line = site.lines()[case.what]
    assert (line.status, case.message in line.message) == (case.status, True), line


@pytest.mark.parametrize("name", ["FEATURE_STORE_URI", "INFERENCE_LOG_URI", "MONITORING_URI"])
def test_each_place_that_stages_write_to_is_tried(site: Site, name: str) -> None:
    settings = site.cluster.objects["/api/v1/namespaces/team/configmaps/slipway-config"]["data"]
    settings[name] = "s3://slipway-nobody-made-this/x"
    connection = Connection.of(host=site.double.url, namespace="team")
    lines = [
        line for line in examine(connection, site.spec, ACCOUNT) if line.what == "object store"
    ]
    assert [line.status for line in lines].count("ok") == 2
    (line,) = [line for line in lines if line.status == "fail"]
    assert f"{name}: s3://slipway-nobody-made-this/x cannot be written" in line.message


def test_rights_that_the_account_lacks_are_named_with_whose_need_they_are(site: Site) -> None:
    site.cluster.refused |= {("create", "inferenceservices"), ("patch", "workflowtaskresults")}
    line = site.lines()["service account"]
    assert line.status == "fail"
    assert "create inferenceservices.serving.kserve.io (for deploy)" in line.message
    assert "patch workflowtaskresults.argoproj.io" in line.message


def test_without_leave_to_use_the_cpu_a_missing_gpu_is_a_failure(site: Site) -> None:
    site.set("training_allow_cpu", False)
    site.cluster.objects["/api/v1/nodes"] = {"items": []}
    assert site.lines()["GPU nodes"].status == "fail"


def test_a_toleration_and_a_selector_are_honoured(site: Site) -> None:
    taint = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    _, _, items = _gpu(spec={"taints": [taint]})
    site.cluster.objects["/api/v1/nodes"] = {"items": items}
    site.set(
        "training_gpu_tolerations", [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    )
    assert site.lines()["GPU nodes"].status == "ok"
    site.set("training_gpu_tolerations", [{"key": "gpu", "value": "yes"}])
    assert site.lines()["GPU nodes"].status == "ok"
    site.set("training_gpu_node_selector", {"pool": "big"})
    assert "lacks label pool=big" in site.lines()["GPU nodes"].message


@pytest.mark.parametrize(
    ("status", "expected", "message"),
    [(404, "fail", "the registry answered 404"), (401, "skip", "need a login")],
)
def test_images_that_cannot_be_pulled(status: int, expected: str, message: str, site: Site) -> None:
    site.registry_status = status
    line = site.lines()["images"]
    assert (line.status, message in line.message) == (expected, True), line


def test_images_without_a_registry(site: Site) -> None:
    for executor in site.spec.spec["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = "slipway/ingest:0.1.0"
    assert "no registry is named" in site.lines()["images"].message


def test_a_tracking_server_that_is_ill(site: Site) -> None:
    site.tracking = 503
    line = site.lines()["MLflow"]
    assert (line.status, "answered 503" in line.message) == ("fail", True)


def test_kubeflow_that_refuses_is_named_and_the_rest_is_examined(site: Site) -> None:
    site.double.token = "another"
    lines = site.lines()
    assert "credentials were not accepted (401)" in lines["Kubeflow Pipelines"].message
    assert lines["secret"].status == "ok"


def test_several_users_need_a_namespace(site: Site) -> None:
    site.double.multi_user = True
    line = next(
        line
        for line in examine(Connection.of(host=site.double.url), site.spec, ACCOUNT)
        if line.what == "permission"
    )
    assert (line.status, "--namespace" in line.message) == ("fail", True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {},
            "data.root (empty): a pod does not see this machine's disk. Compile with --cluster",
        ),
        ({"data_root": ""}, "data.root (empty)"),
        ({"data_root": "file:///lake"}, "data.root (file:///lake)"),
        ({"data_root": "/mnt/lake"}, "data.root (/mnt/lake)"),
        (
            {"data_root": "s3://lake", "data": {"tables": {"t": {"path": "/mnt/t.csv"}}}},
            "data.tables.t.path (/mnt/t.csv)",
        ),
    ],
)
def test_data_on_one_machine_is_a_failure(arguments: dict[str, Any], says: str, site: Site) -> None:
    site.arguments = arguments
    line = site.lines()["data"]
    assert (line.status, says in line.message) == ("fail", True), line.message


@pytest.mark.parametrize("root", ["s3://lake", "gs://lake/x", "abfss://c@a.dfs.core.windows.net"])
def test_data_in_an_object_store_is_none(root: str, site: Site) -> None:
    site.arguments = {"data_root": root}
    line = site.lines()["data"]
    assert (line.status, line.message) == ("ok", f"3 tables, {root}")


@pytest.mark.parametrize("name", ["INFERENCE_LOG_URI", "MONITORING_URI", "FEATURE_STORE_URI"])
@pytest.mark.parametrize("place", ["build/x", "/mnt/x", "file:///mnt/x", "local://x"])
def test_a_store_on_one_machine_is_a_failure(name: str, place: str, site: Site) -> None:
    settings = site.cluster.objects[f"{CORE}/team/configmaps/slipway-config"]["data"]
    settings[name] = place
    what = "feature registry" if name == "FEATURE_STORE_URI" else "object store"
    connection = Connection.of(host=site.double.url, namespace="team")
    lines = [
        line
        for line in examine(connection, site.spec, ACCOUNT, site.arguments)
        if line.what == what and line.status == "fail"
    ]
    assert [place in line.message for line in lines] == [True]


SERVER = "/apis/apps/v1/namespaces/kubeflow/deployments/ml-pipeline"


def plug_in(site: Site, server: Any = None, namespace: str | None = None) -> Line:
    """The doctor's line with the plug-in set up for the API server, for the namespace, or for both."""
    if server is not None:
        spec = site.cluster.objects[SERVER]["spec"]["template"]["spec"]
        spec["volumes"] = [
            {"name": "tls", "secret": {"secretName": "x"}},
            {"name": "config", "configMap": {"name": "server-config"}},
        ]
        content = server if isinstance(server, str) else json.dumps({"Plugins": {"mlflow": server}})
        site.cluster.objects[f"{CORE}/kubeflow/configmaps/server-config"] = {
            "data": {"config.json": content}
        }
    if namespace is not None:
        site.cluster.objects[f"{CORE}/team/configmaps/kfp-launcher"] = {
            "data": {"plugins.mlflow": namespace}
        }
    return site.lines()["MLflow plug-in"]


def tracking(site: Site) -> str:
    secret = site.cluster.objects[f"{CORE}/team/secrets/slipway-secrets"]["data"]
    return base64.b64decode(secret["MLFLOW_TRACKING_URI"]).decode()


INJECT = {"settings": {"injectUserEnvVars": True}}


def test_the_plug_in_on_the_project_s_own_server_is_well(site: Site) -> None:
    line = plug_in(site, {"endpoint": f"{tracking(site)}/", **INJECT})
    assert (line.status, line.message) == ("ok", f"training joins its runs on {tracking(site)}")


def test_the_plug_in_on_another_server_is_a_failure(site: Site) -> None:
    line = plug_in(site, {"endpoint": "https://u:secret@mlflow.example.com", **INJECT})
    assert line.status == "fail"
    assert "gives tasks the server https://mlflow.example.com (injectUserEnvVars)" in line.message
    assert f"the secret names {tracking(site)}" in line.message and "secret@" not in line.message
    # The namespace may take that back.
    line = plug_in(site, None, json.dumps({"settings": {"injectUserEnvVars": False}}))
    assert line.status == "ok" and "training does not join them" in line.message


def test_a_namespace_that_turns_it_on_is_told_to_compare(site: Site) -> None:
    line = plug_in(site, None, json.dumps(INJECT))
    assert line.status == "warn"
    assert f"it must be MLFLOW_TRACKING_URI of the secret, {tracking(site)}" in line.message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"endpoint": "http://x", "settings": {}}', "(endpoint)"),
        ('{"settings": {"injectUserEnvVar": true}}', "(injectUserEnvVar)"),
        ("{", "(no JSON object)"),
        ("[]", "(no JSON object)"),
    ],
)
def test_settings_of_the_namespace_that_kubeflow_would_not_read_are_a_failure(
    text: str, named: str, site: Site
) -> None:
    line = plug_in(site, None, text)
    assert line.status == "fail" and named in line.message
    assert "credentialSecretRef, defaultExperimentName" in line.message


@pytest.mark.parametrize("server", ["{", "{}", '{"Plugins": 3}', {"endpoint": "http://x"}])
def test_a_plug_in_that_injects_nothing_is_well(server: Any, site: Site) -> None:
    assert plug_in(site, server).status == "ok"
