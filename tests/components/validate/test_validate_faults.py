"""Every kind of planted fault is found, with its exact count; clean data give none."""

import copy
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from slipway.components.contracts.dataset import read_manifest, read_table
from slipway.components.contracts.rows.content_hash import ContentHash
from slipway.components.support.errors import SlipwayError

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 25_000  # four row groups, see the fixture
SCHEMA = {
    "required": ["id", "time", "amount", "count", "kind", "local", "day", "open", "code"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "integer", "minimum": 0},
        "time": {
            "type": "string",
            "format": "date-time",
            "formatMinimum": "window_start",
            "formatMaximum": "now",
        },
        "amount": {
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 100,
            "x-maxNullFraction": 0.2,
        },
        "count": {"type": ["integer", "null"], "minimum": -5, "exclusiveMaximum": 1000},
        "kind": {"type": "string", "enum": ["a", "b", "c"]},
        "local": {"type": "string", "format": "local-date-time", "formatMinimum": "2023-12-31"},
        "day": {"type": "string", "format": "date", "formatMaximum": "2024-02-01"},
        "open": {"type": "boolean"},
        "code": {
            "type": ["string", "null"],
            "pattern": "^[A-Z]\\d+$",
            "minLength": 2,
            "maxLength": 8,
        },
    },
    "x-unique": [["id"]],
    "x-timeOrder": "time",
    "x-minRows": 1000,
    "x-rules": {
        "the day is the time's": {"rule": "CAST(time AS DATE) = day"},
        "amounts grow with count": {"rule": "count < 990 OR amount < 99", "x-level": "warn"},
    },
}


def clean(rows: int = ROWS) -> pa.Table:
    index = np.arange(rows)
    stamps = np.int64(START.timestamp() * 1e6) + index * 10_000_000
    time = pa.array(stamps, pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "id": pa.array(index),
            "time": time,
            "amount": pa.array(index % 97 / 1.0, mask=index % 7 == 0),
            "count": pa.array(index % 900, mask=index % 11 == 0),
            "kind": pa.array(["abc"[i % 3] for i in range(rows)]),
            "local": time.cast(pa.timestamp("us")),
            "day": time.cast(pa.date32()),
            "open": pa.array(index % 2 == 0),
            "code": pa.array([f"A{i}" if i % 5 else None for i in range(rows)]),
        }
    )


CLEAN = clean()


def plant(column: str, *faults: tuple[int, object]) -> Callable[[pa.Table], pa.Table]:
    """Sets single cells."""

    def change(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(column)
        field = table.schema.field(index)
        kept, start = [], 0
        values = table.column(index).combine_chunks()
        for row, value in sorted(faults, key=lambda fault: fault[0]):
            kept += [values.slice(start, row - start), pa.array([value], field.type)]
            start = row + 1
        kept.append(values.slice(start))
        return table.set_column(index, field, pa.concat_arrays(kept))

    return change


@dataclass(frozen=True)
class Fault:
    """What is done to the clean table, and how many rows each check then finds."""

    name: str
    change: Callable[[pa.Table], pa.Table]
    found: dict[str, int]
    rows: list[int] = field(default_factory=list)
    refused: bool = True


FAR = datetime(2199, 1, 1, tzinfo=UTC)
FAULTS = [
    Fault("null", plant("kind", (5, None), (24_999, None)), {"kind: null": 2}, [5, 24_999]),
    Fault("NaT", plant("time", (8_750, None)), {"time: null": 1}, [8_750]),
    Fault("NaN", plant("amount", (9, float("nan"))), {"amount: not a finite number": 1}, [9]),
    Fault("infinite", plant("amount", (9, float("inf"))), {"amount: not a finite number": 1}, [9]),
    Fault("below", plant("amount", (8, -0.001)), {"amount: minimum 0": 1}, [8]),
    Fault("above", plant("amount", (8, 100.5)), {"amount: maximum 100": 1}, [8]),
    Fault(
        "integer ranges",
        plant("count", (8, -6), (9, 1000), (10, 999), (12, -5)),
        {"count: minimum -5": 1, "count: exclusiveMaximum 1000": 1},
        [8, 9],
    ),
    Fault("category", plant("kind", (1, "d"), (2, "")), {"kind: enum": 2}, [1, 2]),
    Fault(
        "duplicate key",
        plant("id", (18_750, 3), (18_751, 3), (7, 6)),
        {"duplicate id": 3},
        [7, 18_750, 18_751],
    ),
    Fault(
        "future time",
        lambda t: plant("day", (24_999, FAR.date()))(plant("time", (24_999, FAR))(t)),
        {
            "time: later than TODAY": 1,
            "day: later than 2024-02-01": 1,
        },
        [24_999],
    ),
    Fault(
        "time before the window",
        plant("time", (8_192, START - timedelta(microseconds=1))),
        {
            "time: earlier than 2024-01-01T00:00:00Z": 1,
            "time: goes back in time": 1,
            "rule the day is the time's": 1,
        },
        [8_192],
    ),
    Fault(
        "time goes back",
        plant("time", (16_384, START + timedelta(seconds=163_820))),
        {"time: goes back in time": 1},
        [16_384],
    ),
    Fault(
        "time goes forth too early",
        plant("time", (10, START + timedelta(seconds=135))),
        {"time: goes back in time": 3},
        [11, 12, 13],
    ),
    Fault(
        "wall clock too early",
        plant("local", (3, datetime(2023, 12, 30, 23, 59))),
        {"local: earlier than 2023-12-31T00:00:00": 1},
        [3],
    ),
    Fault(
        "day of another row",
        plant("day", (3, date(2024, 1, 2))),
        {"rule the day is the time's": 1},
        [3],
    ),
    Fault(
        "text",
        plant("code", (1, "a1"), (2, "A"), (3, "A12345678"), (4, "Ä1")),
        {"code: pattern ^[A-Z]\\d+$": 3, "code: minLength 2": 1, "code: maxLength 8": 1},
        [1, 2, 3, 4],
    ),
    Fault(
        "several in one row",
        lambda t: plant("kind", (4, "x"))(plant("amount", (4, 101.0))(plant("id", (4, 0))(t))),
        {"kind: enum": 1, "amount: maximum 100": 1, "duplicate id": 1},
        [4],
    ),
    Fault(
        "warning only",
        lambda t: plant("count", (6, 995))(plant("amount", (6, 99.5))(t)),
        {"rule amounts grow with count": 1},
        [],
        refused=False,
    ),
]  # fmt: skip


def found_in(results: dict) -> dict[str, int]:
    """The failed checks, with a clock's time of day cut off."""
    today = f"time: later than {datetime.now(UTC):%Y-%m-%d}"
    return {
        today if c["check"].startswith(today) else c["check"]: c["failed"]
        for c in results["checks"]
        if c["status"] in ("fail", "warn")
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found(fault: Fault, validate, places) -> None:
    table = fault.change(CLEAN)
    # Of the day that the check runs on: the tests may begin on the day before.
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    expected = {check.replace("TODAY", today): rows for check, rows in fault.found.items()}
    if fault.refused:
        with pytest.raises(SlipwayError) as caught:
            validate(table, SCHEMA)
        assert all(check in str(caught.value) for check in fault.found if "later" not in check)
        assert not places.good.exists()
    else:
        validate(table, SCHEMA)
        assert read_table(places.good, "t").equals(table)
    results = json.loads(places.results.read_text())
    assert found_in(results) == expected
    assert results["status"] == ("fail" if fault.refused else "warn")
    quarantine = read_table(places.quarantine, "t")
    assert quarantine["_row"].to_pylist() == fault.rows
    apart, planted = (
        quarantine.drop_columns(["_row", "_reasons"]),
        table.take(pa.array(fault.rows, pa.int64())),
    )
    assert str(apart.to_pylist()) == str(planted.to_pylist())  # NaN is not equal to itself
    if fault.refused:
        reasons = Counter(
            reason for row in quarantine["_reasons"].to_pylist() for reason in row.split("; ")
        )
        assert sorted(reasons.values()) == sorted(fault.found.values())


def test_clean_data_pass(validate, places) -> None:
    validation = validate(CLEAN, SCHEMA)
    assert {check.status for check in validation.checks} == {"pass"}
    assert read_table(places.good, "t").equals(CLEAN)
    assert read_table(places.quarantine, "t").num_rows == 0
    good = read_manifest(places.good)
    assert good == validation.good
    before = read_manifest(places.dataset)
    assert good.tables == before.tables and good.content_hash == before.content_hash
    assert validation.headline == f"{ROWS:,} rows good, 0 set apart, 45 checks, 0 warnings"


def test_within_tolerance_bad_rows_are_set_apart_and_the_rest_goes_on(validate, places) -> None:
    table = plant("kind", (5, "x"), (8_751, "x"), (24_999, "y"))(CLEAN)
    table = plant("amount", (5, 500.0))(table)
    validation = validate(table, SCHEMA | {"x-maxFailedFraction": 3 / ROWS})
    statuses = {c.check: c.status for c in validation.checks if c.status != "pass"}
    assert statuses == {
        "kind: enum": "tolerated",
        "amount: maximum 100": "tolerated",
        "rows set apart in all": "tolerated",
    }
    keep = np.ones(ROWS, bool)
    keep[[5, 8_751, 24_999]] = False
    assert read_table(places.good, "t").equals(table.filter(pa.array(keep)))
    info = validation.good.tables["t"]
    content = ContentHash()
    for batch in table.filter(pa.array(keep)).combine_chunks().to_batches():
        content.add(batch)
    assert (info.rows, info.content_hash) == (ROWS - 3, content.hex)
    assert info.max_time == _iso(CLEAN["time"][ROWS - 2].as_py())
    assert info.bytes == sum(f.stat().st_size for f in (places.good / "t").iterdir())
    reasons = read_table(places.quarantine, "t")["_reasons"].to_pylist()
    assert reasons == ["amount: maximum 100; kind: enum", "kind: enum", "kind: enum"]


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(("faults", "passes"), [(3, True), (4, False)])
def test_a_columns_own_tolerance_is_exact(faults: int, passes: bool, validate) -> None:
    schema = json.loads(json.dumps(SCHEMA))
    schema["properties"]["kind"]["x-maxFailedFraction"] = 3 / ROWS
    table = plant("kind", *((row, "x") for row in range(faults)))(CLEAN)
    if passes:
        assert validate(table, schema).quarantine.rows == faults
    else:
        with pytest.raises(SlipwayError, match="kind: enum: 4 rows"):
            validate(table, schema)


def test_the_tables_tolerance_bounds_all_rows_set_apart(validate) -> None:
    """Two checks are each within it, together they are not."""
    table = plant("kind", (1, "x"), (2, "x"))(plant("amount", (3, 101.0), (4, 101.0))(CLEAN))
    with pytest.raises(SlipwayError, match=r"1 of 46 checks failed.* t: rows set apart in all: 4"):
        validate(table, SCHEMA | {"x-maxFailedFraction": 3 / ROWS})


@pytest.mark.parametrize(("every", "passes"), [(5, True), (4, False)])
def test_the_null_fraction_is_exact(every: int, passes: bool, validate) -> None:
    values = [None if i % every == 0 else 1.0 for i in range(ROWS)]
    table = CLEAN.set_column(2, "amount", pa.array(values, pa.float64()))
    if passes:
        assert validate(table, SCHEMA).quarantine.rows == 0
    else:
        with pytest.raises(SlipwayError, match="amount: null fraction: 6,250 rows"):
            validate(table, SCHEMA)


STRUCTURE = [
    ("renamed", lambda t: t.rename_columns(["id", "time", "amount", "counts", *t.schema.names[4:]]),
     ["count: required: the column is missing; is it counts now?", "counts: additionalProperties",
      "rules, keys and order: not checked"]),
    ("missing", lambda t: t.drop_columns(["kind"]), ["kind: required: the column is missing"]),
    ("new", lambda t: t.append_column("x", t["id"]), ["x: additionalProperties"]),
    ("text for number", lambda t: t.set_column(2, "amount", t["amount"].cast(pa.string())),
     ["amount: type: is string, and the schema says number"]),
    ("no zone", lambda t: t.set_column(1, "time", t["local"]),
     ["time: type: is timestamp[us], and the schema says string (date-time)"]),
    ("zone", lambda t: t.set_column(5, "local", t["time"]), ["says string (local-date-time)"]),
    ("few rows", lambda t: t.slice(0, 999), ["at least 1,000 rows: there are 999"]),
    ("all null", lambda t: t.set_column(4, "kind", pa.nulls(ROWS)), ["kind: null: 25,000 rows"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "says"), STRUCTURE, ids=[row[0] for row in STRUCTURE])
def test_a_table_of_another_shape_is_refused(name: str, change, says: list, validate) -> None:
    with pytest.raises(SlipwayError) as caught:
        validate(change(CLEAN), SCHEMA)
    assert [words for words in says if words not in str(caught.value)] == [], str(caught.value)


def test_a_whole_number_may_be_stored_as_a_float(validate) -> None:
    counts = CLEAN["count"].cast(pa.float64())
    assert validate(CLEAN.set_column(3, "count", counts), SCHEMA).quarantine.rows == 0


def test_a_fraction_is_no_integer(validate) -> None:
    table = CLEAN.set_column(3, "count", CLEAN["count"].cast(pa.float64()))
    with pytest.raises(SlipwayError, match="count: not a whole number: 2 rows"):
        validate(plant("count", (1, 0.5), (2, -0.5))(table), SCHEMA)


def test_all_failures_of_all_tables_are_listed_at_once(validate) -> None:
    schema = {"tables": {"t": SCHEMA, "u": SCHEMA, "absent": {"properties": {}}}}
    tables = {
        "t": plant("kind", (1, "x"))(CLEAN),
        "u": plant("amount", (2, -1.0))(plant("id", (9, 8))(CLEAN)),
        "extra": CLEAN.slice(0, 5),
    }
    with pytest.raises(SlipwayError) as caught:
        validate(tables, schema)
    for words in (
        "5 of 92 checks failed",
        "t: kind: enum: 1 row (0.004%, allowed 0.000%), first row 1 (kind x)",
        "u: amount: minimum 0: 1 row",
        "u: duplicate id: 1 row",
        "extra: table: the schema does not name it",
        "absent: table: the dataset has no such table",
    ):
        assert words in str(caught.value)


def test_a_new_category_is_told_what_lets_it_through(validate) -> None:
    table = plant("kind", (1, "boat"), (5, "boat"))(CLEAN)
    with pytest.raises(SlipwayError) as caught:
        validate(table, SCHEMA)
    said = str(caught.value)
    place = "tables.t.properties.kind"
    assert f"add 'boat' to the enum of {place} if it is a value from now on; or" in said
    assert f'`"x-maxFailedFraction": 0.001` in {place} sets so few rows apart and goes on' in said
    # Both do as they say.
    schema = copy.deepcopy(SCHEMA)
    schema["properties"]["kind"]["x-maxFailedFraction"] = 0.001
    assert validate(table, schema).quarantine.rows == 2
    schema = copy.deepcopy(SCHEMA)
    schema["properties"]["kind"]["enum"].append("boat")
    assert validate(table, schema).quarantine.rows == 0


def test_many_bad_rows_and_a_doubled_key_are_not_waved_through(validate) -> None:
    many = [(row, "boat") for row in range(0, CLEAN.num_rows, 4)]
    with pytest.raises(SlipwayError) as caught:
        validate(plant("kind", *many)(CLEAN), SCHEMA)
    assert "x-maxFailedFraction" not in str(caught.value)
    with pytest.raises(SlipwayError) as caught:
        validate(plant("id", (9, 8))(CLEAN), SCHEMA)
    assert str(caught.value).endswith("change the schema if it is what is wrong.")


def test_keys_with_a_null_are_not_compared(validate) -> None:
    table = pa.table({"a": [1, None, None, 1, 1], "b": ["x", "x", "x", "y", "x"]})
    schema = {
        "properties": {"a": {}, "b": {}},
        "x-unique": [["a", "b"]],
        "x-maxFailedFraction": 0.5,
    }
    validation = validate(table, schema)
    assert [c.failed for c in validation.checks if c.check == "duplicate a, b"] == [1]


def test_an_earlier_result_does_not_outlive_a_refusal(validate, places) -> None:
    validate(CLEAN, SCHEMA)
    with pytest.raises(SlipwayError):
        validate(plant("kind", (1, "x"))(CLEAN), SCHEMA)
    assert not places.good.exists()
    assert sorted(p.name for p in places.folder.iterdir()) == [
        "dataset", "quarantine", "report.html", "results.json",
    ]  # fmt: skip


def test_what_polars_cannot_take_is_named(validate) -> None:
    """A dataset that another tool wrote: polars panics on decimals of 256 bits."""
    table = pa.table({"x": pa.array([1, 2], pa.decimal256(60, 2)), "n": [1, 2]})
    column = {"type": "number", "minimum": 0}
    with pytest.raises(
        SlipwayError, match=r"Table t: the checks of x cannot be evaluated: .*Int256"
    ):
        validate(table, {"properties": {"x": column}})
    validate(table, {"properties": {"x": {}, "n": column}})


def test_examples_of_times_past_the_year_9999_are_shown(validate) -> None:
    never = pa.array([2**63 - 1, 0], pa.timestamp("us", "UTC"))
    column = {"type": "string", "format": "date-time", "formatMaximum": "now"}
    with pytest.raises(
        SlipwayError, match=r"first row 0 \(x 9,223,372,036,854,775,807 us since 1970\)"
    ):
        validate(pa.table({"x": never}), {"properties": {"x": column}})


def test_an_order_holds_past_the_year_9999(validate) -> None:
    ticks = [0, 2**62, 2**63 - 1, 5]
    for kind, values in (
        (pa.timestamp("us", "UTC"), ticks),
        (pa.date32(), [0, 2**30, 2**31 - 1, 5]),
    ):
        table = pa.table({"x": pa.array(values, kind)})
        with pytest.raises(SlipwayError, match=r"x: goes back in time: 1 row \("):
            validate(table, {"properties": {"x": {}}, "x-timeOrder": "x"})


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_a_key_of_zero_is_one_key_with_either_sign(kind: pa.DataType, validate) -> None:
    table = pa.table({"x": pa.array([0.0, 1.0, -0.0, None], kind), "y": ["a"] * 4})
    with pytest.raises(SlipwayError, match="first row 2"):
        validate(table, {"properties": {"x": {}}, "x-unique": [["y", "x"]]})
