"""The gate's world, and which points belong to the suite."""

import os

import pytest
from support.gate_world import registry

__all__ = ["registry"]


def pytest_configure(config: pytest.Config) -> None:
    """Names the marker of what `make test-faults` alone runs."""
    config.addinivalue_line("markers", "many_points: too slow for the suite (FAULT_POINTS)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves those out of the suite."""
    if "FAULT_POINTS" not in os.environ:
        items[:] = [item for item in items if "many_points" not in item.keywords]
