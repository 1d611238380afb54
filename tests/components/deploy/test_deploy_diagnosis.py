"""Why a revision is not ready: only what still holds is told."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from support.deploy_world import World, deploy
from support.kube_double import LABEL, KubeDouble

from slipway.components.deploy.kserve.diagnosis import diagnose
from slipway.components.deploy.kserve.manifest import REVISION
from slipway.components.deploy.kserve.seen import ObservedService
from slipway.components.support.errors import SlipwayError

QUOTA = 'pods "x" is forbidden: exceeded quota: compute, requested: pods=1'
CONFLICT = (
    "fails to update InferenceService status: Operation cannot be fulfilled on"
    ' inferenceservices.serving.kserve.io "flights": the object has been modified'
)
PSA = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": {}'


def event(reason: str, message: str, about: str, moment: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "Warning",
        "reason": reason,
        "message": message,
        "involvedObject": {"name": about},
        "lastTimestamp": moment,
        **more,
    }


def pod(name: str, created: str, **metadata: Any) -> dict[str, Any]:
    meta = {"name": name, "labels": {REVISION: "r2"}, "creationTimestamp": created, **metadata}
    return {"metadata": meta, "status": {"phase": "Running"}}


@dataclass
class Case:
    events: list[dict[str, Any]]
    says: str
    pods: list[dict[str, Any]] = field(default_factory=list)
    conditions: list[dict[str, Any]] = field(default_factory=list)


SET, EARLY, LATE = "flights-v2-predictor-5d", "2026-11-27T00:01:00Z", "2026-11-27T00:02:00Z"
NOT_READY = [
    {"type": "Stopped", "status": "False"},
    {"type": "PredictorReady", "status": "False", "reason": "MinimumReplicasUnavailable"},
]
CASES = {
    "quota": Case([event("FailedCreate", QUOTA, SET, EARLY)], "namespace's quota does not let"),
    "quota, then a pod was made": Case(
        [event("FailedCreate", QUOTA, SET, EARLY)], "1 pods run", [pod("a", LATE)]
    ),
    "quota for one more pod": Case(
        [event("FailedCreate", QUOTA, SET, LATE)], "namespace's quota", [pod("a", EARLY)]
    ),
    "of a series": Case(
        [event("FailedCreate", QUOTA, SET, "", series={"lastObservedTime": LATE}, eventTime=EARLY)],
        "namespace's quota",
        [pod("a", EARLY)],
    ),
    # As text "…:00.5Z" sorts before "…:00Z", and a zone of its own before or after all of UTC.
    "in a fraction of the second after the last pod": Case(
        [event("FailedCreate", QUOTA, SET, "", eventTime="2026-11-27T00:02:00.500000Z")],
        "namespace's quota",
        [pod("a", LATE)],
    ),
    "in another zone, before the last pod": Case(
        [event("FailedCreate", QUOTA, SET, "2026-11-27T02:01:30+02:00")],
        "1 pods run",
        [pod("a", LATE)],
    ),
    "the latest of two, in fractions": Case(
        [
            event("FailedCreate", PSA.format("container"), SET, "", eventTime=f"{LATE[:-1]}.25Z"),
            event("FailedCreate", QUOTA, SET, LATE),
        ],
        "Pod Security level refuses",
    ),
    "of another service": Case(
        [event("FailedCreate", QUOTA, "flights-eu-predictor-5d", LATE)], "0 pods run"
    ),
    "pod security of the storage initializer": Case(
        [event("FailedCreate", PSA.format('container "storage-initializer" must'), SET, LATE)],
        r"Pod Security level refuses the pods: .*`slipway doctor` shows the patch",
    ),
    "a status conflict is none": Case(
        [event("InternalError", CONFLICT, "flights", LATE)],
        "conditions say: PredictorReady: MinimumReplicasUnavailable$",
        conditions=NOT_READY,
    ),
    "an error of the controller": Case(
        [event("InternalError", "fails to reconcile predictor: no runtime", "flights", LATE)],
        "KServe's controller fails: fails to reconcile predictor: no runtime",
    ),
    "a pod that ends is none": Case(
        [event("FailedCreate", QUOTA, SET, EARLY)],
        "namespace's quota",
        [pod("a", LATE, deletionTimestamp=LATE)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_only_what_still_holds_is_a_diagnosis(name: str) -> None:
    case = CASES[name]

    class Cluster:
        def list(self, kind: str, **query: str) -> list[dict[str, Any]]:
            assert (kind, query) == ("Event", {"fieldSelector": "type=Warning"})
            return case.events

    service = {
        "metadata": {"name": "flights"},
        "status": {"conditions": case.conditions, "url": "x"},
    }
    said = diagnose(Cluster(), ObservedService(service=service, pods=case.pods), "r2")  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=case.says):
        raise AssertionError(said)


def test_a_storage_initializer_without_security_context(world: World, cluster: KubeDouble) -> None:
    """KServe's release manifests give it none, and a restricted namespace refuses its pods."""
    cluster.kserve.security = None
    refused = (
        r"not ready after 60 s: The namespace's Pod Security level refuses .*storage-initializer"
    )
    with pytest.raises(SlipwayError, match=refused):
        deploy(world, 1, ready_timeout="60s")
    cluster.settle()
    cluster.kserve.security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert deploy(world, 1).endpoint and cluster.split == {"1": 100}


def test_predictors_run_as_the_rendered_service_account(world: World, cluster: KubeDouble) -> None:
    def account() -> str | None:
        pods = [p for p in cluster.work.pods.values() if "deletionTimestamp" not in p["metadata"]]
        assert pods and {p["metadata"]["labels"][LABEL] for p in pods} == {"1"}
        names = {p["spec"].get("serviceAccountName") for p in pods}
        assert len(names) == 1
        return str(names.pop())

    deploy(world, 1)
    assert account() == "None", "this namespace is not ours"
    cluster.api.objects["serviceaccounts", "slipway-predictor"] = {
        "metadata": {"name": "slipway-predictor"}
    }
    deploy(world, 1)
    cluster.settle()
    assert account() == "slipway-predictor" and cluster.gaps == []
    deploy(world, 1, service_account="mine")
    cluster.settle()
    assert account() == "mine"
