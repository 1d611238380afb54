"""Fixtures of the deploy tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import deploy_world
from support.kube_double import KubeDouble
from support.registry import mlflow_client


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow registry on sqlite with the model `flights` in nine versions."""
    return deploy_world.make_registry(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def world(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A project with splits and nothing deployed; what it starts is stopped at the end."""
    from slipway.components.deploy.local import target as local

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    client = mlflow_client()
    client.delete_registered_model_alias("flights", "champion")
    for version in client.search_model_versions("name='flights'"):
        for tag in version.tags:
            client.delete_model_version_tag("flights", version.version, tag)
    deploy_world.make_splits(tmp_path / "splits")
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INFERENCE_LOG_URI", str(tmp_path / "log"))
    made = deploy_world.World(tmp_path, deploy_world.bundles.free_port())
    yield made
    local.stop(made.home)


@pytest.fixture(scope="session")
def predictors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Versions 1 and 2 as they are, and 3, a process that serves another model than version 3."""
    root = tmp_path_factory.mktemp("predictors")
    biases = {"1": 0.0, "2": 0.5, "3": 9.0}
    running = {}
    stack = []
    for version, bias in biases.items():
        deploy_world.bundles.make_bundle(root / version / "bundle", bias=bias)
        started = deploy_world.bundles.predictor(root / version, f"--model-version={version}")
        running[version] = started.__enter__().url
        stack.append(started)
    yield running
    for started in stack:
        started.__exit__(None, None, None)


@pytest.fixture
def cluster(
    world: Any, predictors: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[KubeDouble]:
    """A cluster with KServe, in simulated time, with real predictors behind its pods' addresses."""
    from slipway.components.deploy.kserve import canary, storage, target
    from slipway.components.support.kubernetes import cluster as cluster_module

    double = KubeDouble(predictors)
    double.api.log_text = "Traceback: no such file /mnt/models/model.onnx"
    for name, value in double.serve(world.root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INFERENCE_LOG_URI", "s3://logs/inference")
    # The toy registry's files are local; a cluster would refuse them (tested below).
    monkeypatch.setattr(storage, "_READABLE", (*storage._READABLE, "/"))
    for module in (target, canary, cluster_module):
        monkeypatch.setattr(module, "time", double.clock)
    yield double
    double.close()


@pytest.fixture
def registered(world: Any) -> Any:
    """Versions 1 and 2 of flights; 2 is champion."""
    import mlflow

    for version, bias in ((1, 0.0), (2, 0.5)):
        world.release(version, bias=bias, threshold=0.6)
        world.register(version)
    mlflow.MlflowClient().set_registered_model_alias("flights", "champion", "2")
    return world
