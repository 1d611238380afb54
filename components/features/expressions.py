"""Expressions over polars columns: of a view's table, and of features that were joined."""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from slipway.components.config.features import FeaturesConfig, FeatureView, Kind
from slipway.components.contracts.dataset import Manifest
from slipway.components.features.columns import kind_of
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


def with_columns_of(view: FeatureView, rows: "pl.DataFrame") -> "pl.DataFrame":
    """A view's rows with the columns that it makes by expressions.

    Args:
        view: the view.
        rows: of its table, with the columns that the expressions read, times as `as_utc` has them.

    Raises:
        SlipwayError: a column is of a type that an expression does not take.
    """
    if not view.columns:
        return rows
    return rows.with_columns(
        derive(view.columns, rows, list(view.columns), f"features.views.{view.name}.columns")
    )


def with_derived(
    config: FeaturesConfig, joined: "pl.DataFrame", untyped: Collection[str]
) -> tuple["pl.DataFrame", dict[str, Kind], set[str]]:
    """Joined features with those that are made of them.

    Args:
        config: the project's `features` section.
        joined: rows with the features of all views.
        untyped: features that are null in every row, of a column without a type.

    Returns:
        The rows, the kind of each derived feature, and those that are null in every row since what they
        are made of has no type.

    Raises:
        SlipwayError: an expression reads what is not there, or of another type than it takes.
    """
    import polars as pl

    wanted = list(config.expressions)
    if not wanted:
        return joined, {}, set()
    # Features alone: a request brings no other column.
    features = joined.select(config.feature_names)
    rows = features.with_columns(pl.lit(None).alias(name) for name in untyped)
    made = derive(config.expressions, rows, wanted, "features.derived")
    kinds = {series.name: kind_of(series.dtype, series.name) for series in made}
    without = {series.name for series in made if series.dtype == pl.Null}
    typed = [s.cast(pl.Float64) if s.dtype == pl.Null else s for s in made]
    return joined.with_columns(typed), kinds, without


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


def require_new(view: FeatureView, manifest: Manifest) -> None:
    """Refuses a column made by an expression that has the name of one of the table's own.

    Raises:
        SlipwayError: naming it.
    """
    there = manifest.tables[view.table].columns
    for name in view.columns:
        if name in there:
            raise SlipwayError(
                f"features.views.{view.name}.columns.{name}: table {view.table} has a column {name}: give"
                " it another name."
            )
