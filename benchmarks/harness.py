"""What every benchmark shares: measuring side by side in one run, the table, and the JSON file.

A benchmark is a module in this folder with a `main()`. It measures our way and the way that a user would
pick instead, in turns within the same run, so that what the machine does meanwhile hits both:

    from benchmarks.harness import Row, cpu_seconds, interleave, report

    ours, theirs = interleave(lambda: cpu_seconds(our_way), lambda: cpu_seconds(their_way), times=5)
    report("pit_join", [Row("10⁶ rows × 2 views", "Feast duckdb", "CPU s", ours, theirs, reach="≤ 1/30")])

`reach` is a bound on ours / theirs: "≤ 0.4", "≥ 10" or "≤ 1/30".
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

FOLDER = Path("build/bench")
# A new process's ru_maxrss begins with what its parent has; this is its own.
PEAK = """
import atexit as _atexit, os as _os
@_atexit.register
def _peak():
    with open("/proc/self/status") as status, open(_os.environ["SLIPWAY_BENCH_PEAK"], "w") as file:
        file.write(next(line for line in status if line.startswith("VmHWM")).split()[1])
"""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        what: the work. peer: what it is compared with. unit: of both samples.
        ours: our samples. theirs: the peer's, taken in turns with ours; empty where there is no peer
            and `reach` bounds our own median.
        reach: the bound to reach on ours / theirs (or on ours), for example "≤ 2.5" or "≥ 10".
    """

    what: str
    peer: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    reach: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The row as the JSON file has it: medians, spreads, ratio, and whether it reached."""
        ours = statistics.median(self.ours)
        theirs = statistics.median(self.theirs) if self.theirs else None
        ratio = ours / theirs if theirs else None
        return {
            "what": self.what,
            "peer": self.peer,
            "unit": self.unit,
            "ours": ours,
            "theirs": theirs,
            "ratio": ratio,
            "reach": self.reach,
            "reached": None if self.reach is None else holds(self.reach, ratio or ours),
            "ours_spread": [min(self.ours), max(self.ours)],
            "theirs_spread": [min(self.theirs), max(self.theirs)] if self.theirs else None,
            "samples": len(self.ours),
            **self.extra,
        }


def holds(reach: str, value: float) -> bool:
    """Whether a value keeps a bound such as "≤ 1/30" or "≥ 10"."""
    sign, bound = reach.split()
    limit = float(Fraction(bound))
    return {"≤": value <= limit, "≥": value >= limit, "<": value < limit, ">": value > limit}[sign]


def interleave(*ways: Callable[[], T], times: int = 5) -> list[list[T]]:
    """Runs each way in turn, `times` times, and gives each way's samples."""
    samples: list[list[T]] = [[] for _ in ways]
    for _ in range(times):
        for way, taken in zip(ways, samples, strict=True):
            taken.append(way())
    return samples


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds (user and system, with threads and ended children) that a call takes."""
    before = _cpu()
    work()
    return _cpu() - before


def run_python(code: str, *arguments: str, env: dict[str, str] | None = None) -> dict[str, float]:
    """Runs Python code in a fresh process: {"cpu_s", "wall_s", "peak_mb"} of that process.

    Raises:
        RuntimeError: the process failed; the message has its output.
    """
    started = time.perf_counter()
    with tempfile.NamedTemporaryFile("r") as peak:
        process = subprocess.Popen(
            [sys.executable, "-c", PEAK + code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {}), "SLIPWAY_BENCH_PEAK": peak.name},
        )
        output = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(output.decode(errors="replace")[-4000:])
        return {
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "wall_s": time.perf_counter() - started,
            "peak_mb": int(peak.read()) * 1024 / 1e6,
        }


def save(name: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Writes build/bench/<name>.json, and gives its rows. What takes hours does so as it goes."""
    results = [row.as_json() for row in rows]
    FOLDER.mkdir(parents=True, exist_ok=True)
    content = {"name": name, "machine": machine(), "rows": results}
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return results


def report(name: str, rows: Sequence[Row]) -> None:
    """Prints the table and writes build/bench/<name>.json."""
    from rich.console import Console
    from rich.table import Table

    results = save(name, rows)
    table = Table(title=f"{name}: medians, lowest to highest in brackets")
    for heading in ("what", "against", "unit"):
        table.add_column(heading)
    for heading in ("ours", "theirs", "ratio", "reach"):
        table.add_column(heading, justify="right")
    for result in results:
        verdict = {None: "", True: " yes", False: " NO"}[result["reached"]]
        table.add_row(
            result["what"],
            result["peer"],
            result["unit"],
            _spread(result["ours"], result["ours_spread"]),
            _spread(result["theirs"], result["theirs_spread"]),
            "" if result["ratio"] is None else f"{result['ratio']:.3g}",
            (result["reach"] or "") + verdict,
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 1e9, 1),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def _cpu() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (
            resource.getrusage(resource.RUSAGE_SELF),
            resource.getrusage(resource.RUSAGE_CHILDREN),
        )
    )


def _spread(median: float | None, spread: list[float] | None) -> str:
    if median is None or spread is None:
        return ""
    return f"{median:.4g} [{spread[0]:.3g}–{spread[1]:.3g}]"
