"""The client of the Kubernetes API, over HTTP: what it waits for, and how it tells a refusal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.kube_api import CRDS
from support.kube_double import Fault, KubeDouble

from slipway.components.support.errors import SlipwayError
from slipway.components.support.kubernetes import cluster as cluster_module
from slipway.components.support.kubernetes import pod
from slipway.components.support.kubernetes.cluster import ApiError, Cluster, read_moment

SERVICE: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {
        "name": "flights",
        "annotations": {"serving.kserve.io/deploymentMode": "Standard"},
    },
    "spec": {"predictor": {"minReplicas": 1, "maxReplicas": 1, "containers": [{"name": "c"}]}},
}


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeDouble]:
    made = KubeDouble({})
    for name, value in made.serve(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cluster_module, "time", made.clock)
    yield made
    made.close()


def client() -> Cluster:
    return Cluster("models", "deploy-role.yaml")


PASSING = [
    Fault("PATCH", 429, "slow down", 2, {"Retry-After": "0"}),
    Fault("PATCH", 429, "slow down", 1, {"Retry-After": "1"}),
    Fault("PATCH", 409, "the object has been modified", 1),
    Fault("PATCH", 410, "The resourceVersion for the provided watch is too old", 2),
    Fault("PATCH", 0, times=2),
    Fault("PATCH", 503, "etcd is changing its leader", 2),
    Fault("PATCH", 500, 'failed calling webhook "x": no endpoints available for service', 2),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.status}")
def test_what_passes_is_waited_for(double: KubeDouble, fault: Fault) -> None:
    double.api.faults = [Fault(**vars(fault))]
    assert client().apply(SERVICE)["metadata"]["generation"] == 1
    assert double.clock.now >= 0.5


def test_a_certificate_that_is_not_accepted_is_not_waited_for() -> None:
    refused = (
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer"
    )
    assert not ApiError(0, refused, {}).passes
    assert ApiError(0, "Connection reset by peer", {}).passes


DENIED = 'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: '
UNDECLARED = (
    "failed to create typed patch object (models/flights; serving.kserve.io/v1beta1,"
    " Kind=InferenceService): .spec.predictor.canaries: field not declared in schema"
)
OWNED = [
    {
        "reason": "FieldManagerConflict",
        "field": ".spec.predictor.minReplicas",
        "message": 'conflict with "kubectl-edit"',
    }
]
REFUSING = {
    "rights": (
        Fault(
            "PATCH",
            403,
            'inferenceservices.serving.kserve.io "flights" is forbidden: User "x" cannot patch'
            ' resource "inferenceservices" in API group "serving.kserve.io"',
        ),
        r"service account may not do this: .*Apply manifests/base/deploy-role.yaml",
    ),
    "webhook": (
        Fault("PATCH", 403, DENIED + "'MinReplicas' cannot be greater than MaxReplicas"),
        r"An admission webhook or policy .* refuses InferenceService flights: .*'MinReplicas'",
    ),
    "policy": (
        Fault("PATCH", 422, "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"),
        "An admission webhook or policy",
    ),
    "quota": (
        Fault("PATCH", 403, 'inferenceservices "x" is forbidden: exceeded quota: "cpu", used: 9'),
        r"The namespace's quota refuses InferenceService flights",
    ),
    "pod security": (
        Fault("PATCH", 403, 'pods "x" is forbidden: violates PodSecurity "restricted:latest": y'),
        r"The namespace's Pod Security level refuses InferenceService flights",
    ),
    "another 403": (
        Fault("PATCH", 403, "unable to create new content in namespace models: it is terminated"),
        r"The Kubernetes API refuses PATCH InferenceService flights with 403: unable",
    ),
    "undeclared, as 500": (
        Fault("PATCH", 500, UNDECLARED),
        r"has no field spec\.predictor\.canaries: .*Install KServe 0\.20 or later, or take",
    ),
    "undeclared, as 400": (
        Fault("PATCH", 400, 'strict decoding error: unknown field "spec.predictor.canaries"'),
        r"has no field spec\.predictor\.canaries: ",
    ),
    "another manager": (
        Fault("PATCH", 409, "conflict", causes=OWNED),
        r"Somebody else manages fields .*minReplicas \(conflict with .kubectl-edit.\)",
    ),
    "no KServe": (
        Fault("PATCH", 404, "the server could not find the requested resource"),
        "Install KServe",
    ),
    "unknown account": (Fault("PATCH", 401, "Unauthorized"), "service account"),
}


@pytest.mark.parametrize("case", REFUSING)
def test_what_does_not_pass_is_told_at_once(double: KubeDouble, case: str) -> None:
    fault, message = REFUSING[case]
    double.api.faults = [Fault(**vars(fault))]
    with pytest.raises(SlipwayError, match=message):
        client().apply(SERVICE)
    assert double.clock.now < 0.1, "it was tried once"
    if fault.status == 403 and case != "rights":
        with pytest.raises(SlipwayError) as error:
            double.api.faults = [Fault(**vars(fault))]
            client().apply(SERVICE)
        assert "role.yaml" not in str(error.value)


def test_no_answer_and_a_dead_webhook_are_told_in_the_end(double: KubeDouble) -> None:
    double.api.faults = [Fault("PATCH", 0, times=99)]
    with pytest.raises(SlipwayError, match="The Kubernetes API does not answer"):
        client().apply(SERVICE)
    double.api.faults = [Fault("PATCH", 500, 'failed calling webhook "x": refused', times=99)]
    with pytest.raises(SlipwayError, match="A webhook of the cluster does not answer"):
        client().apply(SERVICE)


def test_the_double_says_no_itself(double: KubeDouble) -> None:
    """The same refusals, from the double's own admission, ownership and roles."""
    cluster = client()
    cluster.apply(SERVICE)
    predictor = SERVICE["spec"]["predictor"]
    with pytest.raises(SlipwayError, match="'MinReplicas' cannot be greater than MaxReplicas"):
        cluster.apply(SERVICE | {"spec": {"predictor": predictor | {"minReplicas": 5}}})
    with pytest.raises(SlipwayError, match=r"Somebody else manages .*maxReplicas"):
        cluster.apply(SERVICE | {"spec": {"predictor": {"maxReplicas": 2}}}, "another")
    with pytest.raises(SlipwayError, match="may not do this"):
        cluster.delete("NetworkPolicy", "flights-predictor")


@pytest.mark.skipif(not CRDS.exists(), reason="KServe's CRD is not beside this checkout")
def test_a_field_that_the_definition_lacks_is_refused_of_a_new_object_too(
    double: KubeDouble,
) -> None:
    predictor = SERVICE["spec"]["predictor"] | {"replicas": 2}
    with pytest.raises(
        SlipwayError, match=r"InferenceService has no field spec\.predictor\.replicas"
    ):
        client().create(SERVICE | {"spec": {"predictor": predictor}})
    assert double.api.objects == {}


def test_an_object_that_is_being_deleted_is_waited_for(double: KubeDouble) -> None:
    cluster = client()
    cluster.apply(SERVICE)
    double.settle(30)
    cluster.delete("InferenceService", "flights")
    assert cluster.get("InferenceService", "flights") is not None, "finalizers hold it a moment"
    cluster.wait_gone("InferenceService", "flights", 60)
    assert cluster.get("InferenceService", "flights") is None
    cluster.apply(SERVICE)
    double.kserve.kick = lambda: None  # type: ignore[method-assign]
    double.settle(30)
    cluster.delete("InferenceService", "flights")
    with pytest.raises(SlipwayError, match=r"finalizers \(.*foregroundDeletion\) hold it"):
        cluster.wait_gone("InferenceService", "flights", 60)


def test_a_pod_uses_its_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes.config import incluster_config

    for name, text in {"token": "secret-token", "ca.crt": "x", "namespace": "team\n"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(pod, "NAMESPACE_FILE", tmp_path / "namespace")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    seen: dict[str, Any] = {}

    class Client:
        def __init__(self, settings: Any) -> None:
            seen.update(host=settings.host, ca=settings.ssl_ca_cert, verify=settings.verify_ssl)
            seen["token"] = settings.get_api_key_with_prefix("authorization")

    monkeypatch.setattr("kubernetes.client.ApiClient", Client)
    assert Cluster(None, "deploy-role.yaml").namespace == "team"
    assert seen == {
        "host": "https://10.96.0.1:443",
        "ca": str(tmp_path / "ca.crt"),
        "verify": True,
        "token": "bearer secret-token",
    }


def test_no_cluster_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SlipwayError, match=r"no cluster to talk to.*Set KUBECONFIG"):
        client()


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-11-27T00:02:00Z", "2026-11-27T00:02:00.000001Z"),
        ("2026-11-27T00:02:00.12Z", "2026-11-27T00:02:00.123Z"),
        ("2026-11-27T00:02:00.123456788Z", "2026-11-27T00:02:00.123456789Z"),
        ("2026-11-27T02:01:59+02:00", "2026-11-27T00:02:00Z"),
        ("2026-11-26T23:00:00-01:00", "2026-11-27T00:00:00.5Z"),
        (None, "1970-01-01T00:00:01Z"),
        ("", "2026-11-27T00:02:00Z"),
    ],
)
def test_moments_compare_as_times(earlier: str | None, later: str) -> None:
    assert read_moment(earlier) < read_moment(later)
    assert read_moment("2026-11-27T01:00:00.50+01:00") == read_moment("2026-11-27T00:00:00.5Z")
