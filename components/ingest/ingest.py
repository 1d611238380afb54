"""The work of ingest: a window of source tables becomes a dataset with a manifest."""

import difflib
import time
from dataclasses import replace
from pathlib import Path

from slipway.components.config.data import DataConfig, Table
from slipway.components.contracts.dataset import Manifest, TableInfo, TableWriter, write_manifest
from slipway.components.contracts.rows.content_hash import combined
from slipway.components.ingest.reader import TableReader
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory
from slipway.components.support.stage import progress, stage

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
    data = _settings(config, data_root, window_start, window_end)
    tables: dict[str, TableInfo] = {}
    with new_directory(output) as folder:
        for name, table in data.tables.items():
            reader = TableReader(name, table, data.root, data.window, folder, may_be_empty)
            _require_columns(name, reader, (required or {}).get(name, {}))
            tables[name] = _ingest_table(name, table, reader, folder)
        manifest = Manifest(
            tables=tables,
            window=data.window.texts if data.window else None,
            content_hash=combined({name: info.content_hash for name, info in tables.items()}),
        )
        write_manifest(folder, manifest)
    return manifest


def _settings(config: dict[str, object], root: str, start: str, end: str) -> DataConfig:
    window = {"window_start": start.strip(), "window_end": end.strip()} if start.strip() else {}
    return DataConfig.parse(config, "data", {"data_root": root, **window})


def _ingest_table(name: str, table: Table, reader: TableReader, folder: Path) -> TableInfo:
    """Reads one table into `folder`."""
    writer = TableWriter(folder, name, reader.schema, time=table.time, source=reader.source)
    told = time.monotonic()
    for batch in reader.batches():
        writer.write(batch)
        if time.monotonic() - told > _SECONDS_BETWEEN_REPORTS:
            told = time.monotonic()
            progress(f"{name}: {writer.rows:,} rows, at {reader.file}")
    info = replace(
        writer.close(),
        before=reader.outside.before,
        after=reader.outside.after,
        warnings=reader.warnings,
    )
    progress(f"{name}: {info.rows:,} rows, {info.bytes / 1e6:,.1f} MB from {info.source}")
    return info


def _require_columns(name: str, reader: TableReader, required: dict[str, str]) -> None:
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
