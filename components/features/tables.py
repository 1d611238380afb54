"""Tables in parts, so that a long one takes no more memory than a share of it.

A reader sees all of what is written or none of it, here or in an object store.
"""

import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

ROW_GROUP = 256_000
SHARE = 1_000_000
"""A table with more rows is worked on a share of its entities at a time, of about this many rows."""
_SHARE_OF = "__slipway_share"


def write_table(rows: "pl.DataFrame", target: str) -> None:
    """Writes a parquet file (zstd, types that any Arrow reader knows).

    Args:
        rows: the table.
        target: a path, or a URI of an object store.
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

        # A stream into the store would be closed by a failure too, and what it had got stand there as a
        # whole table. A file is sent whole or not at all.
        store, path = fsspec.core.url_to_fs(target)
        with tempfile.TemporaryDirectory() as folder:
            rows = _write(parts, f"{folder}/table")
            store.put_file(f"{folder}/table", path)
        return rows
    local = Path(target)
    local.parent.mkdir(parents=True, exist_ok=True)
    partial = local.with_name(f".{local.name}.{uuid.uuid4().hex}.partial")
    try:
        rows = _write(parts, partial)
        partial.replace(local)
    finally:
        partial.unlink(missing_ok=True)
    return rows


def _write(parts: Iterable["pl.DataFrame"], file: Path | str) -> int:
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


def read_parts(source: str, columns: list[str] | None = None) -> Iterator["pl.DataFrame"]:
    """A parquet file's rows, a row group at a time; at first an empty frame with its columns.

    Args:
        source: a path, or a URI of an object store.
        columns: which; all unless said.
    """
    import fsspec
    import polars as pl
    import pyarrow.parquet as pq

    with fsspec.open(source, "rb") as file:
        parquet = pq.ParquetFile(file)
        yield pl.DataFrame(parquet.schema_arrow.empty_table()).select(columns or pl.all())
        for group in range(parquet.num_row_groups):
            yield pl.DataFrame(parquet.read_row_group(group, columns=columns))


def entity_shares(
    parts: Iterable["pl.DataFrame"], keys: list[str], rows: int
) -> Iterator["pl.DataFrame"]:
    """The rows of some parts, a share of the entities at a time and all of an entity together.

    They are scattered into scratch files by the key's hash, so that memory grows with a share alone.

    Args:
        parts: at least one frame; all have the same columns.
        keys: the entities' key columns, without nulls.
        rows: about how many there are in all; it says how many shares.
    """
    import polars as pl
    import pyarrow as pa

    shares = max(1, -(-rows // SHARE))
    entity = pl.col(keys[0]) if len(keys) == 1 else pl.struct(keys)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as open_files:
        writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        for part in parts:
            pieces = part.with_columns((entity.hash() % shares).alias(_SHARE_OF)).partition_by(
                _SHARE_OF, include_key=False, as_dict=True
            )
            for (number,), piece in pieces.items():
                table = piece.to_arrow(compat_level=pl.CompatLevel.oldest())
                if number not in writers:
                    writers[number] = open_files.enter_context(
                        pa.ipc.new_stream(f"{folder}/{number}", table.schema, options=options)
                    )
                writers[number].write_table(table)
        for writer in writers.values():
            writer.close()
        for number in sorted(writers):
            with pa.ipc.open_stream(f"{folder}/{number}") as stream:
                yield pl.DataFrame(stream.read_all())
            Path(f"{folder}/{number}").unlink()
        if not writers:
            yield part.head(0)
