"""Dataset: a folder of named parquet tables and a manifest. Written by ingest and validate.

Layout, version 1::

    manifest.json
    <table>/part-00000.parquet, part-00001.parquet, …   zstd, row groups of 65,536 rows

The manifest is written last, into a folder that is then moved into place, so a folder with a manifest
is whole.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from slipway.components.config.base import format_instant
from slipway.components.contracts.record import Record
from slipway.components.contracts.rows.content_hash import ContentHash
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MANIFEST = "manifest.json"
ROW_GROUP = 65_536
PART_ROWS = 64 * ROW_GROUP
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableInfo:
    """What the manifest says of one table.

    Attributes:
        rows: number of rows.
        bytes: size of its parquet files.
        content_hash: depends on the rows, not on their order in files or how the files were cut
            (see slipway.components.contracts.rows.content_hash).
        columns: column name to Arrow type, as text ("timestamp[us, tz=UTC]", "double", "string").
        time: the timestamp column that the window cuts on, if any.
        min_time: the first instant of that column, ISO 8601 in UTC.
        max_time: the last.
        source: the URI that the table was read from.
        before: rows of the source that are left out, since their time is before the window.
        after: likewise, at its end or later.
        warnings: what a person should know of how the source was read.
    """

    rows: int
    bytes: int
    content_hash: str
    columns: dict[str, str]
    time: str | None = None
    min_time: str | None = None
    max_time: str | None = None
    source: str = ""
    before: int = 0
    after: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def left_out(self) -> str:
        """Which of the source's rows are left out and why, in words; empty: none."""
        sides = [(self.before, "before the window"), (self.after, "after it")]
        if not self.before:
            sides[1] = (self.after, "after the window")
        return ", ".join(f"{rows:,} {where}" for rows, where in sides if rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Record):
    """What a dataset holds. `window` is [start, end) in ISO 8601, UTC; None: no table is cut by time."""

    ABSENT: ClassVar[str] = "is not a dataset"

    tables: dict[str, TableInfo]
    window: tuple[str, str] | None
    content_hash: str
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables.values())

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        names = ", ".join(
            f"{name} {table.rows:,}" + (f" (left out: {table.left_out})" if table.left_out else "")
            for name, table in self.tables.items()
        )
        warnings = [
            f"; WARNING: {name}: {warning}"
            for name, table in self.tables.items()
            for warning in table.warnings
        ]
        return f"{names} rows{''.join(warnings)}"

    def metadata(self) -> dict[str, object]:
        """What the KFP artifact shows."""
        return {
            "rows": self.rows,
            "bytes": sum(table.bytes for table in self.tables.values()),
            "content_hash": self.content_hash,
            "window_start": self.window[0] if self.window else "",
            "window_end": self.window[1] if self.window else "",
            "tables": {name: table.rows for name, table in self.tables.items()},
            "left_out": {
                name: {"before": table.before, "after": table.after}
                for name, table in self.tables.items()
                if table.before or table.after
            },
            "warnings": [f"{n}: {w}" for n, table in self.tables.items() for w in table.warnings],
        }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest: the last step before a dataset is moved into place."""
    manifest.write(folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """Reads a dataset's manifest.

    Raises:
        SlipwayError: the folder is not a whole dataset of a version that this code reads.
    """
    return Manifest.read(folder / MANIFEST)


def table_files(folder: Path, table: str) -> list[Path]:
    """The parquet files of one table, in order.

    Raises:
        SlipwayError: the dataset has no such table.
    """
    files = sorted((folder / table).glob("part-*.parquet"))
    if not files:
        raise SlipwayError(f"The dataset {folder} has no table '{table}'.")
    return files


def read_batches(
    folder: Path, table: str, columns: list[str] | None = None
) -> Iterator["pa.RecordBatch"]:
    """Reads a table row group by row group, so that memory does not grow with the table."""
    import pyarrow.parquet as pq

    for file in table_files(folder, table):
        parquet = pq.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            yield from parquet.read_row_group(group, columns=columns).to_batches()


def read_table(folder: Path, table: str, columns: list[str] | None = None) -> "pa.Table":
    """Reads a whole table into memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pa.concat_tables(
        [pq.ParquetFile(file).read(columns=columns) for file in table_files(folder, table)]
    )


def time_extent(folder: Path, table: str, time: str | None) -> tuple[str | None, str | None]:
    """The first and last instant of a table's time column, from the files' footers."""
    import pyarrow.parquet as pq

    spans = []
    for file in table_files(folder, table) if time else []:
        footer = pq.read_metadata(file)
        column = footer.schema.names.index(time)
        found = [
            footer.row_group(g).column(column).statistics for g in range(footer.num_row_groups)
        ]
        spans += [s for s in found if s is not None and s.has_min_max]
    if not spans:
        return None, None
    return format_instant(min(s.min for s in spans)), format_instant(max(s.max for s in spans))


def as_written(schema: "pa.Schema") -> "pa.Schema":
    """The schema that a file was written with.

    Parquet has names of its own for what is in a list or a map, which a reader gets to see in the types.
    """
    import pyarrow as pa

    fields = [field.with_type(_as_written(field.type)) for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


def _as_written(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    if pa.types.is_list(kind):
        return pa.list_(_as_written(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(_as_written(kind.key_type), _as_written(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_as_written(field.type)) for field in kind])
    return kind


class TableWriter:
    """Writes one table of a dataset, batch by batch: full row groups, several files if it is long.

    Memory holds at most one row group. The folder is the scratch folder of `new_directory`, so that a
    reader sees a table only when its dataset is whole.
    """

    def __init__(
        self,
        folder: Path,
        table: str,
        schema: "pa.Schema",
        *,
        time: str | None = None,
        source: str = "",
        first_row: int = 0,
    ):
        """Begins a table.

        Args:
            folder: the dataset's.
            table: its name.
            schema: its columns.
            time: the column that the window cuts on.
            source: what the manifest says of where it comes from.
            first_row: of a shard, how many rows of the table come before its own: whole row groups. Its
                files are then the whole table's, or the part of one that it has rows of.
        """
        self._folder = folder / table
        self._folder.mkdir(parents=True, exist_ok=True)
        self._schema, self._time, self._source = schema, time, source
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._parts, self._part_rows = divmod(first_row, PART_ROWS)
        self._parquet: pq.ParquetWriter | None = None
        self._hash = ContentHash()
        self._first: datetime | None = None
        self._last: datetime | None = None
        self.rows = 0

    def write(self, batch: "pa.RecordBatch") -> None:
        """Takes a batch of the table's schema.

        Raises:
            SlipwayError: the disk does not take it.
        """
        while batch.num_rows:
            taken = batch.slice(0, ROW_GROUP - self._waiting_rows)
            self._waiting.append(taken)
            self._waiting_rows += taken.num_rows
            batch = batch.slice(taken.num_rows)
            if self._waiting_rows == ROW_GROUP:
                self._flush()

    def close(self) -> TableInfo:
        """Writes what is left and says what the table holds; a table without rows has one file.

        Raises:
            SlipwayError: the disk does not take it.
        """
        if self._waiting_rows or not self._parts:
            self._flush()
        with writes_to(self._folder):
            self._end_part()
        return TableInfo(
            rows=self.rows,
            bytes=sum(file.stat().st_size for file in self._folder.iterdir()),
            content_hash=self._hash.hex,
            columns={field.name: str(field.type) for field in self._schema},
            time=self._time,
            min_time=None if self._first is None else format_instant(self._first),
            max_time=None if self._last is None else format_instant(self._last),
            source=self._source,
        )

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        group = pa.Table.from_batches(self._waiting, self._schema).combine_chunks()
        for batch in group.to_batches():
            self._hash.add(batch)
        self._note_times(group)
        with writes_to(self._folder):
            if self._parquet is None:
                path = self._folder / f"part-{self._parts:05d}.parquet"
                self._parquet = pq.ParquetWriter(path, self._schema, compression="zstd")
                self._parts += 1
            self._parquet.write_table(group, row_group_size=ROW_GROUP)
        self.rows += group.num_rows
        self._part_rows += group.num_rows
        self._waiting, self._waiting_rows = [], 0
        if self._part_rows >= PART_ROWS:
            with writes_to(self._folder):
                self._end_part()

    def _end_part(self) -> None:
        if self._parquet is not None:
            self._parquet.close()
        self._parquet, self._part_rows = None, 0

    def _note_times(self, group: "pa.Table") -> None:
        import pyarrow.compute as pc

        if self._time is None:
            return
        span = pc.min_max(group[self._time].cast("int64")).as_py()
        if span["min"] is not None:
            first, last = (EPOCH + timedelta(microseconds=span[side]) for side in ("min", "max"))
            self._first = first if self._first is None else min(self._first, first)
            self._last = last if self._last is None else max(self._last, last)


@contextmanager
def writes_to(folder: Path) -> Iterator[None]:
    """Turns a failing write below `folder` into a message for a person.

    Raises:
        SlipwayError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        free = shutil.disk_usage(folder).free / 1e6
        raise SlipwayError(
            f"Writing the table below {folder} failed: {reason} ({free:,.0f} MB are free there)."
            " Nothing of it is kept. Make room, or give the task a larger volume, and run again."
        ) from error
