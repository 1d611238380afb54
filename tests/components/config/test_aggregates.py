"""Aggregates of a view as the project file has them: several windows, lags, and what is refused."""

from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from support.trips_world import CONFIG

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.config.features.reach import backfill_margins, longest_window

DAY = timedelta(days=1)


def parsed(aggregates: dict[str, Any], **view: Any) -> FeaturesConfig:
    config = deepcopy(CONFIG)
    config["views"].append(
        {
            "name": "past", "entity": "driver", "table": "trips", "time": "starts", "known": "ends",
            "aggregates": aggregates, **view,
        }
    )  # fmt: skip
    return FeaturesConfig.model_validate(config)


def test_several_windows_are_a_feature_each() -> None:
    given = {
        "trips": {"function": "count", "windows": ["24h", "1w", "90m"], "lag": 2},
        "slow": {"function": "since", "column": "delay", "above": 10, "window": "7d", "lag": "3d"},
    }
    view = parsed(given).views[-1]
    assert view.feature_names == ["slow", "trips_1d", "trips_7d", "trips_90m"]
    assert view.aggregates["trips_7d"].window == 7 * DAY
    assert view.aggregates["trips_7d"].delay == 14 * DAY
    assert view.aggregates["trips_1d"].delay == 2 * DAY
    assert view.aggregates["slow"].reach == 10 * DAY
    assert longest_window(view) == 21 * DAY
    assert view.since_hours("slow") == 168
    assert view.since_hours("trips_1d") is None
    # What travels to a stage reads back the same: there each has its one window.
    config = parsed(given)
    assert FeaturesConfig.parse(config.to_struct(), "features") == FeaturesConfig.parse(
        FeaturesConfig.parse(config.to_struct(), "features").to_struct(), "features"
    )
    again = FeaturesConfig.parse(config.to_struct(), "features").views[-1]
    assert {n: (a.window, a.delay) for n, a in again.aggregates.items()} == {
        n: (a.window, a.delay) for n, a in view.aggregates.items()
    }
    assert backfill_margins(config)[1] >= 21 * DAY


@pytest.mark.parametrize(
    ("aggregate", "words"),
    [
        ({"function": "count"}, "say how far back events count: `window: 7d`, or `windows: "),
        ({"function": "count", "window": "1d", "windows": ["7d"]}, "both `window` and `windows`"),
        ({"function": "count", "windows": []}, "a window of 0s holds no event"),
        ({"function": "count", "windows": ["1d", "0s"]}, "a window of 0s holds no event"),
        ({"function": "count", "windows": ["1d", "24h"]}, "`windows` has one length twice"),
        ({"function": "count", "window": "1d", "lag": 0}, "is no number of windows"),
        ({"function": "count", "window": "1d", "lag": 1.5}, "1.5 has no unit"),
        ({"function": "count", "window": "1d", "lag": True}, "a duration is a whole number and"),
        (
            {"function": "count", "window": "1d", "lag": "24856d"},
            "longer than the longest duration",
        ),
        ({"function": "count", "windows": ["1d", "24856d"]}, "longer than the longest duration"),
        ({"function": "count", "windows": ["1d", 7]}, "7 has no unit"),
        ({"function": "count", "window": "1d", "lag": "soon"}, "'soon' is not a duration"),
        ({"function": "count", "window": "9000d", "lag": 2}, "longer than the longest duration"),
        ({"function": "distinct", "window": "1d"}, "function distinct needs a column"),
        ({"function": "most_common", "window": "1d"}, "function most_common needs a column"),
        ({"function": "since", "window": "1d", "above": 3}, "`above` compares a column"),
        (
            {"function": "distinct", "column": "miles", "window": "1d", "above": 3},
            "distinct looks at the values themselves: leave `above` out",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_an_aggregate_cannot_be_is_refused(aggregate: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parsed({"made": aggregate})
    assert words in str(caught.value)


def test_a_feature_that_two_aggregates_would_be_is_refused() -> None:
    with pytest.raises(
        ValidationError, match="trips with its window of 1d is the feature trips_1d"
    ):
        parsed(
            {
                "trips_1d": {"function": "count", "window": "1d"},
                "trips": {"function": "count", "windows": ["1d", "7d"]},
            }
        )


def test_a_ttl_that_ends_before_the_lag_is_refused() -> None:
    lagged = {"trips": {"function": "count", "window": "1d", "lag": "7d"}}
    assert parsed(lagged, ttl="8d")
    with pytest.raises(ValidationError, match="ttl of 7d, sooner than its window of 8d ends"):
        parsed(lagged, ttl="7d")
