"""`gate.weights` through the whole stage: what counts by a weight, what does not, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk
from support import gate_world, kinds_world
from support.registry import crown

from slipway.components.contracts.bundle import read_bundle, write_bundle
from slipway.components.contracts.monitoring.reference import ReferenceSummary
from slipway.components.contracts.rows.scoring import open_model, predict
from slipway.components.contracts.splits import part_file, read_part, read_splits, write_splits
from slipway.components.contracts.verdict import RuleResult, read_verdict
from slipway.components.evaluate.evaluate import Evaluation, EvaluationTask, evaluate_model
from slipway.components.metrics.costs import cost_matrix
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.register.reference import FILE, write_reference

GATE: dict[str, Any] = {
    "accuracy": 0.5,
    "f1": 0.3,
    "auc": 0.6,
    "min_class_rows": 20,
    "resamples": 200,
    "rehearsal": {"enabled": False},
    "slices": {"automatic": False},
    "baseline": {"linear": False},
    "weights": "exposure",
}
KINDS = ("binary", "multiclass", "number")
COSTS: dict[str, Any] = {"binary": {"1": {"0": 1.5}}, "multiclass": {"bee": {"ant": 6.0}}}


def run(folder: Path, out: Path, gate: dict[str, Any], **task: Any) -> Evaluation:
    out.mkdir(exist_ok=True)
    return evaluate_model(
        EvaluationTask(
            bundle_path=folder / "bundle",
            splits_path=folder / "splits",
            project="toy",
            config={**GATE, **gate},
            verdict_path=out / "verdict.json",
            card_path=out / "card.html",
            **task,
        )
    )


def add_column(splits: Path, name: str, make: Any, kind: str = "double") -> None:
    """A column beside the features, of each part's table."""
    for part in ("train", "validation", "test"):
        table = read_part(splits, part)  # type: ignore[arg-type]
        column = pa.array(make(part, table))
        pq.write_table(table.append_column(name, column), part_file(splits, part))  # type: ignore[arg-type]
    meta = read_splits(splits)
    write_splits(splits, replace(meta, beside={**meta.beside, name: kind}))


def exposure(part: str, table: pa.Table) -> np.ndarray:
    """Great where `a` is: so the weights say something of the answers."""
    return np.round(np.exp(table["a"].to_numpy()), 3) * 250 + 1


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        if kind == "binary":
            gate_world.make_splits(folder / "splits", test_rows=3000)
            gate_world.make_bundle(folder / "bundle")
        else:
            kinds_world.make_splits(folder / "splits", kind)
            kinds_world.make_bundle(folder / "bundle", kind)
        bundle = read_bundle(folder / "bundle")
        write_bundle(folder / "bundle", replace(bundle, costs=COSTS.get(kind, {})))
        add_column(folder / "splits", "exposure", exposure)
        made[kind] = folder
    return made


def rules_of(result: Evaluation) -> dict[str, RuleResult]:
    return {rule.name: rule for rule in result.verdict.rules}


def answered(folder: Path) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The label's kind, and of the test rows answers, labels, weights and colours."""
    table, bundle = read_part(folder / "splits", "test"), read_bundle(folder / "bundle")
    answers = predict(open_model(folder / "bundle"), bundle, table)
    columns = (table[name].to_numpy() for name in ("label", "exposure", "colour"))
    return label_type_of(bundle), answers, *columns


LEAD = {"binary": "accuracy", "multiclass": "accuracy", "number": "rmse"}


def measured(kind: str, label: Any, answers: Any, labels: Any, weights: Any) -> float:
    called = label.decide(answers)
    if kind == "number":
        return sk.root_mean_squared_error(labels, called, sample_weight=weights)
    return sk.accuracy_score(labels, called, sample_weight=weights)


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_slices_groups_and_the_champion_are_weighed(
    kind: str, worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    lead = LEAD[kind]
    other = tmp_path / "champion"
    shutil.copytree(worlds[kind], other)
    crown(other / "bundle")
    gate: dict[str, Any] = {
        "slices": {
            "columns": ["colour"],
            "least": {lead: {"min": 0}},
            "margins": {lead: 1.0},
            "automatic": False,
        },
        "fairness": [{"by": "colour", "measure": "error", "gap": 100.0}],
        "baseline": {},
        "champion": {"margins": {lead: 0.01}},
    }
    if kind != "number":
        gate["classes"] = {"*": {"recall": 0.01}}
    result = run(worlds[kind], tmp_path / "out", gate)
    assert result.verdict.reasons == []
    rules = rules_of(result)
    label, answers, labels, weights, colour = answered(worlds[kind])
    value = measured(kind, label, answers, labels, weights)
    plain = measured(kind, label, answers, labels, None)
    assert result.metrics[lead] == pytest.approx(value, rel=1e-9)
    assert abs(value - plain) > 1e-3
    low, high = result.verdict.notes["intervals"][lead]
    assert low < value < high
    for name in ("red", "green", "blue"):
        of = colour == name
        rule = rules[f"slice colour={name} {lead}"]
        wanted = measured(kind, label, answers[of], labels[of], weights[of])
        assert (rule.value, rule.rows) == (pytest.approx(wanted), of.sum())
        assert rules[f"slice colour={name} {lead} against champion"].value == pytest.approx(0)
    errors = {
        name: measured(kind, label, answers[of], labels[of], weights[of])
        for name in ("red", "green", "blue")
        for of in [colour == name]
    }
    if kind != "number":
        errors = {name: 1 - right for name, right in errors.items()}
    gap = rules["fairness colour error gap"]
    assert gap.value == pytest.approx(max(errors.values()) - min(errors.values()))
    assert rules[f"champion {lead}"].value == 0
    worth = weights.sum() ** 2 / (weights**2).sum()
    assert rules["effective rows"].value == int(worth) < rules["test rows"].value
    if kind != "number":
        recall = sk.recall_score(labels, label.decide(answers), average=None, sample_weight=weights)
        for place, name in enumerate(label.class_names):
            rule = rules[f"class {name} recall"]
            assert (rule.value, rule.rows) == (
                pytest.approx(recall[place]),
                (labels == place).sum(),
            )
        matrix = cost_matrix(COSTS[kind], label.class_names)
        shares = np.bincount(labels.astype(int), weights) / weights.sum()
        beaten = rules["costs less than a constant"]
        assert beaten.threshold == pytest.approx((shares @ matrix).min())
        assert beaten.value == pytest.approx(
            np.average(matrix[labels.astype(int), label.decide(answers)], weights=weights)
        )
    page = (tmp_path / "out" / "card.html").read_text()
    assert "Metrics are weighted by exposure; numbers of rows are not." in page
    assert "resampled by day, weighted by exposure" in page
    assert f"The test rows are worth {worth:,.0f} rows of equal weight." in page
    assert read_verdict(tmp_path / "out" / "verdict.json") == result.verdict


@pytest.mark.parametrize("kind", KINDS)
def test_monitoring_is_given_what_each_row_counted_once_comes_to(
    kind: str, worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    """It has no weights of the rows that are served."""
    folder = worlds[kind]
    fairness = {"fairness": [{"by": "colour", "measure": "error", "gap": 100.0}]}
    weighed = run(folder, tmp_path / "weighed", fairness)
    plain = run(folder, tmp_path / "plain", {**fairness, "weights": None})
    assert plain.metrics != weighed.metrics and "unweighted" not in plain.verdict.notes
    assert weighed.verdict.notes["unweighted"] == {
        "metrics": plain.verdict.metrics,
        "intervals": plain.verdict.notes["intervals"],
    }
    assert weighed.verdict.notes["fairness"] == plain.verdict.notes["fairness"]
    assert weighed.verdict.notes["weights"]["column"] == "exposure"
    (tmp_path / "reference").mkdir()
    write_reference(
        tmp_path / "reference",
        splits_path=folder / "splits",
        splits=read_splits(folder / "splits"),
        bundle_path=folder / "bundle",
        bundle=read_bundle(folder / "bundle"),
        verdict=weighed.verdict,
    )
    kept = ReferenceSummary.read(tmp_path / "reference" / FILE)
    assert kept.release == plain.verdict.metrics
    assert kept.intervals == plain.verdict.notes["intervals"]
    assert "exposure" not in pq.read_schema(tmp_path / "reference" / "reference.parquet").names


def test_only_the_size_of_weights_against_one_another_counts(
    worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    """Weights that are all equal, whatever they are, give what no weights do."""
    shutil.copytree(worlds["binary"], tmp_path / "world")
    for name, value in (("one", 1), ("tiny", 1e-7)):
        add_column(
            tmp_path / "world" / "splits", name, lambda _, table, v=value: [v] * table.num_rows
        )
    wanted = run(tmp_path / "world", tmp_path / "plain", {"weights": None, "baseline": {}})
    for name in ("one", "tiny"):
        found = run(tmp_path / "world", tmp_path / name, {"weights": name, "baseline": {}})
        assert found.verdict.metrics == pytest.approx(wanted.verdict.metrics, abs=1e-9)
        pairs = rules_of(found), rules_of(wanted)
        assert pairs[0]["beats logistic regression"].low == pytest.approx(
            pairs[1]["beats logistic regression"].low, abs=1e-4
        )
        assert pairs[0]["effective rows"].value == pytest.approx(3000, abs=1)


def test_an_alert_that_would_fire_at_once_is_told_from_rows_counted_once(
    worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    """Monitoring's accuracy is not weighed: the advice must not be either."""
    monitoring = {"alerts": {"accuracy": 0.999}}
    result = run(worlds["binary"], tmp_path, {}, monitoring=monitoring)
    said = " ".join(result.verdict.notes["advice"])
    once = result.verdict.notes["unweighted"]["metrics"]["accuracy"]
    assert f"this model has {once:.4f} on the test part, each row counted once: LOW_ACC" in said
    assert f"this model has {result.metrics['accuracy']:.4f}" not in said


def spoil(values: dict[int, Any]) -> Any:
    def make(part: str, table: pa.Table) -> list[Any]:
        weights = exposure(part, table).tolist()
        for place, value in values.items() if part == "test" else ():
            weights[place] = value
        return weights

    return make


REFUSED: list[tuple[str, Any, str]] = [
    (
        "unfit",
        spoil({0: 0.0, 5: -1.0, 6: -2.0, 9: None, 11: float("nan"), 12: float("inf")}),
        "gate.weights (unfit): of 3,000 rows of the test part 2 are null or NaN, 1 are infinite, 2 are"
        " below 0, 1 are 0. A weight is a finite number above 0",
    ),
    (
        "words",
        lambda _, table: ["much"] * table.num_rows,
        "column of type string, which holds no numbers",
    ),
    (
        "flags",
        lambda _, table: [True] * table.num_rows,
        "column of type bool, which holds no numbers",
    ),
]


@pytest.mark.parametrize(("name", "make", "says"), REFUSED, ids=[case[0] for case in REFUSED])
def test_a_column_that_cannot_weigh_is_refused_with_its_rows(
    name: str, make: Any, says: str, worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    shutil.copytree(worlds["binary"], tmp_path / "world")
    add_column(tmp_path / "world" / "splits", name, make)
    result = run(tmp_path / "world", tmp_path / "out", {"weights": name})
    assert result.outcome == "fail" and result.metrics == {}
    assert says in rules_of(result)["sound measurement"].reason


def test_a_column_that_is_not_there_is_refused(
    worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    for name in ("expsure", "label"):
        result = run(worlds["binary"], tmp_path / name, {"weights": name})
        reason = rules_of(result)["sound measurement"].reason
        assert f"gate.weights names '{name}', which the test table does not have. It has:" in reason


def test_training_rows_that_the_baseline_cannot_weigh_are_refused(
    worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    shutil.copytree(worlds["binary"], tmp_path / "world")
    add_column(
        tmp_path / "world" / "splits",
        "late",
        lambda part, table: [
            0.0 if part == "train" and i < 7 else 1.0 for i in range(table.num_rows)
        ],
    )
    result = run(tmp_path / "world", tmp_path / "out", {"weights": "late", "baseline": {}})
    reason = rules_of(result)["sound measurement"].reason
    assert "gate.weights (late): of 6,000 rows of the train part 7 are 0." in reason


def test_a_few_heavy_rows_are_too_few_to_decide(
    worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    shutil.copytree(worlds["binary"], tmp_path / "world")
    add_column(
        tmp_path / "world" / "splits",
        "heavy",
        lambda _, table: [1e6 if i < 20 else 1.0 for i in range(table.num_rows)],
    )
    result = run(tmp_path / "world", tmp_path / "out", {"weights": "heavy"})
    rule = rules_of(result)["effective rows"]
    assert (rule.outcome, rule.value, rule.threshold) == ("fail", 20, 1000)
    assert "that the test rows are worth by heavy: 20 of at least 1,000." in rule.reason
    assert "cap the weights at the source" in (tmp_path / "out" / "card.html").read_text()


def test_the_baseline_learns_with_the_weights_that_it_is_measured_by(
    worlds: dict[str, Path], tmp_path: Path, registry: str
) -> None:
    """Two groups with opposite truths: who weighs one of them up learns that one."""
    folder = tmp_path / "world"
    shutil.copytree(worlds["binary"], folder)
    for part in ("train", "test"):
        table = read_part(folder / "splits", part)  # type: ignore[arg-type]
        odd = np.arange(table.num_rows) % 2 == 1
        turned = np.where(odd, 1 - table["label"].to_numpy(), table["label"].to_numpy())
        place = table.column_names.index("label")
        table = table.set_column(place, "label", pa.array(turned.astype(np.int8)))
        pq.write_table(table, part_file(folder / "splits", part))  # type: ignore[arg-type]
    add_column(
        folder / "splits",
        "upright",
        lambda _, table: np.where(np.arange(table.num_rows) % 2 == 1, 0.01, 1.0),
    )
    result = run(folder, tmp_path / "out", {"weights": "upright", "baseline": {}})
    # Weighed, it finds the model's own truth; with each row counted once there is none to find.
    assert abs(rules_of(result)["beats logistic regression"].value) < 0.02
