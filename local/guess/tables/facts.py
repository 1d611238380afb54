"""What the tables hold, as ingest makes them: columns, types, values, keys. Nothing is decided here."""

import re
import tempfile
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.data import ColumnType, Csv, Format, Table, Window
from slipway.components.ingest.formats.lines import csv_names
from slipway.components.ingest.reader import TableReader
from slipway.components.ingest.sources import find_format, locate, public_uri
from slipway.components.support.errors import ProjectError
from slipway.components.validate.infer import infer_table
from slipway.local.guess.tables.dialect import find_dialect

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

ROWS = 1_000_000
"""Rows of a table that are looked at, evenly spaced; all are where there are no more."""
COMMON = 30
_ALWAYS = Window(start=datetime(1, 1, 1, tzinfo=UTC), end=datetime(9999, 12, 31, tzinfo=UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFacts:
    """One column.

    Attributes:
        name: what the project calls it. source: what the file calls it.
        values: those of the rows that are looked at.
        rows: how many those are. nulls: without a value. distinct: different values.
        common: the most frequent values with their rows, the most frequent first.
    """

    name: str
    source: str
    values: "pl.Series"
    rows: int
    nulls: int
    distinct: int
    common: tuple[tuple[object, int], ...]

    @property
    def dtype(self) -> "pl.DataType":
        """The type of the values."""
        return self.values.dtype

    @property
    def is_text(self) -> bool:
        """Whether it holds text."""
        import polars as pl

        return self.dtype == pl.String

    @property
    def is_time(self) -> bool:
        """Whether it holds instants, wall clocks or days."""
        import polars as pl

        return isinstance(self.dtype, pl.Datetime) or self.dtype == pl.Date

    @property
    def may_be_key(self) -> bool:
        """Whether an entity's key can be of its type: text or a whole number."""
        return self.is_text or self.dtype.is_integer()

    @property
    def is_unique(self) -> bool:
        """Whether each row has a value of its own."""
        return self.nulls == 0 and self.distinct == self.rows and self.rows > 0

    @property
    def is_constant(self) -> bool:
        """Whether it holds one value or none, missing ones aside."""
        return self.distinct <= 1 and (self.nulls == 0 or self.distinct == 0)

    @property
    def words(self) -> tuple[str, ...]:
        """The parts of its name, in small letters: customerId and customer_id are customer, id."""
        parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.source or self.name).lower()
        return tuple(re.split(r"[\W_]+", parted.strip("_-. ()[]"))) or (self.name,)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """One table.

    Attributes:
        name: what the project calls it.
        place: its path or URI, as given.
        form: its format. dialect: how its csv is written; None: with commas, points and UTF-8.
        types: the types of columns, by the source's name, that the text does not tell.
        rename: the source's names of columns to ours, where they differ.
        rows: all that it has. frame: those that are looked at.
        columns: by our name.
        entry: the table's entry in a schema.
        warnings: what ingest says of the source.
    """

    name: str
    place: str
    form: Format
    dialect: Csv | None
    types: dict[str, ColumnType]
    rename: dict[str, str]
    rows: int
    frame: "pl.DataFrame"
    columns: dict[str, ColumnFacts]
    entry: dict[str, object]
    warnings: tuple[str, ...]

    @property
    def our_types(self) -> dict[str, ColumnType]:
        """`types` by our names, as a project file has them."""
        return {self.rename.get(column, column): kind for column, kind in self.types.items()}

    @property
    def is_sample(self) -> bool:
        """Whether not all rows are looked at."""
        return self.frame.height < self.rows

    def find(self, column: str) -> ColumnFacts | None:
        """A column by our name or by the source's."""
        if column in self.columns:
            return self.columns[column]
        return next((facts for facts in self.columns.values() if facts.source == column), None)


def read_tables(
    places: list[str], form: Format | None = None, numbers: Collection[str] = ()
) -> list[TableFacts]:
    """Reads tables as ingest does.

    Args:
        places: files, folders or URIs.
        form: their format, where the endings do not say.
        numbers: columns, by the source's name or ours, that a person says are of numbers: where a csv
            would be read as text (`3` beside `3.0`), they are read as numbers.

    Raises:
        SlipwayError: one is missing, empty or cannot be read; or two have one name.
    """
    names = [name_of(place) for place in places]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ProjectError(
            f"Two tables would be named {', '.join(twice)}, after their files. Rename one of the files."
        )
    tables = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, place in zip(names, places, strict=True):
            tables.append(_read(name, place, form or find_format(place), Path(scratch), numbers))
    return tables


def name_of(place: str) -> str:
    """The name of the table that lies there: that of its file or folder."""
    last = public_uri(place).rstrip("/").rsplit("/", 1)[-1].split(".")[0]
    return as_name(last, "table")


def as_name(text: str, otherwise: str) -> str:
    """A text as a name of a project file: small letters, digits and _, not first a digit.

    A letter loses its accents: Höhe (m²) is hohe_m2.
    """
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or otherwise
    return f"{otherwise[0]}_{name}" if name[0].isdigit() else name


def _read(
    name: str, place: str, form: Format, scratch: Path, numbers: Collection[str]
) -> TableFacts:
    import polars as pl
    import pyarrow as pa

    absolute = place if "://" in place else str(Path(place).resolve())
    dialect = find_dialect(locate(name, absolute, form)) if form == "csv" else None
    settings = Table(
        path=absolute, format=form, rename=_unnamed(absolute, form, dialect), csv=dialect
    )
    reader = TableReader(name, settings, "", _ALWAYS, scratch)
    names = _renames(reader.schema.names)
    texts = [
        field.name
        for field in reader.schema
        if {field.name, names.get(field.name)} & set(numbers) and pa.types.is_string(field.type)
    ]
    if form == "csv" and texts:
        settings = settings.model_copy(update={"types": dict.fromkeys(texts, "number")})
        reader = TableReader(name, settings, "", _ALWAYS, scratch)
    kept = _Kept()
    entry = infer_table(name, reader.schema, kept.tee(reader.batches()))
    rename = {**settings.rename, **_renames(reader.schema.names)}
    frame = pl.DataFrame(kept.table(reader.schema)).rename(
        {old: new for old, new in rename.items() if old in reader.schema.names}
    )
    sources = {new: old for old, new in rename.items()}
    columns = {
        column: _look(frame[column], sources.get(column, column)) for column in frame.columns
    }
    return TableFacts(
        name=name,
        place=place,
        form=form,
        dialect=dialect,
        types=dict(settings.types),
        rename=rename,
        rows=kept.rows,
        frame=frame,
        columns=columns,
        entry=_renamed(entry, rename),
        warnings=tuple(reader.warnings),
    )


def entry_of(table: TableFacts, time: str, window: Window) -> dict[str, object]:
    """The table's entry in a schema where one of its columns is its time, and so an instant.

    Args:
        table: the table.
        time: the column.
        window: what the table is cut to.
    """
    place = table.place if "://" in table.place else str(Path(table.place).resolve())
    settings = Table(
        path=place,
        format=table.form,
        rename=table.rename,
        time=time,
        csv=table.dialect,
        types=table.our_types,
    )
    with tempfile.TemporaryDirectory() as scratch:
        reader = TableReader(table.name, settings, "", window, Path(scratch))
        return infer_table(table.name, reader.schema, reader.batches())


def _unnamed(place: str, form: Format, dialect: Csv | None) -> dict[str, str]:
    """The name for a column without one, which pandas and R write: the row's number."""
    if form != "csv":
        return {}
    names = csv_names(locate(name_of(place), place, form), dialect or Csv())
    return {"": "row"} if "" in names else {}


def _renames(names: list[str]) -> dict[str, str]:
    """Names that a project file can have, for the columns that are called otherwise."""
    taken = {name for name in names if _is_name(name)}
    renames = {}
    for old in names:
        if old in taken:
            continue
        new = stem = as_name(old, "column")
        number = 2
        while new in taken:
            new, number = f"{stem}_{number}", number + 1
        renames[old] = new
        taken.add(new)
    return renames


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is not None


def _renamed(entry: dict[str, Any], rename: dict[str, str]) -> dict[str, object]:
    """A schema's entry with our names."""

    def ours(name: str) -> str:
        return rename.get(name, name)

    changed = {
        **entry,
        "required": [ours(name) for name in entry["required"]],
        "properties": {ours(name): value for name, value in entry["properties"].items()},
    }
    if "x-unique" in entry:
        changed["x-unique"] = [[ours(name) for name in names] for names in entry["x-unique"]]
    return changed


class _Kept:
    """Keeps an even sample of what goes by: all rows, or each second, fourth, … of a long table."""

    def __init__(self) -> None:
        self.rows = 0
        self._held = 0
        self._step = 1
        self._batches: list[pa.RecordBatch] = []

    def tee(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        """Gives the batches on."""
        for batch in batches:
            self._add(batch)
            yield batch

    def _add(self, batch: "pa.RecordBatch") -> None:
        first = -self.rows % self._step
        self.rows += batch.num_rows
        self._batches.append(_every(batch, first, self._step))
        self._held += self._batches[-1].num_rows
        while self._held > ROWS:
            self._halve()

    def _halve(self) -> None:
        seen, thinned = 0, []
        for batch in self._batches:
            thinned.append(_every(batch, seen % 2, 2))
            seen += batch.num_rows
        self._batches, self._step = thinned, self._step * 2
        self._held = sum(batch.num_rows for batch in thinned)

    def table(self, schema: "pa.Schema") -> "pa.Table":
        """The rows that were kept."""
        import pyarrow as pa

        return pa.Table.from_batches(self._batches, schema)


def _every(batch: "pa.RecordBatch", first: int, step: int) -> "pa.RecordBatch":
    import numpy as np
    import pyarrow as pa

    if step == 1:
        return batch
    return batch.take(pa.array(np.arange(first, batch.num_rows, step)))


def _look(values: "pl.Series", source: str) -> ColumnFacts:
    import polars as pl

    if isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone:
        values = values.dt.convert_time_zone("UTC")
    countable = not values.dtype.is_nested() and values.dtype != pl.Binary
    counts = values.drop_nulls().value_counts() if countable else None
    common: tuple[tuple[object, int], ...] = ()
    if counts is not None:
        ordered = counts.sort("count", values.name, descending=[True, False])
        common = tuple(ordered.head(COMMON).iter_rows())
    return ColumnFacts(
        name=values.name,
        source=source,
        values=values,
        rows=len(values),
        nulls=values.null_count(),
        distinct=0 if counts is None else counts.height,
        common=common,
    )
