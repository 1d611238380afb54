"""The work of ingest: a window of source tables becomes a dataset with a manifest."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from slipway.components.config.base import format_instant
from slipway.components.config.data import DataConfig, Table, Window
from slipway.components.contracts.content_hash import combined
from slipway.components.contracts.dataset import Manifest, TableInfo, TableWriter, write_manifest
from slipway.components.ingest.delta import DeltaTable
from slipway.components.ingest.parquet import ParquetTable
from slipway.components.ingest.sources import join_uri, locate, public_uri
from slipway.components.ingest.text import TextTable
from slipway.components.ingest.types import as_instants, conform
from slipway.components.ingest.window import Bounds, rows_inside
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory
from slipway.components.support.stage import progress, stage

if TYPE_CHECKING:
    import pyarrow as pa

_SECONDS_BETWEEN_REPORTS = 2.0


@stage("ingest")
def ingest_tables(
    *, config: dict[str, Any], data_root: str, window_start: str, window_end: str, output: Path
) -> Manifest:
    """Copies a window of the source tables into a dataset.

    Args:
        config: the project's `data` section.
        data_root: what relative table paths start from: a folder, or a prefix in an object store.
        window_start: first instant of the window, ISO 8601; no zone means UTC.
        window_end: first instant after the window.
        output: where the dataset appears, once it is whole.

    Returns:
        The manifest.

    Raises:
        SlipwayError: a setting is wrong, a source is missing, empty or unreadable, its files
            disagree, the window has no rows, or the disk is full. `output` is then as it was.
    """
    data = _settings(config, data_root, window_start, window_end)
    tables: dict[str, TableInfo] = {}
    with new_directory(output) as folder:
        for name, table in data.tables.items():
            tables[name] = _ingest_table(name, table, data.root, data.window, folder)
        manifest = Manifest(
            tables=tables,
            window=(format_instant(data.window.start), format_instant(data.window.end)),
            content_hash=combined({name: info.content_hash for name, info in tables.items()}),
        )
        write_manifest(folder, manifest)
    return manifest


def _settings(config: dict[str, Any], root: str, start: str, end: str) -> DataConfig:
    window = {"start": start.strip(), "end": end.strip()}
    try:
        return DataConfig.model_validate({**config, "root": root, "window": window})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}:"
            f" {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        )
        raise SlipwayError(f"The data settings are wrong: {problems}.") from error


def _ingest_table(name: str, table: Table, root: str, window: Window, folder: Path) -> TableInfo:
    """Reads one table into `folder`."""
    uri = join_uri(root, table.path)
    opened = _open(name, table, uri, folder)
    schema = opened.schema
    bounds = None
    if table.time is not None:
        schema = _with_time(name, table.time, schema)
        bounds = Bounds(column=table.time, start=window.start, end=window.end)
    writer = TableWriter(folder, name, schema, time=table.time, source=public_uri(uri))
    read, timed, told = 0, 0, time.monotonic()
    for number, batch in opened.batches(bounds):
        batch = conform(batch, schema)
        read += batch.num_rows
        if bounds is not None:
            batch = rows_inside(batch, bounds)
            timed += batch.num_rows - batch.column(bounds.column).null_count
        writer.write(batch)
        if time.monotonic() - told > _SECONDS_BETWEEN_REPORTS:
            told = time.monotonic()
            progress(f"{name}: {writer.rows:,} rows, file {number + 1} of {opened.files}")
    info = writer.close()
    if info.rows == 0 and bounds is None:
        raise SlipwayError(f"Table {name}: {info.source} has columns but no row.")
    if bounds is not None and timed == 0:
        raise SlipwayError(
            f"Table {name}: {info.source} has no row with {bounds.column} from"
            f" {format_instant(bounds.start)} to {format_instant(bounds.end)} (exclusive)."
            f" {opened.extent(bounds.column)}".rstrip()
        )
    progress(f"{name}: {info.rows:,} rows, {info.bytes / 1e6:,.1f} MB from {info.source}")
    return info


def _open(name: str, table: Table, uri: str, folder: Path) -> ParquetTable | TextTable | DeltaTable:
    if table.types and table.format not in ("csv", "jsonl"):
        raise SlipwayError(
            f"Table {name}: `types:` is for csv and jsonl; a {table.format} file says its own types."
        )
    if table.columns is not None and table.time is not None and table.time not in table.columns:
        raise SlipwayError(
            f"Table {name}: `columns:` must name the time column {table.time}, which the window needs."
        )
    if table.format == "delta":
        return DeltaTable(name, uri, table.columns)
    source = locate(name, uri, table.format)
    if table.format == "parquet":
        return ParquetTable(name, source, table.columns)
    return TextTable(name, source, table, folder)


def _with_time(table: str, column: str, schema: "pa.Schema") -> "pa.Schema":
    index = schema.get_field_index(column)
    if index < 0:
        raise SlipwayError(
            f"Table {table} has no column {column}, which `time:` names. It has:"
            f" {', '.join(schema.names)}."
        )
    field = schema.field(index)
    return schema.set(index, field.with_type(as_instants(table, column, field.type)))
