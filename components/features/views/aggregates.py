"""Windowed aggregates of events, exact at every moment.

An aggregate over the last `window` is a function of time that is constant but for two kinds of
moments: when an event becomes known, and when it leaves the window. The table made here has a row
for each of these moments, so a point-in-time join finds the exact value at any moment between them:

    event known at 10:00, window 3h     rows at 10:00 (it counts) and 13:00 (it no longer does)

An event known at k counts at t where t - window < k <= t; one that counts only AFTER k, where
t - window < k < t: its first row is a microsecond later, since a microsecond is the finest time there is.
An aggregate with a lag is that of the same events, each known, and gone, so much later.
"""

import heapq
import itertools
import math
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from slipway.components.config.features.features import Aggregate
from slipway.components.features.columns import LARGEST, finite, instant_type

if TYPE_CHECKING:
    import polars as pl

# Names that no column of a project file can have: it has no colon in a name.
KEY, KNOWN, AFTER, HAPPENED = ":key", ":known", ":after", ":happened"
TICK = ":tick"
_EVENT = ":event"
_MICROSECOND = timedelta(microseconds=1)
_OF_VALUES = ("distinct", "most_common")
# A rolling sum of float64 keeps the rounding of a number that has left the window: of 1e20 it is more
# than 10,000. So numbers are summed up with those of their own size, where it is nothing.
_SIZES = (0.0, 1e9, 1e18, 1e27, 1e36, math.inf)


def event_columns(aggregates: dict[str, Aggregate]) -> dict[tuple[str, Decimal | None], str]:
    """The columns that the aggregates sum up: (source column, `above`) to the name it has in events."""
    wanted = {(a.column, a.above) for a in aggregates.values() if a.function not in _OF_VALUES}
    return {(column, above): f":{column} above {above}" for column, above in wanted if column}


def value_columns(aggregates: dict[str, Aggregate]) -> dict[str, str]:
    """The columns whose values themselves are compared, to the name that each has in events."""
    wanted = {a.column for a in aggregates.values() if a.function in _OF_VALUES}
    return {column: f":{column}" for column in wanted if column}


def aggregate_rows(events: "pl.DataFrame", aggregates: dict[str, Aggregate]) -> "pl.DataFrame":
    """The value of every aggregate at each moment when one of them may change.

    Args:
        events: one row an event: KEY, KNOWN and HAPPENED (datetimes in UTC), AFTER (bool; none of them
            with nulls), the columns that `event_columns` names (float64, finite or null) and those that
            `value_columns` does (of any type).
        aggregates: feature name to its definition.

    Returns:
        Rows ordered by key and time, one a key and moment: KEY, KNOWN, the features (float64, finite).
        Events whose column is null count for count and rate only. Without events in the window
        count, rate, sum and distinct are 0 and the others null; std needs two. A `since` is the moment
        that it counts from (UTC, whole seconds); `most_common` has its column's type.
    """
    import polars as pl

    columns = event_columns(aggregates)
    largest = {name: events[name].abs().max() for name in columns.values()}
    moments = _moments(events, aggregates)
    features: list[pl.Expr] = []
    for name, aggregate in aggregates.items():
        if aggregate.function in _OF_VALUES:
            moments = moments.join(
                value_steps(events, aggregate, name),
                on=[KEY, TICK],
                how="left",
                maintain_order="left",
            )
            held = pl.col(_held(name)).forward_fill().over(KEY)
            features.append(pl.when(held).then(pl.col(name).forward_fill().over(KEY)))
            continue
        column = columns.get((aggregate.column or "", aggregate.above), _EVENT)
        if aggregate.function in ("count", "rate"):
            column = _EVENT
        value = pl.col(_delayed(column, aggregate.delay))
        features.append(_rolling(aggregate, value, largest.get(column)).alias(name))
    rows = moments.select(
        KEY, ((pl.col(TICK) + 1) // 2).cast(instant_type()).alias(KNOWN), *features
    )
    last_of_moment = (pl.struct(KEY, KNOWN) != pl.struct(KEY, KNOWN).shift(-1)).fill_null(
        value=True
    )
    return rows.filter(last_of_moment).with_columns(_whole(n, a) for n, a in aggregates.items())


def _moments(events: "pl.DataFrame", aggregates: dict[str, Aggregate]) -> "pl.DataFrame":
    """Each event as it comes to count and as it leaves a window, ordered by key and tick.

    Two ticks a microsecond: at an even one counts what is known then, at the odd one behind it also
    what counts only after. With a lag both are later, and the event stands in columns of that lag.
    """
    import polars as pl

    columns = event_columns(aggregates).values()
    frames = [
        events.select(
            KEY,
            HAPPENED,
            *(pl.col(column).alias(_delayed(column, delay)) for column in columns),
            enters(delay).alias(TICK),
            pl.lit(1.0).alias(_delayed(_EVENT, delay)),
        )
        for delay in sorted({aggregate.delay for aggregate in aggregates.values()})
    ]
    for delay, window in sorted({(a.delay, a.window) for a in aggregates.values()}):
        gone = pl.lit(0.0).alias(_delayed(_EVENT, delay))
        frames.append(events.select(KEY, leaves(delay + window).alias(TICK), gone))
    # Of the rows of one moment the last stays: the newest event, after what leaves.
    return pl.concat(frames, how="diagonal").sort(
        [KEY, TICK, HAPPENED], nulls_last=False, maintain_order=True
    )


def enters(delay: timedelta) -> "pl.Expr":
    """The tick from which on an event counts."""
    import polars as pl

    return pl.col(KNOWN).dt.epoch("us") * 2 + pl.col(AFTER) + _ticks(delay)


def leaves(reach: timedelta) -> "pl.Expr":
    """The tick at which an event no longer counts."""
    import polars as pl

    return pl.col(KNOWN).dt.epoch("us") * 2 + _ticks(reach)


def _held(name: str) -> str:
    return f":held {name}"


def _delayed(column: str, delay: timedelta) -> str:
    return f"{column} {delay} ago" if delay else column


def _whole(name: str, aggregate: Aggregate) -> "pl.Expr":
    """A feature without what a model cannot take."""
    import polars as pl

    if aggregate.function == "since" or aggregate.function == "most_common":
        return pl.col(name)
    if aggregate.empty is None:
        return finite(pl.col(name).cast(pl.Float64)).alias(name)
    # A sum of numbers near the largest may be larger than it. It stays there: a null would be read as 0,
    # which a sum without events is.
    return pl.col(name).cast(pl.Float64).fill_null(0.0).clip(-LARGEST, LARGEST)


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
    if function in ("last", "since"):
        counts = value.is_not_null()
        if function == "since" and (aggregate.column is None or aggregate.above is not None):
            counts = value == 1.0
        seen = pl.when(counts).then(pl.col(TICK)).forward_fill().over(KEY)
        moment = (seen // 2).cast(instant_type()).dt.truncate("1s")
        found = moment if function == "since" else value.forward_fill().over(KEY)
        return pl.when(pl.col(TICK) - seen < reach).then(found)
    if function in ("sum", "mean") and (largest or 0.0) >= _SIZES[1]:
        return _rolling_by_size(function, value, largest, reach)
    rolling = {
        "count": value.rolling_sum_by,
        "rate": value.rolling_sum_by,
        "sum": value.rolling_sum_by,
        "mean": value.rolling_mean_by,
        "min": value.rolling_min_by,
        "max": value.rolling_max_by,
        "std": value.rolling_std_by,
    }[function]
    least = 2 if function == "std" else 1
    result = rolling(TICK, f"{reach}i", min_samples=least, closed="right").over(KEY)
    if function == "rate":
        return result / (aggregate.window / timedelta(hours=1))
    return result.fill_null(0.0) if function == "sum" else result


def _rolling_by_size(function: str, value: "pl.Expr", largest: float, reach: int) -> "pl.Expr":
    """Sum or mean of numbers of which some are large."""
    import polars as pl

    def total(numbers: "pl.Expr") -> "pl.Expr":
        rolled = numbers.rolling_sum_by(TICK, f"{reach}i", min_samples=1, closed="right")
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


def value_steps(events: "pl.DataFrame", aggregate: Aggregate, name: str) -> "pl.DataFrame":
    """How many different values a window holds, or which most of its events have, where that changes.

    Returns:
        One row a key and tick, ordered by them: KEY, TICK, the feature, and whether there is a value.
    """
    import polars as pl

    value, number = pl.col(value_columns({name: aggregate})[aggregate.column or ""]), ":number"
    known = events.filter(value.is_not_null()).select(
        KEY,
        value.alias(name),
        # Dense, from 0 on, in the order of the values.
        (value.rank("dense").cast(pl.Int64) - 1).alias(number),
        pl.col(KNOWN).dt.epoch("us").alias(KNOWN),
        enters(aggregate.delay).alias(TICK),
        leaves(aggregate.reach).alias(":leaves"),
    )
    changes = pl.concat(
        [
            known.select(KEY, TICK, number, KNOWN, pl.lit(1).alias(_EVENT)),
            known.select(
                KEY, pl.col(":leaves").alias(TICK), number, KNOWN, pl.lit(-1).alias(_EVENT)
            ),
        ]
    ).sort([KEY, TICK, _EVENT], descending=[False, False, True], maintain_order=True)
    if aggregate.function == "distinct":
        held = pl.col(_EVENT).cum_sum().over(KEY, number)
        change = (held > 0).cast(pl.Int64) - (held > pl.col(_EVENT)).cast(pl.Int64)
        changes = changes.select(KEY, TICK, change.cum_sum().over(KEY).cast(pl.Float64).alias(name))
    else:
        values = known.select(number, name).unique().sort(number)[name]
        most = pl.Series(_most_common(changes, number), dtype=pl.Int64)
        found = values.gather(most.fill_null(0)) if len(values) else values
        changes = changes.select(KEY, TICK, pl.when(most.is_not_null()).then(found).alias(name))
    return changes.with_columns(pl.col(name).is_not_null().alias(_held(name))).unique(
        [KEY, TICK], keep="last", maintain_order=True
    )


def _most_common(changes: "pl.DataFrame", number: str) -> list[int | None]:
    """After each change the value that most events in the window have; None: there is no event.

    Of equally frequent ones that which became known last, and then the first in order. A heap of all
    states of all values, of which those that are no longer true are dropped when they come to its top.

    Args:
        changes: ordered by key and tick: KEY, the value's number, KNOWN (int64), _EVENT (1 or -1).
        number: the column with the value's number.
    """
    starts = (changes[KEY] != changes[KEY].shift()).fill_null(value=True)
    heap: list[tuple[int, int, int]] = []
    state: dict[int, tuple[int, int, int]] = {}
    found: list[int | None] = []
    columns = (starts, changes[number], changes[KNOWN], changes[_EVENT])
    for start, value, known, change in zip(*(c.to_list() for c in columns), strict=True):
        if start:
            heap, state = [], {}
        count, last, _ = state.get(value, (0, -known, value))
        now = (count - change, min(last, -known) if change > 0 else last, value)
        state[value] = now
        if now[0]:
            heapq.heappush(heap, now)
        while heap and state[heap[0][2]] != heap[0]:
            heapq.heappop(heap)
        found.append(heap[0][2] if heap else None)
    return found
