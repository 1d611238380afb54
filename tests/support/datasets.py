"""Frames as a dataset, in the layout that ingest and validate write."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from slipway.components.contracts.dataset import Manifest, TableInfo, write_manifest
from slipway.components.contracts.rows.content_hash import ContentHash


def write_dataset(
    folder: Path, tables: dict[str, pl.DataFrame], window: tuple[str, str] | None
) -> Path:
    """Writes frames as a dataset, each in two parts, and returns its folder."""
    infos = {}
    for table, rows in tables.items():
        (folder / table).mkdir(parents=True, exist_ok=True)
        whole = as_ingested(rows)
        half = rows.height // 2
        for number, part in enumerate((whole[:half], whole[half:])):
            pq.write_table(part, folder / table / f"part-{number:05d}.parquet")
        infos[table] = TableInfo(
            rows=rows.height,
            bytes=0,
            content_hash=ContentHash().hex,
            columns={field.name: str(field.type) for field in whole.schema},
        )
    write_manifest(folder, Manifest(tables=infos, window=window, content_hash="hash"))
    return folder


def as_ingested(rows: pl.DataFrame) -> pa.Table:
    """A frame as ingest has it: its texts are Arrow's `string`."""
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    kinds = [
        field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(kinds))
