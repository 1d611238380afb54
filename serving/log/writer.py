"""The inference log: rows in memory, spooled to disk twice a second, shipped as parquet by the hour.

A request only appends to a list. A thread writes that list as one Arrow batch to the open segment of
the spool, so that a SIGKILL loses at most `SPOOL_SECONDS` of rows (the page cache survives the process).
A second thread turns closed segments into the parquet files of `contracts.inference_log` and
then deletes them. A file's name follows from its segment's, so a segment that is shipped twice, after a
crash in between, leaves one copy. Segments of a predictor that died are shipped by the next one.
"""

import fcntl
import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from slipway.components.contracts.bundle import MISSING_TIME, Bundle
from slipway.components.contracts.monitoring.inference_log import log_schema
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.serving.log.record import SHIPPER, LogRecord
from slipway.serving.log.store import LogStore
from slipway.serving.metrics import Metrics
from slipway.serving.protocol.rows import Rows

SPOOL_SECONDS = 0.5
_SUFFIX = ".arrows"
_MEMORY_BYTES = 64_000_000
# What becomes Arrow at a time, and one request more: it lies in memory three times.
_BATCH_ROWS, _BATCH_BYTES = 8192, 8_000_000
_SEGMENT_BYTES = 64 << 20
_RETRY_SECONDS = 5.0
_MODEL = b"slipway.model"
_logger = logging.getLogger("slipway.serving.log.writer")


class InferenceLog:
    """Takes records on the event loop; two threads take them to the store."""

    def __init__(
        self,
        store: LogStore,
        spool: Path,
        metrics: Metrics,
        *,
        model_name: str,
        bundle: Bundle,
        roll_seconds: float,
        spool_mb: int,
    ) -> None:
        self._store, self._metrics = store, metrics
        self._model_name, self._bundle = model_name, bundle
        self._roll_seconds, self._spool_bytes = roll_seconds, spool_mb * 1_000_000
        self._accepted = metrics.log_rows.labels("accepted")
        self._buffer: deque[tuple[Bundle, LogRecord]] = deque()
        # Bytes, each counted by one thread alone.
        self._added = self._taken = 0
        self._segment: _Segment | None = None
        self._number = 0
        self._closing = threading.Event()
        self._closed_segments = threading.Event()
        self._spooled_all = threading.Event()
        self._name = f"{int(time.time()):x}-{uuid.uuid4().hex[:8]}"
        self._folder = spool / self._name
        self._folder.mkdir(parents=True)
        self._lock = _lock(self._folder)
        self._adopted = _adopt(spool, self._folder)
        # Each is counted by one thread alone, so that none is lost and no request waits for a lock.
        self._adopted_rows = sum(_rows_in(folder) for folder, _ in self._adopted)
        self._accepted_rows = self._dropped_rows = self._stored_rows = 0
        self._spooler = threading.Thread(target=self._spool, name="log-spool", daemon=True)
        self._shipper = threading.Thread(target=self._ship, name=SHIPPER, daemon=True)
        self._spooler.start()
        self._shipper.start()

    def use(self, bundle: Bundle) -> None:
        """Records that follow are of this model."""
        self._bundle = bundle

    def add(self, record: LogRecord) -> None:
        """Takes one record; never waits, never raises."""
        count, size = record.count, record.nbytes
        if self._added - self._taken + size > _MEMORY_BYTES:
            self._metrics.log_dropped.labels("memory").inc(count)
            return
        self._added += size
        self._accepted_rows += count
        self._accepted.inc(count)
        self._buffer.append((self._bundle, record))

    @property
    def pending_rows(self) -> int:
        """Rows that were accepted, here or by a predictor that is no more, and are not stored yet."""
        done = self._stored_rows + self._dropped_rows
        return max(self._accepted_rows + self._adopted_rows - done, 0)

    def close(self, seconds: float) -> bool:
        """Spools what is in memory, ships what it can within the time, and says if that was all.

        What is left stays in the spool, for the next predictor to ship.
        """
        deadline = time.monotonic() + seconds
        self._closing.set()
        self._spooler.join(max(0.1, deadline - time.monotonic()))
        self._spooled_all.set()
        self._closed_segments.set()
        self._shipper.join(max(0.1, deadline - time.monotonic()))
        whole = not self._shipper.is_alive() and not any(self._folder.glob(f"*{_SUFFIX}"))
        if whole:
            (self._folder / ".lock").unlink(missing_ok=True)
            self._folder.rmdir()
        self._lock.close()
        return whole

    # The spooling thread.

    def _spool(self) -> None:
        while True:
            last = self._closing.wait(SPOOL_SECONDS)
            try:
                self._spool_buffer()
                if self._segment and (last or self._segment.is_due(self._roll_seconds)):
                    self._close_segment()
            except (OSError, pa.ArrowInvalid) as error:
                _logger.error("The inference log cannot be spooled to %s: %s", self._folder, error)
                self._segment = None
            if last:
                return

    def _spool_buffer(self) -> None:
        left = len(self._buffer)
        while left:
            bundle, taken, rows, size = self._buffer[0][0], [], 0, 0
            while (
                left and self._buffer[0][0] is bundle and rows < _BATCH_ROWS and size < _BATCH_BYTES
            ):
                _, record = self._buffer.popleft()
                taken.append(record)
                rows += record.count
                size += record.nbytes
                left -= 1
            self._taken += size
            self._spool_records(bundle, taken)

    def _spool_records(self, bundle: Bundle, records: list[LogRecord]) -> None:
        count = sum(record.count for record in records)
        try:
            if self._spooled_bytes() > self._spool_bytes:
                self._drop("spool_full", count)
                return
            if self._segment and self._segment.bundle is not bundle:
                self._close_segment()
            if self._segment is None:
                self._number += 1
                path = self._folder / f"{self._name}-{self._number:06d}{_SUFFIX}"
                self._segment = _Segment(path, bundle, self._model_name)
            self._segment.write(to_batch(records, bundle))
        except (OSError, pa.ArrowInvalid):
            self._drop("spool_error", count)
            raise
        self._metrics.log_rows.labels("spooled").inc(count)

    def _drop(self, reason: str, count: int) -> None:
        """Counts rows that were accepted and are lost; the spooling thread alone does."""
        self._dropped_rows += count
        self._metrics.log_dropped.labels(reason).inc(count)

    def _close_segment(self) -> None:
        if self._segment:
            self._segment.close()
            self._segment = None
            self._closed_segments.set()

    def _spooled_bytes(self) -> int:
        return sum(file.stat().st_size for file in self._folder.parent.glob(f"*/*{_SUFFIX}"))

    # The shipping thread.

    def _ship(self) -> None:
        folders = [*self._adopted, (self._folder, None)]
        while True:
            self._closed_segments.clear()
            failed = False
            last = self._spooled_all.is_set()
            for folder, lock in list(folders):
                failed |= not self._ship_folder(folder)
                if lock is not None and not any(folder.glob(f"*{_SUFFIX}")):
                    folders.remove((folder, lock))
                    (folder / ".lock").unlink(missing_ok=True)
                    folder.rmdir()
                    lock.close()
            if last and not failed:
                return
            self._closed_segments.wait(_RETRY_SECONDS if failed else 3600)
            if failed and last:
                return

    def _ship_folder(self, folder: Path) -> bool:
        for segment in sorted(folder.glob(f"*{_SUFFIX}")):
            if self._segment is not None and segment == self._segment.path:
                continue
            try:
                model, batches = read_segment(segment)
                rows = self._store.write(model, segment.stem, batches, folder)
                segment.unlink()
                self._stored_rows += rows
                self._metrics.log_rows.labels("stored").inc(rows)
            except (OSError, ValueError) as error:  # Arrow's errors are ValueErrors
                _logger.error("The inference log cannot be written: %s. It is kept.", error)
                return False
        return True


class _Segment:
    """One open file of the spool: an Arrow stream."""

    def __init__(self, path: Path, bundle: Bundle, model_name: str) -> None:
        self.path, self.bundle = path, bundle
        self._opened = time.monotonic()
        schema = log_schema(bundle.features, label_type_of(bundle).columns())
        schema = schema.with_metadata({**(schema.metadata or {}), _MODEL: model_name.encode()})
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._file, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def is_due(self, seconds: float) -> bool:
        old = time.monotonic() - self._opened >= seconds
        return old or self.path.stat().st_size > _SEGMENT_BYTES

    def close(self) -> None:
        self._writer.close()
        self._file.close()


def read_segment(path: Path) -> tuple[str, Iterator[pa.RecordBatch]]:
    """The model's name and the rows of a segment, as far as it was written before a crash."""
    file = pa.OSFile(str(path), "rb")
    try:
        reader = pa.ipc.open_stream(file)
    except pa.ArrowInvalid:
        file.close()
        return "", iter(())
    metadata = dict(reader.schema.metadata or {})
    model = metadata.pop(_MODEL, b"").decode()

    def batches() -> Iterator[pa.RecordBatch]:
        with file:
            while True:
                try:
                    batch = reader.read_next_batch()
                except (StopIteration, OSError, pa.ArrowInvalid):
                    return
                yield batch.replace_schema_metadata(metadata)

    return model, batches()


def _rows_in(folder: Path) -> int:
    """Rows of a folder's segments, as far as they were written."""
    segments = folder.glob(f"*{_SUFFIX}")
    return sum(batch.num_rows for path in segments for batch in read_segment(path)[1])


def to_batch(records: list[LogRecord], bundle: Bundle) -> pa.RecordBatch:
    """The log rows of some records of one model, in the contract's schema."""
    label = label_type_of(bundle)
    schema = log_schema(bundle.features, label.columns())
    counts = np.array([record.count for record in records])
    each = np.repeat(np.arange(len(records)), counts)

    def spread(values: list[object], kind: pa.DataType) -> pa.Array:
        return pa.array(values, kind).take(pa.array(each))

    keys: list[str | None] = []
    position: list[int] = []
    for record in records:
        if record.rows is None:
            keys.append(None)
            position.append(-1)
        else:
            keys += record.rows.keys or [None] * record.rows.count
            position += range(record.rows.count)
    instant = schema.field("time").type
    columns = {
        "request_id": spread([record.request_id for record in records], pa.string()),
        "row": pa.array(position, pa.int32()),
        "key": pa.array(keys, pa.string()),
        "time": spread([record.time for record in records], pa.int64()).cast(instant),
        "served_at": spread([record.served_at for record in records], pa.int64()).cast(instant),
        "model_version": spread([record.model_version for record in records], pa.string()),
        "status": spread([record.status for record in records], pa.int16()),
        **_answers(records, label),
        "latency_ms": spread([record.latency_ms for record in records], pa.float64()),
        **_features(records, bundle),
    }
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _answers(records: list[LogRecord], label: LabelType) -> dict[str, pa.Array]:
    """The answers as columns, null where a request was refused."""
    answered = [record.answers for record in records if record.answers is not None]
    if not answered:
        return {name: pa.nulls(len(records), kind) for name, kind in label.columns()}
    columns = label.to_columns(np.concatenate(answered))
    if len(answered) == len(records):
        return columns
    places: list[int | None] = []
    for record in records:
        done = len(places) - places.count(None)
        places += [None] if record.answers is None else range(done, done + record.count)
    return {name: column.take(pa.array(places, pa.int64())) for name, column in columns.items()}


def _features(records: list[LogRecord], bundle: Bundle) -> dict[str, pa.Array]:
    refused = Rows(
        1,
        np.full((1, len(bundle.numeric)), np.nan),
        np.full((1, len(bundle.categorical)), "", object),
        np.full((1, len(bundle.time)), MISSING_TIME, np.int64),
    )
    rows = [refused if record.rows is None else record.rows for record in records]
    numeric = np.concatenate([part.numeric for part in rows])
    categorical = np.concatenate([part.categorical for part in rows])
    times = np.concatenate([part.time for part in rows])
    booleans = {feature.name for feature in bundle.features if feature.kind == "boolean"}
    columns: dict[str, pa.Array] = {}
    for i, name in enumerate(bundle.numeric):
        values = pa.array(np.ascontiguousarray(numeric[:, i]), from_pandas=True)
        columns[f"feature.{name}"] = values.cast(pa.bool_()) if name in booleans else values
    for i, name in enumerate(bundle.categorical):
        texts = [text or None for text in categorical[:, i]]
        columns[f"feature.{name}"] = pa.array(texts, pa.string())
    for i, name in enumerate(bundle.time):
        stamps = np.ascontiguousarray(times[:, i])
        column = pa.array(stamps, mask=stamps == MISSING_TIME)
        columns[f"feature.{name}"] = column.cast(pa.timestamp("us"))
    return columns


def _lock(folder: Path) -> IO[bytes]:
    """Marks a spool folder as one of a living predictor, for as long as the file is open."""
    file = (folder / ".lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def _adopt(spool: Path, own: Path) -> list[tuple[Path, IO[bytes] | None]]:
    """Spool folders of predictors that are no more, locked for this one."""
    adopted: list[tuple[Path, IO[bytes] | None]] = []
    for folder in sorted(spool.iterdir()):
        if folder == own or not folder.is_dir():
            continue
        try:
            adopted.append((folder, _lock(folder)))
        except OSError:
            continue
    if adopted:
        _logger.info("Taking over the log spool of %d ended predictors.", len(adopted))
    return adopted


def default_spool() -> Path:
    """A spool below the temporary folder, of this user alone."""
    import tempfile

    return Path(tempfile.gettempdir()) / f"slipway-spool-{os.getuid()}"
