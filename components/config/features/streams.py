"""Tables whose events are pushed to the online store between two materialisations."""

from collections.abc import Collection
from typing import Annotated

from pydantic import Field

from slipway.components.config.base import Name, Section
from slipway.components.config.features.view import FeatureView

MOST_EVENTS = 10_000


class Stream(Section):
    """How the events of one table are pushed."""

    key: Name | Annotated[list[Name], Field(min_length=1)] = Field(
        description="The column, or columns, that name an event: of events with one name, the one known "
        "first counts, so that a push may be repeated.",
    )
    most_events: int = Field(
        default=MOST_EVENTS,
        ge=1,
        le=1_000_000,
        description="So many events of an entity are kept online for each view; of more, the newest.",
    )

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns that name an event."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)


def require_stream(table: str, views: Collection[FeatureView]) -> None:
    """Refuses a stream that no view takes, or that a view takes which has no order of its rows.

    Args:
        table: the stream's table.
        views: the views of that table that are kept online.

    Raises:
        ValueError: naming the view.
    """
    if not views:
        raise ValueError(
            f"`streams` names the table {table}, and no view of it is kept online: add one, or leave the"
            " stream out"
        )
    for view in views:
        if view.time is None:
            raise ValueError(
                f"events of {table} are pushed, and its view {view.name} has no `time`, so that nothing"
                " says which of two rows is newer: give the view a `time`, as the one of the last change"
            )
