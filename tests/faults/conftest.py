"""The gate's world, the processes that are disturbed, and which points belong to the suite."""

import multiprocessing
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from support import fault_job, fault_points
from support.fault_job import DoneJob
from support.fault_points import FULL, Journal, Start
from support.gate_world import registry

__all__ = ["registry"]

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
WHOLE = pytest.StashKey[list[str]]()
JOURNAL = pytest.StashKey[Journal]()


def pytest_configure(config: pytest.Config) -> None:
    """Names the marker of what `make test-faults` alone runs."""
    config.addinivalue_line("markers", "many_points: too slow for the suite (FAULT_POINTS)")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves those out of the suite; in full, those that passed before the run was broken off."""
    if not FULL:
        items[:] = [item for item in items if "many_points" not in item.keywords]
        return
    files = {item.path for item in items if item.path.parent == FOLDER}
    if files == set(FOLDER.glob("test_*.py")) and not config.option.keyword:
        config.stash[WHOLE] = [item.nodeid for item in items]
    config.stash[JOURNAL] = Journal(ROOT / "build" / "faults.jsonl")
    done = [item for item in items if item.nodeid in config.stash[JOURNAL].passed]
    items[:] = [item for item in items if item not in done]
    config.hook.pytest_deselected(items=done)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes what a test counted, once it has passed."""
    report = yield
    if FULL and report.when == "call" and report.passed:
        item.config.stash[JOURNAL].add(item.nodeid)
    if report.when == "teardown":
        fault_points.TALLIES.clear()
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes the table once every test of the folder has passed in this run; a part of it writes none."""
    tests = session.config.stash.get(WHOLE, [])
    if tests and set(tests) <= session.config.stash[JOURNAL].passed:
        session.config.stash[JOURNAL].write_table(tests)


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
