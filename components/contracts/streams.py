"""Pushed events: what is kept of them in the online store. Written by features, read by serving.

Of a view whose table is a stream the online store holds, beside Feast's own row of each entity:

- its *events*, for the next push: those that a value of now or later can still be made of;
- its *rows*, one a moment when a value changes: the newest that holds now, and all that are to come when
  events leave their windows. They are the rows of the view's offline table;
- of the view its *clock*: how far the moment that it stands for is behind the clock on the wall.

A view stands for the moment of its materialisation until an event was pushed; from then on for the newest
event's moment plus the time that has passed since: `moment`.

Redis, by Feast's name of the project and the bytes of Feast's entity key::

    slipway:events:<project>:<view>:<entity>   string: the events, JSON, deflated
    slipway:rows:<project>:<view>:<entity>     sorted set: "<moment>:<row as JSON>", by the moment
    slipway:clock:<project>:<view>             sorted set: `behind` and `pushed`

sqlite: the tables of `TABLES`. Moments are whole microseconds since 1970, and so is a time in a row.
"""

import json
from dataclasses import dataclass
from typing import Any, Self

from slipway.components.contracts.feature_store import StoreLocation
from slipway.components.support.errors import SlipwayError

FILE = "streams.json"
VERSION = 1
TAG = "slipway.stream"
"""The tag of a view in Feast's registry that says that its events are pushed: a `StreamTag`."""
EVENTS, ROWS, CLOCKS = '"slipway.events"', '"slipway.rows"', '"slipway.clocks"'
TABLES = (
    f"CREATE TABLE IF NOT EXISTS {EVENTS} (view TEXT, entity BLOB, events BLOB, until INTEGER,"
    " PRIMARY KEY (view, entity)) WITHOUT ROWID",
    f"CREATE TABLE IF NOT EXISTS {ROWS} (view TEXT, entity BLOB, moment INTEGER, cells TEXT,"
    " PRIMARY KEY (view, entity, moment)) WITHOUT ROWID",
    f"CREATE TABLE IF NOT EXISTS {CLOCKS} (view TEXT PRIMARY KEY, behind INTEGER, pushed INTEGER)",
)
BEHIND, PUSHED = b"behind", b"pushed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTag:
    """What a reader must know of a streamed view. Lengths in microseconds.

    Attributes:
        longest: the view's longest window; 0: it has fields, which hold until the next change.
        ttl: an older row is not used; 0: no limit.
    """

    longest: int
    ttl: int

    def text(self) -> str:
        """The tag in Feast's registry."""
        return json.dumps({"longest": self.longest, "ttl": self.ttl})

    @classmethod
    def read(cls, tags: dict[str, str]) -> Self | None:
        """Of a view's tags; None: no events are pushed to it."""
        return cls(**json.loads(tags[TAG])) if TAG in tags else None


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of a streamed view, in microseconds.

    Attributes:
        end: the moment of the last materialisation, since 1970; None: there was none.
        behind: how far the moment that the view stands for is behind the clock on the wall; None: no
            event was pushed.
        pushed: when the last event was pushed, since 1970; None: none was.
    """

    end: int | None
    behind: int | None = None
    pushed: int | None = None

    def moment(self, now: int) -> int | None:
        """The moment that the view stands for, since 1970; None: it was never written."""
        if self.behind is None:
            return self.end
        runs = now - self.behind
        return runs if self.end is None else max(self.end, runs)


def events_key(project: str, view: str, entity: bytes) -> bytes:
    """Redis's key of an entity's events, by Feast's name of the project."""
    return f"slipway:events:{project}:{view}:".encode() + entity


def rows_key(project: str, view: str, entity: bytes) -> bytes:
    """Redis's key of an entity's rows."""
    return f"slipway:rows:{project}:{view}:".encode() + entity


def clock_key(project: str, view: str) -> bytes:
    """Redis's key of a view's clock."""
    return f"slipway:clock:{project}:{view}".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecord:
    """What a push must know of a project, as of its last materialisation: streams.json.

    Attributes:
        features: the project's `features` section.
        keys: the entities' key columns with their Arrow types.
        tables: stream to its columns with their Arrow types.
    """

    features: dict[str, Any]
    keys: dict[str, str]
    tables: dict[str, dict[str, str]]


def write_streams(place: StoreLocation, record: StreamRecord) -> None:
    """Writes streams.json into the project's folder of the feature store."""
    from slipway.components.support.files import write_text

    content = {
        "version": VERSION,
        "features": record.features,
        "keys": record.keys,
        "tables": record.tables,
    }
    text = json.dumps(content, indent=1)
    if place.folder is not None:
        write_text(place.folder / FILE, text)
        return
    import fsspec

    with fsspec.open(f"{place.root}/{FILE}", "w") as file:
        file.write(text)


def read_streams(place: StoreLocation) -> StreamRecord:
    """Reads streams.json.

    Raises:
        SlipwayError: there is none, or not one that this code reads.
    """
    import fsspec

    where = f"{place.folder if place.folder is not None else place.root}/{FILE}"
    try:
        with fsspec.open(where) as file:
            content = json.loads(file.read())
    except FileNotFoundError as error:
        raise SlipwayError(
            f"The feature store {place.root} takes no pushes yet: declare `features.streams`, and run the"
            " features stage once (`slipway run`)."
        ) from error
    except ValueError as error:
        raise SlipwayError(f"{where} is not JSON: {error}. Run the features stage.") from error
    if not isinstance(content, dict) or content.pop("version", None) != VERSION:
        raise SlipwayError(f"{where} is of another version of Slipway. Run the features stage.")
    return StreamRecord(**content)
