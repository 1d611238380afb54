"""Drift: how far a window's sketches lie from the reference's, and whether that is chance.

Each feature is asked two to five questions, each with an effect (how large) and a test (is it
chance): a numeric feature for its values (Wasserstein, KS test), its shape (Jensen-Shannon,
chi-square test on bins) and its missing values, and where most rows share one value, for that value's
share and for the others; a categorical one for the mass that moved between
categories (total variation, chi-square), for unseen values and for missing ones. All the window's
tests are one family under Benjamini-Hochberg (1995), so that a window without drift is called
drifted with at most the chosen probability, however many features it has. A feature drifted if a
test is significant there and its effect reaches the least that matters.

Numeric features are tested with as many rows as theirs are worth (`NumericSketch.worth`): a week of
flights saw seven days of weather, not six thousand. For the chi-square test that is the correction of
Rao and Scott (1981), first order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slipway.components.config.monitoring import DriftConfig
from slipway.components.contracts.splits import Kind
from slipway.components.monitor.measures.sketch import (
    CategorySketch,
    Counts,
    Floats,
    NumericSketch,
    Sketch,
)
from slipway.components.support.pages import digits

COARSE = 20
RARE = 20.0
LEAST_WORTH = 30.0
"""With fewer independent rows no test of a feature says that it did not change."""
State = Literal["changed", "not changed", "cannot tell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One question to one feature.

    Attributes:
        question: "values", "shape", "commonest", "others", "categories", "unseen" or "nulls".
        effect: how large the difference is; least: from where on it matters.
        p: probability of a difference like this without drift; adjusted: over all tests.
    """

    question: str
    effect: float
    least: float
    p: float
    adjusted: float = 1.0

    __test__ = False  # not a pytest class

    def fires(self, level: float) -> bool:
        """Whether the difference is real and large enough to matter."""
        return self.adjusted <= level and self.effect >= self.least


Measured = tuple[list[Test], dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrift:
    """What is known of one feature's drift.

    A feature that did not drift is not thereby unchanged: `doubt` says why it cannot be told; empty: it
    can.

    `statistics` holds psi, js (Jensen-Shannon distance, base 2), ks and wasserstein (in the
    feature's unit) of a numeric feature; psi, js, moved (total variation) and chi2 of another; and
    nulls and reference_nulls as fractions. `score` is js, which is comparable between features.
    """

    name: str
    kind: Kind
    drifted: bool
    score: float
    tests: tuple[Test, ...]
    statistics: dict[str, float]
    reason: str
    doubt: str = ""

    @property
    def state(self) -> State:
        """What can be said of it."""
        if self.drifted:
            return "changed"
        return "cannot tell" if self.doubt else "not changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftResult:
    """All features, and the window as a whole: `share` is that of the features that drifted."""

    features: tuple[FeatureDrift, ...]
    prediction: FeatureDrift | None
    share: float
    largest: float

    @property
    def drifted(self) -> list[FeatureDrift]:
        """The features that drifted, the largest drift first."""
        return self.of("changed")

    def of(self, state: State) -> list[FeatureDrift]:
        """The features of which this can be said, the largest difference first."""
        return sorted((f for f in self.features if f.state == state), key=lambda f: -f.score)


def compare(
    reference: Mapping[str, Sketch],
    window: Mapping[str, Sketch],
    kinds: Mapping[str, Kind],
    settings: DriftConfig,
    prediction: tuple[Sketch, Sketch] | None = None,
) -> DriftResult:
    """Compares a window with the reference.

    Args:
        reference: feature to its sketch.
        window: the same features, with the same bin edges.
        kinds: feature to its kind.
        settings: levels and least effects.
        prediction: the sketches of the predicted probability, reference first, where both exist.

    Returns:
        The drift of each feature and of the whole. The prediction is tested in the same family but
        does not count as a feature.
    """
    measured = {name: measure(reference[name], window[name], settings) for name in kinds}
    predicted = measure(*prediction, settings) if prediction else None
    return conclude(measured, kinds, settings, predicted)


def conclude(
    measured: Mapping[str, Measured],
    kinds: Mapping[str, Kind],
    settings: DriftConfig,
    prediction: Measured | None = None,
) -> DriftResult:
    """Adjusts the tests of all features together and says which features drifted."""
    every = [*measured.items(), *([("prediction", prediction)] if prediction else [])]
    adjusted = iter(_adjust([test.p for _, (tests, _) in every for test in tests]))
    results = []
    for name, (tests, statistics) in every:
        final = tuple(replace(test, adjusted=next(adjusted)) for test in tests)
        fired = [test for test in final if test.fires(settings.false_alarms)]
        results.append(
            FeatureDrift(
                name=name,
                kind=kinds.get(name, "numeric"),
                drifted=bool(fired),
                score=statistics["js"],
                tests=final,
                statistics=statistics,
                reason="; ".join(_reason(test) for test in fired),
                doubt="" if fired else _doubt(final, statistics),
            )
        )
    features = tuple(results[: len(measured)])
    return DriftResult(
        features=features,
        prediction=results[-1] if prediction else None,
        share=sum(f.drifted for f in features) / len(features) if features else 0.0,
        largest=max((f.score for f in features), default=0.0),
    )


def _doubt(tests: tuple[Test, ...], statistics: Mapping[str, float]) -> str:
    """Why a feature without a finding cannot be called unchanged; empty: it can.

    Too few independent rows tell nothing. And a difference as large as what matters, which that many
    rows show by chance too, is neither a change nor none.
    """
    worth = statistics["worth"]
    if worth < LEAST_WORTH:
        return f"its rows are worth {worth:,.0f} independent ones, too few to tell"
    large = [test for test in tests if test.effect >= test.least]
    if not large:
        return ""
    seen = "; ".join(_reason(test) for test in large)
    return f"{seen}, but {worth:,.0f} independent rows may differ so by chance"


def _reason(test: Test) -> str:
    return {
        "values": f"values moved by {test.effect:.2f} sd",
        "shape": f"shape changed by {test.effect:.2f}",
        "commonest": f"share of its commonest value changed by {digits.share(test.effect)}",
        "others": f"values but the commonest moved by {test.effect:.2f} sd",
        "categories": f"{digits.share(test.effect)} changed category",
        "unseen": f"{digits.share(test.effect)} new values",
        "nulls": f"missing share changed by {digits.share(test.effect)}",
    }[test.question]


def measure(old: Sketch, new: Sketch, settings: DriftConfig) -> Measured:
    """Asks one feature its questions: the tests, not yet adjusted, and the statistics."""
    if isinstance(old, NumericSketch) and isinstance(new, NumericSketch):
        tests, statistics = _measure_numeric(old, new, settings)
    elif isinstance(old, CategorySketch) and isinstance(new, CategorySketch):
        tests, statistics = _measure_categories(old, new, settings)
    else:
        raise TypeError("a numeric and a categorical sketch cannot be compared")
    old_total, new_total = old.rows + old.nulls, new.rows + new.nulls
    old_share, new_share = old.nulls / max(old_total, 1), new.nulls / max(new_total, 1)
    p = share_test(*_worth_of_nulls(old), *_worth_of_nulls(new))
    effect = abs(new_share - old_share)
    tests.append(Test(question="nulls", effect=effect, least=settings.nulls, p=p))
    return tests, {**statistics, "nulls": new_share, "reference_nulls": old_share}


def _worth_of_nulls(sketch: Sketch) -> tuple[int, int]:
    """Missing values and rows, as many as they are worth."""
    total = sketch.rows + sketch.nulls
    worth = sketch.worth[1] if isinstance(sketch, NumericSketch) else total
    return round(sketch.nulls * worth / max(total, 1)), round(worth)


def _measure_numeric(old: NumericSketch, new: NumericSketch, settings: DriftConfig) -> Measured:
    if not old.rows or not new.rows:
        return [], {"psi": 0.0, "js": 0.0, "ks": 0.0, "wasserstein": 0.0, "std": 0.0, "worth": 0.0}
    d = ks(old, new)
    distance, std = wasserstein(old, new), old.std
    groups = coarse_groups(old.counts)
    old_cells = np.bincount(groups, old.counts, COARSE)
    new_cells = np.bincount(groups, new.counts, COARSE)
    shape = jensen_shannon(old_cells, new_cells)
    worth = old.worth[0], new.worth[0]
    chi2, p_shape = chi_square(old_cells * worth[0] / old.rows, new_cells * worth[1] / new.rows)
    tests = [
        Test(
            question="values",
            effect=distance / std if std > 0 else float(distance > 0),
            least=settings.distance,
            p=ks_p_value(d, *worth),
        ),
        Test(question="shape", effect=shape, least=settings.distance, p=p_shape),
        *_measure_commonest(old, new, settings),
    ]
    statistics = {
        "psi": psi(old_cells, new_cells),
        "js": shape,
        "ks": d,
        "wasserstein": distance,
        "chi2": chi2,
        "std": std,
        "worth": worth[1],
    }
    return tests, statistics


def _measure_commonest(old: NumericSketch, new: NumericSketch, settings: DriftConfig) -> list[Test]:
    """Two more questions where one value holds most of the reference: its share, and the others.

    Nine hours of ten have no rain: a gauge that reads millimetres for inches, or is stuck at 0, hardly
    moves the whole.
    """
    commonest = old.commonest
    if commonest is None:
        return []
    others = old.without(commonest), new.without(commonest)
    whole = old.worth[0], new.worth[0]
    worth = tuple(round(w) for w in whole)
    shares = tuple(1 - o.rows / s.rows for o, s in zip(others, (old, new), strict=True))
    tests = [
        Test(
            question="commonest",
            effect=abs(shares[1] - shares[0]),
            least=settings.nulls,
            p=share_test(
                round(shares[0] * worth[0]), worth[0], round(shares[1] * worth[1]), worth[1]
            ),
        )
    ]
    if others[0].std > 0 and others[1].rows:
        left = tuple(max(w * (1 - share), 1.0) for w, share in zip(whole, shares, strict=True))
        tests.append(
            Test(
                question="others",
                effect=wasserstein(*others) / others[0].std,
                least=settings.distance,
                p=ks_p_value(ks(*others), *left),
            )
        )
    return tests


def _measure_categories(
    old: CategorySketch, new: CategorySketch, settings: DriftConfig
) -> Measured:
    if not old.rows or not new.rows:
        return [], {"psi": 0.0, "js": 0.0, "moved": 0.0, "chi2": 0.0, "unseen": 0.0, "worth": 0.0}
    values = sorted(old.counts.keys() | new.counts.keys())
    before = np.array([*(old.counts.get(v, 0) for v in values), old.other], np.int64)
    after = np.array([*(new.counts.get(v, 0) for v in values), new.other], np.int64)
    moved = float(np.abs(before / old.rows - after / new.rows).sum() / 2)
    chi2, p = chi_square(before, after)
    unseen = sum(count for value, count in new.counts.items() if value not in old.counts)
    share = unseen / new.rows
    p_unseen = share_test(0, old.rows, unseen, new.rows)
    tests = [
        Test(question="categories", effect=moved, least=settings.moved, p=p),
        Test(question="unseen", effect=share, least=settings.unseen, p=p_unseen),
    ]
    statistics = {
        "psi": psi(before, after),
        "js": jensen_shannon(before, after),
        "moved": moved,
        "chi2": chi2,
        "unseen": share,
        "worth": float(new.rows),
    }
    return tests, statistics


def _adjust(p_values: list[float]) -> list[float]:
    """Benjamini-Hochberg adjusted p-values, in the order given."""
    p = np.asarray(p_values)
    if not len(p):
        return []
    order = np.argsort(p)
    ranked = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(ranked)
    adjusted[order] = np.minimum.accumulate(ranked[::-1])[::-1].clip(max=1.0)
    return [float(value) for value in adjusted]


def coarse_groups(counts: Counts) -> npt.NDArray[np.intp]:
    """The bin of about equal reference mass, 0 to COARSE - 1, that each fine bin belongs to."""
    cumulated = np.cumsum(counts)
    middle = (cumulated - counts / 2) / max(int(cumulated[-1]), 1)
    groups: npt.NDArray[np.intp] = np.minimum((middle * COARSE).astype(np.intp), COARSE - 1)
    return groups


def psi(before: object, after: object) -> float:
    """Population stability index: the sum of (q - p) ln(q / p) over the cells.

    Half a row is added to each cell, so that an empty one gives a large number and not infinity.
    """
    used = (np.asarray(before) + np.asarray(after)) > 0
    p, q = (_shares(np.asarray(cells)[used] + 0.5) for cells in (before, after))
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(before: object, after: object) -> float:
    """Jensen-Shannon distance, base 2: 0 for equal shares, 1 for shares without overlap."""
    p, q = _shares(np.asarray(before)), _shares(np.asarray(after))
    middle = (p + q) / 2
    divergence = 0.0
    for shares in (p, q):
        used = shares > 0
        divergence += float((shares[used] * np.log2(shares[used] / middle[used])).sum()) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def _shares(cells: Any) -> Floats:
    shares: Floats = cells / cells.sum()
    return shares


def chi_square(before: object, after: object) -> tuple[float, float]:
    """Pearson's test that two rows of counts come from one distribution.

    The smallest cells are taken together until each expects twenty rows on either side: with the
    customary five, small windows were called different three times as often as the level says, since
    after adjustment the far tail decides.

    Returns:
        The statistic and its p-value; 0 and 1 where fewer than two cells remain.
    """
    from scipy.special import chdtrc

    table = np.array([before, after], np.float64)
    sums = table.sum(axis=1)
    if not sums.all():
        return 0.0, 1.0
    columns = table[:, np.argsort(table.sum(axis=0), kind="stable")]
    least = RARE * sums.sum() / sums.min()
    # The smallest cells, as many as it takes until together they expect enough.
    together = int(np.searchsorted(np.cumsum(columns.sum(axis=0)), least)) + 1
    cells = np.hstack([columns[:, :together].sum(axis=1, keepdims=True), columns[:, together:]])
    if cells.shape[1] < 2:
        return 0.0, 1.0
    expected = cells.sum(axis=0) * sums[:, None] / sums.sum()
    statistic = float(((cells - expected) ** 2 / expected).sum())
    return statistic, float(chdtrc(cells.shape[1] - 1, statistic))


def share_test(before: int, n: int, after: int, m: int) -> float:
    """Two-sided p-value that `before` of n and `after` of m rows have one share.

    The binomial test of the window against the share of both together: exact tails, so that it holds
    for the few missing or new values of a small window, where the chi-square test does not.
    """
    from scipy.special import bdtr, bdtrc

    if not n or not m or not before + after:
        return 1.0
    share = (before + after) / (n + m)
    upper = float(bdtrc(after - 1, m, share)) if after else 1.0
    return min(1.0, 2 * min(upper, float(bdtr(after, m, share))))


def ks(old: NumericSketch, new: NumericSketch) -> float:
    """Kolmogorov-Smirnov statistic: the largest difference of the two distribution functions.

    Taken at the edges, where both are known exactly: never too large, and too small by at most the
    mass of one bin.
    """
    f = np.cumsum(old.counts)[:-1] / old.rows
    g = np.cumsum(new.counts)[:-1] / new.rows
    return float(np.abs(f - g).max())


def ks_p_value(statistic: float, n: float, m: float) -> float:
    """Asymptotic p-value of the two-sample test (conservative where values repeat)."""
    from scipy.special import kolmogorov

    effective = n * m / (n + m)
    return float(kolmogorov(np.sqrt(effective) * statistic))


def _distribution(sketch: NumericSketch) -> tuple[Floats, Floats]:
    """Points of the distribution function, linear between them.

    A bin's rows are spread evenly around their mean, as wide as the bin allows: so every bin has the
    right mass and the right mean, also the wide ones at the ends of a skewed distribution.
    """
    used = np.flatnonzero(sketch.counts)
    counts, ends = sketch.counts[used], np.concatenate([[sketch.low], sketch.edges, [sketch.high]])
    start = np.clip(ends[used], sketch.low, sketch.high)
    stop = np.clip(ends[used + 1], sketch.low, sketch.high)
    mean = np.clip(sketch.sums[used] / counts, start, stop)
    half = np.minimum(mean - start, stop - mean)
    shares = np.concatenate([[0.0], np.cumsum(counts) / sketch.rows])
    points = np.column_stack([mean - half, mean + half]).ravel()
    return points, np.column_stack([shares[:-1], shares[1:]]).ravel()


def wasserstein(old: NumericSketch, new: NumericSketch) -> float:
    """Wasserstein-1 distance in the feature's unit: the area between the distribution functions."""
    first, second = _distribution(old), _distribution(new)
    points = np.unique(np.concatenate([first[0], second[0]]))
    # Both sides of each jump: a bin of one value has no width.
    left, right = (
        np.stack([_interpolate(points, *side, end) for side in (first, second)])
        for end in ("right", "left")
    )
    a = (left[0] - left[1])[:-1]
    b = (right[0] - right[1])[1:]
    size, width = np.abs(a) + np.abs(b), np.diff(points)
    crossing = a * b < 0
    safe = np.where(size > 0, size, 1.0)
    height = np.where(crossing, (a * a + b * b) / (2 * safe), size / 2)
    return float((height * width).sum())


def _interpolate(
    at: Floats, points: Floats, shares: Floats, side: Literal["left", "right"]
) -> Floats:
    """The distribution function just below ("left") or at ("right") each place."""
    after = np.searchsorted(points, at, side=side)
    before = np.clip(after - 1, 0, len(points) - 1)
    next_ = np.clip(after, 0, len(points) - 1)
    width = points[next_] - points[before]
    part = np.where(width > 0, (at - points[before]) / np.where(width > 0, width, 1.0), 0.0)
    values: Floats = shares[before] + part.clip(0, 1) * (shares[next_] - shares[before])
    values[after == 0] = 0.0
    values[after == len(points)] = 1.0
    return values
