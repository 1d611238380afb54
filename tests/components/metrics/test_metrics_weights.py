"""Rows that count by a weight: scikit-learn's `sample_weight` is the oracle, and so are repeated rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as oracle

from slipway.components.evaluate.measures.blocks import draw_weights
from slipway.components.metrics.fairness import GroupTally, row_sums
from slipway.components.metrics.intervals import percentile
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.metrics.weights import WeightSums, read_weights
from slipway.components.support.errors import SlipwayError

NAMES = ("ant", "bee", "cat", "dog")
KINDS: dict[str, LabelType] = {
    "binary": label_type("binary", threshold=0.3, costs={"1": {"0": 4.0}}),
    "multiclass": label_type(
        "multiclass", classes=NAMES, level=0.9, set_threshold=0.2, costs={"bee": {"ant": 6.0}}
    ),
    "number": label_type("number", level=0.9),
}
HISTOGRAM = {"auc": 5e-5, "average_precision": 1e-3}
"""How far bins may be from the exact value."""


def draw(kind: str, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers and labels."""
    rng = np.random.default_rng(seed)
    if kind == "binary":
        odds = rng.normal(-0.8, 1.2, rows)
        labels = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int8)
        return (1 / (1 + np.exp(-odds - rng.normal(0, 0.5, rows)))).astype(np.float32), labels
    if kind == "multiclass":
        places = rng.integers(0, 4, rows).astype(np.int32)
        odds = rng.normal(0, 1, (rows, 4))
        odds[np.arange(rows), places] += 1.3
        shares = np.exp(odds)
        return (shares / shares.sum(1, keepdims=True)).astype(np.float32), places
    value = rng.normal(50, 10, rows)
    return (
        np.stack([value, value - 6, value + 6], 1).astype(np.float32),
        value + rng.normal(0, 4, rows),
    )


def counted(
    label: LabelType, answers: Any, labels: Any, weights: Any = None, blocks: int = 20
) -> Any:
    tally = label.make_tally(blocks=blocks, weighted=weights is not None)
    for start in range(0, len(labels), 700):
        part = slice(start, start + 700)
        block = np.arange(len(labels))[part] % blocks
        some = None if weights is None else weights[part]
        tally.add(answers[part], labels[part], block, weights=some)
    return tally


def sklearn_binary(answers: Any, labels: Any, w: Any, label: Any) -> dict[str, float]:
    exact, called = answers.astype(float), label.decide(answers)
    cost = label.cost_matrix[labels, called]
    return {
        "accuracy": oracle.accuracy_score(labels, called, sample_weight=w),
        "f1": oracle.f1_score(labels, called, sample_weight=w),
        "precision": oracle.precision_score(labels, called, sample_weight=w),
        "recall": oracle.recall_score(labels, called, sample_weight=w),
        "auc": oracle.roc_auc_score(labels, answers, sample_weight=w),
        "average_precision": oracle.average_precision_score(labels, answers, sample_weight=w),
        "log_loss": oracle.log_loss(labels, exact, sample_weight=w),
        "brier": oracle.brier_score_loss(labels, exact, sample_weight=w),
        "calibration_error": calibration_error(exact, labels, w),
        "expected_cost": np.average(cost, weights=w),
    }


def sklearn_classes(answers: Any, labels: Any, w: Any, label: Any) -> dict[str, float]:
    exact = answers.astype(float) / answers.astype(float).sum(1, keepdims=True)
    called = label.decide(answers)
    squares = ((answers.astype(float) - np.eye(4)[labels]) ** 2).sum(1)
    sure = answers[np.arange(len(labels)), called].astype(float)
    sets = label.sets(answers)
    return {
        "accuracy": oracle.accuracy_score(labels, called, sample_weight=w),
        "f1": oracle.f1_score(labels, called, average="macro", sample_weight=w),
        "weighted_f1": oracle.f1_score(labels, called, average="weighted", sample_weight=w),
        "precision": oracle.precision_score(labels, called, average="macro", sample_weight=w),
        "recall": oracle.recall_score(labels, called, average="macro", sample_weight=w),
        "auc": oracle.roc_auc_score(labels, exact, multi_class="ovr", sample_weight=w),
        "log_loss": oracle.log_loss(labels, exact, sample_weight=w),
        "brier": np.average(squares, weights=w),
        "calibration_error": calibration_error(sure, called == labels, w),
        "coverage": np.average(sets[np.arange(len(labels)), labels], weights=w),
        "set_size": np.average(sets.sum(1), weights=w),
        "expected_cost": np.average(label.matrix[labels, called], weights=w),
    }


def sklearn_numbers(answers: Any, labels: Any, w: Any, label: Any) -> dict[str, float]:
    value, low, high = answers.astype(float).T
    ends = [
        oracle.mean_pinball_loss(labels, end, alpha=alpha, sample_weight=w)
        for end, alpha in ((low, 0.05), (high, 0.95))
    ]
    return {
        "rmse": oracle.root_mean_squared_error(labels, value, sample_weight=w),
        "mae": oracle.mean_absolute_error(labels, value, sample_weight=w),
        "r2": oracle.r2_score(labels, value, sample_weight=w),
        "pinball": sum(ends) / 2,
        "coverage": np.average((labels >= low) & (labels <= high), weights=w),
        "interval_width": np.average(high - low, weights=w),
    }


def calibration_error(said: Any, true: Any, w: Any) -> float:
    """The slow way: scikit-learn has none."""
    place = np.minimum((said * 15).astype(int), 14)
    gaps = [
        abs(np.average(said[of], weights=w[of]) - np.average(true[of], weights=w[of])) * w[of].sum()
        for of in (place == each for each in np.unique(place))
    ]
    return float(sum(gaps) / w.sum())


ORACLES: dict[str, Callable[..., dict[str, float]]] = {
    "binary": sklearn_binary,
    "multiclass": sklearn_classes,
    "number": sklearn_numbers,
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e9])
def test_weighted_metrics_are_those_of_sklearn(kind: str, scale: float) -> None:
    label = KINDS[kind]
    answers, labels = draw(kind, 8000, 3)
    weights = np.random.default_rng(7).lognormal(0, 1, 8000) * scale
    tally = counted(label, answers, labels, weights)
    found, wanted = tally.measure(), ORACLES[kind](answers, labels, weights, label)
    assert tuple(found) == label.metrics and set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=HISTOGRAM.get(name, 1e-6)), name
    # The weights matter here, and rows are still counted once.
    plain = counted(label, answers, labels)
    assert all(
        abs(found[name] - plain.measure()[name]) > 1e-5
        for name in found
        if name not in ("auc", "interval_width")
    )
    assert (tally.rows(), tally.class_rows()) == (8000, plain.class_rows())
    assert tally.confusion() == plain.confusion()


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_row_of_weight_3_is_three_rows(kind: str) -> None:
    """In every metric, in each replicate, in the gaps of calibration and in the facts about labels."""
    label = KINDS[kind]
    answers, labels = draw(kind, 3000, 5)
    times = np.random.default_rng(2).integers(1, 4, 3000)
    block, group = np.arange(3000) % 30, np.arange(3000) % 3 - 1
    once = label.make_tally(2, 30, weighted=True)
    once.add(answers, labels, block, group, times.astype(float))
    again = label.make_tally(2, 30)
    many = np.repeat(np.arange(3000), times)
    again.add(answers[many], labels[many], block[many], group[many])
    drawn, used = draw_weights(30, 50, 0), np.arange(30)
    for place in (0, 1):
        assert once.measure(place) == pytest.approx(again.measure(place), abs=1e-9)
        ours, theirs = (tally.resample(drawn, used, place) for tally in (once, again))
        for name, values in ours.items():
            # How much the spread of so few rows hides goes by the rows, not by what they weigh.
            close = 5e-4 if values.shape == (3, 50) else 1e-6
            assert values == pytest.approx(theirs[name], abs=close), name
        gaps = [tally.gaps(drawn, used, place) for tally in (once, again)]
        if gaps[0] is not None and gaps[1] is not None:
            assert gaps[0][0] == pytest.approx(gaps[1][0]) and gaps[0][1] == pytest.approx(
                gaps[1][1]
            )
        assert once.rows(place) == 1000
    assert once.describe(label.class_names) == pytest.approx(again.describe(label.class_names))
    assert once.count_calls() == pytest.approx(again.count_calls())


@pytest.mark.parametrize("kind", list(KINDS))
def test_equal_weights_change_nothing(kind: str) -> None:
    label = KINDS[kind]
    answers, labels = draw(kind, 2000, 6)
    assert counted(label, answers, labels, np.ones(2000)).measure() == pytest.approx(
        counted(label, answers, labels).measure(), abs=1e-12
    )


def test_a_number_is_described_by_its_weighted_mean_and_spread() -> None:
    answers, labels = draw("number", 2000, 8)
    weights = np.random.default_rng(1).lognormal(0, 1, 2000)
    found = counted(KINDS["number"], answers, labels, weights).describe(())
    mean = np.average(labels, weights=weights)
    assert found["mean"] == pytest.approx(mean)
    assert found["std"] == pytest.approx(np.average((labels - mean) ** 2, weights=weights) ** 0.5)
    assert KINDS["number"].make_tally().describe(()) == {}


def test_groups_are_weighed_and_their_rows_counted_once() -> None:
    answers, labels = draw("binary", 2000, 9)
    rng = np.random.default_rng(3)
    weights, group = rng.lognormal(0, 1, 2000), rng.integers(-1, 2, 2000)
    label = KINDS["binary"]
    tally = GroupTally(label, 2, 10)
    added = row_sums(label, "true_positive_rate", None, labels, answers)
    tally.add(added, np.arange(2000) % 10, group, weights)
    for place in (0, 1):
        rows = group == place
        wanted = oracle.recall_score(
            labels[rows], label.decide(answers)[rows], sample_weight=weights[rows]
        )
        assert tally.values()[place] == pytest.approx(wanted)
        assert tally.rows()[place] == labels[rows].sum()


SIMULATED = {"binary": "accuracy", "multiclass": "f1", "number": "mae"}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_weighted_interval_holds_the_truth_as_often_as_it_says(kind: str) -> None:
    """200 tests of 40 days each, which differ; rows that weigh more are answered worse."""
    label, metric, held = KINDS[kind], SIMULATED[kind], 0
    rng = np.random.default_rng(4)
    truth = _true_value(kind)
    for _ in range(200):
        day = np.repeat(np.arange(40), 50)
        heavy = rng.random(2000) < 0.3
        moved = rng.normal(0, 0.06, 40)[day]
        answers, labels = _simulate(kind, heavy, moved, rng)
        tally = label.make_tally(blocks=40, weighted=True)
        tally.add(answers, labels, day, weights=np.where(heavy, 4.0, 1.0))
        drawn = tally.resample(draw_weights(40, 200, 0), np.arange(40))[metric]
        low, high = percentile(drawn, 0.95)
        assert low is not None and high is not None
        held += low <= truth <= high
    assert 0.90 <= held / 200 <= 0.99


def _true_value(kind: str) -> float:
    """Of the rows that weigh 4 (three in ten) and 1, the first are right at .6 and the others at .8."""
    heavy = 0.3 * 4 / (0.3 * 4 + 0.7)
    right = heavy * 0.6 + (1 - heavy) * 0.8
    return 2 - 2 * right if kind == "number" else right


def _simulate(kind: str, heavy: Any, moved: Any, rng: Any) -> tuple[Any, Any]:
    rate = np.clip(np.where(heavy, 0.6, 0.8) + moved, 0, 1)
    if kind == "number":
        labels = rng.normal(0, 1, len(rate))
        off = (2 - 2 * rate) * rng.choice([-1, 1], len(rate))
        return np.repeat((labels + off)[:, None], 3, 1).astype(np.float32), labels
    right = rng.random(len(rate)) < rate
    if kind == "binary":
        labels = rng.integers(0, 2, len(rate)).astype(np.int8)
        called = np.where(right, labels, 1 - labels)
        return np.where(called == 1, 0.9, 0.1).astype(np.float32), labels
    labels = rng.integers(0, 4, len(rate)).astype(np.int32)
    # A wrong answer is any of the others, so that each class is called as often: F1 is accuracy.
    called = np.where(right, labels, (labels + rng.integers(1, 4, len(rate))) % 4)
    answers = np.full((len(rate), 4), 0.01, np.float32)
    answers[np.arange(len(rate)), called] = 0.97
    return answers, labels


def test_rows_of_unequal_weight_are_worth_fewer() -> None:
    sums = WeightSums()
    for part in ([1.0, 1.0], [1.0, 7.0]):
        sums.add(np.array(part))
    assert (sums.rows, sums.effective_rows) == (4, pytest.approx(100 / 52))
    sums.refuse_unfit("gate.weights (w)", "test", zero_weighs=False)


@pytest.mark.parametrize("weight", [1e-170, 1e155, 1e308])
def test_weights_whose_sums_are_no_numbers_are_refused(weight: float) -> None:
    sums = WeightSums()
    sums.add(np.full(5, weight))
    with pytest.raises(SlipwayError, match="so large or so small that their sum"):
        sums.refuse_unfit("gate.weights (w)", "test", zero_weighs=False)


def test_whole_numbers_that_no_double_holds_weigh_rows() -> None:
    column = pa.chunked_array([pa.array([2**53 + 1, 2**62 + 1], pa.int64())])
    assert read_weights(column, "gate.weights (w)").tolist() == [2.0**53, 2.0**62]
