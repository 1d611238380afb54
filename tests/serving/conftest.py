"""Fixtures of the serving tests."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_path = Path(__file__).parent / "serving_bundles.py"
if "serving_bundles" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("serving_bundles", _path)
    assert _spec and _spec.loader
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["serving_bundles"] = _module
    _spec.loader.exec_module(_module)
bundles: Any = sys.modules["serving_bundles"]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One predictor for all tests that leave it as it is."""
    with bundles.predictor(
        tmp_path_factory.mktemp("served"), "--max-rows=2000", "--max-body-mb=2", "--grpc-port=0"
    ) as running:
        yield running
