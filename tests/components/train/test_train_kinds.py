"""Labels of several classes and numbers: trained, calibrated, exported, and what they may not be."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import ONNX, model_inputs, read_bundle
from slipway.components.contracts.splits import read_part, read_splits, write_splits
from slipway.components.metrics.costs import cheapest, cost_matrix, cost_rule
from slipway.components.metrics.intervals import conformal_rank, conformal_rows
from slipway.components.metrics.kinds.choose import label_type, label_type_of
from slipway.components.metrics.multiclass import row_log_losses
from slipway.components.support.errors import SlipwayError
from slipway.components.train.data.preparation import prepare
from slipway.components.train.data.tables import make_rows, raw_arrays
from slipway.components.train.distributed.processes import WorkerJob, run_workers
from slipway.components.train.heads.conformal import conform, fit_sets
from slipway.components.train.heads.temperature import Temperature, fit_temperature
from slipway.components.train.loop import Training, predict
from slipway.components.train.process.checkpoint import Checkpoint
from slipway.components.train.train import TrainingTask, TrainResult, train_model

CLASSES = ("low", "middle", "high")
SMALL = {
    "model": "network",
    "network": {"width": 32},
    "members": 1,
    "batch_size": 128,
    "min_steps": 200,
}


def amount_of(table: pa.Table) -> np.ndarray:
    return pc.fill_null(table["amount"], 0.0).to_numpy()


def with_label(table: pa.Table, label: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index("label"), "label", label)


def to_classes(part: str, table: pa.Table) -> pa.Table:
    """Classes that follow from the amount and chance; `high` is rare."""
    noise = np.random.default_rng(len(part)).normal(0, 0.7, table.num_rows)
    places = np.digitize(amount_of(table) + noise, [-0.3, 1.6])
    return with_label(table, pa.array(places, pa.int32()))


def to_numbers(part: str, table: pa.Table) -> pa.Table:
    """Numbers of about 1,000 that follow from the amount, noisier where it is positive."""
    amount = amount_of(table)
    noise = np.random.default_rng(len(part)).normal(0, np.where(amount > 0, 60, 15))
    return with_label(table, pa.array(1000 + 100 * amount + noise))


def run(splits: Path, folder: Path, **config: Any) -> TrainResult:
    task = TrainingTask(
        splits=splits,
        project="toy",
        config=SMALL | config,
        seed=3,
        epochs=6,
        learning_rate=5e-3,
        gpus=0,
        allow_cpu=False,
        bundle=folder / "bundle",
        report=folder / "report.html",
    )
    return train_model(task)


def answers(folder: Path, table: pa.Table) -> np.ndarray:
    bundle = read_bundle(folder)
    session = onnxruntime.InferenceSession(str(folder / ONNX))
    return session.run([bundle.output[0]], model_inputs(bundle, table))[0]


@pytest.mark.parametrize("architecture", ["mlp", "tabm"])
def test_several_classes_are_told_apart(
    architecture: str, make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    splits = make_splits(rows=1500, change=to_classes, kind="multiclass", classes=CLASSES)
    network = {"width": 32, "architecture": architecture, "tabm_heads": 4}
    result = run(splits, tmp_path, network=network)

    bundle = read_bundle(tmp_path / "bundle")
    assert (bundle.label_kind, bundle.classes) == ("multiclass", CLASSES)
    test = read_part(splits, "test")
    labels = test["label"].to_numpy()
    given = answers(tmp_path / "bundle", test)
    assert given.shape == (400, 3)
    label = label_type_of(bundle)
    assert label.is_sound(given).all()
    measured = label.measure(labels, given)
    commonest = np.bincount(labels).max() / len(labels)
    assert measured["accuracy"] > commonest + 0.1
    assert measured["auc"] > 0.8
    assert measured["calibration_error"] < 0.12
    assert result.metrics.keys() == measured.keys()
    assert result.headline.startswith("validation accuracy 0.")
    report = (tmp_path / "report.html").read_text()
    assert "share that is of this class" in report and "middle" in report
    assert "How often the class called was right" in report and "positive where" not in report
    assert "which also chose the epoch and the calibration:" in report
    assert "threshold" not in report.lower()


def test_numbers_come_with_intervals_that_hold_what_they_promise(
    make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    splits = make_splits(rows=2400, change=to_numbers, kind="number")
    result = run(splits, tmp_path, interval=0.8)

    bundle = read_bundle(tmp_path / "bundle")
    test = read_part(splits, "test")
    labels = test["label"].to_numpy()
    given = answers(tmp_path / "bundle", test)
    label = label_type_of(bundle)
    assert label.is_sound(given).all()
    measured = label.measure(labels, given)
    assert measured["r2"] > 0.6
    assert 0.72 <= measured["coverage"] <= 0.88
    amount = amount_of(test)
    width = given[:, 2] - given[:, 1]
    # The intervals are as wide as the noise is where they stand.
    assert width[amount > 0.5].mean() > 1.5 * width[amount < -0.5].mean()
    assert bundle.scale == pytest.approx(np.std(labels), rel=0.3)
    assert result.headline.startswith("validation RMSE ")
    report = (tmp_path / "report.html").read_text()
    assert "Validation R² by epoch" in report and ">Calibration<" not in report
    assert "which also chose the epoch and the width of the intervals:" in report
    assert "threshold" not in report.lower() and "calibration" not in report.lower()


@pytest.mark.parametrize("kind", ["multiclass", "number"])
def test_two_processes_train_each_kind_as_one(kind: Any, make_splits: Any, tmp_path: Path) -> None:
    """On gloo, with batches that the processes share unequally: the same history and weights.

    What comes of them is calibrated and then measured on rows that nothing saw.
    """
    change, classes = (to_classes, CLASSES) if kind == "multiclass" else (to_numbers, ())
    folder = make_splits(rows=515, change=change, kind=kind, classes=classes)
    weights = {"class_weights": "balanced"} if kind == "multiclass" else {"interval": 0.8}
    config = TrainingConfig.model_validate(
        {
            **SMALL,
            **weights,
            "network": {"width": 16, "architecture": "mlp", "dropout": 0.0},
            "epochs": 10,
            "learning_rate": 1e-2,
            "min_steps": 1,
            "checkpoint_seconds": 1e9,
        }
    )
    splits = read_splits(folder)
    prepared = prepare(folder, splits, "toy", config, torch.device("cpu"))
    parts = prepared.parts
    one = Training(
        make_network=prepared.make_network,
        source=parts.source,
        validation=parts.validation,
        head=parts.head,
        config=prepared.config,
        device=torch.device("cpu"),
        checkpoint=Checkpoint("", "toy", prepared.identity),
        log=lambda values, step: None,
        scaled_names=prepared.scaled_names,
    ).run({})
    job = WorkerJob(
        splits=str(folder),
        project="toy",
        config=config.to_struct(),
        device="cpu",
        run_id=None,
        checkpoints=str(tmp_path / "checkpoints"),
    )
    two = run_workers(job, 2)
    assert len(one[0].history) == len(two[0].history)
    for first, second in zip(one[0].history, two[0].history, strict=True):
        assert second == pytest.approx(first, rel=1e-4)
    for name, values in one[0].weights.items():
        torch.testing.assert_close(two[0].weights[name], values, rtol=1e-3, atol=1e-4)
    network = prepared.make_network()
    network.load_state_dict(two[0].weights)
    labels = read_part(folder, "validation")["label"].to_numpy()
    head = parts.head.fit(labels, predict(network, parts.head, parts.validation), prepared.config)
    table = read_part(folder, "test")
    labels = table["label"].to_numpy()
    rows = make_rows(
        parts.preprocessor,
        raw_arrays(parts.signature, table),
        head.encode(labels),
        np.ones(len(labels), np.float32),
    )
    found = head.calibrate(torch.from_numpy(predict(network, head, rows))).numpy()
    label = label_type(kind, classes=classes, level=0.8)
    assert label.is_sound(found.astype(np.float32)).all()
    measured = label.measure(labels, found.astype(np.float32))
    if kind == "multiclass":
        nothing, _ = label.constants(label.describe(labels), {})["f1"]
        assert measured["auc"] > 0.8 and measured["f1"] > nothing + 0.1
    else:
        assert measured["r2"] > 0.6 and measured["coverage"] == pytest.approx(0.8, abs=0.08)


def test_numbers_far_from_zero_keep_what_float32_can_hold_of_them(
    make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    """Years, or prices in small coins: a difference is seen against their size, not their spread."""

    def far(part: str, table: pa.Table) -> pa.Table:
        moved = to_numbers(part, table)
        return with_label(moved, pc.add(pc.divide(moved["label"], 100.0), 1e6).combine_chunks())

    splits = make_splits(rows=1500, change=far, kind="number")
    run(splits, tmp_path)
    test = read_part(splits, "test")
    given = answers(tmp_path / "bundle", test)
    label = label_type_of(read_bundle(tmp_path / "bundle"))
    assert label.is_sound(given).all()
    assert label.measure(test["label"].to_numpy(), given)["r2"] > 0.6


def test_costs_go_with_the_model_and_decide(
    make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    splits = make_splits(rows=900, change=to_classes, kind="multiclass", classes=CLASSES)
    costs = {CLASSES[0]: {CLASSES[1]: 8.0}}
    write_splits(splits, replace(read_splits(splits), costs=costs))
    result = run(splits, tmp_path)
    bundle, label = (
        read_bundle(tmp_path / "bundle"),
        label_type_of(read_bundle(tmp_path / "bundle")),
    )
    assert bundle.costs == costs
    table = read_part(splits, "validation")
    found, labels = answers(tmp_path / "bundle", table), table["label"].to_numpy()
    called = label.decide(found)
    assert (called == cheapest(found, cost_rule(costs, CLASSES))).all()
    assert (called != found.argmax(1)).any()
    expected = cost_matrix(costs, CLASSES)[labels, called].mean()
    assert result.metrics["expected_cost"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_conformal_sets_hold_in_new_rows_what_they_promise(level: float) -> None:
    """Whatever the model is: here its probabilities are much too sure."""
    covered, sizes = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        truth = rng.dirichlet(np.full(5, 0.5), 900)
        places = (truth.cumsum(1) < rng.random((900, 1))).sum(1).clip(0, 4)
        sharp = (truth**3 / (truth**3).sum(1, keepdims=True)).astype(np.float32)
        edge = fit_sets(places[:300], sharp[:300], level)
        label = label_type("multiclass", classes=tuple("abcde"), level=level, set_threshold=edge)
        found = label.measure(places[300:], sharp[300:])
        covered.append(found["coverage"])
        sizes.append(found["set_size"])
    assert np.mean(covered) >= level - 0.01
    # The called class is always in, so that a low level holds more than it must.
    assert np.mean(covered) <= level + (0.3 if level < 0.6 else 0.03)
    assert 1 <= np.mean(sizes) < 5


def test_too_few_rows_promise_nothing_less_than_every_class() -> None:
    answers = np.full((8, 3), np.float32(1 / 3))
    assert fit_sets(np.zeros(8), answers, 0.9) == 0.0
    assert fit_sets(np.zeros(9), np.tile(answers[:1], (9, 1)), 0.9) == pytest.approx(1 / 3)


def test_sets_go_with_the_model(make_splits: Any, tmp_path: Path, tracking: str) -> None:
    splits = make_splits(rows=1200, change=to_classes, kind="multiclass", classes=CLASSES)
    result = run(splits, tmp_path, sets=0.85)
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.level == 0.85 and bundle.set_threshold is not None
    table = read_part(splits, "validation")
    found, labels = answers(tmp_path / "bundle", table), table["label"].to_numpy()
    held = found[np.arange(len(labels)), labels] >= np.float32(bundle.set_threshold)
    assert 0.85 - 1e-3 <= held.mean() < 0.87
    assert result.metrics["coverage"] >= held.mean() - 2e-3
    assert 1 <= result.metrics["set_size"] < 3


def test_the_threshold_follows_the_costs_where_nothing_else_is_said(
    make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    splits = make_splits(rows=900)
    write_splits(splits, replace(read_splits(splits), costs={"1": {"0": 9.0}}))
    run(splits, tmp_path / "cost")
    run(splits, tmp_path / "f1", threshold="f1")
    cost, f1 = (read_bundle(tmp_path / name / "bundle") for name in ("cost", "f1"))
    assert (cost.notes["threshold_rule"], f1.notes["threshold_rule"]) == ("cost", "f1")
    # A miss costs nine times a false alarm: a tenth is enough.
    assert cost.threshold < 0.25 < f1.threshold
    assert cost.costs == f1.costs == {"1": {"0": 9.0}}


def test_class_weights_move_the_recall_and_calibration_moves_the_probabilities_back(
    make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    splits = make_splits(rows=1500, change=to_classes, kind="multiclass", classes=CLASSES)
    (tmp_path / "plain").mkdir()
    (tmp_path / "weighted").mkdir()
    run(splits, tmp_path / "plain")
    run(splits, tmp_path / "weighted", class_weights="balanced", calibration="none")
    test = read_part(splits, "test")
    shares = [
        answers(tmp_path / name / "bundle", test)[:, 2].mean() for name in ("plain", "weighted")
    ]
    actual = (test["label"].to_numpy() == 2).mean()
    assert abs(shares[0] - actual) < 0.05
    assert shares[1] > 1.7 * shares[0]
    (tmp_path / "both").mkdir()
    run(splits, tmp_path / "both", class_weights="balanced")
    assert abs(answers(tmp_path / "both" / "bundle", test)[:, 2].mean() - actual) < 0.05


def _one_far(part: str, rows: int) -> pa.Array:
    """Labels of which one of the validation part has no float32, in whatever unit."""
    labels = np.arange(rows) % 7 / 7
    if part == "validation":
        labels[5] = 1e200
    return pa.array(labels)


@pytest.mark.parametrize(
    ("options", "config", "message"),
    [
        (
            {"change": lambda p, t: with_label(t, pa.array([1] * len(t), pa.int32()))},
            {},
            "All 300 rows of the train part are of class middle: a model needs more than one",
        ),
        (
            {"change": lambda p, t: with_label(t, pa.array([2.5] * len(t))), "kind": "number"},
            {},
            "have label 2.5: there is nothing to learn",
        ),
        (
            {"change": lambda p, t: with_label(t, _one_far(p, len(t))), "kind": "number"},
            {},
            r"label of the validation part is as large as 1e\+200, which is too far from the train",
        ),
        ({"change": to_classes}, {"class_weights": {"huge": 2.0}}, "huge, which is no class"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    options: dict, config: dict, message: str, make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    kind = {"kind": "multiclass", "classes": CLASSES} if "kind" not in options else {}
    splits = make_splits(rows=300, **kind, **options)
    with pytest.raises(SlipwayError, match=message):
        run(splits, tmp_path, **config)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_conformal_intervals_hold_in_new_rows(level: float) -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        labels = rng.standard_t(3, 400)
        given = np.stack([np.zeros(400), np.full(400, -0.1), np.full(400, 0.3)], 1)
        margin = conform(labels[:200], given[:200], level)
        new, low, high = labels[200:], -0.1 - margin, 0.3 + margin
        held.append(((new >= low) & (new <= high)).mean())
    assert level - 0.005 <= np.mean(held) <= level + 0.02


def test_a_margin_of_few_rows_is_their_greatest() -> None:
    assert conform(np.array([1.0, 2.0]), np.zeros((2, 3)), 0.99) == 2.0


@pytest.mark.parametrize(("level", "rows"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_a_promise_needs_rows(level: float, rows: int) -> None:
    """From so many rows on the margin is one of theirs, and not merely the greatest there is."""
    assert conformal_rows(level) == rows
    assert conformal_rank(rows, level) <= rows
    assert rows == 1 or conformal_rank(rows - 1, level) > rows - 1
    promise = label_type("number", level=level).promise
    assert promise is not None and not promise.doubt(rows)
    assert f"need {rows} validation rows, and there are {rows - 1}" in promise.doubt(rows - 1)
    assert label_type("binary").promise is None


@pytest.mark.parametrize(
    ("kind", "level", "says"),
    [
        ("number", {"interval": 0.999}, "Intervals that are to hold 0.999 of the labels need 999"),
        ("number", {"interval": 0.99}, ""),
        ("multiclass", {"sets": 0.999}, "Sets that are to hold 0.999 of the labels need 999"),
        ("multiclass", {"sets": 0.99}, ""),
    ],
)
def test_a_promise_that_cannot_be_made_is_told(
    kind: Any, level: dict[str, float], says: str, make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    change = to_numbers if kind == "number" else to_classes
    splits = make_splits(rows=600, change=change, kind=kind, classes=CLASSES)
    result = run(splits, tmp_path, model="linear", **level)
    report = (tmp_path / "report.html").read_text()
    assert ("WARNING: " in result.headline) == bool(says)
    assert says in report and ("validation rows, and there are" in report) == bool(says)


@pytest.mark.parametrize(("sharper", "offsets"), [(3.0, False), (0.5, False), (1.0, True)])
def test_temperature_undoes_what_was_done(sharper: float, offsets: bool) -> None:
    rng = np.random.default_rng(1)
    true = rng.dirichlet(np.ones(3), 20_000)
    labels = (true.cumsum(1) < rng.random((20_000, 1))).sum(1).clip(0, 2)
    moved = true**sharper * np.array([1.0, 1.0, 5.0 if offsets else 1.0])
    given = (moved / moved.sum(1, keepdims=True)).astype(np.float32)
    found = fit_temperature(labels, given, offsets=offsets)
    assert found.slope == pytest.approx(1 / sharper, rel=0.05)
    calibrated = np.exp(found.slope * np.log(given + 1e-12) + np.array(found.offsets or (0, 0, 0)))
    calibrated /= calibrated.sum(1, keepdims=True)
    assert np.abs(calibrated - true).mean() < 0.01
    assert row_log_losses(labels, calibrated).mean() < row_log_losses(labels, given).mean()


@pytest.mark.parametrize("rows", [20, 60])
def test_rows_without_an_error_do_not_make_a_model_certain(rows: int) -> None:
    """Few rows are often told apart without an error, and the next ones are not."""
    rng = np.random.default_rng(0)
    true = rng.dirichlet(np.full(3, 0.05), 20_000)
    labels = (true.cumsum(1) < rng.random((20_000, 1))).sum(1).clip(0, 2)
    given = true.astype(np.float32).clip(1e-6)
    held = np.flatnonzero(given.argmax(1) == labels)[:rows]
    found = fit_temperature(labels[held], given[held], offsets=False)
    assert 0.4 < found.slope < 1.2
    calibrated = given.astype(np.float64) ** found.slope
    calibrated /= calibrated.sum(1, keepdims=True)
    assert row_log_losses(labels, calibrated).mean() < 1.4 * row_log_losses(labels, given).mean()


def test_temperature_leaves_alone_what_it_cannot_better() -> None:
    wrong = np.array([[0.9, 0.1]] * 50 + [[0.1, 0.9]] * 50, np.float32)
    labels = np.array([1] * 50 + [0] * 50)
    assert fit_temperature(labels, wrong, offsets=False) == Temperature()
