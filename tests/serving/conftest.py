"""Fixtures of the serving tests."""

from collections.abc import Iterator
from typing import Any

import pytest
from support import serving_bundles as bundles


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One predictor for all tests that leave it as it is."""
    with bundles.predictor(
        tmp_path_factory.mktemp("served"), "--max-rows=2000", "--max-body-mb=2", "--grpc-port=0"
    ) as running:
        yield running
