"""Rows of the online store that are past the TTL of their view: counted, and removed.

Each materialisation removes what is past the TTL at its moment. Where a view is materialised no more, or
a stream alone fills it, that moment never comes. What has no TTL is right for ever, and stays.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from slipway.components.contracts.feature_store import locate
from slipway.components.features.store.online import open_writer
from slipway.components.features.store.registry import open_store
from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import redact
from slipway.components.support.stage import stage


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRows:
    """How many entities of each view, with a TTL and kept online, are past it."""

    views: dict[str, int]

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return f"{sum(self.views.values()):,} rows past their TTL"


@stage("prune-online")
def prune_online(project: str, grace: timedelta) -> PastRows:
    """Removes the rows that are so long past their view's TTL, as a task of a pipeline."""
    return find_past_rows(project, grace, now=datetime.now(UTC), remove=True)


def find_past_rows(project: str, grace: timedelta, *, now: datetime, remove: bool) -> PastRows:
    """Counts the rows of each view whose value is older than its TTL and `grace`; removes them if asked.

    A row that is written again meanwhile has a new time, and stays.

    Raises:
        SlipwayError: the store does not answer.
    """
    place = locate(project)
    if place.folder is not None and not (place.folder / "registry.db").is_file():
        return PastRows(views={})  # nothing was ever stored
    found, at = {}, ""
    try:
        store = open_store(place)
        for view in store.list_feature_views():
            if view.online and view.ttl:
                at = f" of the view '{view.name}'"
                writer = open_writer(store, view)
                found[view.name] = writer.forget(now - view.ttl - grace, only_count=not remove)
    except SlipwayError:
        raise
    except Exception as error:  # each store behind Feast, and its registry's, has errors of its own
        raise SlipwayError(
            f"The online store cannot be pruned{at}: {redact(str(error))}."
        ) from error
    return PastRows(views=found)
