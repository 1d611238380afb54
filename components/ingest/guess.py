"""Which type a column of text has: narrowed down row by row, over all files."""

from typing import TYPE_CHECKING, Literal

from slipway.components.config.data import ColumnType
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa

Kind = ColumnType | Literal["null"]

_DAY = r"^\d{4}-\d{2}-\d{2}$"
_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}(:?\d{2})?)?$"
_ZONE = r"^.{11}[^Z+-]*(?P<zone>Z|[+-]\d{2}(?::?\d{2})?|)$"
_BOOLEAN = r"^(true|false|True|False|TRUE|FALSE)$"
# A leading zero, or more digits than an integer holds, makes it a name (a postal code, a card number).
_NAME = r"^[+-]?(0\d|\d{19})"


def arrow_type(kind: Kind, zone: str | None = None) -> "pa.DataType":
    """The Arrow type of a kind of column."""
    import pyarrow as pa

    return {
        "string": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "timestamp": pa.timestamp("us", tz="UTC" if zone else None),
        "date": pa.date32(),
        "null": pa.null(),
    }[kind]


class ColumnGuess:
    """What is known of one column so far.

    Args:
        name: the column's name, for messages.
        quoted: whether text stands in quotes (JSON), so that a number in quotes is text.
    """

    def __init__(self, name: str, *, quoted: bool):
        self._name, self._quoted = name, quoted
        self._kind: Kind = "null"
        self._kind_file = ""
        self._in_file: Kind = "null"
        self._zone: str | None = None
        self._zone_file = ""

    def add(self, table: str, file: str, column: "pa.Array") -> None:
        """Looks at the values of a batch.

        Raises:
            SlipwayError: times in different zones, or a list or an object in JSON.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if not pa.types.is_string(column.type):
            self._in_file = _both(self._in_file, _kind_of_values(table, file, self._name, column))
            return
        values = column.drop_null()
        kind = _kind_of_text(values, quoted=self._quoted)
        if kind == "timestamp" and self._in_file in ("null", "timestamp"):
            zones = pc.struct_field(pc.extract_regex(values, _ZONE), "zone")
            for zone in pc.unique(zones).to_pylist():
                self._note_zone(table, file, zone)
        self._in_file = _both(self._in_file, kind)

    def end_file(self, table: str, file: str) -> None:
        """Compares this file's type with that of the files before it.

        Raises:
            SlipwayError: they differ.
        """
        kinds = {self._kind, self._in_file} - {"null"}
        if len(kinds) == 2 and kinds != {"integer", "number"}:
            raise SlipwayError(
                f"Table {table}: the column {self._name} changes type between files: {self._in_file}"
                f" in {file}, {self._kind} in {self._kind_file}. Mend the file, or declare the type:"
                f" `types: {{{self._name}: string}}`."
            )
        if self._in_file != "null":
            self._kind, self._kind_file = _both(self._kind, self._in_file), file
        self._in_file = "null"

    def type(self) -> "pa.DataType":
        """The type that holds for every row."""
        return arrow_type(self._kind, self._zone)

    def _note_zone(self, table: str, file: str, zone: str) -> None:
        zone = "Z" if zone in ("+00:00", "+0000", "+00") else zone
        if self._zone is None:
            self._zone, self._zone_file = zone, file
        if zone != self._zone:
            raise SlipwayError(
                f"Table {table} mixes time zones: the column {self._name} has times with"
                f" {_called(zone)} in {file} and with {_called(self._zone)} in {self._zone_file}."
                f" Write them all in one zone, best in UTC, or read them as text:"
                f" `types: {{{self._name}: string}}`."
            )


def _called(zone: str) -> str:
    return f"the offset {zone}" if zone else "no offset"


def _both(one: Kind, other: Kind) -> Kind:
    """The narrowest kind that holds the values of both."""
    kinds = {one, other} - {"null"}
    if len(kinds) < 2:
        return kinds.pop() if kinds else "null"
    return "number" if kinds == {"integer", "number"} else "string"


def _kind_of_values(table: str, file: str, name: str, column: "pa.Array") -> Kind:
    """The kind of values that JSON typed."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_null(kind):
        return "null"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind):
        return "number"
    if pa.types.is_boolean(kind):
        return "boolean"
    raise SlipwayError(
        f"Table {table}: the column {name} of {file} holds lists or objects ({kind}). Flatten it, or"
        " leave it out with `columns:`."
    )


def _kind_of_text(values: "pa.Array", *, quoted: bool) -> Kind:
    """The kind of a batch of texts without nulls."""
    if len(values) == 0:
        return "null"
    if _all_match(values, _DAY) and _casts(values, "date"):
        return "date"
    if _all_match(values, _TIME):
        return "timestamp"
    if quoted:
        return "string"
    if _all_match(values, _BOOLEAN):
        return "boolean"
    if _any_match(values, _NAME):
        return "string"
    if _casts(values, "integer"):
        return "integer"
    return "number" if _casts(values, "number") else "string"


def _all_match(values: "pa.Array", pattern: str) -> bool:
    import pyarrow.compute as pc

    # The first value decides for nearly every column, so the rest is rarely looked at.
    first = pc.match_substring_regex(values.slice(0, 1), pattern)[0].as_py()
    return bool(first and pc.all(pc.match_substring_regex(values, pattern)).as_py())


def _any_match(values: "pa.Array", pattern: str) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(values, pattern)).as_py())


def _casts(values: "pa.Array", kind: Kind) -> bool:
    import pyarrow as pa

    try:
        values.cast(arrow_type(kind))
    except pa.ArrowInvalid:
        return False
    return True
