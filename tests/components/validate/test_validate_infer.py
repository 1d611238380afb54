"""`slipway schema infer`: what it writes holds for the data, and finds what is wrong in others."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.components.support.errors import SlipwayError
from slipway.components.validate.infer import infer_schema, write_schema
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
            "open": index % 2 == 0,
            "word": [f"w{i % 200}" for i in index],
            "tags": [["a"]] * rows,
        }
    )


def test_what_it_writes(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "events.parquet")
    schema = infer_schema(tmp_path / "events.parquet")
    assert schema == {
        "$schema": "urn:slipway:input-schema:1",
        "tables": {
            "events": {
                "required": table().schema.names,
                "additionalProperties": False,
                "properties": {
                    "id": {"type": "string"},
                    "time": {"type": "string", "format": "date-time", "formatMaximum": "now"},
                    "wall": {"type": "string", "format": "local-date-time"},
                    "kind": {"type": "string", "enum": ["a", "b", "c"]},
                    "count": {
                        "type": ["integer", "null"],
                        "minimum": 0,
                        "maximum": 97,
                        "x-maxNullFraction": 0.2,
                    },
                    "share": {"type": "number", "minimum": -1.49, "maximum": 1.48},
                    "whole": {"type": "integer", "minimum": 0.0, "maximum": 6.0},
                    "open": {"type": "boolean"},
                    "word": {"type": "string"},
                    "tags": {"description": "Arrow type list<element: string>: not judged."},
                },
                "x-unique": [["id"]],
                "x-timeOrder": "time",
            }
        },
    }


def test_it_is_a_schema_and_holds_for_its_data(validate, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    pq.write_table(table(600), tmp_path / "t" / "a.parquet")
    pq.write_table(table().slice(600), tmp_path / "t" / "b.parquet")
    schema = infer_schema(tmp_path / "t")
    jsonschema.validate(schema, json.loads(META_SCHEMA.read_text()))
    validation = validate(table(), schema)
    assert {check.status for check in validation.checks} == {"pass"}
    bad = table().set_column(3, "kind", pa.array(["d", *["a"] * 999]))
    with pytest.raises(SlipwayError, match="kind: enum: 1 rows"):
        validate(bad, schema)


def test_all_tables_of_a_dataset(validate, places) -> None:
    validate(table(), {"properties": {}})
    assert list(infer_schema(places.dataset)["tables"]) == ["t"]


def test_a_repeated_value_is_no_key_and_a_step_back_no_order(tmp_path: Path) -> None:
    rows = table(200_000).select(["id", "time"])
    swapped = pa.concat_tables([rows.slice(1), rows.slice(0, 1)])
    pq.write_table(
        swapped.set_column(0, "id", pa.array([*["x7"], *rows["id"].to_pylist()[1:]])),
        tmp_path / "t.parquet",
    )
    inferred = infer_schema(tmp_path / "t.parquet")["tables"]["t"]
    assert "x-unique" not in inferred and "x-timeOrder" not in inferred


def test_a_file_finds_its_meta_schema_beside_it(tmp_path: Path) -> None:
    """What an editor does: it reads `$schema` relative to the file."""
    pq.write_table(table(), tmp_path / "events.parquet")
    out = tmp_path / "schemas" / "input.json"
    write_schema(tmp_path / "events.parquet", out)
    written = json.loads(out.read_text())
    meta = json.loads((out.parent / written["$schema"]).read_text())
    assert meta == json.loads(META_SCHEMA.read_text())
    jsonschema.validate(written, meta)
    assert written["tables"] == infer_schema(tmp_path / "events.parquet")["tables"]


def test_no_bound_is_nan_or_infinite(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    columns = {"none": [nan, nan], "some": [1.5, inf], "half": [nan, -3.0], "huge": [1e308, -1e308]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    write_schema(tmp_path / "t.parquet", tmp_path / "schema.json")
    found = json.loads((tmp_path / "schema.json").read_text())["tables"]["t"]["properties"]
    assert found["none"] == {"type": "number"}
    assert found["some"] == {"type": "number", "minimum": 0.0, "maximum": 3.0}
    assert found["half"] == {"type": "integer", "minimum": -6.0, "maximum": 0.0}
    assert found["huge"] == {"type": "integer"}


def test_refuses(tmp_path: Path) -> None:
    with pytest.raises(SlipwayError, match="no parquet file at"):
        infer_schema(tmp_path / "nothing")
    with pytest.raises(SlipwayError, match="no parquet file at"):
        infer_schema(tmp_path)
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(SlipwayError, match=r"x.parquet cannot be read as parquet"):
        infer_schema(tmp_path / "x.parquet")
    pq.write_table(table().slice(0, 0), tmp_path / "e.parquet")
    with pytest.raises(SlipwayError, match="Table e has no rows"):
        infer_schema(tmp_path / "e.parquet")
