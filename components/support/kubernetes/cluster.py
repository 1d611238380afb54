"""The Kubernetes API as the stages use it: patient with what passes, plain about what does not."""

import json
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.support.documents import KubeObject, UnfitDocument, load_yaml, read_document
from slipway.components.support.errors import SlipwayError
from slipway.components.support.kubernetes.pod import own_namespace
from slipway.components.support.retry import retry, wait_until

if TYPE_CHECKING:
    from kubernetes.client import Configuration

MANAGER = "slipway"
# Together 55 seconds of waiting: no rollout or training is given up for an API server or a webhook that
# starts anew.
_TRIES = 11
_LONGEST_WAIT_SECONDS = 8.0
_TIMEOUT_SECONDS = 30
PATHS = {
    "InferenceService": "/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices",
    "TrainJob": "/apis/trainer.kubeflow.org/v1alpha1/namespaces/{namespace}/trainjobs",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "Event": "/api/v1/namespaces/{namespace}/events",
}
_NEEDS = {
    "InferenceService": "KServe 0.20 or later",
    "TrainJob": "Kubeflow Trainer 2.3 or later",
}
# Answers of a structured merge and of a strict decoder to a field that the definition lacks. The first
# comes as 500 (apimachinery, managedfields/internal/typeconverter.go), the second as 400.
_UNDECLARED = re.compile(
    r"(?P<path>\S+): field not declared in schema|unknown field \\?\"(?P<name>[^\"\\]+)"
)


Moment = tuple[int, int]
"""Seconds since 1970 and nanoseconds: moments of the API compare as times, whatever they look like."""
NEVER: Moment = (0, 0)
_MOMENT = re.compile(
    r"(?P<base>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.(?P<fraction>\d+))?(?P<zone>Z|[+-]\d\d:\d\d)"
)


def read_moment(text: str | None) -> Moment:
    """A moment as the API writes it: with a fraction of a second or without, in UTC or in another zone.

    Text does not order them: objects have whole seconds, events of the newer API microseconds, and a
    full stop sorts before the Z of the same second.

    Returns:
        `NEVER` where there is none.
    """
    found = _MOMENT.fullmatch(text or "")
    if not found:
        return NEVER
    whole = datetime.fromisoformat(found["base"] + found["zone"])
    return int(whole.timestamp()), int((found["fraction"] or "0").ljust(9, "0")[:9])


def created(thing: KubeObject) -> Moment:
    """When an object was created."""
    return read_moment(thing["metadata"].get("creationTimestamp"))


def last_seen(event: KubeObject) -> Moment:
    """When an event was seen last; those of the newer API have no `lastTimestamp`."""
    series = event.get("series") or {}
    return read_moment(
        series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    )


def cluster_access(context: str = "", *, instead: str = "") -> "tuple[Configuration, str]":
    """How to reach the cluster's API: as the pod's account, else as the kubeconfig says.

    Args:
        context: of the kubeconfig, which is then taken in a pod too; empty: the current one.
        instead: what else a person can do, as the end of a sentence, where there is no cluster.

    Returns:
        Settings of a client, and the namespace that is meant where none is named; empty: not known.

    Raises:
        SlipwayError: there is neither.
    """
    from kubernetes import client, config

    settings = client.Configuration()
    if not context:
        try:
            config.load_incluster_config(client_configuration=settings)
            return settings, own_namespace()
        except config.ConfigException:
            pass
    file = os.environ.get("KUBECONFIG")
    for name in (file or config.KUBE_CONFIG_DEFAULT_LOCATION).split(os.pathsep):
        _check_kubeconfig(Path(name).expanduser())
    try:
        config.load_kube_config(file, client_configuration=settings, context=context or None)
        _, current = config.list_kube_config_contexts(file)
    except (config.ConfigException, OSError) as error:
        raise SlipwayError(
            "There is no cluster to talk to: this is no pod, and no kubeconfig was found"
            f" ({str(error).rstrip('.')}). Set KUBECONFIG{instead}."
        ) from error
    return settings, str((current or {}).get("context", {}).get("namespace") or "")


def _check_kubeconfig(path: Path) -> None:
    """Refuses a kubeconfig that the client's library would not get through, or only with a traceback.

    Raises:
        SlipwayError: it is no YAML, or beyond the bounds of what is read.
    """
    if path.is_file():
        try:
            load_yaml(read_document(path))
        except (OSError, UnfitDocument) as error:
            raise SlipwayError(f"The kubeconfig {path} cannot be read: {error}.") from error


class Cluster:
    """One namespace of a cluster, with the credentials of the pod or of the kubeconfig.

    Attributes:
        namespace: None: the one that the pod runs in.
        role: the manifest that gives this task's service account its rights.
    """

    def __init__(self, namespace: str | None, role: str) -> None:
        from kubernetes import client

        settings, _ = cluster_access(
            instead=", or choose what runs on this machine (deployment.target: local,"
            " training.nodes.count: 1)"
        )
        settings.retries = False  # `_request` does it, and knows what passes
        self._client = client.ApiClient(settings)
        self.namespace = namespace or _required_namespace()
        self.role = role

    def get(self, kind: str, name: str) -> KubeObject | None:
        """One object, or None."""
        return self._request("GET", kind, name, missing=None)

    def list(self, kind: str, **query: str) -> list[KubeObject]:
        """Objects of one kind, narrowed by labelSelector or fieldSelector."""
        answer = self._request("GET", kind, "", query=query) or {}
        items: list[KubeObject] = answer.get("items", [])
        return items

    def apply(self, manifest: KubeObject, manager: str = MANAGER) -> KubeObject:
        """Server-side apply under a field manager of ours; fields of other managers are not taken.

        Raises:
            SlipwayError: the API refuses it (quota, RBAC, a webhook, a field of another manager).
        """
        name = manifest["metadata"]["name"]
        query = {"fieldManager": manager, "fieldValidation": "Strict"}
        answer = self._request("PATCH", manifest["kind"], name, query=query, body=manifest)
        assert answer is not None  # noqa: S101 - a patch that is not an error has an answer
        return answer

    def create(self, manifest: KubeObject) -> None:
        """Creates an object; one of that name that is there already stays as it is."""
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        self._request("POST", manifest["kind"], "", query=query, body=manifest)

    def delete(self, kind: str, name: str) -> None:
        """Asks for the deletion of an object and of all that it owns, if it is there.

        The object stays, marked, until what it owns is gone: in the background a new object of the
        same name would meet the children of the old one.
        """
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        self._request("DELETE", kind, name, body=body, missing=None)

    def wait_gone(self, kind: str, name: str, seconds: float, poll: float = 1.0) -> None:
        """Waits until an object that is being deleted is away.

        Raises:
            SlipwayError: it is still there; a finalizer holds it.
        """
        found: KubeObject | None = None

        def is_gone() -> bool:
            nonlocal found
            found = self.get(kind, name)
            return not found or not found["metadata"].get("deletionTimestamp")

        if not wait_until(is_gone, timeout=seconds, every=poll, clock=time):
            held = ", ".join(found["metadata"].get("finalizers", [])) if found else ""
            raise SlipwayError(
                f"{kind} {name} is being deleted for more than {seconds:.0f} s: its finalizers"
                f" ({held or 'unknown'}) hold it. See that the controller behind them runs."
            )

    def logs(self, pod: str, container: str, *, previous: bool = False, lines: int = 10) -> str:
        """The last lines of a container, or an empty text where there are none."""
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        try:
            return self._call("GET", f"{PATHS['Pod']}/{pod}/log", query, None).strip()
        except ApiError:
            return ""

    def read_log(self, pod: str, container: str, after: str = "") -> Iterator[tuple[str, str]]:
        """The lines that a container printed after a moment, each with its own.

        Yields:
            Moment and line; nothing where there is no log yet.
        """
        query = {"container": container, "timestamps": "true"}
        if after:
            query["sinceTime"] = f"{after[:19]}Z"  # whole seconds: what is older is left out below
        try:
            text = self._call("GET", f"{PATHS['Pod']}/{pod}/log", query, None)
        except ApiError:
            return
        since = read_moment(after)
        for moment, _, line in (line.partition(" ") for line in text.splitlines()):
            if read_moment(moment) > since:
                yield moment, line

    def _request(
        self,
        method: str,
        kind: str,
        name: str,
        *,
        query: dict[str, str] | None = None,
        body: KubeObject | None = None,
        missing: object = ...,
    ) -> KubeObject | None:
        path = PATHS[kind] + (f"/{name}" if name else "")

        def call() -> str:
            try:
                return self._call(method, path, query or {}, body)
            except ApiError as error:
                if method == "POST" and error.reason == "AlreadyExists":
                    return ""
                raise

        try:
            text = retry(
                call,
                attempts=_TRIES,
                longest_wait=_LONGEST_WAIT_SECONDS,
                when=lambda error: isinstance(error, ApiError) and error.passes,
                asked_to_wait=lambda error: getattr(error, "retry_after", None) or None,
                clock=time,
            )
        except ApiError as error:
            if error.status == 404 and missing is None:
                return None
            what = name or (body or {}).get("metadata", {}).get("name", "")
            raise SlipwayError(error.explain(method, kind, what, self.role)) from error
        content: KubeObject = json.loads(text) if text else {}
        return content

    def _call(self, method: str, path: str, query: dict[str, str], body: KubeObject | None) -> str:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        try:
            response = self._client.call_api(
                path.format(namespace=self.namespace),
                method,
                query_params=list(query.items()),
                header_params={"Accept": "application/json, */*", "Content-Type": kind},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=_TIMEOUT_SECONDS,
                _return_http_data_only=True,
            )
        except ApiException as error:
            raise ApiError(error.status, _text(error.body), dict(error.headers or {})) from error
        except HTTPError as error:
            raise ApiError(0, str(error), {}) from error
        text: str = response.data.decode("utf-8", "replace")
        return text


class ApiError(Exception):
    """An answer of the API that is an error; status 0: there was no answer."""

    def __init__(self, status: int, body: str, headers: dict[str, str]) -> None:
        super().__init__(body[:500])
        self.status = status
        try:
            content = json.loads(body)
        except ValueError:
            content = {}
        self.message: str = content.get("message") or body[:500] or f"status {status}"
        self.reason: str = content.get("reason") or ""
        self._causes = (content.get("details") or {}).get("causes") or []
        after = {key.lower(): value for key, value in headers.items()}.get("retry-after", "")
        self.retry_after = min(float(after), 30.0) if after.isdecimal() else None

    @property
    def _owned(self) -> list[str]:
        """Fields that another manager owns."""
        return [
            f"{cause.get('field')} ({cause.get('message')})"
            for cause in self._causes
            if cause.get("reason") == "FieldManagerConflict"
        ]

    @property
    def _undeclared(self) -> str:
        """The field that the cluster's definition does not have."""
        found = _UNDECLARED.search(self.message)
        return (found["path"] or found["name"]).lstrip(".") if found else ""

    @property
    def passes(self) -> bool:
        """Whether trying again may help."""
        if self.status == 409:
            return not self._owned
        # 410: what was asked for is no longer kept (an expired resource version): asked afresh.
        passing = self.status in (0, 410, 429, 500, 502, 503, 504)
        lasting = ("denied the request", "CERTIFICATE_VERIFY_FAILED")
        return (
            passing and not self._undeclared and not any(text in self.message for text in lasting)
        )

    def explain(self, method: str, kind: str, name: str, role: str) -> str:
        """What a person needs to know.

        Every refusal by admission is a 403 of reason Forbidden or Invalid: only its text tells RBAC
        from a webhook, a quota and Pod Security.
        """
        what = f"{kind} {name}".strip()
        message = self.message.rstrip(".")
        needs = _NEEDS.get(kind)
        if self.status == 0:
            return f"The Kubernetes API does not answer ({method} {what}): {message}."
        if self.status == 401:
            return f"The Kubernetes API does not know this task's service account: {message}."
        if self._undeclared:
            advice = f"Install {needs}, or take" if needs else "Take"
            return (
                f"The cluster's definition of {kind} has no field {self._undeclared}: {message}."
                f" {advice} the setting that asks for it out of project.yaml."
            )
        if "denied the request" in message or "denied request" in message:
            return f"An admission webhook or policy of the cluster refuses {what}: {message}."
        if "exceeded quota" in message:
            return (
                f"The namespace's quota refuses {what}: {message}. Ask for more, or set fewer"
                " replicas or smaller resources in project.yaml."
            )
        if "violates PodSecurity" in message:
            return f"The namespace's Pod Security level refuses {what}: {message}."
        if self.status == 403 and re.search(r"cannot \w+ resource", message):
            return (
                f"The task's service account may not do this: {message}. Apply manifests/base/{role}"
                " to the namespace."
            )
        if "failed calling webhook" in message:
            return (
                f"A webhook of the cluster does not answer, and nothing is taken without it:"
                f" {message}. See that its controller runs."
            )
        if self._owned:
            return (
                f"Somebody else manages fields of {what} that Slipway sets: {'; '.join(self._owned)}."
                " Take that change back, or move it to project.yaml."
            )
        if self.status == 404 and needs:
            return (
                f"The cluster does not know {kind} ({message}). Install {needs}, and check the"
                " namespace."
            )
        return f"The Kubernetes API refuses {method} {what} with {self.status}: {message}."


def _text(body: Any) -> str:
    if isinstance(body, bytes):
        return body.decode("utf-8", "replace")
    return body or ""


def _required_namespace() -> str:
    if namespace := own_namespace():
        return namespace
    raise SlipwayError(
        "No namespace is set (deployment.namespace), and this is no pod whose namespace could be taken."
    )
