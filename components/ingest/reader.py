"""One table as ingest makes it: the source's columns and rows in Slipway's names, types and window."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.data import Table, Window
from slipway.components.ingest.columns import Columns
from slipway.components.ingest.formats.delta import DeltaTable
from slipway.components.ingest.formats.parquet import ParquetTable
from slipway.components.ingest.formats.text import TextTable
from slipway.components.ingest.sources import join_uri, locate, public_uri
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
    ):
        """Opens the source: its columns and types are known then.

        Args:
            name: the table's name.
            table: its section of the project file.
            root: what a relative path starts from.
            window: what the table's time column is cut to; None: the table has none.
            scratch: a folder on the disk that may take a copy of text files.
            may_be_empty: whether the window may have no row, which is a warning then.

        Raises:
            SlipwayError: the source is missing, empty or unreadable, or its files disagree.
        """
        uri = join_uri(root, table.path)
        self.source = public_uri(uri)
        self._name = name
        self._may_be_empty = may_be_empty
        self._opened = _open(name, table, uri, scratch)
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

    def batches(self) -> Iterator["pa.RecordBatch"]:
        """The rows in the window, and those without a time.

        Raises:
            SlipwayError: a file is damaged, a value does not fit its type, or the window has no rows and
                may not be empty.
        """
        rows = timed = 0
        for file, raw in self._opened.batches(self._bounds):
            self.file = file
            batch = conform(raw, self.schema, f"Table {self._name}, {file}")
            if self._bounds is not None:
                batch = rows_inside(batch, self._bounds, self.outside)
                timed += batch.num_rows - batch.column(self._bounds.column).null_count
            rows += batch.num_rows
            yield batch
        self._require_rows(rows, timed)

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
    name: str, table: Table, uri: str, scratch: Path
) -> ParquetTable | TextTable | DeltaTable:
    columns = Columns(name, table)
    if table.format == "delta":
        return DeltaTable(name, uri, columns)
    source = locate(name, uri, table.format)
    if table.format == "parquet":
        return ParquetTable(name, source, columns)
    return TextTable(name, source, table, columns, scratch)
