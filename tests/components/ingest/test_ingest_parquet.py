"""Parquet sources: what comes out, what the window and the columns cut, what is pushed down."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from slipway.components.config.data import Table
from slipway.components.contracts import dataset as contract
from slipway.components.contracts.dataset import ROW_GROUP, read_manifest, read_table, table_files
from slipway.components.ingest.columns import Columns
from slipway.components.ingest.formats.parquet import ParquetTable
from slipway.components.ingest.ingest import ingest_tables
from slipway.components.ingest.sources import locate
from slipway.components.ingest.window import TimeBounds


def test_rows_and_manifest(ingest, events, write_lake, tmp_path: Path) -> None:
    table = events(100)
    lake = write_lake({"events/a.parquet": table.slice(0, 40), "events/b.parquet": table.slice(40)})
    manifest = ingest()
    assert read_table(tmp_path / "out", "events").equals(table)
    info = manifest.tables["events"]
    assert read_manifest(tmp_path / "out").tables == manifest.tables
    assert (info.rows, info.time) == (100, "time")
    assert (info.min_time, info.max_time) == ("2024-01-01T00:00:00Z", "2024-01-05T03:00:00Z")
    assert info.source == str(lake / "events")
    assert info.bytes == sum(f.stat().st_size for f in table_files(tmp_path / "out", "events"))
    assert info.columns == {
        "id": "string",
        "time": "timestamp[us, tz=UTC]",
        "amount": "double",
        "count": "int64",
        "kind": "string",
        "open": "bool",
    }
    assert manifest.headline == "events 100 rows"


def test_output_is_zstd_in_small_row_groups(ingest, events, write_lake, tmp_path: Path) -> None:
    write_lake({"events/a.parquet": events(8000)})
    ingest()
    metadata = pq.read_metadata(table_files(tmp_path / "out", "events")[0])
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert metadata.row_group(0).num_rows == 8000 <= ROW_GROUP


def test_a_long_table_is_cut_into_parts_and_full_row_groups(
    ingest, events, write_lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "ROW_GROUP", 100)
    monkeypatch.setattr(contract, "PART_ROWS", 300)
    table = events(750)
    write_lake({"events/a.parquet": table}, row_group_size=70)
    ingest()
    files = table_files(tmp_path / "out", "events")
    assert [pq.read_metadata(file).num_rows for file in files] == [300, 300, 150]
    groups = pq.read_metadata(files[2])
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [100, 50]
    assert read_table(tmp_path / "out", "events").equals(table)


@pytest.mark.parametrize(
    ("start", "end", "first", "rows"),
    [
        ("2024-01-02", "2024-01-03", 24, 24),
        ("2024-01-02T00:00:00Z", "2024-01-02T01:00:00Z", 24, 1),
        ("2024-01-02T01:00:00+01:00", "2024-01-02T02:00:00+01:00", 24, 1),
        ("2024-01-01T00:00:00", "2024-01-01T00:00:00.000001", 0, 1),
        ("2023-01-01", "2024-01-01T02:00:00", 0, 2),
    ],
)
def test_the_window_is_half_open(
    ingest, events, write_lake, tmp_path: Path, start: str, end: str, first: int, rows: int
) -> None:
    table = events(100)
    write_lake({"events/a.parquet": table}, row_group_size=17)
    ingest(start=start, end=end)
    assert read_table(tmp_path / "out", "events").equals(table.slice(first, rows))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "+00:00", "America/New_York", None])
def test_every_timestamp_becomes_the_same_instant(
    ingest, events, write_lake, tmp_path: Path, unit: str, zone: str | None
) -> None:
    table = events(100)
    stamps = table["time"].cast(pa.timestamp(unit, "UTC" if zone else None))
    if zone:
        stamps = stamps.cast(pa.timestamp(unit, zone))
    write_lake({"events/a.parquet": table.set_column(1, "time", stamps)}, row_group_size=10)
    ingest(start="2024-01-02", end="2024-01-03")
    assert read_table(tmp_path / "out", "events").equals(table.slice(24, 24))


def test_a_day_counts_as_its_midnight(ingest, events, write_lake, tmp_path: Path) -> None:
    table = events(96)
    write_lake({"events/a.parquet": table.set_column(1, "time", table["time"].cast(pa.date32()))})
    ingest(start="2024-01-02", end="2024-01-03")
    out = read_table(tmp_path / "out", "events")
    assert set(out["time"].to_pylist()) == {datetime(2024, 1, 2, tzinfo=UTC)}
    assert out.num_rows == 24


def test_rows_without_a_time_are_left_for_validate(
    ingest, events, write_lake, tmp_path: Path
) -> None:
    table = events(48)
    times = pc.if_else(pa.array([i == 5 for i in range(48)]), None, table["time"])
    write_lake({"events/a.parquet": table.set_column(1, "time", times)})
    ingest(start="2024-01-02", end="2024-01-03")
    out = read_table(tmp_path / "out", "events")
    assert out.num_rows == 25
    assert out["id"][0].as_py() == "event-5"


def test_columns_are_chosen_in_their_order(ingest, events, write_lake, tmp_path: Path) -> None:
    table = events(10)
    write_lake({"events/a.parquet": table})
    manifest = ingest(columns=["time", "id"])
    assert read_table(tmp_path / "out", "events").equals(table.select(["time", "id"]))
    assert list(manifest.tables["events"].columns) == ["time", "id"]


def test_other_encodings_of_text_become_text(ingest, events, write_lake, tmp_path: Path) -> None:
    table = events(30)
    other = table.set_column(4, "kind", table["kind"].dictionary_encode())
    other = other.set_column(0, "id", other["id"].cast(pa.large_string()))
    write_lake({"events/a.parquet": other.slice(0, 9), "events/b.parquet": table.slice(9)})
    ingest()
    assert read_table(tmp_path / "out", "events").equals(table)


def test_a_column_of_nulls_takes_the_type_of_the_other_files(
    ingest, events, write_lake, tmp_path: Path
) -> None:
    table = events(30)
    nulls = events(9).set_column(3, "count", pa.nulls(9))
    write_lake({"events/a.parquet": nulls, "events/b.parquet": table.slice(9)})
    manifest = ingest()
    assert manifest.tables["events"].columns["count"] == "int64"


def test_hive_partitions_become_columns(ingest, events, write_lake, tmp_path: Path) -> None:
    write_lake(
        {
            "events/day=2024-01-01/shop=7/a.parquet": events(24),
            "events/day=2024-01-02/shop=8/a.parquet": events(24, 24),
            "events/day=2024-01-03/shop=__HIVE_DEFAULT_PARTITION__/a.parquet": events(24, 48),
        }
    )
    ingest()
    out = read_table(tmp_path / "out", "events")
    assert out.schema.field("day").type == pa.date32()
    assert out.schema.field("shop").type == pa.int64()
    assert out["day"][24].as_py() == date(2024, 1, 2)
    assert [out["shop"][i].as_py() for i in (0, 24, 48)] == [7, 8, None]
    assert out.drop_columns(["day", "shop"]).equals(events(72))


def test_a_partition_can_be_the_time_column(ingest, events, write_lake, tmp_path: Path) -> None:
    write_lake(
        {f"events/day=2024-01-0{d}/a.parquet": events(24, 24 * (d - 1)) for d in range(1, 5)}
    )
    ingest(time="day", start="2024-01-02", end="2024-01-04")
    out = read_table(tmp_path / "out", "events")
    assert out.num_rows == 48
    assert out["id"][0].as_py() == "event-24"


def test_row_groups_and_columns_outside_are_not_read(events, write_lake) -> None:
    lake = write_lake(
        {"events/a.parquet": events(60), "events/b.parquet": events(40, 60)}, row_group_size=10
    )
    table = ParquetTable(
        "events",
        locate("events", str(lake / "events"), "parquet"),
        Columns("events", Table(path="events", columns=["time"])),
    )
    day_two = TimeBounds(
        column="time",
        start=datetime(2024, 1, 2, tzinfo=UTC),
        end=datetime(2024, 1, 3, tzinfo=UTC),
    )
    read = [
        (Path(file).name, batch.num_rows, batch.schema.names)
        for file, batch in table.batches(day_two)
    ]
    # Hours 24 to 47 are in the row groups 2, 3 and 4 of the first file; the second is not opened.
    assert read == [("a.parquet", 10, ["time"])] * 3
    assert (table.outside.before, table.outside.after) == (20, 50)


def test_hidden_and_marker_files_are_left_out(ingest, events, write_lake, tmp_path: Path) -> None:
    lake = write_lake({"events/a.parquet": events(10), "events/_tmp/b.parquet": events(10)})
    (lake / "events" / "_SUCCESS").touch()
    (lake / "events" / ".part.parquet").write_bytes(b"half")
    assert ingest().rows == 10


def test_a_single_file_is_a_table(ingest, events, write_lake) -> None:
    lake = write_lake({"events/a.parquet": events(10)})
    assert ingest(path=str(lake / "events" / "a.parquet")).rows == 10


def test_a_table_without_time_is_taken_whole(ingest, events, write_lake) -> None:
    write_lake({"events/a.parquet": events(10)})
    info = ingest(time=None, start="1999-01-01", end="1999-01-02").tables["events"]
    assert (info.rows, info.time, info.min_time) == (10, None, None)


def test_a_retry_leaves_one_copy(ingest, events, write_lake, tmp_path: Path) -> None:
    write_lake({"events/a.parquet": events(10)})
    first = ingest()
    assert ingest() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake", "out"]
    assert read_table(tmp_path / "out", "events").num_rows == 10


def test_the_flights_year(lake: Path, repository: Path, tmp_path: Path) -> None:
    data = yaml.safe_load((repository / "examples/flights/project.yaml").read_text())["data"]
    # As a struct parameter carries it: every number is a float.
    config = json.loads(json.dumps({"tables": data["tables"]}), parse_int=float)
    manifest = ingest_tables(
        config=config,
        data_root=str(lake),
        window_start="2013-01-01T05:00:00Z",
        window_end="2014-01-01T05:00:00Z",
        output=tmp_path / "out",
    )
    rows = {name: info.rows for name, info in manifest.tables.items()}
    assert rows == {"flights": 336_776, "weather": 26_115, "planes": 3_322}
    assert read_table(tmp_path / "out", "flights", ["arr_delay"])["arr_delay"].null_count == 9_430
