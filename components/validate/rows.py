"""One pass over a table's row groups: every check, the good rows here, the others there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.contracts.dataset import (
    ROW_GROUP,
    TableInfo,
    TableWriter,
    table_files,
    time_extent,
    writes_to,
)
from slipway.components.contracts.rows.content_hash import ContentHash
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
_EXAMPLES = 5


@dataclass(slots=True, kw_only=True)
class CheckTally:
    """How many rows failed one check, and the first few of them."""

    check: Check
    failed: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What one pass over a table found."""

    good: TableInfo
    quarantine: TableInfo
    tallies: list[CheckTally]
    nulls: dict[str, int]


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
    """

    def __init__(
        self,
        folder: Path,
        table: str,
        info: TableInfo,
        checks: list[Check],
        repeated: dict[tuple[str, ...], "np.ndarray"],
    ):
        self._folder, self._table, self._info = folder, table, info
        self._checks, self._repeated = checks, repeated
        self._tallies = [CheckTally(check=check) for check in checks]
        self._nulls = dict.fromkeys(info.columns, 0)
        self._latest: Any = None

    def run(self, good: Path, quarantine: Path) -> Checked:
        """Checks all rows; writes the good ones and the others.

        A file in which every row is good is copied as it is. Memory holds one row group and, of a
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
        content = ContentHash.parse(self._info.content_hash)
        target = good / self._table
        target.mkdir(parents=True)
        start = 0
        for file in files:
            groups = list(self._check_file(file, start))
            start += sum(group.rows for group in groups)
            with writes_to(target):
                if any(self._apart(group) is not None for group in groups):
                    self._separate(file, groups, target / file.name, apart, content)
                else:
                    shutil.copyfile(file, target / file.name)
            progress(f"{self._table}: {start:,} rows checked", start / max(self._info.rows, 1))
        set_apart = apart.close()
        first, last = time_extent(good, self._table, self._info.time)
        return Checked(
            good=replace(
                self._info,
                rows=self._info.rows - set_apart.rows,
                bytes=sum(file.stat().st_size for file in target.iterdir()),
                content_hash=content.hex,
                min_time=first,
                max_time=last,
            ),
            quarantine=set_apart,
            tallies=self._tallies,
            nulls=self._nulls,
        )

    def _check_file(self, file: Path, start: int) -> Iterator[_Group]:
        import pyarrow.parquet as pq

        texts = [check.columns[0] for check in self._checks if check.enum is not None]
        with _reads(file):
            parquet = pq.ParquetFile(file, read_dictionary=texts, pre_buffer=False)
            for index in range(parquet.num_row_groups):
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
                    failing[number] = self._repeated[check.columns][start : start + rows]
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
        import pyarrow.compute as pc

        value, latest = pl.col(name), self._latest
        column = table[name]
        if pa.types.is_temporal(column.type):
            # As whole numbers of their unit: a date past the year 9999 is no object.
            value, column = value.to_physical(), ticks(column)
        fails = (value < value.cum_max().forward_fill().shift(1)).fill_null(False)
        highest = pc.max(column).as_py()
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
            wanted = _EXAMPLES - len(tally.examples)
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
        with pq.ParquetWriter(target, parquet.schema_arrow, compression="zstd") as writer:
            for group in groups:
                with _reads(file):
                    table = parquet.read_row_group(group.index, use_threads=False)
                mask = self._apart(group)
                if mask is None:
                    writer.write_table(table, row_group_size=ROW_GROUP)
                    continue
                bad = table.filter(pa.array(mask)).combine_chunks()
                for batch in bad.to_batches():
                    content.subtract(batch)
                rows = np.flatnonzero(mask)
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


@contextmanager
def _reads(file: Path) -> Iterator[None]:
    """Turns a failing read into a message for a person."""
    try:
        yield
    except OSError as error:
        raise SlipwayError(f"{file} is damaged: {error}. Ingest the data again.") from error
