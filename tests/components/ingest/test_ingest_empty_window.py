"""A window without rows: refused in training, and said where there may be none, as in monitoring."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from slipway.components.contracts.dataset import Manifest, read_manifest, read_table
from slipway.components.ingest.ingest import ingest_tables
from slipway.components.support.errors import SlipwayError


def write(folder: Path, form: str, table: pa.Table) -> None:
    if form == "delta":
        from deltalake import write_deltalake

        write_deltalake(str(folder), table)
        return
    folder.mkdir()
    if form == "parquet":
        pq.write_table(table, folder / "a.parquet")
    elif form == "csv":
        pc.write_csv(table, folder / "a.csv")
    else:
        import polars as pl

        frame = pl.DataFrame(table).with_columns(pl.col("time").dt.to_string("iso:strict"))
        frame.write_ndjson(folder / "a.jsonl")


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl", "delta"])
def test_a_window_without_rows(form: str, events: Callable[..., pa.Table], tmp_path: Path) -> None:
    write(tmp_path / "lake", form, events(48))

    def read(output: str, may_be_empty: bool) -> Manifest:
        return ingest_tables(
            config={"tables": {"events": {"path": "lake", "format": form, "time": "time"}}},
            data_root=str(tmp_path),
            window_start="2025-01-01",
            window_end="2025-02-01",
            output=tmp_path / output,
            may_be_empty=may_be_empty,
        )

    with pytest.raises(SlipwayError, match="has no row with time from 2025-01-01"):
        read("refused", may_be_empty=False)
    assert not (tmp_path / "refused").exists()
    manifest = read("empty", may_be_empty=True)
    assert read_manifest(tmp_path / "empty") == manifest
    info = manifest.tables["events"]
    assert (info.rows, info.before, info.after) == (0, 48, 0)
    (warning,) = info.warnings
    assert "has no row with time from 2025-01-01T00:00:00Z to 2025-02-01T00:00:00Z" in warning
    table = read_table(tmp_path / "empty", "events", ["id", "time", "amount"])
    assert table.num_rows == 0
    assert table.schema.field("time").type == pa.timestamp("us", "UTC")
