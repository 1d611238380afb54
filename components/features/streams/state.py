"""What is kept of the events of a view's entities, and the rows that come of them.

The rows are made by the code that makes the view's offline table, of all events that they can still be
made of: so a value is the same online and offline, whatever order events came in.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from slipway.components.config.features.features import FeatureView
from slipway.components.config.features.reach import longest_window
from slipway.components.features.views.aggregates import HAPPENED, KEY, KNOWN
from slipway.components.features.views.views import NAMED, changes, first_known

if TYPE_CHECKING:
    import polars as pl

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MARGIN = timedelta(minutes=10) // MICROSECOND
"""Rows are kept for so long after another took their place: the clocks of readers differ."""
DAY = timedelta(days=1) // MICROSECOND
LONG_AGO = timedelta(days=365_000) // MICROSECOND


@dataclass(frozen=True, slots=True)
class Entry:
    """What the online store is to hold of an entity.

    Attributes:
        entity: the bytes of Feast's key.
        events: as `packed`.
        rows: each row's moment and its features as JSON, in order.
        current: the features of the row that holds now, and its moment; None: none does yet.
        until: the moment after which nothing of this is needed; None: there is none.
    """

    entity: bytes
    events: bytes
    rows: list[tuple[int, str]]
    current: tuple[int, dict[str, object]] | None
    until: int | None


def merged(fresh: "pl.DataFrame", stored: "pl.DataFrame") -> "pl.DataFrame":
    """The events of both, of those with one name the one that was known first."""
    import polars as pl

    return first_known(pl.concat([fresh, stored], how="vertical"))


def replaced(offline: "pl.DataFrame", stored: "pl.DataFrame") -> "pl.DataFrame":
    """The events of both, of those with one name the offline one."""
    import polars as pl

    offline = first_known(offline)
    return pl.concat([offline, stored.join(offline, on=[KEY, NAMED], how="anti")])


def needed(
    events: "pl.DataFrame", view: FeatureView, moment: int, most: int
) -> tuple["pl.DataFrame", "pl.DataFrame"]:
    """The events that a row of `moment` or later is made of.

    Args:
        events: KEY, HAPPENED, KNOWN, AFTER, NAMED and values.
        view: their view.
        moment: in microseconds.
        most: of an entity's events so many are kept.

    Returns:
        The events, and KEY of the entities that had more than `most`.
    """
    import polars as pl

    known = pl.col(KNOWN).dt.epoch("us")
    since = moment - MARGIN
    if view.aggregates:
        kept = events.filter(known > since - longest_window(view) // MICROSECOND)
    else:
        # Of what is known by then only the newest can hold; later rows may be older than it.
        ordered = events.sort([KEY, HAPPENED, KNOWN], maintain_order=True)
        before = ordered.filter(known <= since).unique(KEY, keep="last", maintain_order=True)
        kept = pl.concat([before, ordered.filter(known > since)])
    kept = kept.sort([KEY, KNOWN, HAPPENED], maintain_order=True)
    place = pl.int_range(pl.len()).reverse().over(KEY)
    newest = kept.filter(place < most)
    return newest, kept.filter(place == most).select(KEY)


def entries(
    events: "pl.DataFrame",
    view: FeatureView,
    entities: Sequence[bytes],
    moment: int,
) -> list[Entry]:
    """What the store is to hold of each entity.

    Args:
        events: as `needed` gives them; KEY is a place in `entities`.
        view: their view.
        entities: the bytes of the entities' keys; one without events is emptied.
        moment: the moment that the view stands for, in microseconds.
    """
    import polars as pl

    made = changes(events, view)
    times = [n for n, kind in made.schema.items() if isinstance(kind, pl.Datetime) and n != KNOWN]
    made = made.with_columns(pl.col(KNOWN).dt.epoch("us"), pl.col(times).dt.epoch("us"))
    names = [name for name in made.columns if name not in (KEY, KNOWN)]
    ttl = view.ttl // MICROSECOND if view.ttl else LONG_AGO
    rows: dict[int, list[tuple[int, str]]] = {}
    current: dict[int, tuple[int, dict[str, object]]] = {}
    for key, known, *cells in made.select(KEY, KNOWN, *names).iter_rows():
        there = rows.setdefault(key, [])
        if known <= moment - MARGIN:
            there.clear()
        row = dict(zip(names, cells, strict=True))
        there.append(_row(known, row))
        if moment - ttl <= known <= moment:
            current[key] = (known, row)
    if view.aggregates:
        # All its events have left their windows. Feast's row may be of before that.
        empty: dict[str, object] = {name: view.empty(name) for name in names}
        for place in range(len(entities)):
            if place not in rows:
                rows[place], current[place] = [_row(moment, empty)], (moment, empty)
    held = packed(events)
    return [
        Entry(
            entity,
            held.get(place, b""),
            rows.get(place, []),
            current.get(place),
            _until(view, rows.get(place, [])),
        )
        for place, entity in enumerate(entities)
    ]


def _row(moment: int, cells: Mapping[str, object]) -> tuple[int, str]:
    return moment, json.dumps(cells, separators=(",", ":"))


def _until(view: FeatureView, rows: list[tuple[int, str]]) -> int | None:
    """When the last row is past the view's TTL; or, as Feast's row is then, past all windows."""
    span = longest_window(view) if view.aggregates else view.ttl
    return rows[-1][0] + span // MICROSECOND if span and rows else None


def packed(events: "pl.DataFrame") -> dict[int, bytes]:
    """The events of each KEY as bytes: deflated JSON, {column: values}."""
    import polars as pl

    times = [name for name, kind in events.schema.items() if isinstance(kind, pl.Datetime)]
    lists = (
        events.with_columns(pl.col(times).dt.epoch("us"))
        .group_by(KEY, maintain_order=True)
        .agg(pl.all())
    )
    names = [name for name in lists.columns if name != KEY]
    return {
        key: zlib.compress(json.dumps(dict(zip(names, columns, strict=True))).encode(), 1)
        for key, *columns in lists.select(KEY, *names).iter_rows()
    }


def unpacked(held: Mapping[int, bytes], schema: "pl.Schema") -> "pl.DataFrame":
    """The events of some KEYs, in the columns of a schema; a column that was not kept is null.

    Args:
        held: KEY to what `packed` made.
        schema: of the events, with KEY.
    """
    import polars as pl

    columns: dict[str, list[object]] = {name: [] for name in schema}
    for key, text in held.items():
        if not text:
            continue
        found = json.loads(zlib.decompress(text))
        rows = len(found[KNOWN])
        columns[KEY] += [key] * rows
        for name in schema:
            if name != KEY:
                columns[name] += found.get(name) or [None] * rows
    plain = {
        name: pl.Int64() if isinstance(kind, pl.Datetime) else kind for name, kind in schema.items()
    }
    frame = pl.DataFrame(columns, schema=plain, strict=False)
    casts = [
        pl.from_epoch(name, time_unit="us")
        .cast(pl.Datetime("us"))
        .dt.replace_time_zone(kind.time_zone)
        .alias(name)
        for name, kind in schema.items()
        if isinstance(kind, pl.Datetime)
    ]
    return frame.with_columns(casts)


def microseconds(moment: datetime) -> int:
    """A moment as microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def as_moment(ticks: int) -> datetime:
    """Microseconds since 1970 as a moment."""
    return EPOCH + ticks * MICROSECOND
