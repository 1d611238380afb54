"""A Kubernetes API over real HTTP that plays KServe, and the network behind it.

It keeps objects, does server-side apply for one manager, counts verbs for the Role, injects faults, and
moves the status of InferenceServices as KServe's controller would. A second port is an HTTP proxy: the
cluster's names and pod addresses lead to predictors that really run.
"""

import http.client
import json
import random
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

LABEL = "slipway.dev/model-version"
PLURALS = {
    "inferenceservices": "serving.kserve.io",
    "networkpolicies": "networking.k8s.io",
    "poddisruptionbudgets": "policy",
    "pods": "",
    "events": "",
}


@dataclass
class Fault:
    """What the next matching requests get in place of an answer."""

    method: str
    status: int
    message: str = ""
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    causes: list[dict[str, str]] = field(default_factory=list)


class KubeDouble:
    """`predictors` maps a model version to the base URL of a process that serves it."""

    def __init__(self, predictors: dict[str, str]) -> None:
        self.predictors = predictors
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.applied: list[dict[str, Any]] = []
        self.verbs: set[tuple[str, str, str]] = set()
        self.faults: list[Fault] = []
        self.broken: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.log_text = "Traceback: no such file /mnt/models/model.onnx"
        self.slow_polls = 1
        self.pod_metrics: dict[str, str] = {}
        self.answered: dict[str, int] = {}
        self.unready_moments = 0
        self._polls = 0
        self._revisions = 0
        self._lock = threading.Lock()
        self.api = _serve(_Api, self)
        self.proxy = _serve(_Proxy, self)

    def close(self) -> None:
        for server in (self.api, self.proxy):
            server.shutdown()
            server.server_close()

    def environment(self, folder: Path) -> dict[str, str]:
        """KUBECONFIG and the proxy, as a task would have its network."""
        config = folder / "kubeconfig"
        config.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": _url(self.api)}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        return {
            "KUBECONFIG": str(config),
            "http_proxy": _url(self.proxy),
            "HTTP_PROXY": _url(self.proxy),
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
        }

    @property
    def service(self) -> dict[str, Any] | None:
        return self.objects.get(("inferenceservices", "flights"))

    # What KServe does.

    def apply(self, kind: str, name: str, manifest: dict[str, Any]) -> dict[str, Any]:
        old = self.objects.get((kind, name), {})
        new = json.loads(json.dumps(manifest))
        changed = old.get("spec") != new["spec"]
        generation = old.get("metadata", {}).get("generation", 0) + changed
        new["metadata"]["generation"] = generation
        new["status"] = old.get("status", {})
        if kind == "inferenceservices":
            self.applied.append(json.loads(json.dumps(manifest)))
            self._polls = 0
            standing = new.get("_knative") or old.get("_knative") or {"revisions": []}
            new["_knative"] = standing
        self.objects[(kind, name)] = new
        return new

    def read(self, kind: str, name: str) -> dict[str, Any] | None:
        found = self.objects.get((kind, name))
        if found and kind == "inferenceservices":
            self._polls += 1
            if self._polls > self.slow_polls:
                self._reconcile(found)
        return found

    def _reconcile(self, service: dict[str, Any]) -> None:
        mode = service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
        status = service.setdefault("status", {})
        status["observedGeneration"] = service["metadata"]["generation"]
        if mode == "Standard":
            self._standard(service["spec"], status)
        else:
            self._knative(service["spec"], status, service["_knative"])

    def _standard(self, spec: dict[str, Any], status: dict[str, Any]) -> None:
        version = spec["predictor"]["labels"][LABEL]
        status["canaryStatuses"] = [
            {
                "name": canary["predictor"]["name"],
                "ready": canary["predictor"]["labels"][LABEL] not in self.broken,
                "trafficPercent": canary["trafficPercent"],
            }
            for canary in spec.get("canary", [])
        ]
        self._ready(status, version not in self.broken)
        self.split = {version: 100 - sum(c["trafficPercent"] for c in spec.get("canary", []))} | {
            c["predictor"]["labels"][LABEL]: c["trafficPercent"] for c in spec.get("canary", [])
        }

    def _knative(
        self, spec: dict[str, Any], status: dict[str, Any], standing: dict[str, Any]
    ) -> None:
        predictor = spec["predictor"]
        share = predictor.get("canaryTrafficPercent")
        body = {k: v for k, v in predictor.items() if k != "canaryTrafficPercent"}
        revisions = standing["revisions"]
        if not revisions or revisions[-1]["body"] != body:
            name = f"flights-predictor-{len(revisions) + 1:05d}"
            revisions.append({"name": name, "body": body, "version": body["labels"][LABEL]})
        latest = revisions[-1]
        component = status.setdefault("components", {}).setdefault("predictor", {})
        component["latestCreatedRevision"] = latest["name"]
        good = latest["version"] not in self.broken
        if good:
            component["latestReadyRevision"] = latest["name"]
        rolled = component.get("latestRolledoutRevision")
        if share is None and good:
            component["latestRolledoutRevision"] = rolled = latest["name"]
        share = 100 if share is None or rolled is None else share
        stable = next((r for r in revisions if r["name"] == rolled), latest)
        ready = next(
            (r for r in revisions if r["name"] == component.get("latestReadyRevision")), stable
        )
        self.split = {stable["version"]: 100 - share} if share < 100 else {}
        self.split[ready["version"]] = self.split.get(ready["version"], 0) + share
        host = "http://latest-flights-predictor.models.example.com"
        component["traffic"] = [{"tag": "latest", "url": host, "percent": share}]
        self._latest = ready["version"]
        self._ready(status, good)

    def _ready(self, status: dict[str, Any], ready: bool) -> None:
        was = any(c["status"] == "True" for c in status.get("conditions", []))
        status["conditions"] = [
            {"type": "Ready", "status": "True" if ready else "False", "reason": "PredictorNotReady"}
        ]
        if ready:
            status["address"] = {"url": "http://flights-predictor.models.svc.cluster.local"}
            status["url"] = "http://flights.models.example.com"
        elif was:
            self.unready_moments += 1

    def pods(self, selector: str) -> list[dict[str, Any]]:
        wanted = dict(part.split("=") for part in selector.split(","))
        version = wanted.get(LABEL, "")
        if version in self.broken:
            return [{"metadata": {"name": f"flights-{version}"}, "status": self.broken[version]}]
        if version in getattr(self, "split", {}):
            return [{"metadata": {"name": "p"}, "status": {"podIP": f"10.0.0.{version}"}}]
        return []

    def route(self, host: str) -> str | None:
        """Which version a request to a host of the cluster reaches."""
        if host.startswith("10.0.0."):
            return host.rsplit(".", 1)[1]
        if host.startswith("latest-"):
            return str(self._latest)
        if host == "flights-predictor.models.svc.cluster.local":
            versions = list(self.split)
            return str(random.choices(versions, [self.split[v] for v in versions])[0])
        if host.startswith("flights-v"):
            return host.removeprefix("flights-v").split("-")[0]
        return None

    def take_fault(self, method: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.method == method and fault.times:
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    double: KubeDouble

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


class _Api(_Handler):
    def do_GET(self) -> None:
        self._answer("GET")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        double, body = self.double, self.body()
        fault = double.take_fault(method)
        if fault is not None:
            if fault.status == 0:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            content = {
                "kind": "Status",
                "code": fault.status,
                "message": fault.message,
                "details": {"causes": fault.causes},
            }
            self.reply(fault.status, json.dumps(content).encode(), fault.headers)
            return
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        parts = url.path.split("/namespaces/")[1].split("/")
        assert parts[0] == "models"
        kind, name = parts[1], parts[2] if len(parts) > 2 else ""
        sub = f"{kind}/log" if parts[3:] == ["log"] else kind
        verb = {"GET": "get" if name else "list", "PATCH": "patch", "DELETE": "delete"}[method]
        double.verbs.add((PLURALS[kind], sub, verb))
        assert self.headers["Authorization"] == "Bearer t"
        if method == "PATCH":
            assert self.headers["Content-Type"] == "application/apply-patch+yaml"
            assert query["fieldManager"] == "slipway" and "force" not in query
            if (kind, name) not in double.objects:
                double.verbs.add((PLURALS[kind], sub, "create"))
            found = double.apply(kind, name, json.loads(body))
        elif method == "DELETE":
            found = double.objects.pop((kind, name), None)
        elif sub == "pods/log":
            self.reply(200, double.log_text.encode(), {"Content-Type": "text/plain"})
            return
        elif kind == "pods":
            found = {"items": double.pods(query["labelSelector"])}
        elif kind == "events":
            found = {"items": double.events}
        else:
            found = double.read(kind, name)
        if found is None:
            content = {"kind": "Status", "code": 404, "message": f'{kind} "{name}" not found'}
            self.reply(404, json.dumps(content).encode())
            return
        shown = {key: value for key, value in found.items() if key != "_knative"}
        self.reply(200, json.dumps(shown).encode())


class _Proxy(_Handler):
    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def _forward(self) -> None:
        body, url = self.body(), urlsplit(self.path)
        host = url.hostname or ""
        version = self.double.route(host)
        if version is None or version not in self.double.predictors:
            self.reply(502, b"no such host in the cluster")
            return
        if url.path == "/metrics" and version in self.double.pod_metrics:
            self.reply(200, self.double.pod_metrics[version].encode())
            return
        self.double.answered[version] = self.double.answered.get(version, 0) + 1
        target = urlsplit(self.double.predictors[version])
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=20)
        connection.request(self.command, url.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        self.reply(answer.status, answer.read())
        connection.close()


def _serve(handler: type[_Handler], double: KubeDouble) -> ThreadingHTTPServer:
    bound = type(handler.__name__, (handler,), {"double": double})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def _url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"
