"""A `since`: hours from a moment that the feature store holds to the moment of the prediction.

What grows with the time itself cannot lie in a store that holds values. So it holds the moment, and who
reads it takes the difference: the join of training and scoring, the predictor, and skew.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_HOUR = 3_600_000_000


def hours_since(since: int, moment: int, most: float) -> float | None:
    """The hours from one moment to another; None: they are negative, or reach the window's `most`.

    Args:
        since: from when, in microseconds since 1970, UTC.
        moment: to when, likewise.
        most: hours.
    """
    hours = (moment - since) / _HOUR
    return hours if 0 <= hours < most else None


def hours_since_column(since: "pl.Expr", moment: "pl.Expr", most: float) -> "pl.Expr":
    """The same of two columns of instants in UTC: float64."""
    import polars as pl

    hours = (moment - since).dt.total_microseconds() / _HOUR
    return pl.when((hours >= 0) & (hours < most)).then(hours)
