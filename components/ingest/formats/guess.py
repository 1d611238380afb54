"""Which type a column of text has: narrowed down row by row, over all files."""

import re
from typing import TYPE_CHECKING, Literal

from slipway.components.config.data import ColumnType, Csv
from slipway.components.ingest.formats.numbers import (
    LENIENT,
    PLAIN_NUMBER,
    NumberStyle,
    all_match,
    any_match,
    is_plain,
    is_with_comma,
    not_with_comma,
    odd_number,
    with_point,
)
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa

Kind = ColumnType | Literal["null"]
PLAIN = Csv()
_LOOKED_AT = 1000

_DAY = r"^\d{4}-\d{2}-\d{2}$"
_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}(:?\d{2})?)?$"
_ZONE = r"^.{11}[^Z+-]*(?P<zone>Z|[+-]\d{2}(?::?\d{2})?|)$"
_FINER = r"\.\d{7}"
_BOOLEANS = ({"true", "false"}, {"True", "False"}, {"TRUE", "FALSE"})
_BOOLEAN = r"^(true|false|True|False|TRUE|FALSE)$"
# What `types:` takes, where a parser left to itself would take more.
_DECLARED = {"integer": r"^[+-]?\d+$", "number": LENIENT}


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
        declared: the type that the project declares; None: it is to be guessed.
        dialect: how numbers and dates are written in a csv file.

    Attributes:
        finer: whether some time has digits beyond the microseconds.
        odd: the first value that made a column of numbers or times one of text. odd_at: its row and file.
        example: the first text of a column of text.
    """

    def __init__(
        self,
        name: str,
        *,
        quoted: bool,
        declared: ColumnType | None = None,
        dialect: Csv = PLAIN,
    ):
        self._name, self._quoted, self._declared = name, quoted, declared
        self._kind: Kind = "null"
        self._kind_file = ""
        self._in_file: Kind = "null"
        self._zone: str | None = None
        self._zone_file = ""
        self._dialect = dialect
        self._numbers = NumberStyle()
        self._json_kind = ""
        self._truths: set[str] = set()
        self.finer = False
        self.odd: str | None = None
        self.odd_at = ""
        self.example: str | None = None
        self._rows = 0

    def add(self, table: str, file: str, column: "pa.Array", kinds: str = "") -> None:
        """Looks at the values of a batch.

        Args:
            table: the table.
            file: the file that the batch is of.
            column: the values.
            kinds: of JSON the kinds of values, where they are not those of the column's type.

        Raises:
            SlipwayError: times in different zones; a list, an object, or values of several kinds in JSON.
        """
        import pyarrow as pa

        start, self._rows = self._rows, self._rows + len(column)
        if self._quoted and self._declared is None:
            self._require_one_kind(table, file, kinds or _json_kind(column.type))

        if not pa.types.is_string(column.type):
            if self._declared is None:
                kind = _kind_of_values(table, file, self._name, column)
                self._in_file = _both(self._in_file, kind)
            return
        values = column.drop_null()
        if self._declared is not None:
            if self._declared == "timestamp" and len(values):
                self._look_at_times(table, file, values)
            return
        kind = self._kind_of_text(table, file, values)
        before, self._in_file = self._in_file, _both(self._in_file, kind)
        if self._in_file == "string" and before != "string" and self.odd is None:
            self.example = values[0].as_py()
            self._note_odd(file, column, start, _odd_one(values, before, self._dialect))

    def _note_odd(self, file: str, column: "pa.Array", start: int, odd: str | None) -> None:
        """Keeps a value that is unlike the others, and where it stands: rows count from 1."""
        import pyarrow.compute as pc

        if odd is not None:
            row = start + pc.index(column, odd).as_py() + 1
            self.odd, self.odd_at = odd, f"row {row:,} of {file}"

    def _require_one_kind(self, table: str, file: str, kinds: str) -> None:
        """Refuses a JSON column of which one value is a number, say, and another a text."""
        before = self._json_kind
        self._json_kind = before or kinds
        if before and kinds and kinds != before:
            kinds = f"{before} and {kinds}"
        if " and " in kinds:
            raise SlipwayError(
                f"Table {table}: the column {self._name} of {file} mixes {kinds}. Write one kind, null"
                f" where there is no value, or say what the column is: `types: {{{self._name}: string}}`."
            )

    def _kind_of_text(self, table: str, file: str, values: "pa.Array") -> Kind:
        """The kind of a batch of texts without nulls."""
        import pyarrow.compute as pc

        if len(values) == 0:
            return "null"
        if all_match(values, _DAY) and _casts(values, arrow_type("date")):
            return "date"
        if all_match(values, _TIME):
            if self._in_file in ("null", "timestamp"):
                self._look_at_times(table, file, values)
            values = cut_to_microseconds(values) if self.finer else values
            return "timestamp" if _casts(values, arrow_type("timestamp", self._zone)) else "string"
        if self._quoted:
            return "string"
        if all_match(values, _BOOLEAN):
            self._truths |= set(pc.unique(values).to_pylist())
            return "boolean"
        if kind := _kind_of_format(values, self._dialect):
            return kind
        if self._dialect.decimal == ",":
            if not is_with_comma(values):
                return "string"
            values = with_point(values)
        return self._numbers.takes(values) or "string"

    def end_file(self, table: str, file: str) -> None:
        """Compares this file's type with that of the files before it.

        Raises:
            SlipwayError: they differ.
        """
        kinds = {self._kind, self._in_file} - {"null"}
        if len(kinds) == 2 and kinds != {"integer", "number"}:
            shown = f" ('{self.odd}' in {self.odd_at})" if self.odd is not None else ""
            raise SlipwayError(
                f"Table {table}: the column {self._name} changes type between files: {self._in_file}"
                f" in {file}, {self._kind} in {self._kind_file}{shown}. Mend the file, or declare the"
                f" type: `types: {{{self._name}: string}}`."
            )
        if self._in_file != "null":
            self._kind, self._kind_file = _both(self._kind, self._in_file), file
        self._in_file, self._json_kind, self._rows = "null", "", 0

    def type(self) -> "pa.DataType":
        """The type that holds for every row."""
        return arrow_type(self._declared or self._found(), self._zone)

    def warning(self) -> str | None:
        """What a person should know of how the column was read; None: nothing."""
        if self.finer:
            return f"{self._name} has times finer than microseconds, which are cut to microseconds"
        if self._declared is not None or self._found() != "string":
            return None
        if self._kind == "number":
            why = "its numbers are not all written in one way"
        elif self._kind == "boolean":
            why = f"it has {', '.join(sorted(self._truths))}"
        elif self.odd is not None and is_plain(self.odd):
            why = f"no number keeps all digits of '{self.odd}'"
        elif re.match(r"[+-]?(?!0\d)", self.odd or "0") and re.fullmatch(LENIENT, self.odd or ""):
            why = f"'{self.odd}' is not how that number is written"
        else:
            return None
        return f"{self._name} is read as text, since {why} (`types:` can say otherwise)"

    def _found(self) -> Kind:
        """The kind over all files: numbers and truths only where each stands in one way."""
        if self._kind == "number" and not self._numbers.is_one():
            return "string"
        if self._kind == "boolean" and not any(self._truths <= way for way in _BOOLEANS):
            return "string"
        return self._kind

    def _look_at_times(self, table: str, file: str, values: "pa.Array") -> None:
        """Notes the zone of times, and whether they are finer than microseconds."""
        import pyarrow.compute as pc

        self.finer = self.finer or any_match(values, _FINER)
        zones = pc.struct_field(pc.extract_regex(values, _ZONE), "zone")
        for zone in pc.unique(zones.drop_null()).to_pylist():
            self._note_zone(table, file, zone)

    def _note_zone(self, table: str, file: str, zone: str) -> None:
        zone = _same_offset(zone)
        if self._zone is None:
            self._zone, self._zone_file = zone, file
        if zone != self._zone:
            raise SlipwayError(
                f"Table {table} mixes time zones: the column {self._name} has times with"
                f" {_called(zone)} in {file} and with {_called(self._zone)} in {self._zone_file}."
                f" Write them all in one zone, best in UTC, or read them as text:"
                f" `types: {{{self._name}: string}}`."
            )


def convert_text(
    column: "pa.Array",
    kind: "pa.DataType",
    declared: ColumnType | None,
    dialect: Csv = PLAIN,
) -> "pa.Array":
    """A column of text in the type that holds for it.

    Args:
        column: the texts, or values that JSON typed.
        kind: the type.
        declared: what the project declares, if anything: then no value has been looked at.
        dialect: how numbers and dates are written in a csv file.

    Raises:
        ValueError: a value is not of the type; it is named.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(kind):
        return pa.nulls(len(column))
    if pa.types.is_string(column.type):
        if (found := _by_format(column, kind, dialect)) is not None:
            return found
        if dialect.decimal == "," and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            if strange := column.filter(not_with_comma(column)).slice(0, 1).to_pylist():
                raise ValueError(f"'{strange[0]}' is no {declared or kind} with a decimal comma")
            column = with_point(column)
        if pa.types.is_timestamp(kind):
            column = cut_to_microseconds(column)
        if declared in _DECLARED:
            strange = pc.invert(pc.match_substring_regex(column, _DECLARED[declared]))
            if wrong := column.filter(pc.fill_null(strange, False)).slice(0, 1).to_pylist():
                raise ValueError(f"'{wrong[0]}' is no {declared}")
            # The parser knows no sign before a number that is not negative.
            column = pc.replace_substring_regex(column, r"^\+", "")
    elif declared in ("timestamp", "date") and not pa.types.is_null(column.type):
        raise ValueError(f"a number such as {_some(column)} does not say what it counts")
    elif declared == "boolean" and not pa.types.is_boolean(column.type):
        others = pc.invert(pc.or_(pc.equal(column, 0), pc.equal(column, 1)))
        if wrong := column.filter(pc.fill_null(others, False)).slice(0, 1).to_pylist():
            raise ValueError(f"'{wrong[0]}' is no boolean")
    try:
        made = column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        value = re.search(
            r"Failed to parse (?:string|value): '?(.*?)'?(?: as a scalar|$)", str(error)
        )
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"'{value[1]}' is no {declared}" if value else reason) from error
    if declared == "number" and pc.any(pc.invert(pc.is_finite(made))).as_py():
        raise ValueError("a value is larger than any number")
    return made


def _kind_of_format(values: "pa.Array", dialect: Csv) -> Kind | None:
    """The kind of texts that are all written in one of the formats of dates."""
    for form in dialect.dates:
        if not _parsed(values, form).null_count:
            return "timestamp" if _has_hours(form) else "date"
    return None


def _by_format(column: "pa.Array", kind: "pa.DataType", dialect: Csv) -> "pa.Array | None":
    """A column of dates that are written in one of the formats; None: it is none."""
    import pyarrow as pa

    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return None
    for form in dialect.dates:
        made = _parsed(column, form)
        if made.null_count == column.null_count:
            return made.cast(kind) if pa.types.is_date(kind) else made.view(kind)
    return None


def _parsed(values: "pa.Array", form: str) -> "pa.Array":
    """The times of texts; null of one that is not of the format, or a day that its month has not.

    The parser alone takes 31/02/2024 for the second of March.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    made = pc.strptime(values, format=form, unit="us", error_is_null=True)
    late = pc.fill_null(pc.less_equal(pc.day(made), 3), False)
    if not pc.any(late).as_py():
        return made
    # Only the first three days of a month can be another month's 29th to 31st.
    pattern = "".join(
        r"(?P<day>\d{1,2})" if part == "%d" else r"\w+" if part[:1] == "%" else re.escape(part)
        for part in re.split(r"(%.)", form)
    )
    days = pc.struct_field(pc.extract_regex(values, f"^\\s*{pattern}"), "day")
    told = pc.fill_null(pc.cast(days, pa.int64()), pc.day(made))
    return pc.if_else(pc.equal(told, pc.day(made)), made, pa.scalar(None, made.type))


def _has_hours(form: str) -> bool:
    return any(part in form for part in ("%H", "%I", "%T", "%R"))


def _some(column: "pa.Array") -> object:
    return next(iter(column.drop_null().slice(0, 1).to_pylist()), None)


def cut_to_microseconds(values: "pa.Array") -> "pa.Array":
    """Texts of times without digits beyond the sixth after the point."""
    import pyarrow.compute as pc

    if not any_match(values, _FINER):
        return values
    return pc.replace_substring_regex(values, r"(\.\d{6})\d+", r"\1")


def _json_kind(kind: "pa.DataType") -> str:
    """What a person calls the values of a column that JSON typed; empty: there is none, or no word."""
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return "booleans"
    if pa.types.is_string(kind):
        return "texts"
    return "numbers" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else ""


def _same_offset(zone: str) -> str:
    """One text for an offset that can be written in several ways: Z, +00:00, -0000; +02, +0200."""
    if not zone or zone == "Z":
        return zone
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return "Z" if digits == "0000" else f"{zone[0]}{digits[:2]}:{digits[2:]}"


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


def _odd_one(values: "pa.Array", before: Kind, dialect: Csv) -> str | None:
    """The first value that does not go with the numbers or times around it; None: there were none."""
    import pyarrow.compute as pc

    some = values.slice(0, _LOOKED_AT)

    def mostly(pattern: str) -> bool:
        return bool(pc.mean(pc.match_substring_regex(some, pattern)).as_py() > 0.5)

    for form in dialect.dates:
        if _parsed(some, form).null_count < len(some) / 2:
            unread = values.filter(pc.is_null(_parsed(values, form)))
            return unread[0].as_py() if len(unread) else None
    if before in ("date", "timestamp") or mostly(r"^\d{4}-\d{2}-\d{2}"):
        strange = values.filter(pc.invert(pc.match_substring_regex(values, f"{_DAY}|{_TIME}")))
        first = strange[0].as_py() if len(strange) else None
        return first or next((v for v in values.to_pylist() if not _is_moment(v)), None)
    if before in ("integer", "number") or mostly(PLAIN_NUMBER):
        return odd_number(values)
    return None


def _is_moment(text: str) -> bool:
    import pyarrow as pa

    zoned = re.search(r"(Z|[+-]\d{2}(:?\d{2})?)$", text[10:]) is not None
    kind = arrow_type("timestamp", "Z" if zoned else None)
    return _casts(cut_to_microseconds(pa.array([text])), kind)


def _casts(values: "pa.Array", kind: "pa.DataType") -> bool:
    import pyarrow as pa

    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
