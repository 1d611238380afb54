"""The half-open window [start, end) on a table's time column."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The window on one column, as instants in UTC."""

    column: str
    start: datetime
    end: datetime

    def overlaps_day(self, day: date) -> bool:
        """Whether a day, which counts as its midnight in UTC, is in the window."""
        return self.start <= datetime.combine(day, time(), UTC) < self.end


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def in_units(bounds: Bounds, kind: "pa.DataType") -> tuple[int, int]:
    """The window as integers of a timestamp's or date's unit, [start, end), rounded outwards."""
    import pyarrow as pa

    start, end = microseconds(bounds.start), microseconds(bounds.end)
    if pa.types.is_date32(kind):
        ticks, per = 1, 86_400 * 10**6
    elif pa.types.is_date64(kind):
        ticks, per = 10**3, 10**6
    else:
        ticks, per = _TICKS[kind.unit], 10**6
    return start * ticks // per, -(-end * ticks // per)


def rows_inside(batch: "pa.RecordBatch", bounds: Bounds) -> "pa.RecordBatch":
    """The rows in the window, and those without a time, which validate judges."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ticks = batch.column(bounds.column).cast(pa.int64())
    start, end = microseconds(bounds.start), microseconds(bounds.end)
    span = pc.min_max(ticks).as_py()
    if span["min"] is None or (span["min"] >= start and span["max"] < end):
        return batch
    inside = pc.and_(pc.greater_equal(ticks, start), pc.less(ticks, end))
    return batch.filter(pc.fill_null(inside, True))
