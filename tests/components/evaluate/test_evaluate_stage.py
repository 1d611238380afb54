"""The stage on a small world: what passes, and everything that must not."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support import gate_world as world
from support.model_keys import make_keys

from slipway.components.contracts.bundle import ONNX, bundle_hash
from slipway.components.contracts.splits import Splits, part_file, read_part
from slipway.components.contracts.verdict import read_verdict
from slipway.components.evaluate.evaluate import Evaluation, EvaluationTask, evaluate_model
from slipway.components.evaluate.measures.baselines import measure_features
from slipway.components.metrics.kinds.binary import BinaryLabel
from slipway.components.support.errors import SlipwayError

GATE: dict[str, Any] = {
    "accuracy": 0.7,
    "f1": 0.5,
    "auc": 0.7,
    "resamples": 200,
    "rehearsal": {"enabled": False},
    "baseline": {"linear": False},
}


def run(
    bundle: Path, splits: Path, out: Path, gate: dict[str, Any] | None = None, **more: str
) -> Evaluation:
    out.mkdir(exist_ok=True)
    return evaluate_model(
        EvaluationTask(
            bundle_path=bundle,
            splits_path=splits,
            project="toy",
            config={**GATE, **(gate or {})},
            verdict_path=out / "verdict.json",
            card_path=out / "card.html",
            **more,
        )
    )


def test_a_stage_that_is_killed_leaves_no_rehearsed_predictor(bundle: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from slipway.components.evaluate.rehearse import COMMAND, _predictor\n"
        "with _predictor(Path(sys.argv[1]), COMMAND) as (client, process):\n"
        "    print(process.pid, flush=True)\n    time.sleep(120)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(bundle)], stdout=subprocess.PIPE, text=True
    ) as stage:
        assert stage.stdout is not None
        predictor = Path("/proc") / stage.stdout.readline().strip()
        assert is_alive(predictor)
        stage.kill()
    deadline = time.monotonic() + 30
    while is_alive(predictor):
        assert time.monotonic() < deadline, "the predictor serves on, for nobody"
        time.sleep(0.1)


def is_alive(process: Path) -> bool:
    """Whether a process of /proc is there, and not only its exit code."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_good_model_passes_with_rehearsal(
    bundle: Path, splits: Path, tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Signatures come with the registration: a rehearsal asks for none.
    monkeypatch.setenv("MODEL_PUBLIC_KEYS", make_keys().public)
    result = run(bundle, splits, tmp_path, {"rehearsal": {"rows": 50}})
    assert result.verdict.reasons == []
    assert result.outcome == "pass"
    verdict = read_verdict(tmp_path / "verdict.json")
    assert verdict == result.verdict
    assert verdict.model_hash == bundle_hash(bundle)
    assert verdict.test_rows == 6000
    assert set(verdict.thresholds) == {"accuracy", "f1", "auc"} <= set(verdict.metrics)
    assert verdict.notes["champion"] == "There is no champion yet: nothing was compared."
    assert verdict.notes["rehearsal"].startswith("50 rows, largest difference")
    names = {rule.name for rule in verdict.rules}
    assert {"rehearsal", "rehearsal p99_ms", "rehearsal memory_mb", "rehearsal difference"} <= names
    assert sum(map(sum, result.confusion)) == 6000
    accuracy = (result.confusion[0][0] + result.confusion[1][1]) / 6000
    assert result.metrics["accuracy"] == pytest.approx(accuracy)
    assert all(np.isfinite(list(result.metrics.values())))
    false, true, thresholds = result.roc
    assert len(false) == len(true) == len(thresholds) <= 200
    assert np.isfinite([false, true, thresholds]).all()
    card = (tmp_path / "card.html").read_text()
    assert "Passed the gate." in card and verdict.model_hash in card
    assert "<script" not in card and "http://" not in card.replace("http://www.w3.org", "")
    json.dumps(result.metadata())


@pytest.mark.parametrize("judge", ["tie", "point"])
def test_where_the_truth_is_linear_a_tie_is_let_through_unless_the_project_asks_for_more(
    judge: str, bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    """The truth is a logistic regression; the model misses it by a little, and the fit by chance."""
    model = tmp_path / "model"
    world.make_bundle(model, weights=(1.5, -1.2, 0.4, -1.0))
    result = run(model, splits, tmp_path, {"baseline": {"judge": judge}})
    (rule,) = [r for r in result.verdict.rules if r.name == "beats logistic regression"]
    assert rule.value is not None and rule.low is not None and rule.high is not None
    assert -0.002 < rule.value <= 0 <= rule.high
    if judge == "tie":
        assert result.verdict.reasons == []
        assert "But it is a tie: the upper bound of its interval is" in rule.reason
    else:
        assert result.verdict.reasons == [rule.reason]
        assert rule.reason.endswith("The setting is gate.baseline.")


def test_a_model_that_is_worse_than_a_logistic_regression_beyond_chance_is_refused(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    model = tmp_path / "model"
    world.make_bundle(model, weights=(1.5, -0.4, 0.5, -1.0))
    result = run(model, splits, tmp_path, {"baseline": {}})
    (reason,) = result.verdict.reasons
    assert "That is no chance" in reason and reason.endswith("The setting is gate.baseline.")


def rewritten(
    change: Callable[[pa.Table], pa.Table], honest: bool = True
) -> Callable[[Path, Splits], None]:
    def apply(folder: Path, splits: Splits) -> None:
        world.rewrite_test(folder, splits, change(read_part(folder, "test")), honest=honest)

    return apply


def with_labels(labels: Callable[[np.ndarray], Any]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        new = labels(table["label"].to_numpy())
        return table.set_column(table.column_names.index("label"), "label", new)

    return change


def leak(table: pa.Table) -> pa.Table:
    index = table.column_names.index("a")
    label = table["label"].to_numpy() + np.random.default_rng(0).normal(0, 0.01, table.num_rows)
    return table.set_column(index, "a", pa.array(label))


def with_a_bad_customer(table: pa.Table) -> pa.Table:
    """45 customers; the one with the fewest rows has labels that are turned around."""
    customer = np.array([f"c{i % 44}" for i in range(table.num_rows)], object)
    label, a = table["label"].to_numpy().copy(), table["a"].to_numpy()
    customer[::150] = "zz"
    label[::150] = a[::150] < 0
    table = table.set_column(
        table.column_names.index("customer"), "customer", pa.array(customer, pa.string())
    )
    return table.set_column(table.column_names.index("label"), "label", pa.array(label))


def cut_bytes(folder: Path, splits: Splits) -> None:
    path = part_file(folder, "test")
    path.write_bytes(path.read_bytes()[:-5000])


@dataclass(frozen=True)
class Refusal:
    """What is wrong with a model or the data, and the reason that the verdict must give."""

    name: str
    reason: str
    model: dict[str, Any] = field(default_factory=dict)
    data: Callable[[Path, Splits], None] | None = None
    gate: dict[str, Any] = field(default_factory=dict)
    damage: Callable[[Path], None] | None = None


REFUSALS = [
    Refusal("trained on shuffled labels", "AUC is below 0.7", {"weights": (0.01, 0.02, 0.0, -0.6)}),
    Refusal(
        "turned upside down",
        "lead in AUC over the majority class is not above 0",
        {"weights": (-1.5, 1.0, 0, 0)},
    ),
    Refusal("answers NaN", "rows got an answer that is not a probability", {"broken": "nan"}),
    Refusal("answers above 1", "rows got an answer that is not a probability", {"broken": "two"}),
    Refusal("not calibrated", "Calibration error is above 0.1", {"scale": 8.0}),
    Refusal("never says 1", "F1 is below 0.5: 0", {"threshold": 0.9999}),
    Refusal(
        "its file is damaged", "cannot be loaded", damage=lambda f: (f / ONNX).write_bytes(b"x")
    ),
    Refusal(
        "answers by its company",
        "largest difference of a served probability is above 1e-05",
        {"broken": "batch"},
        gate={"rehearsal": {"rows": 20}, "accuracy": 0.5, "f1": 0.1},
    ),
    Refusal(
        "test table is cut short",
        "splits.json says 6,000",
        data=rewritten(lambda table: table.slice(0, 5000), honest=False),
    ),
    Refusal("test file is damaged", "The model could not be measured", data=cut_bytes),
    Refusal(
        "test file is missing",
        "The model could not be measured",
        data=lambda folder, _: part_file(folder, "test").unlink(),
    ),
    Refusal(
        "test table is small",
        "Test rows: 400 of at least 1,000",
        data=rewritten(lambda t: t.slice(0, 400)),
    ),
    Refusal("test table is empty", "no test row", data=rewritten(lambda t: t.slice(0, 0))),
    Refusal(
        "one class only",
        "Test rows with label 1: 0 of at least 50",
        data=rewritten(with_labels(lambda y: pa.array(np.zeros_like(y)))),
    ),
    Refusal(
        "labels are missing",
        "test rows have no label of 0 or 1",
        data=rewritten(with_labels(lambda y: pa.array(y, mask=np.arange(len(y)) < 7))),
    ),
    Refusal(
        "labels are of three kinds",
        "test rows have no label of 0 or 1",
        data=rewritten(
            with_labels(lambda y: pa.array(np.where(np.arange(len(y)) < 9, 2, y).astype(np.int8)))
        ),
    ),
    Refusal(
        "a feature is missing",
        "lacks the features b",
        data=rewritten(lambda t: t.drop_columns(["b"])),
    ),
    Refusal(
        "a feature gives the label away", "The feature a alone has AUC 1.0000", data=rewritten(leak)
    ),
    Refusal(
        "too few days for an interval",
        "too few blocks",
        data=rewritten(lambda t: t.slice(0, 1400)),
        gate={"judge": "interval"},
    ),
    Refusal(
        "a slice is below",
        "AUC of the slice colour=blue is below 0.95",
        gate={"slices": {"columns": ["colour"], "least": {"auc": {"min": 0.95}}}},
    ),
    Refusal(
        "a required slice is empty",
        "Required slice colour=violet, rows: 0 of at least 500",
        gate={
            "slices": {
                "columns": ["colour"],
                "required": {"colour": ["violet"]},
                "least": {"auc": {"min": 0.5}},
            }
        },
    ),
    Refusal(
        "a slice column is unknown",
        "names 'region', which the test table does not have",
        gate={"slices": {"columns": ["region"], "least": {"auc": {"min": 0.5}}}},
    ),
    Refusal(
        "a slice column is a number",
        "a number: slices need categories",
        gate={"slices": {"columns": ["a"], "least": {"auc": {"min": 0.5}}}},
    ),
    Refusal(
        "more slices than can be judged",
        "has 240 values with at least 20 rows; at most 200 can be judged",
        data=rewritten(
            lambda t: t.set_column(
                t.column_names.index("customer"),
                "customer",
                pa.array([f"c{i % 240}" for i in range(t.num_rows)]),
            )
        ),
        gate={"slices": {"columns": ["customer"], "min_rows": 20, "least": {"auc": {"min": 0.1}}}},
    ),
    Refusal(
        "the last of many slices is below",
        "AUC of the slice customer=zz is below 0.6",
        data=rewritten(lambda t: with_a_bad_customer(t)),
        gate={"slices": {"columns": ["customer"], "min_rows": 20, "least": {"auc": {"min": 0.6}}}},
    ),
    Refusal("a block is unknown", "no column 'region'", gate={"block": "region"}),
    Refusal(
        "the logistic regression is as good",
        "lead in AUC over the logistic regression is not above 0.05",
        gate={"baseline": {"linear": True, "margin": 0.05}},
    ),
]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.name)
def test_refused(case: Refusal, bundle: Path, splits: Path, tmp_path: Path, registry: str) -> None:
    if case.model or case.damage:
        bundle = tmp_path / "bundle"
        world.make_bundle(bundle, **case.model)
    if case.damage:
        case.damage(bundle)
    if case.data:
        splits = tmp_path / "splits"
        case.data(splits, world.make_splits(splits))
    result = run(bundle, splits, tmp_path, case.gate)
    assert result.outcome == "fail"
    assert case.reason in " ".join(result.verdict.reasons)
    verdict = read_verdict(tmp_path / "verdict.json")
    assert verdict.outcome == "fail" and verdict.reasons == result.verdict.reasons
    assert np.isfinite(list(result.metrics.values())).all()
    assert np.isfinite(result.roc).all()
    card = (tmp_path / "card.html").read_text()
    assert "Refused by the gate." in card


def test_slices_are_measured_and_hold(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    gate = {
        "slices": {
            "columns": ["colour", "loud", "month"],
            "required": {"colour": ["red"], "loud": ["true"]},
            "least": {"auc": {"min": 0.75}, "accuracy": {"min": 0.6}},
            "judge": "interval",
        }
    }
    result = run(bundle, splits, tmp_path, gate)
    assert result.verdict.reasons == []
    rules = {rule.name: rule for rule in result.verdict.rules}
    red = rules["slice colour=red auc"]
    test = read_part(splits, "test")
    assert red.rows == sum(value == "red" for value in test["colour"].to_pylist())
    assert red.low < red.value < red.high
    assert {"slice month=2013-03 auc", "slice month=2013-04 auc", "slice loud=false auc"} <= set(
        rules
    )


def test_the_order_of_rows_does_not_matter(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    mixed = tmp_path / "mixed"
    meta = world.make_splits(mixed)
    order = np.random.default_rng(1).permutation(6000)
    world.rewrite_test(mixed, meta, read_part(mixed, "test").take(pa.array(order)))
    one = run(bundle, splits, tmp_path / "one")
    other = run(bundle, mixed, tmp_path / "other")
    assert other.outcome == one.outcome
    assert other.metrics == pytest.approx(one.metrics, abs=1e-6)
    for name, (low, high) in one.verdict.notes["intervals"].items():
        assert other.verdict.notes["intervals"][name] == pytest.approx([low, high], abs=1e-6)


def test_a_person_overrides_and_it_is_loud(
    bundle: Path, splits: Path, tmp_path: Path, registry: str, capsys
) -> None:
    refused = run(bundle, splits, tmp_path / "one", {"auc": 0.99})
    assert refused.outcome == "fail"
    result = run(
        bundle,
        splits,
        tmp_path / "two",
        {"auc": 0.99},
        override_approver="Ada",
        override_reason="a <pilot> only",
    )
    assert result.outcome == "pass"
    assert "Ada overrode the gate: a <pilot> only" in capsys.readouterr().out
    verdict = read_verdict(tmp_path / "two" / "verdict.json")
    assert (verdict.override.approver, verdict.override.reason) == ("Ada", "a <pilot> only")
    assert verdict.reasons == refused.verdict.reasons
    assert "overridden by Ada" in verdict.headline
    card = (tmp_path / "two" / "card.html").read_text()
    assert "Let through by a person." in card and "a &lt;pilot&gt; only" in card


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"auc": 1.5}, "gate.auc"),
        ({"auc": float("nan")}, "gate.auc"),
        ({"acuracy": 0.9}, "gate.acuracy"),
        ({"metrics": {"auc": {}}}, "gate.metrics.auc: give min, max or both"),
        ({"metrics": {"aucc": {"min": 0.5}}}, "gate.metrics"),
        ({"slices": {"columns": ["colour"]}}, "give least, margins or both"),
        ({"slices": {"required": {"colour": ["red"]}}}, "not among the slices' columns"),
        ({"champion": {"margins": {}}}, "gate.champion.margins"),
        ({"f1": True}, "gate.f1"),
    ],
)
def test_settings_that_make_no_sense_are_named(
    change, named, bundle: Path, splits: Path, tmp_path: Path
) -> None:
    with pytest.raises(SlipwayError) as error:
        run(bundle, splits, tmp_path, change)
    assert named in str(error.value)
    assert not (tmp_path / "verdict.json").exists()


def test_whole_numbers_may_come_as_floats(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    gate = {"min_rows": 1000.0, "resamples": 200.0, "seed": 3.0, "slices": {"min_rows": 100.0}}
    assert run(bundle, splits, tmp_path, gate).outcome == "pass"


def test_features_with_nan_and_infinity_are_looked_at_for_leaks(
    bundle: Path, tmp_path: Path, registry: str
) -> None:
    """NaN counts as missing and infinity as the largest value; neither stops the search."""
    splits = tmp_path / "splits"
    meta = world.make_splits(splits)
    table = read_part(splits, "test")
    a = table["a"].to_numpy().copy()
    a[::50], a[1::50] = np.nan, np.inf
    index = table.column_names.index("a")
    world.rewrite_test(splits, meta, table.set_column(index, "a", pa.array(a)))
    found = measure_features(splits, meta, BinaryLabel(threshold=0.4))
    assert 0.6 < found["a"] < 0.9
    # A value that is missing exactly where the label is 1 gives it away.
    a[table["label"].to_numpy() == 1] = np.nan
    world.rewrite_test(splits, meta, table.set_column(index, "a", pa.array(a)))
    assert measure_features(splits, meta, BinaryLabel(threshold=0.4))["a"] > 0.98


def test_a_folder_that_is_no_bundle_is_an_error(splits: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(SlipwayError, match="is not a model bundle"):
        run(tmp_path / "bundle", splits, tmp_path)
