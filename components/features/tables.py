"""Writing tables so that a reader sees all of one or none of it, here or in an object store."""

import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

ROW_GROUP = 256_000


def write_table(rows: "pl.DataFrame", target: str) -> None:
    """Writes a parquet file (zstd, types that any Arrow reader knows).

    Args:
        rows: the table.
        target: a path, or a URI of an object store (whose writes are whole or not at all).
    """
    write_parts([rows], target)


def write_parts(parts: Iterable["pl.DataFrame"], target: str) -> int:
    """Writes frames of one schema as one parquet file, each as it comes.

    Args:
        parts: at least one frame.
        target: as for `write_table`.

    Returns:
        The rows of all parts.
    """
    if "://" in target:
        import fsspec

        with fsspec.open(target, "wb") as file:
            return _write(parts, file)
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        rows = _write(parts, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return rows


def _write(parts: Iterable["pl.DataFrame"], file: Any) -> int:
    import polars as pl
    import pyarrow.parquet as pq

    rows, writer = 0, None
    try:
        for part in parts:
            table = part.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=ROW_GROUP)
            rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows
