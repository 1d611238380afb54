"""Fixtures of the pipelines' tests."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.contracts.project import LoadedProject, load_project

_path = Path(__file__).parent / "kfp_double.py"
_spec = importlib.util.spec_from_file_location("kfp_double", _path)
assert _spec and _spec.loader
kfp_double: Any = importlib.util.module_from_spec(_spec)
sys.modules["kfp_double"] = kfp_double
_spec.loader.exec_module(kfp_double)


def pytest_configure(config: pytest.Config) -> None:
    """Names the marker of the tests that need a real cluster."""
    config.addinivalue_line("markers", "cluster: needs a real cluster (SLIPWAY_E2E_KUBECONFIG)")


@pytest.fixture(scope="session")
def flights(repository: Path) -> LoadedProject:
    """The flights project."""
    return load_project(repository / "examples" / "flights")


@pytest.fixture(scope="session")
def compiled(flights: LoadedProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flights project's compiled pipelines."""
    from pipelines.compiler import compile_project

    folder = tmp_path_factory.mktemp("compiled")
    compile_project(flights, folder)
    return folder


@pytest.fixture
def kubeflow_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A running double of the KFP API, and an environment without any other way in."""
    from pipelines.cluster.connection import WAYS

    for names in WAYS.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SLIPWAY_NAMESPACE", raising=False)
    with kfp_double.serve(kfp_double.Double()) as double:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", double.url)
        yield double
