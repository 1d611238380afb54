"""Metrics from labels against scikit-learn, the joining of labels, and the estimate without them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from sklearn import metrics as sk
from support.customers_world import CONFIG
from support.datasets import write_dataset

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.metrics.binary import expected
from slipway.components.metrics.intervals import of_auc, wilson
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.monitor.measures.performance import (
    KnownLabels,
    measure,
    measure_rows,
    read_known_labels,
)

BINARY = label_type("binary")
NOON = datetime(2013, 12, 9, 12, tzinfo=UTC)


def sample(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    r = np.random.default_rng(seed)
    probability = r.beta(1, 2, n).round(2)
    actual = (r.random(n) < probability).astype(np.int8)
    return actual, probability, (probability >= 0.4).astype(np.int8)


def answers(keys: list[str | None], probability: Any, label: Any, minutes: Any = None) -> pa.Table:
    n = len(keys)
    shifts = minutes if minutes is not None else range(n)
    return pa.table(
        {
            "key": pa.array(keys, pa.string()),
            "time": pa.array(
                [NOON + timedelta(minutes=int(m)) for m in shifts], pa.timestamp("us", "UTC")
            ),
            "probability": pa.array(probability, pa.float64()),
            "label": pa.array(label, pa.int8()),
        }
    )


def labels(keys: list[str], actual: Any, hours: float = 5) -> KnownLabels:
    rows = pl.DataFrame(
        {
            "key": keys,
            "actual": np.asarray(actual, np.int8),
            "known_at": [NOON + timedelta(hours=hours)] * len(keys),
        },
        schema_overrides={"known_at": pl.Datetime("us", "UTC")},
    )
    return KnownLabels(rows=rows, kind="binary")


def test_labels_without_a_time_are_all_known_and_wait_for_nothing(tmp_path: Path) -> None:
    table = pl.DataFrame({"customer_id": [1, 2, 3, 4], "churned": [1, 0, None, 1]})
    dataset = write_dataset(tmp_path / "labels", {"customers": table}, None)
    features = FeaturesConfig.model_validate(CONFIG)
    found = read_known_labels(dataset, features, NOON)
    assert found.rows.select("key", "actual").rows() == [("1", 1), ("2", 0), ("4", 1)]
    done = measure(answers(["1", "2", "3"], [0.9, 0.2, 0.6], [1, 0, 1]), found, BINARY)
    assert (done.labelled, done.accuracy, done.delay_hours) == (2, 1.0, None)


@pytest.mark.parametrize("name", ["brier", "log_loss", "calibration_error"])
def test_intervals_of_calibration_hold_the_true_value(name: str) -> None:
    """Over 200 windows; a model whose probabilities are a tenth too low."""
    r = np.random.default_rng(12)

    def window(n: int) -> Any:
        true = r.beta(2, 2, n) * 0.8 + 0.1
        actual = (r.random(n) < true).astype(np.int8)
        return measure_rows(actual, true - 0.1, (true >= 0.5).astype(np.int8))

    exact = window(500_000)[0][name]
    found = [window(1_000)[1][name] for _ in range(200)]
    covered = np.mean([low <= exact <= high for low, high in found])
    assert 0.9 <= covered <= 0.995
    assert np.mean([high - low for low, high in found]) < 0.15


def test_metrics_are_those_of_scikit_learn() -> None:
    actual, probability, predicted = sample(2_000)
    values, intervals = measure_rows(actual, probability, predicted)
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(actual, predicted))
    assert values["f1"] == pytest.approx(sk.f1_score(actual, predicted))
    assert values["auc"] == pytest.approx(sk.roc_auc_score(actual, probability))
    assert values["brier"] == pytest.approx(sk.brier_score_loss(actual, probability))
    assert values["log_loss"] == pytest.approx(
        sk.log_loss(actual, np.clip(probability, 1e-7, 1 - 1e-7))
    )
    assert values["calibration_error"] is not None and values["calibration_error"] < 0.05
    for name, (low, high) in intervals.items():
        assert low < values[name] < high  # type: ignore[operator]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth, _ = measure_rows(*sample(200_000, seed=99))
    covered = {"accuracy": 0, "f1": 0, "auc": 0}
    for seed in range(200):
        _, intervals = measure_rows(*sample(500, seed))
        for name in covered:
            low, high = intervals[name]
            covered[name] += low <= truth[name] <= high  # type: ignore[operator]
    assert all(0.90 <= hits / 200 <= 1.0 for hits in covered.values()), covered


def test_an_auc_needs_both_classes() -> None:
    values, intervals = measure_rows(np.ones(3, np.int8), np.full(3, 0.5), np.ones(3, np.int8))
    assert values["auc"] is None and "auc" not in intervals


def test_intervals_stay_within_0_and_1() -> None:
    assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-12)
    assert wilson(10, 10)[1] == pytest.approx(1)
    assert of_auc(1.0, 5, 5) == (1.0, 1.0)


def test_the_last_prediction_of_an_example_counts() -> None:
    log = answers(["a", "a", "b"], [0.9, 0.1, 0.2], [1, 0, 0], minutes=[0, 30, 5])
    found = measure(log, labels(["a", "b"], [0, 0]), BINARY)
    assert (found.predictions, found.labelled, found.accuracy) == (2, 2, 1.0)


def test_unlabelled_rows_and_rows_without_a_key_are_counted() -> None:
    log = answers(["a", "b", None, None], [0.9, 0.1, 0.2, 0.3], [1, 0, 0, 0])
    found = measure(log, labels(["a", "zzz"], [1, 1]), BINARY)
    assert (found.predictions, found.labelled, found.positives) == (4, 1, 1)
    assert found.unlabelled_share == 0.75
    assert found.delay_hours == {"median": 5.0, "p95": 5.0}


def test_without_labels_there_is_an_estimate_and_nothing_else() -> None:
    found = measure(answers(["a"], [0.9], [1]), labels(["b"], [1]), BINARY)
    assert found.accuracy is None and found.unlabelled_share == 1.0
    assert found.estimate == {"accuracy": pytest.approx(0.9), "f1": pytest.approx(1.8 / 1.9)}


def test_the_estimate_is_right_where_probabilities_are_and_says_how_wrong_it_was() -> None:
    actual, probability, predicted = sample(50_000)
    keys = [str(i) for i in range(len(actual))]
    log = answers(keys, probability, predicted, minutes=np.zeros(len(actual)))
    good = measure(log, labels(keys, actual), BINARY)
    assert good.estimate_error is not None
    assert abs(good.estimate_error["accuracy"]) < 0.01
    turned = measure(log, labels(keys, 1 - actual), BINARY)
    assert turned.estimate_error is not None and turned.estimate_error["accuracy"] > 0.2


def test_an_estimate_of_nothing_is_none() -> None:
    assert measure(answers([], [], []), labels(["b"], [1]), BINARY).estimate is None
    assert expected(np.array([0.0, 0.0]), np.array([0, 0])) == {"accuracy": 1.0, "f1": 0.0}
