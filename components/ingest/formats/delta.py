"""Reads a Delta Lake table through delta-rs: columns and the window pushed down."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote

from slipway.components.ingest.columns import Columns
from slipway.components.ingest.pieces import Pinned, PinnedFile
from slipway.components.ingest.sources import check_uri, public_uri, reading
from slipway.components.ingest.types import UnifiedSchema
from slipway.components.ingest.window import Outside, TimeBounds
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stores import DELTA_BOUNDS

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

BATCH = 65_536


class DeltaTable:
    """One version of a Delta table: the newest. A piece of it is a row group.

    Attributes:
        version: its number.
        schema: the columns with the types that they have inside Slipway.
        files: how many data files there are.
        outside: the rows that were not read, since they are outside the window.
        warnings: what a person should know of the files.
    """

    def __init__(self, table: str, uri: str, columns: Columns, pinned: Pinned | None = None):
        """Reads the table's log.

        Args:
            table: its name.
            uri: its folder.
            columns: which of its columns are read.
            pinned: of a shard: the version that was found for all shards.

        Raises:
            SlipwayError: there is no Delta table, or it uses what this reader does not know.
        """
        import deltalake
        import pyarrow as pa
        import pyarrow.dataset as ds

        check_uri(table, uri)
        self._name, self._columns = public_uri(uri), columns
        self.outside = Outside()
        self.warnings: list[str] = []
        with reading(self._name):
            try:
                bounds = DELTA_BOUNDS if "://" in uri else None
                version = pinned.version if pinned else None
                delta = deltalake.DeltaTable(uri, version, storage_options=bounds)
            except deltalake.exceptions.TableNotFoundError as error:
                raise SlipwayError(
                    f"Table {table}: there is no Delta table at {self._name} (no _delta_log)."
                ) from error
            # The times of Spark of old (INT96): as nanoseconds they would wrap after 2262.
            options = ds.ParquetReadOptions(coerce_int96_timestamp_unit="us")
            self._dataset = delta.to_pyarrow_dataset(parquet_read_options=options)
            self._added = pa.table(delta.get_add_actions(flatten=True))
        self.version = delta.version()
        self.files = self._added.num_rows
        self._pinned = pinned
        self._sub: list[tuple[ds.ParquetFileFragment, int]] | None = None
        there: pa.Schema = self._dataset.schema
        chosen = columns.chosen(self._name, there.names)
        unified = UnifiedSchema(table)
        unified.add(
            self._name,
            pa.schema([there.field(columns.source(name)).with_name(name) for name in chosen]),
        )
        self.schema = unified.schema()

    @property
    def pinned_files(self) -> list[PinnedFile]:
        """What a shard must find of each data file: its row groups. The version pins what is in them."""
        with reading(self._name):
            return [
                PinnedFile(path=f.path, size=0, rows=[group.num_rows for group in f.row_groups])
                for f in self._fragments()
            ]

    @property
    def pieces(self) -> int:
        """How many row groups there are."""
        return len(self._row_groups())

    def known_rows(self, piece: int, bounds: TimeBounds | None) -> tuple[int, int] | None:
        """As of a `ParquetTable`; the log alone tells nothing of a window."""
        return None if bounds is not None else (self._row_groups()[piece][1], 0)

    def _fragments(self) -> list["ds.ParquetFileFragment"]:
        """The data files; of a shard those that it reads."""
        found = list(self._dataset.get_fragments())
        return found[self._pinned.wanted] if self._pinned else found

    def _row_groups(self) -> list[tuple["ds.ParquetFileFragment", int]]:
        """Their row groups with the rows of each, in the order in which they are read.

        A part of a file counts the rows of the whole.
        """
        if self._sub is None:
            if self._pinned:
                self._pinned.require(self.pinned_files)
            with reading(self._name):
                self._sub = [
                    (fragment.subset(row_group_ids=[group.id]), group.num_rows)
                    for fragment in self._fragments()
                    for group in fragment.row_groups
                ]
        return self._sub

    def batches(
        self,
        bounds: TimeBounds | None,
        pieces: range | None = None,
        names: Sequence[str] | None = None,
    ) -> Iterator[tuple[str, "pa.RecordBatch"]]:
        """Gives the table's name and a batch, file by file.

        Args:
            bounds: the window on the time column; None reads all.
            pieces: which row groups, numbered over all files; None: all.
            names: which columns; None: all.

        Raises:
            SlipwayError: a data file is missing or damaged.
        """
        import pyarrow.dataset as ds

        where, early = self._filters(bounds)
        asked = list(names or self.schema.names)
        sources = [self._columns.source(name) for name in asked]
        options = ds.ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True)
        read = set()
        with reading(self._name):
            found: Iterator[tuple[ds.ParquetFileFragment, int | None]]
            if pieces is None:
                found = ((f, None) for f in self._dataset.get_fragments(filter=where))
            else:
                first = self._pinned.first if self._pinned else 0
                found = iter(self._row_groups()[pieces.start - first : pieces.stop - first])
            for fragment, rows in found:
                read.add(fragment.path)
                given = 0
                for batch in fragment.to_batches(
                    schema=self._dataset.schema,
                    columns=sources,
                    filter=where,
                    batch_size=BATCH,
                    batch_readahead=1,
                    fragment_scan_options=options,
                    use_threads=False,
                ):
                    given += batch.num_rows
                    yield self._name, batch.rename_columns(asked)
                rows = fragment.count_rows() if rows is None else rows
                self._count(fragment, rows - given, early)
            if early is not None and pieces is None:
                self._count_unread(read, early)

    def _count(
        self, fragment: "ds.ParquetFileFragment", left_out: int, early: "pc.Expression | None"
    ) -> None:
        """Counts a file's rows outside the window by their side; mostly its footer tells it."""
        before = fragment.count_rows(filter=early) if left_out and early is not None else 0
        self.outside.before += before
        self.outside.after += left_out - before

    def _count_unread(self, read: set[str], early: "pc.Expression") -> None:
        """Counts the rows of the files that the log shows to be outside the window."""
        paths = self._added["path"].to_pylist()
        known = dict.fromkeys(map(unquote, paths))
        if "num_records" in self._added.column_names:
            numbers = self._added["num_records"].to_pylist()
            known |= {unquote(path): rows for path, rows in zip(paths, numbers, strict=True)}
        # None of their rows is inside, so all of a file's are on one side.
        before = {fragment.path for fragment in self._dataset.get_fragments(filter=early)}
        for fragment in self._dataset.get_fragments():
            if fragment.path in read:
                continue
            rows = known.get(unquote(fragment.path))
            rows = fragment.count_rows() if rows is None else rows
            self.outside.add("before" if fragment.path in before else "after", rows)

    def _filters(
        self, bounds: TimeBounds | None
    ) -> tuple["pc.Expression | None", "pc.Expression | None"]:
        """The rows in the window (at least), and those that are surely before it."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if bounds is None:
            return None, None
        source = self._columns.source(bounds.column)
        kind = self._dataset.schema.field(source).type
        column = pc.field(source)
        if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            return None, None
        stamps = [pa.scalar(side, pa.timestamp("us", "UTC")) for side in (bounds.start, bounds.end)]
        if pa.types.is_timestamp(kind) and not kind.tz:
            stamps = [pa.scalar(s.as_py().replace(tzinfo=None), kind) for s in stamps]
        elif pa.types.is_date(kind):
            stamps = [pa.scalar(s.as_py().date(), kind) for s in stamps]
            inside = (column >= stamps[0]) & (column <= stamps[1])
            return column.is_null() | inside, column < stamps[0]
        inside = (column >= stamps[0]) & (column < stamps[1])
        return column.is_null() | inside, column < stamps[0]

    def why_no_time(self, column: str) -> str:
        """Why a column is no time, where more is known than its type."""
        return ""

    def extent(self, column: str) -> str:
        """What times there are, for the message about a window without rows."""
        return ""
