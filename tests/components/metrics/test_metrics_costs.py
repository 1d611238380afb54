"""What wrong answers cost: the matrix, the threshold, the cheapest class, the expected cost."""

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn import metrics as sk

from slipway.components.config.features.label import Label
from slipway.components.metrics.costs import best_constant, cheapest, cost_matrix, cost_rule
from slipway.components.metrics.kinds.choose import from_facts, label_type, to_facts
from slipway.components.metrics.labels import reaches_threshold
from slipway.components.metrics.threshold import choose_threshold

CLASSES = ("ant", "bee", "cat")
COSTS = {"ant": {"bee": 5.0}, "cat": {"ant": 0.5, "cat": -1.0}}
BINARY = {"1": {"0": 10.0}, "0": {"1": 2.0}}


def test_a_pair_that_is_not_named_costs_one_and_a_right_answer_nothing() -> None:
    assert cost_matrix(COSTS, CLASSES).tolist() == [[0, 5, 1], [1, 0, 1], [0.5, 1, -1]]
    assert cost_matrix({}, CLASSES).tolist() == (1 - np.eye(3)).tolist()


def several(rows: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    answers = rng.dirichlet(np.ones(3), rows).astype(np.float32)
    return answers, (answers.cumsum(1) < rng.random((rows, 1))).sum(1).clip(0, 2)


def test_the_class_is_called_that_is_expected_to_cost_least() -> None:
    answers, _ = several(200)
    matrix = cost_matrix(COSTS, CLASSES)
    each = [
        [sum(float(row[t]) * matrix[t, a] for t in range(3)) for a in range(3)] for row in answers
    ]
    assert cheapest(answers, cost_rule(COSTS, CLASSES)).tolist() == np.argmin(each, 1).tolist()
    # Where every mistake costs the same the most probable class is called.
    assert (cheapest(answers, cost_rule({}, CLASSES)) == answers.argmax(1)).all()
    # A tie falls the same way however many rows are asked for at once.
    even = np.full((257, 3), np.float32(1 / 3))
    assert set(cheapest(even, cost_rule({}, CLASSES))) == {0}


def label(kind: str) -> Any:
    if kind == "multiclass":
        return label_type("multiclass", classes=CLASSES, costs=COSTS)
    return label_type("binary", threshold=0.3, costs=BINARY)


def rows_of(kind: str, rows: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    if kind == "multiclass":
        return several(rows)
    rng = np.random.default_rng(1)
    answers = rng.random(rows).astype(np.float32)
    return answers, (rng.random(rows) < answers).astype(int)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_the_expected_cost_is_that_of_scikit_learns_confusion(kind: str) -> None:
    made = label(kind)
    answers, labels = rows_of(kind)
    matrix = cost_matrix(made.costs, made.class_names)
    confusion = sk.confusion_matrix(labels, made.decide(answers), normalize="all")
    wanted = float((confusion * matrix).sum())
    assert made.metrics[-1] == "expected_cost"
    assert made.measure(labels, answers)["expected_cost"] == pytest.approx(wanted)
    tally = made.make_tally(blocks=20)
    block = np.arange(len(labels)) % 20
    tally.add(answers, labels, block)
    assert tally.measure()["expected_cost"] == pytest.approx(wanted)
    assert tuple(tally.measure()) == made.metrics
    weights = np.random.default_rng(0).multinomial(20, [1 / 20] * 20, 5).astype(float)
    drawn = tally.resample(weights, np.arange(20))["expected_cost"]
    for replicate, times in zip(drawn, weights, strict=True):
        again = np.repeat(np.arange(len(labels)), times[block].astype(int))
        cost = matrix[labels[again], made.decide(answers[again])].mean()
        assert replicate == pytest.approx(cost)
    assert (
        np.asarray(tally.confusion()).tolist()
        == sk.confusion_matrix(labels, made.decide(answers)).tolist()
    )


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_without_costs_nothing_more_is_measured(kind: str) -> None:
    made: Any = (
        label_type("multiclass", classes=CLASSES)
        if kind == "multiclass"
        else label_type("binary", threshold=0.3)
    )
    answers, labels = rows_of(kind, 300)
    tally = made.make_tally(blocks=1)
    tally.add(answers, labels, np.zeros(300, int))
    for found in (made.metrics, made.measure(labels, answers), tally.measure()):
        assert "expected_cost" not in found
    assert "costs" not in made.settings and "costs" not in made.facts()
    assert "costs" not in to_facts(made)


@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_costs_least_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers = rng.random(400).astype(np.float32)
    labels = (rng.random(400) < answers).astype(float)
    matrix = cost_matrix(BINARY, ("0", "1"))

    def cost(threshold: float) -> float:
        return float(matrix[labels.astype(int), (answers >= threshold).astype(int)].mean())

    chosen = choose_threshold(labels, answers, "cost", matrix)
    best = min(cost(threshold) for threshold in [0.0, *(answers + 1e-6)])
    assert cost(chosen) == pytest.approx(best)
    # Of calibrated probabilities it lies near what the costs alone say: 2 / (2 + 10).
    assert 0.05 < chosen < 0.35
    assert choose_threshold(labels, answers, "cost", cost_matrix({}, ("0", "1"))) == pytest.approx(
        0.5, abs=0.15
    )


def test_where_a_false_alarm_costs_more_than_all_no_row_is_called() -> None:
    answers = np.array([0.2, 0.9, 0.6], np.float32)
    labels = np.array([0.0, 0.0, 1.0])
    dear = cost_matrix({"0": {"1": 1e6}}, ("0", "1"))
    threshold = choose_threshold(labels, answers, "cost", dear)
    assert 0.9 < threshold < 1
    # As the label rule has it, which rounds to float32: also where a model is as sure as that can say.
    for surest in (0.9, np.nextafter(np.float32(1), np.float32(0)), 1.0):
        sure = np.array([0.2, surest, 0.6], np.float32)
        assert not reaches_threshold(sure, choose_threshold(labels, sure, "cost", dear)).any()


def test_the_best_constant_answer() -> None:
    matrix = cost_matrix({"1": {"0": 10.0}, "0": {"1": 2.0}}, ("0", "1"))
    assert best_constant(np.array([90.0, 10.0]), matrix) == (0, pytest.approx(1.0))
    assert best_constant(np.array([70.0, 30.0]), matrix) == (1, pytest.approx(1.4))
    binary = label("binary").constants({"0": 90, "1": 10}, {})["expected_cost"]
    assert binary == (pytest.approx(1.0), "always answering 0")
    value, answer = label("multiclass").constants({"ant": 10, "bee": 10, "cat": 80}, {})[
        "expected_cost"
    ]
    assert (value, answer) == (pytest.approx(0.1 + 0.1 - 0.8), "always answering cat")


def test_ties_are_where_a_little_could_turn_the_answer() -> None:
    made = label("multiclass")
    answers, _ = several(2000, 4)
    tied = made.is_tied(answers, 0.01)
    assert 0 < tied.sum() < len(answers)
    for moved in (answers + 0.01 * np.eye(3, dtype=np.float32)[k] for k in range(3)):
        changed = cheapest(moved, cost_rule(COSTS, CLASSES)) != made.decide(answers)
        assert not (changed & ~tied).any()


def test_another_models_answers_are_held_against_our_costs() -> None:
    """Each decides as it does itself."""
    answers, labels = several(500, 2)
    plain = label_type("multiclass", classes=CLASSES)
    judged = plain.measured_as(label("multiclass"))
    assert (judged.decide(answers) == answers.argmax(1)).all()
    matrix = cost_matrix(COSTS, CLASSES)
    cost = judged.measure(labels, answers)["expected_cost"]
    assert cost == pytest.approx(matrix[labels, answers.argmax(1)].mean())
    # By its own costs the model does better, on labels that follow its probabilities.
    assert label("multiclass").measure(labels, answers)["expected_cost"] < cost
    binary = label_type("binary", threshold=0.7).measured_as(label("binary"))
    assert (binary.settings["threshold"], binary.metrics[-1]) == (0.7, "expected_cost")


def test_what_a_client_and_a_record_are_told() -> None:
    made = label("multiclass")
    assert json.loads(made.facts()["costs"]) == COSTS
    assert from_facts(to_facts(made)).decide(several(50)[0]).tolist() == (
        made.decide(several(50)[0]).tolist()
    )
    called = made.respond(several(50)[0])
    assert called["label"].tolist() == [CLASSES[p] for p in made.decide(several(50)[0])]


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"kind": "number", "costs": {"1": {"0": 2}}},
        "`costs` are of classes, and this label is a number",
    ),
    ({"costs": {"yes": {"no": 2}}}, "`costs` name no, yes; the classes are 0, 1"),
    (
        {"kind": "multiclass", "classes": ["a", "b"], "costs": {"a": {"c": 2}}},
        "`costs` name c; the classes are a, b",
    ),
    ({"costs": {1: {0: -3}}}, "answering 0 where 1 is true costs -3, less than the right answer"),
    ({"costs": {1: {1: 2}}}, "answering 0 where 1 is true costs 1, less than the right answer"),
    ({"costs": {1: {0: float("nan")}}}, "finite number"),
    ({"costs": {}}, "at least 1 item"),
]


@pytest.mark.parametrize(("given", "says"), REFUSED, ids=[str(case[0]) for case in REFUSED])
def test_costs_that_make_no_sense_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Label.model_validate({"column": "x", **given})


def test_classes_that_yaml_reads_as_numbers_are_texts() -> None:
    made = Label.model_validate({"column": "x", "costs": {1: {0: 5}, 0.0: {1: 2}}})
    assert made.costs == {"1": {"0": 5.0}, "0": {"1": 2.0}}
