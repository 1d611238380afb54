"""Reads csv and jsonl: once from the source, into a scratch file; the types are known at its end.

A text file does not say its types, and a guess from its first rows breaks on a later one. So the text
goes to a compressed scratch file, on the output's disk, while each column's type is narrowed down over
all rows of all files; then the scratch file is read back with the types that hold for every row.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from slipway.components.config.data import Table
from slipway.components.contracts.dataset import writes_to
from slipway.components.ingest.columns import Columns
from slipway.components.ingest.formats.guess import PLAIN, ColumnGuess, convert_text
from slipway.components.ingest.formats.lines import KINDS, Folders, csv_batches, jsonl_batches
from slipway.components.ingest.formats.partitions import partition_kinds, partition_texts
from slipway.components.ingest.sources import Source, empty_files, reading
from slipway.components.ingest.types import empty_as_null
from slipway.components.ingest.window import Outside, TimeBounds
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa


class TextTable:
    """The csv or jsonl files of one table. It is one piece: its types are known when all was read.

    Attributes:
        schema: the columns with the types that they have inside Slipway.
        files: how many files there are.
        outside: stays empty: text has no index, so all rows are read.
        warnings: what a person should know of the files, and of how they were read.
    """

    def __init__(
        self, table: str, source: Source, settings: Table, columns: Columns, scratch: Path
    ):
        """Reads all files.

        Raises:
            SlipwayError: a file is ragged or not UTF-8, or disagrees with those before it; or no file
                has a row.
        """
        self._table, self._source, self._columns = table, source, columns
        self._form, self._declared = settings.format, settings.types
        self._dialect = settings.csv or PLAIN
        self.files = len(source.files)
        self.outside = Outside()
        self.warnings: list[str] = []
        self._guesses: dict[str, ColumnGuess] = {}
        self._folders = partition_texts(table, source)
        kinds = partition_kinds(self._folders).items()
        self._folder_kinds = {columns.name(key): kind for key, kind in kinds}
        self._chunks: list[int] = []
        # Has no name in the folder, so it is gone when it is closed or the process ends.
        self._scratch: IO[bytes] = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115
        empty = {
            source.name(file): problem
            for number, file in enumerate(source.files)
            if (problem := self._stage(number, file, scratch))
        }
        if len(empty) == self.files and (not self._guesses or self._form == "jsonl"):
            raise SlipwayError(f"Table {table}: {' '.join(next(iter(empty.items())))}.")
        self.warnings += empty_files(empty) if len(empty) < self.files else []
        columns.require_renamed(self._guesses)
        self._require(columns.wanted or [], "columns:")
        self._require(list(self._declared), "types:")
        order = columns.wanted or list(self._guesses)
        self._guesses = {name: self._guesses[name] for name in order}
        self.warnings += filter(None, (guess.warning() for guess in self._guesses.values()))
        self.schema = self._schema()

    def _require(self, names: list[str], setting: str) -> None:
        unknown = sorted(set(names) - set(self._guesses))
        if unknown:
            raise SlipwayError(
                f"Table {self._table}: `{setting}` names {', '.join(unknown)}, which is no column."
                f" There are: {', '.join(self._guesses)}."
            )

    def _stage(self, number: int, file: str, scratch: Path) -> str | None:
        """Takes a file's text to the scratch file; says so where it is empty."""
        name = self._source.name(file)
        rows = 0
        with reading(name):
            if self._source.store.size(file) == 0:
                return "is empty: it has 0 bytes"
            for batch in self._read(file, name, self._folders[number]):
                self._same_columns(name, batch.schema.names)
                self._add(name, batch, scratch)
                self._chunks.append(number)
                rows += batch.num_rows
        for guess in self._guesses.values():
            guess.end_file(self._table, name)
        if rows:
            return None
        return "has columns and no row" if self._form == "csv" else "is empty: it has no row"

    def _read(self, file: str, name: str, folders: Folders) -> Iterator["pa.RecordBatch"]:
        if self._form == "csv":
            return csv_batches(self._source, file, name, self._columns, folders, self._dialect)
        return jsonl_batches(self._source, file, name, self._columns, folders)

    def _add(self, name: str, batch: "pa.RecordBatch", scratch: Path) -> None:
        import pyarrow as pa

        columns = [empty_as_null(column) for column in batch.columns]
        for field, column in zip(batch.schema, columns, strict=True):
            declared = self._declared.get(field.name)
            metadata = field.metadata or {}
            if b"from" in metadata:
                # All files' folders say of which type they are, not those of this one.
                declared = declared or self._folder_kinds[field.name]
            guess = self._guesses.setdefault(
                field.name,
                ColumnGuess(
                    field.name,
                    quoted=self._form == "jsonl",
                    declared=declared,
                    dialect=self._dialect,
                ),
            )
            guess.add(self._table, name, column, metadata.get(KINDS, b"").decode())
        batch = pa.RecordBatch.from_arrays(columns, schema=batch.schema)
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with (
            writes_to(scratch),
            pa.ipc.new_stream(self._scratch, batch.schema, options=options) as stream,
        ):
            stream.write_batch(batch)
        with writes_to(scratch):
            self._scratch.flush()

    def _same_columns(self, name: str, found: list[str]) -> None:
        """Every csv file has the same columns; in jsonl, a key that is left out is null."""
        if self._form == "jsonl" or not self._chunks or set(found) == set(self._guesses):
            return
        raise SlipwayError(
            f"Table {self._table}: the columns differ between files: {name} has {', '.join(found)};"
            f" {self._source.name(self._source.files[0])} has {', '.join(self._guesses)}. Name the"
            " columns that all files have under `columns:`."
        )

    def _schema(self) -> "pa.Schema":
        import pyarrow as pa

        return pa.schema([(name, guess.type()) for name, guess in self._guesses.items()])

    def batches(self, bounds: TimeBounds | None) -> Iterator[tuple[str, "pa.RecordBatch"]]:
        """Gives the file's name and a batch. Text has no index: all rows are given.

        Args:
            bounds: not used; the caller filters.

        Raises:
            SlipwayError: a value is not of the type that `types:` declares.
        """
        import pyarrow as pa

        self._scratch.seek(0)
        rows: Counter[int] = Counter()
        for number in self._chunks:
            file = self._source.name(self._source.files[number])
            for batch in pa.ipc.open_stream(self._scratch):
                start, rows[number] = rows[number], rows[number] + batch.num_rows
                columns = [
                    self._converted(file, start, field, batch.column(field.name))
                    if field.name in batch.schema.names
                    else pa.nulls(batch.num_rows, field.type)
                    for field in self.schema
                ]
                yield file, pa.RecordBatch.from_arrays(columns, schema=self.schema)
        self._scratch.close()

    def _converted(
        self, file: str, start: int, field: "pa.Field", column: "pa.Array"
    ) -> "pa.Array":
        declared = self._declared.get(field.name)

        def convert(values: "pa.Array") -> "pa.Array":
            return convert_text(values, field.type, declared, self._dialect)

        try:
            return convert(column)
        except ValueError as error:
            row = start + _first_unfit(convert, column) + 1
            raise SlipwayError(
                f"Table {self._table}: the column {field.name} of {file} does not have the type"
                f" {declared or field.type}: {error} (row {row:,}). Mend the file or declare another"
                f" type: `types: {{{field.name}: string}}`."
            ) from error

    def why_no_time(self, column: str) -> str:
        """Why a column is no time and what to do, where more is known than its type."""
        guess = self._guesses[column]
        if guess.odd is not None:
            ways = " or ".join(self._dialect.dates) or "as 2024-12-31 or 2024-12-31T23:59:00Z"
            return (
                f" '{guess.odd}' in {guess.odd_at} is no time ({ways}). Write it so, or leave it empty"
                " where the time is not known."
            )
        if self._form != "csv" or guess.example is None:
            return ""
        return (
            f" Its times, as '{guess.example}', are not written as 2024-12-31 or 2024-12-31T23:59:00Z:"
            " say how they are, as in `csv: {dates: ['%d/%m/%Y %H:%M']}`."
        )

    def extent(self, column: str) -> str:
        """What times there are, for the message about a window without rows."""
        return ""


def _first_unfit(convert: Callable[["pa.Array"], "pa.Array"], column: "pa.Array") -> int:
    """The place of the first value that cannot be converted, of a column that has one."""
    good, bad = 0, len(column)  # so many first values convert, and so many do not
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            convert(column.slice(0, middle))
            good = middle
        except ValueError:
            bad = middle
    return good
