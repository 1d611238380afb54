"""The half-open window [start, end) on a table's time column, and what lies outside it."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Side = Literal["before", "after"]
Place = Literal["before", "inside", "after"]
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBounds:
    """The window on one column, as instants in UTC."""

    column: str
    start: datetime
    end: datetime

    def side_of_day(self, day: date) -> Side | None:
        """On which side of the window a day is, which counts as its midnight in UTC; None: inside."""
        midnight = datetime.combine(day, time(), UTC)
        if midnight < self.start:
            return "before"
        return "after" if midnight >= self.end else None


@dataclass(slots=True, kw_only=True)
class Outside:
    """Rows that the window leaves out."""

    before: int = 0
    after: int = 0

    def add(self, side: Side, rows: int) -> None:
        """Counts rows on one side."""
        if side == "before":
            self.before += rows
        else:
            self.after += rows


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def place_of(first: int, last: int, bounds: TimeBounds, kind: "pa.DataType") -> Place | None:
    """Where times are, all of them; None: some are inside and some are not, or may be.

    Args:
        first: the least, as a whole number of its type's unit.
        last: the greatest.
        bounds: the window.
        kind: a timestamp's or a date's type.
    """
    import pyarrow as pa

    start, end = microseconds(bounds.start), microseconds(bounds.end)
    if pa.types.is_date32(kind):
        ticks, per = 1, 86_400 * 10**6
    elif pa.types.is_date64(kind):
        ticks, per = 10**3, 10**6
    else:
        ticks, per = _TICKS[kind.unit], 10**6
    # Digits beyond the microseconds are cut off, as they are where the rows are read.
    if last * per // ticks < start:
        return "before"
    if first * per // ticks >= end:
        return "after"
    return "inside" if first * per // ticks >= start and last * per // ticks < end else None


def rows_inside(batch: "pa.RecordBatch", bounds: TimeBounds, outside: Outside) -> "pa.RecordBatch":
    """The rows in the window, and those without a time, which validate judges.

    Args:
        batch: rows whose time is an instant in microseconds.
        bounds: the window.
        outside: counts the others.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    ticks = batch.column(bounds.column).cast(pa.int64())
    start, end = microseconds(bounds.start), microseconds(bounds.end)
    span = pc.min_max(ticks).as_py()
    if span["min"] is None or (span["min"] >= start and span["max"] < end):
        return batch
    early, late = pc.less(ticks, start), pc.greater_equal(ticks, end)
    outside.before += pc.sum(early).as_py()
    outside.after += pc.sum(late).as_py()
    return batch.filter(pc.fill_null(pc.invert(pc.or_(early, late)), True))
