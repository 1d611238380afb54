"""A Kubernetes API server: it keeps objects and says no, as the real one does.

What it does, and where the real one does it (kubernetes/kubernetes 1.36, run beside KServe 0.20):

- server-side apply: a field that another manager owns with another value is a conflict, a field that the
  manager no longer names goes (apimachinery, pkg/util/managedfields). Lists are one field each, as in a
  custom resource whose definition says nothing else.
- a field that the definition lacks: 500 from the merge, "field not declared in schema".
- RBAC, quota, Pod Security and webhooks all answer 403; only their texts differ.
- an object with finalizers stays, marked, until they are gone.
"""

import copy
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from support.sim_clock import SimClock

ROOT = Path(__file__).parents[2]
CRDS = ROOT.parent / "shared" / "crds"
GROUPS = {
    "inferenceservices": "serving.kserve.io",
    "trainjobs": "trainer.kubeflow.org",
    "networkpolicies": "networking.k8s.io",
    "poddisruptionbudgets": "policy",
    "serviceaccounts": "",
    "pods": "",
    "events": "",
}
VERBS = {"PATCH": "patch", "DELETE": "delete", "POST": "create"}
Object = dict[str, Any]
Admission = Callable[[Object | None, Object], str | None]


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, reason: str, message: str, causes: Any = ()) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": status,
            "reason": reason,
            "message": message,
            "details": {"causes": list(causes)},
        }


@dataclass
class Fault:
    """What the next matching requests get in place of an answer; status 0: the connection breaks."""

    method: str
    status: int
    message: str = ""
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    causes: list[dict[str, str]] = field(default_factory=list)
    reason: str = ""


class KubeApi:
    """One namespace. `admit` has a webhook for each kind, `changed` who watches each kind."""

    def __init__(self, clock: SimClock, rules: list[Object] | None = None) -> None:
        self.clock = clock
        self.objects: dict[tuple[str, str], Object] = {}
        self.managers: dict[tuple[str, str], dict[str, set[tuple[str, ...]]]] = {}
        self.admit: dict[str, Admission] = {}
        self.changed: dict[str, Callable[[str], None]] = {}
        self.lists: dict[str, Callable[[], list[Object]]] = {"events": lambda: self.events}
        self.events: list[Object] = []
        self.faults: list[Fault] = []
        # Until then every connection is reset: the API server starts anew.
        self.away_until = 0.0
        self.applied: list[Object] = []
        self.verbs: set[tuple[str, str, str]] = set()
        self.log_text = ""
        self.logs: dict[str, str] = {}  # of a pod: lines with their moments
        self._rules = rules
        self._versions = itertools.count(1)
        self._schemas = {
            "inferenceservices": _schema("serving.kserve.io_inferenceservices.yaml"),
            "trainjobs": _schema("trainer.kubeflow.org_trainjobs.yaml"),
        }

    # What a client asks.

    def request(
        self, method: str, path: str, query: dict[str, str], body: Object | None
    ) -> Object | str:
        """Answers one request of a client, or raises Refused."""
        if self.clock.now < self.away_until:
            raise Refused(0, "", "Connection reset by peer")
        parts = path.split("/namespaces/")[1].split("/")[1:]
        kind, name = parts[0], parts[1] if len(parts) > 1 else ""
        resource = f"{kind}/log" if parts[2:] == ["log"] else kind
        verb = VERBS.get(method, "get" if name else "list")
        self._authorize(kind, resource, verb, name)
        if fault := self.take_fault(method):
            raise Refused(fault.status, fault.reason, fault.message, fault.causes)
        if resource == "pods/log":
            if name in self.logs:
                return self.logs[name]
            lines = enumerate(self.log_text.splitlines())
            if query.get("timestamps"):
                return "\n".join(f"2026-11-27T00:00:00.{n:09d}Z {line}" for n, line in lines)
            return self.log_text
        if method == "PATCH":
            assert body is not None
            return self._apply(kind, name, body, query["fieldManager"])
        if method == "POST":
            assert body is not None
            return self._create(kind, body, strict=query.get("fieldValidation") == "Strict")
        if method == "DELETE":
            return self._delete(kind, name, body or {})
        if not name:
            return {"items": self._select(kind, query)}
        return self.shown(kind, self._find(kind, name))

    def take_fault(self, method: str) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and fault.times:
                fault.times -= 1
                return fault
        return None

    def _authorize(self, kind: str, resource: str, verb: str, name: str) -> None:
        self.verbs.add((GROUPS[kind], resource, verb))
        if verb == "patch" and (kind, name) not in self.objects:
            self._authorize(kind, resource, "create", "")
        for rule in self._rules or ():
            names = rule.get("resourceNames", [name])
            if (
                GROUPS[kind] in rule["apiGroups"]
                and resource in rule["resources"]
                and verb in rule["verbs"]
                and name in names
            ):
                return
        if self._rules is not None:
            raise Refused(
                403,
                "Forbidden",
                f'{kind}.{GROUPS[kind]} "{name}" is forbidden: User'
                f' "system:serviceaccount:models:pipeline-runner" cannot {verb} resource'
                f' "{resource}" in API group "{GROUPS[kind]}" in the namespace "models"',
            )

    def _find(self, kind: str, name: str) -> Object:
        found = self.objects.get((kind, name))
        if found is None:
            raise Refused(404, "NotFound", f'{kind}.{GROUPS[kind]} "{name}" not found')
        return found

    def _select(self, kind: str, query: dict[str, str]) -> list[Object]:
        items = self.lists[kind]() if kind in self.lists else []
        if wanted := query.get("labelSelector"):
            pairs = [part.split("=", 1) for part in wanted.split(",")]
            items = [
                item
                for item in items
                if all(item["metadata"].get("labels", {}).get(k) == v for k, v in pairs)
            ]
        return items

    def _apply(self, kind: str, name: str, manifest: Object, manager: str) -> Object:
        key = (kind, name)
        old, owners = self.objects.get(key), self.managers.setdefault(key, {})
        self._check_fields(kind, name, manifest)
        leaves = _leaves({k: v for k, v in manifest.items() if k not in ("apiVersion", "kind")})
        leaves = {p: v for p, v in leaves.items() if p not in _IDENTITY}
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{other}"',
                "field": "." + ".".join(path),
            }
            for other, owned in owners.items()
            for path, value in leaves.items()
            if other != manager and path in owned and old and _value(old, path) != value
        ]
        if causes:
            text = f"Apply failed with {len(causes)} conflict: {causes[0]['message']}"
            raise Refused(409, "Conflict", text, causes)
        new = copy.deepcopy(old) if old else self._blank(manifest)
        for path in owners.get(manager, set()) - set(leaves):
            if not any(path in owned for who, owned in owners.items() if who != manager):
                _drop(new, path)
        for path, value in leaves.items():
            _put(new, path, copy.deepcopy(value))
        self._admitted(kind, name, old, new)
        owners[manager] = set(leaves)
        self.applied.append(manifest)
        return self.store(kind, name, new)

    def _create(self, kind: str, manifest: Object, *, strict: bool) -> Object:
        name = manifest["metadata"]["name"]
        if (kind, name) in self.objects:
            raise Refused(409, "AlreadyExists", f'{kind}.{GROUPS[kind]} "{name}" already exists')
        schema = self._schemas.get(kind)
        # Without strict validation an unknown field is dropped, and the answer has a warning at most.
        if strict and schema and (unknown := _undeclared(manifest, schema, "")):
            text = f'strict decoding error: unknown field "{unknown.lstrip(".")}"'
            raise Refused(400, "BadRequest", text)
        new = self._blank(manifest) | {"spec": copy.deepcopy(manifest.get("spec", {}))}
        new["metadata"] |= copy.deepcopy(manifest["metadata"])
        self._admitted(kind, name, None, new)
        return self.store(kind, name, new)

    def _blank(self, manifest: Object) -> Object:
        meta = {"name": manifest["metadata"]["name"], "namespace": "models"}
        meta |= {"uid": f"uid-{next(self._versions)}", "creationTimestamp": self.clock.stamp()}
        return {k: manifest[k] for k in ("apiVersion", "kind")} | {"metadata": meta}

    def _check_fields(self, kind: str, name: str, manifest: Object) -> None:
        schema = self._schemas.get(kind)
        unknown = _undeclared(manifest, schema, "") if schema else None
        if unknown:
            raise Refused(
                500,
                "",
                f"failed to create typed patch object (models/{name}; {manifest['apiVersion']},"
                f" Kind={manifest['kind']}): {unknown}: field not declared in schema",
            )

    def _admitted(self, kind: str, name: str, old: Object | None, new: Object) -> None:
        denied = self.admit[kind](old, new) if kind in self.admit else None
        if denied:
            raise Refused(403, "Forbidden", denied)

    def _delete(self, kind: str, name: str, options: Object) -> Object:
        found = self._find(kind, name)
        finalizers = found["metadata"].get("finalizers", [])
        if options.get("propagationPolicy") == "Foreground":
            finalizers = [*finalizers, "foregroundDeletion"]
        if not finalizers:
            return self.remove(kind, name)
        marked = copy.deepcopy(found)
        marked["metadata"] |= {
            "deletionTimestamp": self.clock.stamp(),
            "finalizers": list(dict.fromkeys(finalizers)),
        }
        return self.store(kind, name, marked)

    # What other people and controllers do.

    def edit(self, kind: str, name: str, path: tuple[str, ...], value: Any, manager: str) -> Object:
        """An update of one field by another manager, as `kubectl edit` and `scale` send it.

        Nobody is asked: it takes the field from who had it (apimachinery, managedfields/internal/
        fieldmanager.go, Update). Only who applies later another value has the conflict.
        """
        old = self._find(kind, name)
        new = copy.deepcopy(old)
        _put(new, path, value)
        self._admitted(kind, name, old, new)
        owners = self.managers.setdefault((kind, name), {})
        for owned in owners.values():
            owned.discard(path)
        owners.setdefault(manager, set()).add(path)
        return self.store(kind, name, new)

    def store(self, kind: str, name: str, new: Object) -> Object:
        """Keeps an object; only a changed one gets a new version, only a changed spec a generation."""
        old = self.objects.get((kind, name))
        if old == new:
            return self.shown(kind, old)
        meta = new["metadata"]
        if old is None or old.get("spec") != new.get("spec"):
            meta["generation"] = meta.get("generation", 0) + 1
        meta["resourceVersion"] = str(next(self._versions))
        self.objects[kind, name] = new
        self._tell(kind, name)
        return self.shown(kind, new)

    def write_status(self, kind: str, name: str, read: Object, status: Object) -> bool:
        """A controller's update of the status: refused if the object changed since it was read."""
        found = self.objects.get((kind, name))
        if found is None:
            return True
        if found["metadata"]["resourceVersion"] != read["metadata"]["resourceVersion"]:
            return False
        if found.get("status") != status:
            self.store(kind, name, found | {"metadata": dict(found["metadata"]), "status": status})
        return True

    def remove(self, kind: str, name: str) -> Object:
        """The object is away, for good."""
        self.managers.pop((kind, name), None)
        found = self.objects.pop((kind, name))
        self._tell(kind, name)
        return found

    def warn(self, kind: str, name: str, reason: str, message: str) -> None:
        """An event."""
        about = {"kind": kind, "name": name}
        event = {"type": "Warning", "reason": reason, "message": message, "involvedObject": about}
        self.events.append(event | {"lastTimestamp": self.clock.stamp(), "metadata": {}})

    def shown(self, kind: str, found: Object) -> Object:
        """The object as a client reads it."""
        key = (kind, found["metadata"]["name"])
        fields = [{"manager": who, "operation": "Apply"} for who in self.managers.get(key, {})]
        return found | {"metadata": found["metadata"] | {"managedFields": fields}}

    def _tell(self, kind: str, name: str) -> None:
        if kind in self.changed:
            self.changed[kind](name)


_IDENTITY = {("metadata", "name"), ("metadata", "namespace")}


def _leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    found: dict[tuple[str, ...], Any] = {}
    for key, item in value.items():
        found |= _leaves(item, (*path, key))
    return found


def _value(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _put(target: Object, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        if not isinstance(target.get(key), dict):
            target[key] = {}
        target = target[key]
    target[path[-1]] = value


def _drop(target: Object, path: tuple[str, ...]) -> None:
    if len(path) == 1:
        target.pop(path[0], None)
    elif isinstance(target.get(path[0]), dict):
        _drop(target[path[0]], path[1:])
        if not target[path[0]]:
            del target[path[0]]


def _schema(name: str) -> Object | None:
    path = CRDS / name
    if not path.exists():
        return None
    if name not in _SCHEMAS:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        document = yaml.load(path.read_text(), loader)
        _SCHEMAS[name] = document["spec"]["versions"][-1]["schema"]["openAPIV3Schema"]
    return _SCHEMAS[name]


_SCHEMAS: dict[str, Object] = {}


def _undeclared(value: Any, schema: Object, path: str) -> str | None:
    """The first field that a structural schema does not declare."""
    if isinstance(value, list):
        items = schema.get("items", {})
        return next((f for item in value if (f := _undeclared(item, items, path))), None)
    if not isinstance(value, dict) or path == ".metadata":
        return None
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return None
    for key, item in value.items():
        inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
        if inner is None:
            return f"{path}.{key}"
        if isinstance(inner, dict) and (found := _undeclared(item, inner, f"{path}.{key}")):
            return found
    return None


def role_rules() -> list[Object]:
    """The rules of the rendered role of the deploy task."""
    text = (ROOT / "manifests/base/deploy-role.yaml").read_text(encoding="utf-8")
    role = next(d for d in yaml.safe_load_all(text) if d["kind"] == "Role")
    rules: list[Object] = role["rules"]
    return rules


def as_text(answer: Object | str) -> str:
    """An answer's body."""
    return answer if isinstance(answer, str) else json.dumps(answer)
