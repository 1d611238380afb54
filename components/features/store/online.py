"""Filling the online store: in batches, only what is new, and on where an earlier try stopped.

The bytes are those that Feast's own stores write, so its readers (and any Feast client) read them. Each
batch is written together with a note of how far it got; the note lies in the online store itself, so
that it is right even if the store was emptied or restored meanwhile.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from slipway.components.config.base import EARLIEST
from slipway.components.contracts.feature_store import NOTES_TABLE, note_name, redis_note_key
from slipway.components.features.store import encoding
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from feast import FeatureStore, FeatureView
    from redis.client import Pipeline

BATCH = 20_000
STATEMENT_ROWS = 200
"""So many rows of sqlite's table are written by one statement."""
PAGE_BYTES = 16_384
FEW_PAGES = 500
REDIS_COMMANDS = 5_000
"""So many commands go to Redis before their answers are read."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""What ticks count from."""
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """How far the materialisation of a view got.

    Attributes:
        end: the moment that the online store stands for (ISO 8601).
        content: hash of every entity's newest row at that moment, and of the view's features.
        work: hash of the rows that this materialisation writes.
        done: how many of them are written. total: how many there are.
    """

    end: str
    content: str
    work: str
    done: int
    total: int


class Writer(Protocol):
    """An online store that takes batches."""

    def note(self) -> Note | None:
        """The note left by the last batch, if any."""

    def write(self, rows: "pa.Table", note: Note) -> None:
        """Writes a batch and the note."""

    def holds_any(self) -> bool:
        """Whether the store may hold an entity of this view."""

    def forget(self, before: datetime, *, only_count: bool = False) -> int:
        """Removes entities whose value is from before this moment: it is past the view's TTL.

        Returns:
            How many there were; `only_count` leaves them.
        """


def materialise(store: "FeatureStore", view_name: str, end: datetime) -> int:
    """Makes the online store stand for a moment: each entity has its newest value at `end`.

    Writes only rows newer than the moment that the store stands for already, provided that nothing
    before it has changed; otherwise every entity's row. A store that stands for a later moment is left
    as it is. What is older than the view's TTL at `end` is removed.

    Args:
        store: the feature store.
        view_name: the view to write.
        end: the moment.

    Returns:
        How many entities were written.

    Raises:
        SlipwayError: the view has no source, or the online store is neither sqlite nor Redis.
    """
    view = store.get_feature_view(view_name)
    writer = open_writer(store, view)
    before = writer.note()
    if before and datetime.fromisoformat(before.end) > end:
        return 0
    oldest = max(end - view.ttl, EARLIEST) if view.ttl else EARLIEST
    rows, content = _newest(store, view, oldest, end)
    timestamp = timestamp_of(view)
    if before and before.done == before.total:
        # Is what the store holds what these tables give for its moment? Then only news is missing.
        moment = datetime.fromisoformat(before.end)
        then = max(moment - view.ttl, EARLIEST) if view.ttl else EARLIEST
        if _newest(store, view, then, moment)[1] == before.content:
            import polars as pl

            rows = rows.filter(pl.col(timestamp) > moment)
    work = _digest(view, rows)
    resumed = before if before and (before.work, before.total) == (work, rows.height) else None
    first = resumed.done if resumed else 0
    # What this writes is within the TTL; only what was there before may be past it.
    forget = bool(view.ttl) and (before is not None or writer.holds_any())
    written = 0
    for offset in range(first, max(rows.height, 1), BATCH):
        batch = rows.slice(offset, BATCH)
        note = Note(
            end=end.isoformat(),
            content=content,
            work=work,
            done=offset + batch.height,
            total=rows.height,
        )
        writer.write(as_arrow(batch), note)
        written += batch.height
    if forget:
        writer.forget(oldest)
    store.registry.apply_materialization(view, store.project, oldest, end)
    return written


def stands_for(store: "FeatureStore", view_name: str) -> datetime | None:
    """The moment that the online store stands for; None where the view was never written."""
    note = open_writer(store, store.get_feature_view(view_name)).note()
    return datetime.fromisoformat(note.end) if note else None


def timestamp_of(view: "FeatureView") -> str:
    """The column of a view's table that says when a row became known.

    Raises:
        SlipwayError: the view has no table.
    """
    if view.batch_source is None:
        raise SlipwayError(f"View {view.name} has no source to materialise from.")
    return view.batch_source.timestamp_field


def _newest(
    store: "FeatureStore", view: "FeatureView", start: datetime, end: datetime
) -> tuple["pl.DataFrame", str]:
    """Each entity's newest row with start <= time <= end, in the order of keys' bytes; and its digest."""
    import polars as pl
    from feast import FileSource

    from slipway.components.features.offline_store import PolarsOfflineStore

    source = view.batch_source
    timestamp = timestamp_of(view)
    assert source is not None  # noqa: S101 - _timestamp refuses it
    # A file is read here whatever engine joins.
    own = isinstance(source, FileSource)
    reader = PolarsOfflineStore if own else store._get_provider().offline_store
    job = reader.pull_latest_from_table_or_query(
        config=store.config,
        data_source=source,
        join_key_columns=list(view.join_keys),
        feature_name_columns=sorted(feature.name for feature in view.features),
        timestamp_field=timestamp,
        created_timestamp_column=source.created_timestamp_column or None,
        start_date=start,
        end_date=end,
    )
    # Each row then comes behind all that a tree holds: sqlite's pages are filled once and written once.
    rows = encoding.in_key_order(view, pl.DataFrame(job.to_arrow()))
    return rows, _digest(view, rows)


def _digest(view: "FeatureView", rows: "pl.DataFrame") -> str:
    """Hash of the rows and their columns; equal rows in equal order give equal digests."""
    names = ",".join(f"{name}:{kind}" for name, kind in rows.schema.items())
    hashes = rows.hash_rows(seed=1).to_numpy().tobytes()
    # A view that was removed and declared again starts from nothing: it has a new creation time.
    identity = f"{view.name}|{view.created_timestamp}|{names}|"
    return hashlib.sha256(identity.encode() + hashes).hexdigest()


def as_arrow(rows: "pl.DataFrame") -> "pa.Table":
    """The rows in types that any Arrow reader knows."""
    import polars as pl

    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())


def open_writer(store: "FeatureStore", view: "FeatureView") -> "SqliteWriter | RedisWriter":
    """What writes a view's rows into the project's online store.

    Raises:
        SlipwayError: it is neither sqlite nor Redis.
    """
    kind = str(store.config.online_store.type)
    if kind == "sqlite":
        return SqliteWriter(store, view)
    if kind == "redis":
        return RedisWriter(store, view)
    raise SlipwayError(f"The online store '{kind}' is not supported: use sqlite or redis.")


def _ticks(rows: "pa.Table", timestamp: str) -> list[int]:
    """The rows' moments as microseconds since 1970; one without zone is taken as UTC."""
    import pyarrow as pa

    ticks: list[int] = rows[timestamp].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
    return ticks


class SqliteWriter:
    """Feast's sqlite tables: one row an entity and feature."""

    def __init__(self, store: "FeatureStore", view: "FeatureView") -> None:
        online: Any = store._get_provider().online_store
        self.connection = online._get_conn(store.config)
        self.view = view
        self.table = note_name(store.project, view.name)  # Feast's name of the table too
        self.connection.execute("PRAGMA cache_size = -65536")  # 64 MiB: the indexes fit
        self._widen_pages()
        self.connection.execute(
            f"CREATE TABLE IF NOT EXISTS {NOTES_TABLE} (name TEXT PRIMARY KEY, note TEXT)"
        )

    def _widen_pages(self) -> None:
        """Gives a database that holds next to nothing wider pages: a sixth less work to fill it."""
        pages, width = (
            self.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "page_size")
        )
        if width < PAGE_BYTES and pages < FEW_PAGES:
            # Where someone reads it at this moment it stays as it is.
            with suppress(sqlite3.OperationalError):
                self.connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                self.connection.execute("VACUUM")

    def note(self) -> Note | None:
        """As in Writer."""
        query = f"SELECT note FROM {NOTES_TABLE} WHERE name = ?"  # noqa: S608
        found = self.connection.execute(query, (self.table,)).fetchone()
        return Note(**json.loads(found[0])) if found else None

    def write(self, rows: "pa.Table", note: Note) -> None:
        """As in Writer."""
        with self.connection:
            self.put(encoding.entity_keys(self.view, rows), rows)
            self.connection.execute(
                f"INSERT OR REPLACE INTO {NOTES_TABLE} VALUES (?, ?)",  # noqa: S608
                (self.table, json.dumps(asdict(note))),
            )

    def put(self, entities: list[bytes], rows: "pa.Table") -> None:
        """Writes entities' rows within the connection's transaction."""
        # Of each `bytes` Python's driver first looks for an adapter, which takes longer than to bind it;
        # a `bytearray` it takes as it is.
        keys = list(map(bytearray, entities))
        stamps = _sqlite_times(_ticks(rows, timestamp_of(self.view)))
        names = sorted(feature.name for feature in self.view.features)
        columns: list[Sequence[object]] = [keys, stamps]
        for name in names:
            values = list(map(bytearray, encoding.values(rows[name])))
            columns += [values, encoding.texts(rows[name])]
        together = max(1, STATEMENT_ROWS // len(names))
        whole = len(keys) - len(keys) % together
        for start, stop, step in ((0, whole, together), (whole, len(keys), 1)):
            self.connection.executemany(
                self._upsert(names, step),
                zip(
                    *(
                        column[place:stop:step]
                        for place in range(start, start + step)
                        for column in columns
                    ),
                    strict=True,
                ),
            )

    def _upsert(self, names: list[str], entities: int) -> str:
        """A statement for some entities' rows; it binds each one's key, time, and values with texts.

        Many rows in one cost less than one a statement, and so do names that need not be bound.
        """
        width = 2 + 2 * len(names)
        cells = ", ".join(
            f"(?{first}, {_quoted(name)}, ?{first + 2 + 2 * n}, ?{first + 3 + 2 * n}, ?{first + 1}, NULL)"
            for first in range(1, entities * width, width)
            for n, name in enumerate(names)
        )
        return (
            f'INSERT INTO "{self.table}"'  # noqa: S608 - made of checked names
            " (entity_key, feature_name, value, value_text, event_ts, created_ts)"
            f" VALUES {cells} ON CONFLICT(entity_key, feature_name) DO UPDATE SET"
            " value = excluded.value, value_text = excluded.value_text,"
            " event_ts = excluded.event_ts, created_ts = excluded.created_ts"
        )

    def holds_any(self) -> bool:
        """As in Writer."""
        query = f'SELECT 1 FROM "{self.table}" LIMIT 1'  # noqa: S608
        return self.connection.execute(query).fetchone() is not None

    def forget(self, before: datetime, *, only_count: bool = False) -> int:
        """As in Writer."""
        past = f'FROM "{self.table}" WHERE event_ts < ?'
        limit = _sqlite_times([(before - EPOCH) // MICROSECOND])
        with self.connection:
            counted = f"SELECT COUNT(DISTINCT entity_key) {past}"
            count = int(self.connection.execute(counted, limit).fetchone()[0])
            if not only_count:
                self.connection.execute(f"DELETE {past}", limit)
        return count


def _quoted(text: str) -> str:
    """A text as it stands in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _sqlite_times(ticks: list[int]) -> list[int]:
    """As Feast's adapter: whole seconds of the naive UTC time read as the machine's own clock."""
    if time.tzname == ("UTC", "UTC"):
        return [int(tick / 1_000_000) for tick in ticks]
    naive = datetime(1970, 1, 1)
    return [int((naive + tick * MICROSECOND).timestamp()) for tick in ticks]


# In one step of the store's: a row that is pushed between the look and the deletion stays. A hash without
# fields is no key any more.
_FORGET = """
if redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], unpack(ARGV, 2))
"""


class RedisWriter:
    """Feast's Redis layout: one hash an entity, with the fields of all its views."""

    def __init__(self, store: "FeatureStore", view: "FeatureView") -> None:
        from feast.infra.online_stores.helpers import _mmh3
        from redis import Redis

        online: Any = store._get_provider().online_store
        self.client = online._get_client(store.config.online_store)
        self.one_server = Redis
        self.view = view
        self.project = store.project.encode()
        self.stamp = f"_ts:{view.name}".encode()
        self.features = [feature.name for feature in view.features]
        self.fields = [_mmh3(f"{view.name}:{name}") for name in self.features]
        self.note_key = redis_note_key(store.project, view.name)

    def note(self) -> Note | None:
        """As in Writer."""
        found = self.client.get(self.note_key)
        return Note(**json.loads(found)) if found else None

    def write(self, rows: "pa.Table", note: Note) -> None:
        """As in Writer."""
        entities = encoding.entity_keys(self.view, rows)
        if isinstance(self.client, self.one_server):
            keys, fields, columns = self._cells(entities, rows)
            self._send(keys, fields, columns)
        else:
            # A cluster's client knows which server each key belongs to.
            with self.client.pipeline(transaction=False) as pipe:
                self.put(pipe, entities, rows)
                pipe.execute()
        # Last: a note must never say more than was written.
        self.client.set(self.note_key, json.dumps(asdict(note)))

    def put(self, pipe: "Pipeline", entities: list[bytes], rows: "pa.Table") -> None:
        """Gives a pipeline the commands that write entities' rows."""
        keys, fields, columns = self._cells(entities, rows)
        for key, *values in zip(keys, *columns, strict=True):
            pipe.execute_command(
                "HSET", key, *chain.from_iterable(zip(fields, values, strict=True))
            )

    def _cells(
        self, entities: list[bytes], rows: "pa.Table"
    ) -> tuple[list[bytes], list[bytes], list[list[bytes]]]:
        """Redis's keys, the fields of each, and by field the values."""
        stamps = _protobuf_times(_ticks(rows, timestamp_of(self.view)))
        columns = [encoding.values(rows[name]) for name in self.features]
        keys = [entity + self.project for entity in entities]
        return keys, [self.stamp, *self.fields], [stamps, *columns]

    def _send(self, keys: list[bytes], fields: list[bytes], columns: list[list[bytes]]) -> None:
        """An HSET for each key, in Redis's wire format, made by columns.

        redis-py's pipeline makes and reads each command in Python, which costs more than all else.
        """
        head = b"*%d\r\n$4\r\nHSET\r\n" % (2 + 2 * len(fields))
        parts = [_bulk(keys, head)]
        for field, values in zip(fields, columns, strict=True):
            parts.append(_bulk(values, b"$%d\r\n%b\r\n" % (len(field), field)))
        commands = list(map(b"".join, zip(*parts, strict=True)))
        connection = self.client.connection_pool.get_connection()
        try:
            for start in range(0, len(commands), REDIS_COMMANDS):
                sent = commands[start : start + REDIS_COMMANDS]
                connection.send_packed_command([b"".join(sent)])
                for _ in sent:
                    connection.read_response(disable_decoding=True)
        except BaseException:
            # Answers that nobody read must not meet the connection's next user.
            connection.disconnect()
            raise
        finally:
            self.client.connection_pool.release(connection)

    def holds_any(self) -> bool:
        """As in Writer."""
        return next(self._keys(), None) is not None

    def _keys(self) -> Iterator[bytes]:
        """All entities that have the view's keys."""
        from feast.infra.key_encoding_utils import serialize_entity_key_prefix

        prefix = serialize_entity_key_prefix(list(self.view.join_keys), 3)
        yield from self.client.scan_iter(
            _literal(prefix) + b"*" + _literal(self.project), count=BATCH
        )

    def forget(self, before: datetime, *, only_count: bool = False) -> int:
        """As in Writer."""
        count, batch = 0, list[bytes]()
        for key in self._keys():
            batch.append(key)
            if len(batch) >= BATCH:
                count += self._drop(batch, before, only_count=only_count)
                batch.clear()
        return count + (self._drop(batch, before, only_count=only_count) if batch else 0)

    def _drop(self, keys: list[bytes], before: datetime, *, only_count: bool) -> int:
        from google.protobuf.timestamp_pb2 import Timestamp

        with self.client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(key, self.stamp)
            found = pipe.execute()
        past: list[tuple[bytes, bytes]] = []
        limit = before.timestamp() * 1e9
        for key, text in zip(keys, found, strict=True):
            stamp = Timestamp()
            if text and stamp.ParseFromString(text) and stamp.ToNanoseconds() < limit:
                past.append((key, text))
        if past and not only_count:
            with self.client.pipeline(transaction=False) as pipe:
                for key, text in past:
                    pipe.eval(_FORGET, 1, key, text, self.stamp, *self.fields)
                return sum(bool(gone) for gone in pipe.execute())
        return len(past)


def _protobuf_times(ticks: list[int]) -> list[bytes]:
    """Microseconds since 1970 as serialised `Timestamp` messages."""
    from google.protobuf.timestamp_pb2 import Timestamp

    return [
        Timestamp(seconds=tick // 1_000_000, nanos=tick % 1_000_000 * 1000).SerializeToString()
        for tick in ticks
    ]


def _bulk(values: list[bytes], before: bytes) -> list[bytes]:
    """`before` and each value as a bulk string of Redis's wire format."""
    return [b"%b$%d\r\n%b\r\n" % (before, len(value), value) for value in values]


def _literal(text: bytes) -> bytes:
    """Bytes as a pattern that matches only themselves."""
    special = b"*?[]\\^-"
    return b"".join(b"\\" + bytes([c]) if c in special else bytes([c]) for c in text)
