"""Finds rows whose key an earlier row had, in memory that does not grow with the table.

A 64-bit hash of each key goes, with its row number, into one of many scratch files by the hash's
first bits; each file is then sorted alone. Candidates found that way are compared by their real
values, so that two keys with one hash are not called equal.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

from slipway.components.contracts.dataset import table_files
from slipway.components.contracts.rows.content_hash import row_hashes
from slipway.components.contracts.table_schema.checks import Span
from slipway.components.validate.footers import spans_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_FILES = 64
_COMPARED = 1_000_000
_RECORD = [("hash", "<u8"), ("row", "<i8")]


def repeated_keys(
    folder: Path, table: str, key: tuple[str, ...], rows: range
) -> "np.ndarray | None":
    """Which of some rows have a key that an earlier row has; keys with a null are not compared.

    Of the rows before them those are read whose row groups may hold such a key, by their footers.

    Args:
        folder: the dataset.
        table: the table.
        key: the key's columns.
        rows: whole row groups of the table, by their numbers.

    Returns:
        bool, shape [rows]; None where every key is different.
    """
    import numpy as np

    later, involved, count = np.zeros(len(rows), bool), [], 0
    with ExitStack() as files:
        scratch = [files.enter_context(tempfile.TemporaryFile()) for _ in range(_FILES)]
        for start, batch in _batches(folder, table, key, rows):
            _scatter(batch, start, scratch)
        for file in scratch:
            entries, runs = _sorted(file)
            repeats = np.append(False, runs[1:] == runs[:-1])[: len(runs)]
            repeats &= entries["row"] >= rows.start
            if not repeats.any():
                continue
            later[entries["row"][repeats] - rows.start] = True
            count += int(np.count_nonzero(repeats))
            if count <= _COMPARED:
                involved.append(entries["row"][np.isin(runs, runs[repeats])])
    if not count:
        return None
    together = np.sort(np.concatenate(involved)) if involved else np.zeros(0, np.int64)
    if count > _COMPARED or len(together) > 2 * _COMPARED:
        # Chance alone gives far less than one equal hash here; it cannot change the verdict.
        return later
    return _compared(folder, table, key, rows, together)


def _scatter(batch: "pa.RecordBatch", start: int, files: Sequence[IO[bytes]]) -> None:
    """Writes hash and row number of each key to the file that the hash's first bits name."""
    import numpy as np

    hashes = row_hashes(_by_value(batch))
    entries = np.empty(len(hashes), _RECORD)
    entries["hash"], entries["row"] = hashes, np.arange(start, start + len(hashes))
    if any(column.null_count for column in batch.columns):
        entries = entries[_whole(batch)]
    buckets = (entries["hash"] >> np.uint64(58)).astype(np.uint8)
    order = np.argsort(buckets, kind="stable")
    entries, ends = entries[order], np.searchsorted(buckets[order], np.arange(_FILES + 1))
    for bucket, file in enumerate(files):
        file.write(entries[ends[bucket] : ends[bucket + 1]].tobytes())


def _sorted(file: IO[bytes]) -> "tuple[np.ndarray, np.ndarray]":
    """A file's entries by hash, rows of one hash in order; and the number of each entry's hash."""
    import numpy as np

    file.seek(0)
    entries = np.frombuffer(file.read(), _RECORD)
    entries = entries[np.argsort(entries["hash"], kind="stable")]
    changes = np.append(False, entries["hash"][1:] != entries["hash"][:-1])
    return entries, np.cumsum(changes[: len(entries)])


def _batches(
    folder: Path, table: str, key: tuple[str, ...], rows: range
) -> Iterator[tuple[int, "pa.RecordBatch"]]:
    """The keys of some rows, and of those before them that may equal one; with the first's number."""
    import pyarrow.parquet as pq

    groups, start = [], 0
    for file in table_files(folder, table):
        footer = pq.read_metadata(file)
        schema = footer.schema.to_arrow_schema()
        for index in range(footer.num_row_groups):
            if start >= rows.stop:
                break
            spans = spans_of(footer.row_group(index), schema)
            groups.append((file, index, start, [spans[name] for name in key]))
            start += footer.row_group(index).num_rows
    own = [spans for _, _, first, spans in groups if first >= rows.start]
    parquet = None
    for file, index, first, theirs in groups:
        if first < rows.start and any(map(_apart, theirs, zip(*own, strict=True))):
            continue
        if parquet is None or parquet[0] != file:
            parquet = file, pq.ParquetFile(file)
        found = parquet[1].read_row_group(index, columns=list(key), use_threads=False)
        for batch in found.select(list(key)).combine_chunks().to_batches():
            yield first, batch


def _apart(span: Span, others: tuple[Span, ...]) -> bool:
    """Whether footers show that no value of a row group is one of the others'."""
    if span.low is None or span.high is None:
        return False
    return all(
        other.low is not None
        and other.high is not None
        and (span.high < other.low or span.low > other.high)
        for other in others
    )


def _by_value(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """The batch with 0.0 for -0.0, which are one value in two ways to write it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not any(pa.types.is_floating(field.type) for field in batch.schema):
        return batch
    columns = [
        pc.add(column, pa.scalar(0.0, column.type)) if pa.types.is_floating(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _whole(batch: "pa.RecordBatch") -> "np.ndarray":
    """The rows of a batch without a null."""
    import numpy as np

    whole = np.ones(batch.num_rows, bool)
    for column in batch.columns:
        whole &= column.is_valid().to_numpy(zero_copy_only=False)
    return whole


def _compared(
    folder: Path, table: str, key: tuple[str, ...], rows: range, involved: "np.ndarray"
) -> "np.ndarray | None":
    """Of the rows `involved`, int64 ascending, those of `rows` whose key an earlier one has by value."""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    parts = []
    for start, batch in _batches(folder, table, key, rows):
        first, end = np.searchsorted(involved, [start, start + batch.num_rows])
        if first < end:
            parts.append(_by_value(batch.take(pa.array(involved[first:end] - start))))
    keys = pl.DataFrame(pa.Table.from_batches(parts))
    first = keys.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    repeats = involved[~first]
    later = np.zeros(len(rows), bool)
    later[repeats[repeats >= rows.start] - rows.start] = True
    return later if later.any() else None
