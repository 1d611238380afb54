"""When what is predicted happens, which columns are known only later, and when the label is."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from slipway.components.config.base import format_duration
from slipway.components.support.errors import ProjectError
from slipway.local.guess.guess import Answers, Guess, Question
from slipway.local.guess.tables.facts import ColumnFacts, TableFacts
from slipway.local.guess.tables.named import find_column

if TYPE_CHECKING:
    import polars as pl

NONE = "none"
LEAST_TIMES = 20
"""With fewer different times a split by time would cut between few moments."""
LEAST_SPAN = timedelta(days=1)
_MOST_NULLS = 0.01
_LATER = 0.5
_MOSTLY = 0.8
_BIRTH = {"birth", "birthday", "birthdate", "dob", "born", "bday"}
_OF_EVENT = {"event", "timestamp", "created", "time", "datetime", "observed", "happened"}
_DATES = r"^\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([ T]\d{1,2}:\d{2}(:\d{2})?)?$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """The times of an examples' table.

    Attributes:
        time: the column of the moment that is predicted; None: there is none.
        later: columns with times after it, which nobody knows at the prediction: name to why.
        known: the column with the time at which the label is known. lag: how long after `time` at most,
            for nineteen rows in twenty.
        warnings: what a person should look at.
    """

    time: Guess[str | None]
    later: dict[str, str]
    known: Guess[str | None]
    lag: timedelta = timedelta(0)
    warnings: tuple[str, ...] = ()


def guess_moments(table: TableFacts, label: ColumnFacts, answers: Answers) -> Moments:
    """The time of the examples, and what is known only after it.

    Raises:
        Question: several columns could be the time.
        ProjectError: the answer names no column of times.
    """
    times = [c for c in table.columns.values() if c.is_time and c.name != label.name]
    time = _guess_time(table, times, answers)
    if time.value is None:
        return Moments(
            time=time,
            later={},
            known=Guess(value=None, reason=""),
            warnings=_texts_like_dates(table),
        )
    happens = instants(table.columns[time.value].values)
    later = {
        column.name: f"its times are after {time.value} in {share:.0%} of the rows"
        for column in times
        if column.name != time.value and (share := _share_after(column, happens)) > _LATER
    }
    known, lag = _guess_known(table, label, happens, later)
    return Moments(time=time, later=later, known=known, lag=lag)


def instants(values: "pl.Series") -> "pl.Series":
    """Times as instants: those without a zone count as UTC."""
    import polars as pl

    if values.dtype == pl.Date:
        values = values.cast(pl.Datetime("us"))
    if values.dtype.time_zone is None:  # type: ignore[attr-defined]
        values = values.dt.replace_time_zone("UTC")
    return values.cast(pl.Datetime("us", "UTC"))


def _guess_time(table: TableFacts, times: list[ColumnFacts], answers: Answers) -> Guess[str | None]:
    if answers.time == NONE:
        return Guess(value=None, reason="As --time none says")
    if answers.time:
        column = find_column("time", answers.time, table)
        if not column.is_time:
            there = ", ".join(c.source for c in times) or "none"
            raise ProjectError(
                f"--time {answers.time}: that is of type {column.dtype}, no time, of {table.name}. Its"
                f" columns of times: {there}."
            )
        return Guess(value=column.name, reason="As --time says")
    likely = [c for c in times if _may_be_time(c)]
    change = "Change: --time COLUMN, or --time none to take the rows as of no time"
    if not likely:
        why = "; ".join(_why_not(c) for c in times) or "no column holds times"
        return Guess(value=None, reason=f"{table.name}: {why}", change="Change: --time COLUMN")
    if len(likely) > 1:
        stem = table.name.rstrip("s")
        named = [c for c in likely if set(c.words) & {stem, *_OF_EVENT}]
        if len(named) != 1:
            choices = (*(c.source for c in likely), NONE)
            raise Question(
                "time", f"Which column of {table.name} says when a row's thing happens?", choices
            )
        others = ", ".join(c.source for c in likely if c is not named[0])
        reason = f"by its name the time of a row of {table.name}; there is also {others}"
        return Guess(value=named[0].name, reason=reason, change=change)
    (column,) = likely
    low, high = column.values.min(), column.values.max()
    reason = f"the only column with a time in every row, {_day(low)} to {_day(high)}"
    return Guess(value=column.name, reason=reason, change=change)


def _may_be_time(column: ColumnFacts) -> bool:
    return (
        not set(column.words) & _BIRTH
        and column.nulls <= _MOST_NULLS * column.rows
        and column.distinct >= LEAST_TIMES
        and _span(column) >= LEAST_SPAN
    )


def _why_not(column: ColumnFacts) -> str:
    if set(column.words) & _BIRTH:
        return f"{column.source} is a birth, not the time of a row"
    if column.nulls > _MOST_NULLS * column.rows:
        return f"{column.source} is empty in {column.nulls:,} of {column.rows:,} rows"
    return f"{column.source} has {column.distinct:,} different times, too few to split by"


def _span(column: ColumnFacts) -> timedelta:
    times = instants(column.values).drop_nulls()
    return times.max() - times.min() if len(times) else timedelta(0)  # type: ignore[operator,return-value]


def _share_after(column: ColumnFacts, happens: "pl.Series") -> float:
    after = (instants(column.values) > happens).drop_nulls()
    return float(after.mean() or 0.0) if len(after) else 0.0  # type: ignore[arg-type]


def _guess_known(
    table: TableFacts, label: ColumnFacts, happens: "pl.Series", later: dict[str, str]
) -> tuple[Guess[str | None], timedelta]:
    """The time of the label: the later column that is empty exactly where the label is."""
    unlabelled = label.values.is_null()
    if label.nulls:
        for name in later:
            known = table.columns[name]
            if (known.values.is_null() == unlabelled).all():
                lag = (instants(known.values) - happens).drop_nulls()
                longest = lag.quantile(0.95, "higher") or timedelta(0)
                rounded = _rounded_up(longest)  # type: ignore[arg-type]
                reason = (
                    f"{known.source} is empty exactly where {label.source} is, and later: 95 % of the"
                    f" labels are known within {format_duration(rounded)}"
                )
                change = "Leave it out if the label is known at once"
                return Guess(value=name, reason=reason, change=change), rounded
    return Guess(value=None, reason=""), timedelta(0)


def _rounded_up(length: timedelta) -> timedelta:
    unit = timedelta(days=1) if length > timedelta(days=1) else timedelta(hours=1)
    return -(-length // unit) * unit


def _texts_like_dates(table: TableFacts) -> tuple[str, ...]:
    """Columns of text that look like dates, which ingest leaves as text, and why it does."""
    found = []
    for column in table.columns.values():
        if not column.is_text or not column.distinct:
            continue
        alike = column.values.str.contains(_DATES)
        if not float(alike.mean() or 0) >= _MOSTLY:  # type: ignore[arg-type]
            continue
        found.append(
            f"{column.source} looks like dates but is read as text, so that there is no split by time:"
            f" {_why_no_date(table, column, alike)} and run init again"
        )
    return tuple(found)


def _why_no_date(table: TableFacts, column: ColumnFacts, alike: "pl.Series") -> str:
    """Why a column of dates is none for ingest, with the value that makes it so, and what to do."""
    import polars as pl

    values = column.values
    parts = values.str.extract_groups(r"^(\d{1,4})[./-](\d{1,2})[./-](\d{1,4})").struct.unnest()
    first, middle, last = (parts[name].cast(pl.Int32, strict=False) for name in parts.columns)
    is_year_first = float(values.str.contains(r"^\d{4}").mean() or 0) > 0.5  # type: ignore[arg-type]
    day, month, year = (last, middle, first) if is_year_first else (first, middle, last)
    swapped = not is_year_first and bool((middle > 12).any()) and not bool((first > 12).any())
    if swapped:
        day, month = middle, first
    made = pl.DataFrame({"y": year, "m": month, "d": day}).select(
        pl.when(pl.col("m").is_between(1, 12) & pl.col("d").is_between(1, 31)).then(
            pl.format("{}-{}-{}", "y", "m", "d").str.to_date("%Y-%m-%d", strict=False)
        )
    )
    odd = values.filter((~alike | made.to_series().is_null()) & values.is_not_null())
    both = not is_year_first and bool((middle > 12).any()) and bool((first > 12).any())
    if both:
        day_first, month_first = values.filter(first > 12)[0], values.filter(middle > 12)[0]
        return (
            f"some have the day first ({day_first!r}) and some the month ({month_first!r}). Write them"
            " all as 2024-12-31"
        )
    if len(odd):
        row = "" if table.is_sample else f" (row {(values == odd[0]).arg_max() + 1:,})"
        more = f", and {len(odd) - 1:,} more are" if len(odd) > 1 else " is"
        return f"{odd[0]!r}{row}{more} none. Mend such values, or leave them empty,"
    if is_year_first or bool((first > 12).any()) or swapped:
        return (
            f"they are not all written in one way, as {values.drop_nulls()[0]!r}. Write them as"
            " 2024-12-31"
        )
    return (
        f"no part of {values.drop_nulls()[0]!r} or another is greater than 12, so that nothing tells the"
        " day from the month. Write them as 2024-12-31"
    )


def _day(moment: object) -> str:
    return str(moment)[:10]
