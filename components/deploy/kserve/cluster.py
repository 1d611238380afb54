"""The Kubernetes API as deploy uses it: patient with what passes, plain about what does not."""

import json
import os
import time
from pathlib import Path
from typing import Any

from slipway.components.support.errors import SlipwayError

MANAGER = "slipway"
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TRIES = 6
_TIMEOUT_SECONDS = 30
PATHS = {
    "InferenceService": "/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "Event": "/api/v1/namespaces/{namespace}/events",
}


class Cluster:
    """One namespace of a cluster, with the credentials of the pod or of the kubeconfig."""

    def __init__(self, namespace: str | None) -> None:
        from kubernetes import client, config

        settings = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=settings)
        except config.ConfigException:
            try:
                config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=settings)
            except (config.ConfigException, OSError) as error:
                raise SlipwayError(
                    "There is no cluster to deploy to: this is no pod, and no kubeconfig was found"
                    f" ({error}). Set KUBECONFIG, or deployment.target to local."
                ) from error
        settings.retries = False  # `_request` does it, and knows what passes
        self._client = client.ApiClient(settings)
        self.namespace = namespace or _own_namespace()

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """One object, or None."""
        return self._request("GET", kind, name, missing=None)

    def list(self, kind: str, **query: str) -> list[dict[str, Any]]:
        """Objects of one kind, narrowed by labelSelector or fieldSelector."""
        answer = self._request("GET", kind, "", query=query) or {}
        items: list[dict[str, Any]] = answer.get("items", [])
        return items

    def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Server-side apply under our field manager; fields of other managers are not taken.

        Raises:
            SlipwayError: the API refuses it (quota, RBAC, a webhook, a field of another manager).
        """
        name = manifest["metadata"]["name"]
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        answer = self._request("PATCH", manifest["kind"], name, query=query, body=manifest)
        assert answer is not None  # noqa: S101 - a patch that is not an error has an answer
        return answer

    def delete(self, kind: str, name: str) -> None:
        """Deletes an object if it is there."""
        self._request("DELETE", kind, name, missing=None)

    def logs(self, pod: str, container: str, *, previous: bool, lines: int = 10) -> str:
        """The last lines of a container, or an empty text where there are none."""
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        try:
            return self._call("GET", PATHS["Pod"] + f"/{pod}/log", query, None).strip()
        except _ApiError:
            return ""

    def _request(
        self,
        method: str,
        kind: str,
        name: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        missing: Any = ...,
    ) -> dict[str, Any] | None:
        path = PATHS[kind] + (f"/{name}" if name else "")
        pause = 0.5
        for attempt in range(_TRIES):
            try:
                text = self._call(method, path, query or {}, body)
                content: dict[str, Any] = json.loads(text) if text else {}
                return content
            except _ApiError as error:
                if error.status == 404 and missing is None:
                    return None
                if not error.passes or attempt == _TRIES - 1:
                    raise SlipwayError(error.explain(method, kind, name)) from error
                time.sleep(error.retry_after or pause)
                pause = min(pause * 2, 8)
        raise AssertionError("unreachable")

    def _call(
        self, method: str, path: str, query: dict[str, str], body: dict[str, Any] | None
    ) -> str:
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
            raise _ApiError(
                error.status, _text(error.body), dict(error.headers or {}), error.reason
            ) from error
        except HTTPError as error:
            raise _ApiError(0, str(error), {}, "connection") from error
        text: str = response.data.decode("utf-8", "replace")
        return text


class _ApiError(Exception):
    """An answer of the API that is an error; status 0: there was no answer."""

    def __init__(self, status: int, body: str, headers: dict[str, str], reason: str) -> None:
        super().__init__(body[:500])
        self.status = status
        try:
            content = json.loads(body)
        except ValueError:
            content = {}
        self.message: str = content.get("message") or body[:500] or reason
        self.causes = (content.get("details") or {}).get("causes") or []
        after = {key.lower(): value for key, value in headers.items()}.get("retry-after", "")
        self.retry_after = min(float(after), 30.0) if after.isdigit() else None

    @property
    def of_fields(self) -> list[str]:
        """Fields that another manager owns."""
        return [
            f"{cause.get('field')} ({cause.get('message')})"
            for cause in self.causes
            if cause.get("reason") == "FieldManagerConflict"
        ]

    @property
    def passes(self) -> bool:
        """Whether trying again may help."""
        if self.status == 409:
            return not self.of_fields
        # 410: what was asked for is no longer kept (an expired resource version): asked afresh.
        return self.status in (0, 410, 429, 500, 502, 503, 504) and "admission webhook" not in (
            self.message
        )

    def explain(self, method: str, kind: str, name: str) -> str:
        """What a person needs to know."""
        what = f"{method} {kind} {name}".strip()
        message = self.message.rstrip(".")
        if self.status == 0:
            return f"The Kubernetes API does not answer ({what}): {message}."
        if self.status == 401:
            return f"The Kubernetes API does not know this task's service account: {message}."
        if self.status == 403 and "exceeded quota" in message:
            return (
                f"The namespace's quota refuses the deployment: {message}. Ask for more, or set"
                " deployment.replicas or deployment.resources lower."
            )
        if self.status == 403:
            return (
                f"The task's service account may not do this: {message}. Apply"
                " manifests/base/deploy-role.yaml to the namespace."
            )
        if "admission webhook" in message:
            return f"An admission webhook of the cluster refuses {kind} {name}: {message}."
        if self.of_fields:
            return (
                f"Somebody else manages fields of {kind} {name} that deploy sets:"
                f" {'; '.join(self.of_fields)}. Take that change back, or move it to project.yaml."
            )
        if self.status == 404:
            return (
                f"The cluster does not know {kind} ({message}). Install KServe 0.20 or later, and"
                " check the namespace."
            )
        return f"The Kubernetes API refuses {what} with {self.status}: {message}."


def _text(body: Any) -> str:
    if isinstance(body, bytes):
        return body.decode("utf-8", "replace")
    return body or ""


def _own_namespace() -> str:
    try:
        return _NAMESPACE.read_text().strip()
    except OSError as error:
        raise SlipwayError(
            "deployment.namespace is not set, and this is no pod whose namespace could be taken."
        ) from error
