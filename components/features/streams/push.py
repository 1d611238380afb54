"""Events of a table, pushed to the online store: a view's values are fresh from then on.

from slipway.components.features.streams.push import Pusher

with_events = Pusher("shop").push("clicks", [{"event_id": "e1", "user_id": 7, ...}])
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.base import format_instant
from slipway.components.config.features.features import FeaturesConfig, FeatureView
from slipway.components.config.features.reach import longest_window
from slipway.components.contracts.dataset import Manifest, read_batches
from slipway.components.contracts.feature_store import StoreLocation, locate
from slipway.components.features.columns import key_columns
from slipway.components.features.store.encoding import entity_keys
from slipway.components.features.store.online import as_arrow
from slipway.components.features.store.registry import open_store
from slipway.components.features.streams import state
from slipway.components.features.streams.keepers import Change, StoredEvents, open_keeper
from slipway.components.features.streams.lines import as_columns, read_lines
from slipway.components.features.streams.record import StreamRecord, read_streams, write_streams
from slipway.components.features.streams.schema import EventSchema, Landing
from slipway.components.features.tables import SHARE, entity_shares
from slipway.components.features.views.aggregates import HAPPENED, KEY, KNOWN
from slipway.components.features.views.views import (
    Sources,
    ViewEvents,
    countable,
    read_events,
    source_columns,
    wanted_columns,
)
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress

if TYPE_CHECKING:
    import polars as pl
    from feast import FeatureStore
    from feast import FeatureView as FeastView

BATCH = 5_000
"""So many events are pushed together: all of them are seen, or none."""
ENTITIES = 2_000
_ENTITY = ":entity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push came to.

    Attributes:
        events: how many were given.
        entities: view to how many of its entities have other values, or the same again.
        stands_for: the moment that the views stand for now, the earliest of them (ISO 8601, UTC).
        capped: view to how many entities had more events than `most_events`.
        warned: check of the schema that only warns, to how many events fail it.
    """

    events: int
    entities: dict[str, int]
    stands_for: str
    capped: dict[str, int]
    warned: dict[str, int] = field(default_factory=dict)

    def plus(self, later: "Pushed") -> "Pushed":
        """Of this push and one after it."""

        def added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
            return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}

        return Pushed(
            events=self.events + later.events,
            entities=added(self.entities, later.entities),
            stands_for=later.stands_for,
            capped=added(self.capped, later.capped),
            warned=added(self.warned, later.warned),
        )


class Pusher:
    """Pushes events of a project's streams into its online store. Not for several threads at once.

    The store is the one that the environment names (FEATURE_STORE_URI, FEAST_REDIS_URL), as the features
    stage left it.

    Raises:
        SlipwayError: the store takes no pushes.
    """

    def __init__(self, project: str, *, now: Callable[[], float] = time.time) -> None:
        self._place = locate(project)
        self._now = now
        self._record = read_streams(self._place)
        self._config = FeaturesConfig.parse(self._record.features, "features")
        self._store = open_store(self._place, self._config.offline_store)
        self._tables = {table: self._views(table) for table in self._record.tables}
        self._schemas = {table: EventSchema(table, self._record) for table in self._record.tables}

    @property
    def tables(self) -> list[str]:
        """The streams."""
        return list(self._tables)

    def push(
        self, table: str, events: Iterable[dict[str, object]], *, name: str = "events"
    ) -> Pushed:
        """Pushes events, in batches of `BATCH`.

        An event that was pushed before changes nothing, so that a push which did not answer is repeated.

        Args:
            table: the stream.
            events: objects with JSON values, as a line of the table's jsonl would have them.
            name: what they are from, for messages.

        Returns:
            What it came to.

        Raises:
            Malformed: an event that cannot be one of the table, or is not as its schema says, with its
                line; of its batch nothing was pushed.
            SlipwayError: no such stream, or the store does not take it.
        """
        return self._push(table, enumerate(events, 1), name)

    def push_lines(
        self, table: str, lines: Iterable[bytes], *, name: str, first: int = 1
    ) -> Pushed:
        """Pushes events that come as JSON, one a line; as `push`."""
        return self._push(table, read_lines(lines, name, first), name)

    def require(self, table: str) -> None:
        """Refuses a table that is no stream.

        Raises:
            SlipwayError: naming those that there are.
        """
        self._stream(table)

    def check_lines(
        self,
        table: str,
        lines: Iterable[bytes],
        *,
        name: str,
        first: int = 1,
        landing: Landing | None = None,
    ) -> int:
        """Reads events that come as JSON, one a line, and pushes none; gives how many there are.

        Args:
            table: the stream.
            lines: with or without the newline.
            name: what they are from, for messages.
            first: the first line's number.
            landing: they are to be rows of the table's source; None: they are pushed online alone.

        Raises:
            Malformed: as for `push`.
        """
        found, events = 0, read_lines(lines, name, first)
        while batch := list(islice(events, BATCH)):
            self._read(table, batch, name, landing)
            found += len(batch)
        return found

    def _push(self, table: str, events: Iterable[tuple[int, object]], name: str) -> Pushed:
        numbered = iter(events)
        self._stream(table)
        done = Pushed(events=0, entities={}, stands_for="", capped={})
        while batch := list(islice(numbered, BATCH)):
            rows, warned = self._read(table, batch, name)
            done = done.plus(replace(self._push_rows(table, rows), warned=warned))
        return done

    def _stream(self, table: str) -> list["_Streamed"]:
        if table not in self._tables:
            raise SlipwayError(
                f"'{table}' is no stream of this project ({', '.join(self._tables)}): name it under"
                " `features.streams`, and run the features stage."
            )
        return self._tables[table]

    def _read(
        self,
        table: str,
        batch: list[tuple[int, object]],
        name: str,
        landing: Landing | None = None,
    ) -> "tuple[pl.DataFrame, dict[str, int]]":
        """The events as columns, all of them as the schema says; and what it only warns of."""
        views, schema = self._stream(table), self._schemas[table]
        there, now = self._record.tables[table], state.as_moment(int(self._now() * 1e6))
        needed = {column: there[column] for view in views for column in view.columns}
        required = {
            *self._config.streams[table].key_columns,
            *(view.view.time for view in views if view.view.time),
        }
        columns = {**schema.columns(now), **needed}
        rows = as_columns(batch, columns, required, name, columns.keys() - needed.keys())
        if landing is not None:
            schema.require_whole(batch, name, landing)
            needed = columns
        return rows, schema.check(rows, batch, needed, now=now, name=name)

    def _push_rows(self, table: str, rows: "pl.DataFrame") -> Pushed:
        views = self._stream(table)
        most = self._config.streams[table].most_events
        fresh = {view.name: view.events_of(rows) for view in views}
        keeper = open_keeper(self._store, [view.feast for view in views])
        now = int(self._now() * 1e6)
        capped: dict[str, int] = {}
        stands: list[int] = []

        def compute(held: dict[str, StoredEvents]) -> dict[str, Change]:
            stands.clear()
            changes = {}
            for view in views:
                known = fresh[view.name].events[KNOWN].dt.epoch("us")
                seen: Any = known.filter(known <= now).max()
                clock = held[view.name].clock
                behind = clock.behind
                if seen is not None:
                    behind = min(now - seen, now - seen if behind is None else behind)
                moment = type(clock)(clock.end, behind).moment(now)
                moment = now if moment is None else moment
                stands.append(moment)
                entries, over = view.entries(fresh[view.name], held[view.name], moment, most)
                if over:
                    capped[view.name] = over
                changes[view.name] = Change(entries, moment, behind, now)
            return changes

        keeper.change({name: made.entities for name, made in fresh.items()}, compute)
        return Pushed(
            events=rows.height,
            entities={name: len(made.entities) for name, made in fresh.items()},
            stands_for=format_instant(state.as_moment(min(stands))),
            capped=capped,
        )

    def _views(self, table: str) -> list["_Streamed"]:
        return [
            _Streamed(view, self._config, self._store, self._record.keys)
            for view in self._config.streamed(table)
        ]


@dataclass(frozen=True, slots=True)
class _Events:
    """Events of a view, and the entities that they are of: KEY is a place among these."""

    entities: list[bytes]
    events: "pl.DataFrame"


class _Streamed:
    """A view that takes pushed events."""

    def __init__(
        self,
        view: FeatureView,
        config: FeaturesConfig,
        store: "FeatureStore",
        keys: dict[str, str],
    ) -> None:
        self.name, self.view = view.name, view
        self.columns = wanted_columns(config, view, config.sources_of(view))
        self.feast: FeastView = store.get_feature_view(view.name)
        self._config, self._sources = config, Sources.of(config, view, keys)

    def events_of(self, rows: "pl.DataFrame") -> _Events:
        """The events of some rows of the view's table."""
        return self._by_entity(read_events(rows, self._config, self.view, self._sources))

    def _by_entity(self, read: ViewEvents) -> _Events:
        import polars as pl

        whole = read.entities.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
        named = read.entities.filter(whole)
        keys = pl.Series(_ENTITY, entity_keys(self.feast, as_arrow(named)), dtype=pl.Binary)
        entities = keys.unique(maintain_order=True)
        places = pl.DataFrame({_ENTITY: entities, KEY: range(len(entities))}).with_columns(
            pl.col(KEY).cast(pl.Int64)
        )
        own = pl.DataFrame([keys]).join(places, on=_ENTITY, how="left", maintain_order="left")
        events = countable(read.events.filter(whole).with_columns(own[KEY]), self.view)
        return _Events(entities.to_list(), events)

    def entries(
        self, fresh: _Events, held: StoredEvents, moment: int, most: int, *, offline: bool = False
    ) -> tuple[list[state.Entry], int]:
        """What the store is to hold of the entities with the fresh events, and how many were capped.

        Args:
            fresh: pushed events; or those of the dataset, which take the place of others.
            held: what the store holds of these entities.
            moment: what the view stands for.
            most: so many events of an entity are kept.
            offline: the fresh events are those of the dataset.
        """
        places = dict(enumerate(fresh.entities))
        stored = state.unpacked(
            {place: held.events.get(entity, b"") for place, entity in places.items()},
            fresh.events.schema,
        )
        merge = state.replaced if offline else state.merged
        events, over = state.needed(merge(fresh.events, stored), self.view, moment, most)
        return state.entries(events, self.view, fresh.entities, moment), over.height


def keep_streams(
    store: "FeatureStore",
    place: StoreLocation,
    dataset: Path,
    manifest: Manifest,
    config: FeaturesConfig,
    *,
    now: Callable[[], float] = time.time,
) -> None:
    """Leaves in the feature store what a push must know, after a materialisation."""
    keys = key_columns(manifest, config)
    for table in config.streams:
        for view in config.streamed(table):
            kept = _keep_events(store, dataset, manifest, config, view, keys, int(now() * 1e6))
            progress(f"stream {table}: {view.name}, events of {kept:,} entities")
    # Last: only then is an event taken.
    tables = {table: dict(manifest.tables[table].columns) for table in config.streams}
    write_streams(
        place,
        StreamRecord(
            features=config.to_struct(),
            keys=keys,
            tables=tables,
            window=list(manifest.window) if manifest.window else None,
            schema=manifest.notes.get("schema", ""),
        ),
    )


def _keep_events(
    store: "FeatureStore",
    dataset: Path,
    manifest: Manifest,
    config: FeaturesConfig,
    view: FeatureView,
    keys: dict[str, str],
    now: int,
) -> int:
    """Keeps what pushes to a view go on from: the dataset's events, beside those pushed already.

    Args:
        store: the feature store; the view was materialised.
        dataset: the validated dataset.
        manifest: its manifest.
        config: the project's `features` section.
        view: a view whose events are pushed.
        keys: the entities' key columns with their Arrow types.
        now: microseconds since 1970.

    Returns:
        Of how many entities events are kept.
    """
    streamed = _Streamed(view, config, store, keys)
    keeper = open_keeper(store, [streamed.feast])
    stream = config.streams[view.table]
    columns = source_columns(manifest, config, view)
    moment = keeper.clock(view.name).moment(now) or now
    since = moment - state.MARGIN - longest_window(view) // state.MICROSECOND
    kept = 0

    def read() -> Iterator["pl.DataFrame"]:
        import polars as pl

        for batch in read_batches(dataset, view.table, columns):
            made = read_events(pl.DataFrame(batch), config, view, streamed._sources)
            rows = made.entities.hstack(made.events)
            if view.aggregates:
                rows = rows.filter(pl.col(KNOWN).dt.epoch("us") > since)
            yield rows.drop_nulls([*made.entities.columns, KNOWN, HAPPENED])

    total = manifest.tables[view.table].rows
    names = list(config.keys_of(view))
    for share in _shares(read(), names, total):
        whole = ViewEvents(share.select(names), share.drop(names), {}, set())
        every = streamed._by_entity(whole)
        for first in range(0, len(every.entities), ENTITIES):
            some = _some(every, first)

            def compute(held: dict[str, StoredEvents], some: _Events = some) -> dict[str, Change]:
                own = held[view.name]
                stands = own.clock.moment(now) or now
                entries, _ = streamed.entries(some, own, stands, stream.most_events, offline=True)
                return {view.name: Change(entries, stands)}

            keeper.change({view.name: some.entities}, compute)
            kept += len(some.entities)
    keeper.drop(view.name, moment)
    return kept


def _shares(
    parts: Iterator["pl.DataFrame"], keys: list[str], total: int
) -> Iterator["pl.DataFrame"]:
    import polars as pl

    if total > SHARE:
        yield from entity_shares(parts, keys, total)
    elif whole := list(parts):
        yield pl.concat(whole)


def _some(every: _Events, first: int) -> _Events:
    """A stretch of the entities with their events."""
    import polars as pl

    chosen = every.entities[first : first + ENTITIES]
    inside = every.events.filter(pl.col(KEY).is_between(first, first + len(chosen) - 1))
    return _Events(chosen, inside.with_columns(pl.col(KEY) - first))
