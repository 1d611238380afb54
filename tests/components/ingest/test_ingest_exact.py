"""No value is changed on the way in: it comes out as it was, or is refused by name."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.components.contracts.dataset import read_table
from slipway.components.ingest.formats.numbers import NumberStyle
from slipway.components.ingest.ingest import ingest_tables
from slipway.components.support.errors import SlipwayError

TIME = pa.array(
    [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3)], pa.timestamp("us", "UTC")
)
US, NAIVE = pa.timestamp("us", "UTC"), pa.timestamp("us")
NEVER = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


@pytest.fixture
def read(ingest, tmp_path: Path):
    """Ingests files of a folder and gives a column as the dataset has it."""

    def run(files: dict[str, pa.Table | str | bytes], column: str = "x", **settings) -> pa.Array:
        folder = tmp_path / "lake" / "events"
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, pa.Table):
                pq.write_table(content, path, **settings.pop("writer", {}))
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        ingest(**settings)
        return read_table(tmp_path / "out", "events")[column].combine_chunks()

    return run


def csv(values: list[str]) -> str:
    return "time,x\n" + "".join(f"2024-01-01T00:00:00Z,{value}\n" for value in values)


# What stands in a csv column, and what it is: text as it stands, or numbers.
COLUMNS = {
    "leading zeros": (["01234", "99999"], "string"),
    "a plus": (["+4930123456789012345", "12"], "string"),
    "plus signs": (["+1", "+2"], "string"),
    "codes with e": (["1e5", "10e4", "100e3", "7e2"], "string"),
    "codes with E": (["1E5", "2E5"], "string"),
    "a code as a double's text": (["1e-05", "1e-06"], "string"),
    "hexadecimal": (["0x1F", "31"], "string"),
    "infinite": (["inf", "1"], "string"),
    "Infinity": (["Infinity", "1.5"], "string"),
    "minus zero": (["-0", "0"], "string"),
    "beyond 2**53": (["9007199254740993", "1"], "string"),
    "card numbers": (["4000123412341234567", "4000123412341234568"], "string"),
    "versions": (["1.1", "1.10", "1.2"], "string"),
    "two ways": (["3", "3.0"], "string"),
    "no digit before the point": ([".5", "1.5"], "string"),
    "nothing after the point": (["1.", "2.5"], "string"),
    "thousands": (["1_000", "1"], "string"),
    "spaces": ([" 1", "2"], "string"),
    "more digits than a double has": (["0.1234567890123456789", "0.5"], "string"),
    "truths in two ways": (["true", "True"], "string"),
    "truths": (["TRUE", "FALSE"], "bool"),
    "whole": (["0", "-7", "9007199254740992"], "int64"),
    "money": (["12.50", "3.00", "-0.75"], "double"),
    "as needed": (["12.5", "3", "0.25", "-1"], "double"),
    "as Python writes": (["12.5", "3.0", "0.1", "1e-05", "1.5e+16"], "double"),
    "all digits": (["0.30000000000000004", "0.1", "123456789.12345679"], "double"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_a_number_only_where_each_stands_in_one_way(name: str, read) -> None:
    values, kind = COLUMNS[name]
    column = read({"a.csv": csv(values)}, format="csv")
    assert str(column.type) == kind
    if kind == "string":
        assert column.to_pylist() == values
    elif kind != "bool":
        assert [Decimal(repr(value)) for value in column.to_pylist()] == [
            Decimal(v) for v in values
        ]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_later_batch_changes_no_earlier_value(
    name: str, read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.components.ingest.formats.lines.BLOCK", 128)
    values, kind = COLUMNS[name]
    column = read({"a.csv": csv(values * 20)}, format="csv")
    assert str(column.type) == kind
    assert kind != "string" or column.to_pylist() == values * 20


def test_types_override_both_ways(read) -> None:
    text = csv(["+0001e2", "5", ".5"])
    assert read({"a.csv": text}, format="csv", types={"x": "number"}).to_pylist() == [100, 5, 0.5]
    column = read({"a.csv": csv(["+07", "12"])}, format="csv", types={"x": "integer"})
    assert column.to_pylist() == [7, 12]
    column = read({"a.csv": csv(["1", "2"])}, format="csv", types={"x": "string"})
    assert column.to_pylist() == ["1", "2"]


def test_one_style_over_all_files(read) -> None:
    """What each file alone would take for a number is one only where all agree."""
    assert str(read({"a.csv": csv(["1.5"]), "b.csv": csv(["1.50"])}, format="csv").type) == "string"


def test_a_style_is_told_by_its_values() -> None:
    style = NumberStyle()
    assert style.takes(pa.array(["1", "2"])) == "integer"
    assert style.takes(pa.array(["1.5"])) == "number"
    assert style.is_one()
    assert style.takes(pa.array(["1.50"])) == "number"
    assert not style.is_one()
    assert NumberStyle().takes(pa.array(["1e5"])) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'time,x\n2024-01-01,"a"\n2024-01-02,""\n2024-01-03,\n'),
        ("a.jsonl", '{"time":"2024-01-01","x":"a"}\n{"time":"2024-01-02","x":""}\n{"time":"2024-01-03"}'),
        ("a.parquet", pa.table({"time": TIME, "x": ["a", "", None]})),
        ("a.parquet", pa.table({"time": TIME, "x": pa.array(["a", "", None]).dictionary_encode()})),
        ("a.parquet", pa.table({"time": TIME, "x": pa.array(["a", "", None], pa.large_string())})),
    ],
)  # fmt: skip
def test_an_empty_text_is_missing_whatever_the_source(name: str, content, read) -> None:
    column = read({name: content}, format=name.partition(".")[2])
    assert column.to_pylist() == ["a", None, None]


def test_a_number_beside_a_quoted_empty_text_is_one(read) -> None:
    text = 'time,x\n"2024-01-01","1"\n"2024-01-02",""\n'
    assert read({"a.csv": text}, format="csv").to_pylist() == [1, None]


@pytest.mark.parametrize("writer", [{}, {"use_deprecated_int96_timestamps": True}])
def test_a_time_that_means_never_stays_far(read, writer: dict) -> None:
    values = [
        NEVER.replace(tzinfo=None),
        datetime(1600, 1, 1),
        datetime(1969, 12, 31, 23, 59, 59, 1),
    ]
    table = pa.table({"time": TIME.cast(NAIVE), "x": pa.array(values, NAIVE)})
    assert read({"a.parquet": table}, writer=writer).to_pylist() == values


def test_delta_times_that_mean_never_stay_far(ingest, tmp_path: Path) -> None:
    """A file of INT96 times, as Spark wrote them into Delta tables for years."""
    import deltalake

    folder = tmp_path / "lake" / "events"
    table = pa.table({"time": TIME, "x": pa.array([NEVER, None, TIME[0].as_py()], US)})
    deltalake.write_deltalake(str(folder), table)
    file = next(folder.glob("*.parquet"))
    size = file.stat().st_size
    pq.write_table(table, file, use_deprecated_int96_timestamps=True)
    log = next((folder / "_delta_log").glob("*.json"))
    log.write_text(log.read_text().replace(f'"size":{size}', f'"size":{file.stat().st_size}'))
    ingest(format="delta")
    assert read_table(tmp_path / "out", "events")["x"].to_pylist() == table["x"].to_pylist()


def test_times_past_the_year_9999_stay_as_they_are(read) -> None:
    ticks = [2**63 - 1, -(2**63) + 1, 253402300800000000]
    table = pa.table(
        {"time": TIME, "x": pa.array(ticks, US), "d": pa.array([2**31 - 1] * 3, pa.date32())}
    )
    assert read({"a.parquet": table}).cast(pa.int64()).to_pylist() == ticks
    assert read({"a.parquet": table}, "d").cast(pa.int32()).to_pylist() == [2**31 - 1] * 3


def test_a_time_past_the_year_9999_is_after_the_window(ingest, write_lake) -> None:
    time = pa.array([0, TIME[0].value, 2**63 - 1], US)
    write_lake({"events/a.parquet": pa.table({"time": time, "x": [1, 2, 3]})})
    info = ingest().tables["events"]
    assert (info.rows, info.before, info.after) == (1, 1, 1)


def test_nanoseconds_are_cut_off_before_1970_too(read) -> None:
    stamps = pa.array([1_500, -1, None], pa.timestamp("ns", "UTC"))
    column = read({"a.parquet": pa.table({"time": TIME, "x": stamps})})
    assert column.cast(pa.int64()).to_pylist() == [1, -1, None]


@pytest.mark.parametrize("digits", [7, 8, 9])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_times_finer_than_microseconds_are_cut_and_said_once(
    form: str, digits: int, ingest, tmp_path: Path
) -> None:
    moment = "2024-01-01T00:00:00." + "123456789"[:digits] + "Z"
    lines = {"csv": f"time,x\n{moment},1\n{moment},2\n", "jsonl": f'{{"time": "{moment}"}}\n' * 2}
    (tmp_path / "lake" / "events").mkdir(parents=True)
    (tmp_path / "lake" / "events" / f"a.{form}").write_text(lines[form])
    manifest = ingest(format=form)
    expected = datetime(2024, 1, 1, microsecond=123456, tzinfo=UTC)
    assert set(read_table(tmp_path / "out", "events")["time"].to_pylist()) == {expected}
    warning = "time has times finer than microseconds, which are cut to microseconds"
    assert manifest.tables["events"].warnings == [warning]
    assert manifest.headline.count(warning) == 1


@pytest.mark.parametrize("zone", ["Z", "+02:00", ""])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_declared_timestamp_takes_any_zone(zone: str, form: str, read) -> None:
    moment = f"2024-01-01T12:00:00.1234567{zone}"
    content = {"csv": csv([moment]), "jsonl": f'{{"time": "2024-01-01", "x": "{moment}"}}\n'}[form]
    value = read({f"a.{form}": content}, format=form, types={"x": "timestamp"})[0].as_py()
    assert value.replace(tzinfo=None) == datetime(
        2024, 1, 1, 10 if "2:" in zone else 12, 0, 0, 123456
    )
    assert (value.tzinfo is None) == (zone == "")


DECIMALS = {
    "decimal256 that fits": (pa.decimal256(50, 2), [Decimal("1.10"), None, Decimal("-99999.99")]),
    "decimal32": (pa.decimal32(5, 2), [Decimal("1.10"), None, Decimal("999.99")]),
    "38 digits": (pa.decimal128(38, 2), [Decimal("9" * 36 + ".99"), None, Decimal("0.01")]),
}


@pytest.mark.parametrize("name", DECIMALS)
def test_decimals_stay_exact(name: str, read) -> None:
    kind, values = DECIMALS[name]
    column = read({"a.parquet": pa.table({"time": TIME, "x": pa.array(values, kind)})})
    assert column.to_pylist() == values
    assert pa.types.is_decimal128(column.type) and column.type.scale >= 0


def test_types_with_a_name_of_their_own_are_read_as_their_values(read) -> None:
    table = pa.table({"time": TIME, "x": pa.array([b"0" * 16, None, b"1" * 16], pa.uuid())})
    assert read({"a.parquet": table}).type == pa.binary()
    offset = pa.array([[TIME[0].as_py()], None, []], pa.list_(pa.timestamp("us", "+05:30")))
    column = read({"a.parquet": pa.table({"time": TIME, "x": offset})})
    assert column.type == pa.list_(US)
    inner = pa.array([{"a": Decimal("1.5")}] * 3, pa.struct([("a", pa.decimal256(40, 1))]))
    column = read({"a.parquet": pa.table({"time": TIME, "x": inner})})
    assert column.type == pa.struct([("a", pa.decimal128(38, 1))])


@pytest.mark.parametrize(
    ("folders", "values"),
    [
        (["2024-02-29", "2024-03-01"], [datetime(2024, 2, 29).date(), datetime(2024, 3, 1).date()]),
        (["2024-02-30", "2024-03-01"], ["2024-02-30", "2024-03-01"]),
        (["0000-00-00", "2024-03-01"], ["0000-00-00", "2024-03-01"]),
        (["7", "-8"], [7, -8]),
        (["-0", "8"], ["-0", "8"]),
        (["9007199254740993", "8"], ["9007199254740993", "8"]),
        (["", "a"], [None, "a"]),
    ],
)
def test_a_partition_is_what_all_its_values_are(folders: list, values: list, read) -> None:
    row = pa.table({"time": TIME.slice(0, 1)})
    files = {f"x={folder}/a.parquet": row for folder in folders}
    assert set(read(files).to_pylist()) == set(values)


def test_a_byte_order_mark_begins_no_row(read) -> None:
    line = '{"time": "2024-01-01", "x": "a"}\n'
    assert read({"a.jsonl": "\ufeff" + line + line}, format="jsonl").to_pylist() == ["a", "a"]
    assert read({"a.csv": "\ufeff" + csv(["a"])}, format="csv").to_pylist() == ["a"]


def test_json_integers_beside_fractions_stay_exact(read) -> None:
    lines = [f'{{"time": "2024-01-01", "x": {value}}}\n' for value in ("9007199254740993", "1.5")]
    column = read({"a.jsonl": "".join(lines)}, format="jsonl")
    assert column.to_pylist() == ["9007199254740993", "1.5"]
    lines = [f'{{"time": "2024-01-01", "x": {value}}}\n' for value in ("9007199254740992", "1.5")]
    assert read({"a.jsonl": "".join(lines)}, format="jsonl").to_pylist() == [2.0**53, 1.5]


SHEET = pa.table({"Date": TIME, "Unit Price (€)": [1.5, 2.5, 3.5], "note": ["a", "b", "c"]})
NAMES = {"Date": "time", "Unit Price (€)": "x"}


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl", "delta"])
@pytest.mark.parametrize("columns", [None, ["x", "time"]])
def test_columns_of_spreadsheets_get_names(form: str, columns, ingest, tmp_path: Path) -> None:
    import deltalake
    import polars as pl

    folder = tmp_path / "lake" / "events"
    folder.mkdir(parents=True)
    frame = pl.DataFrame(SHEET)
    {
        "parquet": lambda: pq.write_table(SHEET, folder / "a.parquet"),
        "csv": lambda: frame.write_csv(folder / "a.csv"),
        "jsonl": lambda: frame.with_columns(pl.col("Date").dt.to_string("iso")).write_ndjson(
            folder / "a.jsonl"
        ),
        "delta": lambda: deltalake.write_deltalake(str(folder), SHEET),
    }[form]()
    ingest(format=form, rename=NAMES, columns=columns, start="2024-01-02")
    out = read_table(tmp_path / "out", "events")
    assert out.column_names == (columns or ["time", "x", "note"])
    assert out["x"].to_pylist() == [2.5, 3.5]
    assert out["time"].to_pylist() == TIME.to_pylist()[1:]


def test_a_partition_gets_a_name_too(read) -> None:
    files = {"Order Day=2024-01-01/a.parquet": pa.table({"x": [1]}),
             "Order Day=2024-01-09/a.parquet": pa.table({"x": [2]})}  # fmt: skip
    column = read(files, time="day", rename={"Order Day": "day"}, end="2024-01-05")
    assert column.to_pylist() == [1]


@pytest.mark.parametrize("form", ["parquet", "csv", "delta"])
def test_the_manifest_counts_what_the_window_leaves_out(
    form: str, ingest, events, tmp_path: Path
) -> None:
    import deltalake
    import polars as pl

    folder = tmp_path / "lake" / "events"
    folder.mkdir(parents=True)
    for number, part in enumerate((events(30), events(40, 30), events(30, 70))):
        if form == "delta":
            deltalake.write_deltalake(str(folder), part, mode="append")
        elif form == "csv":
            pl.DataFrame(part).write_csv(folder / f"{number}.csv")
        else:
            pq.write_table(part, folder / f"{number}.parquet", row_group_size=7)
    manifest = ingest(format=form, start="2024-01-02T12:00:00", end="2024-01-03")
    info = manifest.tables["events"]
    assert (info.rows, info.before, info.after) == (12, 36, 52)
    assert manifest.headline == ("events 12 (left out: 36 before the window, 52 after it) rows")
    assert manifest.metadata()["left_out"] == {"events": {"before": 36, "after": 52}}


def test_rows_after_the_window_alone(ingest, events, write_lake) -> None:
    write_lake({"events/a.parquet": events(100)})
    manifest = ingest(start="2024-01-01", end="2024-01-02")
    assert manifest.headline == "events 24 (left out: 76 after the window) rows"


@pytest.mark.parametrize("form", ["parquet", "csv", "csv of 0 bytes", "jsonl"])
def test_an_empty_file_among_full_ones_is_said(form: str, ingest, events, tmp_path: Path) -> None:
    import polars as pl

    folder = tmp_path / "lake" / "events"
    folder.mkdir(parents=True)
    frame = pl.DataFrame(events(10)).with_columns(pl.col("time").dt.to_string("iso"))
    ending = form.partition(" ")[0]
    if form == "parquet":
        pq.write_table(events(10), folder / "b.parquet")
        pq.write_table(events(0), folder / "a.parquet")
    else:
        full = frame.write_csv() if ending == "csv" else frame.write_ndjson()
        (folder / f"b.{ending}").write_text(full)
        empty = full.splitlines(keepends=True)[0] if form == "csv" else ""
        (folder / f"a.{ending}").write_text(empty)
    manifest = ingest(format=ending)
    assert manifest.tables["events"].rows == 10
    (warning,) = manifest.tables["events"].warnings
    assert warning.startswith(str(folder / f"a.{ending}"))
    assert warning.split(f"{ending} ")[1] in ("has columns and no row", "is empty: it has 0 bytes")
    assert f"WARNING: events: {warning}" in manifest.headline


def test_many_empty_files_are_one_warning(ingest, events, write_lake) -> None:
    write_lake(
        {f"events/{n:03}.parquet": events(0) for n in range(500)} | {"events/x.parquet": events(9)}
    )
    (warning,) = ingest().tables["events"].warnings
    assert warning.startswith("500 files: ") and "000.parquet" in warning and len(warning) < 2000
    assert warning.endswith("and 492 more: each has columns and no row")


def test_a_column_that_training_needs_is_asked_for_before_anything_is_read(
    ingest, events, write_lake, tmp_path: Path
) -> None:
    lake = write_lake({"events/a.parquet": events(10)})

    def run(column: str) -> None:
        ingest_tables(
            config={"tables": {"events": {"path": "events", "time": "time"}}},
            data_root=str(lake),
            window_start="2024-01-01",
            window_end="2025-01-01",
            output=tmp_path / "out",
            required={"events": {column: "features.label.column"}},
        )

    run("open")
    with pytest.raises(
        SlipwayError,
        match=r"no column opne, which features.label.column names. Did you mean open\?",
    ):
        run("opne")


def test_a_panic_of_a_library_is_a_failure_with_a_name(
    ingest, write_lake, events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What polars and delta-rs raise where they panic is no `Exception`."""
    import polars as pl

    write_lake({"events/a.parquet": events(3)})

    def panic(*args, **kwargs):
        raise pl.exceptions.PanicException("operator does not support primitive `Int256`")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", panic)
    with pytest.raises(SlipwayError, match=r"a.parquet cannot be read: operator does not support"):
        ingest()
