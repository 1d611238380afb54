"""Fixtures of the deploy tests."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_path = Path(__file__).parent / "deploy_helpers.py"
_spec = importlib.util.spec_from_file_location("deploy_helpers", _path)
assert _spec and _spec.loader
deploy_helpers = importlib.util.module_from_spec(_spec)
sys.modules["deploy_helpers"] = deploy_helpers
_spec.loader.exec_module(deploy_helpers)


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
    from components.contracts import tracking
    from components.deploy import local

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    client = tracking.connect()
    client.delete_registered_model_alias("flights", "champion")
    for version in client.search_model_versions("name='flights'"):
        for tag in version.tags:
            client.delete_model_version_tag("flights", version.version, tag)
    deploy_helpers.make_splits(tmp_path / "splits")
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INFERENCE_LOG_URI", str(tmp_path / "log"))
    made = deploy_helpers.World(tmp_path, deploy_helpers.bundles.free_port())
    yield made
    local.stop(made.home)
