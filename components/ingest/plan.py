"""What the shards of an ingest agree on before the first of them reads a row."""

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar

from slipway.components.config.base import format_instant
from slipway.components.contracts.dataset import PART_ROWS, ROW_GROUP
from slipway.components.contracts.record import Record
from slipway.components.contracts.shards import Shard, count_shards
from slipway.components.ingest.pieces import Pinned, PinnedFile
from slipway.components.ingest.reader import TableReader
from slipway.components.support.stage import progress

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "plan.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The rows of a table that a shard ingests.

    Attributes:
        first_piece, pieces: the pieces of the source that they are in.
        skipped: rows of the first piece that are in the window and come before.
        first_row: how many rows of the table come before: whole row groups.
        rows: how many they are.
    """

    first_piece: int
    pieces: int
    skipped: int
    first_row: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePlan:
    """How a table is ingested in shards.

    Attributes:
        columns: the source's schema, as Arrow writes one, in base64.
        files, version: what was found at the source.
        before, after: rows outside the window.
        warnings: what a person should know of the source.
        shares: of each shard; empty: csv or jsonl, whose types are known only when all was read. A shard
            reads it whole.
        reader: the index of that shard.
    """

    columns: str = ""
    files: list[PinnedFile] = field(default_factory=list)
    version: int | None = None
    before: int = 0
    after: int = 0
    warnings: list[str] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)
    reader: int = 0

    @property
    def schema(self) -> "pa.Schema":
        """The source's columns."""
        import pyarrow as pa

        return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(self.columns)))

    def pinned(self, share: Share) -> Pinned:
        """The source as a shard must find it."""
        return Pinned(
            files=self.files,
            version=self.version,
            schema=self.schema,
            pieces=range(share.first_piece, share.first_piece + share.pieces),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestPlan(Record):
    """How all tables are ingested. `window` is as in the dataset's manifest.

    Attributes:
        moment: when the plan was made.
        count: how many shards there are.
        may_be_empty, required: as for `ingest_tables`.
    """

    ABSENT: ClassVar[str] = "holds no plan of an ingest"

    tables: dict[str, TablePlan]
    window: tuple[str, str] | None
    moment: str
    count: int
    may_be_empty: bool = False
    required: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def shards(self) -> list[str]:
        """What each shard's task is given."""
        return [
            Shard(moment=self.moment, index=index, of=self.count).text
            for index in range(self.count)
        ]

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        rows = sum(share.rows for table in self.tables.values() for share in table.shares)
        whole = sum(not table.shares for table in self.tables.values())
        text = f", and {whole} of csv or jsonl by one shard each" if whole else ""
        return f"{rows:,} rows in {self.count} shard{'s' if self.count > 1 else ''}{text}"


def make_plan(
    readers: dict[str, TableReader | None],
    asked: int,
    window: tuple[str, str] | None,
    moment: datetime,
) -> IngestPlan:
    """Counts the rows of all tables and cuts them.

    Args:
        readers: of each table; None: it is read whole, by one shard.
        asked: how many shards at most; 0: as many as the largest table asks for.
        window: that the tables are cut to.
        moment: when the plan is made.
    """
    counts = {}
    for name, reader in readers.items():
        if reader is not None:
            counts[name] = reader.count_pieces()
            progress(f"{name}: {sum(counts[name]):,} rows at {reader.source}")
    largest = max((sum(each) for each in counts.values()), default=0)
    whole = [name for name, reader in readers.items() if reader is None]
    pieces = max(-(-largest // ROW_GROUP), len(whole))
    count = count_shards(asked, rows=largest, pieces=pieces)
    tables = {}
    for name, reader in readers.items():
        if reader is None:
            # One after another from the last on: the first have the rows of what is cut.
            tables[name] = TablePlan(reader=(count - 1 - whole.index(name)) % count)
        else:
            tables[name] = _plan_table(reader, counts[name], count)
    return IngestPlan(
        tables=tables,
        window=window,
        moment=format_instant(moment),
        count=count,
    )


def _plan_table(reader: TableReader, counts: list[int], of: int) -> TablePlan:
    return TablePlan(
        columns=base64.b64encode(reader.source_schema.serialize().to_pybytes()).decode(),
        files=reader.pinned_files,
        version=reader.version,
        before=reader.outside.before,
        after=reader.outside.after,
        warnings=reader.warnings,
        shares=_shares(counts, of),
    )


def _shares(counts: Sequence[int], of: int) -> list[Share]:
    """Cuts a table between row groups of the dataset, and where it has enough files between those."""
    starts = [0, *accumulate(counts)]
    total = starts[-1]
    sizes = [-(-min(PART_ROWS, total - first) // ROW_GROUP) for first in range(0, total, PART_ROWS)]
    shares = []
    for index in range(of):
        groups = Shard(index=index, of=of).share(sizes)
        first, end = (min(side * ROW_GROUP, total) for side in (groups.start, groups.stop))
        piece = bisect_right(starts, first) - 1
        shares.append(
            Share(
                first_piece=piece,
                pieces=bisect_left(starts, end) - piece if end > first else 0,
                skipped=first - starts[piece],
                first_row=first,
                rows=end - first,
            )
        )
    return shares
