"""A schema's content, taken apart. That it is a schema at all, validate has checked."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from slipway.components.config.base import parse_duration, parse_instant
from slipway.components.contracts.table_schema.bounds import Number, exact
from slipway.components.support.documents import UnfitDocument, load_json
from slipway.components.support.errors import SlipwayError

Level = Literal["fail", "warn"]
ColumnKind = Literal["string", "integer", "number", "boolean"]
Format = Literal["date-time", "local-date-time", "date"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMoments:
    """What the words window_start, window_end and now mean in this run; None: it has no window."""

    window_start: datetime | None
    window_end: datetime | None
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSchema:
    """What a column's values must be. None: no such condition."""

    name: str
    kind: ColumnKind | None = None
    nullable: bool = True
    format: Format | None = None
    enum: tuple[object, ...] | None = None
    minimum: Number | None = None
    maximum: Number | None = None
    exclusive_minimum: Number | None = None
    exclusive_maximum: Number | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    max_null_fraction: float | None = None
    level: Level = "fail"
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A condition over several columns, in SQL."""

    name: str
    sql: str
    level: Level
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCheck:
    """A check of an installed package, over the columns that it is given in this order."""

    name: str
    function: str
    columns: tuple[str, ...]
    level: Level
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSchema:
    """What a table must look like."""

    name: str
    columns: tuple[ColumnSchema, ...]
    required: tuple[str, ...] = ()
    others_allowed: bool = True
    min_rows: int = 0
    unique: tuple[tuple[str, ...], ...] = ()
    time_order: str | None = None
    rules: tuple[Rule, ...] = ()
    own_checks: tuple[OwnCheck, ...] = ()
    tolerance: float | None = None
    text: dict[str, object] = field(default_factory=dict)


def read_schema(text: str) -> Any:
    """Reads a schema's JSON with its numbers as they are written: none goes through a double.

    Raises:
        SlipwayError: it is not JSON.
    """
    try:
        return load_json(text, parse_float=Decimal)
    except UnfitDocument as error:
        raise SlipwayError(f"The schema file is wrong. It is not JSON: {error}.") from error


def table_schema(name: str, text: dict[str, Any], moments: RunMoments) -> TableSchema:
    """Takes apart what a schema says of one table.

    Args:
        name: the table's.
        text: its entry, as `read_schema` gives it.
        moments: the meaning of window_start, window_end and now.

    Raises:
        SlipwayError: words that do not go together, or a moment that is none.
    """
    tolerance = _fraction(text.get("x-maxFailedFraction"))
    default = tolerance or 0.0
    rules = tuple(
        Rule(
            name=rule,
            sql=content["rule"],
            level=content.get("x-level", "fail"),
            tolerance=float(content.get("x-maxFailedFraction", default)),
        )
        for rule, content in text.get("x-rules", {}).items()
    )
    own_checks = tuple(
        OwnCheck(
            name=check,
            function=content["check"],
            columns=tuple(content["columns"]),
            level=content.get("x-level", "fail"),
            tolerance=float(content.get("x-maxFailedFraction", default)),
        )
        for check, content in text.get("x-checks", {}).items()
    )
    return TableSchema(
        name=name,
        columns=tuple(
            _column(name, column, content, default, moments)
            for column, content in text["properties"].items()
        ),
        required=tuple(text.get("required", ())),
        others_allowed=text.get("additionalProperties", True),
        min_rows=int(text.get("x-minRows", 0)),
        unique=tuple(tuple(key) for key in text.get("x-unique", ())),
        time_order=text.get("x-timeOrder"),
        rules=rules,
        own_checks=own_checks,
        tolerance=tolerance,
        text=text,
    )


def _column(
    table: str, name: str, text: dict[str, Any], tolerance: float, moments: RunMoments
) -> ColumnSchema:
    kinds = text.get("type")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    form = text.get("format")
    where = f"The schema file is wrong. tables.{table}.properties.{name}"
    if form is not None and kind != "string":
        raise SlipwayError(f"{where}: format {form} goes with type string, not {kind}.")
    for word, fits in _FITS.items():
        if word in text and kind not in fits:
            raise SlipwayError(f"{where}: {word} goes with type {' or '.join(fits)}, not {kind}.")
    if form is not None and any(word in text for word in ("pattern", "minLength", "maxLength")):
        raise SlipwayError(f"{where}: a {form} is a time, so it has no pattern and no length.")
    return ColumnSchema(
        name=name,
        kind=kind,
        nullable=kind is None or isinstance(kinds, list),
        format=form,
        enum=None if "enum" not in text else tuple(exact(v) for v in text["enum"] if v is not None),
        minimum=exact(text.get("minimum")),
        maximum=exact(text.get("maximum")),
        exclusive_minimum=exact(text.get("exclusiveMinimum")),
        exclusive_maximum=exact(text.get("exclusiveMaximum")),
        min_length=exact(text.get("minLength")),
        max_length=exact(text.get("maxLength")),
        pattern=text.get("pattern"),
        earliest=_moment(where, text.get("formatMinimum"), moments),
        latest=_moment(where, text.get("formatMaximum"), moments),
        max_null_fraction=_fraction(text.get("x-maxNullFraction")),
        level=text.get("x-level", "fail"),
        tolerance=float(text.get("x-maxFailedFraction", tolerance)),
    )


_NUMBERS, _TEXTS = ("integer", "number"), ("string",)
_FITS = {
    "minimum": _NUMBERS,
    "maximum": _NUMBERS,
    "exclusiveMinimum": _NUMBERS,
    "exclusiveMaximum": _NUMBERS,
    "minLength": _TEXTS,
    "maxLength": _TEXTS,
    "pattern": _TEXTS,
}


def _fraction(value: float | Decimal | None) -> float | None:
    return None if value is None else float(value)


def _moment(where: str, text: str | None, moments: RunMoments) -> datetime | None:
    """An instant in UTC; a time without a zone counts as UTC."""
    if text is None:
        return None
    for word in ("window_start", "window_end", "now"):
        if text.startswith(word):
            offset = text[len(word) :]
            sign = -1 if offset.startswith("-") else 1
            instant: datetime | None = getattr(moments, word)
            if instant is None:
                raise SlipwayError(
                    f"{where}: '{text}' is of data.window, which this project does not have. Give a date"
                    " or a time, or `now`."
                )
            try:
                shift = parse_duration(offset[1:]) if offset else timedelta(0)
                return instant + sign * shift
            except (ValueError, OverflowError) as error:
                raise SlipwayError(f"{where}: '{text}' is no moment: {error}.") from error
    try:
        return parse_instant(text).astimezone(UTC)
    except ValueError as error:
        raise SlipwayError(f"{where}: '{text}' is not a date or time: {error}.") from error
