"""The `key=value` folders that files lie below: columns that all rows of a file share."""

import re
from collections.abc import Callable
from datetime import date
from typing import Literal
from urllib.parse import unquote

from slipway.components.ingest.formats.numbers import is_whole_number
from slipway.components.ingest.sources import Source
from slipway.components.support.errors import SlipwayError

Kind = Literal["integer", "date", "string"]
_PARSERS: dict[Kind, Callable[[str], object]] = {
    "integer": int,
    "date": date.fromisoformat,
    "string": str,
}
_MISSING = ("__HIVE_DEFAULT_PARTITION__", "")


def partition_texts(table: str, source: Source) -> list[dict[str, str | None]]:
    """The `key=value` folders of each file, as they are written; None where a value is missing.

    Raises:
        SlipwayError: the files do not all have the same keys.
    """
    texts: list[dict[str, str | None]] = []
    for file in source.files:
        folders = file[len(source.base) :].split("/")[:-1]
        pairs = [folder.partition("=") for folder in folders if "=" in folder]
        values = {unquote(key): unquote(value) for key, _, value in pairs}
        texts.append({key: None if v in _MISSING else v for key, v in values.items()})
        if texts[-1].keys() != texts[0].keys():
            raise SlipwayError(
                f"Table {table}: {source.name(file)} lies below the partitions"
                f" {', '.join(texts[-1]) or 'none'}, and {source.name(source.files[0])} below"
                f" {', '.join(texts[0]) or 'none'}. All files of a table have the same partitions."
            )
    return texts


def partition_values(table: str, source: Source) -> list[dict[str, object]]:
    """The same with types: a key is a whole number or a day where all its values are.

    Raises:
        SlipwayError: the files do not all have the same keys.
    """
    texts = partition_texts(table, source)
    kinds = partition_kinds(texts)
    return [
        {key: None if v is None else _PARSERS[kinds[key]](v) for key, v in each.items()}
        for each in texts
    ]


def partition_kinds(texts: list[dict[str, str | None]]) -> dict[str, Kind]:
    """The type of each key's values: whole number or day where all are, else text."""
    kinds: dict[str, Kind] = {}
    for key in texts[0]:
        values = {text for each in texts if (text := each[key]) is not None}
        kinds[key] = "string"
        if values and all(is_whole_number(value) for value in values):
            kinds[key] = "integer"
        elif values and all(is_day(value) for value in values):
            kinds[key] = "date"
    return kinds


def is_day(text: str) -> bool:
    """Whether a text is a day of the calendar: 2024-02-30 only looks like one."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
