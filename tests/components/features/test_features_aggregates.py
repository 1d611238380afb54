"""Windowed aggregates: exact at every moment, against a plain reading of their definition."""

import math
import random
from bisect import bisect_right
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.components.config.features.features import Aggregate
from slipway.components.features.views.aggregates import (
    AFTER,
    HAPPENED,
    KEY,
    KNOWN,
    aggregate_rows,
    event_columns,
    value_columns,
)

ZERO = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE, MICROSECOND = timedelta(minutes=1), timedelta(microseconds=1)
MICROS = 60_000_000
FUNCTIONS = ["count", "sum", "mean", "min", "max", "std", "last", "rate"]
OTHERS = ["since", "distinct", "most_common"]
Event = tuple[str, int, int, float | None, bool]


def rows_of(events: list[Event], specs: dict[str, Aggregate]) -> pl.DataFrame:
    """The aggregates of events as (key, minute known, minute happened, value, only after)."""
    columns = {
        KEY: (0, pl.String),
        KNOWN: (1, pl.Datetime("us", "UTC")),
        HAPPENED: (2, pl.Datetime("us", "UTC")),
        "value": (3, pl.Float64),
        AFTER: (4, pl.Boolean),
    }
    rows = pl.DataFrame(
        {
            name: [ZERO + e[i] * MINUTE if name in (KNOWN, HAPPENED) else e[i] for e in events]
            for name, (i, _) in columns.items()
        },
        schema={name: kind for name, (_, kind) in columns.items()},
    )
    indicators = {
        internal: pl.col("value") if above is None else (pl.col("value") > above).cast(pl.Float64)
        for (_, above), internal in event_columns(specs).items()
    }
    values = [pl.col("value").alias(internal) for internal in value_columns(specs).values()]
    return aggregate_rows(rows.with_columns(*values, **indicators), specs)


def value_at(rows: pl.DataFrame, key: str, moment: datetime, feature: str) -> float | None:
    """What a point-in-time join finds: the newest row at or before the moment."""
    mine = rows.filter(pl.col(KEY) == key)
    place = bisect_right(mine[KNOWN].to_list(), moment)
    return mine[feature][place - 1] if place else None


def by_definition(events: list[Event], key: str, micro: int, spec: Aggregate) -> float | None:
    """The aggregate over the events known in (moment - window, moment], or in that without its end.

    Of a `since` the moment that it counts from, in microseconds.
    """
    window = spec.window // MICROSECOND
    micro -= spec.delay // MICROSECOND
    inside = sorted(
        (
            e
            for e in events
            if e[0] == key and micro - window < e[1] * MICROS <= micro - (1 if e[4] else 0)
        ),
        key=lambda event: (event[1], event[4], event[2]),
    )
    values = [e[3] for e in inside if e[3] is not None]
    if spec.above is not None:
        values = [float(value > spec.above) for value in values]
    match spec.function:
        case "since":
            counted = [
                e for e in inside if e[3] is not None and (not spec.above or e[3] > spec.above)
            ]
            last = max((e[1] * MICROS for e in counted), default=None)
            return None if last is None else last + spec.delay // MICROSECOND
        case "distinct":
            return float(len(set(values)))
        case "most_common":
            newest = {v: max(e[1] for e in inside if e[3] == v) for v in values}
            ranked = sorted(set(values), key=lambda v: (-values.count(v), -newest[v], v))
            return ranked[0] if ranked else None
        case "count":
            return float(len(inside))
        case "rate":
            return len(inside) / (spec.window / (60 * MINUTE))
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
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(
    # Each event happened at a time of its own: which of two simultaneous ones is last is open.
    st.lists(event, max_size=12, unique_by=lambda e: e[2]),
    st.lists(st.integers(0, 1000), max_size=4),
    st.integers(1, 120),
    st.integers(1, 120),
    st.integers(0, 90),
)
def test_aggregates_equal_their_definition_at_any_moment(
    events: list[Event],
    half_minutes: list[int],
    first: int,
    second: int,
    lag: int,
) -> None:
    without_above = ("count", "rate", "distinct", "most_common")
    specs = {
        f"{function}_{above}_{window}_{delay}": Aggregate(
            function=function,
            column="value",
            above=above,
            window=window * MINUTE,
            lag=delay * MINUTE,
        )
        for function in FUNCTIONS + OTHERS
        for above in ((None,) if function in without_above else (None, 0.5))
        for window in (first, second)
        for delay in (0, lag)
    }
    rows = rows_of(events, specs)
    assert rows.select(pl.struct(KEY, KNOWN).is_duplicated().any()).item() is False
    # Around the moments of change, and at any others.
    moments = {m * MICROS // 2 for m in half_minutes}
    for known in {e[1] for e in events}:
        for change in (known, known + first, known + second, known + lag, known + lag + first):
            moments |= {change * MICROS + d for d in (-1, 0, 1, MICROS // 2)}
    for key in ("a", "b"):
        if not (mine := [e[1] * MICROS + e[4] for e in events if e[0] == key]):
            assert rows.filter(pl.col(KEY) == key).is_empty()
            continue
        values = rows.filter(pl.col(KEY) == key).to_dict(as_series=False)
        for moment in moments:
            place = bisect_right(values[KNOWN], ZERO + moment * MICROSECOND)
            assert (place > 0) == (moment >= min(mine))
            for name, spec in specs.items() if place else ():
                found, expected = values[name][place - 1], by_definition(events, key, moment, spec)
                if isinstance(found, datetime):
                    found = (found - ZERO) / MICROSECOND
                if found is None or expected is None:
                    assert found is expected, (name, moment)
                else:
                    assert found == pytest.approx(expected, rel=1e-9, abs=1e-7), (name, moment)


def test_a_large_value_leaves_nothing_behind_when_it_leaves_the_window() -> None:
    events = [("a", m, m, v, False) for m, v in ((0, 1e17), (10, 0.1), (20, 0.2), (21, 0.4))]
    specs = {
        function: Aggregate(function=function, column="value", window=15 * MINUTE)
        for function in ("sum", "mean", "std")
    }
    rows = rows_of(events, specs)
    at = ZERO + 22 * MINUTE
    assert value_at(rows, "a", at, "sum") == pytest.approx(0.7, rel=1e-12)
    assert value_at(rows, "a", at, "mean") == pytest.approx(0.7 / 3, rel=1e-12)
    assert value_at(rows, "a", at, "std") == pytest.approx(0.152752523165, rel=1e-9)


def test_of_events_known_together_the_one_that_happened_last_is_last() -> None:
    specs = {"last": Aggregate(function="last", column="value", window=60 * MINUTE)}
    rows = rows_of([("a", 5, 4, 2.0, False), ("a", 5, 3, 1.0, False)], specs)
    assert rows["last"].to_list() == [2.0, None]
    assert rows[KNOWN].to_list() == [ZERO + 5 * MINUTE, ZERO + 65 * MINUTE]


def test_an_event_that_counts_only_after_its_moment_is_as_old_as_any_other() -> None:
    """It comes in a microsecond late and leaves when its window is over, not a microsecond later."""
    specs = {
        function: Aggregate(function=function, column="value", window=15 * MINUTE)
        for function in FUNCTIONS
    }
    rows = rows_of([("a", 0, 0, 2.0, True), ("a", 0, 1, 4.0, True), ("a", 5, 5, 8.0, False)], specs)
    assert rows[KNOWN].to_list() == [
        ZERO + MICROSECOND, ZERO + 5 * MINUTE, ZERO + 15 * MINUTE, ZERO + 20 * MINUTE,
    ]  # fmt: skip
    assert rows["count"].to_list() == [2.0, 3.0, 1.0, 0.0]
    assert rows["sum"].to_list() == [6.0, 14.0, 8.0, 0.0]
    assert rows["last"].to_list() == [4.0, 8.0, 8.0, None]
    assert rows["max"].to_list() == [4.0, 8.0, 8.0, None]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_of_numbers_near_the_largest_is_neither_infinite_nor_0(sign: int) -> None:
    specs = {
        function: Aggregate(function=function, column="value", window=60 * MINUTE)
        for function in FUNCTIONS
    }
    largest = 3.4028234663852886e38
    near = sign * largest
    rows = rows_of([("a", m, m, near, False) for m in (0, 1)] + [("a", 70, 70, 5.0, False)], specs)
    # A null would become 0 in the join and online, as where there was no event.
    assert rows["sum"].to_list() == [near, near, near, 0.0, 5.0, 0.0]
    assert rows["max"].to_list() == [near, near, near, None, 5.0, None]
    assert rows["count"].to_list() == [1.0, 2.0, 1.0, 0.0, 1.0, 0.0]
    for function in FUNCTIONS:
        assert (rows[function].drop_nulls().abs() <= largest).all(), function


@pytest.mark.parametrize("large", [1e12, -(2.0**63), 1e20, 1e37])
def test_a_large_number_leaves_nothing_behind(large: float) -> None:
    """A code for "missing" such as -2**63 among prices: once it is out of the window, it is."""
    r = random.Random(4)
    values = [
        large * r.random() if r.random() < 0.1 else r.randrange(1, 9999) / 100 for _ in range(500)
    ]
    times = [ZERO + n * 60 * MINUTE for n in range(500)]
    specs = {
        f: Aggregate(function=f, column="v", window=timedelta(hours=10)) for f in ("sum", "mean")
    }
    (column,) = event_columns(specs).values()
    events = pl.DataFrame(
        {KEY: "a", KNOWN: times, HAPPENED: times, AFTER: False, column: values},
        schema_overrides=dict.fromkeys((KNOWN, HAPPENED), pl.Datetime("us", "UTC")),
    )
    found = {row[KNOWN]: row for row in aggregate_rows(events, specs).iter_rows(named=True)}
    for n in range(500):
        inside = values[max(0, n - 9) : n + 1]
        total, mean = math.fsum(inside), math.fsum(inside) / len(inside)
        assert found[times[n]]["sum"] == pytest.approx(total, rel=1e-6)
        assert found[times[n]]["mean"] == pytest.approx(mean, rel=1e-6)
    after = found[times[-1] + timedelta(hours=10)]
    assert (after["sum"], after["mean"]) == (0.0, None)
