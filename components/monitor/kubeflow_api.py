"""Kubeflow Pipelines' v2beta1 API from inside a pod, as the account that the pod runs as.

Not through `cluster/`, whose client of the whole API (kfp-server-api) is published as source alone:
images install wheels and nothing else.
"""

import json
import os
from pathlib import Path
from typing import Any

from slipway.components.support.errors import SlipwayError
from slipway.components.support.kubernetes import pod

TIMEOUT_S = 30.0
ATTEMPTS = 3
SERVICE = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"


class KubeflowRefusal(SlipwayError):
    """The server answered with another status than 2xx, which `status` has."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class KubeflowApi:
    """A server, asked by method and path.

    Args:
        host: its base URL; empty: the service in this pod's cluster.

    Raises:
        KubeflowRefusal: by every method, where it refuses.
        SlipwayError: by every method, where it does not answer.
    """

    def __init__(self, host: str = "") -> None:
        import httpx

        self._http = httpx.Client(
            base_url=(host or SERVICE).rstrip("/") + "/apis/v2beta1",
            timeout=TIMEOUT_S,
            transport=httpx.HTTPTransport(retries=ATTEMPTS),
        )
        shared = self.ask("GET", "/healthz").get("multi_user", False)
        self.namespace = pod.own_namespace() if shared else ""

    def ask(
        self, method: str, path: str, *, content: dict[str, Any] | None = None, **query: Any
    ) -> dict[str, Any]:
        """The answer to one request; an empty value of the query is left out."""
        import httpx

        headers = {"Authorization": f"Bearer {token}"} if (token := _token()) else {}
        query = {name: value for name, value in query.items() if value != ""}
        try:
            answer = self._http.request(method, path, params=query, json=content, headers=headers)
            answer.raise_for_status()
            found: dict[str, object] = answer.json()
            return found
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            raise KubeflowRefusal(
                f"Kubeflow Pipelines answered {status} to {method} {path}:"
                f" {error.response.text[:300]} May the pod's service account do that (see"
                " docs/monitoring.md)?",
                status,
            ) from error
        except (httpx.HTTPError, ValueError) as error:
            raise SlipwayError(f"Kubeflow Pipelines does not answer: {error}.") from error

    def named(self, kind: str, name: str) -> list[dict[str, object]]:
        """The experiments or pipelines of this name in the namespace."""
        where = {"operation": "EQUALS", "key": "display_name", "string_value": name}
        text = json.dumps({"predicates": [where]})
        found = self.ask("GET", f"/{kind}", filter=text, namespace=self.namespace)
        return list(found.get(kind) or ())


def _token() -> str:
    """The token that Kubeflow puts into the pod; read each time, since it is renewed in place."""
    path = Path(os.environ.get("KF_PIPELINES_SA_TOKEN_PATH") or pod.PIPELINES_TOKEN)
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
