"""Reads parquet: hive partitions, columns and the window pushed down, batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from slipway.components.ingest.columns import Columns
from slipway.components.ingest.formats.partitions import is_day, partition_values
from slipway.components.ingest.pieces import Pinned, PinnedFile
from slipway.components.ingest.sources import Source, empty_files, reading
from slipway.components.ingest.types import UnifiedSchema
from slipway.components.ingest.window import Outside, Place, TimeBounds, place_of
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 65_536
# Of a remote file's row group up to this size, all column chunks are fetched in few large requests;
# a larger one is read in pieces, so that memory does not depend on how the file was written.
_FETCHED_AT_ONCE = 64_000_000
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: str
    name: str
    size: int
    footer: "pq.FileMetaData"
    schema: "pa.Schema"
    partition: dict[str, object]


class ParquetTable:
    """The parquet files of one table. A piece of it is a row group.

    Attributes:
        schema: the columns with the types that they have inside Slipway.
        files: how many files there are.
        outside: the rows that were not read, since the footers show them outside the window.
        warnings: what a person should know of the files.
    """

    def __init__(self, table: str, source: Source, columns: Columns, pinned: Pinned | None = None):
        """Reads the footers: all; of a shard those of the files that it reads.

        Args:
            table: its name.
            source: its files.
            columns: which of its columns are read.
            pinned: of a shard: the files as they were found for all shards.

        Raises:
            SlipwayError: a file is empty or damaged, disagrees with those before it, or is another than
                it was.
        """
        self._source, self._columns = source, columns
        self.outside = Outside()
        self.warnings: list[str] = []
        partitions = partition_values(table, source)
        unified = UnifiedSchema(table)
        self._files: list[_File] = []
        self._first = pinned.first if pinned else 0
        found = list(zip(source.files, partitions, strict=True))
        for path, partition in found[pinned.wanted] if pinned else found:
            name = source.name(path)
            with reading(name):
                size = source.store.size(path)
                if size == 0:
                    raise SlipwayError(f"{name} is empty: it has 0 bytes.")
                with self._open(path) as parquet:
                    footer, schema = parquet.metadata, parquet.schema_arrow
            own = {key: value for key, value in partition.items() if key not in schema.names}
            schema = _with_partition(schema, own)
            chosen = columns.chosen(name, schema.names)
            schema = _selected(schema, columns, chosen)
            unified.add(name, schema)
            own = {columns.name(key): value for key, value in own.items()}
            self._files.append(
                _File(path=path, name=name, size=size, footer=footer, schema=schema, partition=own)
            )
        self.files = len(self._files)
        self._pieces = [
            (file, group) for file in self._files for group in range(file.footer.num_row_groups)
        ]
        if pinned:
            pinned.require(self.pinned_files)
            self.schema = pinned.schema
            return
        self.schema = unified.schema()
        if any(file.footer.num_rows for file in self._files):
            self.warnings += empty_files(
                {f.name: "has columns and no row" for f in self._files if not f.footer.num_rows}
            )

    @property
    def pinned_files(self) -> list[PinnedFile]:
        """What a shard must find of each file that was read."""
        return [
            PinnedFile(
                path=self._source.relative(file.path),
                size=file.size,
                rows=[
                    file.footer.row_group(group).num_rows
                    for group in range(file.footer.num_row_groups)
                ],
            )
            for file in self._files
        ]

    def batches(
        self,
        bounds: TimeBounds | None,
        pieces: range | None = None,
        names: Sequence[str] | None = None,
    ) -> Iterator[tuple[str, "pa.RecordBatch"]]:
        """Gives the file's name and a batch; row groups outside the window are not read.

        Args:
            bounds: the window on the time column; None reads all.
            pieces: which row groups, numbered over all files; None: all.
            names: which columns; None: all.

        Raises:
            SlipwayError: a file turns out to be damaged.
        """
        wanted = pieces if pieces is not None else range(self._first, self._first + self.pieces)
        groups: dict[str, list[tuple[_File, int]]] = {}
        for file, group in self._pieces[wanted.start - self._first : wanted.stop - self._first]:
            place = None if bounds is None else self._place(file, group, bounds)
            if place is None or place == "inside":
                groups.setdefault(file.path, []).append((file, group))
            else:
                self.outside.add(place, file.footer.row_group(group).num_rows)
        for found in groups.values():
            file = found[0][0]
            stored = [
                self._columns.source(name)
                for name in names or self.schema.names
                if name not in file.partition
            ]
            with reading(file.name), self._open(file.path, file.footer) as parquet:
                for _, group in found:
                    for batch in parquet.iter_batches(
                        BATCH, row_groups=[group], columns=stored, use_threads=False
                    ):
                        yield file.name, self._with_partition_values(file, batch)

    @property
    def pieces(self) -> int:
        """How many row groups there are."""
        return len(self._pieces)

    def known_rows(self, piece: int, bounds: TimeBounds | None) -> tuple[int, int] | None:
        """Of a row group the rows that the window lets in, and those of them that have a time.

        None: its footer does not tell. Rows outside are counted, as by `batches`.
        """
        file, group = self._pieces[piece - self._first]
        rows: int = file.footer.row_group(group).num_rows
        if bounds is None:
            return rows, 0
        place = self._place(file, group, bounds)
        if place == "inside":
            if bounds.column in file.partition:
                return rows, 0 if file.partition[bounds.column] is None else rows
            found = self._statistics(file, group, bounds.column)
            assert found is not None  # noqa: S101 - it told the place
            return rows, rows - found.null_count
        if place is not None:
            self.outside.add(place, rows)
            return 0, 0
        return None

    def _with_partition_values(self, file: _File, batch: "pa.RecordBatch") -> "pa.RecordBatch":
        import pyarrow as pa

        batch = batch.rename_columns([self._columns.name(name) for name in batch.schema.names])
        for key, value in file.partition.items():
            if key in self.schema.names:
                kind = self.schema.field(key).type
                batch = batch.append_column(key, pa.repeat(pa.scalar(value, kind), batch.num_rows))
        return batch

    def why_no_time(self, column: str) -> str:
        """Why a column is no time, where more is known than its type."""
        days = (file.partition.get(column) for file in self._files)
        odd = next((day for day in days if isinstance(day, str) and not is_day(day)), None)
        return "" if odd is None else f" The folder {column}={odd} is no day: rename it."

    def extent(self, column: str) -> str:
        """What times there are, for the message about a window without rows."""
        spans = [
            found
            for file in self._files
            for group in range(file.footer.num_row_groups)
            if (found := self._statistics(file, group, column)) is not None and found.has_min_max
        ]
        try:
            first, last = min(s.min for s in spans), max(s.max for s in spans)
        except (ValueError, OverflowError):  # there are none; or one is past the year 9999
            return ""
        return f"Its rows are from {first} to {last}."

    def _place(self, file: _File, group: int, bounds: TimeBounds) -> Place | None:
        """Where all rows of a group are, by its footer or its partition; None: that does not tell."""
        if bounds.column in file.partition:
            day = file.partition[bounds.column]
            side = bounds.side_of_day(day) if isinstance(day, date) else None
            return side or "inside"
        found = self._statistics(file, group, bounds.column)
        if found is None or not (found.has_min_max and found.has_null_count):
            return None
        if found.physical_type not in ("INT64", "INT32"):
            return None
        kind = file.schema.field(bounds.column).type
        place = place_of(found.min_raw, found.max_raw, bounds, kind)
        # Rows without a time are in every window.
        return place if place == "inside" or not found.null_count else None

    def _statistics(self, file: _File, group: int, name: str) -> "pq.Statistics | None":
        columns, source = file.footer.row_group(group), self._columns.source(name)
        with reading(file.name):  # each group has its columns' names of its own
            for index in range(columns.num_columns):
                column = columns.column(index)
                if column.path_in_schema == source:
                    return column.statistics
        return None

    def _open(self, path: str, footer: "pq.FileMetaData | None" = None) -> "pq.ParquetFile":
        import pyarrow.parquet as pq

        # The times of Spark and Impala of old (INT96): as nanoseconds they would wrap after 2262.
        options: dict[str, object] = {
            "metadata": footer,
            "coerce_int96_timestamp_unit": "us",
            "page_checksum_verification": True,
        }
        if self._source.local:
            return pq.ParquetFile(path, pre_buffer=False, buffer_size=_PIECE, **options)
        sizes = (
            []
            if footer is None
            else [footer.row_group(group).total_byte_size for group in range(footer.num_row_groups)]
        )
        whole = max(sizes, default=0) <= _FETCHED_AT_ONCE
        return pq.ParquetFile(
            self._source.store.open(path, cache_type="none" if whole and footer else "readahead"),
            pre_buffer=whole,
            buffer_size=0 if whole else _PIECE,
            **options,
        )


def _selected(schema: "pa.Schema", columns: Columns, chosen: list[str]) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([schema.field(columns.source(name)).with_name(name) for name in chosen])


def _with_partition(schema: "pa.Schema", partition: dict[str, object]) -> "pa.Schema":
    import pyarrow as pa

    kinds = {int: pa.int64(), date: pa.date32(), str: pa.string(), type(None): pa.null()}
    for key, value in partition.items():
        schema = schema.append(pa.field(key, kinds[type(value)]))
    return schema
