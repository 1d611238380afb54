"""The gate's world, the processes that are disturbed, and which points belong to the suite."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import fault_job, fault_points
from support.fault_job import DoneJob
from support.fault_points import FULL, Start
from support.gate_world import registry

__all__ = ["registry"]


def pytest_configure(config: pytest.Config) -> None:
    """Names the marker of what `make test-faults` alone runs."""
    config.addinivalue_line("markers", "many_points: too slow for the suite (FAULT_POINTS)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves those out of the suite."""
    if not FULL:
        items[:] = [item for item in items if "many_points" not in item.keywords]


@pytest.fixture(scope="session", autouse=True)
def table() -> Iterator[None]:
    """Writes what came out, where all points are run."""
    yield
    if FULL:
        fault_points.write_table()


@pytest.fixture(scope="session")
def processes() -> Iterator[multiprocessing.context.ForkServerContext]:
    """Processes that have imported everything when they start."""
    with fault_points.prepared_processes() as context:
        yield context


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoneJob]:
    """What a run of the small job made."""
    with fault_job.done_job(tmp_path_factory.mktemp("job") / "job") as done:
        yield done


@pytest.fixture
def start(processes: multiprocessing.context.ForkServerContext, tmp_path: Path) -> Start:
    """Starts a stage in a process."""
    return fault_points.starter(processes, tmp_path / "output")
