"""What deploy applies to a cluster: valid by the real CRDs, restricted, and nothing that is ignored."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.release import Release
from slipway.components.deploy.kserve import manifest

ROOT = Path(__file__).parents[3]
CRD = ROOT.parent / "shared" / "crds" / "serving.kserve.io_inferenceservices.yaml"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"autoscaling": {"by": "knative", "max_replicas": 5}}, "has no effect in mode Standard"),
        (
            {"mode": "Knative", "autoscaling": {"by": "hpa", "max_replicas": 5}},
            "has no effect in mode Knative",
        ),
        (
            {"autoscaling": {"by": "hpa", "max_replicas": 5, "metric": "rps"}},
            "ignores the metric rps",
        ),
        ({"autoscaling": {"by": "keda", "max_replicas": 5}}, "needs `server` and `query`"),
        ({"autoscaling": {"by": "hpa", "max_replicas": 1}}, "is below replicas 3"),
        ({"mode": "Knative", "grpc": True}, "grpc has no effect in mode Knative"),
        ({"resources": {"gpus": 1}}, "resources.gpus would be idle"),
        ({"online": "predictor", "secret": "redis"}, "has no Feast: name one as deployment.image"),
        ({"online": "transformer"}, "need `secret`: a Secret whose FEAST_REDIS_URL"),
    ],
)
def test_what_kserve_would_ignore_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeploymentConfig.model_validate(section)


CONFIGS = [
    {},
    {"mode": "Knative"},
    {"autoscaling": {"by": "hpa", "max_replicas": 9, "metric": "memory", "target": 60}},
    {
        "autoscaling": {
            "by": "keda",
            "max_replicas": 9,
            "server": "http://prometheus:9090",
            "query": "sum(rate(slipway_requests_total[1m]))",
        }
    },
    {
        "mode": "Knative",
        "autoscaling": {"by": "knative", "max_replicas": 9, "metric": "concurrency", "target": 8},
    },
    {
        "service_account": "predictor",
        "secret": "s3",
        "node_selector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "resources": {"gpus": 1},
        "image": "registry/predictor-gpu:1",
        "trust_request_time": True,
    },
    {"grpc": True},
    {"online": "predictor", "secret": "redis", "image": "registry/predictor-feast:1"},
    {"online": "transformer", "secret": "redis"},
    {"online": "transformer", "secret": "redis", "mode": "Knative"},
]


@pytest.mark.skipif(not CRD.exists(), reason="KServe's CRD is not beside this checkout")
@pytest.mark.parametrize("section", CONFIGS, ids=str)
def test_manifest_is_valid_against_the_crd(
    section: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import jsonschema

    monkeypatch.setenv("INFERENCE_LOG_URI", "s3://logs/x")
    monkeypatch.setenv("FEATURE_STORE_URI", "s3://store/x")
    config = DeploymentConfig.model_validate(section)
    release = Release(
        name="flights",
        model_version="3",
        alias="challenger",
        run_id="abc",
        bundle_uri="s3://models/x",
        model_hash="f" * 64,
    )
    stable = manifest.predictor(release, "flights", "s3://models/x", config)
    spec: dict[str, Any] = {"predictor": stable}
    if config.mode == "Standard":
        spec["canary"] = [{"trafficPercent": 10, "predictor": stable}]
    made = manifest.inference_service("flights", "models", config, spec)
    document = yaml.safe_load(CRD.read_text())
    schema = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    jsonschema.validate(made, _strict(schema))
    assert ("transformer" in made["spec"]) == (config.online == "transformer")


def test_companions_are_valid_and_select_the_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    import kubernetes_validate

    release = Release(
        name="flights",
        model_version="3",
        alias="challenger",
        run_id="abc",
        bundle_uri="s3://models/x",
        model_hash="f" * 64,
    )
    made = manifest.companions("flights", "models", release, DeploymentConfig())
    for document in made:
        kubernetes_validate.validate(document, "1.32", strict=True)
    assert [document["kind"] for document in made] == ["NetworkPolicy", "PodDisruptionBudget"]
    assert made[1]["spec"] == {
        "maxUnavailable": 1,
        "selector": {"matchLabels": {"serving.kserve.io/inferenceservice": "flights"}},
    }
    alone = manifest.companions("flights", "models", release, DeploymentConfig(replicas=1))
    assert [document["kind"] for document in alone] == ["NetworkPolicy"]


PODS = [{}, {"mode": "Knative"}, {"online": "transformer", "secret": "redis"}]


@pytest.mark.parametrize("section", PODS, ids=str)
def test_pods_keep_to_the_restricted_profile(
    section: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pod Security Standards, restricted, and more: a numeric user, a read-only root, no token."""
    monkeypatch.setenv("INFERENCE_LOG_URI", "s3://logs/x")
    monkeypatch.setenv("FEATURE_STORE_URI", "s3://store/x")
    config = DeploymentConfig.model_validate(section)
    release = Release(
        name="flights",
        model_version="3",
        alias="challenger",
        run_id="abc",
        bundle_uri="s3://models/x",
        model_hash="f" * 64,
    )
    made = [manifest.predictor(release, "flights", "s3://models/x", config)]
    made += [manifest.transformer("flights", config)] if config.online != "none" else []
    for spec in made:
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True and pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        }
        # What is written goes to the one volume that is there for it.
        assert all(set(volume) == {"name", "emptyDir"} for volume in spec["volumes"])
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/scratch"}
    assert made[0]["labels"]["slipway.dev/model-version"] == "3"


def _strict(schema: Any) -> Any:
    """The schema as an API server takes it with strict field validation: no unknown fields."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items()}
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    closed = "properties" in made and "additionalProperties" not in made
    if closed and not made.get("x-kubernetes-preserve-unknown-fields") and "metadata" not in made:
        made["additionalProperties"] = False
    return made


@pytest.mark.parametrize("online", ["predictor", "transformer"])
def test_who_looks_features_up_is_told_of_an_unfit_store(
    monkeypatch: pytest.MonkeyPatch, online: str
) -> None:
    from slipway.serving.online.transformer import parse
    from slipway.serving.settings import parse_settings

    monkeypatch.setenv("FEATURE_STORE_URI", "s3://bucket/features")
    monkeypatch.setenv("INFERENCE_LOG_URI", "s3://bucket/log")
    release = Release(
        name="flights",
        model_version="3",
        alias="challenger",
        run_id="abc",
        bundle_uri="s3://models/x",
        model_hash="f" * 64,
    )
    sections: list[tuple[dict[str, Any], str, float]] = [
        ({}, "refuse", 0.0),
        ({"online_unfit": "answer", "online_max_age": "36h"}, "answer", 129_600.0),
    ]
    for section, unfit, age in sections:
        config = DeploymentConfig(online=online, secret="redis", image="p:1", **section)
        if online == "predictor":
            made = manifest.predictor(release, "flights", "s3://bucket/model", config)
            read: Any = parse_settings(made["containers"][0]["args"], {})
        else:
            made = manifest.transformer("flights", config)
            read = parse([*made["containers"][0]["args"], "--predictor_host", "p"])
        assert (read.online_unfit, read.online_max_age_seconds) == (unfit, age)
