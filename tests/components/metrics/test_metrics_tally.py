"""Metrics and intervals against scikit-learn, and against what they must not depend on."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from slipway.components.evaluate.measures.blocks import block_of, draw_weights
from slipway.components.metrics.binary import METRICS, measure
from slipway.components.metrics.intervals import percentile
from slipway.components.metrics.labels import reaches_threshold
from slipway.components.metrics.tally import Tally
from slipway.components.support.errors import SlipwayError


def draw(rows: int, seed: int, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1.2, 1.2, rows)
    label = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    probability = 1 / (1 + np.exp(-(odds + rng.normal(0, noise, rows))))
    return probability.astype(np.float32), label


def sklearn_metrics(probability, label, threshold) -> dict[str, float]:
    called = probability >= np.float32(threshold)
    exact = probability.astype(np.float64)
    return {
        "accuracy": oracle.accuracy_score(label, called),
        "f1": oracle.f1_score(label, called),
        "precision": oracle.precision_score(label, called),
        "recall": oracle.recall_score(label, called),
        "auc": oracle.roc_auc_score(label, probability),
        "average_precision": oracle.average_precision_score(label, probability),
        "log_loss": oracle.log_loss(label, exact.clip(1e-7, 1 - 1e-7)),
        "brier": oracle.brier_score_loss(label, exact),
    }


# How far a histogram of 4096 bins may be from the exact value.
CLOSE = {"auc": 2e-5, "average_precision": 1e-3}


def counted(probability, label, threshold, batch: int = 1000) -> Tally:
    tally = Tally(threshold, blocks=7)
    for start in range(0, len(label), batch):
        part = slice(start, start + batch)
        rows = np.arange(start, min(start + batch, len(label)))
        tally.add(probability[part], label[part], rows % 7)
    return tally


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_metrics_are_those_of_sklearn(seed: int, threshold: float) -> None:
    probability, label = draw(20_000, seed)
    exact = measure(label, probability, reaches_threshold(probability, threshold))
    found = counted(probability, label, threshold).measure()
    for name, value in sklearn_metrics(probability, label, threshold).items():
        assert exact[name] == pytest.approx(value, abs=1e-12), name
        assert found[name] == pytest.approx(value, abs=CLOSE.get(name, 1e-9)), name
    assert found["calibration_error"] == pytest.approx(exact["calibration_error"], abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 39), st.booleans()), min_size=2, max_size=60))
def test_tied_scores_count_as_sklearn_counts_them(rows) -> None:
    label = np.array([positive for _, positive in rows], np.int8)
    if label.min() == label.max():
        return
    probability = np.array([step / 40 for step, _ in rows], np.float32)
    found = counted(probability, label, 0.5, batch=7).measure()
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(label, probability), abs=1e-9)
    assert found["average_precision"] == pytest.approx(
        oracle.average_precision_score(label, probability), abs=1e-9
    )


def test_certain_scores_stay_finite() -> None:
    probability = np.array([0.0, 1.0, 0.0, 1.0], np.float32)
    found = counted(probability, np.array([0, 1, 1, 0], np.int8), 0.5).measure()
    assert all(math.isfinite(value) for value in found.values())
    assert found["auc"] == pytest.approx(0.5)


def test_where_no_row_is_called_positive_precision_is_0_as_in_scikit_learn() -> None:
    probability, label = np.array([0.1, 0.2], np.float32), np.array([1, 0], np.int8)
    found = counted(probability, label, 0.5).measure()
    assert (found["precision"], found["recall"], found["f1"]) == (0, 0, 0)


def test_confusion_is_scikit_learns() -> None:
    probability, label = draw(500, 2)
    expected = oracle.confusion_matrix(label, reaches_threshold(probability, 0.3))
    assert counted(probability, label, 0.3).confusion() == expected.tolist()


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_auc(label: int) -> None:
    tally = counted(np.full(50, 0.4, np.float32), np.full(50, label, np.int8), 0.5)
    assert math.isnan(tally.measure()["auc"])


def test_nothing_counted_gives_no_number() -> None:
    assert all(math.isnan(value) for value in Tally(0.5).measure().values())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 999))
def test_order_and_batches_do_not_matter(seed: int, batch: int) -> None:
    probability, label = draw(1000, 3)
    block = np.arange(1000) // 100
    mixed = np.random.default_rng(seed).permutation(1000)
    one, other = Tally(0.3), Tally(0.3)
    one.add(probability, label, block)
    for start in range(0, 1000, batch):
        rows = mixed[start : start + batch]
        other.add(probability[rows], label[rows], block[rows])
    weights = draw_weights(10, 100, 0)
    assert np.array_equal(one.used_blocks, other.used_blocks)
    assert other.measure() == pytest.approx(one.measure())
    drawn, again = (tally.resample(weights, one.used_blocks) for tally in (one, other))
    for name in METRICS:
        assert again[name] == pytest.approx(drawn[name])


def test_all_metrics_are_those_of_torchmetrics() -> None:
    import torch
    from torchmetrics.functional import classification as binary

    probability, label = draw(5000, 4)
    called = torch.from_numpy(reaches_threshold(probability**2, 0.3)).int()
    scores, truth = torch.from_numpy(probability**2), torch.from_numpy(label).int()
    expected = {
        "accuracy": binary.binary_accuracy(called, truth),
        "f1": binary.binary_f1_score(called, truth),
        "precision": binary.binary_precision(called, truth),
        "recall": binary.binary_recall(called, truth),
        "auc": binary.binary_auroc(scores, truth),
        "average_precision": binary.binary_average_precision(scores, truth),
        "calibration_error": binary.binary_calibration_error(scores, truth, n_bins=15),
    }
    found = measure(label, probability**2, called.numpy())
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), abs=1e-6), name


def test_a_group_is_measured_on_its_own_rows() -> None:
    probability, label = draw(6000, 5)
    group = np.arange(6000) % 3 - 1
    tally = Tally(0.3, groups=2, blocks=5, bins=512)
    tally.add(probability, label, np.arange(6000) % 5, group)
    for value in (0, 1):
        rows = group == value
        expected = sklearn_metrics(probability[rows], label[rows], 0.3)
        found = tally.measure(value)
        positives = int(label[rows].sum())
        assert (tally.rows(value), tally.class_rows(value)) == (2000, (2000 - positives, positives))
        assert found["accuracy"] == pytest.approx(expected["accuracy"])
        assert found["auc"] == pytest.approx(expected["auc"], abs=1e-3)


def test_roc_curve_is_sklearns_and_thin() -> None:
    probability, label = draw(20_000, 6)
    tally = counted(probability, label, 0.5)
    false, true, thresholds = tally.roc(200)
    assert len(false) <= 200 and (false[0], true[0]) == (0, 0) and (false[-1], true[-1]) == (1, 1)
    assert np.all(np.diff(false) >= 0) and np.all(np.diff(true) >= 0)
    assert np.all(np.diff(thresholds) < 0) and np.isfinite(thresholds).all()
    assert oracle.auc(false, true) == pytest.approx(
        oracle.roc_auc_score(label, probability), abs=1e-4
    )


# Intervals.


def test_replicates_are_the_metrics_of_the_resampled_rows() -> None:
    """A replicate equals scikit-learn's metric on the rows with the drawn blocks repeated."""
    probability, label = draw(3000, 7)
    block = np.arange(3000) // 250
    tally = Tally(0.3)
    tally.add(probability, label, block)
    weights = draw_weights(12, 100, 1)
    drawn = tally.resample(weights, tally.used_blocks)
    for replicate in (0, 57, 99):
        rows = np.repeat(np.arange(3000), weights[replicate][block].astype(int))
        expected = sklearn_metrics(probability[rows], label[rows], 0.3)
        for name, value in expected.items():
            close = {"auc": 1e-3, "average_precision": 5e-3}.get(name, 1e-6)
            assert drawn[name][replicate] == pytest.approx(value, abs=close), name


def test_blocks_that_move_together_widen_the_percentile() -> None:
    """Rows of a day share a shift. Resampled by row the interval is too narrow, by day it is not."""
    rng = np.random.default_rng(8)
    days, each = 60, 200
    shift = np.repeat(rng.normal(0, 0.8, days), each)
    odds = rng.normal(-1, 1, days * each)
    label = (rng.random(days * each) < 1 / (1 + np.exp(-(odds + shift)))).astype(np.int8)
    probability = (1 / (1 + np.exp(-odds))).astype(np.float32)
    widths = {}
    for name, block in (
        ("day", np.arange(days * each) // each),
        ("row", rng.permutation(days * each) % 1000),
    ):
        tally = Tally(0.999)
        tally.add(probability, label, block)
        used = tally.used_blocks
        drawn = tally.resample(draw_weights(len(used), 500, 0), used)
        low, high = percentile(drawn["accuracy"], 0.95)
        widths[name] = high - low
    by_theory = 2 * 1.96 * math.sqrt(label.mean() * (1 - label.mean()) / (days * each))
    assert widths["row"] == pytest.approx(by_theory, rel=0.25)
    assert widths["day"] > 1.8 * widths["row"]


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """300 samples of 40 days: the interval of the accuracy holds the true one in about 95 %."""
    rng = np.random.default_rng(9)
    covered = 0
    for _ in range(300):
        day_rate = np.clip(rng.normal(0.7, 0.08, 40), 0, 1)
        right = rng.random((40, 100)) < day_rate[:, None]
        tally = Tally(0.5, blocks=40, bins=16)
        label = np.ones(4000, np.int8)
        tally.add(
            np.where(right, 0.9, 0.1).ravel().astype(np.float32), label, np.arange(4000) // 100
        )
        drawn = tally.resample(draw_weights(40, 300, 0), np.arange(40))
        low, high = percentile(drawn["accuracy"], 0.95)
        covered += low <= 0.7 <= high
    assert 0.91 <= covered / 300 <= 0.98


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_interval_from_a_replicate_that_is_not_finite(bad: float) -> None:
    assert percentile(np.array([0.1, bad, 0.3]), 0.95) == (None, None)
    assert percentile(np.array([]), 0.95) == (None, None)


def test_weights_draw_as_many_blocks_as_there_are() -> None:
    weights = draw_weights(31, 200, 5)
    assert weights.shape == (200, 31)
    assert np.all(weights.sum(1) == 31)
    assert np.array_equal(weights, draw_weights(31, 200, 5))
    assert weights.mean() == pytest.approx(1)


TIMES = pa.table(
    {
        "id": ["a", "b", "c", "d"],
        "event_timestamp": pa.array(
            [0, 3_600_000_000, 86_400_000_000, 8 * 86_400_000_000], pa.timestamp("us", tz="UTC")
        ),
        "customer": ["x", "y", "x", None],
    }
)


@pytest.mark.parametrize(
    ("block", "same"),
    [
        ("day", [(0, 1)]),
        ("hour", []),
        ("week", [(0, 1), (0, 2), (1, 2)]),
        ("row", []),
        ("customer", [(0, 2)]),
    ],
)
def test_blocks(block: str, same: list[tuple[int, int]]) -> None:
    found = block_of(TIMES, block, "id")
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4) if found[i] == found[j]]
    assert pairs == same
    assert found.min() >= 0 and found.max() < 1000


def test_an_unknown_block_is_named() -> None:
    with pytest.raises(SlipwayError, match=r"gate\.block is 'region'.*customer"):
        block_of(TIMES, "region", "id")
