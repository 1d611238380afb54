"""How a column's values compare with a declared number: exactly, whatever the column's type.

Of a column of whole numbers or decimals no value goes through a double. A double, and a float of 32 bits,
is the number that is written for it: .2 is not above 0.2 in either.
"""

import math
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_DIGITS = 200
"""More than any number of a project file and any column have together."""


def is_above(column: "pl.Expr", dtype: "pl.DataType", limit: Decimal) -> "pl.Expr":
    """Whether each value is greater than a number; null where the value is null.

    Args:
        column: the column; no NaN.
        dtype: its type: a number, boolean, or null.
        limit: the number.
    """
    import polars as pl

    if dtype == pl.Null:
        return column.cast(pl.Boolean)
    if dtype == pl.Boolean:
        column, dtype = column.cast(pl.UInt8), pl.UInt8()
    if dtype.is_float():
        return as_written(column, dtype) > _largest_double(limit)
    below = _floor(limit, dtype)  # the largest value that is not above
    least, most = _range(dtype)
    if below < least or below >= most:
        return pl.when(column.is_not_null()).then(pl.lit(below < least))
    return column > _literal(below, dtype)


def is_equal(column: "pl.Expr", dtype: "pl.DataType", number: Decimal) -> "pl.Expr":
    """Whether each value is a number; arguments as for `is_above`."""
    import polars as pl

    nothing = pl.when(column.is_not_null()).then(pl.lit(value=False))
    if dtype == pl.Boolean or not dtype.is_numeric():
        return nothing
    if dtype.is_float():
        nearest = float(number)
        written = Decimal(repr(nearest)) == number
        return as_written(column, dtype) == nearest if written else nothing
    least, most = _range(dtype)
    if _floor(number, dtype) != number or not least <= number <= most:
        return nothing
    return column == _literal(number, dtype)


def as_written(column: "pl.Expr", dtype: "pl.DataType") -> "pl.Expr":
    """Numbers as doubles; one of 32 bits is the double that is written alike, and not its nearest."""
    import polars as pl

    if dtype == pl.Float32:
        column = column.cast(pl.String)
    return column.cast(pl.Float64)


def _largest_double(limit: Decimal) -> float:
    """The largest double that is written as a number not above the limit."""
    nearest = float(limit)
    if math.isinf(nearest) or Decimal(repr(nearest)) > limit:
        return math.nextafter(nearest, -math.inf)
    return nearest


def _floor(number: Decimal, dtype: "pl.DataType") -> Decimal:
    """The largest number not above another that has no more digits after the point than the type."""
    with localcontext() as context:
        context.prec = _DIGITS
        step = Decimal(1).scaleb(-(getattr(dtype, "scale", None) or 0))
        return number.quantize(step, rounding=ROUND_FLOOR)


def _literal(number: Decimal, dtype: "pl.DataType") -> "pl.Expr":
    import polars as pl

    return pl.lit(number if dtype.is_decimal() else int(number), dtype)


def _range(dtype: "pl.DataType") -> tuple[Decimal, Decimal]:
    """The least and the largest value of a type."""
    if dtype.is_decimal():
        digits, scale = (getattr(dtype, name, None) for name in ("precision", "scale"))
        with localcontext() as context:
            context.prec = _DIGITS
            most = Decimal("9" * (digits or 38)).scaleb(-(scale or 0))
            return most.copy_negate(), most
    bits = int("".join(filter(str.isdigit, str(dtype))))
    if dtype.is_unsigned_integer():
        return Decimal(0), Decimal(2**bits - 1)
    return Decimal(-(2 ** (bits - 1))), Decimal(2 ** (bits - 1) - 1)
