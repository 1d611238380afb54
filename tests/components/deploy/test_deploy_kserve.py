"""Deploy to KServe, against a Kubernetes API over HTTP with real predictors behind it."""

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.deploy_world import World, champion, deploy
from support.kube_api import role_rules
from support.kube_double import LABEL, KubeDouble

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.release import Release
from slipway.components.deploy.kserve import manifest
from slipway.components.support.errors import SlipwayError

MODES = pytest.mark.parametrize("mode", ["Standard", "Knative"])


@MODES
def test_first_deploy(world: World, cluster: KubeDouble, mode: str) -> None:
    result = deploy(world, 1, mode=mode)
    service = "flights-predictor" if mode == "Standard" else "flights"
    assert result.endpoint == f"http://{service}.models.svc.cluster.local"
    assert champion() == "1" and cluster.split == {"1": 100}
    assert cluster.service is not None
    assert cluster.service["metadata"]["labels"]["slipway.dev/verdict"] == "pass"
    kinds = {kind for kind, _ in cluster.api.objects}
    assert kinds == {"inferenceservices", "networkpolicies", "poddisruptionbudgets"}


def test_a_host_that_kserve_could_not_make_is_refused_before_anything_is_applied(
    world: World, cluster: KubeDouble
) -> None:
    namespace = "n" * 46
    said = (
        r"not deployed: KServe makes the host flights-predictor-n+ .* shorten them to 52 together"
    )
    with pytest.raises(SlipwayError, match=said):
        deploy(world, 1, namespace=namespace)
    assert cluster.applied == [] and cluster.api.objects == {}


@MODES
def test_canary_is_promoted(world: World, cluster: KubeDouble, mode: str) -> None:
    deploy(world, 1, mode=mode)
    before = len(cluster.applied)
    deploy(world, 2, mode=mode, bias=0.5)
    assert champion() == "2" and cluster.split == {"2": 100}
    steps = [a["spec"] for a in cluster.applied[before:]]
    if mode == "Standard":
        shares = [[c["trafficPercent"] for c in step.get("canary", [])] for step in steps]
        assert shares == [[0], [20], [0], []]
        versions = [step["predictor"]["labels"][LABEL] for step in steps]
        assert versions == ["1", "1", "2", "2"], "the canary stands until its pods took over"
        assert "maxReplicas" not in steps[0]["canary"][0]["predictor"]
    else:
        assert [s["predictor"].get("canaryTrafficPercent") for s in steps] == [0, 20, None]
    assert cluster.gaps == []
    kept = cluster.api.objects["networkpolicies", "flights-predictor"]["metadata"]["annotations"]
    assert json.loads(kept[manifest.STABLE])["labels"][LABEL] == "2"
    assert all(manifest.STABLE not in a["metadata"]["annotations"] for a in cluster.applied)


@MODES
def test_wrong_answers_roll_back(world: World, cluster: KubeDouble, mode: str) -> None:
    deploy(world, 1, mode=mode)
    with pytest.raises(SlipwayError, match=r"the model itself says.*Rolled back: version 1 serves"):
        deploy(world, 3, mode=mode, bias=0.7)
    assert champion() == "1" and cluster.split["1"] == 100
    assert not any(a["spec"].get("canary", [{}])[0].get("trafficPercent") for a in cluster.applied)
    assert cluster.service is not None
    assert cluster.service["spec"]["predictor"]["labels"][LABEL] == "1"
    # And the way is free for the next one.
    deploy(world, 2, mode=mode, bias=0.5)
    assert champion() == "2" and cluster.split == {"2": 100}


@MODES
def test_canary_with_errors_rolls_back(world: World, cluster: KubeDouble, mode: str) -> None:
    deploy(world, 1, mode=mode)
    counts = iter(["0", "40"])

    class Growing(dict[str, str]):
        def __contains__(self, version: object) -> bool:
            return version == "2"

        def __getitem__(self, version: str) -> str:
            return f'slipway_requests_total{{code="500"}} {next(counts)}\n'

    cluster.pod_metrics = Growing()
    with pytest.raises(SlipwayError, match=r"failed as a canary: it answers 100.00% .*Rolled back"):
        deploy(world, 2, mode=mode, bias=0.5)
    assert champion() == "1" and cluster.split["1"] == 100


@MODES
def test_rollback_to_the_version_before(world: World, cluster: KubeDouble, mode: str) -> None:
    from slipway.components.deploy.rollback import roll_back

    for version, bias in ((1, 0.0), (2, 0.5)):
        deploy(world, version, mode=mode, bias=bias)
        world.register(version)
    before, asked = len(cluster.applied), cluster.answered["1"]
    section = DeploymentConfig.model_validate(
        {"mode": mode, "namespace": "models", "ready_timeout": "60s", "max_latency_ms": 5000}
    )
    assert roll_back(project="flights", config=section).model_version == "1"
    assert cluster.split == {"1": 100} and champion() == "1" and cluster.gaps == []
    assert cluster.answered["1"] > asked, "it was asked before it took over"
    # It never shares requests: first none, then all.
    steps = [step["spec"] for step in cluster.applied[before:]]
    if mode == "Standard":
        shares = [[c["trafficPercent"] for c in step.get("canary", [])] for step in steps]
        assert shares == [[0], [0], []]
    else:
        assert [s["predictor"].get("canaryTrafficPercent") for s in steps] == [0, None]
    # One that does not come up changes nothing.
    cluster.broken["2"] = TROUBLES[0].status
    with pytest.raises(SlipwayError, match=r"cannot be pulled.*Rolled back: version 1 serves"):
        roll_back(
            project="flights",
            config=section.model_copy(update={"ready_timeout": timedelta(seconds=60)}),
            version="2",
        )
    assert cluster.split == {"1": 100} and champion() == "1"


def test_first_deploy_that_answers_wrongly_leaves_nothing(
    world: World, cluster: KubeDouble
) -> None:
    with pytest.raises(SlipwayError, match="the model itself says"):
        deploy(world, 3, bias=0.7)
    cluster.settle()
    assert cluster.service is None and champion() is None


@MODES
def test_interrupted_deploy_is_continued(
    world: World, cluster: KubeDouble, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    from slipway.components.deploy import rollout

    deploy(world, 1, mode=mode)
    killed = "killed in the window"

    def die(*_: Any) -> None:
        raise SystemExit(killed)

    with monkeypatch.context() as patch:
        patch.setattr(rollout, "wait_window", die)
        with pytest.raises(SystemExit):
            deploy(world, 2, mode=mode, bias=0.5)
    cluster.settle(20)
    assert cluster.split == {"1": 80, "2": 20} and champion() == "1"
    deploy(world, 2, mode=mode, bias=0.5)
    assert cluster.split == {"2": 100} and champion() == "2"


@MODES
def test_interrupted_deploy_then_a_refused_one_returns_to_the_stable_version(
    world: World, cluster: KubeDouble, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    from slipway.components.deploy import rollout

    deploy(world, 1, mode=mode)

    def die(*_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(rollout, "wait_window", die)
        with pytest.raises(SystemExit):
            deploy(world, 2, mode=mode, bias=0.5)
    with pytest.raises(SlipwayError, match="Rolled back: version 1 serves"):
        deploy(world, 3, mode=mode, bias=0.7)
    assert cluster.split["1"] == 100 and champion() == "1"


def test_the_same_deploy_twice_is_one(world: World, cluster: KubeDouble) -> None:
    deploy(world, 1)
    assert cluster.service is not None
    generation = cluster.service["metadata"]["generation"]
    deploy(world, 1)
    assert cluster.service["metadata"]["generation"] == generation


@dataclass
class Trouble:
    name: str
    status: dict[str, Any]
    message: str


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {
        "containerStatuses": [
            {"name": "kserve-container", "image": "registry/predictor:1", "state": state, **more}
        ]
    }


TROUBLES = [
    Trouble(
        "image", waiting("ImagePullBackOff", "not found"), "image registry/predictor:1 cannot be"
    ),
    Trouble(
        "crash",
        waiting("CrashLoopBackOff", lastState={"terminated": {"reason": "Error"}}),
        "CrashLoopBackOff; it says: Traceback: no such file",
    ),
    Trouble(
        "memory",
        waiting("CrashLoopBackOff", lastState={"terminated": {"reason": "OOMKilled"}}),
        "needs more memory than its limit",
    ),
    Trouble(
        "no GPU",
        {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "reason": "Unschedulable",
                    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu",
                }
            ]
        },
        "No node has a free GPU",
    ),
    Trouble("slow", {}, "pods run, but do not become ready|conditions say: Ready"),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_what_goes_wrong_is_told(world: World, cluster: KubeDouble, trouble: Trouble) -> None:
    deploy(world, 1)
    cluster.broken["2"] = trouble.status
    with pytest.raises(SlipwayError, match=trouble.message) as error:
        deploy(world, 2, bias=0.5, ready_timeout="60s")
    assert "Rolled back: version 1 serves all requests" in str(error.value)
    assert cluster.split == {"1": 100} and champion() == "1"


def test_quota_seen_in_events(world: World, cluster: KubeDouble) -> None:
    deploy(world, 1)
    cluster.work.quota_pods = 3
    with pytest.raises(
        SlipwayError, match=r"namespace's quota does not let pods be created.*pods=3"
    ):
        deploy(world, 2, bias=0.5, ready_timeout="60s")
    assert cluster.gaps == [] and cluster.split == {"1": 100}
    cluster.work.quota_pods = 100
    deploy(world, 2, bias=0.5)
    assert cluster.split == {"2": 100}


def test_another_mode_than_the_running_one_is_refused(world: World, cluster: KubeDouble) -> None:
    deploy(world, 1)
    with pytest.raises(SlipwayError, match="KServe does not change the mode of a running service"):
        deploy(world, 2, mode="Knative", bias=0.5)
    assert cluster.split == {"1": 100}


def test_role_is_exactly_what_is_called(world: World, cluster: KubeDouble) -> None:
    """The double refuses what the rendered role does not allow; here: nothing in it is needless."""
    deploy(world, 1)
    cluster.broken["2"] = TROUBLES[1].status
    with pytest.raises(SlipwayError):
        deploy(world, 2, bias=0.5, ready_timeout="60s")
    cluster.settle()
    cluster.broken["2"] = {}
    with pytest.raises(SlipwayError):
        deploy(world, 2, bias=0.5, ready_timeout="60s")
    cluster.broken.clear()
    cluster.api.remove("inferenceservices", "flights")
    with pytest.raises(SlipwayError):
        deploy(world, 3, bias=0.7)
    allowed = {
        (group, resource, verb)
        for rule in role_rules()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == cluster.api.verbs


def test_a_bundle_that_the_cluster_cannot_read_is_refused(world: World, tmp_path: Path) -> None:
    from slipway.components.deploy.kserve.storage import storage_uri

    release = Release(**json.loads(world.release(1)[0].read_text()))
    with pytest.raises(SlipwayError, match=r"which KServe cannot read. Set deployment.storage"):
        storage_uri(release, tmp_path, DeploymentConfig())
    with pytest.raises(SlipwayError, match="give an object-store prefix"):
        storage_uri(release, tmp_path, DeploymentConfig(storage="/tmp/x"))


def test_azure_is_read_by_its_blob_address() -> None:
    """KServe's storage initializer knows no abfss."""
    from slipway.components.deploy.kserve.storage import as_kserve_reads

    uri = "abfss://models@lake.dfs.core.windows.net/flights/abc"
    assert as_kserve_reads(uri) == "https://lake.blob.core.windows.net/models/flights/abc"
    assert as_kserve_reads("s3://models/flights/abc") == "s3://models/flights/abc"
