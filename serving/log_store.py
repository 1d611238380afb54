"""Where the inference log ends: parquet files in a folder or an object store."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from components.contracts.errors import SlipwayError
from components.contracts.inference_log import partition

_HOUR = 3_600_000_000


class LogStore:
    """Writes log rows below one root, by model and hour."""

    def __init__(self, uri: str) -> None:
        try:
            if "://" in uri:
                self._system, self._root = pafs.FileSystem.from_uri(uri)
            else:
                self._system, self._root = pafs.LocalFileSystem(), str(Path(uri).absolute())
        except (pa.ArrowException, OSError, ValueError) as error:
            raise SlipwayError(
                f"INFERENCE_LOG_URI={uri} cannot be used: {error}. Give a folder, or a prefix such"
                " as s3://bucket/inference-log."
            ) from error
        self._local = isinstance(self._system, pafs.LocalFileSystem)

    def write(self, model: str, name: str, table: pa.Table) -> None:
        """Writes the rows, one file `<name>.parquet` an hour; the same name again replaces it.

        Raises:
            OSError: the store does not take them.
        """
        if not table.num_rows:
            return
        hours = table["time"].cast(pa.int64()).to_numpy() // _HOUR
        order = np.argsort(hours, kind="stable")
        starts = np.flatnonzero(np.diff(hours[order], prepend=hours[order[0]] - 1))
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            moment = datetime.fromtimestamp(int(hours[order[start]]) * 3600, UTC)
            folder = f"{self._root}/{partition(model, moment)}"
            self._write_file(folder, name, table.take(pa.array(order[start:end])))

    def _write_file(self, folder: str, name: str, table: pa.Table) -> None:
        path = f"{folder}/{name}.parquet"
        if not self._local:
            pq.write_table(table, path, filesystem=self._system, compression="zstd")
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        partial = Path(folder) / f".{name}.partial"
        pq.write_table(table, partial, compression="zstd")
        partial.replace(path)
