"""Expressions over polars columns: of a view's table, and of features that were joined."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from slipway.components.config.features.features import FeaturesConfig, FeatureView, Kind
from slipway.components.contracts.dataset import Manifest
from slipway.components.features.columns import kind_of
from slipway.components.support.errors import SlipwayError
from slipway.components.support.expressions.frames import derive

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
