"""What ingest refuses, naming the file and the reason; nothing is left behind."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.components.contracts.dataset import read_table
from slipway.components.support.errors import SlipwayError

TIME = pa.array([datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2)], pa.timestamp("us", "UTC"))
GOOD = pa.table({"id": ["a", "b"], "time": TIME, "n": [1, 2]})
CSV = "id,time,n\na,2024-01-01T00:00:00Z,1\nb,2024-01-02T00:00:00Z,2\n"
JSONL = '{"id": "a", "time": "2024-01-01T00:00:00Z", "n": 1}\n'


def with_column(name: str, values: pa.Array) -> pa.Table:
    return GOOD.set_column(GOOD.schema.names.index(name), name, values)


def parquet(*tables: pa.Table) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for number, table in enumerate(tables):
            pq.write_table(table, folder / f"{number}.parquet")

    return write


def text(*contents: str | bytes, ending: str = "csv") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for number, content in enumerate(contents):
            data = content.encode() if isinstance(content, str) else content
            (folder / f"{number}.{ending}").write_bytes(data)

    return write


def truncated(folder: Path) -> None:
    pq.write_table(GOOD, folder / "whole.parquet")
    (folder / "zz.parquet").write_bytes((folder / "whole.parquet").read_bytes()[:-40])


def damaged_page(folder: Path) -> None:
    path = folder / "0.parquet"
    pq.write_table(pa.table({"id": [str(i) for i in range(9999)]}), path, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[5000] ^= 0xFF
    path.write_bytes(data)


@dataclass(frozen=True)
class Case:
    """What lies in lake/events, how the table is declared, and words of the message."""

    name: str
    write: Callable[[Path], None]
    says: list[str]
    table: dict | None = None
    window: tuple[str, str] = ("2024-01-01", "2025-01-01")


CASES = [
    Case(
        "missing path",
        parquet(GOOD),
        ["nothing at", "lake/sales", "holds: events"],
        {"path": "sales"},
    ),
    Case(
        "missing deep path",
        parquet(GOOD),
        ["nothing at", "sales/2024/x", "holds: events"],
        {"path": "sales/2024/x"},
    ),
    Case(
        "path below a file",
        parquet(GOOD),
        ["nothing at", "0.parquet/x. ", "0.parquet is a file"],
        {"path": "events/0.parquet/x"},
    ),
    Case(
        "no time at all",
        parquet(with_column("time", pa.nulls(2, TIME.type))),
        ["no row with time from", "(exclusive)."],
    ),
    Case("empty folder", lambda folder: None, ["holds no parquet file", "It is empty"]),
    Case("another format", text(CSV), ["holds no parquet file", "There is: 0.csv"]),
    Case("empty parquet file", text(b"", ending="parquet"), ["0.parquet is empty: it has 0 bytes"]),
    Case("parquet without rows", parquet(GOOD.slice(0, 0)), ["no row with time from 2024-01-01"]),
    Case(
        "parquet without rows or time",
        parquet(GOOD.slice(0, 0)),
        ["has columns but no row"],
        {"time": None},
    ),
    Case("truncated parquet", truncated, ["zz.parquet cannot be read", "magic bytes"]),
    Case("damaged page", damaged_page, ["0.parquet cannot be read", "CRC"], {"time": None}),
    Case("not parquet", text(b"x" * 999, ending="parquet"), ["0.parquet cannot be read"]),
    Case(
        "type changes",
        parquet(GOOD, with_column("n", pa.array([1.0, 2.0]))),
        ["column n changes type", "double in", "1.parquet", "int64 in", "0.parquet"],
    ),
    Case(
        "column goes",
        parquet(GOOD, GOOD.drop_columns(["n"])),
        ["columns differ", "1.parquet lacks n", "0.parquet"],
    ),
    Case(
        "column comes",
        parquet(GOOD.drop_columns(["n"]), GOOD),
        ["columns differ", "1.parquet has n besides"],
    ),
    Case("unknown column", parquet(GOOD), ["no column m", "id, time, n"], {"columns": ["time", "m"]}),
    Case("column twice", parquet(pa.table([TIME, TIME], ["time", "time"])), ["column time more"]),
    Case("window without rows", parquet(GOOD), [
        "no row with time from 2025-01-01T00:00:00Z to 2026-01-01T00:00:00Z",
        "rows are from 2024-01-01 00:00:00+00:00 to 2024-01-02",
    ], window=("2025-01-01", "2026-01-01")),
    Case(
        "mixed zones",
        parquet(GOOD, with_column("time", TIME.cast(pa.timestamp("us", "America/New_York")))),
        ["mixes time zones", "America/New_York", "1.parquet", "0.parquet"],
    ),
    Case(
        "zone and no zone",
        parquet(GOOD, with_column("time", TIME.cast(pa.timestamp("us")))),
        ["mixes time zones", "1.parquet"],
    ),
    Case("time is text", parquet(with_column("time", pa.array(["x", "y"]))), ["column time is string"]),
    Case("no such time", parquet(GOOD), ["has no column when", "id, time, n"], {"time": "when"}),
    Case("time not chosen", parquet(GOOD), [
        "`columns` must name the time column time"
    ], {"columns": ["id"]}),
    Case("types for parquet", parquet(GOOD), [
        "data settings are wrong", "`types` is for csv"
    ], {"types": {"n": "string"}}),
    Case("ragged csv", text(CSV + "c,2024-01-03T00:00:00Z\n"), [
        "0.csv is ragged", "Row #4", "Expected 3 columns, got 2"
    ], {"format": "csv"}),
    Case("long csv row", text(CSV + "c,2024-01-03T00:00:00Z,3,4\n"), ["got 4"], {"format": "csv"}),
    Case("latin-1 csv", text(CSV.encode() + b"\xe9,2024-01-03T00:00:00Z,3\n"), [
        "0.csv is not UTF-8"
    ], {"format": "csv"}),
    Case("utf-16 csv", text(CSV.encode("utf-16")), ["0.csv is not UTF-8", "UTF-16"], {"format": "csv"}),
    Case("open quote", text(CSV + '"c,2024-01-03T00:00:00Z,3\nd,2024-01-04T00:00:00Z,4\n', CSV), [
        "0.csv is ragged"
    ], {"format": "csv"}),
    Case("open quote at the end", text('n,time,id\n1,2024-01-01T00:00:00Z,"a\n2,2024-01-02,b\n'), [
        "0.csv has a quote that is not closed", "begins on line 2"
    ], {"format": "csv"}),
    Case("csv column twice", text(CSV.replace("id,", "n,")), ["0.csv has the column n more than once"], {
        "format": "csv"
    }),
    Case("empty csv", text(b"", b""), ["0.csv is empty: it has 0 bytes"], {"format": "csv"}),
    Case("empty jsonl", text(b"\n \n", ending="jsonl"), ["0.jsonl is empty: it has no row"], {
        "format": "jsonl"
    }),
    Case("csv header only", text(CSV.splitlines()[0] + "\n"), ["no row with time"], {"format": "csv"}),
    Case("csv type changes", text(CSV, CSV.replace(",2\n", ",two\n")), [
        "column n changes type", "string in", "1.csv", "integer in", "0.csv", "types: {n: string}"
    ], {"format": "csv"}),
    Case("csv columns differ", text(CSV, CSV.replace("n\n", "m\n", 1)), [
        "columns differ", "1.csv has id, time, m"
    ], {"format": "csv"}),
    Case("csv mixed offsets", text(CSV + "c,2024-01-03T00:00:00+01:00,3\n"), [
        "mixes time zones", "offset +01:00", "offset Z"
    ], {"format": "csv"}),
    Case("csv offset and none", text(CSV, CSV.replace("00Z", "00")), [
        "mixes time zones", "no offset in", "1.csv"
    ], {"format": "csv"}),
    Case("csv declared type", text(CSV.replace(",2\n", ",two\n")), [
        "column n of", "0.csv", "integer", "two"
    ], {"format": "csv", "types": {"n": "integer"}}),
    Case("csv unknown type", text(CSV), ["`types:` names m"], {"format": "csv", "types": {"m": "date"}}),
    Case("jsonl broken line", text(JSONL + '{"id": \n', ending="jsonl"), [
        "0.jsonl, line 2: not JSON"
    ], {"format": "jsonl"}),
    Case("jsonl NaN", text(JSONL, '{"id": NaN}\n', ending="jsonl"), [
        "1.jsonl, line 1: not JSON: NaN is no JSON value"
    ], {"format": "jsonl"}),
    Case("jsonl no object", text(JSONL + "[1]\n", ending="jsonl"), [
        "0.jsonl, line 2", "JSON object"
    ], {"format": "jsonl"}),
    Case("jsonl latin-1", text(JSONL.encode() + b'{"id": "\xe9"}\n', ending="jsonl"), [
        "0.jsonl, line 2: not UTF-8"
    ], {"format": "jsonl"}),
    Case("jsonl repeated key", text(JSONL + '{"id": "a", "n": 1, "id": "b"}\n', ending="jsonl"), [
        "0.jsonl, line 2: the key 'id' stands in it more than once"
    ], {"format": "jsonl"}),
    Case("jsonl repeated key in escapes", text(JSONL, '{"id": "a", "\\u0069d": "b"}', ending="jsonl"), [
        "1.jsonl, line 1: the key 'id' stands"
    ], {"format": "jsonl"}),
    Case("jsonl high surrogate", text(JSONL + '{"id": "x\\ud800"}\n', ending="jsonl"), [
        "0.jsonl, line 2: half a surrogate pair"
    ], {"format": "jsonl"}),
    Case("jsonl low surrogate", text(JSONL + '{"id": "\\udc00y"}\n', ending="jsonl"), [
        "0.jsonl, line 2: half a surrogate pair"
    ], {"format": "jsonl"}),
    Case("jsonl too large", text(JSONL + '{"n": 1e400}\n', ending="jsonl"), [
        "0.jsonl, line 2", "1e400 is larger than any number"
    ], {"format": "jsonl"}),
    Case("jsonl repeated key, another left out", text(
        JSONL + '{"id": "a", "id": "b", "n": 1}\n', ending="jsonl"
    ), ["0.jsonl, line 2: the key 'id' stands"], {"format": "jsonl"}),
    Case("jsonl repeated key beside null", text(
        JSONL + '{"id":"a","time":null,"n":1}\n{"id":":null","id":"b","n":1}\n', ending="jsonl"
    ), ["0.jsonl, line 3: the key 'id' stands"], {"format": "jsonl"}),
    Case("jsonl utf-16", text(JSONL.encode("utf-16"), ending="jsonl"), [
        "0.jsonl is not UTF-8", "UTF-16"
    ], {"format": "jsonl"}),
    Case("csv declared time", text(CSV.replace("2024-01-02T00:00:00Z", "soon")), [
        "'soon' is no timestamp"
    ], {"format": "csv", "types": {"time": "timestamp"}}),
    Case("a folder that is no day", lambda folder: [
        (folder / f"day={day}").mkdir() or pq.write_table(GOOD, folder / f"day={day}" / "a.parquet")
        for day in ("2024-02-29", "2024-02-30")
    ], ["time column day is string", "The folder day=2024-02-30 is no day: rename it."], {"time": "day"}),
    Case("jsonl column nowhere", text(JSONL, ending="jsonl"), ["`columns:` names m"], {
        "format": "jsonl", "columns": ["time", "m"]
    }),
    Case("jsonl nested", text('{"id": [1]}\n', ending="jsonl"), [
        "column id", "lists or objects"
    ], {"format": "jsonl", "time": None}),
    Case("jsonl type changes", text(JSONL, JSONL.replace(": 1}", ': "x"}'), ending="jsonl"), [
        "column n changes type", "1.jsonl"
    ], {"format": "jsonl"}),
    Case("jsonl mixed offsets", text(JSONL, JSONL.replace("00Z", "00-05:00"), ending="jsonl"), [
        "mixes time zones", "offset -05:00"
    ], {"format": "jsonl"}),
    Case("csv declared hex", text(CSV.replace(",2\n", ",0x1F\n")), ["'0x1F' is no integer"], {
        "format": "csv", "types": {"n": "integer"}
    }),
    Case("csv declared inf", text(CSV.replace(",2\n", ",inf\n")), ["'inf' is no number"], {
        "format": "csv", "types": {"n": "number"}
    }),
    Case("csv declared too large", text(CSV.replace(",2\n", ",1e999\n")), ["column n", "number"], {
        "format": "csv", "types": {"n": "number"}
    }),
    Case("csv no such moment", text(CSV.replace("01-02T", "02-30T")), [
        "time column time is string", "'2024-02-30T00:00:00Z' in row 2 of", "0.csv is no time"
    ], {"format": "csv"}),
    Case("csv column without a name", text("," + CSV.replace("\n", "\n1,").removesuffix("1,")), [
        "0.csv has a column without a name (column 1 of 4)", '`rename: {"": row}`'
    ], {"format": "csv"}),
    Case("no delta table", parquet(GOOD), ["no Delta table at"], {"format": "delta"}),
    Case("time too large", parquet(with_column("n", pa.array([1, 2**63 - 1], pa.timestamp("ms")))), [
        "Table events", "0.parquet: the column n, timestamp[ms]", "9223372036854775807"
    ]),
    Case("day too large", parquet(with_column("time", pa.array([1, 2**31 - 1], pa.date32()))), [
        "the column time, date32[day]", "2147483647"
    ]),
    Case("decimal too large", parquet(with_column("n", pa.array([1, 10**40], pa.decimal256(60, 2)))), [
        "the column n, decimal256(60, 2)", "cannot hold"
    ]),
    Case("decimal too fine", parquet(with_column("n", pa.array([1, 2], pa.decimal256(76, 40)))), [
        "the column n of", "0.parquet is decimal256(76, 40), which no stage can read"
    ]),
    Case("renamed nothing", parquet(GOOD), ["`rename:` names Preis", "id, time, n"], {
        "rename": {"Preis": "price"}
    }),
    Case("renamed to another", parquet(GOOD), ["`rename:` gives n to a column", "another column"], {
        "rename": {"id": "n"}
    }),
    Case("renamed twice", parquet(GOOD), ["`rename` gives x to more than one column"], {
        "rename": {"id": "x", "n": "x"}
    }),
    Case("old name chosen", parquet(GOOD), ["no column n", "called number since `rename:`"], {
        "rename": {"n": "number"}, "columns": ["time", "n"]
    }),
    Case("unknown scheme", parquet(GOOD), ["'hdfs://' is not a source"], {"path": "hdfs://x/y"}),
    Case("metadata", parquet(GOOD), ["Table events", "a cloud's metadata service"], {
        "path": "http://169.254.169.254/latest/meta-data/iam/x.parquet"
    }),
    Case("password", parquet(GOOD), ["holds a password"], {"path": "https://a:b@host/x.parquet"}),
    Case("token", parquet(GOOD), ["holds a password or a token"], {
        "path": "https://abc123@host/x.parquet"
    }),
    Case("no host", parquet(GOOD), ["https://[x/y.parquet cannot be read"], {"path": "https://[x/y.parquet"}),
    Case("window backwards", parquet(GOOD), ["is not before end"], window=("2025-01-01", "2024-01-01")),
    Case("window no time", parquet(GOOD), ["data settings are wrong", "window"], window=("soon", "")),
    Case("unknown setting", parquet(GOOD), ["tables.events.colums"], {"colums": ["id"]}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refuses(case: Case, ingest, tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "events"
    folder.mkdir(parents=True)
    case.write(folder)
    start, end = case.window
    with pytest.raises(SlipwayError) as caught:
        ingest(start=start, end=end, **(case.table or {}))
    message = str(caught.value)
    assert [words for words in case.says if words not in message] == [], message
    assert "\n" not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake"]


def test_an_earlier_dataset_outlives_a_refusal(ingest, events, write_lake, tmp_path: Path) -> None:
    lake = write_lake({"events/a.parquet": events(10)})
    ingest()
    (lake / "events" / "b.parquet").write_bytes(b"")
    with pytest.raises(SlipwayError):
        ingest()
    assert read_table(tmp_path / "out", "events").equals(events(10))


FULL_DISK = """
import resource, sys
from pathlib import Path
from slipway.components.ingest.ingest import ingest_tables
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
table = {"path": "events", "time": "time", "format": sys.argv[2]}
ingest_tables(config={"tables": {"events": table}}, data_root=sys.argv[1] + "/lake",
              window_start="2024-01-01", window_end="2034-01-01", output=Path(sys.argv[1]) / "out")
"""


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_disk_that_takes_no_more(form: str, events, write_lake, tmp_path: Path) -> None:
    """A limit on a file's size fails a write as a full disk does."""
    lake = write_lake({"events/a.parquet": events(80_000)})
    if form == "csv":
        import pyarrow.csv

        pyarrow.csv.write_csv(events(80_000), lake / "events" / "a.csv")
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), form],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert f"Writing the table below {tmp_path}" in run.stderr
    assert "File too large" in run.stderr and "Nothing of it is kept" in run.stderr
    assert "Traceback" not in run.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk(ingest, events, write_lake, tmp_path: Path) -> None:
    write_lake({"events/a.parquet": events(80_000)})
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", small],
        capture_output=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip("this container may not mount a tmpfs")
    try:
        with pytest.raises(SlipwayError, match="No space left on device"):
            ingest(end="2034-01-01", output=small / "out")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)
