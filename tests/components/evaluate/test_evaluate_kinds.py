"""The gate on labels of several classes and on numbers: what passes, and what must not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import gate_world, kinds_world
from support.kinds_world import CLASS_TRUTH, CLASSES
from support.registry import crown, mlflow_client

from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.splits import Splits, part_file, read_part
from slipway.components.contracts.verdict import read_verdict
from slipway.components.evaluate.evaluate import Evaluation, EvaluationTask, evaluate_model
from slipway.components.evaluate.measures.baselines import measure_features
from slipway.components.metrics.kinds.choose import label_type

GATE: dict[str, Any] = {
    "accuracy": 0.6,
    "f1": 0.6,
    "auc": 0.8,
    "resamples": 100,
    "rehearsal": {"enabled": False},
    "slices": {"automatic": False},
    "baseline": {"linear": False},
}
KINDS: tuple[LabelKind, ...] = ("multiclass", "number")


def run(bundle: Path, splits: Path, out: Path, gate: dict[str, Any] | None = None) -> Evaluation:
    out.mkdir(exist_ok=True)
    return evaluate_model(
        EvaluationTask(
            bundle_path=bundle,
            splits_path=splits,
            project="toy",
            config={**GATE, **(gate or {})},
            verdict_path=out / "verdict.json",
            card_path=out / "card.html",
        )
    )


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """By kind, a bundle that knows the truth, and splits."""
    made = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        kinds_world.make_splits(folder / "splits", kind)
        kinds_world.make_bundle(folder / "bundle", kind)
        made[kind] = folder / "bundle", folder / "splits"
    return made


def rules_of(result: Evaluation) -> dict[str, Any]:
    return {rule.name: rule for rule in result.verdict.rules}


def test_a_good_model_of_several_classes_passes(worlds, tmp_path: Path, registry: str) -> None:
    gate = {"baseline": {}, "slices": {"columns": ["colour"], "least": {"f1": {"min": 0.5}}}}
    result = run(*worlds["multiclass"], tmp_path, gate)
    assert result.verdict.reasons == []
    assert read_verdict(tmp_path / "verdict.json") == result.verdict
    rules = rules_of(result)
    assert {"beats majority class", "beats logistic regression", "slice colour=red f1"} <= set(
        rules
    )
    test = read_part(worlds["multiclass"][1], "test")["label"].to_numpy()
    assert result.labels == list(CLASSES)
    assert [sum(row) for row in result.confusion] == np.bincount(test).tolist()
    hits = sum(result.confusion[place][place] for place in range(3))
    assert result.metrics["accuracy"] == pytest.approx(hits / 3000)
    assert result.roc == ([], [], [])
    assert result.verdict.thresholds == {"accuracy": 0.6, "f1": 0.6, "auc": 0.8}
    assert rules["beats logistic regression"].value == pytest.approx(0, abs=0.01)
    rarest = CLASSES[int(np.bincount(test).argmin())]
    assert rules[f"class {rarest} rows"].value == np.bincount(test).min()
    card = (tmp_path / "card.html").read_text()
    assert "It predicts one of 3 classes." in card and "Which class is called which" in card
    assert card.count("<svg") == 1 and "AUC against the rest" in card


def test_a_good_model_of_a_number_passes(worlds, tmp_path: Path, registry: str) -> None:
    gate = {"baseline": {}, "slices": {"columns": ["colour"], "least": {"rmse": {"max": 16}}}}
    result = run(*worlds["number"], tmp_path, gate)
    assert result.verdict.reasons == []
    rules = rules_of(result)
    assert {"beats mean", "beats linear regression", "coverage", "r2"} <= set(rules)
    assert result.metrics["rmse"] == pytest.approx(15, abs=0.6)
    assert result.metrics["coverage"] == pytest.approx(0.9, abs=0.02)
    assert rules["coverage"].threshold == 0.85 and rules["r2"].threshold == 0
    assert 0.75 < rules["too good to be true"].value < 0.95
    assert abs(rules["shuffled labels"].value) < 0.1
    assert (result.labels, result.confusion, result.roc) == ([], [], ([], [], []))
    assert result.verdict.thresholds == {"r2": 0, "coverage": 0.85}
    assert "R² 0." in result.headline and "coverage 0." in result.headline
    card = (tmp_path / "card.html").read_text()
    assert "It predicts a number, with an interval that is to hold 90% of the labels." in card
    assert {"Predicted against actual", "Residuals by tenths"} <= {
        name for name in ("Predicted against actual", "Residuals by tenths") if name in card
    }
    assert "90\u00a0% is what they promise" in card and card.count("<svg") == 2


Change = Callable[[pa.Table], pa.Table]


def with_labels(labels: Callable[[np.ndarray], Any]) -> Change:
    return lambda table: kinds_world.with_label(table, labels(table["label"].to_numpy()))


def leak(table: pa.Table) -> pa.Table:
    """The feature a is the label, a little disturbed."""
    label = table["label"].to_numpy() + np.random.default_rng(0).normal(0, 0.01, table.num_rows)
    return table.set_column(table.column_names.index("a"), "a", pa.array(label))


def leak_by_missing(table: pa.Table) -> pa.Table:
    """b is missing exactly where the label is below its median, or is the first class."""
    label = table["label"].to_numpy()
    low = label == 0 if label.dtype == np.int32 else label <= np.median(label)
    b = pa.array(table["b"].to_numpy(), mask=low)
    return table.set_column(table.column_names.index("b"), "b", b)


@dataclass(frozen=True)
class Refusal:
    """What is wrong with a model or the data, and the reason that the verdict must give."""

    kind: LabelKind
    name: str
    reason: str
    model: dict[str, Any] = field(default_factory=dict)
    test: Change | None = None
    train: Change | None = None
    gate: dict[str, Any] = field(default_factory=dict)


SHIFTED = tuple(CLASS_TRUTH[(place + 1) % 3] for place in range(3))
REFUSALS = [
    Refusal("multiclass", "knows nothing", "AUC is below 0.8", {"weights": ((0, 0, 0, 0.1),) * 3}),
    Refusal(
        "multiclass",
        "takes each class for another",
        "lead in AUC over the majority class is not above 0",
        {"weights": SHIFTED},
    ),
    Refusal("multiclass", "not calibrated", "Calibration error is above 0.1", {"scale": 8.0}),
    Refusal(
        "multiclass",
        "probabilities are 2 together",
        "3,000 of 3,000 rows got an answer that is not a probability for each class",
        {"broken": "double"},
    ),
    Refusal(
        "multiclass",
        "a class is too rare",
        "Test rows of the class cat: 0 of at least 50",
        test=with_labels(lambda y: pa.array(np.where(y == 2, 0, y), pa.int32())),
    ),
    Refusal(
        "multiclass",
        "labels of no class",
        "9 test rows have no label of one of the classes",
        test=with_labels(lambda y: pa.array(np.where(np.arange(len(y)) < 9, 3, y), pa.int32())),
    ),
    Refusal(
        "multiclass",
        "a feature gives the class away",
        "The feature a alone has AUC 1.0000",
        test=leak,
        train=leak,
    ),
    Refusal(
        "multiclass",
        "the splits have other classes",
        "it predicts one of 3 classes, and the splits' labels are one of 3 classes (only the model has:"
        " dog; it lacks: cat). Train it on these splits.",
        {"classes": ("ant", "bee", "dog")},
    ),
    Refusal(
        "multiclass",
        "a slice is below",
        "F1 of the slice colour=red is below 0.99",
        gate={"slices": {"columns": ["colour"], "least": {"f1": {"min": 0.99}}}},
    ),
    Refusal(
        "multiclass",
        "the multinomial regression is as good",
        "lead in AUC over the logistic regression is not above 0.05",
        gate={"baseline": {"margin": 0.05}},
    ),
    Refusal("number", "knows nothing", "R² is below 0", {"weights": (0.0, 0.0, 0.0, 100.0)}),
    Refusal(
        "number",
        "turned upside down",
        "lead in R² over the mean is not above 0",
        {"weights": (-30.0, 20.0, 0.0, 100.0)},
    ),
    Refusal("number", "intervals too narrow", "Coverage is below 0.85", {"half": 18.0}),
    Refusal(
        "number",
        "ends of the intervals crossed",
        "rows got an answer that is not a value within its interval",
        {"broken": "crossed"},
    ),
    Refusal(
        "number",
        "wide intervals",
        "Interval width is above 60",
        {"half": 40.0},
        gate={"metrics": {"interval_width": {"max": 60}}},
    ),
    Refusal(
        "number",
        "labels are missing",
        "7 test rows have no label that is a finite number",
        test=with_labels(lambda y: pa.array(y, mask=np.arange(len(y)) < 7)),
    ),
    Refusal(
        "number",
        "one label is infinite",
        "1 test rows have no label that is a finite number",
        test=with_labels(lambda y: pa.array(np.where(np.arange(len(y)) < 1, np.inf, y))),
    ),
    Refusal(
        "number", "a feature gives it away", "The feature a alone has concordance 0.9999", test=leak
    ),
    Refusal(
        "number",
        "worse than a linear regression beyond chance",
        "lead in R² over the linear regression is not above 0",
        {"weights": (30.0, -5.0, 10.0, 100.0), "half": 40.0},
        gate={"baseline": {}},
    ),
    Refusal(
        "number",
        "a slice is above",
        "RMSE of the slice colour=red is above 10",
        gate={"slices": {"columns": ["colour"], "least": {"rmse": {"max": 10}}}},
    ),
    Refusal(
        "number",
        "the test part is too small",
        "Test rows: 500 of at least 1,000",
        test=lambda t: t.slice(0, 500),
    ),
]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: f"{case.kind}: {case.name}")
def test_refused(case: Refusal, worlds, tmp_path: Path, registry: str) -> None:
    bundle, splits = worlds[case.kind]
    if case.model:
        bundle = tmp_path / "bundle"
        kinds_world.make_bundle(bundle, case.kind, **case.model)
    if case.test:
        splits = tmp_path / "splits"
        meta = kinds_world.make_splits(splits, case.kind)
        rewrite(splits, meta, case)
    result = run(bundle, splits, tmp_path, case.gate)
    assert result.outcome == "fail"
    assert case.reason in " ".join(result.verdict.reasons)
    assert read_verdict(tmp_path / "verdict.json").reasons == result.verdict.reasons
    assert np.isfinite(list(result.metrics.values())).all()
    assert "Refused by the gate." in (tmp_path / "card.html").read_text()


def rewrite(folder: Path, splits: Splits, case: Refusal) -> None:
    for part, change in (("test", case.test), ("train", case.train)):
        if change is not None:
            pq.write_table(change(read_part(folder, part)), part_file(folder, part))
    kinds_world.describe(folder, splits, case.kind)


@pytest.mark.parametrize("kind", KINDS)
def test_single_features_are_looked_at_by_order_by_category_and_by_what_is_missing(
    kind: LabelKind, tmp_path: Path
) -> None:
    meta = kinds_world.make_splits(tmp_path, kind)
    label = label_type(kind, classes=CLASSES, level=0.9)
    before = measure_features(tmp_path, meta, label)
    assert set(before) == {"a", "b", "colour", "loud", "at"}
    assert 0.6 < before["a"] < 0.95 and before["loud"] < 0.53
    assert 0.5 < before["colour"] < before["a"]
    pq.write_table(leak_by_missing(read_part(tmp_path, "test")), part_file(tmp_path, "test"))
    after = measure_features(tmp_path, meta, label)
    assert after["b"] > max(before["b"] + 0.05, 0.74)
    assert after["a"] == before["a"]


def test_a_class_between_two_others_is_told_by_bins_and_not_by_order(tmp_path: Path) -> None:
    """One number whose middle values are one class: its order tells the ends only."""
    meta = kinds_world.make_splits(tmp_path, "multiclass")
    for part in ("train", "test"):
        table = read_part(tmp_path, part)
        place = table.column_names.index("a")
        pq.write_table(
            table.set_column(place, "a", pa.array(table["label"].to_numpy().astype(float))),
            part_file(tmp_path, part),
        )
    label = label_type("multiclass", classes=CLASSES)
    a = read_part(tmp_path, "test")
    by_order = label.tells(a["label"].to_numpy(), a["a"].to_numpy())
    assert by_order[[0, 2]] == pytest.approx(1) and by_order[1] < 0.7
    assert measure_features(tmp_path, meta, label)["a"] == pytest.approx(1)


@dataclass(frozen=True)
class Champion:
    """A champion that cannot be compared, and what is said of it."""

    name: str
    gated: LabelKind
    kind: LabelKind
    reason: str
    classes: tuple[str, ...] = CLASSES


INCOMPARABLE = [
    Champion(
        "classes after two classes",
        "multiclass",
        "binary",
        "version 1 predicts one of two classes, 0 or 1, and this model predicts one of 3 classes.",
    ),
    Champion(
        "a number after classes",
        "number",
        "multiclass",
        "version 1 predicts one of 3 classes, and this model predicts a number",
    ),
    Champion(
        "other classes",
        "multiclass",
        "multiclass",
        "and this model predicts one of 3 classes (only the model has: cat; it lacks: dog).",
        ("ant", "bee", "dog"),
    ),
]


@pytest.mark.parametrize("case", INCOMPARABLE, ids=lambda case: case.name)
def test_a_champion_that_answers_another_question_refuses_the_challenger(
    case: Champion, worlds, tmp_path: Path, registry: str
) -> None:
    other = tmp_path / "champion"
    if case.kind == "binary":
        gate_world.make_bundle(other)
    else:
        kinds_world.make_bundle(other, case.kind, classes=case.classes)
    crown(other)
    result = run(*worlds[case.gated], tmp_path)
    (failed,) = [rule for rule in result.verdict.rules if rule.outcome == "fail"]
    assert failed.name == "champion" and failed.overridable
    assert case.reason in failed.reason
    assert "take the alias champion from that version" in failed.reason


def test_a_number_against_a_worse_and_an_equal_champion(
    worlds, tmp_path: Path, registry: str
) -> None:
    worse = tmp_path / "worse"
    kinds_world.make_bundle(worse, "number", weights=(30.0, 0.0, 10.0, 100.0))
    crown(worse)
    margins = {"champion": {"margins": {"r2": 0.01, "rmse": 0.1}}}
    better = rules_of(run(*worlds["number"], tmp_path, margins))
    assert better["champion r2"].low > 0.05 and better["champion rmse"].high < -2
    bundle, splits = worlds["number"]
    mlflow_client().delete_registered_model("toy")
    crown(bundle)
    equal = rules_of(run(bundle, splits, tmp_path, margins))
    assert equal["champion rmse"].value == 0 and equal["champion r2"].outcome == "pass"
    refused = run(worse, splits, tmp_path, margins)
    assert {"champion r2", "champion rmse"} <= {
        rule.name for rule in refused.verdict.rules if rule.outcome == "fail"
    }


def test_a_champion_with_its_classes_in_another_order_is_compared(
    worlds, tmp_path: Path, registry: str
) -> None:
    turned = tmp_path / "turned"
    kinds_world.make_bundle(turned, "multiclass", weights=CLASS_TRUTH[::-1], classes=CLASSES[::-1])
    crown(turned)
    rules = rules_of(run(*worlds["multiclass"], tmp_path))
    assert rules["champion auc"].value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rehearsal_holds_every_output_against_what_the_gate_measured(
    kind: LabelKind, worlds, tmp_path: Path, registry: str
) -> None:
    """A model whose answer to a row depends on its company is seen only by asking it."""
    rehearsed = {"rehearsal": {"rows": 20, "p99_ms": 5000}}
    bundle, splits = worlds[kind]
    good = run(bundle, splits, tmp_path / "good", rehearsed)
    assert good.verdict.reasons == []
    assert rules_of(good)["rehearsal difference"].value < 1e-6
    moody = tmp_path / "moody"
    kinds_world.make_bundle(moody, kind, broken="batch", half=40.0)
    refused = run(moody, splits, tmp_path / "moody-out", rehearsed)
    rule = rules_of(refused)["rehearsal difference"]
    assert rule.outcome == "fail" and rule.value > 1e-4 and not rule.overridable
