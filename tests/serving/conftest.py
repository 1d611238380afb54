"""Fixtures of the serving tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import serving_bundles as bundles
from support.online_stores import RedisServer


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One predictor for all tests that leave it as it is."""
    with bundles.predictor(
        tmp_path_factory.mktemp("served"), "--max-rows=2000", "--max-body-mb=2", "--grpc-port=0"
    ) as running:
        yield running


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server of the test's own."""
    server = RedisServer(tmp_path)
    try:
        yield server
    finally:
        server.stop()
