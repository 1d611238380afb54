"""Deploy to KServe, against a Kubernetes API over HTTP with real predictors behind it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from support.deploy_world import World, bundles
from support.kube_double import LABEL, Fault, KubeDouble

from slipway.components.config.deployment import CanaryConfig, DeploymentConfig
from slipway.components.contracts.release import Release
from slipway.components.deploy.kserve import canary, manifest
from slipway.components.support.errors import SlipwayError

ROOT = Path(__file__).parents[3]
FAST = {"window": "1s", "share": 20, "min_requests": 1}


@pytest.fixture(scope="module")
def predictors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Versions 1 and 2 as they are, and 3, a process that serves another model than version 3."""
    root = tmp_path_factory.mktemp("predictors")
    biases = {"1": 0.0, "2": 0.5, "3": 9.0}
    running = {}
    stack = []
    for version, bias in biases.items():
        bundles.make_bundle(root / version / "bundle", bias=bias)
        context = bundles.predictor(root / version, f"--model-version={version}")
        running[version] = context.__enter__().url
        stack.append(context)
    yield running
    for context in stack:
        context.__exit__(None, None, None)


@pytest.fixture
def cluster(
    world: World, predictors: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[KubeDouble]:
    from slipway.components.deploy.kserve import cluster as cluster_module
    from slipway.components.deploy.kserve import storage
    from slipway.components.deploy.kserve import target as kserve

    double = KubeDouble(predictors)
    for name, value in double.environment(world.root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INFERENCE_LOG_URI", "s3://logs/inference")
    # The toy registry's files are local; a cluster would refuse them (tested below).
    monkeypatch.setattr(storage, "_READABLE", (*storage._READABLE, "/"))
    monkeypatch.setattr(kserve, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(canary, "_INTERVAL", 0.2)
    monkeypatch.setattr(cluster_module, "_TRIES", 4)
    yield double
    double.close()


def deploy(
    world: World, version: int, *, mode: str = "Standard", bias: float = 0.0, **more: Any
) -> Any:
    config = {
        "target": "kserve",
        "mode": mode,
        "namespace": "models",
        "canary": FAST,
        "ready_timeout": "60s",
        "max_latency_ms": 5000,
        **more,
    }
    return world.deploy(version, config=config, bias=bias)


def champion() -> str | None:
    try:
        version = mlflow.MlflowClient().get_model_version_by_alias("flights", "champion").version
        return str(version)
    except mlflow.exceptions.MlflowException:
        return None


MODES = pytest.mark.parametrize("mode", ["Standard", "Knative"])


@MODES
def test_first_deploy(world: World, cluster: KubeDouble, mode: str) -> None:
    result = deploy(world, 1, mode=mode)
    assert result.endpoint == "http://flights-predictor.models.svc.cluster.local"
    assert champion() == "1" and cluster.split == {"1": 100}
    assert cluster.service is not None
    assert cluster.service["metadata"]["labels"]["slipway.dev/verdict"] == "pass"
    kinds = {kind for kind, _ in cluster.objects}
    assert kinds == {"inferenceservices", "networkpolicies", "poddisruptionbudgets"}


@MODES
def test_canary_is_promoted(world: World, cluster: KubeDouble, mode: str) -> None:
    deploy(world, 1, mode=mode)
    before = len(cluster.applied)
    deploy(world, 2, mode=mode, bias=0.5)
    assert champion() == "2" and cluster.split == {"2": 100}
    steps = [a["spec"] for a in cluster.applied[before:]]
    if mode == "Standard":
        shares = [[c["trafficPercent"] for c in step.get("canary", [])] for step in steps]
        assert shares == [[0], [20], []]
        assert [step["predictor"]["name"] for step in steps] == ["v1", "v1", "v2"]
        assert "maxReplicas" not in steps[0]["canary"][0]["predictor"]
    else:
        assert [s["predictor"].get("canaryTrafficPercent") for s in steps] == [0, 20, None]
    assert cluster.unready_moments == 0
    assert manifest.STABLE not in cluster.applied[-1]["metadata"]["annotations"]


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
    assert cluster.split == {"1": 100} and champion() == "1" and cluster.unready_moments == 0
    assert cluster.answered["1"] > asked, "it was asked before it took over"
    # It never shares requests: first none, then all.
    steps = [step["spec"] for step in cluster.applied[before:]]
    if mode == "Standard":
        shares = [[c["trafficPercent"] for c in step.get("canary", [])] for step in steps]
        assert shares == [[0], []]
    else:
        assert [s["predictor"].get("canaryTrafficPercent") for s in steps] == [0, None]
    # One that does not come up changes nothing.
    cluster.broken["2"] = TROUBLES[0].status
    with pytest.raises(SlipwayError, match=r"cannot be pulled.*Rolled back: version 1 serves"):
        roll_back(
            project="flights",
            config=section.model_copy(update={"ready_timeout": timedelta(seconds=2)}),
            version="2",
        )
    assert cluster.split == {"1": 100} and champion() == "1"


def test_first_deploy_that_answers_wrongly_leaves_nothing(
    world: World, cluster: KubeDouble
) -> None:
    with pytest.raises(SlipwayError, match="the model itself says"):
        deploy(world, 3, bias=0.7)
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
        deploy(world, 2, bias=0.5, ready_timeout="3s")
    assert "Rolled back: version 1 serves all requests" in str(error.value)
    assert cluster.split == {"1": 100} and champion() == "1"


def test_quota_seen_in_events(world: World, cluster: KubeDouble) -> None:
    deploy(world, 1)
    cluster.broken["2"] = {}
    cluster.pods = lambda selector: []  # type: ignore[method-assign]
    cluster.events = [
        {
            "reason": "FailedCreate",
            "type": "Warning",
            "involvedObject": {"name": "flights-v2-predictor-5d"},
            "message": 'pods "x" is forbidden: exceeded quota: compute',
        }
    ]
    with pytest.raises(SlipwayError, match="namespace's quota does not let pods be created"):
        deploy(world, 2, bias=0.5, ready_timeout="3s")


PASSING = [
    Fault("PATCH", 429, "slow down", 2, {"Retry-After": "0"}),
    Fault("GET", 429, "slow down", 1, {"Retry-After": "1"}),
    Fault("PATCH", 409, "the object has been modified", 1),
    Fault("GET", 410, "The resourceVersion for the provided watch is too old", 2),
    Fault("GET", 0, times=2),
    Fault("PATCH", 503, "etcd is changing its leader", 2),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.method}-{fault.status}")
def test_what_passes_is_waited_for(world: World, cluster: KubeDouble, fault: Fault) -> None:
    cluster.faults = [Fault(**vars(fault))]
    assert deploy(world, 1).endpoint and champion() == "1"


REFUSING = [
    (Fault("PATCH", 403, "inferenceservices is forbidden: User cannot patch"), "deploy-role.yaml"),
    (Fault("PATCH", 403, 'pods is forbidden: exceeded quota: "cpu"'), "namespace's quota"),
    (
        Fault("PATCH", 400, 'admission webhook "v.kserve" denied the request: bad name'),
        "An admission webhook of the cluster refuses .*bad name",
    ),
    (
        Fault(
            "PATCH",
            409,
            "conflict",
            causes=[
                {
                    "reason": "FieldManagerConflict",
                    "field": ".spec.predictor.minReplicas",
                    "message": 'conflict with "kubectl-edit"',
                }
            ],
        ),
        r"Somebody else manages fields .*minReplicas \(conflict with .kubectl-edit.\)",
    ),
    (Fault("PATCH", 404, "the server could not find the requested resource"), "Install KServe"),
    (Fault("GET", 401, "Unauthorized"), "service account"),
    (Fault("PATCH", 0, times=99), "does not answer"),
]


@pytest.mark.parametrize(
    ("fault", "message"), REFUSING, ids=lambda case: getattr(case, "message", "")[:20]
)
def test_what_does_not_pass_is_told(
    world: World, cluster: KubeDouble, fault: Fault, message: str
) -> None:
    cluster.faults = [Fault(**vars(fault))]
    with pytest.raises(SlipwayError, match=message):
        deploy(world, 1)
    assert champion() is None


def test_another_mode_than_the_running_one_is_refused(world: World, cluster: KubeDouble) -> None:
    deploy(world, 1)
    with pytest.raises(SlipwayError, match="KServe does not change the mode of a running service"):
        deploy(world, 2, mode="Knative", bias=0.5)
    assert cluster.split == {"1": 100}


def test_a_pod_uses_its_service_account(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.config import incluster_config

    from slipway.components.deploy.kserve import cluster as cluster_module

    for name, text in {"token": "secret-token", "ca.crt": "x", "namespace": "team\n"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(cluster_module, "_NAMESPACE", tmp_path / "namespace")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    seen: dict[str, Any] = {}

    class Client:
        def __init__(self, settings: Any) -> None:
            seen.update(host=settings.host, ca=settings.ssl_ca_cert, verify=settings.verify_ssl)
            seen["token"] = settings.get_api_key_with_prefix("authorization")

    monkeypatch.setattr("kubernetes.client.ApiClient", Client)
    assert cluster_module.Cluster(None).namespace == "team"
    assert seen == {
        "host": "https://10.96.0.1:443",
        "ca": str(tmp_path / "ca.crt"),
        "verify": True,
        "token": "bearer secret-token",
    }


def test_no_cluster_at_all_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SlipwayError, match=r"no cluster to deploy to.*Set KUBECONFIG"):
        deploy(world, 1)


def test_role_is_exactly_what_is_called(world: World, cluster: KubeDouble) -> None:
    deploy(world, 1)
    cluster.broken["2"] = TROUBLES[1].status
    with pytest.raises(SlipwayError):
        deploy(world, 2, bias=0.5, ready_timeout="3s")
    cluster.broken["2"] = {}
    with pytest.raises(SlipwayError):
        deploy(world, 2, bias=0.5, ready_timeout="3s")
    cluster.broken.clear()
    cluster.objects.clear()
    with pytest.raises(SlipwayError):
        deploy(world, 3, bias=0.7)
    role = next(
        document
        for document in yaml.safe_load_all(
            (ROOT / "manifests/base/deploy-role.yaml").read_text(encoding="utf-8")
        )
        if document["kind"] == "Role"
    )
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == cluster.verbs


def test_a_bundle_that_the_cluster_cannot_read_is_refused(world: World, tmp_path: Path) -> None:
    from slipway.components.deploy.kserve.storage import storage_uri

    release = Release(**json.loads(world.release(1)[0].read_text()))
    with pytest.raises(SlipwayError, match=r"which KServe cannot read. Set deployment.storage"):
        storage_uri(release, tmp_path, DeploymentConfig())
    with pytest.raises(SlipwayError, match="give an object-store prefix"):
        storage_uri(release, tmp_path, DeploymentConfig(storage="/tmp/x"))


@dataclass
class Window:
    name: str
    new: canary.Observed
    stable: canary.Observed
    reason: str | None


def seen(
    requests: float, errors: float = 0, ms: float = 2, low: float = 50, high: float = 50
) -> Any:
    return canary.Observed(requests, errors, requests * ms / 1000, {"0.5": low, "inf": high})


WINDOWS = [
    Window("alike", seen(100), seen(900), None),
    Window("too few", seen(5), seen(900), None),
    Window("too few, with an error", seen(5, 1), seen(900), "1 of 5 requests"),
    Window("errors", seen(100, 5), seen(900), "5.00% of requests"),
    Window("errors of both", seen(100, 5), seen(900, 45), None),
    Window("slow", seen(100, ms=9), seen(900), "9.0 ms a request"),
    Window("slower within the ratio", seen(100, ms=3), seen(900), None),
    Window("other predictions", seen(100, low=95, high=5), seen(900), "stability index"),
    Window("stable without traffic", seen(100, ms=99), seen(1), None),
]


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window.name)
def test_comparison(window: Window) -> None:
    reason, _ = canary.compare(window.new, window.stable, CanaryConfig())
    assert (reason is None) == (window.reason is None)
    assert window.reason is None or window.reason in (reason or "")


def test_stability_index_is_the_textbooks() -> None:
    import math

    old, new = {"a": 5000.0, "b": 5000.0}, {"a": 6000.0, "b": 4000.0}
    truth = (0.6 - 0.5) * math.log(0.6 / 0.5) + (0.4 - 0.5) * math.log(0.4 / 0.5)
    assert canary.population_stability(new, old) == pytest.approx(truth, rel=1e-3)
    assert canary.population_stability(old, old) == 0


@pytest.mark.parametrize(("rows", "stable_rows"), [(50, 450), (60, 5000), (2000, 20_000)])
def test_one_distribution_is_no_shift_and_another_is(rows: int, stable_rows: int) -> None:
    """As the predictor's ten bins see it: few false alarms, and a moved model is found."""
    import random

    draw = random.Random(1)

    def histogram(count: int, centre: float) -> dict[str, float]:
        bins = dict.fromkeys((str(i) for i in range(10)), 0.0)
        for _ in range(count):
            bins[str(min(9, max(0, int(draw.gauss(centre, 1.5)))))] += 1
        return bins

    def refused(centre: float) -> int:
        reasons = 0
        for _ in range(200):
            new, stable = seen(rows), seen(stable_rows)
            new.predictions, stable.predictions = histogram(rows, centre), histogram(stable_rows, 4)
            reasons += canary.compare(new, stable, CanaryConfig())[0] is not None
        return reasons

    assert refused(4.0) == 0
    assert refused(6.0) > 190
