"""Bounds, enums and types are compared exactly: none goes through a double."""

import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.components.contracts.table_schema.bounds import exact, greatest, least
from slipway.components.contracts.table_schema.schema import read_schema
from slipway.components.support.errors import SlipwayError

BIG = 9007199254740993  # no double is this number: the next ones are 1 less and 1 more


def failed(validate, values: pa.Array, column: str) -> int:
    """How many rows fail, with the schema as the text of its file."""
    text = f'{{"tables": {{"t": {{"x-maxFailedFraction": 1, "properties": {{"x": {column}}}}}}}}}'
    return validate(pa.table({"x": values}), text).quarantine.rows


D2 = pa.decimal128(38, 2)
CASES = {
    "maximum that is reached": (pa.array([BIG]), f'"maximum": {BIG}', 0),
    "maximum one less": (pa.array([BIG]), f'"maximum": {BIG - 1}', 1),
    "minimum one more": (pa.array([BIG]), f'"minimum": {BIG + 1}', 1),
    "exclusive maximum": (pa.array([BIG, BIG - 1]), f'"exclusiveMaximum": {BIG}', 1),
    "exclusive minimum": (pa.array([BIG, BIG + 1]), f'"exclusiveMinimum": {BIG}', 1),
    "fraction above integers": (pa.array([1, 2, 3]), '"maximum": 2.5', 1),
    "fraction below integers": (pa.array([1, 2, 3]), '"minimum": 1.5', 1),
    "beyond the type": (pa.array([1, 2]), '"maximum": 1e30', 0),
    "below the type": (pa.array([1, 2]), '"maximum": -1e30', 2),
    "above the type": (pa.array([1, 2]), '"minimum": 1e30', 2),
    "unsigned": (pa.array([2**64 - 1, 2**64 - 2], pa.uint64()), f'"maximum": {2**64 - 2}', 1),
    "decimal reached": (pa.array([Decimal("1.10")], D2), '"maximum": 1.1', 0),
    "decimal passed": (pa.array([Decimal("1.10")], D2), '"maximum": 1.0999999999999999999999', 1),
    "decimal of 38 digits": (
        pa.array([Decimal("9" * 36 + ".99")], D2), f'"maximum": {"9" * 36}.98', 1),
    "double reached": (pa.array([0.1]), '"maximum": 0.1', 0),
    "double just passed": (pa.array([np.nextafter(0.1, 1)]), '"maximum": 0.1', 1),
    "double and a large integer": (pa.array([2.0**53 + 2]), f'"maximum": {BIG}', 1),
    "double reached from above": (pa.array([2.0**53]), f'"maximum": {BIG}', 0),
    "float32 reached": (pa.array([0.1], pa.float32()), '"minimum": 0.1', 0),
    "double just not reached": (pa.array([np.nextafter(0.1, 0)]), '"minimum": 0.1', 1),
    "largest double": (pa.array([1.7976931348623157e308]), '"maximum": 1e400', 0),
    "enum": (pa.array([BIG, BIG - 1]), f'"enum": [{BIG}]', 1),
    "enum of decimals": (pa.array([Decimal("1.10"), Decimal("1.11")], D2), '"enum": [1.1]', 1),
    "enum of doubles": (pa.array([0.1, 0.2]), '"enum": [0.1]', 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["number", "integer"])
def test_bounds_are_exact(name: str, kind: str, validate) -> None:
    values, words, wrong = CASES[name]
    if kind == "integer" and not pa.types.is_integer(values.type):
        pytest.skip("a fraction is no integer")
    assert failed(validate, values, f'{{"type": "{kind}", {words}}}') == wrong


def test_a_bound_that_the_struct_of_a_pipeline_rounded_was_refused() -> None:
    """Why the schema travels as text."""
    assert json.loads(json.dumps({"maximum": BIG}), parse_int=float)["maximum"] != BIG


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        (pa.array([Decimal("1.10"), Decimal("2.00"), None], D2), 1),
        (pa.array([Decimal("5"), Decimal("1000")], pa.decimal128(38, 0)), 0),
        (pa.array([1.5, 2.0, -0.0]), 1),
        (pa.array([1.5, 2.0], pa.float32()), 1),
    ],
)
def test_an_integer_has_no_fraction_in_any_type(values: pa.Array, wrong: int, validate) -> None:
    assert failed(validate, values, '{"type": ["integer", "null"]}') == wrong


def test_an_enum_that_the_type_cannot_hold_is_refused(validate) -> None:
    for values, enum in ((pa.array([1]), "[1.5]"), (pa.array([1]), f"[{2**70}]")):
        with pytest.raises(SlipwayError, match="enum holds a value that int64 cannot have"):
            failed(validate, values, f'{{"enum": {enum}}}')


def test_a_tolerance_is_a_fraction_of_rows(validate) -> None:
    rows = pa.array([*range(997), -1, -2, -3])
    column = '{"type": "integer", "minimum": 0, "x-maxFailedFraction": %s}'
    text = '{"tables": {"t": {"properties": {"x": ' + column + "}}}}"
    assert validate(pa.table({"x": rows}), text % "0.003").quarantine.rows == 3
    with pytest.raises(SlipwayError, match="minimum 0: 3 rows"):
        validate(pa.table({"x": rows}), text % "0.002")


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(SlipwayError, match=r"schema file is wrong\. It is not JSON"):
        read_schema("{")


NUMBERS = st.one_of(
    st.integers(-(10**25), 10**25),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**25), max_value=10**25),
)
KINDS = [pa.int8(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), D2, pa.decimal128(5, 0)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(bound=NUMBERS)
def test_the_nearest_values_of_a_type_enclose_the_bound(kind: pa.DataType, bound) -> None:
    low, high = greatest(kind, bound), least(kind, bound)
    for value in (low, high):
        assert value is None or pa.array([value], kind)[0].as_py() == value
    if low is not None and high is not None:
        assert Fraction(low) <= Fraction(bound) <= Fraction(high) or low == high
        if pa.types.is_float64(kind) and low != high:
            assert float(np.nextafter(low, np.inf)) == high


@pytest.mark.parametrize(
    ("given_", "read"),
    [(1.0, 1), (0.1, Decimal("0.1")), (Decimal("1e3"), 1000), (True, True), ("a", "a"), (None, None),
     (Decimal("1e999999999"), Decimal("1e999999999"))],
)  # fmt: skip
def test_a_number_is_what_is_written(given_, read) -> None:
    assert exact(given_) == read and type(exact(given_)) is type(read)
