"""Three states of a feature, and a first sentence that agrees with all that stands under it."""

from dataclasses import asdict, replace
from typing import Any, get_args

import numpy as np
import pytest

from slipway.components.config.monitoring import AlertName, DriftConfig
from slipway.components.contracts.monitoring.monitoring_record import (
    Alert,
    MLSystemMetrics,
    MonitoringRecord,
)
from slipway.components.monitor.measures.drift import DriftResult, Test, _reason, compare
from slipway.components.monitor.measures.sketch import (
    NumericSketch,
    add_column,
    bin_edges,
    new_sketch,
)
from slipway.components.monitor.report.evidently import EvidentlyPage
from slipway.components.monitor.report.page import _disagreement
from slipway.components.monitor.report.says import (
    UNITS,
    compare_metrics,
    conclude,
    pick_tiles,
    show_amount,
)

RNG = np.random.default_rng(0)
OLD = RNG.normal(0, 1, 20_000)
QUANTILES = np.quantile(OLD, (np.arange(40) + 0.5) / 40)


def sketch_of(values: np.ndarray, hours: np.ndarray | None = None) -> NumericSketch:
    import pyarrow as pa

    sketch = new_sketch("numeric", bin_edges(OLD))
    add_column(sketch, pa.chunked_array([pa.array(values)]), "numeric", hours)
    assert isinstance(sketch, NumericSketch)
    return sketch


def drift_of(values: np.ndarray, hours: np.ndarray | None = None) -> DriftResult:
    even = np.arange(len(OLD)) % (24 * 300)
    return compare(
        {"x": sketch_of(OLD, even)},
        {"x": sketch_of(values, hours)},
        {"x": "numeric"},
        DriftConfig(),
    )


@pytest.mark.parametrize(
    ("name", "values", "days", "state"),
    [
        ("the same, many rows", RNG.normal(0, 1, 5000), None, "not changed"),
        ("another mean", RNG.normal(1.5, 1, 5000), None, "changed"),
        ("few rows", RNG.normal(0, 1, 12), None, "cannot tell"),
        # A week of weather: each day one value, seen by hundreds of flights.
        ("few days", np.repeat(RNG.normal(0.7, 1, 7), 700), 7, "cannot tell"),
        ("a difference that chance makes too", QUANTILES + 0.2, None, "cannot tell"),
    ],
)
def test_a_feature_is_changed_unchanged_or_cannot_be_told(
    name: str, values: np.ndarray, days: int | None, state: str
) -> None:
    hours = None if days is None else np.repeat(np.arange(days) * 24, len(values) // days)
    (feature,) = drift_of(values, hours).features
    assert feature.state == state, (name, feature)
    assert bool(feature.reason) == (state == "changed")
    assert bool(feature.doubt) == (state == "cannot tell")


def record(alerts: tuple[Alert, ...] = (), *, retrain: bool = False, **details: Any) -> Any:
    nothing = dict.fromkeys(
        ("model_accuracy", "prediction_latency_ms", "throughput_rps", "error_rate")
    )
    return MonitoringRecord(
        model="m",
        window=("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        metrics=MLSystemMetrics(
            timestamp="2026-01-02T00:00:00Z", model_version="1", data_drift_score=None,
            feature_drift_score=None, **nothing,
        ),
        drift_status="stable", summary={}, alerts=alerts, retrain=retrain, details=details,
    )  # fmt: skip


def details(**changes: Any) -> dict[str, Any]:
    """What the issue showed: F1 .464 against .518, AUC .709 against .747, and nobody said so."""
    return {
        "performance": {
            "accuracy": 0.71, "f1": 0.464, "auc": 0.709, "log_loss": 0.5,
            "intervals": {
                "accuracy": [0.70, 0.72], "f1": [0.45, 0.478], "auc": [0.70, 0.718],
                "log_loss": [0.48, 0.52],
            },
        },
        "label": {"kind": "binary"},
        "release": {"accuracy": 0.705, "f1": 0.518, "auc": 0.747, "log_loss": 0.45},
        "thresholds": {"accuracy": 0.72, "auc": 0.70},
        **changes,
    }  # fmt: skip


def test_a_metric_that_is_worse_or_beyond_the_gates_bound_is_marked() -> None:
    rows = {row.name: row for row in compare_metrics(details())}
    assert [name for name, row in rows.items() if row.worse] == ["f1", "auc", "log_loss"]
    assert [name for name, row in rows.items() if row.beyond] == ["accuracy"]
    assert not any(row.better for row in rows.values())
    better = compare_metrics(details(release={"accuracy": 0.6, "log_loss": 0.6}, thresholds={}))
    assert [row.name for row in better if row.better] == ["accuracy", "log_loss"]
    assert not any(row.worse or row.beyond for row in better)


SAME, NEW = drift_of(RNG.normal(0, 1, 5000)), drift_of(RNG.normal(1.5, 1, 5000))
FEW = drift_of(RNG.normal(0, 1, 12))
LOW = Alert(name="LOW_ACCURACY", severity="critical", value=0.4, threshold=0.6,
    message="Accuracy is 0.4 of 0.71, below 0.6. Look at it.")  # fmt: skip
GOOD = details(release={"accuracy": 0.705}, thresholds={})


@pytest.mark.parametrize(
    ("of", "drift", "state", "said"),
    [
        (record(**GOOD), SAME, "good", "No metric is worse than at release; none of 1 feature changed"),
        (record(**GOOD), FEW, "unknown", "whether any of 1 feature changed cannot be told"),
        (record(**GOOD), NEW, "warn", "1 of 1 feature changed; no alert; the model is kept."),
        (record(**details()), SAME, "warn", "F1, AUC and log loss are worse than at release"),
        # The limit of an alert may lie above what was released: the sentence says why to act.
        (
            record((LOW,), **GOOD), SAME, "bad",
            "Accuracy is 0.4 of 0.71, below 0.6. No metric is worse than at release; none of 1"
            " feature changed; alerts: LOW_ACCURACY; the model is kept.",
        ),
        (record((LOW,), retrain=True, **GOOD), SAME, "bad", "retraining is asked for"),
        (record(**details(performance=None)), None, "unknown", "No label is known yet; too few"),
    ],
)  # fmt: skip
def test_the_first_sentence_says_what_stands_under_it(
    of: MonitoringRecord, drift: DriftResult | None, state: str, said: str
) -> None:
    of.details["features"] = drift and {f.name: asdict(f) for f in drift.features}
    verdict = conclude(of)
    assert verdict.state == state and said in verdict.sentence, verdict


def test_a_bound_that_asks_for_nothing_is_none() -> None:
    """`gate.accuracy: 0` is no bound; R² above 0 is one."""
    rows = compare_metrics(details(thresholds={"accuracy": 0, "f1": 0.3}))
    assert {row.name: row.bound for row in rows if row.name in ("accuracy", "f1")} == {
        "accuracy": None, "f1": 0.3,
    }  # fmt: skip
    number = details(label={"kind": "number"}, performance={"r2": -0.1}, thresholds={"r2": 0.0})
    assert [(row.bound, row.beyond) for row in compare_metrics(number)] == [(0.0, True)]


def test_what_the_sentence_blames_is_among_the_first_tiles() -> None:
    """Of a number coverage is its fifth metric: it was blamed above and hidden in the table."""
    found = details(
        label={"kind": "number"}, release={"rmse": 2.0}, thresholds={"coverage": 0.85},
        performance={
            "rmse": 2.0, "mae": 1.0, "r2": 0.5, "pinball": 0.1, "coverage": 0.79, "interval_width": 3.0,
            "intervals": {"rmse": [1.0, 3.0], "coverage": [0.68, 0.9]},
        },
    )  # fmt: skip
    rows = compare_metrics(found)
    assert [row.name for row in pick_tiles(rows)] == ["rmse", "mae", "r2", "coverage"]
    assert [row.state for row in pick_tiles(rows)] == ["", "", "", "warn"]
    assert [row.state for row in pick_tiles(compare_metrics(details()))] == [
        "warn",
        "bad",
        "bad",
        "bad",
    ]


def test_every_alert_has_a_unit_and_amounts_that_can_be_read() -> None:
    assert UNITS.keys() == set(get_args(AlertName))
    shown = {
        name: show_amount(replace(LOW, name=name), value)
        for name, value in {
            "FEATURE_DRIFT": 15.0, "NEW_CLASS": 1.0, "DATA_DRIFT": 0.5357, "HIGH_LATENCY": 135.766,
            "PREDICTION_DRIFT": 1.0, "LOW_ACCURACY": 0.46412, "SKEW": 0.0,
        }.items()
    }  # fmt: skip
    assert shown == {
        "FEATURE_DRIFT": "15 features", "NEW_CLASS": "1 label",
        "DATA_DRIFT": "53.6\u00a0% of the features",
        "HIGH_LATENCY": "136 ms", "PREDICTION_DRIFT": "changed", "LOW_ACCURACY": "0.464",
        "SKEW": "0\u00a0% of the rows",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("nulls", "missing share changed by 12.8\u00a0%"),
        ("categories", "12.8\u00a0% changed category"),
        ("unseen", "12.8\u00a0% new values"),
        ("values", "values moved by 0.13 sd"),
    ],
)
def test_a_feature_s_reason_has_its_share_as_the_rest_of_the_page(question: str, said: str) -> None:
    assert _reason(Test(question=question, effect=0.128, least=0.05, p=0.01)) == said


def test_where_evidently_says_otherwise_one_line_says_why() -> None:
    assert NEW.share == 1.0
    page = EvidentlyPage(text="", share=0.2, rows=500)
    assert "20.0\u00a0% of the columns" in _disagreement(NEW, page)
    assert _disagreement(NEW, replace(page, share=0.97)) == ""
    assert _disagreement(NEW, None) == "" and _disagreement(None, page) == ""


def test_a_record_holds_the_doubt() -> None:
    assert asdict(FEW.features[0])["doubt"].startswith("its rows are worth 12")
