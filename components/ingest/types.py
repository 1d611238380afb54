"""The types that tables have inside Slipway, and how the sources' types become them.

One logical type has one Arrow type, so that the stages after this one see no difference between a
file that pandas wrote and one that Spark wrote: text is `string`, a dictionary is its values, an
instant is `timestamp[us, tz=UTC]`, a wall clock without a zone is `timestamp[us]`, a day is `date32`.
"""

from typing import TYPE_CHECKING

from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa

_UTC_NAMES = {"utc", "z", "gmt", "etc/utc", "etc/gmt", "+00:00", "-00:00", "00:00", "zulu", "uct"}


def zone_of(kind: "pa.DataType") -> str | None:
    """A timestamp type's time zone, UTC by one name; None for any other type or no zone."""
    zone = getattr(kind, "tz", None)
    if zone is None:
        return None
    return "UTC" if zone.lower() in _UTC_NAMES else zone


def normal_type(kind: "pa.DataType") -> "pa.DataType":
    """The type that a source's type becomes."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return normal_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if pa.types.is_date64(kind):
        return pa.date32()
    if pa.types.is_float16(kind):
        return pa.float32()
    return kind


class UnifiedSchema:
    """The columns of a table, learnt file by file; a file that disagrees is refused by name."""

    def __init__(self, table: str):
        self._table = table
        self._types: dict[str, pa.DataType] = {}
        self._seen: dict[str, tuple[str, pa.DataType]] = {}
        self._first_file = ""

    def add(self, file: str, schema: "pa.Schema") -> None:
        """Compares a file's columns with those of the files before it.

        Raises:
            SlipwayError: a column is missing, new, of another type, or in another time zone.
        """
        import pyarrow as pa

        names = set(schema.names)
        if len(names) < len(schema.names):
            twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
            raise SlipwayError(f"{file} has the column {', '.join(twice)} more than once.")
        if not self._first_file:
            self._first_file = file
            self._types = {field.name: pa.null() for field in schema}
        self._same_columns(file, names)
        for field in schema:
            if pa.types.is_null(field.type):
                continue
            kind = normal_type(field.type)
            if field.name not in self._seen:
                self._seen[field.name] = (file, field.type)
                self._types[field.name] = kind
                continue
            other_file, other = self._seen[field.name]
            if zone_of(field.type) != zone_of(other) and pa.types.is_timestamp(kind):
                raise SlipwayError(
                    f"Table {self._table} mixes time zones: {field.name} is {field.type} in {file}"
                    f" but {other} in {other_file}. Write all files in one zone, best in UTC."
                )
            if kind != normal_type(other):
                raise SlipwayError(
                    f"Table {self._table}: the column {field.name} changes type between files:"
                    f" {field.type} in {file}, {other} in {other_file}. Rewrite one of them, or"
                    " leave the column out with `columns:`."
                )

    def _same_columns(self, file: str, names: set[str]) -> None:
        gone, new = sorted(set(self._types) - names), sorted(names - set(self._types))
        if gone or new:
            found = [f"lacks {', '.join(gone)}"] if gone else []
            found += [f"has {', '.join(new)} besides"] if new else []
            raise SlipwayError(
                f"Table {self._table}: the columns differ between files: {file}"
                f" {' and '.join(found)}, compared with {self._first_file}. Name the columns that"
                " all files have under `columns:`."
            )

    def schema(self) -> "pa.Schema":
        """The columns with the types that they have inside Slipway."""
        import pyarrow as pa

        return pa.schema(list(self._types.items()))


def as_instants(table: str, column: str, kind: "pa.DataType") -> "pa.DataType":
    """The type of a table's time column: instants in UTC.

    Raises:
        SlipwayError: the column's type holds no time.
    """
    import pyarrow as pa

    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind)):
        raise SlipwayError(
            f"Table {table}: the time column {column} is {kind}, and a window needs a timestamp or"
            " a date. Name another column under `time:`, or leave `time:` out to take all rows."
        )
    return pa.timestamp("us", tz="UTC")


def conform(batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.RecordBatch":
    """The batch with the schema's columns in its order and types.

    Digits of a second beyond the sixth are cut off; a wall clock or day that becomes an instant is
    taken as UTC.
    """
    import pyarrow as pa

    columns = []
    for field in schema:
        column = batch.column(field.name)
        if column.type != field.type:
            column = _converted(column, field.type)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _converted(column: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(kind) and kind.tz and not getattr(column.type, "tz", None):
        column = column.cast(pa.timestamp("us"), safe=False)
    return column.cast(kind, safe=not pa.types.is_timestamp(kind))
