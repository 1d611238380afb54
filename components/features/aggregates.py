"""Windowed aggregates of events, exact at every moment.

An aggregate over the last `window` is a function of time that is constant but for two kinds of
moments: when an event becomes known, and when it leaves the window. The table made here has a row
for each of these moments, so a point-in-time join finds the exact value at any moment between them:

    event known at 10:00, window 3h     rows at 10:00 (it counts) and 13:00 (it no longer does)

An event known at k counts at t where t - window < k <= t.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

from slipway.components.config.features import Aggregate

if TYPE_CHECKING:
    import polars as pl

KNOWN = "event_timestamp"
HAPPENED = "__happened"
_EVENT = "__event"


def aggregate_rows(
    events: "pl.DataFrame", key: str, aggregates: dict[str, Aggregate]
) -> "pl.DataFrame":
    """The value of every aggregate at each moment when one of them may change.

    Args:
        events: one row an event, with the entity's key, KNOWN and HAPPENED (datetimes in UTC, no
            nulls) and the columns that the aggregates name.
        key: the entity's key column.
        aggregates: feature name to its definition.

    Returns:
        Rows ordered by key and time, one a key and moment: key, KNOWN, the features (float64).
        Events whose column is null count for count and rate only. Without events in the window
        count, rate and sum are 0 and the others null; std needs two.
    """
    import polars as pl

    windows = sorted({aggregate.window for aggregate in aggregates.values()})
    base = events.with_columns(pl.lit(1.0).alias(_EVENT))
    leaving = [
        base.select(key, pl.col(KNOWN) + window, pl.lit(0.0).alias(_EVENT)) for window in windows
    ]
    # Of the rows of one moment the last stays: the newest event, after what leaves.
    moments = pl.concat([base, *leaving], how="diagonal").sort(
        [key, KNOWN, HAPPENED], nulls_last=False, maintain_order=True
    )
    features = [
        _rolling(aggregate, key).cast(pl.Float64).alias(name)
        for name, aggregate in aggregates.items()
    ]
    last_of_moment = (pl.struct(key, KNOWN) != pl.struct(key, KNOWN).shift(-1)).fill_null(
        value=True
    )
    return moments.select(key, KNOWN, *features).filter(last_of_moment)


def _rolling(aggregate: Aggregate, key: str) -> "pl.Expr":
    import polars as pl

    window, function = aggregate.window, aggregate.function
    if function in ("count", "rate"):
        count = pl.col(_EVENT).rolling_sum_by(KNOWN, window, closed="right").over(key)
        return count if function == "count" else count / (window / timedelta(hours=1))
    if aggregate.column is None:
        raise ValueError(f"function {function} needs a column")
    value = pl.col(aggregate.column)
    value = value.cast(pl.Float64) if aggregate.above is None else value > aggregate.above
    value = value.cast(pl.Float64)
    if function == "last":
        known = pl.when(value.is_not_null()).then(pl.col(KNOWN)).forward_fill().over(key)
        return pl.when(pl.col(KNOWN) - known < window).then(value.forward_fill().over(key))
    rolling = {
        "sum": value.rolling_sum_by,
        "mean": value.rolling_mean_by,
        "min": value.rolling_min_by,
        "max": value.rolling_max_by,
        "std": value.rolling_std_by,
    }[function]
    least = 2 if function == "std" else 1
    result = rolling(KNOWN, window, min_samples=least, closed="right").over(key)
    return result.fill_null(0.0) if function == "sum" else result
