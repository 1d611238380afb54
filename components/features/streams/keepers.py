"""Where the events and rows of streamed views are kept: in the online store, changed as a whole.

A change reads what is there, and writes what comes of it; nobody sees half of it, and of two changes at
one time one goes after the other.
"""

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from slipway.components.contracts.streams import (
    BEHIND,
    CLOCKS,
    EVENTS,
    PUSHED,
    ROWS,
    TABLES,
    Clock,
    clock_key,
    events_key,
    rows_key,
)
from slipway.components.features.store import online
from slipway.components.features.streams.state import DAY, Entry, microseconds
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from feast import FeatureStore
    from feast import FeatureView as FeastView
    from redis.client import Pipeline

ATTEMPTS = 50
BUSY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class StoredEvents:
    """What the store has of a view: its clock, and the events of the entities that were asked for."""

    clock: Clock
    events: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Change:
    """What the store is to have of a view.

    Attributes:
        entries: its entities.
        moment: what the view stands for, in microseconds since 1970.
        behind: how far its clock is behind; None: as it is. It never moves back.
        pushed: when events were pushed; None: none were.
    """

    entries: list[Entry]
    moment: int
    behind: int | None = None
    pushed: int | None = None


Compute = Callable[[dict[str, StoredEvents]], dict[str, Change]]
"""From what the store has of some views to what it is to have; it may be called again."""


def open_keeper(store: "FeatureStore", views: list["FeastView"]) -> "SqliteKeeper | RedisKeeper":
    """What keeps the events of some views.

    Raises:
        SlipwayError: the online store is neither sqlite nor one Redis server.
    """
    writers = {view.name: online.open_writer(store, view) for view in views}
    sqlite = {k: w for k, w in writers.items() if isinstance(w, online.SqliteWriter)}
    if len(sqlite) == len(writers):
        return SqliteKeeper(sqlite)
    return RedisKeeper(
        store.project, {k: w for k, w in writers.items() if isinstance(w, online.RedisWriter)}
    )


def _current(entries: list[Entry], view: "FeastView") -> tuple[list[bytes], "pa.Table"]:
    """The rows that hold now, as Feast's own readers are to find them, and their entities."""
    import polars as pl

    timestamp = online.timestamp_of(view)
    kinds = {feature.name: _polars_type(str(feature.dtype)) for feature in view.features}
    there = [(entry.entity, *entry.current) for entry in entries if entry.current is not None]
    columns: dict[str, object] = {
        timestamp: pl.Series([moment for _, moment, _ in there], dtype=pl.Int64)
        .cast(pl.Datetime("us"))
        .dt.replace_time_zone("UTC")
    }
    for name, kind in kinds.items():
        cells = [row.get(name) for _, _, row in there]
        plain = pl.Int64() if isinstance(kind, pl.Datetime) else kind
        columns[name] = pl.Series(cells, dtype=plain).cast(kind)
    return [entity for entity, _, _ in there], online.as_arrow(pl.DataFrame(columns))


def _polars_type(feast: str) -> "pl.DataType":
    import polars as pl

    kinds = {"Float64": pl.Float64(), "String": pl.String(), "Bool": pl.Boolean()}
    return kinds.get(feast, pl.Datetime("us"))


def _end(note: online.Note | None) -> int | None:
    return microseconds(datetime.fromisoformat(note.end)) if note else None


class SqliteKeeper:
    """In tables of the online store's file; a change is one transaction."""

    def __init__(self, writers: dict[str, online.SqliteWriter]) -> None:
        self._writers = writers
        self._connection = next(iter(writers.values())).connection
        self._connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        # Readers then do not wait for a push, nor a push for them. It stays so once it is.
        with suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA journal_mode = WAL")
        with self._connection:
            for table in TABLES:
                self._connection.execute(table)

    def change(self, entities: dict[str, list[bytes]], compute: Compute) -> None:
        """Changes what is kept of some views' entities."""
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            held = {
                view: StoredEvents(self.clock(view), self._events(view, keys))
                for view, keys in entities.items()
            }
            for view, change in compute(held).items():
                self._write(view, change)

    def clock(self, view: str) -> Clock:
        """The clock of a view."""
        query = f"SELECT behind, pushed FROM {CLOCKS} WHERE view = ?"  # noqa: S608 - a constant
        table = self._writers[view].table
        found = self._connection.execute(query, (table,)).fetchone()
        return Clock(_end(self._writers[view].note()), *(found or (None, None)))

    def drop(self, view: str, before: int) -> None:
        """Removes entities of which nothing is needed since a moment."""
        table = self._writers[view].table
        gone = f"SELECT entity FROM {EVENTS} WHERE view = ? AND until < ?"  # noqa: S608
        with self._connection:
            self._connection.execute(
                f"DELETE FROM {ROWS} WHERE view = ? AND entity IN ({gone})",  # noqa: S608
                (table, table, before - DAY),
            )
            self._connection.execute(
                f"DELETE FROM {EVENTS} WHERE view = ? AND until < ?",  # noqa: S608
                (table, before - DAY),
            )

    def _events(self, view: str, keys: list[bytes]) -> dict[bytes, bytes]:
        query = f"SELECT events FROM {EVENTS} WHERE view = ? AND entity = ?"  # noqa: S608
        table = self._writers[view].table
        found = {
            key: self._connection.execute(query, (table, bytearray(key))).fetchone() for key in keys
        }
        return {key: row[0] for key, row in found.items() if row}

    def _write(self, view: str, change: Change) -> None:
        run, many = self._connection.execute, self._connection.executemany
        writer = self._writers[view]
        table = writer.table
        many(
            f"INSERT OR REPLACE INTO {EVENTS} VALUES (?, ?, ?, ?)",  # noqa: S608
            [(table, bytearray(e.entity), bytearray(e.events), e.until) for e in change.entries],
        )
        many(
            f"DELETE FROM {ROWS} WHERE view = ? AND entity = ?",  # noqa: S608
            [(table, bytearray(e.entity)) for e in change.entries],
        )
        many(
            f"INSERT INTO {ROWS} VALUES (?, ?, ?, ?)",  # noqa: S608
            [(table, bytearray(e.entity), *row) for e in change.entries for row in e.rows],
        )
        entities, rows = _current(change.entries, writer.view)
        if entities:
            writer.put(entities, rows)
        if change.behind is not None:
            run(
                f"INSERT INTO {CLOCKS} VALUES (?1, ?2, ?3) ON CONFLICT (view) DO UPDATE SET"  # noqa: S608
                " behind = min(behind, ?2), pushed = max(pushed, ?3)",
                (table, change.behind, change.pushed or 0),
            )


class RedisKeeper:
    """Beside Feast's hashes; a change is a transaction that is tried again where another came before.

    Raises:
        SlipwayError: Redis is a cluster, where no transaction holds several keys.
    """

    def __init__(self, project: str, writers: dict[str, online.RedisWriter]) -> None:
        self._project, self._writers = project, writers
        writer = next(iter(writers.values()))
        self._client = writer.client
        if not isinstance(self._client, writer.one_server):
            raise SlipwayError(
                "FEAST_REDIS_URL is a Redis cluster, where nothing holds several keys together: events"
                " are pushed to one Redis server (with replicas, or behind Sentinel)."
            )

    def change(self, entities: dict[str, list[bytes]], compute: Compute) -> None:
        """Changes what is kept of some views' entities."""
        from redis.exceptions import WatchError

        watched = [
            events_key(self._project, view, key) for view, keys in entities.items() for key in keys
        ]
        for attempt in range(ATTEMPTS):
            with self._client.pipeline(transaction=True) as pipe:
                if watched:
                    pipe.watch(*watched)
                found = iter(pipe.mget(watched) if watched else [])
                held = {
                    view: StoredEvents(self.clock(view), {k: e for k in keys if (e := next(found))})
                    for view, keys in entities.items()
                }
                changes = compute(held)
                pipe.multi()
                for view, change in changes.items():
                    self._write(pipe, view, change)
                try:
                    pipe.execute()
                    return
                except WatchError:
                    time.sleep(random.uniform(0, 0.002 * (attempt + 1)))  # noqa: S311 - no secret
        raise SlipwayError(
            f"The online store's entities changed {ATTEMPTS} times while events were pushed: others"
            " push the same ones. Push again; what is there already is not counted twice."
        )

    def clock(self, view: str) -> Clock:
        """The clock of a view."""
        scores = dict(self._client.zrange(clock_key(self._project, view), 0, -1, withscores=True))
        behind, pushed = scores.get(BEHIND), scores.get(PUSHED)
        return Clock(
            _end(self._writers[view].note()),
            None if behind is None else int(behind),
            None if pushed is None else int(pushed),
        )

    def drop(self, view: str, before: int) -> None:
        """Redis removes by itself what is not needed: each key has an end."""

    def _write(self, pipe: "Pipeline", view: str, change: Change) -> None:
        for entry in change.entries:
            keys = [f(self._project, view, entry.entity) for f in (events_key, rows_key)]
            pipe.delete(*keys)
            pipe.set(keys[0], entry.events)
            if entry.rows:
                pipe.zadd(keys[1], {f"{known}:{row}": known for known, row in entry.rows})
            if entry.until is not None:
                # The view's clock never runs slower than the one on the wall.
                left = max(entry.until - change.moment, 0) + DAY
                for key in keys:
                    pipe.pexpire(key, left // 1000)
        writer = self._writers[view]
        entities, rows = _current(change.entries, writer.view)
        if entities:
            writer.put(pipe, entities, rows)
        if change.behind is not None:
            clock = clock_key(self._project, view)
            pipe.zadd(clock, {BEHIND: change.behind}, lt=True)
            pipe.zadd(clock, {PUSHED: change.pushed or 0}, gt=True)
