"""How often the 95 % interval of resampled blocks holds the truth, for each kind of label.

`PYTHONPATH=.:tests python tests/components/metrics/test_interval_coverage.py` prints the figures of
docs/gate.md, from 400 tries.
"""

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.components.evaluate.measures.blocks import draw_weights
from slipway.components.metrics import multiclass_tally
from slipway.components.metrics.intervals import percentile, unbiased_f1
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.metrics.multiclass import from_counts

DAYS, EACH = 40, 40
NAMES = ("ant", "bee", "cat", "dog")
JUDGED = {
    "binary": label_type("binary", threshold=0.5),
    "multiclass": label_type(
        "multiclass",
        classes=NAMES,
        costs={"bee": {"ant": 5.0}},
        level=0.9,
        set_threshold=0.15,
    ),
    "number": label_type("number", level=0.9),
}
# Their own intervals (`of_gaps`), and what differs by less than a rounding.
APART = {
    "binary": "calibration_error",
    "multiclass": "calibration_error",
    "number": "interval_width",
}
MEANS = ("f1", "precision", "recall")
FEW = {"40 classes, 2 rows": (40, 2, 80, 0.0), "40 classes, 10 rows": (40, 10, 100, 0.3),
       "7 classes, 50 rows": (7, 50, 60, 0.4)}  # fmt: skip


def draw_days(kind: str, days: int, rng: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows of days, on some of which answers are worse: how far labels lie off moves by the day."""
    rows = days * EACH
    day = np.repeat(np.arange(days), EACH)
    if kind == "number":
        value = rng.normal(0, 3, rows) + rng.normal(0, 1, days)[day]
        off = rng.normal(0, np.exp(rng.normal(0, 0.25, days))[day]) + rng.normal(0, 0.3, days)[day]
        answers = np.stack([value, value - 1.7, value + 1.7], 1)
        return answers.astype(np.float32), value + off
    if kind == "binary":
        odds = rng.normal(-0.7, 1.3, rows)
        chance = 1 / (1 + np.exp(-odds - rng.normal(0, 0.4, days)[day]))
        return (1 / (1 + np.exp(-odds))).astype(np.float32), (rng.random(rows) < chance).astype(
            np.int8
        )
    labels = rng.integers(0, 4, rows).astype(np.int32)
    odds = rng.normal(0, 1, (rows, 4)) + rng.normal(0, 0.3, (days, 4))[day]
    odds[np.arange(rows), labels] += np.clip(rng.normal(1.3, 0.4, days), 0, None)[day]
    shares = np.exp(odds)
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32), labels


def count_held(kind: str, tries: int) -> dict[str, float]:
    """The share of tries in which each metric's interval holds what 5,000 days come to."""
    label, rng = JUDGED[kind], np.random.default_rng(4)
    truth = label.measure(*draw_days(kind, 5000, rng)[::-1])
    held = dict.fromkeys((name for name in label.metrics if name != APART[kind]), 0)
    for _ in range(tries):
        answers, labels = draw_days(kind, DAYS, rng)
        tally = label.make_tally(blocks=DAYS, bins=512)
        tally.add(answers, labels, np.repeat(np.arange(DAYS), EACH))
        drawn = tally.resample(draw_weights(DAYS, 200, 0), np.arange(DAYS))
        for name in held:
            low, high = percentile(drawn[name], 0.95)
            assert low is not None and high is not None
            held[name] += low <= truth[name] <= high
    return {name: count / tries for name, count in held.items()}


@pytest.mark.parametrize("kind", list(JUDGED))
def test_the_intervals_of_resampled_blocks_hold_the_truth(kind: str) -> None:
    """Blocks that differ as days do. The bounds leave 150 tries room for chance."""
    shares = count_held(kind, 150)
    assert all(0.86 <= share <= 0.995 for share in shares.values()), shares


def draw_few(
    classes: int, rows: int, days: int, moves: float, rng: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers, labels and days of rows whose class is drawn; a good model, better on some days."""
    labels, day = rng.integers(0, classes, rows), np.arange(rows) % days
    odds = rng.normal(0, 1, (rows, classes))
    skill = 3.0 if classes > 10 else 1.5
    odds[np.arange(rows), labels] += skill + moves * rng.normal(0, 1, days)[day]
    shares = np.exp(odds)
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32), labels, day


def count_few(
    classes: int, each: int, days: int, moves: float, tries: int
) -> tuple[dict[str, float], dict[str, float]]:
    """The shares of tries in which the interval of each mean holds the truth; and in which the first
    ones' percentiles alone would, which it replaces: those of the metric of each replicate."""
    label, rng = (
        label_type("multiclass", classes=tuple(map(str, range(classes)))),
        np.random.default_rng(classes),
    )
    answers, labels, _ = draw_few(classes, 40_000, 2000, moves, rng)
    called = answers.argmax(1)
    sums = [np.bincount(of, minlength=classes) for of in (labels[called == labels], called, labels)]
    truth = from_counts(*sums)
    held, replaced = (dict.fromkeys((*MEANS, "weighted_f1"), 0) for _ in range(2))
    for _ in range(tries):
        answers, labels, day = draw_few(classes, classes * each, days, moves, rng)
        tally = coarse(label, days)
        tally.add(answers, labels, day)
        weights, measured = draw_weights(days, 200, 0), tally.measure()
        drawn = tally.resample(weights, np.arange(days))
        plain = from_counts(*np.tensordot(weights, tally.count_calls(), 1).swapaxes(0, 1))
        for name in held:
            low, high = percentile(drawn[name], 0.95)
            assert low is not None and high is not None and low <= measured[name] <= high
            held[name] += low <= truth[name] <= high
            low, high = percentile(plain[name], 0.95)
            assert low is not None and high is not None
            replaced[name] += low <= truth[name] <= high
    return tuple({k: count / tries for k, count in of.items()} for of in (held, replaced))  # type: ignore[return-value]


def coarse(label: LabelType, blocks: int, *, weighted: bool = False) -> Any:
    """A tally whose histograms of scores, which no count looks at, have few bins."""
    with patch.object(multiclass_tally, "_CELLS", 1):
        return label.make_tally(blocks=blocks, weighted=weighted)


@pytest.mark.parametrize("case", list(FEW))
def test_means_over_classes_with_few_rows_are_held(case: str) -> None:
    held, replaced = count_few(*FEW[case], tries=150)
    assert all(0.9 <= share <= 0.995 for share in held.values()), held
    # What it replaces: F1 of 40 classes was held far too seldom.
    assert (replaced["f1"] < 0.87) == (FEW[case][0] == 40), replaced


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 12), rows=st.integers(1, 60), blocks=st.integers(1, 12),
    skill=st.sampled_from([-3.0, 0.0, 2.0, 9.0]), weighted=st.booleans(), seed=st.integers(0, 2**20),
)  # fmt: skip
def test_an_interval_holds_its_own_mean(
    classes: int, rows: int, blocks: int, skill: float, weighted: bool, seed: int
) -> None:
    """And so does the paired difference of two models; or there is none, for too few rows."""
    rng = np.random.default_rng(seed)
    label = label_type("multiclass", classes=tuple(map(str, range(classes))))
    labels, block = rng.integers(0, classes, rows), rng.integers(0, blocks, rows)
    weights = rng.exponential(1, rows) + 0.01 if weighted else None
    drawn, measured = [], []
    for _ in range(2):
        odds = rng.normal(0, 1, (rows, classes))
        odds[np.arange(rows), labels] += skill
        shares = np.exp(odds)
        tally = coarse(label, blocks, weighted=weighted)
        tally.add((shares / shares.sum(1, keepdims=True)).astype(np.float32), labels, block,
                  weights=weights)  # fmt: skip
        used = tally.used_blocks
        drawn.append(tally.resample(draw_weights(len(used), 50, 0), used))
        measured.append(tally.measure())
    for name in (*MEANS, "weighted_f1", "auc"):
        low, high = percentile(drawn[0][name], 0.6)
        if low is not None and high is not None:
            assert 0 <= low <= measured[0][name] <= high <= 1 + 1e-12, name
        low, high = percentile(drawn[0][name] - drawn[1][name], 0.6)
        if low is not None and high is not None:
            assert low <= measured[0][name] - measured[1][name] <= high, name


@pytest.mark.parametrize("rows", [2, 3, 4, 9])
def test_f1_of_few_rows_has_no_bias(rows: int) -> None:
    """Against all outcomes of rows that are hits by chance; the plain F1 of three rows is .05 off."""
    from scipy.stats import binom

    hits = np.arange(rows + 1)
    for share in (0.0, 0.2, 0.5, 0.8, 1.0):
        chances, true = binom.pmf(hits, rows, share), 2 * share / (1 + share)
        found = float(chances @ unbiased_f1(hits, np.full(rows + 1, rows)))
        assert found == pytest.approx(true, abs=0.03 if rows == 2 else 0.006)
        if share == 0.5 and rows == 3:
            assert float(chances @ (2 * hits / (rows + hits))) < true - 0.05


if __name__ == "__main__":
    for judged in JUDGED:
        print(judged, count_held(judged, 400))
    for few, given_as in FEW.items():
        print(few, count_few(*given_as, tries=400))
