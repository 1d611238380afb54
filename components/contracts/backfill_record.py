"""The record of a backfill: which feature values were recomputed. Written by the features stage.

One JSON file: for each view how many rows the offline store had in the range, has now, and has in all,
and how many entities were written online.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from slipway.components.contracts.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledView:
    """One view: `replaced` rows of the range gave way to `written`; the store holds `rows` in all.

    `until` is the end of the range (ISO 8601, UTC), later than what was asked for by the longest window;
    empty: open, or a view without time, which is replaced whole. `online`: entities written there.
    """

    replaced: int
    written: int
    rows: int
    until: str
    online: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillRecord(Record):
    """What a backfill did; `window` is the range that was asked for, in ISO 8601, UTC; None: all."""

    ABSENT: ClassVar[str] = "holds no backfill record"

    project: str
    window: tuple[str, str] | None
    views: dict[str, FilledView]
    data_hash: str
    notes: dict[str, object] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        written = sum(view.written for view in self.views.values())
        online = sum(view.online for view in self.views.values())
        return f"{len(self.views)} views, {written:,} rows; online {online:,} entities"

    def metadata(self) -> dict[str, object]:
        """What the KFP artifact shows."""
        return {
            "window_start": self.window[0] if self.window else "",
            "window_end": self.window[1] if self.window else "",
            "rows": {name: view.written for name, view in self.views.items()},
            "online": {name: view.online for name, view in self.views.items()},
            "data_hash": self.data_hash,
        }
