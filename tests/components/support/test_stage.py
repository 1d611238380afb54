"""What a stage tells the person who runs it."""

import io
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from support.events import events

from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import (
    emit,
    part,
    part_variable,
    progress,
    stage,
)


@dataclass
class Result:
    headline: str = "3 rows"


def test_a_stage_reports_start_progress_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    @stage("ingest")
    def work(rows: int) -> Result:
        progress("half way", 0.5)
        return Result(f"{rows} rows")

    assert work(rows=7).headline == "7 rows"
    start, middle, end = events(capsys.readouterr().out)
    assert start == {"event": "start", "stage": "ingest"}
    assert middle == {"event": "progress", "stage": "ingest", "message": "half way", "done": 0.5}
    assert (end["event"], end["headline"]) == ("end", "7 rows")
    assert end["seconds"] >= 0
    assert end["peak_mb"] > 1


def test_progress_within_a_part_is_of_the_whole_stage(capsys: pytest.CaptureFixture[str]) -> None:
    """The last epoch is not the end of the stage."""
    with part(0.0, 0.8):
        progress("last epoch", 1.0)
        with part(0.5, 1.0):
            progress("nested", 0.5)
        progress("unknown")
        told = subprocess.run(
            [sys.executable, "-c", f"from {stage.__module__} import progress; progress('worker', 0.5)"],
            env={**os.environ, **part_variable()}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    with pytest.raises(ValueError, match="broken"), part(0.8, 1.0):
        raise ValueError("broken")
    progress("all", 1.0)
    shares = [event.get("done") for event in events(capsys.readouterr().out)]
    assert shares == [0.8, 0.6, None, 1.0]
    assert [event["done"] for event in events(told)] == [0.4], "a process that works for a part"


def test_a_stage_that_fails_reports_the_error_and_raises_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @stage("ingest")
    def work() -> Result:
        raise SlipwayError("The folder x is empty.")

    with pytest.raises(SlipwayError):
        work()
    assert events(capsys.readouterr().out)[-1]["message"] == "The folder x is empty."


def test_a_full_disk_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    @stage("ingest")
    def work() -> Result:
        raise OSError(28, "No space left on device", "/data/part-00000.parquet")

    with pytest.raises(OSError, match="No space"):
        work()
    message = events(capsys.readouterr().out)[-1]["message"]
    assert message == "No space left on device (/data/part-00000.parquet)."


PROGRAM = """
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import stage

@stage("ingest")
def work():
    raise {error}

work()
"""


@pytest.mark.parametrize(
    ("error", "debug", "traceback"),
    [
        ("SlipwayError('The folder x is empty.')", "", False),
        ("SlipwayError('The folder x is empty.')", "1", True),
        ("KeyError('x')", "", True),
    ],
)
def test_an_error_for_a_person_comes_without_a_traceback(
    error: str, debug: str, traceback: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(error=error)],
        capture_output=True,
        text=True,
        env={"PATH": "", "SLIPWAY_DEBUG": debug},
    )
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) is traceback


def test_a_panic_of_a_library_is_told_as_the_failure_that_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a library in Rust raises is no `Exception`; a person's Ctrl-C is none either."""
    from polars.exceptions import PanicException

    @stage("ingest")
    def work(error: BaseException) -> Result:
        raise error

    with pytest.raises(PanicException):
        work(PanicException("index out of bounds"))
    last = events(capsys.readouterr().out)[-1]
    assert (last["event"], last["message"]) == ("error", "PanicException: index out of bounds")
    with pytest.raises(KeyboardInterrupt):
        work(KeyboardInterrupt())
    assert [event["event"] for event in events(capsys.readouterr().out)] == ["start"]


def test_an_event_is_written_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's log, between a line and its end, would make the line no event."""
    pieces: list[str] = []

    class Unbuffered(io.StringIO):
        def write(self, text: str) -> int:
            pieces.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stdout", Unbuffered())
    emit("progress", message="half")
    (line,) = [piece for piece in pieces if piece]
    assert line.startswith("[slipway] {") and line.endswith("}\n")
