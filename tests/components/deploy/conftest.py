"""Fixtures of the deploy tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import deploy_world


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow registry on sqlite with the model `flights` in nine versions."""
    import mlflow

    root = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("flights")
    for _ in range(9):
        client.create_model_version("flights", source=str(root))
    return uri


@pytest.fixture
def world(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A project with splits and nothing deployed; what it starts is stopped at the end."""
    from slipway.components.deploy.local import target as local
    from slipway.components.support import tracking

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    client = tracking.connect()
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
