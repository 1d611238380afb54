"""The quick way to read one row agrees with the general way, for good requests and for bad ones."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.serving_bundles import flight_tensors, make_bundle

from slipway.serving.errors import RequestError
from slipway.serving.protocol.rows import RowReader, Rows


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> tuple[RowReader, RowReader]:
    """One that has learnt the usual order, and one that reads every request the general way."""
    bundle = make_bundle(Path(tmp_path_factory.mktemp("rows")))
    quick, general = (
        RowReader(bundle, max_rows=100, missing_as_null=missing) for missing in (False, False)
    )
    quick.read(flight_tensors(1))
    general._read_one = lambda tensors: None  # type: ignore[method-assign]
    return quick, general


def outcome(reader: RowReader, tensors: Any) -> tuple[Any, ...]:
    """What was read, or what was said; types and shapes included."""
    try:
        rows = reader.read(copy.deepcopy(tensors))
    except RequestError as error:
        return error.status, str(error)
    arrays = (rows.numeric, rows.categorical, rows.time)
    content = [(a.dtype, a.shape, [[repr(v) for v in row] for row in a.tolist()]) for a in arrays]
    return rows.count, content, rows.keys


def test_it_is_taken_for_what_it_has_learnt(readers: tuple[RowReader, RowReader]) -> None:
    quick, general = readers
    tensors = flight_tensors(1, start=5)
    taken = quick._read_one(tensors)
    assert isinstance(taken, Rows)
    assert outcome(quick, tensors) == outcome(general, tensors)
    assert quick._read_one(flight_tensors(2)) is None
    assert quick._read_one(flight_tensors(1)[::-1]) is None
    assert outcome(quick, flight_tensors(1)[::-1]) == outcome(general, flight_tensors(1)[::-1])
    assert isinstance(quick._read_one(flight_tensors(1)[::-1]), Rows)


def test_orders_that_are_learnt_are_bounded(readers: tuple[RowReader, RowReader]) -> None:
    quick, _ = readers
    for turn in range(200):
        rotated = flight_tensors(1)
        rotated = rotated[turn % 7 :] + rotated[: turn % 7]
        rotated.insert(turn % 5, rotated.pop())
        quick.read(rotated if turn % 2 else rotated[::-1])
    assert len(quick._layouts) <= 64


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "AA", "é", "2013-12-01T05:00:00", "2013-12-01T05:00:00+02:00", "x"]),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_both_ways_agree(readers: tuple[RowReader, RowReader], data: st.DataObject) -> None:
    tensors = flight_tensors(1)
    for _ in range(data.draw(st.integers(0, 2))):
        victim = data.draw(st.sampled_from(tensors))
        where = data.draw(st.sampled_from(["data", "data", "shape", "datatype", "name", "gone"]))
        if where == "gone":
            victim.pop(data.draw(st.sampled_from(["data", "shape", "datatype", "name"])), None)
        elif where == "data":
            victim["data"] = data.draw(
                VALUES.map(lambda value: [value]) | st.lists(VALUES, max_size=2) | VALUES
            )
        elif where == "shape":
            shapes = [[1, 1], [True], [1.0], [2], [], [0], None, 1, "1", {"0": 1}]
            victim["shape"] = data.draw(st.sampled_from(shapes))
        elif where == "datatype":
            kinds = ["FP64", "FP32", "INT64", "BOOL", "BYTES", "UINT8", None, 3, ["FP64"]]
            victim["datatype"] = data.draw(st.sampled_from(kinds))
        else:
            names = ["miles", "carrier", "departs", "mils", None, ["miles"], 1]
            victim["name"] = data.draw(st.sampled_from(names))
    quick, general = readers
    assert outcome(quick, tensors) == outcome(general, tensors)


def test_a_value_beyond_float32_is_refused_both_ways(
    readers: tuple[RowReader, RowReader],
) -> None:
    tensors = flight_tensors(1)
    tensors[0]["data"] = [3.5e38]
    said = {outcome(reader, tensors) for reader in readers}
    assert said == {(400, "Input 'miles' has a value that is infinite or beyond 3.4e38.")}
    assert np.isfinite(np.float32(3.4e38))
