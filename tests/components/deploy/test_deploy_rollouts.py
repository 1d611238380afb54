"""Rollouts in simulated time, over many seeds of delays and orders: how they end, and who serves."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from support.kube_double import LABEL
from support.rollout_site import Killed, Site

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


def live_through(
    mode: str, seed: int, patch: pytest.MonkeyPatch, early_routes: float = 0.0
) -> tuple[int, list[str]]:
    """Five scenes in an order of the seed: how many ended right, and what was wrong."""
    site = Site(mode, seed, random.Random(seed).choice(["0.20", "0.21"]), patch)
    site.double.kserve.knative.early_routes = early_routes
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


# The namespace's quota has no room from some step on.


def _is_canary(spec: dict[str, Any], stable: int) -> bool:
    """The first step: the new version stands beside the one that serves, without traffic."""
    shares = [entry["trafficPercent"] for entry in spec.get("canary", [])]
    return shares == [0] or spec["predictor"].get("canaryTrafficPercent") == 0


def _is_promotion(spec: dict[str, Any], stable: int) -> bool:
    version = int(spec["predictor"]["labels"][LABEL])
    return version != stable and spec["predictor"].get("canaryTrafficPercent") is None


def _is_roll_back(spec: dict[str, Any], stable: int) -> bool:
    return int(spec["predictor"]["labels"][LABEL]) == stable and "canary" not in spec


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """When there is no room for another pod, and what comes of it.

    Attributes:
        when: the step at which it begins.
        release: of KServe; 0.20 gives a canary in mode Standard no request, so that its wrong answers
            show only once its pods have replaced the others; None: either.
        spoiled: version 2 answers wrongly once it has real requests, so that it is rolled back.
        ends: what version serves at the end, while the quota still has no room.
        says: what the message has; None: the rollout ends well, since it needs no pod.
        replicas: of the case; None: one to three.
    """

    when: Callable[[dict[str, Any], int], bool]
    release: str | None = None
    spoiled: bool = False
    ends: int
    says: str | None
    replicas: int | None = None


QUOTA = "Version 2 is not ready after 120 s: The namespace's quota does not let pods be created"
BACK = "Rolled back: version 1 serves all requests"
NOT_BACK = (
    "says 0.5. Putting version 1 back did not end well either: Version 1 is not ready after 120 s: The"
    " namespace's quota does not let pods be created.*running deploy again continues"
)
SHORTAGES = {
    "Standard, at the canary": Shortage(when=_is_canary, ends=1, says=f"{QUOTA}.*{BACK}"),
    # A replica that the canary was lent may lack afterwards, which the message then says too.
    "Standard, at promotion": Shortage(when=_is_promotion, ends=1, says=QUOTA),
    "Knative, at the canary": Shortage(when=_is_canary, ends=1, says=QUOTA),
    "Knative, at promotion": Shortage(when=_is_promotion, ends=2, says=None),
    "Standard, at roll-back of a canary": Shortage(
        when=_is_roll_back, release="0.21", spoiled=True, ends=1, says=f"says 0.5.*{BACK}"
    ),
    "Standard, at roll-back after promotion": Shortage(
        when=_is_roll_back, release="0.20", spoiled=True, ends=1, says=NOT_BACK, replicas=3
    ),
    "Knative, at roll-back": Shortage(when=_is_roll_back, spoiled=True, ends=1, says=NOT_BACK),
}


@pytest.mark.parametrize("case", SHORTAGES)
@pytest.mark.parametrize("seed", range(20))
def test_a_quota_without_room_leaves_what_serves_and_is_named(
    case: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortage = SHORTAGES[case]
    mode = case.partition(",")[0]
    release = shortage.release or random.Random(seed).choice(["0.20", "0.21"])
    site = Site(mode, seed, release, monkeypatch)
    if shortage.replicas:
        site.config = site.config.model_copy(update={"replicas": shortage.replicas})
    site.deploy(1)
    if shortage.spoiled:
        site.spoiled.add("2")
    work = site.double.work

    def tighten(spec: dict[str, Any]) -> None:
        if shortage.when(spec, 1):
            work.quota_pods = 0  # What is there stays; nothing new is let in.

    site.before_apply = tighten
    said = ""
    try:
        site.deploy(2)
    except SlipwayError as error:
        said = str(error)
    assert bool(said) == bool(shortage.says) and re.search(shortage.says or "", said), said
    site.double.settle()
    assert (site.double.split, site.double.gaps) == ({str(shortage.ends): 100}, [])
    # There is room again: the same deploy, of a model that is well, ends well.
    work.quota_pods, site.before_apply = 100, lambda spec: None
    site.double.settle()
    site.spoiled.clear()
    site.deploy(2)
    assert site.serves(2) and site.double.gaps == []


# Knative's route before its revision: docs/platform.md, "KServe".


def test_a_route_that_is_told_of_before_its_revision_is_put_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """KServe then takes the version before last for the stable one."""
    raced = 0
    for seed in range(60):
        with monkeypatch.context() as patch:
            site = Site("Knative", seed, "0.21", patch)
            site.deploy(1)
            site.deploy(2)
            site.double.settle()  # the pods of version 1 are gone
            assert site.double.gaps == []
            site.double.kserve.knative.early_routes = 0.3
            shares: list[dict[str, int]] = []
            site.double.clock.watchers.append(lambda: shares.append(site.double.split))  # noqa: B023
            site.deploy(3)
            raced += any("1" in share for share in shares)
            # The window compares the new version with the stable one, which has all other requests.
            with_new = [share for share in shares if share.get("3")]
            assert all(share in ({"3": 20, "2": 80}, {"3": 100}) for share in with_new), with_new
            # Requests wait for pods of the version before last to start, and for nothing else.
            assert all("flights-predictor-00001" in gap for gap in site.double.gaps)
            assert site.serves(3), f"seed {seed}: {site.double.split}"
    assert raced >= 5, "it happens in the double"


def test_a_route_that_is_always_early_ends_with_what_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site("Knative", 0, "0.21", monkeypatch)
    site.deploy(1)
    site.deploy(2)
    site.double.settle()
    site.double.kserve.knative.early_routes = 1.0
    ended = []
    for version in range(3, 9):
        before = site.double.split
        try:
            site.deploy(version)
            ended.append(str(version))
        except SlipwayError as error:
            assert "KServe took another version than the stable one for it 5 times" in str(error)
            assert site.serves(int(next(iter(before)))), site.double.split
            ended.append("refused")
    assert "refused" in ended


@pytest.mark.parametrize("seed", range(40))
def test_rollouts_end_right_whatever_knative_tells_first(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, faults = live_through("Knative", seed, monkeypatch, early_routes=0.3)
    waits = [fault for fault in faults if "no ready pod" in fault]
    assert (right, [fault for fault in faults if fault not in waits]) == (5, [])
