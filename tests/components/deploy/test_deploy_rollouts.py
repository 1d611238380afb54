"""Rollouts in simulated time, over many seeds of delays and orders: how they end, and who serves."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.kube_api import Refused
from support.kube_double import LABEL, KubeDouble

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.release import Release
from slipway.components.deploy import rollout
from slipway.components.deploy.golden import Answered, Golden, NotReached
from slipway.components.deploy.kserve import canary, target
from slipway.components.support import cluster as cluster_module
from slipway.components.support.cluster import ApiError, Cluster
from slipway.components.support.errors import SlipwayError

SEEDS = 200
CRASH = {
    "containerStatuses": [
        {
            "name": "kserve-container",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"reason": "Error"}},
        }
    ]
}
GOLDEN = Golden(columns=[], probability=[0.5], threshold=0.5)


class Killed(BaseException):
    """The task's process ends here, without a word."""


class Site:
    """A namespace, and a deploy task that runs there in simulated time."""

    def __init__(self, mode: str, seed: int, release: str, patch: pytest.MonkeyPatch) -> None:
        self.double = double = KubeDouble({}, seed, release)
        self.wrong: set[str] = set()
        self.spoiled: set[str] = set()
        self.calls, self.last_call = 0, 10**9
        site = self

        class Client(Cluster):
            def __init__(self, namespace: str | None, role: str) -> None:
                self.namespace, self.role = "models", role

            def _call(self, method: str, path: str, query: Any, body: Any) -> str:
                site.calls += 1
                if site.calls > site.last_call:
                    raise Killed
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
            folder=Path("/none"), release=release, golden=GOLDEN, project="flights", config=config
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


class Scenes:
    """What happens to one endpoint, each from a version that serves; each gives what serves then."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site, self.stable, self.next = site, 1, 2
        self.random = random.Random(seed + 1000)
        self.endpoint = site.deploy(1)

    def promotion(self) -> None:
        assert self.site.deploy(self.next) == self.endpoint
        self.stable = self.next

    def refusal(self) -> None:
        self.site.wrong.add(str(self.next))
        with pytest.raises(SlipwayError, match=f"says 0.5.*version {self.stable} serves all"):
            self.site.deploy(self.next)

    def spoiled_canary(self) -> None:
        """It answers rightly until it has real requests: in the window, or only after promotion."""
        self.site.spoiled.add(str(self.next))
        with pytest.raises(SlipwayError, match=f"says 0.5.*version {self.stable} serves all"):
            self.site.deploy(self.next)

    def crash_loop(self) -> None:
        self.site.double.broken[str(self.next)] = CRASH
        self.site.double.api.log_text = "no such file"
        said = f"CrashLoopBackOff; it says: no such file.*version {self.stable} serves all"
        with pytest.raises(SlipwayError, match=said):
            self.site.deploy(self.next)

    def interruption(self) -> None:
        """Killed at any call; then the same deploy again, or another version's."""
        self.site.last_call = self.site.calls + self.random.randint(1, 120)
        try:
            self.site.deploy(self.next)
        except Killed:
            self.site.last_call = 10**9
            self.site.double.settle(self.random.choice([0, 1, 5, 60]))
            self.next += self.random.randint(0, 1)
            assert self.site.deploy(self.next) == self.endpoint
        self.site.last_call = 10**9
        self.stable = self.next


def live_through(mode: str, seed: int, patch: pytest.MonkeyPatch) -> tuple[int, list[str]]:
    """Five scenes in an order of the seed: how many ended right, and what was wrong."""
    site = Site(mode, seed, random.Random(seed).choice(["0.20", "0.21"]), patch)
    scenes = Scenes(site, seed)
    order: list[Callable[[], None]] = [
        scenes.promotion,
        scenes.refusal,
        scenes.spoiled_canary,
        scenes.crash_loop,
        scenes.interruption,
    ]
    scenes.random.shuffle(order)
    right, faults = 0, []
    for scene in order:
        scene()
        if site.serves(scenes.stable):
            right += 1
        else:
            faults.append(f"seed {seed} {scene.__name__}: {site.double.split}, not {scenes.stable}")
        scenes.next += 1
    faults += [f"seed {seed}: no ready pod at {gap}" for gap in site.double.gaps]
    return right, faults


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_every_rollout_ends_right_and_leaves_no_gap(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, faults = 0, []
    for seed in range(SEEDS):
        with monkeypatch.context() as patch:
            ended, found = live_through(mode, seed, patch)
        right, faults = right + ended, faults + found
    assert (right, faults) == (5 * SEEDS, [])
