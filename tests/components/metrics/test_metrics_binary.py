"""Metrics against scikit-learn; calibration and threshold rules by their definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.components.config.training import TrainingConfig
from slipway.components.metrics.binary import auc, expected, log_loss, measure
from slipway.components.metrics.labels import reaches_threshold
from slipway.components.metrics.threshold import choose_threshold
from slipway.components.train.data.tables import row_weights
from slipway.components.train.heads.binary import BinaryHead
from slipway.components.train.heads.platt import Platt, fit_platt


def sample(seed: int, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    probability = np.round(random.random(rows), 2)
    labels = (random.random(rows) < probability).astype(float)
    labels[:2] = 0, 1
    return labels, probability


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.booleans())
def test_auc_and_log_loss_are_scikit_learns(seed: int, weighted: bool) -> None:
    from sklearn import metrics

    labels, probability = sample(seed, 50)
    weights = np.random.default_rng(seed).random(50) + 0.1 if weighted else None
    assert auc(labels, probability, weights) == pytest.approx(
        metrics.roc_auc_score(labels, probability, sample_weight=weights)
    )
    inner = probability.clip(0.01, 0.99)
    assert log_loss(labels, inner, weights) == pytest.approx(
        metrics.log_loss(labels, inner, sample_weight=weights)
    )


def calibration_error(labels: np.ndarray, probability: np.ndarray) -> float:
    return measure(labels, probability, probability >= 0.5)["calibration_error"]


@pytest.mark.parametrize("rule", ["f1", "accuracy", "youden", "prevalence"])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_is_better(rule: str, seed: int) -> None:
    labels, probability = sample(seed)
    chosen = choose_threshold(labels, probability, rule)

    def quality(threshold: float) -> float:
        predicted = reaches_threshold(probability, threshold)
        at = measure(labels, probability, predicted)
        if rule in ("f1", "accuracy"):
            return at[rule]
        if rule == "prevalence":
            return -abs(float(predicted.sum() - labels.sum()))
        return at["recall"] - float(predicted[labels == 0].mean())

    assert quality(chosen) >= max(quality(t) for t in np.unique(probability)) - 1e-9


def test_a_threshold_can_be_given() -> None:
    assert choose_threshold(np.array([0.0, 1.0]), np.array([0.1, 0.9]), 0.37) == 0.37


@pytest.mark.parametrize("rule", ["f1", "accuracy", "youden", "prevalence"])
def test_a_threshold_parts_two_scores_that_are_neighbours_in_float32(rule: str) -> None:
    upper = np.float32(0.7)
    lower = np.nextafter(upper, np.float32(0))
    probability = np.array([upper, lower, lower], np.float32)
    threshold = choose_threshold(np.array([1.0, 0.0, 0.0]), probability, rule)
    assert reaches_threshold(probability, threshold).tolist() == [True, False, False]


def test_what_is_expected_without_labels_is_what_calibrated_labels_give() -> None:
    random = np.random.default_rng(0)
    probability = random.random(200_000)
    labels = (random.random(200_000) < probability).astype(float)
    called = reaches_threshold(probability, 0.4)
    measured = measure(labels, probability, called)
    for name, value in expected(probability, called).items():
        assert value == pytest.approx(measured[name], abs=0.004)


def test_platt_corrects_what_was_distorted() -> None:
    random = np.random.default_rng(0)
    truth = random.random(20_000)
    labels = (random.random(20_000) < truth).astype(float)
    logit = np.log(truth / (1 - truth))
    distorted = 1 / (1 + np.exp(-(2 * logit + 1)))
    platt = fit_platt(labels, distorted)
    assert platt.slope == pytest.approx(0.5, abs=0.03)
    assert platt.offset == pytest.approx(-0.5, abs=0.05)
    before = calibration_error(labels, distorted)
    after = calibration_error(labels, platt(distorted))
    assert before > 0.08
    assert after < 0.015
    assert auc(labels, platt(distorted)) == pytest.approx(auc(labels, distorted))


def test_platt_never_turns_the_order_around() -> None:
    labels, probability = sample(1)
    assert fit_platt(labels, 1 - probability.clip(0.01, 0.99)) == Platt()


def test_balanced_weights_give_both_classes_the_same_total() -> None:
    labels = np.array([1, 0, 0, 0, 0], np.float32)
    config = TrainingConfig(positive_weight="balanced")
    weights = row_weights(labels, BinaryHead(), config, None)
    assert weights[labels == 1].sum() == pytest.approx(weights[labels == 0].sum())
    assert weights.mean() == pytest.approx(1)
