"""csv and jsonl: the types that hold for every row of every file."""

import gzip
import re
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

from slipway.components.contracts.dataset import read_table
from slipway.components.ingest.formats import lines
from slipway.components.support.errors import SlipwayError

CSV = """id,time,n,x,b,zip,d,note
a,2024-01-01T00:00:00Z,1,1,true,01234,2024-01-01,"one, two"
b,2024-01-02T00:00:00Z,,2.5,false,99999,2024-01-02,"line
break"
c,2024-01-03T00:00:00Z,3,,,00001,,
d,2024-01-04T00:00:00Z,4,10.25,true,12345,2024-01-04,""
"""
JSONL = """{"id": "a", "time": "2024-01-01T00:00:00Z", "n": 1, "x": 1, "b": true, "q": "7"}

{"id": "b", "time": "2024-01-02T00:00:00Z", "n": null, "x": 2.5, "b": false, "d": "2024-01-02"}
"""


@pytest.fixture
def write_text(tmp_path: Path):
    def write(name: str, content: str | bytes) -> None:
        path = tmp_path / "lake" / "events" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return write


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_csv_types(ending: str, ingest, write_text, tmp_path: Path) -> None:
    write_text(f"a.{ending}", gzip.compress(CSV.encode()) if ending == "csv.gz" else CSV)
    manifest = ingest(format="csv", end="2024-01-04")
    assert manifest.tables["events"].columns == {
        "id": "string",
        "time": "timestamp[us, tz=UTC]",
        "n": "int64",
        "x": "double",
        "b": "bool",
        "zip": "string",
        "d": "date32[day]",
        "note": "string",
    }
    out = read_table(tmp_path / "out", "events").to_pydict()
    assert out["n"] == [1, None, 3] and out["x"] == [1.0, 2.5, None]
    assert out["b"] == [True, False, None] and out["zip"] == ["01234", "99999", "00001"]
    assert out["d"] == [date(2024, 1, 1), date(2024, 1, 2), None]
    assert out["note"] == ["one, two", "line\nbreak", None]


def test_a_type_that_shows_late_holds_from_the_start(
    ingest, write_text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK", 4096)
    rows = [f"{i},2024-01-01T00:{i % 60:02d}:00Z,{i},{i}" for i in range(3000)]
    rows[2999] = "2999,2024-01-01T00:59:00Z,0.5,N123"
    write_text("a.csv", "id,time,x,tail\n" + "\n".join(rows) + "\n")
    manifest = ingest(format="csv")
    assert manifest.tables["events"].columns["x"] == "double"
    assert manifest.tables["events"].columns["tail"] == "string"
    out = read_table(tmp_path / "out", "events")
    assert out.num_rows == 3000
    assert (out["x"][2998].as_py(), out["tail"][2998].as_py()) == (2998.0, "2998")


def test_whole_numbers_in_one_file_and_fractions_in_another(
    ingest, write_text, tmp_path: Path
) -> None:
    write_text("a.csv", "time,x\n2024-01-01T00:00:00Z,1\n")
    write_text("b.csv", "time,x\n2024-01-02T00:00:00Z,1.5\n")
    ingest(format="csv")
    assert read_table(tmp_path / "out", "events")["x"].to_pylist() == [1.0, 1.5]


def test_declared_types_and_chosen_columns(ingest, write_text, tmp_path: Path) -> None:
    write_text("a.csv", CSV)
    ingest(format="csv", columns=["n", "time", "zip"], types={"n": "string", "zip": "integer"})
    out = read_table(tmp_path / "out", "events")
    assert out.column_names == ["n", "time", "zip"]
    assert out["n"].to_pylist() == ["1", None, "3", "4"]
    assert out["zip"].to_pylist() == [1234, 99999, 1, 12345]


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("timestamp", "1700000000", "a number such as 1700000000 does not say what it counts"),
        ("date", "19000", "a number such as 19000 does not say what it counts"),
        ("boolean", "2", "'2' is no boolean"),
        ("boolean", "0.5", "'0.5' is no boolean"),
    ],
)
def test_what_json_typed_is_not_read_as_something_else(
    kind: str, value: str, says: str, ingest, write_text
) -> None:
    row = '{"time": "2024-01-01T00:00:00Z", "x": %s}\n'
    write_text("a.jsonl", row % "null" + row % value)
    with pytest.raises(SlipwayError, match=re.escape(f"the type {kind}: {says}")):
        ingest(format="jsonl", types={"x": kind})


def test_0_and_1_are_booleans_where_that_is_declared(ingest, write_text, tmp_path: Path) -> None:
    row = '{"time": "2024-01-01T00:00:00Z", "x": %s}\n'
    write_text("a.jsonl", "".join(row % value for value in ("1", "0", "null")))
    ingest(format="jsonl", types={"x": "boolean"})
    assert read_table(tmp_path / "out", "events")["x"].to_pylist() == [True, False, None]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_folders_become_columns(form: str, ingest, write_text, tmp_path: Path) -> None:
    row = {"csv": "n,time\n%d,2024-01-01\n", "jsonl": '{"n": %d, "time": "2024-01-01"}\n'}[form]
    for number, folder in enumerate(
        ("day=2024-01-01/shop=07", "day=2024-01-02/shop=a%20b", "day=/shop=8")
    ):
        write_text(f"{folder}/a.{form}", row % number)
    ingest(format=form, columns=["store", "n", "time", "day"], rename={"shop": "store"})
    out = read_table(tmp_path / "out", "events").sort_by("n")
    assert out.column_names == ["store", "n", "time", "day"]
    assert out["store"].to_pylist() == ["07", "a b", "8"]
    assert out["day"].to_pylist() == [date(2024, 1, 1), date(2024, 1, 2), None]


def test_a_folder_gives_way_to_a_column_of_its_name(ingest, write_text, tmp_path: Path) -> None:
    write_text("n=7/a.csv", "n,time\n1,2024-01-01\n")
    ingest(format="csv")
    assert read_table(tmp_path / "out", "events")["n"].to_pylist() == [1]


def test_times_with_one_offset_become_utc(ingest, write_text, tmp_path: Path) -> None:
    write_text("a.csv", "time,n\n2024-01-01 06:00:00+05:30,1\n2024-01-02 06:00:00+05:30,2\n")
    ingest(format="csv")
    first = read_table(tmp_path / "out", "events")["time"][0].as_py()
    assert first == datetime(2024, 1, 1, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize("block", [64, 1 << 22])
def test_jsonl_types(
    block: int, ingest, write_text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK", block)
    write_text("a.jsonl", JSONL)
    write_text("b.jsonl", '{"id": "c", "time": "2024-01-03T00:00:00Z", "n": 3}')
    ingest(format="jsonl")
    out = read_table(tmp_path / "out", "events")
    kinds = {field.name: str(field.type) for field in out.schema}
    assert kinds == {
        "id": "string",
        "time": "timestamp[us, tz=UTC]",
        "n": "int64",
        "x": "double",
        "b": "bool",
        "q": "string",
        "d": "date32[day]",
    }
    assert out.to_pylist()[1:] == [
        {
            "id": "b",
            "time": datetime(2024, 1, 2, tzinfo=UTC),
            "n": None,
            "x": 2.5,
            "b": False,
            "q": None,
            "d": date(2024, 1, 2),
        },
        {
            "id": "c",
            "time": datetime(2024, 1, 3, tzinfo=UTC),
            "n": 3,
            **dict.fromkeys("xbqd"),
        },
    ]


def test_csv_and_parquet_of_the_same_rows_have_the_same_hash(
    ingest, events, write_lake, tmp_path: Path
) -> None:
    table = events(200)
    lake = write_lake({"events/a.parquet": table})
    (lake / "text").mkdir()
    pyarrow.csv.write_csv(table, lake / "text" / "a.csv")
    first = ingest()
    assert (
        ingest(path="text", format="csv", output=tmp_path / "b").content_hash == first.content_hash
    )
    assert not list(tmp_path.glob("**/*.partial"))
    assert read_table(tmp_path / "b", "events").schema == pa.schema(table.schema)


def test_a_quote_within_a_value_is_part_of_it(ingest, write_text, tmp_path: Path) -> None:
    write_text("a.csv", 'time,n\n2024-01-01,5" pipe\n2024-01-02,"a, ""b"""\n')
    ingest(format="csv")
    assert read_table(tmp_path / "out", "events")["n"].to_pylist() == ['5" pipe', 'a, "b"']


def test_a_whole_number_that_no_integer_holds_is_text(ingest, write_text, tmp_path: Path) -> None:
    text = '{"time": "2024-01-01", "n": 7}\n{"time": "2024-01-02", "n": %d}\n'
    write_text("a.jsonl", text % (2**64 - 1) + text % 2**70)
    ingest(format="jsonl")
    read = read_table(tmp_path / "out", "events")["n"].to_pylist()
    assert read == ["7", str(2**64 - 1), "7", str(2**70)]
