"""A dataset's columns as features take them: instants, values, and entity keys.

The feature store holds an entity's key as text, or as a whole number of 64 bits with a sign. Which of
them is said by the type of the key's column in the examples' table; a view's own column is brought to it
by value, so that "7" and 7 are one key in every store. Whole numbers of 64 bits without a sign are texts
there: Feast's keys have no type for them.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from slipway.components.config.base import EARLIEST, NEVER
from slipway.components.config.features.features import FeaturesConfig, Kind
from slipway.components.contracts.dataset import Manifest
from slipway.components.contracts.feature_store import is_text_key
from slipway.components.support.columns import ROW_ID
from slipway.components.support.errors import SlipwayError
from slipway.components.support.expressions.functions import LARGEST as LARGEST

if TYPE_CHECKING:
    import polars as pl

KeyType = Literal["text", "number"]
_TEXTS = ("string", "large_string", "string_view", "null")


def key_columns(manifest: Manifest, config: FeaturesConfig) -> dict[str, str]:
    """The entities' key columns with their Arrow types (texts of every width as one).

    Raises:
        SlipwayError: a key is neither text nor a whole number.
    """
    there = manifest.tables[config.examples.table].columns
    types = {}
    for name in sorted({column for key in config.entity_keys.values() for column in key}):
        kind = "string" if name == ROW_ID else there[name]
        if kind.startswith("dictionary<values="):
            kind = kind.removeprefix("dictionary<values=").split(",")[0]
        if kind not in _TEXTS and not kind.startswith(("int", "uint")):
            raise SlipwayError(
                f"Entity key {name} is of type {kind}: an entity's key is text or a whole number."
            )
        types[name] = "string" if kind in _TEXTS else kind
    return types


def key_types(columns: dict[str, str]) -> dict[str, KeyType]:
    """How the feature store holds each of the `key_columns`."""
    return {name: "text" if is_text_key(kind) else "number" for name, kind in columns.items()}


def as_key(column: "pl.Expr", dtype: "pl.DataType", kind: KeyType, where: str) -> "pl.Expr":
    """A column's values as keys of an entity; null where a value can be no such key.

    Args:
        column: the column.
        dtype: its type.
        kind: the entity's.
        where: the column's view and name, for messages.

    Raises:
        SlipwayError: the column is of a type that no key has.
    """
    import polars as pl

    if dtype == pl.Null:
        return column.cast(pl.String if kind == "text" else pl.Int64)
    if dtype.is_float():
        # Whole numbers with gaps, as pandas writes them.
        whole = column.cast(pl.Int64, strict=False)
        column, dtype = pl.when(whole.cast(pl.Float64) == column).then(whole), pl.Int64()
    if dtype == pl.String and kind == "number":
        number = column.cast(pl.Int64, strict=False)
        return pl.when(number.cast(pl.String) == column).then(number)
    if dtype == pl.String:
        return column
    if not dtype.is_integer():
        raise SlipwayError(f"{where} is {dtype}: an entity's key is text or a whole number.")
    return column.cast(pl.String) if kind == "text" else column.cast(pl.Int64, strict=False)


def as_utc(rows: "pl.DataFrame") -> "pl.DataFrame":
    """Times with a zone in UTC, all in microseconds; a time without zone stays a wall clock."""
    import polars as pl

    expressions = []
    for name, kind in rows.schema.items():
        if isinstance(kind, pl.Datetime):
            column = pl.col(name).dt.cast_time_unit("us")
            expressions.append(column.dt.convert_time_zone("UTC") if kind.time_zone else column)
        elif kind == pl.Date:
            # A day at the ends of 32 bits is no instant in 64.
            day = pl.col(name).clip(pl.lit(EARLIEST.date()), pl.lit(NEVER.date()))
            expressions.append(day.cast(pl.Datetime("us")))
        elif isinstance(kind, pl.Categorical | pl.Enum):
            expressions.append(pl.col(name).cast(pl.String))
    return rows.with_columns(expressions)


def moment(column: str, schema: "pl.Schema") -> "pl.Expr":
    """A timestamp column as an instant; one without zone is taken as UTC.

    Databases write "always" and "never" as times at the ends of 64 bits. Such a time becomes EARLIEST or
    NEVER, so that no sum with a window or a lead wraps: what is never known would be known always.
    """
    import polars as pl

    kind = schema[column]
    if kind == pl.Null:
        return pl.lit(None, pl.Datetime("us", "UTC"))
    zone = isinstance(kind, pl.Datetime) and kind.time_zone
    instant = pl.col(column) if zone else pl.col(column).dt.replace_time_zone("UTC")
    return instant.clip(pl.lit(EARLIEST, instant_type()), pl.lit(NEVER, instant_type()))


def earlier(instant: "pl.Expr", span: timedelta) -> "pl.Expr":
    """A moment so long before a `moment`, and EARLIEST at the earliest, as all moments are."""
    import polars as pl

    return (instant - span).clip(pl.lit(EARLIEST, instant_type())) if span else instant


def require_years(rows: "pl.DataFrame", column: str, where: str) -> None:
    """Refuses a time that no feature can be: before the year 1700, or in 9999 and after.

    Raises:
        SlipwayError: naming the column.
    """
    import polars as pl

    kind = rows.schema[column]
    if not isinstance(kind, pl.Datetime | pl.Date):
        return
    unit = pl.Datetime(kind.time_unit) if isinstance(kind, pl.Datetime) else pl.Date()
    limits = pl.Series([EARLIEST, NEVER]).dt.replace_time_zone(None)
    low, high = limits.cast(unit).to_physical()
    ticks = rows[column].drop_nulls().to_physical()
    outside = ticks.filter((ticks < low) | (ticks >= high))
    if len(outside):
        raise SlipwayError(
            f"{where} has {len(outside):,} times before the year 1700, or in 9999 and after, which says"
            " that something never is: no feature can be made of them. Write null there at the source,"
            " or leave the field out."
        )


def instant_type() -> "pl.Datetime":
    """The type of an instant."""
    import polars as pl

    return pl.Datetime("us", "UTC")


def typed(column: "pl.Expr", dtype: "pl.DataType", kind: Kind) -> "pl.Expr":
    """A feature's values in the type of its kind."""
    import polars as pl

    if kind == "numeric":
        return finite(column.cast(pl.Float64))
    if kind == "categorical":
        return column.cast(pl.String)
    if kind == "boolean":
        return column.cast(pl.Boolean)
    if dtype == pl.Null:
        return column.cast(pl.Datetime("us"))
    return column.dt.truncate("1s") if isinstance(dtype, pl.Datetime) else column


def finite(numbers: "pl.Expr") -> "pl.Expr":
    """Float64 without NaN, infinity and what float32 cannot hold: JSON and a model have none of them.

    Serving refuses such a number in a request.
    """
    import polars as pl

    return pl.when(numbers.abs() <= LARGEST).then(numbers)


def kind_of(dtype: "pl.DataType", where: str) -> Kind:
    """The kind of a feature that is a column as it stands; numeric where the column has no type.

    Raises:
        SlipwayError: there is none.
    """
    import polars as pl

    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_numeric() or dtype == pl.Null:
        return "numeric"
    if dtype == pl.String:
        return "categorical"
    if isinstance(dtype, pl.Datetime):
        return "time"
    raise SlipwayError(f"{where} is {dtype}, which no feature can be made of. Leave it out.")


def require_kind(rows: "pl.DataFrame", column: str, kind: Kind, where: str) -> None:
    """Refuses a declared kind that the column's values are not of.

    Raises:
        SlipwayError: naming the column.
    """
    import polars as pl

    dtype = rows.schema[column]
    fits = {
        "numeric": dtype.is_numeric() or dtype == pl.Boolean,
        "categorical": not (dtype.is_nested() or dtype in (pl.Duration, pl.Time, pl.Binary)),
        "boolean": dtype == pl.Boolean
        or (dtype.is_numeric() and rows[column].drop_nulls().is_in([0, 1]).all()),
        "time": isinstance(dtype, pl.Datetime),
    }
    if dtype != pl.Null and not fits[kind]:
        hint = " All values must be 0 or 1." if kind == "boolean" and dtype.is_numeric() else ""
        raise SlipwayError(f"{where} is {dtype}, which is not `kind: {kind}`.{hint}")


def require_numeric(schema: "pl.Schema", column: str, where: str) -> None:
    """Refuses a column that is no number, unless it has no type since all of it is null.

    Raises:
        SlipwayError: naming the column.
    """
    import polars as pl

    if not (schema[column].is_numeric() or schema[column] == pl.Null):
        raise SlipwayError(f"{where}: column {column} is {schema[column]}, not a number.")
