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
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_server_api as kfp
import yaml

from support.kfp_nodes import Nodes

PREFIX = "/apis/v2beta1"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NEVER = "1970-01-01T00:00:00Z"
STOPPABLE = ("PENDING", "RUNNING")


class Refused(Exception):
    """An answer other than 2xx."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass
class Fault:
    """What happens to the next requests that match.

    kind: an HTTP status, "drop" (before acting), "drop after" (after acting), or "slow".
    """

    method: str
    path: str
    kind: int | str
    times: int = 1
    retry_after: str = ""
    seconds: float = 0.0


@dataclass
class Double:
    """The server's state; the tests look at it and change it."""

    url: str = ""
    token: str = ""
    namespaces: set[str] = field(default_factory=set)
    multi_user: bool = False
    # Kind and verb, as a role in the namespace gives them; None: everything is allowed.
    rights: set[tuple[str, str]] | None = None
    page_size: int = 100
    # Orders and delays; each run has its own.
    seed: int = 0
    max_parameter_bytes: int = 10_000
    refuse_model: bool = False
    fail_task: str = ""
    # Whether the driver of `fail_task` fails, not its container.
    fail_driver: bool = False
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    clock: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    on_request: Callable[[str], None] = lambda line: None

    def chance(self, run: str) -> random.Random:
        """The order and the delays of one run, the same at each look."""
        return random.Random(f"{self.seed} {list(self.runs).index(run)}")

    def now(self) -> str:
        """A second later at each call, so that creation times tell the order."""
        self.clock += timedelta(seconds=1)
        return self.clock.isoformat().replace("+00:00", "Z")

    def titles(self) -> list[tuple[str, str]]:
        """The recurring runs by name and status."""
        return sorted((r["display_name"], r["status"]) for r in self.recurring.values())

    def writes(self) -> list[str]:
        """The requests that were not reads."""
        return [line for line in self.requests if not line.startswith("GET")]


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


def checked(model: Any, content: Any, where: str = "body") -> dict[str, Any]:
    """Refuses a body with a field or a type that the published type does not have."""
    if not isinstance(content, dict):
        raise Refused(400, f"{where} is no object")
    names = {json_name: name for name, json_name in model.attribute_map.items()}
    for key, value in content.items():
        if key not in names:
            raise Refused(400, f'proto: (line 1:2): unknown field "{key}" in {where}')
        if value is not None:
            _checked_type(model.openapi_types[names[key]], value, f"{where}.{key}")
    return content


def _checked_type(kind: str, value: Any, where: str) -> None:
    simple = {"str": str, "bool": bool, "int": int, "object": object}
    if kind in simple:
        if not isinstance(value, simple[kind]):
            raise Refused(400, f"proto: invalid value for {kind} field {where}: {value!r}")
    elif kind == "datetime":
        datetime.fromisoformat(value)
    elif kind.startswith("dict("):
        if not isinstance(value, dict):
            raise Refused(400, f"{where} is no map")
    elif kind.startswith("list["):
        for item in value:
            _checked_type(kind[5:-1], item, where)
    else:
        model = getattr(kfp, kind)
        if hasattr(model, "allowable_values") and model.allowable_values:
            if value not in model.allowable_values:
                raise Refused(400, f"proto: invalid value for enum field {where}: {value!r}")
        else:
            checked(model, value, where)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body or b"{}")
    except ValueError as error:
        raise Refused(400, f"not JSON: {error}") from error


def _paged(
    double: Double, field_name: str, items: list[dict[str, Any]], query: dict[str, str]
) -> Any:
    items = [item for item in items if _matches(item, query.get("filter", ""))]
    if query.get("sort_by", "").startswith("created_at desc"):
        items = sorted(items, key=lambda item: item["created_at"], reverse=True)
    asked = [query.get("sort_by", ""), query.get("filter", "")]
    token = json.loads(query.get("page_token") or "null") or {"start": 0, "asked": asked}
    if any(asked) and token["asked"] != asked:
        raise Refused(
            400, "page token does not match the supplied sort by and/or filtering criteria"
        )
    start = token["start"]
    size = min(int(query.get("page_size") or 20), double.page_size)
    page: dict[str, Any] = {field_name: items[start : start + size], "total_size": len(items)}
    if start + size < len(items):
        page["next_page_token"] = json.dumps({"start": start + size, "asked": asked})
    return page


def _matches(item: dict[str, Any], text: str) -> bool:
    if not text:
        return True
    for predicate in json.loads(text)["predicates"]:
        # By name or, as kfp.Client sends it, by the number that protobuf gives it.
        if predicate["operation"] not in ("EQUALS", 1) or predicate["key"] not in (
            "display_name",
            "name",
        ):
            raise Refused(400, f"no such filter: {predicate}")
        wanted = predicate.get("string_value", predicate.get("stringValue"))
        if item.get("display_name") != wanted:
            return False
    return True


def _get(store: dict[str, dict[str, Any]], identity: str, what: str) -> dict[str, Any]:
    if identity not in store:
        raise Refused(404, f"{what} {identity} not found")
    return store[identity]


def _create_pipeline(double: Double, *, body: bytes, **_: Any) -> Any:
    content = checked(kfp.V2beta1Pipeline, _json(body))
    name, namespace = content.get("name", ""), content.get("namespace", "")
    if not NAME.fullmatch(name):
        raise Refused(400, f"Pipeline's name {name} is not valid")
    if any(
        p["name"] == name and p.get("namespace", "") == namespace for p in double.pipelines.values()
    ):
        raise Refused(409, f"Already exist error: pipeline {name}")
    identity = str(uuid.uuid4())
    double.pipelines[identity] = {
        **content,
        "pipeline_id": identity,
        "created_at": double.now(),
    }
    return double.pipelines[identity]


def _pipeline_by_name(double: Double, name: str, *, query: dict[str, str], **_: Any) -> Any:
    for pipeline in double.pipelines.values():
        if pipeline["name"] == name and pipeline.get("namespace", "") == query.get("namespace", ""):
            return pipeline
    raise Refused(404, f"Pipeline {name} not found")


def _list_pipelines(double: Double, *, query: dict[str, str], **_: Any) -> Any:
    namespace = query.get("namespace", "")
    found = [p for p in double.pipelines.values() if p.get("namespace", "") == namespace]
    return _paged(double, "pipelines", found, query)


def _upload_version(
    double: Double, *, query: dict[str, str], body: bytes, headers: Any, **_: Any
) -> Any:
    pipeline = _get(double.pipelines, query.get("pipelineid", ""), "pipeline")
    message = BytesParser().parsebytes(
        b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body
    )
    files = [
        part.get_payload(decode=True)
        for part in message.get_payload()
        if part.get_param("name", header="content-disposition") == "uploadfile"
    ]
    if len(files) != 1:
        raise Refused(400, "Failed to read pipeline from file")
    if len(files[0]) > 32 << 20:
        raise Refused(400, "File size too large")
    if any(ord(c) > 0xFFFF for c in files[0].decode()):
        raise Refused(500, "Failed to create a pipeline version")
    documents = [d for d in yaml.load_all(files[0], Loader=LOADER) if d]
    specs = [d for d in documents if "pipelineInfo" in d]
    if len(specs) != 1:
        raise Refused(400, "no pipeline spec is provided")
    if specs[0].get("schemaVersion") != "2.1.0":
        raise Refused(400, "KFP only supports schema version 2.1.0")
    name = query.get("name", "")
    if len(name) > 127:
        raise Refused(400, "PipelineVersion.Name length cannot exceed 127")
    taken = [v for v in double.versions.values() if v["pipeline_id"] == pipeline["pipeline_id"]]
    if any(v["name"] == name for v in taken):
        raise Refused(409, "Failed to create a pipeline version")
    platforms = [d for d in documents if "platforms" in d]
    spec = {"pipeline_spec": specs[0], "platform_spec": platforms[0]} if platforms else specs[0]
    identity = str(uuid.uuid4())
    double.versions[identity] = {
        "pipeline_id": pipeline["pipeline_id"],
        "pipeline_version_id": identity,
        "name": name,
        "display_name": query.get("display_name", name),
        "description": query.get("description", ""),
        "created_at": double.now(),
        "pipeline_spec": spec,
    }
    return double.versions[identity]


def _list_versions(double: Double, pipeline: str, *, query: dict[str, str], **_: Any) -> Any:
    found = [v for v in double.versions.values() if v["pipeline_id"] == pipeline]
    return _paged(double, "pipeline_versions", found, query)


def _get_version(double: Double, pipeline: str, version: str, **_: Any) -> Any:
    return as_stored(_get(double.versions, version, "version"))


def as_stored(value: Any) -> Any:
    """Numbers as protobuf's Struct keeps them: doubles, whole ones written without a fraction."""
    if isinstance(value, dict):
        return {key: as_stored(part) for key, part in value.items()}
    if isinstance(value, list):
        return [as_stored(part) for part in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(double) if (double := float(value)).is_integer() else double
    return value


def _storable(what: str, *values: Any) -> None:
    text = json.dumps(values, ensure_ascii=False)
    if beyond := next((c for c in text if ord(c) > 0xFFFF), ""):
        raise Refused(
            500, f"Failed to store {what}: Error 1366: Incorrect string value: {beyond!a}"
        )


def _create_experiment(double: Double, *, body: bytes, **_: Any) -> Any:
    content = checked(kfp.V2beta1Experiment, _json(body))
    name = content.get("display_name", "")
    if not name:
        raise Refused(400, "Experiment must have a name")
    if any(
        e["display_name"] == name and e.get("namespace") == content.get("namespace")
        for e in double.experiments.values()
    ):
        raise Refused(409, f"Experiment {name} already exists")
    identity = str(uuid.uuid4())
    double.experiments[identity] = {
        **content,
        "experiment_id": identity,
        "created_at": double.now(),
        "storage_state": "AVAILABLE",
    }
    return double.experiments[identity]


def _list_experiments(double: Double, *, query: dict[str, str], **_: Any) -> Any:
    found = [
        e
        for e in double.experiments.values()
        if (e.get("namespace") or "") == query.get("namespace", "")
    ]
    return _paged(double, "experiments", found, query)


def _check_inputs(double: Double, content: dict[str, Any]) -> dict[str, Any]:
    """As the backend validates a job's inputs: unknown names, missing ones, types."""
    reference = content.get("pipeline_version_reference") or {}
    version = _get(double.versions, reference.get("pipeline_version_id", ""), "pipeline version")
    if version["pipeline_id"] != reference.get("pipeline_id"):
        raise Refused(400, "the version is of another pipeline")
    spec = version["pipeline_spec"]
    spec = spec.get("pipeline_spec", spec)
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    given = (content.get("runtime_config") or {}).get("parameters") or {}
    kinds: dict[str, Any] = {
        "STRING": str,
        "NUMBER_DOUBLE": (int, float),
        "NUMBER_INTEGER": (int, float),
        "BOOLEAN": bool,
        "LIST": list,
        "STRUCT": dict,
    }
    if len(json.dumps(given, separators=(",", ":"))) > double.max_parameter_bytes:
        raise Refused(
            400, f"The input parameter length exceed maximum size of {double.max_parameter_bytes}"
        )
    for name, value in given.items():
        if name not in declared:
            raise Refused(400, f"parameter {name} provided is not required by pipeline spec")
        kind = declared[name]["parameterType"]
        if not isinstance(value, kinds[kind]) or (kind != "BOOLEAN" and isinstance(value, bool)):
            raise Refused(400, f"input parameter {name} requires type {kind}")
    for name, parameter in declared.items():
        if name not in given and not parameter.get("isOptional"):
            raise Refused(400, f"parameter {name} is not optional, yet has no value")
    return spec


def _create_run(double: Double, *, query: dict[str, str], body: bytes, **_: Any) -> Any:
    content = checked(kfp.V2beta1Run, _json(body))
    _get(double.experiments, content.get("experiment_id", ""), "experiment")
    if not content.get("display_name"):
        raise Refused(400, "The display name is empty")
    spec = _check_inputs(double, content)
    _storable("run", spec, content)
    identity = str(uuid.uuid4())
    created = double.now()
    double.runs[identity] = as_stored(
        {
            **content,
            "run_id": identity,
            "created_at": created,
            "scheduled_at": created,
            "finished_at": NEVER,
            "state": "PENDING",
        }
    )
    return double.runs[identity]


def _list_runs(double: Double, *, query: dict[str, str], **_: Any) -> Any:
    found = [r for r in double.runs.values() if r["experiment_id"] == query.get("experiment_id")]
    return _paged(double, "runs", found, query)


def _get_run(double: Double, identity: str, **_: Any) -> Any:
    """Each look finds the run further on: pending for a while, running for a while, then ended."""
    run = _get(double.runs, identity, "run")
    if run["state"] not in (*STOPPABLE, "CANCELING"):
        return run
    look = double.looks[identity] = double.looks.get(identity, 0) + 1
    chance = double.chance(identity)
    pending, running = chance.randint(0, 2), chance.randint(1, 3)
    if run["state"] == "CANCELING":
        _note(double, run)
        if look > chance.randint(1, 3):
            _report(double, run, "FAILED", stopped=True)
    elif look <= pending:
        pass
    elif look <= pending + running:
        _report(double, run, "RUNNING")
    else:
        _report(double, run, "SUCCEEDED")
    return run


def _note(double: Double, run: dict[str, Any]) -> None:
    """The history has each state once it was reported, the one of a run that is stopped too."""
    history = run.setdefault("state_history", [])
    if not history or history[-1]["state"] != run["state"]:
        history.append({"update_time": double.now(), "state": run["state"]})


def _report(double: Double, run: dict[str, Any], state: str, *, stopped: bool = False) -> None:
    """What the persistence agent reports of the run's workflow."""
    version = double.versions[run["pipeline_version_reference"]["pipeline_version_id"]]
    spec = version["pipeline_spec"]
    nodes = Nodes(
        spec.get("pipeline_spec", spec),
        fail_task=double.fail_task,
        fail_driver=double.fail_driver,
        refuse=double.refuse_model,
        ended=state != "RUNNING",
        stopped=stopped,
    )
    nodes.add_run(f"workflow-{run['run_id'][:8]}")
    details = nodes.details(run["run_id"])
    double.chance(run["run_id"]).shuffle(details)
    run["state"] = "FAILED" if nodes.failed else state
    run["run_details"] = {"task_details": details}
    _note(double, run)
    if state != "RUNNING":
        run["finished_at"] = double.now()


def _delete_run(double: Double, identity: str, **_: Any) -> Any:
    """The run goes, also while it is at work, and with it its cache entries; artifacts stay."""
    _get(double.runs, identity, "run")
    del double.runs[identity]
    return {}


def _terminate(double: Double, identity: str, **_: Any) -> Any:
    run = _get(double.runs, identity, "run")
    if run["state"] not in STOPPABLE:
        raise Refused(400, f"Failed to terminate a run {identity}. Row not found")
    run["state"] = "CANCELING"
    double.looks[identity] = 0
    return {}


def _create_recurring(double: Double, *, body: bytes, **_: Any) -> Any:
    content = checked(kfp.V2beta1RecurringRun, _json(body))
    _get(double.experiments, content.get("experiment_id", ""), "experiment")
    _check_inputs(double, content)
    if not 1 <= int(content.get("max_concurrency") or 0) <= 10:
        raise Refused(400, "The max concurrency of the job is out of range [1, 10]")
    trigger = content.get("trigger") or {}
    cron = (trigger.get("cron_schedule") or {}).get("cron")
    if cron is not None and len(cron.split()) != 6:
        raise Refused(400, f"Schedule cron is not a supported format: {cron}")
    if cron is None and int(trigger["periodic_schedule"]["interval_second"]) < 1:
        raise Refused(400, "The interval must be at least a second")
    if content.get("mode") not in ("ENABLE", "DISABLE"):
        raise Refused(400, "The mode is not set")
    identity = str(uuid.uuid4())
    double.recurring[identity] = as_stored(
        {
            **content,
            "recurring_run_id": identity,
            "created_at": double.now(),
            "status": "ENABLED" if content["mode"] == "ENABLE" else "DISABLED",
        }
    )
    return double.recurring[identity]


def _list_recurring(double: Double, *, query: dict[str, str], **_: Any) -> Any:
    found = [
        r for r in double.recurring.values() if r["experiment_id"] == query.get("experiment_id")
    ]
    return _paged(double, "recurringRuns", found, query)


def _delete_recurring(double: Double, identity: str, **_: Any) -> Any:
    _get(double.recurring, identity, "recurring run")
    del double.recurring[identity]
    return {}


def _switch(status: str) -> Callable[..., Any]:
    def work(double: Double, identity: str, **_: Any) -> Any:
        _get(double.recurring, identity, "recurring run")["status"] = status
        return {}

    return work


def _health(double: Double, **_: Any) -> Any:
    return {"multi_user": double.multi_user, "pipeline_store": "database"}


ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", "/healthz"): _health,
    ("POST", "/pipelines"): _create_pipeline,
    ("GET", "/pipelines"): _list_pipelines,
    ("GET", "/pipelines/names/([^/]+)"): _pipeline_by_name,
    ("POST", "/pipelines/upload_version"): _upload_version,
    ("GET", "/pipelines/([^/]+)/versions"): _list_versions,
    ("GET", "/pipelines/([^/]+)/versions/([^/]+)"): _get_version,
    ("POST", "/experiments"): _create_experiment,
    ("GET", "/experiments"): _list_experiments,
    ("POST", "/runs"): _create_run,
    ("GET", "/runs"): _list_runs,
    ("GET", "/runs/([^/:]+)"): _get_run,
    ("DELETE", "/runs/([^/:]+)"): _delete_run,
    ("POST", "/runs/([^/:]+):terminate"): _terminate,
    ("POST", "/recurringruns"): _create_recurring,
    ("GET", "/recurringruns"): _list_recurring,
    ("DELETE", "/recurringruns/([^/:]+)"): _delete_recurring,
    ("POST", "/recurringruns/([^/:]+):enable"): _switch("ENABLED"),
    ("POST", "/recurringruns/([^/:]+):disable"): _switch("DISABLED"),
}
