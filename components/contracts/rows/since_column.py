"""A `since` of many rows at once, for those that have polars: the predictor has not."""

from typing import TYPE_CHECKING

from slipway.components.contracts.rows.since import HOUR

if TYPE_CHECKING:
    import polars as pl


def hours_since_column(since: "pl.Expr", moment: "pl.Expr", most: float) -> "pl.Expr":
    """What `hours_since` gives, of two columns of instants in UTC: float64."""
    import polars as pl

    hours = (moment - since).dt.total_microseconds() / HOUR
    return pl.when((hours >= 0) & (hours < most)).then(hours)
