"""What all tests share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def lake() -> Path:
    """The flights lake, as `make test` lays it out."""
    path = ROOT / "build" / "lake"
    if not (path / ".complete").exists():
        pytest.fail("There is no flights lake: run the tests with `make test`.")
    return path
