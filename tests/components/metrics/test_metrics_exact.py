"""Comparing a column with a declared number: as exact arithmetic does, for every type of column."""

from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.components.metrics.outcomes.exact import is_above, is_equal

WHOLE = {
    kind: (0 if str(kind).startswith("U") else -(2 ** (bits - 1)),
           2**bits - 1 if str(kind).startswith("U") else 2 ** (bits - 1) - 1)
    for kind, bits in [
        (pl.Int8, 8), (pl.Int16, 16), (pl.Int32, 32), (pl.Int64, 64), (pl.Int128, 128),
        (pl.UInt8, 8), (pl.UInt16, 16), (pl.UInt32, 32), (pl.UInt64, 64),
    ]
}  # fmt: skip
EDGES = [2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**53) - 1, 255, 256, 127, -128, 0]
NUMBERS = st.one_of(
    st.sampled_from([Decimal(edge) + step for edge in EDGES for step in (-1, 0, 1)]),
    st.decimals(-(10**40), 10**40, allow_nan=False, allow_infinity=False, places=3),
    st.decimals(-10, 10, allow_nan=False, allow_infinity=False, places=2),
)


def compared(values: list[Any], kind: Any, limit: Decimal) -> tuple[list[Any], list[Any]]:
    frame = pl.DataFrame({"x": pl.Series([*values, None], dtype=kind)})
    dtype = frame.schema["x"]
    return tuple(
        frame.select(compare(pl.col("x"), dtype, limit).alias("x"))["x"].to_list()
        for compare in (is_above, is_equal)
    )


@pytest.mark.parametrize("kind", WHOLE, ids=str)
@settings(max_examples=150, deadline=None)
@given(data=st.data(), limit=NUMBERS)
def test_whole_numbers(kind: Any, data: st.DataObject, limit: Decimal) -> None:
    least, most = WHOLE[kind]
    near = [v for v in (int(limit) - 1, int(limit), int(limit) + 1) if least <= v <= most]
    values = [*near, *data.draw(st.lists(st.integers(least, most), max_size=4)), least, most]
    above, equal = compared(values, kind, limit)
    assert above == [v > limit for v in values] + [None]
    assert equal == [v == limit for v in values] + [None]


@pytest.mark.parametrize(("digits", "scale"), [(38, 0), (38, 4), (38, 38), (20, 2), (5, 5)])
@settings(max_examples=150, deadline=None)
@given(data=st.data(), limit=NUMBERS)
def test_decimals(digits: int, scale: int, data: st.DataObject, limit: Decimal) -> None:
    most = 10**digits - 1
    units = data.draw(st.lists(st.integers(-most, most), max_size=4))
    near = [u for u in (int(limit.scaleb(scale)) + step for step in (-1, 0, 1)) if abs(u) <= most]
    values = [
        Decimal((int(u < 0), tuple(map(int, str(abs(u)))), -scale)) for u in (*units, *near, most)
    ]
    above, equal = compared(values, pl.Decimal(digits, scale), limit)
    assert above == [v > limit for v in values] + [None]
    assert equal == [v == limit for v in values] + [None]


@settings(max_examples=300, deadline=None)
@given(values=st.lists(st.floats(allow_nan=False), max_size=5), limit=NUMBERS)
@example(values=[0.1, 0.2, 1e300, -1e300], limit=Decimal("0.1"))
@example(values=[9007199254740992.0, 9007199254740994.0], limit=Decimal(2**53 + 1))
def test_doubles_are_what_is_written(values: list[float], limit: Decimal) -> None:
    values = [*values, float(limit)]
    above, equal = compared(values, pl.Float64, limit)
    assert above == [Decimal(repr(v)) > limit for v in values] + [None]
    assert equal == [Decimal(repr(v)) == limit for v in values] + [None]


def test_a_float_of_32_bits_is_what_is_written() -> None:
    above, equal = compared([0.1, 0.2, 0.3], pl.Float32, Decimal("0.2"))
    assert (above, equal) == ([False, False, True, None], [False, True, False, None])


def test_a_column_without_a_type_and_one_of_booleans() -> None:
    above, equal = compared([None], pl.Null, Decimal(1))
    assert (above, equal) == ([None, None], [None, None])
    assert compared([True, False], pl.Boolean, Decimal("0.5"))[0] == [True, False, None]
