"""Windows of several classes and of numbers: metrics, estimates without labels, alerts, references."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk

from slipway.components.config.data import Window
from slipway.components.config.kinds import LabelKind
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.monitoring.inference_log import log_schema
from slipway.components.contracts.monitoring.reference import (
    FILE,
    ROWS,
    ReferenceSummary,
    answer_column,
)
from slipway.components.contracts.splits import Feature
from slipway.components.metrics.costs import cost_matrix
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import from_facts, label_type, to_facts
from slipway.components.monitor.alerting.alerts import Findings, judge
from slipway.components.monitor.measures.expected_error import fit_errors
from slipway.components.monitor.measures.performance import KnownLabels, measure
from slipway.components.monitor.measures.sketch import CategorySketch, NumericSketch
from slipway.components.monitor.reference import read_reference
from slipway.components.monitor.window import main_version, open_window, read_answers

NOON = datetime(2013, 12, 9, 12, tzinfo=UTC)
CLASSES = ("ant", "bee", "cat")
SEVERAL = label_type("multiclass", classes=CLASSES)
NUMBER = label_type("number", level=0.8)


def classes(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    answers = rng.dirichlet(np.ones(3), rows).astype(np.float32)
    places = (answers.cumsum(1) < rng.random((rows, 1))).sum(1).clip(0, 2)
    return answers, places


def numbers(rows: int, seed: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels whose noise is as wide as the interval says, times `noise`."""
    rng = np.random.default_rng(seed)
    value, spread = rng.normal(100, 20, rows), rng.uniform(1, 9, rows)
    labels = value + noise * spread * rng.normal(size=rows)
    ends = 1.2816 * spread  # 80 % of a normal distribution
    return np.stack([value, value - ends, value + ends], 1).astype(np.float32), labels


def logged(label: LabelType, answers: np.ndarray) -> pa.Table:
    rows = len(answers)
    times = [NOON + timedelta(seconds=i) for i in range(rows)]
    return pa.table(
        {
            "key": [f"k{i}" for i in range(rows)],
            "time": pa.array(times, pa.timestamp("us", "UTC")),
            **label.to_columns(answers),
        }
    )


def known(actual: Any, **more: Any) -> KnownLabels:
    count = len(actual)
    rows = pl.DataFrame(
        {
            "key": [f"k{i}" for i in range(count)],
            "actual": actual,
            "known_at": [NOON + timedelta(hours=5)] * count,
        },
        schema_overrides={"known_at": pl.Datetime("us", "UTC")},
    )
    kinds: dict[Any, LabelKind] = {pl.String: "multiclass", pl.Int8: "binary"}
    return KnownLabels(rows=rows, kind=kinds.get(rows["actual"].dtype, "number"), **more)


def test_several_classes_are_measured_as_scikit_learn_measures_them() -> None:
    answers, places = classes(1500, 1)
    names = [CLASSES[place] for place in places]
    found = measure(logged(SEVERAL, answers), known(names[:1200]), SEVERAL)
    called, actual = answers[:1200].argmax(1), places[:1200]
    assert (found.predictions, found.labelled, found.new_class_rows) == (1500, 1200, 0)
    assert found.accuracy == pytest.approx(sk.accuracy_score(actual, called))
    assert found.f1 == pytest.approx(sk.f1_score(actual, called, average="macro"))
    assert found.positive_rate is None and found.rmse is None
    assert found.intervals is not None and found.estimate is not None
    for name in ("accuracy", "f1", "auc", "log_loss", "brier"):
        low, high = found.intervals[name]
        assert low < getattr(found, name) < high, name
    # The probabilities are true, so what they let expect comes true.
    assert found.estimate["accuracy"] == pytest.approx(found.accuracy, abs=0.03)


@pytest.mark.parametrize("kind", ["multiclass", "binary"])
def test_what_mistakes_cost_is_measured_where_the_version_knows_it(kind: str) -> None:
    costs = {"bee": {"ant": 7.0}} if kind == "multiclass" else {"1": {"0": 7.0}}
    answers, places = classes(900, 5)
    actual: Any = [CLASSES[place] for place in places]
    made = label_type(kind, threshold=0.4, classes=CLASSES, costs=costs)  # type: ignore[arg-type]
    if kind == "binary":
        answers = answers[:, 0]
        places = (np.random.default_rng(1).random(900) < answers).astype(int)
        actual = pl.Series(places, dtype=pl.Int8)
    found = measure(logged(made, answers), known(actual), made)
    matrix = cost_matrix(costs, made.class_names)
    wanted = matrix[places, made.decide(answers)].mean()
    assert found.expected_cost == pytest.approx(wanted)
    assert found.intervals is not None
    assert found.intervals["expected_cost"][0] < wanted < found.intervals["expected_cost"][1]
    plain = label_type(made.kind, threshold=0.4, classes=CLASSES)
    without = measure(logged(plain, answers), known(actual), plain)
    assert without.expected_cost is None and "expected_cost" not in without.to_dict()
    if kind == "multiclass":
        assert from_facts(to_facts(made)).measure(places, answers)["expected_cost"] == (
            pytest.approx(wanted)
        )


def test_sets_of_classes_are_watched() -> None:
    answers, places = classes(1200, 8)
    own = np.sort(answers[np.arange(1200), places])[::-1]
    edge = float(own[int(0.8 * 1200)])
    made = label_type("multiclass", classes=CLASSES, level=0.8, set_threshold=edge)
    found = measure(logged(made, answers), known([CLASSES[p] for p in places]), made)
    wanted = made.sets(answers)[np.arange(1200), places].mean()  # type: ignore[attr-defined]
    assert found.coverage == pytest.approx(wanted) and wanted >= 0.8
    assert found.set_size is not None and 1 <= found.set_size < 3
    assert found.intervals is not None and "coverage" in found.intervals
    # Labels that no longer follow the probabilities are in fewer sets.
    wrong = [CLASSES[(p + 1) % 3] for p in places]
    fewer = measure(logged(made, answers), known(wrong), made)
    assert fewer.coverage is not None and fewer.coverage < 0.7
    back = from_facts(to_facts(made)).measure(places, answers)
    assert back["coverage"] == pytest.approx(wanted)


def test_a_class_that_the_model_does_not_know_counts_in_no_metric_or_as_the_rest() -> None:
    answers, places = classes(600, 2)
    names = [CLASSES[place] for place in places]
    names[:40] = ["dog"] * 40
    log = logged(SEVERAL, answers)
    found = measure(log, known(names), SEVERAL)
    assert (found.labelled, found.new_class_rows) == (560, 40)
    assert found.accuracy == pytest.approx((answers[40:].argmax(1) == places[40:]).mean())
    merged = measure(log, known(names, merge_rare="cat"), SEVERAL)
    assert (merged.labelled, merged.new_class_rows) == (600, 0)
    places[:40] = 2
    assert merged.accuracy == pytest.approx((answers.argmax(1) == places).mean())


def test_numbers_are_measured_as_scikit_learn_measures_them() -> None:
    answers, labels = numbers(2000, 3)
    errors = fit_errors(*reversed(numbers(5000, 4)))
    found = measure(logged(NUMBER, answers), known(labels), NUMBER, errors)
    exact = answers.astype(float)
    assert found.rmse == pytest.approx(sk.root_mean_squared_error(labels, exact[:, 0]))
    assert found.r2 == pytest.approx(sk.r2_score(labels, exact[:, 0]))
    assert found.coverage == pytest.approx(0.8, abs=0.03)
    assert found.accuracy is None and found.auc is None
    assert found.intervals is not None
    assert found.intervals["rmse"][0] < found.rmse < found.intervals["rmse"][1]  # type: ignore[operator]
    assert found.estimate is not None
    assert found.estimate["rmse"] == pytest.approx(found.rmse, rel=0.06)
    assert found.estimate["mae"] == pytest.approx(found.mae, rel=0.06)


def test_the_error_is_foreseen_where_the_inputs_became_harder() -> None:
    errors = fit_errors(*reversed(numbers(5000, 5)))
    assert errors is not None
    answers, labels = numbers(4000, 6)
    wide = (answers[:, 2] - answers[:, 1]) > 18
    foreseen = errors.expect(answers[wide])["rmse"]
    assert foreseen == pytest.approx(
        sk.root_mean_squared_error(labels[wide], answers[wide][:, 0]), rel=0.1
    )
    assert foreseen > 1.3 * errors.expect(answers)["rmse"]
    assert fit_errors(labels[:99], answers[:99]) is None


@pytest.mark.parametrize(
    ("findings", "names"),
    [
        ({"coverage": 0.74, "level": 0.8}, ["COVERAGE"]),
        ({"coverage": 0.76, "level": 0.8}, []),
        ({"coverage": 0.74, "level": 0.8, "intervals": {"coverage": (0.7, 0.749)}}, ["COVERAGE"]),
        ({"coverage": 0.74, "level": 0.8, "intervals": {"coverage": (0.7, 0.751)}}, []),
        ({"coverage": None, "level": 0.8}, []),
        ({"rmse": 13.0, "release_rmse": 10.0, "intervals": {"rmse": (12.6, 14)}}, ["ERROR_RISE"]),
        ({"rmse": 13.0, "release_rmse": 10.0, "intervals": {"rmse": (12.4, 14)}}, []),
        ({"accuracy": 0.8, "intervals": {"accuracy": (0.7, 0.849)}}, ["LOW_ACCURACY"]),
        ({"accuracy": 0.8, "intervals": {"accuracy": (0.7, 0.851)}}, []),
        (
            {"accuracy": 0.86, "release_accuracy": 0.93, "intervals": {"accuracy": (0.8, 0.87)}},
            ["ACCURACY_DROP"],
        ),
        (
            {"accuracy": 0.86, "release_accuracy": 0.93, "intervals": {"accuracy": (0.8, 0.89)}},
            [],
        ),
        ({"rmse": 13.0, "release_rmse": 10.0}, ["ERROR_RISE"]),
        ({"rmse": 12.0, "release_rmse": 10.0}, []),
        ({"rmse": 12.0, "release_rmse": None}, []),
        ({"new_class_rows": 1}, ["NEW_CLASS"]),
        ({"new_class_rows": 0}, []),
        ({}, []),
    ],
)
def test_what_fires_for_numbers_and_classes(findings: dict[str, Any], names: list[str]) -> None:
    found = Findings(predictions=1000, labelled=800, **findings)
    window = Window(start=NOON, end=NOON + timedelta(days=1))
    alerts = judge(found, MonitoringConfig(), window).alerts
    assert [alert.name for alert in alerts] == names


ON_LABELS = {
    "LOW_ACCURACY": ({"accuracy": 0.8}, "accuracy", 0.8),
    "ACCURACY_DROP": ({"accuracy": 0.86, "release_accuracy": 0.93}, "accuracy", 0.86),
    "COVERAGE": ({"coverage": 0.7, "level": 0.8}, "coverage", 0.7),
    "ERROR_RISE": ({"rmse": 15.0, "release_rmse": 10.0}, "rmse", 15.0),
}


@pytest.mark.parametrize("name", ON_LABELS)
def test_few_labels_can_neither_fire_nor_end_an_alert(name: str) -> None:
    """Where the interval holds the bound nothing is said: what fires goes on, what does not stays."""
    found, metric, value = ON_LABELS[name]
    window = Window(start=NOON, end=NOON + timedelta(days=1))
    sure = Findings(predictions=1000, labelled=800, **found)
    unsure = replace(sure, intervals={metric: (value - 8, value + 8)})
    assert [alert.name for alert in judge(sure, MonitoringConfig(), window).alerts] == [name]
    told = judge(unsure, MonitoringConfig(), window)
    assert (told.alerts, told.holding) == ((), ()) and name in told.unknown
    assert name not in judge(sure, MonitoringConfig(), window).unknown


def test_fifty_eight_labels_of_which_ten_lie_outside_are_not_told_apart_from_nine_in_ten() -> None:
    rows = 58
    answers = np.tile(np.array([[0.0, -1.0, 1.0]], dtype=np.float32), (rows, 1))
    actual = np.where(np.arange(rows) < 10, 5.0, 0.5)
    found = measure(logged(NUMBER, answers), known(actual), NUMBER)
    assert found.coverage == pytest.approx(48 / 58) and found.coverage < 0.9 - 0.05
    findings = Findings(
        predictions=58,
        labelled=58,
        coverage=found.coverage,
        level=0.9,
        intervals=found.intervals or {},
    )
    window = Window(start=NOON, end=NOON + timedelta(days=1))
    told = judge(findings, MonitoringConfig(min_rows=20), window)
    assert told.alerts == () and "COVERAGE" in told.unknown


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"drifted": ("a",), "drift_share": 0.1}, "1 feature drifted: a."),
        ({"drifted": ("a", "b"), "drift_share": 0.1}, "2 features drifted, the most first: a, b."),
        (
            {"drifted": tuple("abcdefgh"), "drift_share": 0.1},
            "8 features drifted, the most first: a, b, c and 5 more. Check",
        ),
        ({"new_class_rows": 1}, "The model does not know the class of 1 label, which"),
        ({"predictions": 1}, "Only 1 prediction in the window, fewer than 200"),
        ({"log_dropped_rows": 1.0}, "The predictor lost 1 row of its"),
        ({"log_dropped_rows": 2000.0}, "The predictor lost 2,000 rows of its"),
        ({"labelled": 1, "accuracy": 0.0}, "Accuracy is 0.0000 on 1 label, below 0.85"),
    ],
)
def test_one_is_one(found: dict[str, Any], said: str) -> None:
    window = Window(start=NOON, end=NOON + timedelta(days=1))
    findings = Findings(**{"predictions": 1000, "labelled": 0, **found})
    (alert,) = judge(findings, MonitoringConfig(), window).alerts
    assert alert.message.startswith(said)


def test_the_messages_say_what_was_measured() -> None:
    found = Findings(
        predictions=1000, labelled=800, coverage=0.7, level=0.8, rmse=15, release_rmse=10
    )
    window = Window(start=NOON, end=NOON + timedelta(days=1))
    coverage, rise = judge(found, MonitoringConfig(), window).alerts
    assert coverage.message.startswith(
        "70.0% of 800 labels lie inside their intervals, which are to hold 80%: 10.0% short"
    )
    assert rise.message.startswith(
        "The RMSE grew by 50.0% since the release (10 to 15), more than 25.0%"
    )


@pytest.mark.parametrize("label", [SEVERAL, NUMBER, label_type("binary")])
def test_a_record_says_how_to_read_its_answers(label: LabelType) -> None:
    again = from_facts(to_facts(label))
    assert (again.kind, again.class_names) == (label.kind, label.class_names)
    assert from_facts(None).kind == "binary"


@pytest.mark.parametrize("kind", ["multiclass", "number"])
def test_a_reference_is_read_and_its_predictions_are_sketched(kind: str, tmp_path: Path) -> None:
    label = SEVERAL if kind == "multiclass" else NUMBER
    answers, actual = classes(400, 7) if kind == "multiclass" else numbers(400, 7)
    columns = {
        answer_column(label.kind, name): column
        for name, column in label.to_columns(answers).items()
    }
    table = pa.table(
        {
            # A feature may have the name of an answer's column.
            "value": np.arange(400.0),
            "label": pa.array(actual, pa.int32() if kind == "multiclass" else pa.float64()),
            "part": ["train"] * 200 + ["test"] * 200,
            **columns,
        }
    )
    pq.write_table(table, tmp_path / ROWS)
    ReferenceSummary(
        model="m",
        model_hash="h",
        data_hash="d",
        threshold=0.0,
        key="id",
        features=(Feature(name="value", kind="numeric", view="v"),),
        rows={"train": 200, "test": 200},
        sampled={"train": 200, "test": 200},
        windows={},
        statistics={},
        release={"rmse": 4.0},
        intervals={},
        label_rate={},
        probability_mean={},
        label_kind=label.kind,
        classes=label.class_names,
        level=0.8 if kind == "number" else 0.0,
    ).write(tmp_path / FILE)
    reference = read_reference(tmp_path, "1", "train")
    assert reference.label == label
    if kind == "multiclass":
        assert isinstance(reference.prediction, CategorySketch)
        counts = np.bincount(answers[:200].argmax(1), minlength=3)
        assert reference.prediction.counts == dict(zip(CLASSES, counts.tolist(), strict=True))
        assert reference.errors is None
    else:
        assert isinstance(reference.prediction, NumericSketch)
        assert reference.prediction.mean == pytest.approx(answers[:200, 0].mean(), rel=1e-6)
        assert reference.errors is not None
        assert reference.errors.expect(answers[200:])["mae"] == pytest.approx(
            np.abs(actual[200:] - answers[200:, 0]).mean(), rel=1e-6
        )


ANSWERED: dict[LabelKind, tuple[LabelType, np.ndarray]] = {
    "binary": (label_type("binary", threshold=0.5), classes(300, 3)[0][:, 0]),
    "multiclass": (SEVERAL, classes(300, 3)[0]),
    "number": (NUMBER, numbers(300, 3)[0]),
}
LABELS: dict[LabelKind, Any] = {
    "binary": pl.Series([0, 1, 1] * 100, dtype=pl.Int8),
    "multiclass": ["ant", "bee", "cat"] * 100,
    "number": [1.0, 0.0, 2.5] * 100,
}


@pytest.mark.parametrize("answered", ANSWERED)
@pytest.mark.parametrize("asked", LABELS)
def test_a_version_of_another_kind_is_held_against_no_label(
    answered: LabelKind, asked: LabelKind
) -> None:
    """The project's label changed its kind, and the version before it still serves."""
    label, answers = ANSWERED[answered]
    found = measure(logged(label, answers), known(LABELS[asked]), label)
    assert found.predictions == 300
    assert found.labelled == (300 if answered == asked else 0)
    assert (found.accuracy is None and found.rmse is None) == (answered != asked)
    assert found.new_class_rows == 0


@pytest.mark.parametrize("first", ANSWERED)
@pytest.mark.parametrize("second", ANSWERED)
def test_a_window_in_which_the_kind_changed_is_read(
    first: LabelKind, second: LabelKind, tmp_path: Path
) -> None:
    """Two versions answered in it: each is read by its own kind, and the rows of both are counted."""
    rows = {}
    for version, kind in (("1", first), ("2", second)):
        label, answers = ANSWERED[kind]
        schema = log_schema((), label.columns())
        table = logged(label, answers[: 100 * int(version)])
        more = {
            "row": pa.array(range(table.num_rows), pa.int32()),
            "model_version": [version] * table.num_rows,
        }
        columns = {
            field.name: more.get(
                field.name,
                table[field.name]
                if field.name in table.column_names
                else pa.nulls(table.num_rows, field.type),
            )
            for field in schema
        }
        folder = tmp_path / "toy" / "date=2013-12-09" / "hour=12"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns, schema), folder / f"{version}.parquet")
        rows[version] = answers[: 100 * int(version)]
    window = Window(start=NOON, end=NOON + timedelta(hours=1))
    log = open_window(str(tmp_path), "toy", window)
    for version, kind in (("1", first), ("2", second)):
        answers = read_answers(log, kind)
        assert main_version(answers) == ("2", {"1": 100, "2": 200})
        mine = answers.filter(pc.equal(answers["model_version"], version))
        read = ANSWERED[kind][0].from_columns(mine)
        assert np.array_equal(read, rows[version])
