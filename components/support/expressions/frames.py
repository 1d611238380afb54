"""Expressions over polars columns: what features, and monitoring's look at skew, make of others."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from slipway.components.support.errors import SlipwayError
from slipway.components.support.expressions.evaluate import evaluate, number_column, text_column
from slipway.components.support.expressions.functions import MISSING_TIME, Column, Type
from slipway.components.support.expressions.parse import (
    ExpressionError,
    names,
    parse,
    unknown,
)

if TYPE_CHECKING:
    import polars as pl


def derive(
    expressions: Mapping[str, str], rows: "pl.DataFrame", wanted: Iterable[str], where: str
) -> list["pl.Series"]:
    """The columns that expressions make of others.

    Args:
        expressions: name to expression.
        rows: has what they read.
        wanted: which of them.
        where: the setting that has them, for a message.

    Raises:
        SlipwayError: an expression reads what is not there, or of another type than it takes.
    """
    read = {name for text in expressions.values() for name in names(parse(text))}
    there = {*rows.columns, *expressions}
    try:
        for name in sorted(read - there):
            raise ExpressionError(unknown(name, there))
        given = {name: to_column(rows[name]) for name in sorted(read) if name in rows.columns}
        made = evaluate(expressions, given, rows.height)
    except ExpressionError as error:
        raise SlipwayError(f"{where}: {error}.") from error
    return [to_series(name, made[name]) for name in wanted]


def to_column(series: "pl.Series") -> Column:
    """A column as expressions take it.

    Raises:
        ExpressionError: it is of a type that none takes.
    """
    import numpy as np
    import polars as pl

    kind = series.dtype
    if kind == pl.Null:
        return Column("missing", np.full(len(series), np.nan))
    if kind == pl.Boolean or kind.is_numeric():
        numbers = series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return number_column(numbers, "boolean" if kind == pl.Boolean else "number")
    if kind == pl.String:
        return text_column(series.to_list())
    if isinstance(kind, pl.Datetime):
        wall = series.dt.replace_time_zone(None).dt.cast_time_unit("us").to_physical()
        return Column("time", wall.fill_null(MISSING_TIME).to_numpy())
    raise ExpressionError(f"{series.name} is {kind}, which no expression takes")


def to_series(name: str, column: Column) -> "pl.Series":
    """A column as the features' tables have it."""
    import polars as pl

    kind: Type = column.type
    if kind == "missing":
        return pl.Series(name, [None] * len(column.values), pl.Null)
    if kind == "text":
        return pl.Series(name, column.values.tolist(), pl.String)
    if kind == "time":
        moments = pl.Series(name, column.values, pl.Int64)
        return moments.replace(MISSING_TIME, None).cast(pl.Datetime("us"))
    numbers = pl.Series(name, column.values, pl.Float64).fill_nan(None)
    return numbers.cast(pl.Boolean) if kind == "boolean" else numbers
