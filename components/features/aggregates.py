"""Windowed aggregates of events, exact at every moment.

An aggregate over the last `window` is a function of time that is constant but for two kinds of
moments: when an event becomes known, and when it leaves the window. The table made here has a row
for each of these moments, so a point-in-time join finds the exact value at any moment between them:

    event known at 10:00, window 3h     rows at 10:00 (it counts) and 13:00 (it no longer does)

An event known at k counts at t where t - window < k <= t; one that counts only AFTER k, where
t - window < k < t: its first row is a microsecond later, since a microsecond is the finest time there is.
"""

import itertools
import math
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from slipway.components.config.features import Aggregate
from slipway.components.features.columns import LARGEST, finite

if TYPE_CHECKING:
    import polars as pl

# Names that no column of a project file can have: it has no colon in a name.
KEY, KNOWN, AFTER, HAPPENED = ":key", ":known", ":after", ":happened"
_EVENT, _TICK = ":event", ":tick"
_MICROSECOND = timedelta(microseconds=1)
# A rolling sum of float64 keeps the rounding of a number that has left the window: of 1e20 it is more
# than 10,000. So numbers are summed up with those of their own size, where it is nothing.
_SIZES = (0.0, 1e9, 1e18, 1e27, 1e36, math.inf)


def event_columns(aggregates: dict[str, Aggregate]) -> dict[tuple[str, Decimal | None], str]:
    """The columns that the aggregates sum up: (source column, `above`) to the name it has in events."""
    wanted = {(a.column, a.above) for a in aggregates.values() if a.column}
    return {(column, above): f":{column} above {above}" for column, above in wanted if column}


def aggregate_rows(events: "pl.DataFrame", aggregates: dict[str, Aggregate]) -> "pl.DataFrame":
    """The value of every aggregate at each moment when one of them may change.

    Args:
        events: one row an event: KEY, KNOWN and HAPPENED (datetimes in UTC), AFTER (bool; none of them
            with nulls), and the columns that `event_columns` names (float64, finite or null).
        aggregates: feature name to its definition.

    Returns:
        Rows ordered by key and time, one a key and moment: KEY, KNOWN, the features (float64, finite).
        Events whose column is null count for count and rate only. Without events in the window
        count, rate and sum are 0 and the others null; std needs two.
    """
    import polars as pl

    columns = event_columns(aggregates)
    windows = sorted({aggregate.window for aggregate in aggregates.values()})
    # Two ticks a microsecond: at an even one counts what is known then, at the odd one behind it also
    # what counts only after.
    known = pl.col(KNOWN).dt.epoch("us") * 2
    base = events.select(
        KEY,
        HAPPENED,
        *columns.values(),
        (known + pl.col(AFTER)).alias(_TICK),
        pl.lit(1.0).alias(_EVENT),
    )
    leaving = [
        events.select(KEY, (known + _ticks(window)).alias(_TICK), pl.lit(0.0).alias(_EVENT))
        for window in windows
    ]
    # Of the rows of one moment the last stays: the newest event, after what leaves.
    moments = pl.concat([base, *leaving], how="diagonal").sort(
        [KEY, _TICK, HAPPENED], nulls_last=False, maintain_order=True
    )
    largest = {name: events[name].abs().max() for name in columns.values()}
    features = []
    for name, aggregate in aggregates.items():
        column = columns.get((aggregate.column or "", aggregate.above), _EVENT)
        value = _rolling(aggregate, pl.col(column), largest.get(column))
        features.append(value.cast(pl.Float64).alias(name))
    rows = moments.select(
        KEY, ((pl.col(_TICK) + 1) // 2).cast(pl.Datetime("us", "UTC")).alias(KNOWN), *features
    )
    last_of_moment = (pl.struct(KEY, KNOWN) != pl.struct(KEY, KNOWN).shift(-1)).fill_null(
        value=True
    )
    # A sum of numbers near the largest may be larger than it. It stays there: a null would be read as 0,
    # which a sum without events is.
    whole = [
        finite(pl.col(name)) if aggregate.empty is None else pl.col(name).clip(-LARGEST, LARGEST)
        for name, aggregate in aggregates.items()
    ]
    return rows.filter(last_of_moment).with_columns(whole)


def _ticks(window: timedelta) -> int:
    return window // _MICROSECOND * 2


def _rolling(aggregate: Aggregate, value: "pl.Expr", largest: Any) -> "pl.Expr":
    """The aggregate at each moment.

    Args:
        aggregate: which.
        value: the events' values.
        largest: the largest of them, without its sign; None: there is none.
    """
    import polars as pl

    function = aggregate.function
    # One tick short of the window: what is as old as the window is out, also what came in a tick late.
    reach = _ticks(aggregate.window) - 1
    if function == "last":
        seen = pl.when(value.is_not_null()).then(pl.col(_TICK)).forward_fill().over(KEY)
        return pl.when(pl.col(_TICK) - seen < reach).then(value.forward_fill().over(KEY))
    if function in ("sum", "mean") and (largest or 0.0) >= _SIZES[1]:
        return _rolling_by_size(function, value, largest, reach)
    rolling = {
        "count": pl.col(_EVENT).rolling_sum_by,
        "rate": pl.col(_EVENT).rolling_sum_by,
        "sum": value.rolling_sum_by,
        "mean": value.rolling_mean_by,
        "min": value.rolling_min_by,
        "max": value.rolling_max_by,
        "std": value.rolling_std_by,
    }[function]
    least = 2 if function == "std" else 1
    result = rolling(_TICK, f"{reach}i", min_samples=least, closed="right").over(KEY)
    if function == "rate":
        return result / (aggregate.window / timedelta(hours=1))
    return result.fill_null(0.0) if function == "sum" else result


def _rolling_by_size(function: str, value: "pl.Expr", largest: float, reach: int) -> "pl.Expr":
    """Sum or mean of numbers of which some are large."""
    import polars as pl

    def total(numbers: "pl.Expr") -> "pl.Expr":
        rolled = numbers.rolling_sum_by(_TICK, f"{reach}i", min_samples=1, closed="right")
        return rolled.over(KEY).fill_null(0.0)

    size = value.abs()
    result = pl.sum_horizontal(
        total(pl.when((size >= low) & (size < high)).then(value))
        for low, high in itertools.pairwise(_SIZES)
        if low <= largest
    )
    if function == "sum":
        return result
    count = total(value.is_not_null().cast(pl.Float64))
    return pl.when(count > 0).then(result / count)
