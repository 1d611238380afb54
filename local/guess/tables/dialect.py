"""How a csv file is written: its encoding, its separator, its decimal comma, the order of its dates."""

import codecs
import csv
import io
import re
from collections.abc import Iterator

from slipway.components.config.data import Csv
from slipway.components.ingest.formats.lines import UTF16
from slipway.components.ingest.sources import Source, reading

SAMPLE = 1 << 18
ROWS = 2000
_SEPARATORS = (",", ";", "\t", "|")
_COMMA = re.compile(r"-?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?")
_DATE = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})(?:[ T](\d{1,2}):(\d{2})(:\d{2})?)?")
_LATIN = "cp1252"


def find_dialect(source: Source) -> Csv | None:
    """How a table's files are written; None: with commas, points and UTF-8."""
    encoding = _encoding(source)
    with (
        reading(source.name(source.files[0])),
        source.store.open(source.files[0], "rb", compression="infer") as stream,
    ):
        sample = stream.read(SAMPLE)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample)
    text = text.removeprefix("\ufeff")
    separator = _separator(text)
    rows = list(_rows(text, separator))
    if rows and len(sample) == SAMPLE:
        rows.pop()  # it may have been cut
    rows = [row for row in rows[1:ROWS] if len(row) == len(rows[0])]
    columns = [[value for value in column if value] for column in zip(*rows, strict=True)]
    found = Csv(
        separator=separator,
        encoding=encoding,
        decimal="," if _has_decimal_comma(columns) else ".",
        dates=tuple(sorted({form for column in columns if (form := _date_format(column))})),
    )
    return None if found == Csv() else found


def _encoding(source: Source) -> str:
    """UTF-8 where all bytes of all files are; UTF-16 by its mark; else what Windows writes in Europe."""
    for file in source.files:
        decoder = codecs.getincrementaldecoder("utf-8")()
        with (
            reading(source.name(file)),
            source.store.open(file, "rb", compression="infer") as stream,
        ):
            block = stream.read(SAMPLE)
            if block.startswith(UTF16):
                return "utf-16"
            try:
                while block:
                    decoder.decode(block)
                    block = stream.read(SAMPLE)
            except UnicodeDecodeError:
                return _LATIN
    return "utf-8"


def _rows(text: str, separator: str) -> Iterator[list[str]]:
    """The rows up to one that cannot be read, such as a quote that is never closed: ingest names it.

    A carriage return ends a line by itself too, as it does for ingest.
    """
    try:
        yield from csv.reader(io.StringIO(text, newline=None), delimiter=separator)
    except csv.Error:
        return


def _separator(text: str) -> str:
    """The one that parts the first line most, and the lines after it into as many."""
    head = "\n".join(text.splitlines()[:20])
    best, most = ",", 1
    for separator in _SEPARATORS:
        rows = [row for row in _rows(head, separator) if row]
        widths = {len(row) for row in rows[:-1] or rows}
        if len(widths) == 1 and len(rows[0]) > most:
            best, most = separator, len(rows[0])
    return best


def _has_decimal_comma(columns: list[list[str]]) -> bool:
    """Whether some column is all numbers with decimal commas, or with points between thousands."""
    return any(
        column
        and any("," in value or value.count(".") > 1 for value in column)
        and all(_COMMA.fullmatch(value) for value in column)
        for column in columns
    )


def _date_format(column: list[str]) -> str | None:
    """The format of a column of dates whose order can be told; None: it is none, or it cannot."""
    found = [_DATE.fullmatch(value) for value in column]
    matches = [match for match in found if match]
    if not matches or len(matches) < len(column):
        return None
    first, mark, middle, last, hour, _, seconds = matches[0].groups()
    shape = (mark, bool(hour), bool(seconds))
    if any((match[2], bool(match[5]), bool(match[7])) != shape for match in matches):
        return None
    if len(first) == 4:
        if mark == "-":
            return None  # ISO, which needs no word
        days = "%Y" + mark + "%m" + mark + "%d"
    elif len(last) == 4 and len(middle) <= 2:
        order = _order(matches)
        if order is None:
            return None
        days = order.replace("/", mark)
    else:
        return None
    return days + ((" %H:%M" + (":%S" if seconds else "")) if hour else "")


def _order(matches: list[re.Match[str]]) -> str | None:
    """Day first or month first, where some number is more than twelve."""
    day_first = any(int(match[1]) > 12 for match in matches)
    month_first = any(int(match[3]) > 12 for match in matches)
    if day_first == month_first:
        # Points are the mark of countries that write the day first.
        return "%d/%m/%Y" if matches[0][2] == "." and not day_first else None
    return "%d/%m/%Y" if day_first else "%m/%d/%Y"
