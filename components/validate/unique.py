"""Finds rows whose key an earlier row had, in memory that does not grow with the table.

A 64-bit hash of each key goes, with its row number, into one of many scratch files by the hash's
first bits; each file is then sorted alone. Candidates found that way are compared by their real
values, so that two keys with one hash are not called equal.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.contracts.dataset import read_batches
from slipway.components.contracts.rows.content_hash import row_hashes

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_FILES = 64
_COMPARED = 1_000_000


def repeated_keys(folder: Path, table: str, key: tuple[str, ...], rows: int) -> "np.ndarray | None":
    """Which rows have a key that an earlier row has; keys with a null are not compared.

    Args:
        folder: the dataset.
        table: the table.
        key: the key's columns.
        rows: the table's rows.

    Returns:
        bool, shape [rows]; None where every key is different.
    """
    import numpy as np

    record = np.dtype([("hash", "<u8"), ("row", "<i8")])
    later, involved = np.zeros(rows, bool), np.zeros(rows, bool)
    with ExitStack() as files:
        scratch = [files.enter_context(tempfile.TemporaryFile()) for _ in range(_FILES)]
        start = 0
        for batch in read_batches(folder, table, list(key)):
            hashes = row_hashes(_by_value(batch))
            entries = np.empty(len(hashes), record)
            entries["hash"], entries["row"] = hashes, np.arange(start, start + len(hashes))
            start += len(hashes)
            if any(column.null_count for column in batch.columns):
                entries = entries[_whole(batch)]
            buckets = (entries["hash"] >> np.uint64(58)).astype(np.uint8)
            order = np.argsort(buckets, kind="stable")
            entries, ends = entries[order], np.searchsorted(buckets[order], np.arange(_FILES + 1))
            for bucket, file in enumerate(scratch):
                file.write(entries[ends[bucket] : ends[bucket + 1]].tobytes())
        for file in scratch:
            file.seek(0)
            entries = np.frombuffer(file.read(), record)
            entries = entries[np.argsort(entries["hash"], kind="stable")]
            same = entries["hash"][1:] == entries["hash"][:-1]
            later[entries["row"][1:][same]] = True
            involved[entries["row"][1:][same]] = True
            involved[entries["row"][:-1][same]] = True
    if not later.any():
        return None
    if np.count_nonzero(involved) > _COMPARED:
        # Chance alone gives far less than one equal hash here; it cannot change the verdict.
        return later
    return _compared(folder, table, key, involved)


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
    folder: Path, table: str, key: tuple[str, ...], involved: "np.ndarray"
) -> "np.ndarray | None":
    """Of the rows `involved`, those whose key, value for value, an earlier one has."""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    parts, start = [], 0
    for batch in read_batches(folder, table, list(key)):
        mask = involved[start : start + batch.num_rows]
        start += batch.num_rows
        if mask.any():
            parts.append(_by_value(batch.filter(pa.array(mask))))
    keys = pl.DataFrame(pa.Table.from_batches(parts))
    later = np.zeros(len(involved), bool)
    first = keys.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    later[np.flatnonzero(involved)[~first]] = True
    return later if later.any() else None
