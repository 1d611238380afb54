"""Writing tables so that a reader sees all of one or none of it, here or in an object store."""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

ROW_GROUP = 256_000


def write_table(rows: "pl.DataFrame", target: str) -> None:
    """Writes a parquet file (zstd, types that any Arrow reader knows).

    Args:
        rows: the table.
        target: a path, or a URI of an object store (whose writes are whole or not at all).
    """
    import polars as pl
    import pyarrow.parquet as pq

    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    if "://" in target:
        import fsspec

        with fsspec.open(target, "wb") as file:
            pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP)
        return
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        pq.write_table(table, partial, compression="zstd", row_group_size=ROW_GROUP)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
