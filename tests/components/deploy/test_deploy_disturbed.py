"""Rollouts that others disturb: the API server starts anew, somebody edits the service meanwhile."""

import random
from functools import partial
from typing import Any

import pytest
from support.kserve_double import KIND
from support.rollout_site import Site

from slipway.components.support.errors import SlipwayError

PATH = ("spec", "predictor", "maxReplicas")
MODES = pytest.mark.parametrize("mode", ["Standard", "Knative"])


def live(mode: str, seed: int, release: str, patch: pytest.MonkeyPatch) -> Site:
    """A site where version 1 serves."""
    site = Site(mode, seed, release, patch)
    site.deploy(1)
    return site


@MODES
def test_a_restart_of_the_api_server_ends_no_rollout(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every connection is reset for half a minute, from any moment of the rollout on."""

    def go_away(site: Site) -> None:
        site.double.api.away_until = site.double.clock.now + 30

    for seed in range(60):
        chance = random.Random(seed)
        with monkeypatch.context() as patch:
            site = live(mode, seed, chance.choice(["0.20", "0.21"]), patch)
            site.double.clock.after(chance.uniform(0, 40), partial(go_away, site))
            site.deploy(2)
            assert site.serves(2) and site.double.gaps == [], f"seed {seed}"


@MODES
@pytest.mark.parametrize("wrong", [False, True], ids=["a sound version", "a refused version"])
def test_a_field_that_somebody_else_took_during_the_canary_leaves_it_no_requests(
    mode: str, wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their field is left and named; the version from before has all requests again."""
    for seed in range(40):
        with monkeypatch.context() as patch:
            site = live(mode, seed, "0.21", patch)
            if wrong:
                site.spoiled.add("2")

            def edit(site: Site = site) -> None:
                service = site.double.service
                if service and _share(service["spec"]) and not site.disturbed:
                    site.disturbed = True
                    site.double.api.edit(KIND, "flights", PATH, 7, "kubectl-edit")

            site.before_read = edit
            with pytest.raises(SlipwayError, match=r"maxReplicas .*kubectl-edit") as told:
                site.deploy(2)
            assert site.disturbed and ("says 0.5" in str(told.value)) == wrong, told.value
            site.double.settle()
            assert (site.double.split, site.double.gaps) == ({"1": 100}, []), told.value
            # The change is taken back: the same deploy, of a model that is well, ends well.
            site.spoiled.clear()
            owners = site.double.api.managers[KIND, "flights"]
            site.double.api.edit(KIND, "flights", PATH, site.config.replicas, "kubectl-edit")
            assert owners["kubectl-edit"] == {PATH}
            site.deploy(2)
            assert site.serves(2) and site.double.gaps == []


def _share(spec: dict[str, Any]) -> int:
    """Percent of the requests that the new version gets beside the stable one."""
    entries = [entry["trafficPercent"] for entry in spec.get("canary", [])]
    return int(max(entries, default=0) or spec["predictor"].get("canaryTrafficPercent") or 0)
