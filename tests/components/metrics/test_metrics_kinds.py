"""The metrics of several classes and of numbers against scikit-learn, exactly and as tallies."""

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from sklearn import metrics as oracle

from slipway.components.config.kinds import METRICS
from slipway.components.metrics.intervals import chance_auc_error, chance_mean_auc_error
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import from_facts, label_type, to_facts
from slipway.components.metrics.kinds.multiclass import MulticlassLabel
from slipway.components.metrics.multiclass import mean_auc
from slipway.components.metrics.multiclass_tally import MulticlassTally
from slipway.components.metrics.number import concordance
from slipway.components.support.errors import SlipwayError

NAMES = ("ant", "bee", "cat", "dog")


def draw_classes(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows).astype(np.int32)
    odds = rng.normal(0, 1, (rows, classes))
    odds[np.arange(rows), labels] += 1.3
    shares = np.exp(odds)
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32), labels


def draw_numbers(rows: int, seed: int, centre: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    value = rng.normal(centre, 10, rows)
    labels = value + rng.normal(0, 4, rows)
    return np.stack([value, value - 6.6, value + 6.6], 1).astype(np.float32), labels


def counted(kind: LabelType, answers: np.ndarray, labels: np.ndarray, blocks: int = 20):
    tally = kind.make_tally(blocks=blocks)
    for start in range(0, len(labels), 700):
        part = slice(start, start + 700)
        tally.add(answers[part], labels[part], np.arange(len(labels))[part] % blocks)
    return tally


def sklearn_classes(answers: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    exact = answers.astype(np.float64)
    exact /= exact.sum(1, keepdims=True)
    called = answers.argmax(1)
    one_hot = np.eye(answers.shape[1])[labels]
    return {
        "accuracy": oracle.accuracy_score(labels, called),
        "f1": oracle.f1_score(labels, called, average="macro"),
        "weighted_f1": oracle.f1_score(labels, called, average="weighted"),
        "precision": oracle.precision_score(labels, called, average="macro", zero_division=0),
        "recall": oracle.recall_score(labels, called, average="macro", zero_division=0),
        "auc": oracle.roc_auc_score(labels, exact, multi_class="ovr"),
        "log_loss": oracle.log_loss(labels, exact),
        "brier": ((answers.astype(np.float64) - one_hot) ** 2).sum(1).mean(),
    }


@pytest.mark.parametrize(("classes", "seed"), [(3, 0), (4, 1), (12, 2)])
def test_metrics_of_classes_are_those_of_sklearn(classes: int, seed: int) -> None:
    answers, labels = draw_classes(9000, classes, seed)
    kind = label_type("multiclass", classes=tuple(map(str, range(classes))))
    exact, found = kind.measure(labels, answers), counted(kind, answers, labels).measure()
    assert tuple(exact) == tuple(found) == METRICS["multiclass"]
    for name, value in sklearn_classes(answers, labels).items():
        assert exact[name] == pytest.approx(value, abs=1e-6), name
        assert found[name] == pytest.approx(value, abs=3e-5 if name == "auc" else 1e-6), name
    assert found["calibration_error"] == pytest.approx(exact["calibration_error"], abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_absent_and_never_called_classes_count_as_sklearn_counts_them(rows) -> None:
    labels = np.array([actual for actual, _ in rows], np.int32)
    called = np.array([called for _, called in rows])
    answers = np.full((len(rows), 4), 0.1, np.float32)
    answers[np.arange(len(rows)), called] = 0.7
    found = label_type("multiclass", classes=NAMES).measure(labels, answers)
    with np.errstate(all="ignore"):
        for name, average in (("f1", "macro"), ("weighted_f1", "weighted")):
            expected = oracle.f1_score(labels, called, average=average, zero_division=0)
            assert found[name] == pytest.approx(expected, abs=1e-12), name
    assert math.isnan(found["auc"]) == (len(set(labels)) < 2)


def test_the_confusion_matrix_and_the_rows_of_classes() -> None:
    answers, labels = draw_classes(2000, 4, 5)
    tally = counted(label_type("multiclass", classes=NAMES), answers, labels)
    assert tally.confusion() == oracle.confusion_matrix(labels, answers.argmax(1)).tolist()
    assert tally.class_rows() == tuple(np.bincount(labels).tolist())
    assert tally.rows() == 2000


@pytest.mark.parametrize(
    ("classes", "groups", "blocks"), [(2, 1, 1000), (1000, 1, 1000), (10, 200, 100)]
)
def test_memory_of_a_tally_is_bounded(classes: int, groups: int, blocks: int) -> None:
    tally = MulticlassTally(classes, groups, blocks)
    tables = (tally.scores, tally.fine, tally.counts, tally.sums, tally.calibration, tally.pairs)
    assert sum(table.nbytes for table in tables) < 350e6
    assert tally.fine.shape[2] % tally.bins == 0


def sklearn_numbers(answers: np.ndarray, labels: np.ndarray, level: float) -> dict[str, float]:
    value, low, high = answers.astype(np.float64).T
    tail = (1 - level) / 2
    return {
        "rmse": oracle.root_mean_squared_error(labels, value),
        "mae": oracle.mean_absolute_error(labels, value),
        "r2": oracle.r2_score(labels, value),
        "pinball": (
            oracle.mean_pinball_loss(labels, low, alpha=tail)
            + oracle.mean_pinball_loss(labels, high, alpha=1 - tail)
        )
        / 2,
        "coverage": float(((labels >= low) & (labels <= high)).mean()),
        "interval_width": float((high - low).mean()),
    }


@pytest.mark.parametrize("centre", [0.0, 50.0, -1e6])
def test_metrics_of_numbers_are_those_of_sklearn(centre: float) -> None:
    answers, labels = draw_numbers(9000, 3, centre)
    kind = label_type("number", level=0.9)
    exact, found = kind.measure(labels, answers), counted(kind, answers, labels).measure()
    assert tuple(exact) == tuple(found) == METRICS["number"]
    for name, value in sklearn_numbers(answers, labels, 0.9).items():
        assert exact[name] == pytest.approx(value, rel=1e-9), name
        assert found[name] == pytest.approx(value, rel=1e-9), name


def test_a_constant_label_has_no_r2() -> None:
    kind = label_type("number")
    answers = np.array([[1, 0, 2], [2, 1, 3]], np.float32)
    assert math.isnan(kind.measure(np.array([5.0, 5.0]), answers)["r2"])


def test_replicates_of_the_auc_lie_around_the_auc() -> None:
    answers, labels = draw_classes(4000, 12, 8)
    kind = label_type("multiclass", classes=tuple(map(str, range(12))))
    tally = kind.make_tally(blocks=1000)
    tally.add(answers, labels, np.arange(4000) % 1000)
    same = tally.resample(np.ones((1, 1000)), np.arange(1000))
    for name, value in tally.measure().items():
        first = np.atleast_2d(same[name])[0]
        assert first == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("rows", [(2,) * 200, (30, 30), (1, 2, 3, 200), (50, 5, 5, 5, 5)])
def test_chance_of_a_mean_auc_is_as_wide_as_chance_is(rows: tuple[int, ...]) -> None:
    """Not narrower, and not so wide that it says nothing: with 1,000 classes it once held -0.5 to 1.5."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(rows)), rows)
    error, seen = chance_mean_auc_error(np.array(rows)), []
    answers = rng.dirichlet(np.ones(len(rows)), len(labels)).astype(np.float32)
    for _ in range(100):
        seen.append(mean_auc(rng.permutation(labels), answers))
    assert np.std(seen) < 1.2 * error < 2.4 * np.std(seen)
    assert len(rows) > 2 or error == pytest.approx(chance_auc_error(*rows))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "number"])
def test_shuffled_labels_leave_chance_and_true_ones_do_not(kind: str) -> None:
    rule = label_type(kind, classes=NAMES)
    if kind == "number":
        answers, labels = draw_numbers(3000, 1)
    else:
        answers, labels = draw_classes(3000, 4, 1)
        if kind == "binary":
            answers, labels = answers[:, 1], (labels == 1).astype(np.int8)
    for truth, told in ((labels, True), (np.random.default_rng(0).permutation(labels), False)):
        tally = rule.make_tally(blocks=1)
        tally.add(answers, truth, np.zeros(3000, np.int64))
        value, expected, error = tally.measure_chance()
        assert (abs(value - expected) > 5 * error) == told


@pytest.mark.parametrize(
    ("kind", "answers", "sound"),
    [
        ("binary", [0.0, 1.0, 1.1, -0.1, math.nan], [True, True, False, False, False]),
        (
            "multiclass",
            [[0.25] * 4, [1, 0, 0, 0], [0.5] * 4, [1.5, -0.5, 0, 0], [math.nan] * 4],
            [True, True, False, False, False],
        ),
        (
            "number",
            [[1, 0, 2], [1, 1, 1], [3, 0, 2], [1, -math.inf, 2], [math.nan, 0, 2]],
            [True, True, False, False, False],
        ),
    ],
)
def test_what_an_answer_may_be(kind: str, answers: list, sound: list[bool]) -> None:
    rule = label_type(kind, classes=NAMES)
    given_answers = np.array(answers, np.float32)
    found = rule.is_sound(given_answers)
    assert found.tolist() == sound
    assert rule.is_sound(rule.replace_unsound(given_answers, found)).all()


def test_logged_answers_come_back_as_they_were() -> None:
    for kind, answers in (
        ("binary", draw_classes(50, 4, 1)[0][:, 0]),
        ("multiclass", draw_classes(50, 4, 2)[0]),
        ("number", draw_numbers(50, 2)[0]),
    ):
        rule = label_type(kind, classes=NAMES)
        columns = rule.to_columns(answers)
        schema = pa.schema(rule.columns())
        assert list(columns) == schema.names
        table = pa.table(columns).cast(schema)
        assert (rule.from_columns(table) == answers).all()


def test_answers_of_another_number_of_classes_are_refused() -> None:
    logged = pa.table(label_type("multiclass", classes=NAMES).to_columns(draw_classes(5, 4, 1)[0]))
    with pytest.raises(SlipwayError, match="4 probabilities, and the model has 3 classes"):
        label_type("multiclass", classes=NAMES[:3]).from_columns(logged)


def test_what_is_served_is_what_was_decided() -> None:
    answers, _ = draw_classes(100, 4, 3)
    rule = label_type("multiclass", classes=NAMES)
    served = rule.respond(answers)
    assert served["label"].tolist() == [NAMES[place] for place in rule.decide(answers)]
    assert (served["probability"] == answers.max(1)).all()
    assert [output.name for output in rule.outputs] == list(served)
    numbers = label_type("number").respond(np.array([[5, 3, 8]], np.float32))
    assert {name: values.tolist() for name, values in numbers.items()} == {
        "value": [5],
        "low": [3],
        "high": [8],
    }


def test_what_calibrated_answers_let_expect_comes_true() -> None:
    rng = np.random.default_rng(6)
    shares = rng.dirichlet(np.ones(4), 200_000)
    labels = (shares.cumsum(1) < rng.random((200_000, 1))).sum(1).clip(0, 3)
    answers = shares.astype(np.float32)
    rule = label_type("multiclass", classes=NAMES)
    measured = rule.measure(labels, answers)
    for name, value in rule.expect(answers).items():
        assert value == pytest.approx(measured[name], abs=0.004), name


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_concordance_is_the_share_of_pairs_in_the_same_order(rows) -> None:
    labels, scores = np.array(rows).T
    told = [
        (np.sign(a - b) == np.sign(x - y)) + 0.5 * (x == y)
        for i, (a, x) in enumerate(rows)
        for b, y in rows[:i]
        if a != b
    ]
    found = concordance(labels, scores.astype(float))
    assert math.isnan(found) if not told else found == pytest.approx(np.mean(told))


@pytest.mark.parametrize("digits", [0, 2, 9])
def test_concordance_of_many_rows_is_that_of_scipy(digits: int) -> None:
    rng = np.random.default_rng(digits)
    labels = rng.integers(0, 700, 20_000) if digits else rng.normal(size=20_000)
    scores = np.round(labels / 300 + rng.normal(size=20_000), digits)
    found = concordance(labels, scores)
    # tau-b divides by what is untied in either; here only pairs with different labels count.
    tau = kendalltau(labels, scores).statistic
    told, pairs = (untied_pairs(values) for values in (scores, labels))
    assert found == pytest.approx((tau * math.sqrt(told / pairs) + 1) / 2, abs=1e-12)


def untied_pairs(values: np.ndarray) -> float:
    rows = np.unique(values, return_counts=True)[1].astype(float)
    return float(len(values) * (len(values) - 1) - (rows * (rows - 1)).sum()) / 2


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [([], [], None), ([3.0], [1.0], None), ([2.0, 2.0], [1.0, 5.0], None),
     ([1.0, 2.0], [0.0, math.nan], None), ([1.0, 2.0], [7.0, 7.0], 0.5),
     ([1.0, 2.0], [-math.inf, math.inf], 1.0), ([1.0, 2.0], [2.0, 1.0], 0.0)],
)  # fmt: skip
def test_concordance_where_there_is_little_to_order(labels, scores, expected) -> None:
    found = concordance(np.array(labels), np.array(scores))
    assert math.isnan(found) if expected is None else found == expected


def test_concordance_of_two_classes_is_the_auc() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 500)
    scores = np.round(labels + rng.normal(0, 1, 500), 1)
    assert concordance(labels, scores) == pytest.approx(oracle.roc_auc_score(labels, scores))


def test_measures_of_single_classes_are_those_of_sklearn() -> None:
    answers, labels = draw_classes(5000, 4, 9)
    found = counted(label_type("multiclass", classes=NAMES), answers, labels).measure_classes()
    called = answers.argmax(1)
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(labels, called)
    area = [oracle.roc_auc_score(labels == place, answers[:, place]) for place in range(4)]
    assert found["precision"] == pytest.approx(precision)
    assert found["recall"] == pytest.approx(recall) and found["f1"] == pytest.approx(f1)
    assert found["auc"] == pytest.approx(area, abs=1e-4)


def test_what_constant_classes_reach_is_what_sklearn_measures() -> None:
    labels = np.repeat([0, 1, 3], [200, 500, 300]).astype(np.int32)
    kind = label_type("multiclass", classes=NAMES)
    found = kind.constants(kind.describe(labels), {})
    shares = np.tile(np.bincount(labels, minlength=4) / 1000, (1000, 1))
    always = np.eye(4)[np.ones(1000, int)]
    called = kind.measure(labels, always.astype(np.float32))
    usual = kind.measure(labels, shares)
    expected = {
        name: called[name] for name in ("accuracy", "f1", "weighted_f1", "precision", "recall")
    }
    expected |= {name: usual[name] for name in ("auc", "log_loss", "brier")}
    assert {name: value for name, (value, _) in found.items()} == pytest.approx(expected)
    assert found["accuracy"][1] == "always answering bee"
    assert kind.constants({"bee": 10}, {}) == {}


def test_what_a_constant_number_reaches_is_what_sklearn_measures() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(50, 10, 400), rng.normal(52, 9, 300)
    kind = label_type("number", level=0.9)
    found = kind.constants(kind.describe(test), kind.describe(train))
    same = np.full(300, train.mean())
    assert found["r2"][0] == pytest.approx(oracle.r2_score(test, same))
    assert found["rmse"][0] == pytest.approx(oracle.root_mean_squared_error(test, same))
    assert kind.constants({}, {}) == {} and kind.constants(kind.describe(test), {}) == {}


@pytest.mark.parametrize("kind", ["binary", "multiclass", "number"])
def test_served_outputs_are_read_back_as_the_answers(kind) -> None:
    label = label_type(kind, threshold=0.4, classes=NAMES, level=0.9)
    drawn = {
        "binary": np.linspace(0, 1, 7, dtype=np.float32),
        "multiclass": draw_classes(7, 4, 1)[0],
        "number": draw_numbers(7, 1)[0],
    }
    served = label.respond(drawn[kind])
    assert set(served) == {output.name for output in label.outputs}
    assert np.array_equal(label.read_response(served), drawn[kind])
    width = drawn[kind].shape[1:]
    assert len(label.answer_names) == (width[0] if width else 0)


def with_sets(threshold: float = 0.25, **more: Any) -> MulticlassLabel:
    made = label_type(
        "multiclass", classes=("a", "b", "c", "d"), level=0.9, set_threshold=threshold, **more
    )
    assert isinstance(made, MulticlassLabel)
    return made


@pytest.mark.parametrize("costs", [{}, {"a": {"d": 0.01}}], ids=["plain", "with costs"])
def test_sets_hold_what_reaches_the_threshold_and_what_is_called(costs: dict[str, Any]) -> None:
    made = with_sets(0.4, costs=costs)
    rng = np.random.default_rng(3)
    answers = rng.dirichlet(np.ones(4), 800).astype(np.float32)
    labels = rng.integers(0, 4, 800)
    called = made.decide(answers)
    wanted = [
        {k for k in range(4) if row[k] >= np.float32(0.4)} | {int(call)}
        for row, call in zip(answers, called, strict=True)
    ]
    assert [set(np.flatnonzero(row)) for row in made.sets(answers)] == wanted
    served = made.respond(answers)["set"]
    assert [json.loads(text) for text in served] == [["abcd"[k] for k in sorted(s)] for s in wanted]
    coverage = np.mean([label in s for label, s in zip(labels, wanted, strict=True)])
    found = made.measure(labels, answers)
    assert found["coverage"] == pytest.approx(coverage)
    assert found["set_size"] == pytest.approx(np.mean([len(s) for s in wanted]))
    assert tuple(found) == made.metrics
    tally = made.make_tally(blocks=10)
    block = np.arange(800) % 10
    tally.add(answers, labels, block)
    assert tally.measure() == pytest.approx(found, abs=2e-3)
    weights = np.random.default_rng(0).multinomial(10, [0.1] * 10, 4).astype(float)
    drawn = tally.resample(weights, np.arange(10))
    for place, times in enumerate(weights):
        again = np.repeat(np.arange(800), times[block].astype(int))
        exact = made.measure(labels[again], answers[again])
        for name in ("coverage", "set_size"):
            assert drawn[name][place] == pytest.approx(exact[name])


def test_a_model_without_sets_says_nothing_of_them() -> None:
    made = label_type("multiclass", classes=("a", "b"), level=0.9)
    answers = np.array([[0.7, 0.3]], np.float32)
    assert set(made.respond(answers)) == {"probabilities", "probability", "label"}
    assert "coverage" not in made.metrics and made.noun == "one of 2 classes"
    assert to_facts(made) == {"kind": "multiclass", "classes": ["a", "b"], "level": 0.0}
    assert "level" not in made.facts()
    back = from_facts(to_facts(with_sets()))
    assert back == with_sets() and back.facts()["set_threshold"] == "0.25"
    assert [output.name for output in back.outputs][-1] == "set"


def test_a_class_at_the_edge_of_the_set_may_fall_either_way() -> None:
    made = with_sets(0.25)
    answers = np.array([[0.7, 0.2500001, 0.03, 0.02], [0.7, 0.2, 0.05, 0.05]], np.float32)
    assert made.is_tied(answers, 1e-5).tolist() == [True, False]
