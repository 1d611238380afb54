"""One table as ingest makes it: the source's columns and rows in Slipway's names, types and window."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.data import Table, Window
from slipway.components.ingest.columns import Columns
from slipway.components.ingest.formats.delta import DeltaTable
from slipway.components.ingest.formats.parquet import ParquetTable
from slipway.components.ingest.formats.text import TextTable
from slipway.components.ingest.pieces import Pinned, PinnedFile
from slipway.components.ingest.sources import join_uri, locate, locate_again, public_uri
from slipway.components.ingest.types import as_instants, conform
from slipway.components.ingest.window import TimeBounds, rows_inside
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa


class TableReader:
    """Reads one source table.

    Attributes:
        schema: its columns.
        source: where it is read from, without credentials.
        file: the file that the last batch came from.
        outside: the rows outside the window, once all batches were read.
    """

    def __init__(
        self,
        name: str,
        table: Table,
        root: str,
        window: Window | None,
        scratch: Path,
        may_be_empty: bool = False,
        pinned: Pinned | None = None,
    ):
        """Opens the source: its columns and types are known then.

        Args:
            name: the table's name.
            table: its section of the project file.
            root: what a relative path starts from.
            window: what the table's time column is cut to; None: the table has none.
            scratch: a folder on the disk that may take a copy of text files.
            may_be_empty: whether the window may have no row, which is a warning then.
            pinned: of a shard of a table that is read in pieces: the source as all shards have it.

        Raises:
            SlipwayError: the source is missing, empty or unreadable, or its files disagree.
        """
        uri = join_uri(root, table.path)
        self.source = public_uri(uri)
        self._name = name
        self._may_be_empty = may_be_empty
        self._opened = _open(name, table, uri, scratch, pinned)
        self.schema = self._opened.schema
        self.outside = self._opened.outside
        self.file = self.source
        self._bounds: TimeBounds | None = None
        if table.time is not None and window is not None:
            self.schema = self._with_time(table.time)
            self._bounds = TimeBounds(column=table.time, start=window.start, end=window.end)

    @property
    def warnings(self) -> list[str]:
        """What a person should know of the source."""
        return self._opened.warnings

    @property
    def source_schema(self) -> "pa.Schema":
        """The columns as the source's format has them: the time column may be a day there."""
        return self._opened.schema

    @property
    def pinned_files(self) -> list[PinnedFile]:
        """The files that hold the table's pieces."""
        assert not isinstance(self._opened, TextTable)  # noqa: S101
        return self._opened.pinned_files

    @property
    def version(self) -> int | None:
        """Of a Delta table."""
        return self._opened.version if isinstance(self._opened, DeltaTable) else None

    def count_pieces(self) -> list[int]:
        """How many rows of each piece are in the window; `outside` is known then too.

        Only the time column is read, and that only where the files' footers do not tell.

        Raises:
            SlipwayError: as `batches`.
        """
        assert not isinstance(self._opened, TextTable)  # noqa: S101
        counts, timed = [], 0
        for piece in range(self._opened.pieces):
            rows, with_time = self._opened.known_rows(piece, self._bounds) or self._count(piece)
            counts.append(rows)
            timed += with_time
        self._require_rows(sum(counts), timed)
        return counts

    def _count(self, piece: int) -> tuple[int, int]:
        """Of a piece the rows that the window lets in, and those of them that have a time."""
        import pyarrow as pa

        assert self._bounds is not None  # noqa: S101 - else all rows are
        assert not isinstance(self._opened, TextTable)  # noqa: S101
        time = self._bounds.column
        schema = pa.schema([self.schema.field(time)])
        rows = timed = 0
        for file, raw in self._opened.batches(self._bounds, range(piece, piece + 1), [time]):
            batch = conform(raw, schema, f"Table {self._name}, {file}")
            batch = rows_inside(batch, self._bounds, self.outside)
            rows += batch.num_rows
            timed += batch.num_rows - batch.column(0).null_count
        return rows, timed

    def batches(self) -> Iterator["pa.RecordBatch"]:
        """The rows in the window, and those without a time.

        Raises:
            SlipwayError: a file is damaged, a value does not fit its type, or the window has no rows and
                may not be empty.
        """
        rows = timed = 0
        for batch in self._inside(self._opened.batches(self._bounds)):
            if self._bounds is not None:
                timed += batch.num_rows - batch.column(self._bounds.column).null_count
            rows += batch.num_rows
            yield batch
        self._require_rows(rows, timed)

    def some_batches(self, pieces: range, skipped: int, rows: int) -> Iterator["pa.RecordBatch"]:
        """So many of the rows that `batches` gives.

        Args:
            pieces: those that the rows are in.
            skipped: rows of them that come before.
            rows: how many.
        """
        assert not isinstance(self._opened, TextTable)  # noqa: S101
        for batch in self._inside(self._opened.batches(self._bounds, pieces)):
            start = min(skipped, batch.num_rows)
            skipped -= start
            batch = batch.slice(start, rows)
            rows -= batch.num_rows
            yield batch
            if not rows:
                return

    def _inside(self, found: Iterator[tuple[str, "pa.RecordBatch"]]) -> Iterator["pa.RecordBatch"]:
        for file, raw in found:
            self.file = file
            batch = conform(raw, self.schema, f"Table {self._name}, {file}")
            yield batch if self._bounds is None else rows_inside(batch, self._bounds, self.outside)

    def _require_rows(self, rows: int, timed: int) -> None:
        bounds = self._bounds
        if rows == 0 and bounds is None:
            raise SlipwayError(f"Table {self._name}: {self.source} has columns but no row.")
        if bounds is not None and timed == 0:
            window = Window(start=bounds.start, end=bounds.end).to_struct()
            nothing = (
                f"{self.source} has no row with {bounds.column} from {window['start']} to"
                f" {window['end']} (exclusive). {self._opened.extent(bounds.column)}".rstrip()
            )
            if not self._may_be_empty:
                raise SlipwayError(f"Table {self._name}: {nothing}")
            self._opened.warnings.append(nothing.rstrip("."))

    def _with_time(self, column: str) -> "pa.Schema":
        schema = self._opened.schema
        index = schema.get_field_index(column)
        if index < 0:
            raise SlipwayError(
                f"Table {self._name} has no column {column}, which `time:` names. It has:"
                f" {', '.join(schema.names)}."
            )
        field = schema.field(index)
        hint = self._opened.why_no_time(column)
        return schema.set(index, field.with_type(as_instants(self._name, column, field.type, hint)))


def _open(
    name: str, table: Table, uri: str, scratch: Path, pinned: Pinned | None
) -> ParquetTable | TextTable | DeltaTable:
    columns = Columns(name, table)
    if table.format == "delta":
        return DeltaTable(name, uri, columns, pinned)
    if pinned:
        source = locate_again(name, uri, [file.path for file in pinned.files])
    else:
        source = locate(name, uri, table.format)
    if table.format == "parquet":
        return ParquetTable(name, source, columns, pinned)
    return TextTable(name, source, table, columns, scratch)
