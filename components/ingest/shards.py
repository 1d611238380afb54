"""Ingest as shards, one task each: the plan that all follow, a shard, and the dataset that they make."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from slipway.components.config.base import format_instant, parse_instant
from slipway.components.config.data import DataConfig
from slipway.components.contracts.dataset import (
    ROW_GROUP,
    Manifest,
    TableInfo,
    TableWriter,
    read_manifest,
    table_files,
    write_manifest,
)
from slipway.components.contracts.rows.content_hash import ContentHash
from slipway.components.contracts.shards import Shard, count_shards, join_files, put_in_order
from slipway.components.ingest.ingest import (
    copy_rows,
    describe,
    describe_all,
    read_settings,
    require_columns,
)
from slipway.components.ingest.plan import FILE, IngestPlan, TablePlan, make_plan
from slipway.components.ingest.reader import TableReader
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory
from slipway.components.support.stage import stage

_NOTE = "shard"


@stage("plan-ingest")
def plan_ingest(
    *,
    config: dict[str, object],
    data_root: str,
    window_start: str,
    window_end: str,
    plan: Path,
    shards: int,
    required: dict[str, dict[str, str]] | None = None,
    may_be_empty: bool = False,
    now: datetime | None = None,
) -> IngestPlan:
    """Finds the files of all tables and settles once which shard reads which of their rows.

    Of parquet and Delta tables the files' footers are read, and the time column where they do not tell
    which rows are in the window. Csv and jsonl are not opened: one shard reads such a table.

    Args:
        config: the project's `data` section.
        data_root: as for `ingest_tables`.
        window_start: likewise.
        window_end: likewise.
        plan: the folder that the plan appears in.
        shards: how many at most; 0: as many as the largest table asks for.
        required: as for `ingest_tables`.
        may_be_empty: likewise.
        now: when the plan is made; None: now.

    Raises:
        SlipwayError: as `ingest_tables`, as far as the footers tell.
    """
    data = read_settings(config, data_root, window_start, window_end)
    with new_directory(plan) as folder:
        readers: dict[str, TableReader | None] = {}
        for name, table in data.tables.items():
            readers[name] = None
            if table.format in ("parquet", "delta"):
                reader = TableReader(name, table, data.root, data.window, folder, may_be_empty)
                require_columns(name, reader, (required or {}).get(name, {}))
                readers[name] = reader
        window = data.window.texts if data.window else None
        made = replace(
            make_plan(readers, shards, window, now or datetime.now(UTC)),
            may_be_empty=may_be_empty,
            required=required or {},
        )
        made.write(folder / FILE)
    return made


@stage("ingest-shard")
def ingest_shard(
    *, plan: Path, config: dict[str, object], data_root: str, shard: str, part: Path
) -> Manifest:
    """Ingests the rows of one shard; run again it gives the same files, byte for byte.

    Args:
        plan: the folder of the plan.
        config: the project's `data` section.
        data_root: as for `ingest_tables`.
        shard: its text in the plan.
        part: where its rows appear: a dataset whose files are those of the whole one, or parts of them.

    Raises:
        SlipwayError: as `ingest_tables`; or the source has changed since the plan was made.
    """
    agreed = IngestPlan.read(plan / FILE)
    given = Shard.parse(shard)
    start, end = agreed.window or ("", "")
    data = read_settings(config, data_root, start, end)
    note = {"index": given.index, "of": given.of, "plan": _fingerprint(plan)}
    with new_directory(part) as folder:
        tables = {}
        for name, planned in agreed.tables.items():
            info = _ingest_share(name, data, agreed, planned, given.index, folder)
            if info is not None:
                tables[name] = info
        manifest = replace(describe_all(tables, agreed.window), notes={_NOTE: note})
        write_manifest(folder, manifest)
    return manifest


def _ingest_share(
    name: str, data: DataConfig, plan: IngestPlan, planned: TablePlan, index: int, folder: Path
) -> TableInfo | None:
    """Ingests what a shard has of a table; None: nothing."""
    table = data.tables[name]
    if not planned.shares:
        if planned.reader != index:
            return None
        reader = TableReader(name, table, data.root, data.window, folder, plan.may_be_empty)
        require_columns(name, reader, plan.required.get(name, {}))
        writer = TableWriter(folder, name, reader.schema, time=table.time, source=reader.source)
        info = copy_rows(name, reader, reader.batches(), writer)
        return describe(info, reader.outside, reader.warnings)
    share = planned.shares[index]
    # A table without rows has a file, as that of one task.
    if not share.rows and (index or any(each.rows for each in planned.shares)):
        return None
    pinned = planned.pinned(share)
    reader = TableReader(name, table, data.root, data.window, folder, pinned=pinned)
    writer = TableWriter(
        folder,
        name,
        reader.schema,
        time=table.time,
        source=reader.source,
        first_row=share.first_row,
    )
    rows = reader.some_batches(pinned.pieces, share.skipped, share.rows)
    info = copy_rows(name, reader, rows, writer)
    if info.rows != share.rows:
        raise SlipwayError(
            f"Table {name}: {reader.source} has changed since the shards were planned: {info.rows:,} of"
            f" this shard's {share.rows:,} rows are there. Run the pipeline again."
        )
    return info


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The dataset that the shards make, and the shards in which the next stage reads it."""

    manifest: Manifest
    shards: list[str]

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return self.manifest.headline


@stage("merge-dataset")
def merge_dataset(
    *,
    plan: Path,
    parts: Sequence[Path],
    dataset: Path,
    shards: int,
    now: datetime | None = None,
) -> Merged:
    """Puts the shards together: the files and the manifest that one task makes, byte for byte.

    Memory holds one row group.

    Args:
        plan: the folder of the plan.
        parts: the folder of each shard, in any order.
        dataset: where the whole appears.
        shards: how many the next stage has at most; 0: as many as the largest table asks for.
        now: the moment for the next stage's checks; None: this one.

    Raises:
        SlipwayError: a shard is missing, or they follow different plans. Nothing is left behind.
    """
    agreed = IngestPlan.read(plan / FILE)
    manifests = {part: read_manifest(part) for part in parts}
    for part, each in manifests.items():
        if _NOTE not in each.notes:
            raise SlipwayError(f"{part} holds no shard of a dataset, but all of one.")
    ordered = put_in_order(((manifests[p].notes[_NOTE], p) for p in parts), "ingest")
    if manifests[ordered[0]].notes[_NOTE]["plan"] != _fingerprint(plan):
        raise SlipwayError(f"{ordered[0]} is a shard of another plan than {plan}.")
    tables = {}
    with new_directory(dataset) as folder:
        for name, planned in agreed.tables.items():
            found = [p for p in ordered if name in manifests[p].tables]
            join_files([part / name for part in found], "part-*.parquet", folder / name)
            infos = [manifests[part].tables[name] for part in found]
            tables[name] = _whole(infos, planned, table_files(folder, name))
        manifest = describe_all(tables, agreed.window)
        write_manifest(folder, manifest)
    largest = max(info.rows for info in tables.values())
    count = count_shards(shards, rows=largest, pieces=-(-largest // ROW_GROUP))
    moment = format_instant(now or datetime.now(UTC))
    return Merged(
        manifest=manifest,
        shards=[Shard(moment=moment, index=index, of=count).text for index in range(count)],
    )


def _whole(infos: list[TableInfo], planned: TablePlan, files: list[Path]) -> TableInfo:
    """What the manifest says of a table, from what it says of its shards."""
    content = ContentHash()
    for info in infos:
        content.merge(ContentHash.parse(info.content_hash))
    first = [parse_instant(info.min_time) for info in infos if info.min_time is not None]
    last = [parse_instant(info.max_time) for info in infos if info.max_time is not None]
    whole = replace(
        infos[0],
        rows=sum(info.rows for info in infos),
        bytes=sum(file.stat().st_size for file in files),
        content_hash=content.hex,
        min_time=format_instant(min(first)) if first else None,
        max_time=format_instant(max(last)) if last else None,
    )
    if not planned.shares:
        return whole
    return replace(
        whole, before=planned.before, after=planned.after, warnings=list(planned.warnings)
    )


def _fingerprint(plan: Path) -> str:
    return hashlib.sha256((plan / FILE).read_bytes()).hexdigest()[:32]
