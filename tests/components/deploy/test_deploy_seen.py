"""What is ready is read from the pods: the status may be of a moment ago, or of another object."""

from typing import Any

import pytest

from slipway.components.deploy.kserve.manifest import REVISION
from slipway.components.deploy.kserve.seen import ObservedService

KNATIVE = "serving.knative.dev/revision"
WELL = {"conditions": [{"type": "Ready", "status": "True"}], "observedGeneration": 7}


def pod(revision: str, *, ready: bool = True, app: str = "flights-predictor", **more: Any) -> Any:
    labels = {REVISION: revision, "app": f"isvc.{app}", **more.pop("labels", {})}
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": {"labels": labels, **more}, "status": {"conditions": conditions}}


GONE = {"deletionTimestamp": "2026-11-27T00:00:00Z"}
STANDARD: dict[str, tuple[list[Any], bool]] = {
    "all of the new one": ([pod("new"), pod("new")], True),
    "the status is of before the update": ([pod("old")], False),
    "one of before is left": ([pod("new"), pod("old")], False),
    "one of before ends": ([pod("new"), pod("old", **GONE)], True),
    "one is not ready": ([pod("new"), pod("new", ready=False)], False),
    "the new one's only pod ends": ([pod("new", **GONE)], False),
    "the canary's alone": ([pod("new", app="flights-v2-predictor")], False),
    "none": ([], False),
}


@pytest.mark.parametrize("case", STANDARD)
def test_a_deployment_is_through_when_its_pods_are(case: str) -> None:
    pods, through = STANDARD[case]
    seen = ObservedService(service={"status": WELL}, pods=pods)
    assert seen.is_ready, "whatever the status says"
    assert seen.runs("flights-predictor", "new") is through


def of(name: str, revision: str, *, ready: bool = True) -> Any:
    return pod(revision, ready=ready, labels={KNATIVE: name})


REVISIONS: dict[str, tuple[str, str, list[Any], bool]] = {
    "the new one": ("r2", "r2", [of("r2", "new")], True),
    "the status still names the one before": (
        "r1",
        "r1",
        [of("r1", "old"), of("r2", "new")],
        False,
    ),
    "not ready yet": ("r2", "r1", [of("r2", "new", ready=False)], False),
    "ready, its pods gone": ("r2", "r2", [of("r1", "old")], False),
    "nothing is told": ("", "", [of("r2", "new")], False),
}


@pytest.mark.parametrize("case", REVISIONS)
def test_a_revision_is_the_one_that_was_applied_when_its_pods_say_so(case: str) -> None:
    created, ready, pods, expected = REVISIONS[case]
    component = {"latestCreatedRevision": created, "latestReadyRevision": ready}
    seen = ObservedService(
        service={"status": WELL | {"components": {"predictor": component}}}, pods=pods
    )
    assert seen.latest_ready("new") is expected


def test_what_is_rolled_out_is_told_by_pods_too() -> None:
    component = {"latestRolledoutRevision": "r1"}
    status = {"components": {"predictor": component}}
    seen = ObservedService(service={"status": status}, pods=[of("r1", "old"), of("r2", "new")])
    assert (seen.rolled_out, seen.is_rolled_out("old"), seen.is_rolled_out("new")) == (
        "r1",
        True,
        False,
    )
    assert not ObservedService(service={"status": status}, pods=[of("r2", "old")]).is_rolled_out(
        "old"
    )
