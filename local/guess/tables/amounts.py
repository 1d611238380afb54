"""Texts that are no names of anything: amounts, measures, times, sentences."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from slipway.components.ingest.formats.numbers import LENIENT, WITH_COMMA
from slipway.local.guess.guess import Notes
from slipway.local.guess.tables.facts import ColumnFacts, TableFacts

if TYPE_CHECKING:
    import polars as pl

MOSTLY = 0.8
_MARKED = r"(?:\d{1,3}(?:[.,'’\s]\d{3})+(?:[.,]\d+)?|\d+[.,]\d+|[.,]\d+)"
_MONEY = r"(?:[€$£¥₹]|EUR|USD|CHF|GBP|JPY|SEK|NOK|DKK|PLN|CZK|HUF|INR|BRL|R\$|Rs\.?|kr\.?|zł)"
_UNIT = r"(?:[^\W\d]{1,8}[²³23]?(?:/[^\W\d]{1,8}[²³23]?)?\.?|[°%‰]\s?[CF]?)"
_NUMBER = rf"^\s*[-+]?\s?(?:{_MARKED}|\d+)\s*$"
_MEASURE = (
    rf"^\s*(?:[-+]?{_MONEY}\s?[-+]?\d[\d.,'’\s]*|"
    rf"[-+]?(?:{_MARKED}\s?(?:{_MONEY}|{_UNIT})|\d+\s?{_MONEY}|\d+\s+{_UNIT}|\d+[%‰°]))\s*$"
)
_MARK = r"\d[.,'’\s]\d|^\s*[-+]?[.,]\d"
_TIME = (
    r"^\s*(?:\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|\d{1,2}\.?[ -][^\W\d]{3,9}\.?[ ,-]+\d{2,4})(?:$|[ T].*\d:\d)"
    r"|^\s*\d{1,2}:\d{2}"
)
_LONGEST_NAME = 64
_SENTENCES = 0.5


def is_amount(column: ColumnFacts) -> bool:
    """Whether most of a text's values are numbers with a mark in them, of any country, or measures.

    Codes of digits alone (`00123`) are none: nobody can tell them from names.
    """
    return column.is_text and _share(column, _amounts) >= MOSTLY


def may_name_rows(column: ColumnFacts, *, is_id: bool) -> bool:
    """Whether a column's values are such as name a row: no amount, measure, time or sentence.

    Args:
        column: the column.
        is_id: whether its name says that it names something: then its texts may be long, have blanks or
            begin with a date.
    """
    if not column.is_text:
        return True
    if is_amount(column):
        return False
    long = (column.values.str.len_chars().mean() or 0) > _LONGEST_NAME  # type: ignore[operator]
    return is_id or not (
        long or _share(column, _has_blank) >= _SENTENCES or _share(column, _is_time) >= MOSTLY
    )


def warn_of_lost_numbers(
    tables: list[TableFacts], kept: set[tuple[str, str]], notes: Notes
) -> None:
    """Says which columns are text only for a few odd values, marks, or units.

    Args:
        tables: all of them.
        kept: table and column of those that are features all the same: as categories.
        notes: gets the warnings.
    """
    for table in tables:
        for name, column in table.columns.items():
            if not is_amount(column):
                continue
            is_kept = (table.name, name) in kept
            if is_kept and _share(column, _is_measure) >= MOSTLY:
                continue  # "16 GB" of four sizes is a category
            taken = "a category" if is_kept else "text, so it is no feature"
            notes.warn(
                f"{table.name}: {column.source} looks like a number and is taken as {taken}:"
                f" {why_text(table, column)}"
            )


def why_text(table: TableFacts, column: ColumnFacts) -> str:
    """Why a column of amounts is text, and what to do about it."""
    values = column.values.drop_nulls()
    again = "and run init again"
    if _share(column, _is_measure) >= MOSTLY:
        return f"its values have a unit or a currency, as {values[0]!r}. Write the numbers alone {again}"
    odd = values.filter(~values.str.contains(_NUMBER)).unique(maintain_order=True)
    if len(odd):
        texts = ", ".join(map(repr, odd.head(3).to_list()))
        return f"some of its values are not: {texts}. Leave them empty at the source {again}"
    if two := in_two_ways(table, column):
        return (
            f"its numbers are not all written in one way, as {' beside '.join(two)}. If they are"
            f" amounts, and no versions or codes, run init again with --number"
            f" {_shell(column.source)}: it writes `types: {{{column.name}: number}}`"
        )
    mark = "comma" if _decimal(table) == "," else "point"
    return (
        f"it is written as {values[0]!r}, and the file's numbers are read with a decimal {mark}. Write"
        f" all numbers of the file with one decimal mark and none between thousands {again}"
    )


def in_two_ways(table: TableFacts, column: ColumnFacts) -> list[str]:
    """Two values of a column of text, if each is a number that `types: number` reads; else none."""
    if not column.is_text:
        return []
    values, decimal = column.values.drop_nulls(), _decimal(table)
    if not values.str.contains(WITH_COMMA if decimal == "," else LENIENT).all():
        return []
    zeros = values.filter(values.str.contains(rf"[{decimal}]\d*0$"))
    if not len(zeros):
        return []
    digits = rf"[{decimal}](\d+)$"
    lengths = values.str.extract(digits).str.len_chars().fill_null(0)
    of_zero = zeros.head(1).str.extract(digits).str.len_chars()[0]
    others = values.filter(lengths != of_zero)
    return [others[0], zeros[0]] if len(others) else []


def _decimal(table: TableFacts) -> str:
    return table.dialect.decimal if table.dialect else "."


def _shell(name: str) -> str:
    return name if name.isidentifier() else f"'{name}'"


def _share(column: ColumnFacts, test: Callable[["pl.Series"], "pl.Series"]) -> float:
    values = column.values.drop_nulls()
    return float(test(values).mean() or 0) if len(values) else 0.0  # type: ignore[arg-type]


def _amounts(values: "pl.Series") -> "pl.Series":
    marked = values.str.contains(_NUMBER) & values.str.contains(_MARK)
    told = marked | _is_measure(values)
    return told | values.str.contains(r"^\s*[-+]?\d+\s*$") if told.any() else told


def _is_measure(values: "pl.Series") -> "pl.Series":
    return values.str.contains(_MEASURE)


def _has_blank(values: "pl.Series") -> "pl.Series":
    return values.str.strip_chars().str.contains(r"\s")


def _is_time(values: "pl.Series") -> "pl.Series":
    return values.str.contains(_TIME)
