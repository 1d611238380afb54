"""What the fault tests share: seeded points, processes that are disturbed, and the table of outcomes."""

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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


TALLIES: list[Tally] = []


def count(what: str, fault: str) -> Tally:
    """A row of the table."""
    TALLIES.append(Tally(what=what, fault=fault))
    return TALLIES[-1]


def write_table() -> None:
    """Writes what came out into the page; rows of what was not run this time stay."""
    head, mark, table = DOCS.read_text(encoding="utf-8").partition(MARK)
    rows = {
        (cells[0], cells[1]): line
        for line in table.splitlines()
        if len(cells := line.split(" | ")) == 4 and cells[2].isdigit()
    }
    for t in TALLIES:
        if not t.outcomes:
            continue  # it failed before its first point
        came = ", ".join(f"{number} {name}" for name, number in sorted(t.outcomes.items()))
        line = f"| {t.what} | {t.fault} | {t.outcomes.total()} | {came} |"
        rows[f"| {t.what}", t.fault] = line
    lines = [
        "| at work | fault | points | before the second, undisturbed run |",
        "| --- | --- | --- | --- |",
    ]
    total = sum(int(line.split(" | ")[2]) for line in rows.values())
    DOCS.write_text(
        head + mark + "\n".join([*lines, *rows.values(), f"\n{total} points."]) + "\n",
        encoding="utf-8",
    )


@contextmanager
def prepared_processes() -> Iterator[multiprocessing.context.ForkServerContext]:
    """Processes that have imported everything when they start, so that a fault meets the work."""
    context = multiprocessing.get_context("forkserver")
    tests = str(Path(__file__).resolve().parents[1])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = tests
    context.set_forkserver_preload([*OURS, *HEAVY])
    yield context
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


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
