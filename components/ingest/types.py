"""The types that tables have inside Slipway, and how the sources' types become them.

One logical type has one Arrow type, so that the stages after this one see no difference between a
file that pandas wrote and one that Spark wrote: text is `string`, a dictionary is its values, an
instant is `timestamp[us, tz=UTC]`, a wall clock without a zone is `timestamp[us]`, a day is `date32`, a
decimal `decimal128`. An empty text is a missing value. A value that its type cannot hold is refused
by name; none is wrapped or rounded.
"""

from typing import TYPE_CHECKING

from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa

_UTC_NAMES = {"utc", "z", "gmt", "etc/utc", "etc/gmt", "+00:00", "-00:00", "00:00", "zulu", "uct"}
_MOST_DIGITS = 38
"""The digits that a decimal128 holds, and with it polars."""


def zone_of(kind: "pa.DataType") -> str | None:
    """A timestamp type's time zone, UTC by one name; None for any other type or no zone."""
    zone = getattr(kind, "tz", None)
    if zone is None:
        return None
    return "UTC" if zone.lower() in _UTC_NAMES else zone


def normal_type(kind: "pa.DataType") -> "pa.DataType | None":
    """The type that a source's type becomes; None: no stage after this one can read it."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return normal_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return normal_type(kind.value_type)
    if pa.types.is_nested(kind):
        return _nested_type(kind)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if _is_binary(kind):
        return pa.binary()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if pa.types.is_date64(kind):
        return pa.date32()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_decimal(kind):
        return _decimal_type(kind)
    return kind


def _is_binary(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _decimal_type(kind: "pa.DataType") -> "pa.DataType | None":
    """A decimal of at most 38 digits; whether its values have no more is seen as they are read."""
    import pyarrow as pa

    if kind.scale > _MOST_DIGITS:
        return None
    return pa.decimal128(min(kind.precision, _MOST_DIGITS), kind.scale)


def _nested_type(kind: "pa.DataType") -> "pa.DataType | None":
    """A list, struct or map of types that can be read. Times in it keep their unit."""
    import pyarrow as pa

    def part(inner: pa.DataType) -> "pa.DataType | None":
        if pa.types.is_timestamp(inner):
            return pa.timestamp(inner.unit, tz="UTC" if inner.tz else None)
        return inner if pa.types.is_date64(inner) else normal_type(inner)

    if pa.types.is_struct(kind):
        fields = [(field.name, part(field.type)) for field in kind]
        return None if any(inner is None for _, inner in fields) else pa.struct(fields)
    if pa.types.is_map(kind):
        key, item = part(kind.key_type), part(kind.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    inner = part(kind.value_type)
    return None if inner is None else pa.list_(inner)


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
            SlipwayError: a column is missing, new, of another type, in another time zone, or of a type
                that no stage can read.
        """
        import pyarrow as pa

        if not self._first_file:
            self._first_file = file
            self._types = {field.name: pa.null() for field in schema}
        self._same_columns(file, set(schema.names))
        for field in schema:
            if pa.types.is_null(field.type):
                continue
            kind = normal_type(field.type)
            if kind is None:
                raise SlipwayError(
                    f"Table {self._table}: the column {field.name} of {file} is {field.type}, which"
                    " no stage can read. Rewrite it, or leave it out with `columns:`."
                )
            if field.name not in self._seen:
                self._seen[field.name] = (file, field.type)
                self._types[field.name] = kind
                continue
            self._same_type(file, field, kind)

    def _same_type(self, file: str, field: "pa.Field", kind: "pa.DataType") -> None:
        import pyarrow as pa

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


def as_instants(table: str, column: str, kind: "pa.DataType", hint: str = "") -> "pa.DataType":
    """The type of a table's time column: instants in UTC.

    Args:
        table: the table.
        column: its time column.
        kind: the column's type.
        hint: why the column is no time and what to do, where the reader knows.

    Raises:
        SlipwayError: the column's type holds no time.
    """
    import pyarrow as pa

    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind)):
        way = hint or " Name another column under `time:`, or leave `time:` out to take all rows."
        raise SlipwayError(
            f"Table {table}: the time column {column} is {kind}, and a window needs a timestamp or"
            f" a date.{way}"
        )
    return pa.timestamp("us", tz="UTC")


def conform(batch: "pa.RecordBatch", schema: "pa.Schema", where: str) -> "pa.RecordBatch":
    """The batch with the schema's columns in its order and types, an empty text as null.

    Digits of a second beyond the sixth are cut off; a wall clock or day that becomes an instant is
    taken as UTC.

    Args:
        batch: as the source has it.
        schema: the columns inside Slipway.
        where: the table and the file, for messages.

    Raises:
        SlipwayError: a value does not fit into its type.
    """
    import pyarrow as pa

    columns = []
    for field in schema:
        column = batch.column(field.name)
        try:
            column = _plain(column)
            if column.type != field.type:
                column = _converted(column, field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise _does_not_fit(where, field, column.type, error) from error
        columns.append(empty_as_null(column))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def empty_as_null(column: "pa.Array") -> "pa.Array":
    """A column of text with its empty texts as nulls: the one rule for what a missing text is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(column.type):
        return column
    # The shortest length tells at a tenth of the cost whether there is any.
    if pc.min_max(pc.binary_length(column))["min"].as_py() != 0:
        return column
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _plain(column: "pa.Array") -> "pa.Array":
    """The values without the encoding or the name that the file gives them."""
    import pyarrow as pa

    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column


def _converted(column: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    """The values in another type. Every cast is a checked one: what does not fit raises."""
    import pyarrow as pa

    if not pa.types.is_timestamp(kind):
        return column.cast(kind)
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = _whole_microseconds(column)
    elif not pa.types.is_null(column.type):
        zone = getattr(column.type, "tz", None)
        column = column.cast(pa.timestamp("us", tz=zone))
    # A name for the zone only: the instants stay, and a wall clock counts as UTC.
    return column.cast(kind) if pa.types.is_null(column.type) else column.view(kind)


def _whole_microseconds(column: "pa.Array") -> "pa.Array":
    """Nanoseconds as microseconds: what is finer is cut off, before 1970 too."""
    import numpy as np
    import pyarrow as pa

    ticks = column.view(pa.int64())
    values = np.floor_divide(ticks.fill_null(0).to_numpy(), 1000)
    mask = ticks.is_null().to_numpy(zero_copy_only=False) if ticks.null_count else None
    return pa.array(values, pa.int64(), mask=mask).view(pa.timestamp("us", tz=column.type.tz))


def _does_not_fit(
    where: str, field: "pa.Field", kind: "pa.DataType", error: Exception
) -> SlipwayError:
    reason = " ".join(str(error).split()).rstrip(".")
    return SlipwayError(
        f"{where}: the column {field.name}, {kind}, has a value that {field.type} cannot hold:"
        f" {reason}. Mend it at the source, or leave the column out with `columns:`."
    )
