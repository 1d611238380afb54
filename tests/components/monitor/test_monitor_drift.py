"""Sketches and statistics: against scipy, merged against whole, firing and not firing."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from slipway.components.config.monitoring import DriftConfig
from slipway.components.monitor.measures.drift import (
    chi_square,
    compare,
    jensen_shannon,
    ks,
    measure,
    psi,
    share_test,
    wasserstein,
)
from slipway.components.monitor.measures.sketch import (
    CATEGORIES,
    BinFinder,
    CategorySketch,
    NumericSketch,
    bin_edges,
    merge,
    numbers,
    sketch_from_dict,
)
from slipway.components.support.errors import SlipwayError

FLOATS = st.lists(
    st.one_of(st.floats(-1e6, 1e6), st.just(float("nan")), st.integers(-3, 3).map(float)),
    min_size=1,
    max_size=200,
)


def sketched(values: Any, edges: Any) -> NumericSketch:
    made = NumericSketch.empty(edges)
    made.add(np.asarray(values, np.float64))
    return made


def categories(values: list[str | None]) -> CategorySketch:
    made = CategorySketch()
    made.add(pa.chunked_array([pa.array(values, pa.string())]))
    return made


def test_an_empty_text_is_a_missing_value() -> None:
    """To ingest and to the predictor it is one, so a reference of old data must say the same."""
    assert categories(["a", "", None]) == categories(["a", None, None])
    bools = CategorySketch()
    bools.add(pa.chunked_array([pa.array([True, False, None])]))
    assert (bools.counts, bools.nulls) == ({"true": 1, "false": 1}, 1)


@given(FLOATS, FLOATS, FLOATS)
@settings(max_examples=60, deadline=None)
def test_merged_chunks_are_the_sketch_of_the_whole(
    reference: list[float], first: list[float], second: list[float]
) -> None:
    edges = bin_edges(np.asarray(reference))
    assert (np.diff(edges) > 0).all()
    whole = sketched(first + second, edges)
    both = sketched(first, edges).merge(sketched(second, edges))
    assert (both.counts == whole.counts).all()
    assert both.sums == pytest.approx(whole.sums, abs=1e-3)
    assert both.std == pytest.approx(whole.std, abs=1e-3)
    assert (both.nulls, both.low, both.high) == (whole.nulls, whole.low, whole.high)
    again = sketch_from_dict(whole.to_dict())
    assert isinstance(again, NumericSketch)
    assert (again.counts == whole.counts).all() and again.low == whole.low


HOUR = 24 * 16_000  # a midnight


def timed(values: Any, hours: Any, edges: Any = None) -> NumericSketch:
    values = np.asarray(values, np.float64)
    made = NumericSketch.empty(bin_edges(values) if edges is None else edges)
    made.add(values, np.asarray(hours, np.int64) + HOUR)
    return made


@pytest.mark.parametrize("days", [2, 30])
def test_rows_that_come_one_by_one_are_worth_as_many(days: int) -> None:
    r = np.random.default_rng(5)
    values = np.where(r.random(20_000) < 0.1, np.nan, r.normal(size=20_000))
    made = timed(values, np.sort(r.integers(0, 24 * days, 20_000)))
    known, all_ = made.worth
    assert 0.5 * made.rows < known <= made.rows
    assert 0.5 * 20_000 < all_ <= 20_000


def test_rows_that_share_a_days_weather_are_worth_days() -> None:
    r = np.random.default_rng(6)
    hours = np.sort(r.integers(0, 24 * 40, 50_000))
    weather = r.normal(size=40)[hours // 24] + 0.1 * r.normal(size=50_000)
    assert 30 < timed(weather, hours).worth[0] < 50
    # A window that is too short for days: as many as its hours differ.
    short = hours < 48
    by_hour = r.normal(size=48)[hours[short]] + 0.1 * r.normal(size=short.sum())
    assert 30 < timed(by_hour, hours[short]).worth[0] < 80


def test_missing_values_of_one_day_are_worth_a_day() -> None:
    hours = np.repeat(np.arange(240), 100)
    values = np.random.default_rng(7).normal(size=24_000)
    values[: 24 * 100] = np.nan
    known, all_ = timed(values, hours).worth
    assert known == pytest.approx(21_600, rel=0.5)
    assert 5 < all_ < 20


def test_the_worth_is_that_of_a_mean_by_day() -> None:
    r = np.random.default_rng(8)
    hours = np.sort(r.integers(0, 24 * 9, 3_000))
    values = r.normal(size=9)[hours // 24] + r.normal(size=3_000)
    mean, day = values.mean(), hours // 24
    sums = np.array([(values[day == d] - mean).sum() for d in range(9)])
    exact = values.var() / (np.square(sums).sum() / 3_000**2 * 9 / 8)
    assert timed(values, hours).worth[0] == pytest.approx(exact, rel=1e-9)


@given(FLOATS, FLOATS, st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_hours_merge_and_are_kept(first: list[float], second: list[float], apart: int) -> None:
    edges = bin_edges(np.asarray(first))
    times = (np.arange(len(first)) // 3, np.arange(len(second)) // 2 + apart)
    whole = timed(first + second, np.concatenate(times), edges)
    both = timed(first, times[0], edges).merge(timed(second, times[1], edges))
    again = sketch_from_dict(json.loads(json.dumps(both.to_dict())))
    assert isinstance(again, NumericSketch)
    for made in (both, again):
        assert made.hours.keys() == whole.hours.keys()
        for hour, content in whole.hours.items():
            assert made.hours[hour] == pytest.approx(content, abs=1e-3)
    assert sum(n for n, _, _ in whole.hours.values()) == whole.rows
    assert sum(n for _, _, n in whole.hours.values()) == whole.nulls


def test_weeks_of_different_weather_are_no_drift_and_another_season_is() -> None:
    r = np.random.default_rng(9)
    kinds: dict[str, Any] = {"temp": "numeric"}

    def weather(mean: float, first: int, days: int) -> Any:
        hours = np.sort(r.integers(0, 24 * days, 1_000 * days))
        by_day = mean + r.normal(size=days)
        return by_day[hours // 24] + 0.2 * r.normal(size=len(hours)), hours + 24 * first

    def drift(old: NumericSketch, new: NumericSketch) -> Any:
        return compare({"temp": old}, {"temp": new}, kinds, DriftConfig()).features[0]

    old = timed(*weather(0.0, 0, 28))
    alike, other = (timed(*weather(mean, 28, 7), old.edges) for mean in (0.0, 3.0))
    assert drift(replace(old, hours={}), replace(alike, hours={})).drifted, (
        "if rows were independent"
    )
    assert not drift(old, alike).drifted
    assert drift(old, alike).tests[0].effect > 0.1, "though the weeks do differ"
    assert drift(old, other).drifted


def rain(r: np.random.Generator, n: int) -> Any:
    return np.where(r.random(n) < 0.94, 0.0, np.round(r.exponential(0.1, n), 2) + 0.01)


@pytest.mark.parametrize(
    ("plant", "question"),
    [
        (lambda x: x * 1.609344, "others"),
        (lambda x: np.concatenate([x[:2500], np.zeros(2500)]), "commonest"),
        (lambda x: x, None),
    ],
    ids=["another unit", "stuck at its commonest value", "nothing"],
)
def test_a_feature_that_is_mostly_one_value_shows_what_the_others_do(
    plant: Any, question: str | None
) -> None:
    r = np.random.default_rng(10)
    old = rain(r, 50_000)
    edges = bin_edges(old)
    before, after = sketched(old, edges), sketched(plant(rain(r, 5_000)), edges)
    found = compare({"rain": before}, {"rain": after}, {"rain": "numeric"}, DriftConfig())
    fired = {t.question for t in found.features[0].tests if t.fires(0.01)}
    assert fired == ({question} if question else set())


def test_a_sketch_without_its_commonest_value_is_that_of_the_others() -> None:
    old = rain(np.random.default_rng(11), 20_000)
    made = sketched(old, bin_edges(old))
    assert made.commonest is not None
    others = made.without(made.commonest)
    assert others.rows == (old > 0).sum()
    assert others.mean == pytest.approx(old[old > 0].mean())
    assert others.std == pytest.approx(old[old > 0].std())
    assert sketched(np.arange(1e4), bin_edges(np.arange(1e4))).commonest is None
    assert sketched(np.ones(9), bin_edges(np.ones(9))).commonest is None, "there are no others"


@given(FLOATS)
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_a_search_among_the_edges(values: list[float]) -> None:
    edges = bin_edges(np.asarray(values[: len(values) // 2 + 1]))
    known = np.asarray([v for v in values if not np.isnan(v)])
    expected = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    made = sketched(values, edges)
    assert (made.counts == expected).all()
    assert made.nulls == len(values) - len(known)


EDGES = st.lists(
    st.one_of(st.floats(-1e6, 1e6), st.floats(allow_nan=False, allow_infinity=False)),
    min_size=1,
    max_size=200,
)


@given(EDGES, EDGES)
@example([-1.7e308, 1.7e308, 0.0], [1.0])
@settings(max_examples=300, deadline=None)
def test_the_finder_finds_what_a_search_finds(reference: list[float], more: list[float]) -> None:
    edges = bin_edges(np.asarray(reference))
    finder = BinFinder.of(edges)
    if finder is None:
        return
    near = [np.nextafter(edges, -np.inf), edges, np.nextafter(edges, np.inf), np.asarray(more)]
    values = np.concatenate(near)
    values = values[np.isfinite(values)]
    assert (finder.find(values) == np.searchsorted(edges, values, side="right")).all()


@pytest.mark.parametrize("offset", [0.0, 1e9, -1e15])
@pytest.mark.parametrize("factor", [1.0, 1.609, 1e9])
@pytest.mark.parametrize("name", ["normal", "skewed", "cauchy", "counts", "mostly zero"])
def test_large_blocks_are_counted_as_a_search_would(
    name: str, factor: float, offset: float
) -> None:
    r = np.random.default_rng(2)
    shapes = {**SHAPES, "cauchy": lambda r, n: r.standard_cauchy(n)}
    reference = shapes[name](r, 20_000) + offset
    values = np.where(r.random(40_000) < 0.1, np.nan, shapes[name](r, 40_000) * factor + offset)
    edges = bin_edges(reference)
    made = sketched(values, edges)
    known = values[~np.isnan(values)]
    bins = np.searchsorted(edges, known, side="right")
    assert (made.counts == np.bincount(bins, minlength=len(edges) + 1)).all()
    assert made.sums == pytest.approx(np.bincount(bins, known, minlength=len(edges) + 1))
    assert (made.nulls, made.low, made.high) == (
        len(values) - len(known), known.min(), known.max(),
    )  # fmt: skip
    if offset != -1e15:  # where a float's own steps are an eighth
        assert made.std == pytest.approx(known.std(), rel=1e-6)


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=50), st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_categories_merge(values: list[str | None], cut: int) -> None:
    whole = categories(values)
    both = merge(categories(values[:cut]), categories(values[cut:]))
    assert isinstance(both, CategorySketch)
    assert (both.counts, both.nulls) == (whole.counts, whole.nulls)
    assert sketch_from_dict(whole.to_dict()) == whole


def test_a_column_of_identifiers_stays_small() -> None:
    made = categories([f"id {i}" for i in range(2 * CATEGORIES + 1)])
    assert len(made.counts) == CATEGORIES
    assert made.rows == 2 * CATEGORIES + 1


def test_sketches_of_different_references_do_not_merge() -> None:
    with pytest.raises(SlipwayError, match="different bin edges"):
        merge(
            sketched([1.0], bin_edges(np.arange(9.0))), sketched([1.0], bin_edges(np.arange(5.0)))
        )
    with pytest.raises(SlipwayError, match="cannot be merged"):
        merge(sketched([1.0], bin_edges(np.arange(9.0))), categories(["a"]))


SHAPES: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "normal": lambda r, n: r.normal(size=n),
    "skewed": lambda r, n: r.lognormal(size=n),
    "counts": lambda r, n: r.poisson(3, n).astype(float),
    "mostly zero": lambda r, n: np.where(r.random(n) < 0.9, 0.0, r.exponential(size=n)),
    "constant": lambda r, n: np.full(n, 7.0),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("shift", [0.0, 0.3, 5.0])
def test_statistics_agree_with_the_exact_ones(name: str, shift: float) -> None:
    r = np.random.default_rng(1)
    old, new = SHAPES[name](r, 20_000), SHAPES[name](r, 3_000) * 1.1 + shift
    edges = bin_edges(old)
    before, after = sketched(old, edges), sketched(new, edges)
    scale = old.std() or 1.0
    assert ks(before, after) == pytest.approx(stats.ks_2samp(old, new).statistic, abs=0.005)
    assert wasserstein(before, after) / scale == pytest.approx(
        stats.wasserstein_distance(old, new) / scale, abs=0.01
    )
    assert before.std == pytest.approx(old.std(), abs=1e-9)
    assert before.mean == pytest.approx(old.mean())


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_distances_of_counts_agree_with_scipy(cells: list[tuple[int, int]]) -> None:
    before, after = (np.array(side) for side in zip(*cells, strict=True))
    if not before.sum() or not after.sum():
        return
    expected = jensenshannon(before, after, base=2)
    assert jensen_shannon(before, after) == pytest.approx(expected, abs=1e-6)
    assert 0 <= jensen_shannon(before, after) <= 1
    assert psi(before, before) == pytest.approx(0, abs=1e-12)
    assert np.isfinite(psi(before, after)) and psi(before, after) >= 0


def test_chi_square_is_pearsons_where_cells_are_large() -> None:
    before, after = np.array([500, 300, 200]), np.array([400, 400, 200])
    expected = stats.chi2_contingency([before, after], correction=False)
    statistic, p = chi_square(before, after)
    assert statistic == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue)


def test_chi_square_takes_small_cells_together() -> None:
    assert chi_square(np.array([1000, 1, 1, 1]), np.array([1000, 0, 0, 2])) == (0.0, 1.0)
    assert chi_square(np.array([0, 0]), np.array([5, 5])) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("before", "n", "after", "m", "low", "high"),
    [
        (0, 50_000, 0, 500, 1.0, 1.0),
        (0, 50_000, 10, 500, 0.0, 1e-9),
        (500, 50_000, 5, 500, 0.5, 1.0),
        (500, 50_000, 40, 500, 0.0, 1e-9),
        (2500, 50_000, 0, 500, 0.0, 1e-9),
        (0, 0, 5, 10, 1.0, 1.0),
    ],
)
def test_the_test_of_shares(
    before: int, n: int, after: int, m: int, low: float, high: float
) -> None:
    assert low <= share_test(before, n, after, m) <= high


@dataclass
class Shift:
    name: str
    change: Callable[[np.random.Generator, Any], Any]
    drifts: bool


SHIFTS = [
    Shift("nothing", lambda r, x: x, False),
    Shift("a hundredth of a deviation", lambda r, x: x + 0.01, False),
    Shift("mean", lambda r, x: x + 0.25, True),
    Shift("variance", lambda r, x: x * np.sqrt(1.5), True),
    Shift("nulls", lambda r, x: np.where(r.random(len(x)) < 0.05, np.nan, x), True),
    Shift(
        "half a percent of nulls", lambda r, x: np.where(np.arange(len(x)) % 200, x, np.nan), False
    ),
    Shift("stuck", lambda r, x: np.where(np.arange(len(x)) > len(x) / 2, x[0], x), True),
    Shift("unit", lambda r, x: x * 1.609, True),
    Shift("all missing", lambda r, x: np.full(len(x), np.nan), True),
    Shift("infinite", lambda r, x: np.where(r.random(len(x)) < 0.3, np.inf, x), True),
]


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.name)
def test_a_planted_shift_of_a_number(shift: Shift) -> None:
    r = np.random.default_rng(5)
    old = r.normal(size=50_000)
    edges = bin_edges(old)
    new = shift.change(r, r.normal(size=5_000))
    result = compare(
        {"x": sketched(old, edges)}, {"x": sketched(new, edges)}, {"x": "numeric"}, DriftConfig()
    )
    assert (result.share == 1.0) is shift.drifts
    assert bool(result.drifted) is shift.drifts


def draw(r: np.random.Generator, n: int) -> list[str | None]:
    return [
        str(v)
        for v in r.choice(list("abcdefgh"), n, p=[0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])
    ]


@pytest.mark.parametrize(
    ("change", "drifts"),
    [
        (lambda x: x, False),
        (lambda x: ["b" if v == "a" and i % 4 == 0 else v for i, v in enumerate(x)], True),
        (lambda x: ["new" if i % 50 == 0 else v for i, v in enumerate(x)], True),
        (lambda x: ["new" if i == 7 else v for i, v in enumerate(x)], False),
        (lambda x: [None if i % 20 == 0 else v for i, v in enumerate(x)], True),
        (lambda x: [None] * len(x), True),
    ],
    ids=["nothing", "mass", "new", "one new value", "nulls", "all missing"],
)
def test_a_planted_shift_of_categories(change: Any, drifts: bool) -> None:
    r = np.random.default_rng(6)
    old, new = categories(draw(r, 50_000)), categories(change(draw(r, 5_000)))
    result = compare({"x": old}, {"x": new}, {"x": "categorical"}, DriftConfig())
    assert bool(result.drifted) is drifts


def test_a_large_but_chance_difference_of_a_small_window_is_no_drift() -> None:
    old = categories(["a", "b"] * 5_000)
    new = categories(["a"] * 12 + ["b"] * 8)
    (tests, statistics) = measure(old, new, DriftConfig())
    assert statistics["moved"] == pytest.approx(0.1)
    assert not compare({"x": old}, {"x": new}, {"x": "categorical"}, DriftConfig()).drifted
    assert tests[0].effect >= tests[0].least


def test_a_certain_but_tiny_difference_of_a_huge_window_is_no_drift() -> None:
    old, new = (
        CategorySketch({"a": 500_000, "b": 500_000}),
        CategorySketch({"a": 510_000, "b": 490_000}),
    )
    (tests, _) = measure(old, new, DriftConfig())
    assert tests[0].p < 1e-9
    assert not compare({"x": old}, {"x": new}, {"x": "categorical"}, DriftConfig()).drifted


def test_prediction_drift_is_no_feature() -> None:
    r = np.random.default_rng(7)
    old = r.beta(2, 5, 20_000)
    edges = bin_edges(old)
    pair = (sketched(old, edges), sketched(r.beta(4, 3, 2_000), edges))
    result = compare({}, {}, {}, DriftConfig(), prediction=pair)
    assert result.features == () and result.share == 0.0
    assert result.prediction is not None and result.prediction.drifted


def test_time_is_compared_by_the_clock_on_the_wall() -> None:
    moments = ["2013-12-09T06:30:00", "1969-12-31T18:00:00", None]
    plain = pa.chunked_array([pa.array(np.array(moments, "datetime64[us]"))])
    assert numbers(plain, "time")[:2].tolist() == [6.5, 18.0]
    assert np.isnan(numbers(plain, "time")[2])
    zoned = pa.chunked_array(
        [
            pa.array(
                np.array(["2013-12-09T11:30"], "datetime64[us]"),
                pa.timestamp("us", "America/New_York"),
            )
        ]
    )
    assert numbers(zoned, "time").tolist() == [6.5]
