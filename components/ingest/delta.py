"""Reads a Delta Lake table through delta-rs: columns and the window pushed down."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from slipway.components.ingest.sources import check_uri, public_uri, reading
from slipway.components.ingest.types import UnifiedSchema, conform
from slipway.components.ingest.window import Bounds
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

BATCH = 65_536


class DeltaTable:
    """The newest version of one Delta table.

    Attributes:
        schema: the columns with the types that they have inside Slipway.
        files: how many data files there are.
    """

    def __init__(self, table: str, uri: str, columns: list[str] | None):
        """Reads the table's log.

        Raises:
            SlipwayError: there is no Delta table, or it uses what this reader does not know.
        """
        import deltalake

        check_uri(table, uri)
        self._name = public_uri(uri)
        with reading(self._name):
            try:
                delta = deltalake.DeltaTable(uri)
            except deltalake.exceptions.TableNotFoundError as error:
                raise SlipwayError(
                    f"Table {table}: there is no Delta table at {self._name} (no _delta_log)."
                ) from error
            self._dataset = delta.to_pyarrow_dataset()
        self.files = len(delta.file_uris())
        missing = sorted(set(columns or []) - set(self._dataset.schema.names))
        if missing:
            raise SlipwayError(
                f"Table {table}: {self._name} has no column {', '.join(missing)}. It has:"
                f" {', '.join(self._dataset.schema.names)}."
            )
        unified = UnifiedSchema(table)
        unified.add(self._name, self._dataset.schema)
        self.schema = unified.schema()
        if columns is not None:
            import pyarrow as pa

            self.schema = pa.schema([self.schema.field(column) for column in columns])

    def batches(self, bounds: Bounds | None) -> Iterator[tuple[int, "pa.RecordBatch"]]:
        """Gives the number of the file and a batch, file by file.

        Args:
            bounds: the window on the time column; None reads all.

        Raises:
            SlipwayError: a data file is missing or damaged.
        """
        import pyarrow.dataset as ds

        where = self._filter(bounds)
        options = ds.ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True)
        with reading(self._name):
            for number, fragment in enumerate(self._dataset.get_fragments(filter=where)):
                for batch in fragment.to_batches(
                    schema=self._dataset.schema,
                    columns=self.schema.names,
                    filter=where,
                    batch_size=BATCH,
                    batch_readahead=1,
                    fragment_scan_options=options,
                    use_threads=False,
                ):
                    yield number, conform(batch, self.schema)

    def _filter(self, bounds: Bounds | None) -> "pc.Expression | None":
        import pyarrow as pa
        import pyarrow.compute as pc

        if bounds is None:
            return None
        kind = self._dataset.schema.field(bounds.column).type
        column = pc.field(bounds.column)
        if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            return None
        stamps = [pa.scalar(side, pa.timestamp("us", "UTC")) for side in (bounds.start, bounds.end)]
        if pa.types.is_timestamp(kind) and not kind.tz:
            stamps = [pa.scalar(s.as_py().replace(tzinfo=None), kind) for s in stamps]
        elif pa.types.is_date(kind):
            stamps = [pa.scalar(s.as_py().date(), kind) for s in stamps]
            return column.is_null() | ((column >= stamps[0]) & (column <= stamps[1]))
        return column.is_null() | ((column >= stamps[0]) & (column < stamps[1]))

    def extent(self, column: str) -> str:
        """What times there are, for the message about a window without rows."""
        return ""
