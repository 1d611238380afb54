"""How far the features of a stretch of time look beyond it: what scoring and backfill must read too."""

from datetime import timedelta

from slipway.components.config.features.features import FeaturesConfig, FeatureView

LATE = timedelta(days=2)
"""What happened is taken to be known after so long: a flight that left has arrived."""


def longest_window(view: FeatureView) -> timedelta:
    """The longest of a view's windows, with its lag: so long an event still counts. None: zero."""
    return max((aggregate.reach for aggregate in view.aggregates.values()), default=timedelta(0))


def look_back(view: FeatureView, lead: timedelta = timedelta(0)) -> timedelta:
    """How long before a moment a view's source rows matter to the value that holds at it.

    A value counts for its TTL, and was made of events up to a window older; `available` moves both
    towards the moment. Of a view without a TTL only the windows are counted: its newest value may be of
    any age.
    """
    if view.time is None:
        return timedelta(0)
    age = (view.ttl or timedelta(0)) + longest_window(view) + lead - view.available
    return max(age, timedelta(0))


def scoring_history(config: FeaturesConfig, whole: timedelta) -> timedelta:
    """How far before the rows to predict the tables are read, in whole days.

    Args:
        config: the project's `features` section.
        whole: what stands for a view without a TTL: the length of the project's data window.
    """
    lead = config.examples.lead
    needed = max(look_back(view, lead) for view in config.views)
    if any(view.time and view.ttl is None for view in config.views):
        needed = max(needed, whole)
    return _days(needed + LATE)


def backfill_margins(config: FeaturesConfig) -> tuple[timedelta, timedelta]:
    """How far before and after a range of feature values the tables are read, in whole days.

    Before: the events that still count at its start. After: a changed event changes values until it has
    left the longest window, so those are recomputed too; and what is known in advance is read from
    rows that happen later.
    """
    windows = max(longest_window(view) for view in config.views)
    available = max(view.available for view in config.views)
    return _days(windows + LATE), _days(windows + available)


def _days(length: timedelta) -> timedelta:
    return timedelta(days=-(-length // timedelta(days=1)))
