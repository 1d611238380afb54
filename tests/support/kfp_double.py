"""A double of the Kubeflow Pipelines v2beta1 API over real HTTP.

Built on the API's published types (kfp-server-api): every body is checked field by field against
them, and answers carry their field names. It keeps what the real backend keeps, refuses what it
refuses (names, duplicates, unknown parameters, wrong types, schedules without seconds), pages, and can
be told to be slow, to answer an error, to drop the connection before or after it acted, and to ask for
a token.

What it answers that a reader would not expect is the real one's (kubeflow/pipelines at tag 2.17.0, below
backend/src; docs/platform.md has the list):

- numbers come back as doubles: 2.0 as 2 (apiserver/server/api_util.go, YamlStringToPipelineSpecStruct);
- the details of a run are Argo's nodes: drivers, `executor`, `executor(0)`, groups and exit hooks among
  them, in no order, without an error, without a parent; what was never reached is there without a state
  or not at all (common/util/workflow.go, NodeStatuses; apiserver/server/api_converter.go,
  toApiPipelineTaskDetail; v2/compiler/argocompiler/dag.go and container.go);
- what has not finished finished in 1970, a node of it in the year 1 (api_converter.go, toApiRun);
- a run that is terminated is CANCELING, then FAILED: nothing ever sets CANCELED
  (storage/run_store.go, TerminateRun; resource/resource_manager.go, ReportWorkflowResource);
- a page token holds what the first page was sorted and filtered by, and another order with it is refused
  (apiserver/server/list_request_util.go);
- parameters of a request over 10,000 bytes together are refused (common/util/consts.go);
- the connection to MySQL speaks `utf8`, which has no character beyond U+FFFF: what holds one cannot be
  stored, and the answer is a 500 (apiserver/client/sql.go).
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from support.kfp.pipelines import (
    create_experiment,
    create_pipeline,
    get_version,
    list_experiments,
    list_pipelines,
    list_versions,
    pipeline_by_name,
    upload_version,
)
from support.kfp.runs import (
    create_recurring,
    create_run,
    delete_recurring,
    delete_run,
    get_run,
    list_recurring,
    list_runs,
    switch,
    terminate,
)
from support.kfp.state import PREFIX, Double, Fault, Refused


@contextmanager
def serve(double: Double) -> Iterator[Double]:
    """Serves a double on a free port of the loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(double))
    server.daemon_threads = True
    double.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(double: Double) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer()

        do_POST = do_DELETE = do_GET

        def log_message(self, *args: Any) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            line = f"{self.command} {path}"
            double.on_request(line)
            with double.lock:
                double.requests.append(line)
                fault = _fault(double, self.command, path)
                if fault and fault.kind == "drop":
                    self.close_connection = True
                    return
                if fault and fault.kind == "slow":
                    time.sleep(fault.seconds)
                if fault and isinstance(fault.kind, int):
                    extra = {"Retry-After": fault.retry_after} if fault.retry_after else {}
                    self.reply(fault.kind, {"code": 13, "message": "made to fail"}, extra)
                    return
                try:
                    self.allow(parts.query)
                    query = {k: v[0] for k, v in parse_qs(parts.query).items()}
                    content = _route(double, self.command, path, query, body, self.headers)
                    status = 200
                except Refused as refusal:
                    status, content = refusal.status, {"code": 3, "message": str(refusal)}
            if fault and fault.kind == "drop after":
                self.close_connection = True
                return
            self.reply(status, content, {})

        def allow(self, query: str) -> None:
            if double.token and self.headers.get("Authorization") != f"Bearer {double.token}":
                raise Refused(401, "Request header error: there is no user identity header")
            namespace = parse_qs(query).get("namespace", [""])[0]
            if double.multi_user and namespace and namespace not in double.namespaces:
                raise Refused(403, f"User is not authorized in namespace {namespace}")
            for kind, verb in () if double.rights is None else _asked(self.command, self.path):
                if (kind, verb) not in double.rights:
                    raise Refused(403, f"User may not {verb} {kind}.pipelines.kubeflow.org")

        def reply(self, status: int, content: Any, headers: dict[str, str]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    return Handler


def _asked(method: str, path: str) -> list[tuple[str, str]]:
    """What the server's access review asks for a request: the kind of resource and the verb."""
    parts = urlsplit(path).path.removeprefix(PREFIX).strip("/").split("/")
    kind, last = parts[0], parts[-1]
    if kind not in ("runs", "experiments", "pipelines"):
        return []
    if method == "POST" and ":" in last:
        return [(kind, last.partition(":")[2])]
    if method == "DELETE":
        return [(kind, "delete")]
    if method == "POST":
        # Who starts a run must be allowed to read the pipeline that it names.
        return [(kind, "create"), *([("pipelines", "get")] if kind == "runs" else [])]
    return [(kind, "list" if last in (kind, "versions") else "get")]


def _fault(double: Double, method: str, path: str) -> Fault | None:
    for fault in double.faults:
        if fault.times and fault.method == method and re.search(fault.path, path):
            fault.times -= 1
            return fault
    return None


def _route(
    double: Double, method: str, path: str, query: dict[str, str], body: bytes, headers: Any
) -> Any:
    if not path.startswith(PREFIX):
        raise Refused(404, "Not Found")
    path = path.removeprefix(PREFIX)
    for (verb, pattern), work in ROUTES.items():
        match = re.fullmatch(pattern, path)
        if verb == method and match:
            return work(double, *match.groups(), query=query, body=body, headers=headers)
    raise Refused(404, f"Not Found: {method} {path}")


def _health(double: Double, **_: Any) -> Any:
    return {"multi_user": double.multi_user, "pipeline_store": "database"}


ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", "/healthz"): _health,
    ("POST", "/pipelines"): create_pipeline,
    ("GET", "/pipelines"): list_pipelines,
    ("GET", "/pipelines/names/([^/]+)"): pipeline_by_name,
    ("POST", "/pipelines/upload_version"): upload_version,
    ("GET", "/pipelines/([^/]+)/versions"): list_versions,
    ("GET", "/pipelines/([^/]+)/versions/([^/]+)"): get_version,
    ("POST", "/experiments"): create_experiment,
    ("GET", "/experiments"): list_experiments,
    ("POST", "/runs"): create_run,
    ("GET", "/runs"): list_runs,
    ("GET", "/runs/([^/:]+)"): get_run,
    ("DELETE", "/runs/([^/:]+)"): delete_run,
    ("POST", "/runs/([^/:]+):terminate"): terminate,
    ("POST", "/recurringruns"): create_recurring,
    ("GET", "/recurringruns"): list_recurring,
    ("DELETE", "/recurringruns/([^/:]+)"): delete_recurring,
    ("POST", "/recurringruns/([^/:]+):enable"): switch("ENABLED"),
    ("POST", "/recurringruns/([^/:]+):disable"): switch("DISABLED"),
}
