"""Where the inference log ends: parquet files in a folder or an object store."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from slipway.components.contracts.monitoring.inference_log import partition
from slipway.components.support.errors import SlipwayError
from slipway.serving.object_store import open_store, transfer

_HOUR = 3_600_000_000
# A row group is written with so many rows, or bytes of them.
_ROW_GROUP, _ROW_GROUP_BYTES = 16_384, 32_000_000


class LogStore:
    """Writes log rows below one root, by model and hour."""

    def __init__(self, uri: str) -> None:
        try:
            self._system, self._root = open_store(uri)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise SlipwayError(
                f"INFERENCE_LOG_URI={uri} cannot be used: {error}. Give a folder, or a prefix such"
                " as s3://bucket/inference-log."
            ) from error
        self._local = isinstance(self._system, pafs.LocalFileSystem)

    def write(self, model: str, name: str, batches: Iterable[pa.RecordBatch], scratch: Path) -> int:
        """Writes the rows, one file `<name>.parquet` an hour; the same name again replaces it.

        Memory holds the rows of an hour that make no whole row group yet, and no more. A file becomes
        visible when it is whole.

        Args:
            model: name of the model.
            name: of the files.
            batches: rows of the log.
            scratch: local folder for files on their way to an object store.

        Returns:
            How many rows were written.

        Raises:
            OSError: the store does not take them.
        """
        files: dict[int, _HourFile] = {}
        rows = 0
        try:
            for batch in batches:
                hours = batch["time"].cast(pa.int64()).to_numpy() // _HOUR
                for hour in np.unique(hours).tolist():
                    if hour not in files:
                        files[hour] = _HourFile(self._partial(model, name, hour, scratch))
                    files[hour].add(batch.filter(pa.array(hours == hour)))
                rows += batch.num_rows
            for hour, file in files.items():
                file.close()
                self._publish(file.path, f"{self._folder(model, hour)}/{name}.parquet")
        finally:
            for file in files.values():
                file.remove()
        return rows

    def _folder(self, model: str, hour: int) -> str:
        return f"{self._root}/{partition(model, datetime.fromtimestamp(hour * 3600, UTC))}"

    def _partial(self, model: str, name: str, hour: int, scratch: Path) -> Path:
        if not self._local:
            return scratch / f".{name}-{hour}.partial"
        return Path(self._folder(model, hour)) / f".{name}.partial"

    def _publish(self, partial: Path, path: str) -> None:
        if self._local:
            partial.replace(path)
            return
        # Not written in place: a stream that is closed after a failure leaves what it has got.
        transfer(
            partial.stat().st_size,
            lambda: pafs.copy_files(
                str(partial),
                path,
                source_filesystem=pafs.LocalFileSystem(),
                destination_filesystem=self._system,
            ),
        )


class _HourFile:
    """The parquet file of one hour. It is opened with its first row group: a replay has many hours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        self._writer: pq.ParquetWriter | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes rows, and writes what makes a row group."""
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _ROW_GROUP or self._bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Writes the rest, and the file's end."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def remove(self) -> None:
        """Removes what was not published, also where a full disk refuses the file's end."""
        with suppress(OSError):
            if self._writer is not None:
                self._writer.close()
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            schema = self._waiting[0].schema
            self._writer = pq.ParquetWriter(self.path, schema, compression="zstd")
        self._writer.write_table(pa.Table.from_batches(self._waiting))
        self._waiting, self._rows, self._bytes = [], 0, 0
