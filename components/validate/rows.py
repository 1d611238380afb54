"""One pass over a table's row groups: every check, the good rows here, the others there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.contracts.dataset import (
    ROW_GROUP,
    TableInfo,
    TableWriter,
    as_written,
    table_files,
    time_extent,
    writes_to,
)
from slipway.components.contracts.rows.content_hash import ContentHash
from slipway.components.contracts.shards import Shard
from slipway.components.contracts.table_schema.bounds import ticks
from slipway.components.contracts.table_schema.checks import Check
from slipway.components.contracts.table_schema.frames import all_in, evaluates, frame_of, shown
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress
from slipway.components.validate.footers import spans_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

REASONS = "_reasons"
ROW = "_row"
EXAMPLES = 5


@dataclass(slots=True, kw_only=True)
class CheckTally:
    """How many rows failed one check, and the first few of them."""

    check: Check
    failed: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What one pass over a table, or over a part of it, found.

    Attributes:
        info: what the dataset's manifest says of the table.
        quarantine: the rows that were set apart.
        taken: their hash, negative: with it the table's is that of the good rows.
        tallies: of each check. nulls: of each column.
    """

    info: TableInfo
    quarantine: TableInfo
    taken: ContentHash
    tallies: list[CheckTally]
    nulls: dict[str, int]

    def good(self, folder: Path, table: str) -> TableInfo:
        """What a manifest says of the table's good rows, which are in a dataset."""
        first, last = time_extent(folder, table, self.info.time)
        content = ContentHash.parse(self.info.content_hash)
        content.merge(self.taken)
        return replace(
            self.info,
            rows=self.info.rows - self.quarantine.rows,
            bytes=sum(file.stat().st_size for file in table_files(folder, table)),
            content_hash=content.hex,
            min_time=first,
            max_time=last,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroups:
    """Row groups of a table.

    Attributes:
        sizes: how many each of the table's files has.
        groups: which of them are meant, by their places in the file.
        rows: the numbers of their rows.
        first_group: how many row groups come before.
    """

    sizes: list[int]
    groups: list[range]
    rows: range
    first_group: int

    @classmethod
    def of(cls, folder: Path, table: str, shard: Shard) -> "RowGroups":
        """A shard's part of a dataset's table."""
        import pyarrow.parquet as pq

        footers = [pq.read_metadata(file) for file in table_files(folder, table)]
        sizes = [footer.num_row_groups for footer in footers]
        meant = shard.share(sizes)
        rows = [f.row_group(group).num_rows for f in footers for group in range(f.num_row_groups)]
        before = sum(rows[: meant.start])
        starts = [0, *accumulate(sizes)]
        return cls(
            sizes=sizes,
            groups=[
                range(max(meant.start - start, 0), max(min(meant.stop - start, size), 0))
                for start, size in zip(starts, sizes, strict=False)
            ],
            rows=range(before, before + sum(rows[meant.start : meant.stop])),
            first_group=meant.start,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """One row group: where it starts, and for each check that some row fails, which rows."""

    index: int
    start: int
    rows: int
    failing: dict[int, "np.ndarray"]


class RowChecker:
    """Runs a table's checks.

    Args:
        folder: the dataset.
        table: the table.
        info: what the manifest says of it.
        checks: the checks.
        repeated: for each key that is not unique, the rows that repeat an earlier one's.
        part: the row groups to be checked; the masks in `repeated` are of their rows alone.
    """

    def __init__(
        self,
        folder: Path,
        table: str,
        info: TableInfo,
        checks: list[Check],
        repeated: dict[tuple[str, ...], "np.ndarray"],
        part: RowGroups,
    ):
        self._folder, self._table, self._info = folder, table, info
        self._checks, self._repeated, self._part = checks, repeated, part
        self._tallies = [CheckTally(check=check) for check in checks]
        self._nulls = dict.fromkeys(info.columns, 0)
        self._latest: Any = None

    def run(self, good: Path, quarantine: Path) -> Checked:
        """Checks the rows; writes the good ones and the others.

        A whole file in which every row is good is copied as it is. Memory holds one row group and, of a
        file's failing rows, a bit a check.

        Args:
            good: the folder of the dataset of good rows.
            quarantine: the folder of the dataset of the others, with their reasons.

        Raises:
            SlipwayError: a file is damaged, or the disk is full.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        files = table_files(self._folder, self._table)
        schema = pq.read_schema(files[0])
        apart = TableWriter(
            quarantine,
            self._table,
            schema.append(pa.field(REASONS, pa.string())).append(pa.field(ROW, pa.int64())),
            time=self._info.time,
            source=self._info.source,
        )
        content = ContentHash()
        target = good / self._table
        target.mkdir(parents=True)
        self._latest = self._latest_before()
        rows = self._part.rows
        start = rows.start
        for file, size, wanted in zip(files, self._part.sizes, self._part.groups, strict=True):
            if size and not wanted:
                continue
            groups = list(self._check_file(file, wanted, start))
            start += sum(group.rows for group in groups)
            with writes_to(target):
                bad = any(self._apart(group) is not None for group in groups)
                if bad or len(groups) < size:
                    self._separate(file, groups, target / file.name, apart, content)
                else:
                    shutil.copyfile(file, target / file.name)
            done = start - rows.start
            progress(f"{self._table}: {done:,} rows checked", done / max(len(rows), 1))
        return Checked(
            info=self._info,
            quarantine=apart.close(),
            taken=content,
            tallies=self._tallies,
            nulls=self._nulls,
        )

    def _latest_before(self) -> Any:
        """Of a column that must not go back in time the greatest value before these rows."""
        import pyarrow.parquet as pq

        ordered = next((check for check in self._checks if check.kind == "order"), None)
        latest, left = None, self._part.first_group
        for file in table_files(self._folder, self._table) if ordered and left else []:
            parquet = pq.ParquetFile(file)
            for index in range(min(parquet.num_row_groups, left)):
                name = ordered.columns[0] if ordered else ""
                span = spans_of(parquet.metadata.row_group(index), parquet.schema_arrow)[name]
                highest = span.high
                if highest is None:  # the footer does not tell
                    highest = _greatest(parquet.read_row_group(index, [name])[name])
                if highest is not None and (latest is None or highest > latest):
                    latest = highest
            left -= min(parquet.num_row_groups, left)
        return latest

    def _check_file(self, file: Path, wanted: range, start: int) -> Iterator[_Group]:
        import pyarrow.parquet as pq

        texts = [check.columns[0] for check in self._checks if check.enum is not None]
        with _reads(file):
            parquet = pq.ParquetFile(file, read_dictionary=texts, pre_buffer=False)
            for index in wanted:
                group = self._check_group(parquet, index, start)
                start += group.rows
                yield group

    def _check_group(self, parquet: "pq.ParquetFile", index: int, start: int) -> _Group:
        """Reads the columns that the footer does not clear, and evaluates what is left to check."""
        footer = parquet.metadata.row_group(index)
        spans = spans_of(footer, parquet.schema_arrow)
        for name, span in spans.items():
            self._nulls[name] += span.nulls or 0
        pending = [
            number
            for number, check in enumerate(self._checks)
            if check.sure is None or not check.sure(spans[check.columns[0]])
        ]
        rows = footer.num_rows
        failing: dict[int, np.ndarray] = {}
        if rows:
            table = parquet.read_row_group(
                index,
                columns=sorted({name for n in pending for name in self._checks[n].columns}),
                use_threads=False,
            )
            failing = self._evaluate(table, pending, start, rows)
            self._note(table, failing, start)
        return _Group(index=index, start=start, rows=rows, failing=failing)

    def _evaluate(
        self, table: "pa.Table", pending: list[int], start: int, rows: int
    ) -> dict[int, "np.ndarray"]:
        import polars as pl

        failing: dict[int, np.ndarray] = {}
        expressions: dict[int, pl.Expr] = {}
        for number in pending:
            check = self._checks[number]
            if check.kind == "unique":
                if check.columns in self._repeated:
                    first = start - self._part.rows.start
                    failing[number] = self._repeated[check.columns][first : first + rows]
            elif check.kind == "order":
                expressions[number] = self._back_in_time(table, check.columns[0])
            elif check.enum is None or not all_in(table[check.columns[0]], check.enum):
                assert check.fails is not None  # noqa: S101
                expressions[number] = check.fails
        if expressions:
            columns = {c for n in expressions for c in self._checks[n].columns}
            with evaluates(self._table, columns):
                frame = frame_of(table, columns)
                found = frame.select(e.alias(str(n)) for n, e in expressions.items())
            # Only what fails is unpacked from bits to bytes.
            failing |= {int(column.name): column.to_numpy() for column in found if column.any()}
        return {number: mask for number, mask in failing.items() if mask.any()}

    def _back_in_time(self, table: "pa.Table", name: str) -> "pl.Expr":
        """True for a row below the greatest value of the rows before it, in this group or earlier."""
        import polars as pl
        import pyarrow as pa

        value, latest = pl.col(name), self._latest
        if pa.types.is_temporal(table.schema.field(name).type):
            value = value.to_physical()
        fails = (value < value.cum_max().forward_fill().shift(1)).fill_null(False)
        highest = _greatest(table[name])
        if latest is not None:
            fails = fails | (value < latest).fill_null(False)
        if highest is not None and (latest is None or highest > latest):
            self._latest = highest
        return fails

    def _note(self, table: "pa.Table", failing: dict[int, "np.ndarray"], start: int) -> None:
        """Counts failing rows, and keeps the first few as examples."""
        import numpy as np

        for number, mask in failing.items():
            tally = self._tallies[number]
            tally.failed += int(np.count_nonzero(mask))
            wanted = EXAMPLES - len(tally.examples)
            for row in np.flatnonzero(mask)[: max(wanted, 0)].tolist():
                values = {name: shown(table[name][row]) for name in tally.check.columns}
                tally.examples.append({"row": start + row, "values": values})

    def _apart(self, group: _Group) -> "np.ndarray | None":
        """The rows of a group that do not go on: those that fail a check of level fail."""
        import numpy as np

        masks = [mask for n, mask in group.failing.items() if self._checks[n].level == "fail"]
        return np.logical_or.reduce(masks) if masks else None

    def _separate(
        self,
        file: Path,
        groups: list[_Group],
        target: Path,
        apart: TableWriter,
        content: ContentHash,
    ) -> None:
        """Writes a file's good rows to `target` and takes the others apart."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        parquet = pq.ParquetFile(file, pre_buffer=False)
        # The hash knows the types as they were written.
        schema = as_written(parquet.schema_arrow)
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for group in groups:
                with _reads(file):
                    table = parquet.read_row_group(group.index, use_threads=False).cast(schema)
                mask = self._apart(group)
                if mask is None:
                    writer.write_table(table, row_group_size=ROW_GROUP)
                    continue
                bad = table.filter(pa.array(mask)).combine_chunks()
                for batch in bad.to_batches():
                    content.subtract(batch)
                rows = np.flatnonzero(mask)
                bad = bad.cast(parquet.schema_arrow)
                bad = bad.append_column(REASONS, self._reasons(group, rows))
                bad = bad.append_column(ROW, pa.array(group.start + rows, pa.int64()))
                for batch in bad.to_batches():
                    apart.write(batch)
                writer.write_table(table.filter(pa.array(~mask)), row_group_size=ROW_GROUP)

    def _reasons(self, group: _Group, rows: "np.ndarray") -> "pa.Array":
        """For each row, the texts of all checks that it failed, also those that only warn."""
        import numpy as np
        import pyarrow as pa

        texts = [self._checks[number].text for number in group.failing]
        failed = np.stack([mask[rows] for mask in group.failing.values()], axis=1)
        kinds, which = np.unique(failed, axis=0, return_inverse=True)
        names = ["; ".join(t for t, hit in zip(texts, kind, strict=True) if hit) for kind in kinds]
        return pa.array(names, pa.string()).take(pa.array(which.reshape(-1)))


def _greatest(column: "pa.ChunkedArray") -> object:
    """The greatest value; of times as a whole number of their unit, since none past 9999 is an object."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.max(ticks(column) if pa.types.is_temporal(column.type) else column).as_py()


@contextmanager
def _reads(file: Path) -> Iterator[None]:
    """Turns a failing read into a message for a person."""
    try:
        yield
    except OSError as error:
        raise SlipwayError(f"{file} is damaged: {error}. Ingest the data again.") from error
