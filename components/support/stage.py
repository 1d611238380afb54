"""What a stage tells the person who runs it: start, progress, result, error.

Each event is one line on standard output, `[slipway] {json}`. In a pod it is a readable log line;
the `slipway run` command reads the same lines to draw its progress, its table and its errors.
"""

import functools
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import ParamSpec, Protocol, TypeVar

from slipway.components.support.errors import SlipwayError, is_failure
from slipway.components.support.secrets import guarded_output, redact, redact_values
from slipway.components.support.stores import bound_stores

EVENT_PREFIX = "[slipway] "
_current: list[str] = []
_PART = "SLIPWAY_PROGRESS_PART"


def _inherited_part() -> tuple[float, float]:
    """The part of the stage that this process is started for; of a stage's own process all of it."""
    start, _, end = os.environ.get(_PART, "0 1").partition(" ")
    return float(start), float(end)


_parts = [_inherited_part()]


class Headline(Protocol):
    """A stage's result says in a few words what came out."""

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        ...


P = ParamSpec("P")
R = TypeVar("R", bound=Headline)


def emit(event: str, **fields: object) -> None:
    """Prints one event of the running stage; its texts show no secret."""
    record = {"event": event, "stage": _current[-1] if _current else "", **fields}
    # Outputs are paths that the run goes on with, and were made by us.
    record |= redact_values({k: v for k, v in fields.items() if k != "outputs"})
    # In one piece: an unbuffered stream takes a line and its end apart, and another thread's log between.
    print(f"{EVENT_PREFIX}{json.dumps(record)}\n", end="", flush=True)


def progress(message: str, done: float | None = None) -> None:
    """Reports progress inside a stage.

    Args:
        message: a few words, for example "epoch 3 of 5, loss 0.481, 410 k rows/s".
        done: the share of the stage (or of the `part` that this is told in) that is done, 0 to 1, where
            it is known.
    """
    start, end = _parts[-1]
    share = {} if done is None else {"done": round(start + done * (end - start), 4)}
    emit("progress", message=message, **share)


@contextmanager
def part(start: float, end: float) -> Iterator[None]:
    """What the block tells of its progress is of a part of the stage alone.

    Args:
        start: share of the stage (or of the part around this one) before the block, 0 to 1.
        end: share when it has ended; about how long such a block usually takes, since nobody knows.
    """
    low, high = _parts[-1]
    _parts.append((low + start * (high - low), low + end * (high - low)))
    try:
        yield
    finally:
        _parts.pop()


def part_variable() -> dict[str, str]:
    """The environment variable for a process whose progress is of the part that is at work."""
    return {_PART: " ".join(map(str, _parts[-1]))}


def peak_memory_mb() -> float:
    """Largest resident size that this process and its ended children had, in MB (10**6 bytes)."""
    kilobytes = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return round(kilobytes * 1024 / 1e6, 1)


def cpu_seconds() -> float:
    """What this process, from its start on, and its ended children took of the CPUs."""
    found = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(sum(used.ru_utime + used.ru_stime for used in found), 3)


def stage(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Marks the entry function of a stage: reports its start, end, seconds, peak memory and error.

    The function returns an object with a `headline`. A `SlipwayError` leaves the process without a
    traceback (unless SLIPWAY_DEBUG is set) and with a non-zero exit.
    """

    def decorate(work: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(work)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            _current.append(name)
            started = time.monotonic()
            sys.excepthook = _excepthook
            bound_stores()
            try:
                with guarded_output():
                    emit("start")
                    result = work(*args, **kwargs)
                    emit("end", headline=result.headline, **_cost(started))
                    return result
            except BaseException as error:
                if is_failure(error):
                    message = str(error) if isinstance(error, SlipwayError) else _describe(error)
                    emit("error", message=message, **_cost(started))
                raise
            finally:
                _current.pop()

        return run

    return decorate


def _cost(started: float) -> dict[str, float]:
    return {
        "seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": cpu_seconds(),
        "peak_mb": peak_memory_mb(),
    }


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}."
    return f"{type(error).__name__}: {error}"


def _excepthook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, SlipwayError) and not os.environ.get("SLIPWAY_DEBUG"):
        print(f"error: {error}", file=sys.stderr, flush=True)
    else:
        lines = "".join(traceback.format_exception(kind, error, trace))
        print(redact(lines), end="", file=sys.stderr, flush=True)
