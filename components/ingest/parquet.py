"""Reads parquet: hive partitions, columns and the window pushed down, batch by batch."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from slipway.components.ingest.sources import Source, reading
from slipway.components.ingest.types import UnifiedSchema, conform
from slipway.components.ingest.window import Bounds, in_units
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 65_536
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
# Of a remote file's row group up to this size, all column chunks are fetched in few large requests;
# a larger one is read in pieces, so that memory does not depend on how the file was written.
_FETCHED_AT_ONCE = 64_000_000
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: str
    name: str
    footer: "pq.FileMetaData"
    schema: "pa.Schema"
    partition: dict[str, Any]


class ParquetTable:
    """The parquet files of one table.

    Attributes:
        schema: the columns with the types that they have inside Slipway.
        files: how many files there are.
    """

    def __init__(self, table: str, source: Source, columns: list[str] | None):
        """Reads all footers.

        Raises:
            SlipwayError: a file is empty or damaged, or disagrees with those before it.
        """
        self._source = source
        partitions = _partitions(table, source)
        unified = UnifiedSchema(table)
        self._files: list[_File] = []
        for path, partition in zip(source.files, partitions, strict=True):
            name = source.name(path)
            with reading(name):
                size = source.store.size(path)
                if size == 0:
                    raise SlipwayError(f"{name} is empty: it has 0 bytes.")
                with self._open(path) as parquet:
                    footer, schema = parquet.metadata, parquet.schema_arrow
            own = {key: value for key, value in partition.items() if key not in schema.names}
            schema = _chosen(table, name, _with_partition(schema, own), columns)
            unified.add(name, schema)
            self._files.append(
                _File(path=path, name=name, footer=footer, schema=schema, partition=own)
            )
        self.schema = unified.schema()
        self.files = len(self._files)

    def batches(self, bounds: Bounds | None) -> Iterator[tuple[int, "pa.RecordBatch"]]:
        """Gives the number of the file and a batch; row groups outside the window are not read.

        Args:
            bounds: the window on the time column; None reads all.

        Raises:
            SlipwayError: a file turns out to be damaged.
        """
        import pyarrow as pa

        for number, file in enumerate(self._files):
            groups = [
                group
                for group in range(file.footer.num_row_groups)
                if bounds is None or _may_hold(file, group, bounds)
            ]
            if not groups:
                continue
            stored = [name for name in self.schema.names if name not in file.partition]
            with reading(file.name), self._open(file.path, file.footer) as parquet:
                for group in groups:
                    for batch in parquet.iter_batches(
                        BATCH, row_groups=[group], columns=stored, use_threads=False
                    ):
                        for key, value in file.partition.items():
                            if key in self.schema.names:
                                kind = self.schema.field(key).type
                                column = pa.repeat(pa.scalar(value, kind), batch.num_rows)
                                batch = batch.append_column(key, column)
                        yield number, conform(batch, self.schema)

    def extent(self, column: str) -> str:
        """What times there are, for the message about a window without rows."""
        spans = [
            found
            for file in self._files
            for group in range(file.footer.num_row_groups)
            if (found := _statistics(file, group, column)) is not None and found.has_min_max
        ]
        if not spans:
            return ""
        first, last = min(s.min for s in spans), max(s.max for s in spans)
        return f"Its rows are from {first} to {last}."

    def _open(self, path: str, footer: "pq.FileMetaData | None" = None) -> "pq.ParquetFile":
        import pyarrow.parquet as pq

        if self._source.local:
            return pq.ParquetFile(
                path,
                metadata=footer,
                pre_buffer=False,
                buffer_size=_PIECE,
                page_checksum_verification=True,
            )
        sizes = (
            []
            if footer is None
            else [footer.row_group(group).total_byte_size for group in range(footer.num_row_groups)]
        )
        whole = max(sizes, default=0) <= _FETCHED_AT_ONCE
        return pq.ParquetFile(
            self._source.store.open(path, cache_type="none" if whole and footer else "readahead"),
            metadata=footer,
            pre_buffer=whole,
            buffer_size=0 if whole else _PIECE,
            page_checksum_verification=True,
        )


def _chosen(table: str, name: str, schema: "pa.Schema", columns: list[str] | None) -> "pa.Schema":
    import pyarrow as pa

    if columns is None:
        return schema
    missing = [column for column in columns if column not in schema.names]
    if missing:
        raise SlipwayError(
            f"Table {table}: {name} has no column {', '.join(missing)}. It has:"
            f" {', '.join(schema.names)}."
        )
    return pa.schema([schema.field(column) for column in columns])


def _with_partition(schema: "pa.Schema", partition: dict[str, Any]) -> "pa.Schema":
    import pyarrow as pa

    kinds = {int: pa.int64(), date: pa.date32(), str: pa.string(), type(None): pa.null()}
    for key, value in partition.items():
        schema = schema.append(pa.field(key, kinds[type(value)]))
    return schema


def _partitions(table: str, source: Source) -> list[dict[str, Any]]:
    """The `key=value` folders of each file; a key is a number or a day where all its values are."""
    texts: list[dict[str, str]] = []
    for file in source.files:
        folders = file[len(source.base) :].split("/")[:-1]
        pairs = [folder.partition("=") for folder in folders if "=" in folder]
        texts.append({unquote(key): unquote(value) for key, _, value in pairs})
        if texts[-1].keys() != texts[0].keys():
            raise SlipwayError(
                f"Table {table}: {source.name(file)} lies below the partitions"
                f" {', '.join(texts[-1]) or 'none'}, and {source.name(source.files[0])} below"
                f" {', '.join(texts[0]) or 'none'}. All files of a table have the same partitions."
            )
    parsers = {
        key: _partition_parser({text[key] for text in texts} - {_NO_PARTITION}) for key in texts[0]
    }
    return [
        {
            key: None if value == _NO_PARTITION else parsers[key](value)
            for key, value in text.items()
        }
        for text in texts
    ]


def _partition_parser(values: set[str]) -> Any:
    if values and all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", value) for value in values):
        return int
    if values and all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", value) for value in values):
        return date.fromisoformat
    return str


def _may_hold(file: _File, group: int, bounds: Bounds) -> bool:
    """Whether a row group can have rows in the window, by its footer or its partition."""
    if bounds.column in file.partition:
        day = file.partition[bounds.column]
        return day is None or bounds.overlaps_day(day)
    found = _statistics(file, group, bounds.column)
    if found is None or not (found.has_min_max and found.has_null_count):
        return True
    if found.physical_type not in ("INT64", "INT32"):
        return True
    start, end = in_units(bounds, file.schema.field(bounds.column).type)
    return bool(found.null_count or (found.max_raw >= start and found.min_raw < end))


def _statistics(file: _File, group: int, name: str) -> "pq.Statistics | None":
    columns = file.footer.row_group(group)
    for index in range(columns.num_columns):
        column = columns.column(index)
        if column.path_in_schema == name:
            return column.statistics
    return None
