"""Aggregates of earlier rows: how often, how much, over which windows."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from slipway.components.config.base import format_duration
from slipway.local.guess.fields import Fields
from slipway.local.guess.labels import LabelGuess
from slipway.local.guess.moments import Moments, instants
from slipway.local.guess.relations import Join, is_id, returning
from slipway.local.guess.tables.facts import ColumnFacts, TableFacts

if TYPE_CHECKING:
    import polars as pl

_LENGTHS = tuple(timedelta(hours=hours) for hours in (1, 6, 24, 7 * 24, 30 * 24, 90 * 24, 365 * 24))
_MOST_COLUMNS = 3
_MOST_ENTITIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A view of what an entity did before.

    Attributes:
        name: of the view. table: whose rows are summed up.
        own: the examples' column with the key. other: the table's.
        time: the table's time. known: the column with the time when a row is known, where it is later.
        aggregates: feature to its settings. reason: why these.
    """

    name: str
    table: str
    own: str
    other: str
    time: str
    known: str | None
    aggregates: dict[str, dict[str, str]]
    reason: str


def guess_histories(
    label: LabelGuess, key: tuple[str, ...], moments: Moments, joins: list[Join], fields: Fields
) -> list[History]:
    """What the examples' own earlier rows, and the tables with several rows a key, say of an entity."""
    if moments.time.value is None:
        return []
    histories, own = [], label.table
    again = sorted(returning(own, key, label.column), key=lambda c: c.rows / max(c.distinct, 1))
    for column in again[-_MOST_ENTITIES:]:
        numbers = [
            own.columns[field.column] for field in fields.of(own.name) if field.kind == "numeric"
        ]
        histories.append(_own(own, column, moments, numbers, label))
    keys = {name for join in joins for name in (join.own, join.other)}
    for join in joins:
        if join.single or join.time is None:
            continue
        numbers = [c for c in join.table.columns.values() if _sums_up(c, keys)]
        windows = _windows(join.table, join.other, join.time)
        histories.append(
            History(
                name=f"{join.table.name}_of_{join.own}",
                table=join.table.name,
                own=join.own,
                other=join.other,
                time=join.time,
                known=None,
                aggregates=_aggregates(join.table.name, numbers, windows),
                reason=f"{join.reason}; {_told(windows)}",
            )
        )
    return histories


def _own(
    table: TableFacts,
    column: ColumnFacts,
    moments: Moments,
    numbers: list[ColumnFacts],
    label: LabelGuess,
) -> History:
    assert moments.time.value is not None  # noqa: S101
    windows = _windows(table, column.name, moments.time.value)
    aggregates = _aggregates(column.name, numbers, windows)
    known = moments.known.value
    if known and label.column.dtype.is_numeric() and label.unknown.value is None:
        longest = format_duration(windows[-1])
        aggregates[f"{column.name}_mean_{label.column.name}_{longest}"] = {
            "function": "mean", "column": label.column.name, "window": longest,
        }  # fmt: skip
    else:
        known = None
    rows = (column.rows - column.nulls) / max(column.distinct, 1)
    return History(
        name=f"{column.name}_history",
        table=table.name,
        own=column.name,
        other=column.name,
        time=moments.time.value,
        known=known,
        aggregates=aggregates,
        reason=f"a {column.source} comes back, {rows:.1f} rows each; {_told(windows)}",
    )


def _aggregates(
    stem: str, numbers: list[ColumnFacts], windows: list[timedelta]
) -> dict[str, dict[str, str]]:
    aggregates = {}
    for window in windows:
        length = format_duration(window)
        aggregates[f"{stem}_count_{length}"] = {"function": "count", "window": length}
    longest = format_duration(windows[-1])
    for column in numbers[:_MOST_COLUMNS]:
        aggregates[f"{stem}_mean_{column.name}_{longest}"] = {
            "function": "mean", "column": column.name, "window": longest,
        }  # fmt: skip
    return aggregates


def _sums_up(column: ColumnFacts, keys: set[str]) -> bool:
    """Whether a column's mean says something: none of a key, of this table or of another."""
    return (
        column.dtype.is_numeric()
        and column.name not in keys
        and not is_id(column)
        and not column.is_constant
        and not column.is_unique
    )


def _windows(table: TableFacts, key: str, time: str) -> list[timedelta]:
    """Two windows: the shortest that holds some events of most keys, and the next; none too long.

    A window of more than half of what there is would be whole for the last rows only.
    """
    times = instants(table.frame[time])
    pause = _median_pause(table.frame[key], times)
    whole = times.max() - times.min()  # type: ignore[operator]
    lengths = [length for length in _LENGTHS if length <= whole / 2] or [_LENGTHS[0]]  # type: ignore[operator]
    first = next((n for n, length in enumerate(lengths) if length >= 2 * pause), len(lengths) - 1)
    return [lengths[n] for n in sorted({first, min(first + 1, len(lengths) - 1)})]


def _median_pause(keys: "pl.Series", times: "pl.Series") -> timedelta:
    """Between two events of one key."""
    import polars as pl

    rows = pl.DataFrame({"key": keys, "at": times}).drop_nulls().sort("key", "at")
    pauses = rows.select(pl.col("at").diff().over("key"))["at"].drop_nulls()
    middle = pauses.median()
    return middle if isinstance(middle, timedelta) else timedelta(days=7)


def _told(windows: list[timedelta]) -> str:
    lengths = " and ".join(format_duration(window) for window in windows)
    return f"windows of {lengths}, from the usual pause between two of its rows"
