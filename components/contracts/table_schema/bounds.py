"""A bound of the schema as a value of the column's own type, so that the comparison is exact.

Many a whole number beyond 2**53 has no double, and hardly a decimal fraction has one: compared as
doubles, a good row fails and a bad one passes. So a bound is rounded, towards the side on which it
decides the same, to a value that the column can have.
"""

import math
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

    Times: TypeAlias = pa.Array | pa.ChunkedArray | pa.Scalar

Number = int | Decimal


def exact(value: object) -> Any:
    """A number of the schema as it is written; a whole one is an integer, written 1.0 too."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return value
    number = Decimal(repr(value)) if isinstance(value, float) else value
    if (
        isinstance(number, Decimal)
        and number.adjusted() < 40
        and number == number.to_integral_value()
    ):
        return int(number)
    return number


def least(kind: "pa.DataType", bound: Number) -> object:
    """The least value of a number type that is not below a bound; None: there is none."""
    return _nearest(kind, Fraction(bound), up=True)


def greatest(kind: "pa.DataType", bound: Number) -> object:
    """The greatest value of a number type that is not above a bound; None: there is none."""
    return _nearest(kind, Fraction(bound), up=False)


def ticks(times: "Times") -> "Times":
    """A column, or a value, of times as whole numbers of its unit.

    Past the year 9999 a time is no Python object.
    """
    import pyarrow as pa

    narrow = pa.types.is_date32(times.type) or pa.types.is_time32(times.type)
    return times.cast(pa.int32() if narrow else pa.int64())


def _nearest(kind: "pa.DataType", bound: Fraction, *, up: bool) -> object:
    import pyarrow as pa

    if pa.types.is_floating(kind):
        return _float(kind, bound, up=up)
    scale = kind.scale if pa.types.is_decimal(kind) else 0
    steps = (math.ceil if up else math.floor)(bound * 10**scale)
    if pa.types.is_decimal(kind):
        low, high = 1 - 10**kind.precision, 10**kind.precision - 1
    else:
        bits = kind.bit_width
        signed = pa.types.is_signed_integer(kind)
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if (up and steps > high) or (not up and steps < low):
        return None
    steps = min(max(steps, low), high)
    if not pa.types.is_decimal(kind):
        return steps
    digits = tuple(int(digit) for digit in str(abs(steps)))
    return Decimal((steps < 0, digits, -scale))


def _float(kind: "pa.DataType", bound: Fraction, *, up: bool) -> float | None:
    import numpy as np

    number: type[np.floating] = np.float32 if kind.bit_width <= 32 else np.float64
    if bound.denominator != 1:
        # As the value is written, so is the bound: 0.1 is the double that stands for it.
        return float(number(float(bound)))
    limits = np.finfo(number)
    low, high = Fraction(float(limits.min)), Fraction(float(limits.max))
    if (up and bound > high) or (not up and bound < low):
        return None
    value = number(float(min(max(bound, low), high)))
    towards = number(np.inf if up else -np.inf)
    while (Fraction(float(value)) < bound) if up else (Fraction(float(value)) > bound):
        value = np.nextafter(value, towards)
    return float(value)
