"""A cluster with KServe, over real HTTP or in memory, in simulated time, and the network behind it.

The parts: the API server (kube_api), Deployments and pods (kube_workloads), KServe's controller
(kserve_double) and Knative (knative_double). Delays and orders are drawn from the seed. A second port is
an HTTP proxy: the cluster's names and pod addresses lead to predictors that really run.
"""

import http.client
import json
import random
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.kserve_double import KIND, KServe
from support.kube_api import Fault, KubeApi, Object, Refused, as_text, role_rules
from support.kube_workloads import VERSION, Workloads, is_ready
from support.sim_clock import SimClock

LABEL = VERSION
__all__ = ["LABEL", "Fault", "KubeDouble"]


class KubeDouble:
    """One namespace, `models`, with the InferenceService `flights`.

    Attributes:
        predictors: model version to the base URL of a process that serves it.
        gaps: moments at which some of the endpoint's traffic went to no ready pod.
    """

    def __init__(self, predictors: dict[str, str], seed: int = 0, release: str = "0.21") -> None:
        self.predictors = predictors
        self.rng = random.Random(seed)
        self.clock = SimClock()
        self.api = KubeApi(self.clock, role_rules())
        self.work = Workloads(self.clock, self.api, self.rng)
        self.kserve = KServe(self.clock, self.api, self.work, self.rng, release)
        self.api.lists["pods"] = self.work.shown
        self.answered: dict[str, int] = {}
        self.gaps: list[str] = []
        self.pod_metrics: dict[str, str] = {}
        self._served = False
        self._servers: list[ThreadingHTTPServer] = []
        self.clock.watchers.append(self._watch)

    # What tests look at.

    @property
    def service(self) -> Object | None:
        return self.api.objects.get((KIND, "flights"))

    @property
    def applied(self) -> list[Object]:
        """The InferenceServices that were applied, in order."""
        return [a for a in self.api.applied if a["kind"] == "InferenceService"]

    @property
    def broken(self) -> dict[str, Object]:
        return self.work.broken

    @property
    def split(self) -> dict[str, int]:
        """Model version to its share of the endpoint's traffic, in percent."""
        shares: dict[str, int] = {}
        for deployment, share in self._weights().items():
            found = self.work.deployments.get(deployment)
            version = found.template["labels"][VERSION] if found else "none"
            if share:
                shares[version] = shares.get(version, 0) + share
        return shares

    def settle(self, seconds: float = 120) -> None:
        """Lets everything that is under way come to rest."""
        self.clock.sleep(seconds)

    def _weights(self) -> dict[str, int]:
        knative = self.kserve.knative
        revisions = {knative.deployment(r): share for r, share in knative.weights.items()}
        return revisions or self.kserve.weights

    def _watch(self) -> None:
        if self.service is None:
            self._served = False
            return
        weights = {name: share for name, share in self._weights().items() if share}
        empty = [name for name in weights if not self.work.ready(name)]
        if weights and not empty:
            self._served = True
        if self._served and (empty or not weights):
            self.gaps.append(f"{self.clock.now:.1f} s: {', '.join(empty) or 'no route'}")

    # The network.

    def pod_of(self, host: str) -> Object | None:
        """The pod that a request to a host of the cluster reaches; None: it reaches none."""
        if host.startswith("10."):
            pods = [p for p in self.work.pods.values() if p["status"].get("podIP") == host]
        else:
            pods = self.work.answering(self._backend(host))
        answering = [p for p in pods if p["status"]["phase"] == "Running" and not _crashed(p)]
        return self.rng.choice(answering) if answering else None

    def _backend(self, host: str) -> str:
        name = host.split(".")[0]
        if name in self.work.deployments and host.endswith(".svc.cluster.local"):
            return name
        if host.startswith("latest-"):
            latest = self.kserve.knative.status.get("latestReady", "")
            return self.kserve.knative.deployment(latest)
        weights = self._weights()
        public = name in ("flights", "flights-models")
        return (
            self.rng.choices(list(weights), list(weights.values()))[0] if public and weights else ""
        )

    # In memory: for hundreds of rollouts.

    def call(self, method: str, path: str, query: dict[str, str], body: Object | None) -> str:
        """One request, which takes a moment, as it would over HTTP."""
        self.clock.sleep(self.rng.uniform(0.002, 0.05))
        copied = json.loads(json.dumps(body)) if body is not None else None
        return as_text(self.api.request(method, path.format(namespace="models"), query, copied))

    # Over HTTP.

    def serve(self, folder: Path) -> dict[str, str]:
        """KUBECONFIG and the proxy, as a task would have its network."""
        api, settings = serve_api(self, folder)
        self._servers = [api, _serve(_Proxy, self)]
        proxy = f"http://127.0.0.1:{self._servers[1].server_address[1]}"
        return settings | {"http_proxy": proxy, "HTTP_PROXY": proxy}

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


def _crashed(pod: Object) -> bool:
    return not is_ready(pod) and "deletionTimestamp" not in pod["metadata"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    double: Any

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
    def _answer(self) -> None:
        double, body = self.double, self.body()
        assert self.headers["Authorization"] == "Bearer t"
        if self.command == "PATCH":
            assert self.headers["Content-Type"] == "application/apply-patch+yaml"
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        assert "force" not in query
        fault = next((f for f in double.api.faults if f.method == self.command and f.times), None)
        try:
            with double.clock.lock:
                double.clock.sleep(double.rng.uniform(0.002, 0.05))
                content = json.loads(body) if body else None
                answer = double.api.request(self.command, url.path, query, content)
        except Refused as error:
            if error.status == 0:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            headers = fault.headers if fault else {}
            self.reply(error.status, json.dumps(error.body).encode(), headers)
            return
        kind = "text/plain" if isinstance(answer, str) else "application/json"
        self.reply(200, as_text(answer).encode(), {"Content-Type": kind})

    do_GET = do_PATCH = do_DELETE = do_POST = _answer


class _Proxy(_Handler):
    def _forward(self) -> None:
        body, url = self.body(), urlsplit(self.path)
        with self.double.clock.lock:
            pod = self.double.pod_of(url.hostname or "")
        version = pod["metadata"]["labels"][VERSION] if pod else ""
        if version not in self.double.predictors:
            self.reply(503, b"no such host in the cluster")
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

    do_GET = do_POST = _forward


def serve_api(double: Any, folder: Path) -> tuple[ThreadingHTTPServer, dict[str, str]]:
    """Serves a double's API server over HTTP; gives the environment that leads there."""
    server = _serve(_Api, double)
    config = folder / "kubeconfig"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"},
                    }
                ],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    settings = {"KUBECONFIG": str(config), "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    return server, settings


def _serve(handler: type[_Handler], double: Any) -> ThreadingHTTPServer:
    bound = type(handler.__name__, (handler,), {"double": double})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server
