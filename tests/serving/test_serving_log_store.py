"""Writing log files: by hour, in row groups, whole or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.components.contracts.monitoring.inference_log import log_schema
from slipway.components.metrics.kinds.choose import label_type
from slipway.serving.log.store import _ROW_GROUP, LogStore

HOUR = 3_600_000_000
SCHEMA = log_schema((), label_type("binary").columns())


def batch(times: list[int], first: int = 0) -> pa.RecordBatch:
    """Rows of these moments, numbered in `row`."""
    columns = {
        "row": pa.array(range(first, first + len(times)), pa.int32()),
        "time": pa.array(times, pa.int64()).cast(SCHEMA.field("time").type),
    }
    return pa.record_batch(
        [columns.get(f.name, pa.nulls(len(times), f.type)) for f in SCHEMA], schema=SCHEMA
    )


def found(root: Path) -> dict[str, list[int]]:
    """The rows of each hour's file."""
    return {
        f"{file.parent.parent.name} {file.parent.name}": pq.ParquetFile(file)
        .read(["row"])["row"]
        .to_pylist()
        for file in root.rglob("*.parquet")
    }


def test_rows_go_to_their_hours_in_order(tmp_path: Path) -> None:
    store = LogStore(str(tmp_path / "log"))
    batches = [batch([5, HOUR + 1, 7]), batch([HOUR + 2, 26 * HOUR, 8], first=3)]
    assert store.write("m", "part", iter(batches), tmp_path) == 6
    assert found(tmp_path / "log" / "m") == {
        "date=1970-01-01 hour=00": [0, 2, 5],
        "date=1970-01-01 hour=01": [1, 3],
        "date=1970-01-02 hour=02": [4],
    }
    store.write("m", "part", iter(batches[:1]), tmp_path)
    assert found(tmp_path / "log" / "m")["date=1970-01-01 hour=00"] == [0, 2], "replaced"
    assert not list(tmp_path.rglob("*.partial"))


def test_many_small_batches_make_few_row_groups_and_many_hours_few_open_files(
    tmp_path: Path,
) -> None:
    store = LogStore(str(tmp_path / "log"))
    small = (batch([5] * 100, first=100 * i) for i in range(400))
    assert store.write("m", "small", small, tmp_path) == 40_000
    (file,) = (tmp_path / "log").rglob("small.parquet")
    metadata = pq.read_metadata(file)
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert len(groups) == 3
    assert all(size >= _ROW_GROUP for size in groups[:-1])
    assert (
        store.write("m", "year", iter([batch([h * HOUR for h in range(3000)])]), tmp_path) == 3000
    )
    assert len(list((tmp_path / "log").rglob("year.parquet"))) == 3000


def test_rows_are_not_held_until_the_end(tmp_path: Path) -> None:
    """What was read is on its way to the disk before the last rows are asked for."""
    store = LogStore(str(tmp_path / "log"))
    seen: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for i in range(40):
            seen.append(sum(file.stat().st_size for file in tmp_path.rglob("*.partial")))
            yield batch([5] * 5000, first=5000 * i)

    assert store.write("m", "long", batches(), tmp_path) == 200_000
    assert seen[20] > 0
    assert seen[39] > seen[20]


def test_what_breaks_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    store = LogStore(str(tmp_path / "log"))

    def broken() -> Iterator[pa.RecordBatch]:
        yield batch([5] * (2 * _ROW_GROUP))
        raise OSError("the spool is gone")

    with pytest.raises(OSError, match="the spool is gone"):
        store.write("m", "part", broken(), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LogStore(str(tmp_path / "log"))

    def full(writer: pq.ParquetWriter) -> None:
        writer.is_open = False
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "close", full)
    with pytest.raises(OSError, match="No space left"):
        store.write("m", "part", iter([batch([5, HOUR + 5])]), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
