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
from typing import Self

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
