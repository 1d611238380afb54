"""The work of ingest: a window of source tables becomes a dataset with a manifest."""

import difflib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.data import DataConfig
from slipway.components.contracts.dataset import Manifest, TableInfo, TableWriter, write_manifest
from slipway.components.contracts.rows.content_hash import combined
from slipway.components.ingest.reader import TableReader
from slipway.components.ingest.window import Outside
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory
from slipway.components.support.stage import progress, stage

if TYPE_CHECKING:
    import pyarrow as pa

_SECONDS_BETWEEN_REPORTS = 2.0


@stage("ingest")
def ingest_tables(
    *,
    config: dict[str, object],
    data_root: str,
    window_start: str,
    window_end: str,
    output: Path,
    required: dict[str, dict[str, str]] | None = None,
    may_be_empty: bool = False,
) -> Manifest:
    """Copies a window of the source tables into a dataset.

    Args:
        config: the project's `data` section.
        data_root: what relative table paths start from: a folder, or a prefix in an object store.
        window_start: first instant of the window, ISO 8601; no zone means UTC. Empty: no table has a
            time, and all are taken whole.
        window_end: first instant after the window.
        output: where the dataset appears, once it is whole.
        required: by table, the columns that it must have, each with the setting that names it.
        may_be_empty: whether a table may have no row in the window, which is a warning then.

    Returns:
        The manifest.

    Raises:
        SlipwayError: a setting is wrong, a source is missing, empty or unreadable, its files
            disagree, the window has no rows, or the disk is full. `output` is then as it was.
    """
    data = read_settings(config, data_root, window_start, window_end)
    tables: dict[str, TableInfo] = {}
    with new_directory(output) as folder:
        for name, table in data.tables.items():
            reader = TableReader(name, table, data.root, data.window, folder, may_be_empty)
            require_columns(name, reader, (required or {}).get(name, {}))
            writer = TableWriter(folder, name, reader.schema, time=table.time, source=reader.source)
            info = copy_rows(name, reader, reader.batches(), writer)
            tables[name] = describe(info, reader.outside, reader.warnings)
        manifest = describe_all(tables, data.window.texts if data.window else None)
        write_manifest(folder, manifest)
    return manifest


def read_settings(config: dict[str, object], root: str, start: str, end: str) -> DataConfig:
    """The `data` section with the root and the window of a run."""
    # Without a window of the run the section has none either: one there would decide unseen.
    given = start.strip() or "window" in config
    window = {"window_start": start.strip(), "window_end": end.strip()} if given else {}
    return DataConfig.parse(config, "data", {"data_root": root, **window})


def copy_rows(
    name: str, reader: TableReader, rows: Iterator["pa.RecordBatch"], writer: TableWriter
) -> TableInfo:
    """Writes rows of one table, and tells how far it is."""
    told = time.monotonic()
    for batch in rows:
        writer.write(batch)
        if time.monotonic() - told > _SECONDS_BETWEEN_REPORTS:
            told = time.monotonic()
            progress(f"{name}: {writer.rows:,} rows, at {reader.file}")
    info = writer.close()
    progress(f"{name}: {info.rows:,} rows, {info.bytes / 1e6:,.1f} MB from {info.source}")
    return info


def describe(info: TableInfo, outside: Outside, warnings: list[str]) -> TableInfo:
    """What the manifest says of a table whose source was read to its end."""
    return replace(info, before=outside.before, after=outside.after, warnings=warnings)


def describe_all(tables: dict[str, TableInfo], window: tuple[str, str] | None) -> Manifest:
    """The manifest of these tables, in the order of their names.

    The settings come through a protobuf `Struct`, whose map keeps no order.
    """
    return Manifest(
        tables=dict(sorted(tables.items())),
        window=window,
        content_hash=combined({name: info.content_hash for name, info in tables.items()}),
    )


def require_columns(name: str, reader: TableReader, required: dict[str, str]) -> None:
    """Refuses a table without a column that training needs, before anything is read.

    Raises:
        SlipwayError: naming the column, the setting that names it, and what is there.
    """
    there = reader.schema.names
    for column, setting in required.items():
        if column not in there:
            near = difflib.get_close_matches(column, there, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SlipwayError(
                f"Table {name}: {reader.source} has no column {column}, which {setting} names.{hint}"
                f" It has: {', '.join(there)}."
            )
