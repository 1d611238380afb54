"""What the fault tests share: seeded points, processes that are disturbed, and the table of outcomes."""

import hashlib
import json
import multiprocessing
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import forkserver
from pathlib import Path

from support.fault_stages import Room, work

FULL = "FAULT_POINTS" in os.environ
SCALE = int(os.environ.get("FAULT_POINTS", "1"))
SEED = int(os.environ.get("FAULT_SEED", "2026"))
DOCS = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
OURS = ("support.fault_stages", "support.fault_job")
# Nothing of these starts a thread while it is imported: what is forked later is whole.
HEAVY = ("mlflow", "torch", "feast", "onnxruntime", "evidently", "lightgbm", "polars", "pyarrow")
MARK = "<!-- the table -->\n"
Stage = Callable[[Path, str], None]
Process = multiprocessing.process.BaseProcess
Start = Callable[..., Process]


@dataclass(kw_only=True)
class Tally:
    """What came of the points of one kind."""

    what: str
    fault: str
    outcomes: Counter[str] = field(default_factory=Counter)

    def row(self) -> str:
        """Its row of the table."""
        came = ", ".join(f"{number} {name}" for name, number in sorted(self.outcomes.items()))
        return f"| {self.what} | {self.fault} | {self.outcomes.total()} | {came} |"


TALLIES: list[Tally] = []
"""Of the test at work."""


def count(what: str, fault: str) -> Tally:
    """A row of the table."""
    TALLIES.append(Tally(what=what, fault=fault))
    return TALLIES[-1]


class Journal:
    """The tests of one run that passed, each with its rows: a run that was broken off goes on with it.

    It is of one number of points, one seed and one state of the code. Anything else begins anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        asked = {"points": SCALE, "seed": SEED, "code": _code()}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        if not found or {name: found[0].get(name) for name in asked} != asked:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({**asked, "begun": f"{datetime.now(UTC):%Y-%m-%d}"}) + "\n")
            found = [json.loads(path.read_text(encoding="utf-8"))]
        self._head, self._passed = found[0], {line["test"]: line for line in found[1:]}
        self._since = time.monotonic()

    @property
    def passed(self) -> set[str]:
        """The tests that need not run again."""
        return set(self._passed)

    def add(self, test: str) -> None:
        """Notes a test that passed, with what it counted and the time since the one before."""
        seconds, self._since = time.monotonic() - self._since, time.monotonic()
        rows = [(t.row(), t.outcomes.total()) for t in TALLIES if t.outcomes]
        self._passed[test] = {"test": test, "seconds": seconds, "rows": rows}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self._passed[test]) + "\n")

    def write_table(self, tests: list[str], page: Path = DOCS) -> None:
        """Puts the rows of all these tests, and of no others, into the page; the next run begins anew."""
        rows = [row for test in tests for row in self._passed[test]["rows"]]
        minutes = sum(self._passed[test]["seconds"] for test in tests) / 60
        head, mark, _ = page.read_text(encoding="utf-8").partition(MARK)
        lines = [
            f"One run, `FAULT_POINTS={SCALE} FAULT_SEED={SEED} make test-faults`, begun on"
            f" {self._head['begun']}: {sum(points for _, points in rows)} points in"
            f" {minutes:.0f} minutes, all of them passed.\n",
            "| at work | fault | points | before the second, undisturbed run |",
            "| --- | --- | --- | --- |",
            *(row for row, _ in rows),
        ]
        page.write_text(head + mark + "\n".join(lines) + "\n", encoding="utf-8")
        self._path.unlink()


def _code() -> str:
    """What the checkout holds; what is not in git counts only by its name."""
    told = ""
    for command in (("rev-parse", "HEAD"), ("status", "--porcelain"), ("diff", "HEAD")):
        told += subprocess.run(
            ["git", *command], cwd=DOCS.parent, capture_output=True, text=True, check=False
        ).stdout
    return hashlib.sha256(told.encode()).hexdigest()


@contextmanager
def prepared_processes() -> Iterator[multiprocessing.context.ForkServerContext]:
    """Processes that have imported everything when they start, so that a fault meets the work."""
    context = multiprocessing.get_context("forkserver")
    tests = str(Path(__file__).resolve().parents[1])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = tests
    context.set_forkserver_preload([*OURS, *HEAVY])
    try:
        forkserver.ensure_running()  # it keeps this environment, and hands it on
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    yield context


def starter(context: multiprocessing.context.ForkServerContext, output: Path) -> Start:
    """Starts a stage in a process."""

    def start(
        stage: Stage,
        folder: Path,
        given: str,
        environment: dict[str, str] | None = None,
        largest: int | None = None,
    ) -> Process:
        room = Room(output=output, largest=largest, environment=environment or {})
        process = context.Process(target=work, args=(room, stage, folder, given))
        process.start()
        return process

    return start


def undisturbed(
    start: Start,
    stage: Stage,
    folder: Path,
    given: str,
    environment: dict[str, str] | None = None,
) -> float:
    """Runs a stage to its good end; returns its seconds."""
    started = time.monotonic()
    process = start(stage, folder, given, environment)
    process.join(240)
    output = folder.parent / "output"
    assert process.exitcode == 0, output.read_text() if output.exists() else process.exitcode
    return time.monotonic() - started


def new_folder(parent: Path, number: int) -> Path:
    """A folder of a point's own."""
    folder = parent / f"point-{number}"
    folder.mkdir()
    return folder
