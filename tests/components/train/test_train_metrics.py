"""Metrics against scikit-learn; calibration and threshold rules by their definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.components.train.data.tables import row_weights
from slipway.components.train.metrics import (
    Platt,
    at_threshold,
    auc,
    calibration_error,
    choose_threshold,
    fit_platt,
    log_loss,
)


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
    at = at_threshold(labels, probability, 0.5)
    predicted = probability >= 0.5
    assert at["f1"] == pytest.approx(metrics.f1_score(labels, predicted))
    assert at["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))


@pytest.mark.parametrize("rule", ["f1", "accuracy", "youden", "prevalence"])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_is_better(rule: str, seed: int) -> None:
    labels, probability = sample(seed)
    chosen = choose_threshold(labels, probability, rule)

    def quality(threshold: float) -> float:
        at = at_threshold(labels, probability, threshold)
        if rule in ("f1", "accuracy"):
            return at[rule]
        predicted = probability >= threshold
        if rule == "prevalence":
            return -abs(float(predicted.sum() - labels.sum()))
        return at["recall"] - float(predicted[labels == 0].mean())

    assert quality(chosen) >= max(quality(t) for t in np.unique(probability)) - 1e-9


def test_a_threshold_can_be_given() -> None:
    assert choose_threshold(np.array([0.0, 1.0]), np.array([0.1, 0.9]), 0.37) == 0.37


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
    weights = row_weights(labels, "balanced", None)
    assert weights[labels == 1].sum() == pytest.approx(weights[labels == 0].sum())
    assert weights.mean() == pytest.approx(1)
