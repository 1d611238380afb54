"""Windowed aggregates: exact at every moment, against a plain reading of their definition."""

import math
from bisect import bisect_right
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.components.config.features import Aggregate
from slipway.components.features.aggregates import HAPPENED, KNOWN, aggregate_rows

ZERO = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FUNCTIONS = ["count", "sum", "mean", "min", "max", "std", "last", "rate"]


def make_events(events: list[tuple[str, int, int, float | None]]) -> pl.DataFrame:
    """Events as (key, minute known, minute happened, value)."""
    return pl.DataFrame(
        {
            "key": [event[0] for event in events],
            KNOWN: [ZERO + event[1] * MINUTE for event in events],
            HAPPENED: [ZERO + event[2] * MINUTE for event in events],
            "value": [event[3] for event in events],
        },
        schema={
            "key": pl.String,
            KNOWN: pl.Datetime("us", "UTC"),
            HAPPENED: pl.Datetime("us", "UTC"),
            "value": pl.Float64,
        },
    )


def value_at(rows: pl.DataFrame, key: str, moment: datetime, feature: str) -> float | None:
    """What a point-in-time join finds: the newest row at or before the moment."""
    mine = rows.filter(pl.col("key") == key)
    place = bisect_right(mine[KNOWN].to_list(), moment)
    return mine[feature][place - 1] if place else None


def by_definition(
    events: list[tuple[str, int, int, float | None]], key: str, minute: float, spec: Aggregate
) -> float | None:
    """The aggregate over the events known in (moment - window, moment]."""
    window = spec.window / MINUTE
    inside = sorted(
        (e for e in events if e[0] == key and minute - window < e[1] <= minute),
        key=lambda event: (event[1], event[2]),
    )
    values = [e[3] for e in inside if e[3] is not None]
    if spec.above is not None:
        values = [float(value > spec.above) for value in values]
    match spec.function:
        case "count":
            return float(len(inside))
        case "rate":
            return len(inside) / (window / 60)
        case "sum":
            return math.fsum(values)
        case "std":
            if len(values) < 2:
                return None
            mean = math.fsum(values) / len(values)
            return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    if not values:
        return None
    return {
        "mean": math.fsum(values) / len(values),
        "min": min(values),
        "max": max(values),
        "last": values[-1],
    }[spec.function]


event = st.tuples(
    st.sampled_from(["a", "b"]),
    st.integers(0, 300),
    st.integers(0, 10_000),
    st.none() | st.integers(-1000, 1000).map(lambda value: value / 8),
)


@settings(max_examples=40, deadline=None)
@given(
    # Each event happened at a time of its own: which of two simultaneous ones is last is open.
    st.lists(event, max_size=12, unique_by=lambda e: e[2]),
    st.lists(st.integers(0, 1000), max_size=4),
    st.integers(1, 120),
    st.integers(1, 120),
)
def test_aggregates_equal_their_definition_at_any_moment(
    events: list[tuple[str, int, int, float | None]],
    half_minutes: list[int],
    first: int,
    second: int,
) -> None:
    specs = {
        f"{function}_{above}_{window}": Aggregate(
            function=function, column="value", above=above, window=window * MINUTE
        )
        for function in FUNCTIONS
        for above in (None, 0.5)
        for window in (first, second)
    }
    rows = aggregate_rows(make_events(events), "key", specs)
    assert rows.select(pl.struct("key", KNOWN).is_duplicated().any()).item() is False
    # Around the moments of change, and at any others.
    moments = {m / 2 for m in half_minutes}
    for known in {e[1] for e in events}:
        moments |= {known, known + first, known + second - 0.5}
    for key in ("a", "b"):
        if not (mine := [e[1] for e in events if e[0] == key]):
            assert rows.filter(pl.col("key") == key).is_empty()
            continue
        values = rows.filter(pl.col("key") == key).to_dict(as_series=False)
        for moment in moments:
            place = bisect_right(values[KNOWN], ZERO + moment * MINUTE)
            assert (place > 0) == (moment >= min(mine))
            for name, spec in specs.items() if place else ():
                found, expected = values[name][place - 1], by_definition(events, key, moment, spec)
                if found is None or expected is None:
                    assert found is expected, (name, moment)
                else:
                    assert found == pytest.approx(expected, rel=1e-9, abs=1e-7), (name, moment)


def test_a_large_value_leaves_nothing_behind_when_it_leaves_the_window() -> None:
    events = [("a", 0, 0, 1e17), ("a", 10, 10, 0.1), ("a", 20, 20, 0.2), ("a", 21, 21, 0.4)]
    specs = {
        function: Aggregate(function=function, column="value", window=15 * MINUTE)
        for function in ("sum", "mean", "std")
    }
    rows = aggregate_rows(make_events(events), "key", specs)
    at = ZERO + 22 * MINUTE
    assert value_at(rows, "a", at, "sum") == pytest.approx(0.7, rel=1e-12)
    assert value_at(rows, "a", at, "mean") == pytest.approx(0.7 / 3, rel=1e-12)
    assert value_at(rows, "a", at, "std") == pytest.approx(0.152752523165, rel=1e-9)


def test_of_events_known_together_the_one_that_happened_last_is_last() -> None:
    specs = {"last": Aggregate(function="last", column="value", window=60 * MINUTE)}
    rows = aggregate_rows(make_events([("a", 5, 4, 2.0), ("a", 5, 3, 1.0)]), "key", specs)
    assert rows["last"].to_list() == [2.0, None]
    assert rows[KNOWN].to_list() == [ZERO + 5 * MINUTE, ZERO + 65 * MINUTE]
