"""A first schema: what it says of each kind of column, and that it keeps what a file says already."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pytest

from slipway.components.support.errors import SlipwayError
from slipway.components.validate.infer import infer_table, write_schema
from slipway.components.validate.schema import META_SCHEMA


def table(rows: int = 1000) -> pa.Table:
    index = np.arange(rows)
    times = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=int(i)) for i in index]
    return pa.table(
        {
            "id": [f"x{i}" for i in index],
            "time": pa.array(times, pa.timestamp("us", "UTC")),
            "wall": pa.array([t.replace(tzinfo=None) for t in times], pa.timestamp("us")),
            "kind": ["abc"[i % 3] for i in index],
            "count": pa.array(index % 50, mask=index % 10 == 0),
            "share": index % 100 / 100 - 0.5,
            "whole": (index % 4).astype(float),
            "flag": index % 2,
            "price": pa.array([Decimal(int(i)) / 4 for i in index], pa.decimal128(10, 2)),
            "open": index % 2 == 0,
            "word": [f"w{i % 200}" for i in index],
            "tags": [["a"]] * rows,
            "none": pa.nulls(rows),
        }
    )


def infer(rows: pa.Table) -> dict:
    return infer_table("t", rows.schema, rows.to_batches(max_chunksize=300))


def test_what_it_writes() -> None:
    assert infer(table()) == {
        "required": table().schema.names,
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string"},
            "time": {"type": "string", "format": "date-time", "formatMaximum": "now"},
            "wall": {"type": "string", "format": "local-date-time"},
            "kind": {"type": "string", "enum": ["a", "b", "c"]},
            "count": {"type": ["integer", "null"], "minimum": 0, "x-maxNullFraction": 0.2},
            "share": {"type": "number"},
            "whole": {"type": "integer", "minimum": 0},
            "flag": {"type": "integer", "minimum": 0, "maximum": 1},
            "price": {"type": "number", "minimum": 0},
            "open": {"type": "boolean"},
            "word": {"type": "string"},
            "tags": {"description": "Arrow type list<item: string>: not judged."},
            "none": {"description": "No value was seen: not judged."},
        },
        "x-unique": [["id"]],
    }


def test_it_is_a_schema_and_holds_for_its_data(validate) -> None:
    schema = {"tables": {"t": infer(table())}}
    jsonschema.validate(schema, json.loads(META_SCHEMA.read_text()))
    validation = validate(table(), schema)
    assert {check.status for check in validation.checks} == {"pass"}
    bad = table().set_column(3, "kind", pa.array(["d", *["a"] * 999]))
    with pytest.raises(SlipwayError, match=r"kind: enum: 1 row \("):
        validate(bad, schema)


def test_rows_in_another_order_hold_too(validate) -> None:
    order = np.random.default_rng(1).permutation(1000)
    validation = validate(table().take(pa.array(order)), {"tables": {"t": infer(table())}})
    assert {check.status for check in validation.checks} == {"pass"}


def test_a_repeated_value_is_no_key() -> None:
    rows = table(200_000).select(["id", "time"])
    assert infer(rows)["x-unique"] == [["id"]]
    twice = pa.array(["x7", *rows["id"].to_pylist()[1:]])
    assert "x-unique" not in infer(rows.set_column(0, "id", twice))


EXTREMES = {
    "largest double": pa.array([3.4028234663852886e38, 1.5, None]),
    "large whole doubles": pa.array([1e308, -1e308, 0.0]),
    "largest integers": pa.array([2**63 - 1, -(2**63), 0]),
    "unsigned": pa.array([2**64 - 1, 0, 5], pa.uint64()),
    "beyond 2**53": pa.array([9007199254740993, 9007199254740991, 0]),
    "floats": pa.array([1.1, 3.4028234663852886e38, 0.0], pa.float32()),
    "not finite": pa.array([float("nan"), float("inf"), -3.0]),
    "nothing but NaN": pa.array([float("nan")] * 3),
    "decimals": pa.array([Decimal("1.10"), Decimal("9" * 36 + ".99"), None], pa.decimal128(38, 2)),
    "never": pa.array([2**63 - 1, 0, None], pa.timestamp("us", "UTC")),
    "never, by the wall": pa.array([2**63 - 1, -(2**62), None], pa.timestamp("us")),
    "far days": pa.array([2**31 - 1, -(2**31), None], pa.date32()),
    "the year 9999": pa.array([datetime(9999, 12, 31, tzinfo=UTC)] * 3, pa.timestamp("us", "UTC")),
    "durations": pa.array([timedelta(1), None, timedelta(2)]),
    "bytes": pa.array([b"a", None, b""]),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_its_own_data_pass_whatever_they_are(name: str, validate) -> None:
    rows = pa.table({"x": EXTREMES[name]})
    entry = infer(rows)
    schema = json.loads(json.dumps({"tables": {"t": entry}}, allow_nan=False))
    validation = validate(rows, schema)
    assert {check.status for check in validation.checks} <= {"pass", "warn"}
    assert ("warn" in {c.status for c in validation.checks}) == ("NaN" in str(entry))
    assert validation.good.rows == 3


def test_a_table_without_rows_teaches_nothing() -> None:
    with pytest.raises(SlipwayError, match="Table t has no rows"):
        infer(table().slice(0, 0))


def test_a_file_finds_its_meta_schema_beside_it(tmp_path: Path) -> None:
    """What an editor does: it reads `$schema` relative to the file."""
    out = tmp_path / "schemas" / "input.json"
    write_schema({"t": infer(table())}, out)
    written = json.loads(out.read_text())
    meta = json.loads((out.parent / written["$schema"]).read_text())
    assert meta == json.loads(META_SCHEMA.read_text())
    jsonschema.validate(written, meta)


def test_what_a_file_says_of_other_tables_stays(tmp_path: Path) -> None:
    out = tmp_path / "input.json"
    first = {"properties": {"a": {"type": "string"}}}
    out.write_text(json.dumps({"title": "mine", "tables": {"first": first}}))
    entry = infer(table())
    assert write_schema({"second": entry}, out) == ["second"]
    found = json.loads(out.read_text())
    assert found["title"] == "mine"
    assert found["tables"] == {"first": first, "second": entry}
    assert write_schema({"second": entry}, out) == []
    with pytest.raises(SlipwayError, match=r"has an entry for first already.*--force replaces it"):
        write_schema({"first": entry, "third": entry}, out)
    assert json.loads(out.read_text()) == found
    assert write_schema({"first": entry}, out, force=True) == ["first"]
    assert json.loads(out.read_text())["tables"] == {"first": entry, "second": entry}


def test_a_file_that_is_no_schema_stays(tmp_path: Path) -> None:
    out = tmp_path / "input.json"
    for content, says in (
        ("{", "no JSON file"),
        ("[]", "is no schema"),
        ('{"a": 1}', "is no schema"),
    ):
        out.write_text(content)
        with pytest.raises(SlipwayError, match=says):
            write_schema({"t": infer(table())}, out)
        assert out.read_text() == content
