"""A namespace of the KServe double and a deploy task in it, in simulated time and in memory."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.release import Release
from slipway.components.deploy import rollout
from slipway.components.deploy.golden import Answered, Golden, NotReached
from slipway.components.deploy.kserve import canary, target
from slipway.components.support.errors import SlipwayError
from slipway.components.support.kubernetes import cluster as cluster_module
from slipway.components.support.kubernetes.cluster import ApiError, Cluster
from support.kube_api import Refused
from support.kube_double import LABEL, KubeDouble

_GOLDEN: Any = Golden(columns=[], answers=np.array([0.5]), bundle=SimpleNamespace())


class Killed(BaseException):
    """The task's process ends here, without a word."""


class Site:
    """A namespace, and a deploy task that runs there in simulated time."""

    def __init__(self, mode: str, seed: int, release: str, patch: pytest.MonkeyPatch) -> None:
        self.double = double = KubeDouble({}, seed, release)
        self.wrong: set[str] = set()
        self.spoiled: set[str] = set()
        self.calls, self.last_call = 0, 10**9
        self.before_apply: Callable[[dict[str, Any]], None] = lambda spec: None
        self.before_read: Callable[[], None] = lambda: None
        self.disturbed = False
        site = self

        class Client(Cluster):
            def __init__(self, namespace: str | None, role: str) -> None:
                self.namespace, self.role = "models", role

            def _call(self, method: str, path: str, query: Any, body: Any) -> str:
                site.calls += 1
                if site.calls > site.last_call:
                    raise Killed
                if method == "PATCH" and path.rpartition("/")[0].endswith("inferenceservices"):
                    site.before_apply(body["spec"])
                if method == "GET":
                    site.before_read()
                try:
                    return double.call(method, path, query, body)
                except Refused as error:
                    raise ApiError(error.status, json.dumps(error.body), {}) from error

        def ask(golden: Golden, url: str, model: str, version: str, headers: Any = None) -> Any:
            pod = double.pod_of(urlsplit(url).hostname or "")
            found = pod["metadata"]["labels"][LABEL] if pod else "none"
            if found != version:
                raise NotReached(f"Version {found} answers where {version} was deployed.")
            if version in site.wrong or (version in site.spoiled and double.split.get(version)):
                raise SlipwayError("it answers otherwise: the model itself says 0.5.")
            return Answered(rows=1, difference=0, median_ms=1, p95_ms=1)

        patch.setenv("INFERENCE_LOG_URI", "s3://logs/x")
        patch.setattr(target, "Cluster", Client)
        patch.setattr(target, "ask", ask)
        patch.setattr(target, "observe", lambda addresses: canary.Observed())
        patch.setattr(target, "storage_uri", lambda release, *_: release.bundle_uri)
        patch.setattr(target, "progress", lambda text: None)
        patch.setattr(rollout, "progress", lambda text: None)
        for module in (target, canary, cluster_module):
            patch.setattr(module, "time", double.clock)
        self.config = DeploymentConfig.model_validate(
            {
                "mode": mode,
                "namespace": "models",
                "replicas": random.Random(seed).choice([1, 2, 3]),
                "ready_timeout": "120s",
                "canary": {"window": "20s", "share": 20},
            }
        )

    def deploy(self, version: int, **changes: Any) -> str:
        config = self.config.model_copy(update=changes)
        release = Release(
            name="flights",
            model_version=str(version),
            alias="challenger",
            run_id="0",
            bundle_uri=f"s3://models/{version}",
            model_hash=f"{version}" * 64,
        )
        return target.roll_out(
            folder=Path("/none"), release=release, golden=_GOLDEN, project="flights", config=config
        )

    def serves(self, version: int) -> bool:
        """Whether that version, and nothing else, takes all requests, with all its pods."""
        self.double.settle()
        service = self.double.service
        if service is None:
            return False
        predictor = service["spec"]["predictor"]
        pods = [p for p in self.double.work.pods.values() if p["status"].get("podIP")]
        ready = [p for p in pods if p["metadata"]["labels"][LABEL] == str(version)]
        return (
            self.double.split == {str(version): 100}
            and predictor["labels"][LABEL] == str(version)
            and "canary" not in service["spec"]
            and "canaryTrafficPercent" not in predictor
            and len(ready) >= self.config.replicas
        )
