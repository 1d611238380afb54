"""Which tables the pipeline reads, and from when to when."""

import codecs
from datetime import UTC, datetime, timedelta
from typing import Literal, Self, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from slipway.components.config.base import (
    Instant,
    Name,
    Section,
    format_instant,
    named_twice,
    parse_duration,
    parse_instant,
)
from slipway.components.support.errors import SlipwayError


class Window(Section):
    """The half-open stretch of time [start, end) that a run looks at."""

    start: Instant = Field(description="First instant of the window, ISO 8601.")
    end: Instant = Field(description="First instant after it.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"start {self.start} is not before end {self.end}")
        return self

    @property
    def length(self) -> timedelta:
        """From start to end."""
        return self.end - self.start

    @property
    def texts(self) -> tuple[str, str]:
        """Start and end in ISO 8601, UTC: as artifacts hold a window."""
        return format_instant(self.start), format_instant(self.end)


def parse_window(start: str, end: str) -> Window:
    """The window between two instants in ISO 8601.

    Raises:
        SlipwayError: a text is no instant, or the window is empty.
    """
    try:
        return Window(start=parse_instant(start), end=parse_instant(end))
    except ValidationError as error:
        raise SlipwayError(f"The window is empty: {start} is not before {end}.") from error
    except ValueError as error:
        raise SlipwayError(
            f"The window '{start}' to '{end}' is not two ISO 8601 times: {error}."
        ) from error


def resolve_window(start: str, end: str, scheduled_at: str = "") -> Window:
    """The window that a run looks at, from its parameters.

    Args:
        start: an instant, or how long before the end, as in "1d".
        end: an instant; empty: when the run was scheduled.
        scheduled_at: when the run was scheduled, as Kubeflow gives it to the task.

    Raises:
        SlipwayError: they do not make a window; the message says which is wrong.
    """
    last = end.strip() or scheduled_at.strip()
    if not last or last.startswith("{{"):
        raise SlipwayError(
            "window_end is empty, and this task was not given the time that its run was scheduled for."
            " Give window_end, or run it on a Kubeflow that fills in the schedule's time."
        )
    try:
        until = parse_instant(last)
    except ValueError as error:
        raise SlipwayError(f"window_end '{last}' is not an ISO 8601 time: {error}.") from error
    try:
        length = parse_duration(start)
    except ValueError:
        length = None
    try:
        since = until - length if length is not None else parse_instant(start)
        return Window(start=since, end=until)
    except ValidationError as error:
        raise SlipwayError(f"The window is empty: {start} is not before {last}.") from error
    except OverflowError as error:
        raise SlipwayError(f"window_start {start} is before the first year there is.") from error
    except ValueError as error:
        raise SlipwayError(
            f"window_start '{start}' is neither an ISO 8601 time nor a duration as in 1d: {error}."
        ) from error


def read_window(start: str, end: str, scheduled_at: str = "") -> Window | None:
    """The window of a run's data from its parameters; None where the start is empty: all rows.

    Raises:
        SlipwayError: as `resolve_window`.
    """
    return resolve_window(start, end, scheduled_at) if start.strip() else None


def widen(window: Window, before: str, after: str) -> Window:
    """The window with a margin on each side: features of its rows look beyond it.

    Args:
        window: the window.
        before: how much earlier it starts, as in "30d"; empty: not at all.
        after: how much later it ends; empty: not at all.

    Raises:
        SlipwayError: a margin is no duration.
    """
    margins = []
    for name, text in (("before", before), ("after", after)):
        try:
            margins.append(parse_duration(text.strip() or "0s"))
        except ValueError as error:
            raise SlipwayError(f"{name}: {error}.") from error
    ends = []
    for moment, span, last in (
        (window.start, -margins[0], datetime.min),
        (window.end, margins[1], datetime.max),
    ):
        try:
            ends.append(moment + span)
        except OverflowError:  # nothing is read beyond the times there are
            ends.append(last.replace(microsecond=0, tzinfo=UTC))
    return Window(start=ends[0], end=ends[1])


Format = Literal["parquet", "csv", "jsonl", "delta"]
FORMATS: tuple[Format, ...] = get_args(Format)
ColumnType = Literal["string", "integer", "number", "boolean", "timestamp", "date"]


class Csv(Section):
    """How csv files are written, where it is not with commas, points and UTF-8."""

    separator: str = Field(
        default=",", min_length=1, max_length=1, description="What stands between two values."
    )
    quote: str = Field(
        default='"', min_length=1, max_length=1, description="What stands around a text."
    )
    encoding: str = Field(
        default="utf-8", description="As Python names it: cp1252, latin-1, utf-16, shift_jis."
    )
    decimal: Literal[".", ","] = Field(
        default=".",
        description="What stands before a number's decimals. With a comma, points may part thousands.",
    )
    dates: tuple[str, ...] = Field(
        default=(),
        description="Formats of dates and times other than ISO 8601, as strptime has them: "
        "['%d/%m/%Y', '%d/%m/%Y %H:%M'].",
    )

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except LookupError as error:
            raise ValueError(f"'{value}' is no encoding that Python knows") from error
        return value

    @field_validator("dates")
    @classmethod
    def _is_whole(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        for form in formats:
            if not all(part in form for part in ("%d", "%m", "%Y")):
                raise ValueError(f"'{form}' does not say day (%d), month (%m) and year (%Y)")
        return formats

    @property
    def is_utf8(self) -> bool:
        """Whether no bytes need to be decoded."""
        return codecs.lookup(self.encoding).name == "utf-8"


class Table(Section):
    """One source table."""

    path: str = Field(description="Below `data.root`, or a full URI (file, s3, gs, abfss, https).")
    format: Format = Field(
        default="parquet",
        description="How the files are written; parquet and csv folders may be hive-partitioned.",
    )
    rename: dict[str, Name] = Field(
        default={},
        description="The source's name of a column to the one that it has from here on, as in "
        '{"Unit Price (€)": unit_price}; every other setting knows the new name only.',
    )
    time: Name | None = Field(
        default=None,
        description="The timestamp column that the window cuts on; None takes the table whole.",
    )
    columns: list[str] | None = Field(
        default=None, description="The columns to read; None reads all."
    )
    csv: Csv | None = Field(
        default=None,
        description="For csv, how the files are written, as in {separator: ;}; None: with commas.",
    )
    types: dict[str, ColumnType] = Field(
        default={},
        description="For csv and jsonl, the types of columns that are not to be guessed from the "
        "text, as in {tailnum: string}.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if twice := named_twice(self.rename.values()):
            raise ValueError(f"`rename` gives {', '.join(twice)} to more than one column")
        if self.types and self.format not in ("csv", "jsonl"):
            raise ValueError(
                f"`types` is for csv and jsonl; a {self.format} file says its own types"
            )
        if self.csv is not None and self.format != "csv":
            raise ValueError(
                f"`csv` says how csv files are written, and the format is {self.format}"
            )
        if self.columns is not None and self.time is not None and self.time not in self.columns:
            raise ValueError(
                f"`columns` must name the time column {self.time}, which the window needs"
            )
        return self


class DataConfig(Section):
    """The `data` section."""

    root: str = Field(
        default="",
        description="Folder or prefix that table paths lie below; also a pipeline parameter.",
    )
    window: Window | None = Field(
        default=None,
        description="The half-open stretch of time that is read; needed where a table has a `time`, "
        "and for examples with one.",
    )
    tables: dict[Name, Table] = Field(
        min_length=1, description="By name, the tables of the dataset."
    )

    @property
    def window_texts(self) -> tuple[str, str]:
        """The window's ends as a pipeline's parameters have them; empty: the tables are taken whole."""
        return self.window.texts if self.window else ("", "")

    @model_validator(mode="after")
    def _can_cut(self) -> Self:
        timed = [name for name, table in self.tables.items() if table.time is not None]
        if timed and self.window is None:
            raise ValueError(
                f"the table {timed[0]} is cut by its `time` {self.tables[timed[0]].time}, and there is"
                " no `window` to cut it to: give `window: {start: …, end: …}`, or leave the table's"
                " `time` out"
            )
        return self
