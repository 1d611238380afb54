"""Events as they come, one JSON object a line, as the columns of their table.

Everything that is wrong is said with the line and the field, before anything is pushed.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from slipway.components.config.base import EARLIEST, NEVER
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl

MAX_LINE = 1 << 20
"""A line may have so many bytes."""
_WHOLE = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
_SHOWN = 60


class Malformed(SlipwayError):
    """An event that cannot be one of its table."""


def read_lines(lines: Iterable[bytes], name: str, first: int = 1) -> Iterator[tuple[int, object]]:
    """Each line's number and its JSON value; empty lines are left out.

    Args:
        lines: with or without the newline.
        name: what they are from, for messages.
        first: the first line's number.

    Raises:
        Malformed: a line that is no JSON object, or one that says two things at once.
    """
    for number, line in enumerate(lines, first):
        if len(line) > MAX_LINE:
            raise Malformed(f"{name}, line {number:,}: longer than {MAX_LINE:,} bytes.")
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise Malformed(f"{name}, line {number:,}: not JSON: {error}.") from error
        yield number, row


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' stands in it more than once")
    return row


def as_columns(
    events: Iterable[tuple[int, object]],
    columns: dict[str, str],
    required: Collection[str],
    name: str,
    optional: Collection[str] = (),
) -> "pl.DataFrame":
    """Events as rows of their table.

    Args:
        events: each one's line, and the event: a JSON object with a value for each column, which may
            be null unless it is `required`. What else stands in it is left alone.
        columns: the columns to read, with their Arrow types.
        required: those that name the event, its entity and its time.
        name: what they are from, for messages.
        optional: columns that an event may be without; they are null then.

    Raises:
        Malformed: naming the line and the field.
    """
    import polars as pl

    cells: dict[str, list[object]] = {column: [] for column in columns}
    readers = {column: _reader(kind, column) for column, kind in columns.items()}
    for line, event in events:
        where = f"{name}, line {line:,}"
        if not isinstance(event, dict):
            raise Malformed(f"{where}: an event is a JSON object, and this is none.")
        for column, read in readers.items():
            value = event.get(column, _ABSENT)
            if value is _ABSENT and column in optional:
                value = None
            if value is _ABSENT:
                raise Malformed(
                    f"{where}: has no field '{column}'"
                    + ("." if column in required else " (write null where it is not known).")
                )
            if value is None or value == "":
                if column in required:
                    raise Malformed(
                        f"{where}: field '{column}' is empty, and says which event it is, whose or when."
                    )
                cells[column].append(None)
                continue
            try:
                cells[column].append(read(value))
            except ValueError as error:
                raise Malformed(
                    f"{where}: field '{column}' is {shown(value)}, not {error}."
                ) from error
    types = {column: polars_type(kind) for column, kind in columns.items()}
    return pl.DataFrame(cells, schema=types)


_ABSENT = object()


def shown(value: object) -> str:
    """A field's value as a message shows it."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def is_readable(kind: str) -> bool:
    """Whether an event can bring a value of an Arrow type."""
    try:
        _reader(kind, "")
    except SlipwayError:
        return False
    return True


def _reader(kind: str, column: str) -> Callable[[object], object]:
    """Reads a JSON value as one of an Arrow type; it raises ValueError with what it must be."""
    if kind.startswith("dictionary<values="):
        kind = kind.removeprefix("dictionary<values=").split(",")[0]
    if kind in _WHOLE or kind.removeprefix("u") in _WHOLE:
        signed = kind in _WHOLE
        bits = _WHOLE[kind.removeprefix("u")] - signed
        return lambda value: _whole(value, -(2**bits) if signed else 0, 2**bits - 1)
    if kind in ("double", "float", "halffloat"):
        return _number
    if kind == "bool":
        return _truth
    if kind in ("string", "large_string", "string_view"):
        return _text
    if kind.startswith("decimal"):
        return _decimal
    if kind.startswith("timestamp"):
        return _instant if "tz=" in kind else _wall_clock
    if kind.startswith("date"):
        return _day
    if kind == "null":
        return _nothing
    raise SlipwayError(
        f"Column {column} is of type {kind}, which no event can bring. Leave it out of the views of"
        " the stream."
    )


def polars_type(kind: str) -> "pl.DataType":
    """The type that `as_columns` gives a column of an Arrow type."""
    import polars as pl

    if kind.startswith("dictionary<values="):
        kind = kind.removeprefix("dictionary<values=").split(",")[0]
    if kind.startswith("decimal"):
        precision, scale = re.findall(r"\((\d+), (-?\d+)\)", kind)[0]
        return pl.Decimal(int(precision), int(scale))
    if kind.startswith("timestamp"):
        return pl.Datetime("us", "UTC" if "tz=" in kind else None)
    if kind.startswith("date"):
        return pl.Date()
    plain = {
        "bool": pl.Boolean(), "double": pl.Float64(), "float": pl.Float64(), "null": pl.Null(),
        "halffloat": pl.Float64(), "int8": pl.Int8(), "int16": pl.Int16(), "int32": pl.Int32(),
        "int64": pl.Int64(), "uint8": pl.UInt8(), "uint16": pl.UInt16(), "uint32": pl.UInt32(),
        "uint64": pl.UInt64(),
    }  # fmt: skip
    return plain.get(kind, pl.String())


def _whole(value: object, low: int, high: int) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and not value.is_integer())
        or not low <= value <= high
    ):
        raise ValueError(f"a whole number of {low} to {high}")
    return int(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise ValueError("a number that a double holds")
    return number


def _decimal(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number")
    try:
        number = Decimal(str(value))
    except ArithmeticError as error:
        raise ValueError("a number") from error
    if not number.is_finite():
        raise ValueError("a number")
    return number


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text: it has half a surrogate pair") from error
    return value


def _nothing(value: object) -> None:
    raise ValueError("null, as all of the column was so far")


def _parsed(value: object, what: str) -> datetime:
    if not isinstance(value, str):
        raise ValueError(what)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError(what) from error
    instant = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not EARLIEST <= instant < NEVER:
        raise ValueError(f"{what}, of the years 1700 to 9998")
    return moment


def _instant(value: object) -> datetime:
    moment = _parsed(value, "a time in ISO 8601, as 2026-01-31T09:30:00Z")
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _wall_clock(value: object) -> datetime:
    what = "a time in ISO 8601 without a zone, as 2026-01-31T09:30:00"
    moment = _parsed(value, what)
    if moment.tzinfo is not None:
        raise ValueError(what)
    return moment


def _day(value: object) -> object:
    return _parsed(value, "a day, as 2026-01-31").date()
