"""Our checks against pandera's, on random tables: the same rows fail, for the same reason."""

import json

import pandera.polars as pa_polars
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaErrors

from slipway.components.contracts import dataset as contract
from slipway.components.contracts.dataset import read_table

SCHEMA = {
    "properties": {
        "x": {"type": ["number", "null"], "minimum": -1, "maximum": 1},
        "n": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
        "kind": {"type": ["string", "null"], "enum": ["a", "b"]},
        "word": {"type": ["string", "null"], "pattern": "^a+$", "minLength": 2, "maxLength": 3},
        "open": {"type": "boolean"},
    },
    "x-unique": [["n", "kind"]],
    "x-maxFailedFraction": 1,
}
# Our words for each of pandera's checks.
NAMES = {
    ("x", "in_range(-1, 1)"): ("x: minimum -1", "x: maximum 1"),
    ("n", "not_nullable"): ("n: null",),
    ("n", "greater_than(0)"): ("n: exclusiveMinimum 0",),
    ("n", "less_than(10)"): ("n: exclusiveMaximum 10",),
    ("kind", "isin(['a', 'b'])"): ("kind: enum",),
    ("word", "str_matches('^a+$')"): ("word: pattern ^a+$",),
    ("word", "str_length(2, 3)"): ("word: minLength 2", "word: maxLength 3"),
    ("open", "not_nullable"): ("open: null",),
}
PEER = pa_polars.DataFrameSchema(
    {
        "x": pa_polars.Column(float, pa_polars.Check.in_range(-1, 1), nullable=True),
        "n": pa_polars.Column(int, [pa_polars.Check.gt(0), pa_polars.Check.lt(10)]),
        "kind": pa_polars.Column(str, pa_polars.Check.isin(["a", "b"]), nullable=True),
        "word": pa_polars.Column(
            str,
            [pa_polars.Check.str_matches("^a+$"), pa_polars.Check.str_length(2, 3)],
            nullable=True,
        ),
        "open": pa_polars.Column(bool),
    }
)
ROWS = st.lists(
    st.tuples(
        st.none() | st.floats(-2, 2),
        st.none() | st.integers(-1, 12),
        st.none() | st.sampled_from(["a", "b", "c", ""]),
        st.none() | st.text("ab", max_size=5),
        st.none() | st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


def pandera_counts(frame: pl.DataFrame) -> dict[tuple[str, str], int]:
    """How many rows fail each of pandera's checks."""
    try:
        PEER.validate(frame, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases.group_by("column", "check").len()
        return {(row["column"], row["check"]): row["len"] for row in cases.to_dicts()}
    return {}


@given(rows=ROWS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_same_rows_fail(rows: list[tuple], validate, places) -> None:
    table = pa.table(
        [list(column) for column in zip(*rows, strict=True)],
        schema=pa.schema(
            [
                ("x", pa.float64()),
                ("n", pa.int64()),
                ("kind", pa.string()),
                ("word", pa.string()),
                ("open", pa.bool_()),
            ]
        ),
    )
    validate(table, SCHEMA)
    ours = {c["check"]: c["failed"] for c in json.loads(places.results.read_text())["checks"]}
    frame = pl.DataFrame(table)
    theirs = pandera_counts(frame)
    for peer, names in NAMES.items():
        assert sum(ours[name] for name in names) == theirs.pop(peer, 0), peer
    assert theirs == {}
    whole = frame.filter(pl.col("n").is_not_null() & pl.col("kind").is_not_null())
    repeated = whole.height - whole.unique(["n", "kind"]).height
    assert ours["duplicate n, kind"] == repeated
    good, bad = read_table(places.good, "t"), read_table(places.quarantine, "t")
    assert good.num_rows + bad.num_rows == len(rows)
    assert pandera_counts(pl.DataFrame(good)) == {}
    for row in bad.drop_columns(["_reasons"]).to_pylist():
        index = row.pop("_row")
        assert tuple(row.values()) == rows[index]


def test_the_oracle_itself_finds_something() -> None:
    frame = pl.DataFrame({"x": [5.0], "n": [1], "kind": ["a"], "word": ["aa"], "open": [True]})
    assert pandera_counts(frame) == {("x", "in_range(-1, 1)"): 1}


@pytest.mark.parametrize("rows", [1, 8192, 8193])
def test_sizes_around_a_row_group(rows: int, validate, places) -> None:
    table = pa.table({"n": [*range(rows - 1), -1]})
    schema = {"properties": {"n": {"type": "integer", "minimum": 0}}, "x-maxFailedFraction": 1}
    validate(table, schema)
    assert read_table(places.good, "t")["n"].to_pylist() == list(range(rows - 1))
    assert read_table(places.quarantine, "t")["_row"].to_pylist() == [rows - 1]


def test_a_table_of_several_files(validate, places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clean files are copied, the others rewritten; row numbers and keys go across files."""
    monkeypatch.setattr(contract, "PART_ROWS", 8192)
    values = list(range(40_000))
    values[9_000] = -1
    values[30_000] = 5
    schema = {
        "properties": {"n": {"type": "integer", "minimum": 0}},
        "x-unique": [["n"]],
        "x-maxFailedFraction": 0.01,
    }
    validate(pa.table({"n": values}), schema)
    assert len(list((places.good / "t").iterdir())) == 5
    good = [value for row, value in enumerate(values) if row not in (9_000, 30_000)]
    assert read_table(places.good, "t")["n"].to_pylist() == good
    assert read_table(places.quarantine, "t").to_pylist() == [
        {"n": -1, "_reasons": "n: minimum 0", "_row": 9_000},
        {"n": 5, "_reasons": "duplicate n", "_row": 30_000},
    ]
