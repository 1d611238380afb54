"""Reads csv and jsonl: once from the source, into a scratch file; the types are known at its end.

A text file does not say its types, and a guess from its first rows breaks on a later one. So the text
goes to a compressed scratch file, on the output's disk, while each column's type is narrowed down over
all rows of all files; then the scratch file is read back with the types that hold for every row.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from slipway.components.config.data import Table
from slipway.components.contracts.dataset import writes_to
from slipway.components.ingest.guess import ColumnGuess, arrow_type
from slipway.components.ingest.lines import csv_batches, jsonl_batches
from slipway.components.ingest.sources import Source, reading
from slipway.components.ingest.window import Bounds
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa


class TextTable:
    """The csv or jsonl files of one table.

    Attributes:
        schema: the columns with the types that they have inside Slipway.
        files: how many files there are.
    """

    def __init__(self, table: str, source: Source, settings: Table, scratch: Path):
        """Reads all files.

        Raises:
            SlipwayError: a file is empty, ragged or not UTF-8, or disagrees with those before it.
        """
        self._table, self._source = table, source
        self.files = len(source.files)
        self._guesses: dict[str, ColumnGuess] = {}
        self._chunks: list[int] = []
        # Has no name in the folder, so it is gone when it is closed or the process ends.
        self._scratch: IO[bytes] = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115
        for number, file in enumerate(source.files):
            self._stage(number, file, settings, scratch)
        unknown = sorted(set(settings.types) - set(self._guesses))
        if unknown:
            raise SlipwayError(
                f"Table {table}: `types:` names {', '.join(unknown)}, which is no column. There are:"
                f" {', '.join(self._guesses)}."
            )
        self._declared = settings.types
        self.schema = self._schema()

    def _stage(self, number: int, file: str, settings: Table, scratch: Path) -> None:
        import pyarrow as pa

        name = self._source.name(file)
        rows = 0
        with reading(name):
            if self._source.store.size(file) == 0:
                raise SlipwayError(f"{name} is empty: it has 0 bytes.")
            read = csv_batches if settings.format == "csv" else jsonl_batches
            for batch in read(self._source, file, name, settings.columns):
                self._same_columns(name, batch.schema.names, settings.format)
                for field, column in zip(batch.schema, batch.columns, strict=True):
                    guess = self._guesses.setdefault(
                        field.name, ColumnGuess(field.name, quoted=settings.format == "jsonl")
                    )
                    if field.name not in settings.types:
                        guess.add(self._table, name, column)
                with (
                    writes_to(scratch),
                    pa.ipc.new_stream(
                        self._scratch,
                        batch.schema,
                        options=pa.ipc.IpcWriteOptions(compression="zstd"),
                    ) as stream,
                ):
                    stream.write_batch(batch)
                with writes_to(scratch):
                    self._scratch.flush()
                self._chunks.append(number)
                rows += batch.num_rows
        if rows == 0 and settings.format == "jsonl":
            raise SlipwayError(f"{name} is empty: it has no line with a row.")
        for guess in self._guesses.values():
            guess.end_file(self._table, name)

    def _same_columns(self, name: str, found: list[str], form: str) -> None:
        """Every csv file has the same columns; in jsonl, a key that is left out is null."""
        if form == "jsonl" or not self._chunks or set(found) == set(self._guesses):
            return
        raise SlipwayError(
            f"Table {self._table}: the columns differ between files: {name} has {', '.join(found)};"
            f" {self._source.name(self._source.files[0])} has {', '.join(self._guesses)}. Name the"
            " columns that all files have under `columns:`."
        )

    def _schema(self) -> "pa.Schema":
        import pyarrow as pa

        return pa.schema(
            [
                (name, arrow_type(self._declared[name]) if name in self._declared else guess.type())
                for name, guess in self._guesses.items()
            ]
        )

    def batches(self, bounds: Bounds | None) -> Iterator[tuple[int, "pa.RecordBatch"]]:
        """Gives the number of the file and a batch. Text has no index: all rows are given.

        Args:
            bounds: not used; the caller filters.

        Raises:
            SlipwayError: a value is not of the type that `types:` declares.
        """
        import pyarrow as pa

        self._scratch.seek(0)
        for number in self._chunks:
            file = self._source.name(self._source.files[number])
            for batch in pa.ipc.open_stream(self._scratch):
                columns = [
                    self._converted(file, field, batch.column(field.name))
                    if field.name in batch.schema.names
                    else pa.nulls(batch.num_rows, field.type)
                    for field in self.schema
                ]
                yield number, pa.RecordBatch.from_arrays(columns, schema=self.schema)
        self._scratch.close()

    def _converted(self, file: str, field: "pa.Field", column: "pa.Array") -> "pa.Array":
        import pyarrow as pa

        if pa.types.is_null(field.type):
            return pa.nulls(len(column))
        try:
            return column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            reason = " ".join(str(error).split())
            raise SlipwayError(
                f"Table {self._table}: the column {field.name} of {file} does not have the type"
                f" {self._declared.get(field.name, field.type)}: {reason}. Mend the file or declare"
                f" another type: `types: {{{field.name}: string}}`."
            ) from error

    def extent(self, column: str) -> str:
        """What times there are, for the message about a window without rows."""
        return ""
