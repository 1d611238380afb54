"""Fairness, the least of each class, and costs, through the whole stage; pandas is the oracle."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk
from support import gate_world, kinds_world
from support.registry import crown

from slipway.components.config.gate import FairnessRule
from slipway.components.contracts.bundle import read_bundle, write_bundle
from slipway.components.contracts.rows.scoring import open_model, predict
from slipway.components.contracts.splits import part_file, read_part, read_splits, write_splits
from slipway.components.contracts.verdict import RuleResult, read_verdict
from slipway.components.evaluate.evaluate import Evaluation, EvaluationTask, evaluate_model
from slipway.components.evaluate.measures.blocks import draw_weights
from slipway.components.metrics.costs import cost_matrix
from slipway.components.metrics.fairness import GroupTally, row_sums, spread
from slipway.components.metrics.intervals import percentile
from slipway.components.metrics.kinds.choose import label_type, label_type_of
from slipway.components.train.heads.conformal import fit_sets

GATE: dict[str, Any] = {
    "accuracy": 0.6,
    "f1": 0.3,
    "auc": 0.6,
    "min_class_rows": 20,
    "resamples": 200,
    "rehearsal": {"enabled": False},
    "slices": {"automatic": False},
    "baseline": {"linear": False},
}
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate", "error")


def run(folder: Path, out: Path, gate: dict[str, Any]) -> Evaluation:
    out.mkdir(exist_ok=True)
    return evaluate_model(
        EvaluationTask(
            bundle_path=folder / "bundle",
            splits_path=folder / "splits",
            project="toy",
            config={**GATE, **gate},
            verdict_path=out / "verdict.json",
            card_path=out / "card.html",
        )
    )


def add_sex(splits: Path, *, missing: int = 0) -> None:
    """A sex beside the features: men have the greater `a`."""
    for part in ("train", "validation", "test"):
        table = read_part(splits, part)  # type: ignore[arg-type]
        rng = np.random.default_rng(5)
        man = table["a"].to_numpy() + rng.normal(size=table.num_rows) > 0
        sex = np.where(man, "m", "f").astype(object)
        if part == "test":
            sex[:missing] = None
        pq.write_table(table.append_column("sex", pa.array(sex)), part_file(splits, part))  # type: ignore[arg-type]
    write_splits(splits, replace(read_splits(splits), beside={"sex": "string"}))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind in ("binary", "multiclass", "number"):
        folder = tmp_path_factory.mktemp(kind)
        if kind == "binary":
            gate_world.make_splits(folder / "splits", test_rows=3000)
            gate_world.make_bundle(folder / "bundle")
        else:
            kinds_world.make_splits(folder / "splits", kind)
            kinds_world.make_bundle(folder / "bundle", kind)
        add_sex(folder / "splits")
        made[kind] = folder
    return made


def answered(folder: Path) -> pd.DataFrame:
    """The test rows with what the model calls them."""
    bundle, table = read_bundle(folder / "bundle"), read_part(folder / "splits", "test")
    answers = predict(open_model(folder / "bundle"), bundle, table)
    return pd.DataFrame(
        {
            "sex": table["sex"].to_pylist(),
            "label": table["label"].to_numpy(),
            "called": label_type_of(bundle).decide(answers),
        }
    )


def by_pandas(rows: pd.DataFrame, measure: str, kind: str, positive: int) -> "pd.Series[float]":
    """The groups' values, the slow way."""
    if measure == "error" and kind == "number":
        return ((rows["called"] - rows["label"]) ** 2).groupby(rows["sex"]).mean() ** 0.5
    if measure == "error":
        return (rows["called"] != rows["label"]).groupby(rows["sex"]).mean()
    if measure == "true_positive_rate":
        rows = rows[rows["label"] == positive]
    if measure == "false_positive_rate":
        rows = rows[rows["label"] != positive]
    return (rows["called"] == positive).groupby(rows["sex"]).mean()


def rules_of(result: Evaluation) -> dict[str, RuleResult]:
    return {rule.name: rule for rule in result.verdict.rules}


CASES = [
    *(("binary", measure) for measure in RATES),
    *(("multiclass", measure) for measure in RATES),
    ("number", "error"),
]


@pytest.mark.parametrize(("kind", "measure"), CASES)
def test_the_values_are_those_of_pandas(
    kind: str, measure: str, worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    named = kind == "multiclass" and measure != "error"
    rule = {"by": "sex", "measure": measure, "gap": 0.0, "ratio": 1.0, "min_rows": 50}
    rule |= {"positive": "bee"} if named else {}
    result = run(worlds[kind], tmp_path, {"fairness": [rule]})
    rows = answered(worlds[kind])
    expected = by_pandas(rows, measure, kind, 1)
    name = f"fairness sex {measure}" + (" of bee" if named else "")
    gap, ratio = rules_of(result)[f"{name} gap"], rules_of(result)[f"{name} ratio"]
    assert gap.value == pytest.approx(expected.max() - expected.min(), abs=1e-9)
    assert ratio.value == pytest.approx(expected.min() / expected.max(), abs=1e-9)
    assert gap.low is not None and gap.high is not None and gap.low < gap.high
    assert (gap.outcome, ratio.outcome) == ("fail", "fail")
    assert result.verdict.notes["fairness"][0]["groups"] == pytest.approx(expected.to_dict())
    assert FairnessRule.model_validate(result.verdict.notes["fairness"][0]["rule"]).gap == 0
    assert read_verdict(tmp_path / "verdict.json") == result.verdict
    page = (tmp_path / "card.html").read_text()
    assert f"Compared by sex: {measure.replace('_', ' ')}" in page
    for sex, value in expected.items():
        assert f'<th scope="row">{sex}</th>' in page and f"{value:.3g}" in page
    loose = {**rule, "gap": float(gap.value or 0) + 1e-6, "ratio": float(ratio.value or 0) - 1e-6}
    passed = run(worlds[kind], tmp_path / "again", {"fairness": [loose]})
    assert {rules_of(passed)[f"{name} {side}"].outcome for side in ("gap", "ratio")} == {"pass"}


def test_nothing_is_added_where_nothing_is_asked(
    worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    run(worlds["binary"], tmp_path, {})
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert "fairness" not in verdict["notes"]
    assert not [rule for rule in verdict["rules"] if rule["name"].startswith(("fair", "class"))]
    assert "Fairness" not in (tmp_path / "card.html").read_text()


CLOSED: list[tuple[dict[str, Any], int, str]] = [
    ({"min_rows": 5000}, 0, "Rows of sex=f for the true positive rate"),
    (
        {},
        40,
        "40 test rows have no sex, so how it does by them is not known. Fill it at the source",
    ),
    ({"groups": ["f", "m", "x"]}, 0, "Rows of sex=x for the true positive rate: 0 of at least 100"),
    (
        {"groups": ["m", "x"], "min_rows": 1},
        0,
        "sex has values that are no declared group: f. Add them to",
    ),
    ({"leave_out": ["f"]}, 0, "There are no two groups of sex to compare."),
    ({"by": "row_id"}, 0, "row_id has 3,000 values; at most 50 groups can be compared"),
    ({"positive": "7"}, 0, "The model has no class 7."),
    ({"by": "a"}, 0, "gate.fairness names 'a', a number: slices need categories"),
    ({"by": "shoe"}, 0, "gate.fairness names 'shoe', which the test table does not have"),
]


@pytest.mark.parametrize(("change", "missing", "says"), CLOSED, ids=[str(c[0]) for c in CLOSED])
def test_what_cannot_be_told_is_refused(
    change: dict[str, Any],
    missing: int,
    says: str,
    worlds: dict[str, Path],
    tmp_path: Path,
    registry: str,
) -> None:
    folder = worlds["binary"]
    if missing:
        folder = tmp_path
        gate_world.make_splits(folder / "splits", test_rows=3000)
        gate_world.make_bundle(folder / "bundle")
        add_sex(folder / "splits", missing=missing)
    rule = {"by": "sex", "measure": "true_positive_rate", "gap": 1.0, **change}
    result = run(folder, tmp_path / "out", {"fairness": [rule]})
    assert result.outcome == "fail"
    assert says in " ".join(result.verdict.reasons)


def test_nulls_that_are_left_out_on_purpose(tmp_path: Path, registry: str) -> None:
    gate_world.make_splits(tmp_path / "splits", test_rows=3000)
    gate_world.make_bundle(tmp_path / "bundle")
    add_sex(tmp_path / "splits", missing=40)
    rule = {"by": "sex", "measure": "selection_rate", "gap": 1.0, "leave_out": "(missing)"}
    result = run(tmp_path, tmp_path / "out", {"fairness": [rule]})
    assert result.verdict.reasons == []
    expected = by_pandas(answered(tmp_path).dropna(), "selection_rate", "binary", 1)
    assert result.verdict.notes["fairness"][0]["groups"] == pytest.approx(expected.to_dict())


def test_replicates_are_the_rows_drawn_again() -> None:
    rng = np.random.default_rng(0)
    rows, blocks = 400, 12
    labels, answers = rng.integers(0, 2, rows), rng.random(rows).astype(np.float32)
    block, group = rng.integers(0, blocks, rows), rng.integers(-1, 3, rows)
    label = label_type("binary", threshold=0.5)
    tally = GroupTally(label, 3, blocks)
    tally.add(row_sums(label, "true_positive_rate", None, labels, answers), block, group)
    weights = draw_weights(blocks, 20, 1)
    drawn = tally.resample(weights, np.arange(blocks))
    for replicate, times in zip(drawn, weights, strict=True):
        again = np.repeat(np.arange(rows), times[block].astype(int))
        for place in range(3):
            taken = again[(group[again] == place) & (labels[again] == 1)]
            assert replicate[place] == pytest.approx((answers[taken] >= 0.5).mean())
    assert tally.rows().tolist() == [
        int(((group == place) & (labels == 1)).sum()) for place in range(3)
    ]


def test_how_far_groups_lie_apart() -> None:
    gap, ratio = spread(
        np.array([[0.2, 0.5, 0.4], [0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [np.nan, 1, 1]])
    )
    assert gap[:3].tolist() == pytest.approx([0.3, 0.0, 0.5])
    assert ratio[0] == pytest.approx(0.4) and ratio[2] == 0
    assert np.isnan(ratio[[1, 3]]).all() and np.isnan(gap[3])


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_the_least_of_each_class_is_that_of_scikit_learn(
    kind: str, worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    asked = {"*": {"f1": 0.999, "recall": 0.0, "precision": 0.0}}
    result = run(worlds[kind], tmp_path, {"classes": asked})
    rows, rules = answered(worlds[kind]), rules_of(result)
    names = ("0", "1") if kind == "binary" else kinds_world.CLASSES
    precision, recall, f1, count = sk.precision_recall_fscore_support(rows["label"], rows["called"])
    for place, name in enumerate(names):
        assert rules[f"class {name} f1"].value == pytest.approx(f1[place])
        assert rules[f"class {name} recall"].value == pytest.approx(recall[place])
        assert rules[f"class {name} precision"].value == pytest.approx(precision[place])
        assert rules[f"class {name} f1"].rows == count[place]
        low, high = rules[f"class {name} recall"].low, rules[f"class {name} recall"].high
        assert low is not None and high is not None and low < recall[place] < high
        assert rules[f"class {name} f1"].outcome == "fail"
        assert rules[f"class {name} recall"].outcome == "pass"


COSTS = {"bee": {"ant": 6.0}, "ant": {"bee": 2.0}}
BINARY_COSTS = {"1": {"0": 4.0}}


def with_costs(kind: str, worlds: dict[str, Path], folder: Path) -> Path:
    """The world with a model that knows what its mistakes cost."""
    shutil.copytree(worlds[kind], folder)
    costs = COSTS if kind == "multiclass" else BINARY_COSTS
    write_bundle(folder / "bundle", replace(read_bundle(folder / "bundle"), costs=costs))
    return folder


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_the_expected_cost_is_gated(
    kind: str, worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    folder = with_costs(kind, worlds, tmp_path / "world")
    rows, label = answered(folder), label_type_of(read_bundle(folder / "bundle"))
    matrix = cost_matrix(label.costs, label.class_names)  # type: ignore[attr-defined]
    cost = matrix[rows["label"], rows["called"]].mean()
    shares = np.bincount(rows["label"]) / len(rows)
    constant = (shares @ matrix).min()
    gate = {
        "metrics": {"expected_cost": {"max": float(cost) - 1e-6}},
        "champion": {"margins": {"expected_cost": 0.01}},
        "slices": {
            "columns": ["colour"],
            "least": {"expected_cost": {"max": 100}},
            "margins": {"expected_cost": 100},
            "automatic": False,
        },
        # The predictor itself answers by the costs.
        "rehearsal": {"rows": 20, "p99_ms": 10_000, "memory_mb": 4000},
    }
    result = run(folder, tmp_path / "out", gate)
    rules = rules_of(result)
    assert result.verdict.metrics["expected_cost"] == pytest.approx(cost)
    assert [r.name for r in result.verdict.rules if r.outcome != "pass"] == ["expected_cost"]
    beaten = rules["costs less than a constant"]
    assert (beaten.outcome, beaten.threshold) == ("pass", pytest.approx(constant))
    assert f"always answering {label.class_names[int((shares @ matrix).argmin())]}" in beaten.reason
    page = (tmp_path / "out" / "card.html").read_text()
    assert "expected cost</th>" in page and f"{cost:.3f}" in page
    # A champion from before there were costs decides in its own way, and is held against ours.
    crown(worlds[kind] / "bundle")
    again = rules_of(run(folder, tmp_path / "again", gate))
    compared, theirs = again["champion expected_cost"], answered(worlds[kind])
    colours = read_part(folder / "splits", "test")["colour"].to_numpy()
    for colour in ("red", "green", "blue"):
        ours, others = (one[colours == colour] for one in (rows, theirs))
        own = matrix[ours["label"], ours["called"]].mean()
        assert rules[f"slice colour={colour} expected_cost"].value == pytest.approx(own)
        against = again[f"slice colour={colour} expected_cost against champion"]
        wanted = own - matrix[others["label"], others["called"]].mean()
        assert (against.value, against.outcome) == (pytest.approx(wanted), "pass")
    assert compared.value == pytest.approx(cost - matrix[theirs["label"], theirs["called"]].mean())
    if kind == "multiclass":
        assert compared.value < 0


def test_sets_are_gated_by_what_they_hold(
    worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    shutil.copytree(worlds["multiclass"], tmp_path / "world")
    bundle = read_bundle(tmp_path / "world" / "bundle")
    table = read_part(tmp_path / "world" / "splits", "validation")
    found = predict(open_model(tmp_path / "world" / "bundle"), bundle, table)
    edge = fit_sets(table["label"].to_numpy(), found, 0.9)
    write_bundle(tmp_path / "world" / "bundle", replace(bundle, level=0.9, set_threshold=edge))
    # A champion without sets is compared in all else, and the predictor answers with them.
    crown(worlds["multiclass"] / "bundle")
    rehearsal = {"rows": 20, "p99_ms": 10_000, "memory_mb": 4000}
    result = run(tmp_path / "world", tmp_path / "out", {"rehearsal": rehearsal})
    assert result.verdict.reasons == []
    rule = rules_of(result)["coverage"]
    assert rule.threshold == 0.85 and rule.value == pytest.approx(0.9, abs=0.03)
    assert 1 <= result.metrics["set_size"] < 2.5
    page = (tmp_path / "out" / "card.html").read_text()
    assert "with a set that is to hold 90% of the labels" in page and "set size" in page
    # Sets from too high a threshold hold less than they promise.
    narrow = replace(bundle, level=0.99, set_threshold=0.95)
    write_bundle(tmp_path / "world" / "bundle", narrow)
    refused = run(tmp_path / "world", tmp_path / "again", {})
    assert [r.name for r in refused.verdict.rules if r.outcome != "pass"] == ["coverage"]


def test_a_model_that_costs_no_less_than_a_constant_is_refused(
    worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    folder = with_costs("binary", worlds, tmp_path / "world")
    bundle = read_bundle(folder / "bundle")
    # Where a miss costs a thousand, the one cheap answer is 1, and this model misses.
    write_bundle(folder / "bundle", replace(bundle, costs={"1": {"0": 1000.0}}))
    rule = rules_of(run(folder, tmp_path / "out", {}))["costs less than a constant"]
    assert rule.outcome == "fail" and "(always answering 1 has 0." in rule.reason


def test_the_interval_of_a_gap_holds_the_truth_about_as_often_as_it_says() -> None:
    """Days move both groups, and each a little: 60 days of 50 rows, a true gap of 0.1."""
    label, days, rows, inside = label_type("binary", threshold=0.5), 60, 3000, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        day, group = rng.integers(0, days, rows), (rng.random(rows) < 0.4).astype(int)
        moved = rng.normal(0, 0.08, days)[day] + rng.normal(0, 0.04, (2, days))[group, day]
        called = rng.random(rows) < 0.4 + 0.1 * group + moved
        tally = GroupTally(label, 2, days)
        answers = called.astype(np.float32)
        tally.add(row_sums(label, "selection_rate", None, np.zeros(rows), answers), day, group)
        drawn = tally.resample(draw_weights(days, 200, seed), np.arange(days))
        low, high = percentile(spread(drawn)[0], 0.95)
        assert low is not None and high is not None
        inside += low <= 0.1 <= high
    assert 0.87 <= inside / 200 <= 0.99


def test_slices_by_a_column_beside_the_features(
    worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    sliced = {"columns": ["sex"], "required": {"sex": ["f"]}, "least": {"accuracy": {"min": 0.99}}}
    result = run(worlds["binary"], tmp_path, {"slices": {**sliced, "automatic": False}})
    rows = answered(worlds["binary"])
    right = (rows["called"] == rows["label"]).groupby(rows["sex"]).mean()
    for sex, value in right.items():
        rule = rules_of(result)[f"slice sex={sex} accuracy"]
        assert (rule.value, rule.outcome) == (pytest.approx(value), "fail")
