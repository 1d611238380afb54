"""Trees beside the network: the same answers in every runtime, and the choice between the models."""

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch
import xgboost
from onnx import TensorProto, helper

from slipway.components.config import training
from slipway.components.config.training import MAX_LEAVES, TrainingConfig
from slipway.components.contracts.bundle import (
    ONNX,
    Bundle,
    category_codes,
    model_inputs,
    read_bundle,
    read_training,
)
from slipway.components.contracts.splits import Feature, read_part, read_splits, write_splits
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.support.errors import SlipwayError
from slipway.components.train.data.preparation import prepare
from slipway.components.train.graph.builder import GraphBuilder
from slipway.components.train.graph.trees import write_trees
from slipway.components.train.heads.binary import BinaryHead
from slipway.components.train.heads.multiclass import MulticlassHead
from slipway.components.train.heads.number import NumberHead
from slipway.components.train.heads.platt import fit_platt
from slipway.components.train.model.blend import block_error, choose
from slipway.components.train.model.preprocess import RawArrays
from slipway.components.train.process.checkpoint import Checkpoint
from slipway.components.train.process.preemption import Preempted
from slipway.components.train.train import TrainingTask, TrainResult, train_model
from slipway.components.train.trees import fit, forest
from slipway.components.train.trees.forest import Forest, Nodes, join_nodes, read_nodes
from slipway.components.train.trees.inputs import matrix_of, tree_columns

from .test_train_kinds import CLASSES, to_classes, to_numbers

TINY = {
    "network": {"width": 16, "architecture": "mlp", "bins": 8},
    "trees": {"rounds": 60, "patience": 10, "learning_rate": 0.02},
    "members": 1,
    "batch_size": 128,
    "min_steps": 120,
}
COLOURS = [f"colour-{i}" for i in range(40)]
BUNDLE = Bundle(
    name="toy",
    features=(
        Feature(name="amount", kind="numeric", view="v"),
        Feature(name="size", kind="numeric", view="v"),
        Feature(name="colour", kind="categorical", view="v"),
        Feature(name="town", kind="categorical", view="v"),
        Feature(name="when", kind="time", view="v"),
    ),
    key="id",
    entities={},
    feature_service="toy",
    threshold=0.5,
    vocabularies={"colour": COLOURS, "town": ["a", "b"]},
    data_hash="x",
)


def example_rows(rows: int, seed: int) -> pa.Table:
    """Rows with nulls in every column, categories that the vocabulary lacks, and times before 1970."""
    random = np.random.default_rng(seed)

    def null(share: float = 0.1) -> np.ndarray:
        return random.random(rows) < share

    when = random.integers(-(10**15), 10**15, rows)
    return pa.table(
        {
            "amount": pa.array(random.normal(size=rows).astype(np.float32), mask=null()),
            "size": pa.array(np.exp(6 * random.normal(size=rows)).astype(np.float32), mask=null()),
            "colour": pa.array(random.choice([*COLOURS, "unseen"], rows), mask=null()),
            "town": pa.array(random.choice(["a", "b", "elsewhere"], rows), mask=null()),
            "when": pa.array(when, pa.timestamp("us"), mask=null()),
        }
    )


def raw_of(table: pa.Table) -> RawArrays:
    inputs = model_inputs(BUNDLE, table, strings=False)
    return RawArrays(
        numeric=inputs["numeric"], codes=category_codes(BUNDLE, table), time=inputs["time"]
    )


def grow(objective: dict[str, Any], labels: np.ndarray, matrix: np.ndarray) -> xgboost.Booster:
    types = [column.kind for column in tree_columns(BUNDLE)]
    data = xgboost.DMatrix(matrix, labels, feature_types=types, enable_categorical=True)
    settings = {"max_depth": 5, "eta": 0.3, "nthread": 1, "seed": 1} | objective
    return xgboost.train(settings, data, 40)


def session_of(nodes: Nodes) -> onnxruntime.InferenceSession:
    graph = GraphBuilder()
    answer = write_trees(graph, nodes, BUNDLE)
    inputs = [
        helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", 2]),
        helper.make_tensor_value_info("categorical", TensorProto.STRING, ["batch", 2]),
        helper.make_tensor_value_info("time", TensorProto.INT64, ["batch", 1]),
    ]
    output = helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", len(nodes.base)])
    model = graph.finish(answer, output, inputs)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def at_thresholds(nodes: Nodes, table: pa.Table) -> pa.Table:
    """The rows again with each numeric threshold, and the floats just beside it, in its column."""
    parts = [table]
    for place, name in enumerate(("amount", "size")):
        here = (nodes.feature == place) & ~nodes.is_leaf & (nodes.set_size == 0)
        bounds = np.unique(nodes.threshold[here])
        assert len(bounds) > 20
        values = np.concatenate(
            [
                bounds,
                np.nextafter(bounds, np.float32(-np.inf)),
                np.nextafter(bounds, np.float32(np.inf)),
            ]
        )
        values = np.concatenate([values, np.float32([0.0, -0.0, 3e38, -3e38])])
        rows = table.take(np.arange(len(values)) % table.num_rows)
        column = rows.column_names.index(name)
        parts.append(rows.set_column(column, name, pa.array(values)))
    return pa.concat_tables(parts)


@pytest.mark.parametrize(
    "objective",
    [
        {"objective": "binary:logistic"},
        {"objective": "multi:softprob", "num_class": 3},
        {"objective": "reg:squarederror"},
        {"objective": "reg:quantileerror", "quantile_alpha": [0.05, 0.95]},
    ],
    ids=lambda objective: objective["objective"],
)
def test_trees_answer_alike_in_xgboost_torch_and_onnxruntime(objective: dict[str, Any]) -> None:
    """Also at, just below and just above every threshold, for nulls, and for unknown categories."""
    table = example_rows(4000, seed=0)
    matrix = matrix_of(raw_of(table))
    amount, minute, colour = np.nan_to_num(matrix[:, 0]), matrix[:, 2], matrix[:, 3]
    score = amount + (colour % 7 == 3) + np.sin(np.nan_to_num(minute) / 200) + matrix[:, 5] / 7
    noise = np.random.default_rng(1).normal(size=len(score))
    labels = score + 0.3 * noise
    if objective["objective"].startswith("binary"):
        labels = labels > 1
    elif objective["objective"].startswith("multi"):
        labels = np.digitize(labels, [0.5, 1.5])
    model = grow(objective, labels, matrix)
    nodes = read_nodes(bytes(model.save_raw("json")))
    assert nodes.set_size.max() > 10

    asked = at_thresholds(nodes, example_rows(1500, seed=2))
    matrix = matrix_of(raw_of(asked))
    types = [column.kind for column in tree_columns(BUNDLE)]
    data = xgboost.DMatrix(matrix, feature_types=types, enable_categorical=True)
    theirs = model.predict(data, output_margin=True).reshape(len(matrix), -1)
    ours = Forest(nodes)(torch.from_numpy(matrix)).numpy()
    served = session_of(nodes).run(None, model_inputs(BUNDLE, asked))[0]
    allowed = 1e-5 * np.maximum(1, np.abs(theirs))
    assert (np.abs(ours - theirs) <= allowed).all()
    assert (np.abs(served - theirs) <= allowed).all()
    # A threshold is told from the value just below it.
    moved = Forest(nodes)(torch.from_numpy(np.nextafter(matrix, np.float32(-np.inf)))).numpy()
    assert (np.abs(moved - theirs) > 0.01).any()


@pytest.mark.parametrize("share", [0.5, 1e-3, 1e-5, 1e-8, 1 - 1e-3, 1 - 1e-5, 1 - 1e-8])
def test_trees_begin_where_xgboost_begins_however_rare_a_class_is(share: float) -> None:
    """It takes the log-odds in float32, where a share near 1 has few digits, and bounds them."""
    labels = np.arange(400) % 2
    data = xgboost.DMatrix(
        np.zeros((400, 1)), labels, weight=np.where(labels == 1, share, 1 - share)
    )
    # No leaf weighs enough: the trees add nothing.
    model = xgboost.train({"objective": "binary:logistic", "min_child_weight": 1e9}, data, 1)
    (base,) = read_nodes(bytes(model.save_raw("json"))).base
    theirs = model.predict(data, output_margin=True)
    assert theirs == pytest.approx(base, abs=2e-6)
    assert abs(base) <= 13.82


def test_a_label_that_is_nearly_always_true_is_learned(make_splits: Any) -> None:
    def spoil(part: str, table: pa.Table) -> pa.Table:
        label = pa.array((np.arange(len(table)) >= 3).astype(np.int8))
        return table.set_column(table.column_names.index("label"), "label", label)

    grown = grow_for(make_splits(rows=20_000, change=spoil))
    assert grown.nodes().base[0] == pytest.approx(np.log(19997 / 3), rel=1e-3)


def test_two_forests_answer_side_by_side() -> None:
    matrix = matrix_of(raw_of(example_rows(800, seed=3)))
    labels = np.nan_to_num(matrix[:, 0]) + (matrix[:, 3] % 5 == 2)
    value = read_nodes(
        bytes(grow({"objective": "reg:squarederror"}, labels, matrix).save_raw("json"))
    )
    quantiles = {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]}
    ends = read_nodes(bytes(grow(quantiles, labels, matrix).save_raw("json")))
    rows = torch.from_numpy(matrix)
    both = Forest(join_nodes(value, ends))(rows)
    apart = torch.cat([Forest(value)(rows), Forest(ends)(rows)], dim=1)
    assert both.shape == (800, 3)
    torch.testing.assert_close(both, apart, rtol=0, atol=1e-6)


def run(splits: Path, folder: Path, **config: Any) -> TrainResult:
    return train_model(
        TrainingTask(
            splits=splits,
            project="toy",
            config=TINY | config,
            seed=3,
            epochs=4,
            learning_rate=5e-3,
            gpus=0,
            allow_cpu=False,
            bundle=folder / "bundle",
            report=folder / "report.html",
        )
    )


KINDS: dict[str, dict[str, Any]] = {
    "binary": {},
    "multiclass": {"change": to_classes, "kind": "multiclass", "classes": CLASSES},
    "number": {"change": to_numbers, "kind": "number"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_blend_of_each_kind_of_label_is_one_graph(
    kind: str, make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    splits = make_splits(rows=1200, **KINDS[kind])
    result = run(splits, tmp_path, model="blend")

    bundle, log = read_bundle(tmp_path / "bundle"), read_training(tmp_path / "bundle")
    assert result.model == log["model"] == bundle.notes["model"] == "blend"
    assert log["export_difference"] <= 1e-5
    assert "a linear model and trees" in result.headline
    assert log["choice"]["why"].startswith("training.model asks for it")
    assert set(log["choice"]["losses"]) == {"network", "linear", "trees", "blend"}
    assert log["choice"]["losses"]["blend"] < max(log["choice"]["losses"].values())
    test = read_part(splits, "test")
    session = onnxruntime.InferenceSession(str(tmp_path / "bundle" / ONNX))
    answers = session.run([bundle.output[0]], model_inputs(bundle, test))[0]
    label = label_type_of(bundle)
    assert label.is_sound(answers).all()
    measured = label.measure(test["label"].to_numpy(), answers)
    least = {"binary": ("auc", 0.75), "multiclass": ("auc", 0.8), "number": ("r2", 0.6)}[kind]
    assert measured[least[0]] > least[1]
    if kind == "number":
        assert 0.84 <= measured["coverage"] <= 0.96
    report = (tmp_path / "report.html").read_text()
    assert "share of the blend" in report and "leaves" in report


def test_auto_says_why_and_leaves_the_network_as_it_is(
    make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    """The label follows from a line: the network is better, and has the bits that it has alone."""
    splits = make_splits(rows=1200)
    (tmp_path / "auto").mkdir(), (tmp_path / "network").mkdir()
    chosen = run(splits, tmp_path / "auto", model="auto")
    alone = run(splits, tmp_path / "network", model="network")
    logs = [read_training(tmp_path / name / "bundle") for name in ("auto", "network")]
    assert logs[0]["members"] == logs[1]["members"]
    assert logs[1]["choice"] is None and logs[1]["trees"] is None
    assert chosen.model == logs[0]["model"] == logs[0]["choice"]["chosen"]
    assert "with a standard error of" in logs[0]["choice"]["why"]
    if chosen.model == "network":
        files = [(tmp_path / name / "bundle" / ONNX).read_bytes() for name in ("auto", "network")]
        assert files[0] == files[1] and chosen.metrics == alone.metrics


def test_trees_alone_have_no_network(make_splits: Any, tmp_path: Path, tracking: str) -> None:
    result = run(make_splits(rows=1200), tmp_path, model="trees")
    log = read_training(tmp_path / "bundle")
    assert (result.model, result.members, log["members"]) == ("trees", 0, [])
    assert result.headline.endswith(", trees")
    assert log["trees"]["rounds"][0] <= 60 and log["trees"]["rows"] == 1200
    assert log["importance"][0]["feature"] == "amount"
    assert "Validation log loss by round" in (tmp_path / "report.html").read_text()


def test_trees_that_were_grown_are_kept_and_a_stop_leaves_none(
    make_splits: Any, tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = make_splits(rows=1200)
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    real = fit._boost
    calls: list[str] = []

    def boost(*args: Any) -> Any:
        calls.append("boost")
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(fit, "_boost", boost)
    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(Preempted, match="after 1 rounds of trees"):
        run(splits, tmp_path, model="blend")
    assert not list((tmp_path / "home").rglob("trees-*.ckpt"))

    from slipway.components.train import loop

    def stop(*args: Any) -> Any:
        raise Preempted("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(loop.Training, "run", stop)
        with pytest.raises(Preempted):
            run(splits, tmp_path, model="blend")
    # Of a small table with classes there are two trainings.
    assert len(calls) == 3 and len(list((tmp_path / "home").rglob("trees-*.ckpt"))) == 1

    run(splits, tmp_path, model="blend")
    assert len(calls) == 3
    assert not list((tmp_path / "home").rglob("*.ckpt"))
    (tmp_path / "again").mkdir()
    run(splits, tmp_path / "again", model="blend")
    models = [(tmp_path / name / ONNX).read_bytes() for name in ("bundle", "again/bundle")]
    assert models[0] == models[1]


def grow_for(splits: Path, **config: Any) -> fit.GrownTrees:
    settings = TrainingConfig.parse(config, "training")
    prepared = prepare(splits, read_splits(splits), "toy", settings, torch.device("cpu"))
    return fit.grow_trees(splits, prepared, Checkpoint("", "", ""))


def by_score(noise: bool) -> Any:
    """A label that two features decide together, without noise or with."""

    def change(part: str, table: pa.Table) -> pa.Table:
        scores = np.column_stack([table[name].to_numpy() for name in ("amount", "skewed")])
        score = 3 * np.prod(np.nan_to_num(scores - [0, 1]).clip(-1, 1), axis=1)
        random = np.random.default_rng(len(part))
        label = random.random(len(score)) < 1 / (1 + np.exp(-score)) if noise else score > 0
        return table.set_column(table.column_names.index("label"), "label", pa.array(label * 1))

    return change


@pytest.mark.parametrize(
    ("noise", "options", "taken"),
    [
        (False, {}, 0.2),
        (True, {}, 5.0),
        (False, {"network": {"auto_rows": 1000}}, 5.0),
    ],
    ids=["sure", "unsure", "not small"],
)
def test_leaves_are_as_light_as_the_labels_are_sure(
    noise: bool, options: Any, taken: float, make_splits: Any
) -> None:
    grown = grow_for(make_splits(rows=1000, change=by_score(noise)), **options)
    assert grown.leaf_weights == [taken]
    rounds, (losses,) = grown.rounds[0], grown.history.values()
    assert losses[rounds - 1] == min(losses)


@pytest.mark.parametrize("clear", [0.01, 0.9])
def test_leaves_of_a_large_table_are_heavy_unless_light_ones_are_clearly_better(
    clear: float, make_splits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows weigh about a quarter of their number; here the least leaf has a thirtieth of that."""
    monkeypatch.setattr(fit, "_LARGE_LEAVES", 30)
    monkeypatch.setattr(fit, "_CLEAR_LARGE", clear)
    splits = make_splits(rows=1000, change=by_score(noise=False))
    grown = grow_for(splits, network={"auto_rows": 1000})
    heavy = clear == 0.9
    (taken,), (rounds,), (losses,) = grown.leaf_weights, grown.rounds, grown.history.values()
    assert taken == (pytest.approx(250 / 30, rel=0.05) if heavy else 5.0)
    # Late rounds of heavy leaves that bring next to nothing are cut off.
    enough = min(losses) * (1.002 if heavy else 1)
    assert losses[rounds - 1] <= enough < min(losses[: rounds - 1])
    # And a node asks for one category at most.
    nodes = grown.nodes()
    asked = np.flatnonzero(nodes.set_size)
    assert len(asked) and all(len(nodes.codes(int(node))) == 1 for node in asked)


@pytest.mark.parametrize("kind", KINDS)
def test_all_rows_weigh_what_xgboost_says_of_the_first_round(kind: str) -> None:
    random = np.random.default_rng(0)
    rows, weights = random.normal(size=(500, 2)), random.uniform(0.5, 2, 500).astype("f4")
    heads = {
        "binary": (BinaryHead(), (rows[:, 0] > 1).astype("f4")),
        "multiclass": (MulticlassHead(classes=CLASSES), np.digitize(rows[:, 0], [0, 1.5])),
        "number": (NumberHead(level=0.9, mean=0, std=1), rows[:, 0].astype("f4")),
    }
    head, labels = heads[kind]
    (first, *_) = fit.boostings(head)
    data = xgboost.DMatrix(rows, labels, weight=weights)
    model = xgboost.train({**first.objective, "max_depth": 1}, data, 1)
    trees = json.loads(bytes(model.save_raw("json")))["learner"]["gradient_booster"]["model"]
    theirs = np.mean([tree["sum_hessian"][0] for tree in trees["trees"]])
    assert fit._weigh(head, data.get_label(), data.get_weight()) == pytest.approx(theirs, rel=1e-3)


def test_of_two_columns_a_tree_sees_both(make_splits: Any) -> None:
    """Neither says anything alone, and a share of .8 of two columns is one."""
    splits = make_splits(rows=1000, kinds=("numeric",), change=by_score(noise=False))
    names = ("amount", "skewed")
    meta = read_splits(splits)
    kept = tuple(feature for feature in meta.features if feature.name in names)
    write_splits(splits, replace(meta, features=kept))
    assert min(grow_for(splits).history["log_loss"]) < 0.3


def test_many_classes_have_fewer_rounds_and_the_same_answers(
    make_splits: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trees are as many as classes in each round: what they take of memory has a bound all the same."""
    settings = TrainingConfig().resolve(1000).trees
    assert settings.rounds_for(0) == settings.rounds_for(20) == 2000
    for classes in (100, 1000):
        trees = settings.rounds_for(classes) * classes
        assert MAX_LEAVES - 16 * classes < trees * 2 ** int(settings.depth) <= MAX_LEAVES
    assert settings.rounds_for(10**7) == 1
    splits = make_splits(rows=600, **KINDS["multiclass"])
    free = grow_for(splits)
    capsys.readouterr()
    monkeypatch.setattr(training, "MAX_LEAVES", 3 * 16 * 5)
    bound = grow_for(splits)
    assert free.rounds[0] > 5 and bound.rounds == [5]
    assert "grows 3 trees; 5 rounds are the most, not 2,000" in capsys.readouterr().out
    # Walked in pieces and added up without a table of trees by outputs, the answers are the same.
    plain = Forest(free.nodes())
    width = 1 + int(plain.nodes.feature.max())
    matrix = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (50, width)).astype("f4"))
    monkeypatch.setattr(forest, "_CELLS", 0)
    monkeypatch.setattr(forest, "_WALKED", 7 * len(plain.nodes.roots))
    wide = Forest(free.nodes())
    assert wide.is_wide and not plain.is_wide and wide.rows_at_once == 7
    np.testing.assert_allclose(wide(matrix), plain(matrix), rtol=1e-6, atol=1e-6)


def test_a_table_too_large_for_memory_is_thinned(
    make_splits: Any,
    tmp_path: Path,
    tracking: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    splits = make_splits(rows=1200)
    # Nine columns of 4 bytes and 64 more a row: a fifth of this memory holds 480 rows.
    monkeypatch.setattr(fit, "memory_limit", lambda: 480 * (9 * 4 + 64) * 5)
    run(splits, tmp_path, model="trees")
    assert read_training(tmp_path / "bundle")["trees"]["rows"] == 400
    assert "memory holds 480 rows of their table; one in 3 of 1,200" in capsys.readouterr().out


def test_weights_of_rows_and_classes_reach_the_trees(
    make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    """Rows of one colour weigh nothing and have their label turned around: no tree may learn it."""

    def spoil(part: str, table: pa.Table) -> pa.Table:
        red = np.array(table["colour"].to_pylist()) == "red"
        label = table["label"].to_numpy().copy()
        if part == "train":
            label[red] = 1 - label[red]
        weight = pa.array(np.where(red & (part == "train"), 0.0, 1.0))
        table = table.set_column(table.column_names.index("label"), "label", pa.array(label))
        return table.set_column(table.column_names.index("importance"), "importance", weight)

    splits = make_splits(rows=1500, change=spoil)
    aucs = {}
    for name, options in {"weighted": {"sample_weight": "importance"}, "plain": {}}.items():
        (tmp_path / name).mkdir()
        result = run(splits, tmp_path / name, model="trees", **options)
        aucs[name] = result.metrics["auc"]
    assert aucs["weighted"] > aucs["plain"] + 0.03


def test_a_search_needs_a_network() -> None:
    with pytest.raises(SlipwayError, match=r"search\.trials varies the network's settings"):
        TrainingConfig.parse({"model": "trees", "search": {"trials": 2}}, "training")


def two_models(
    rows: int, second: float, seed: int = 0, copied: float = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and the probabilities of two models.

    The second one has an error of size `second` of its own, and the share `copied` of the first one's.
    """
    random = np.random.default_rng(seed)
    score = 2 * random.normal(size=rows)
    labels = (score + random.logistic(size=rows) > 0).astype(np.float64)
    errors = [random.normal(size=rows), second * random.normal(size=rows)]
    errors[1] += copied * errors[0]
    answers = [1 / (1 + np.exp(-(score + error))) for error in errors]
    return labels, answers[0].astype(np.float32), answers[1].astype(np.float32)


@pytest.mark.parametrize(
    ("rows", "second", "copied", "chosen", "low", "high"),
    [
        (4000, 1.0, 0, "blend", 0.4, 0.6),  # alike: both, in equal parts
        (4000, 1.0, 1, "network", 0.75, 1.0),  # the trees know nothing that the network does not
        (4000, 0.0, 0, "trees", 0.0, 0.25),  # the trees are right
        (60, 3.0, 0, None, 0.4, 0.9),  # little evidence: near one half
    ],
)
def test_the_better_model_has_the_larger_share(
    rows: int, second: float, copied: float, chosen: str | None, low: float, high: float
) -> None:
    labels, network, trees = two_models(rows, second, copied=copied)
    config = TrainingConfig(model="auto").resolve(rows)
    choice = choose(
        BinaryHead(),
        {"network": network, "trees": trees},
        labels,
        np.ones(rows, np.float32),
        config,
    )
    assert chosen in (None, choice.chosen)
    assert low <= choice.shares.get("network", 0.0) <= high
    asked = config.model_copy(update={"model": "blend"})
    told = choose(
        BinaryHead(), {"network": network, "trees": trees}, labels, np.ones(rows, np.float32), asked
    )
    assert told.chosen == "blend" and set(told.shares) == {"network", "trees"}


def test_little_evidence_is_drawn_towards_one_half() -> None:
    found: dict[int, list[float]] = {60: [], 4000: []}
    for rows, shares in found.items():
        config = TrainingConfig(model="auto").resolve(rows)
        weights = np.ones(rows, np.float32)
        for seed in range(4):
            labels, network, trees = two_models(rows, 2.0, seed=seed)
            choice = choose(
                BinaryHead(), {"network": network, "trees": trees}, labels, weights, config
            )
            shares.append(abs(choice.shares["network"] - 0.5))
    assert np.mean(found[60]) < 0.7 * np.mean(found[4000])


def test_probabilities_that_are_far_too_sure_are_calibrated() -> None:
    random = np.random.default_rng(0)
    score = 2 * random.normal(size=4000)
    labels = (score + random.logistic(size=4000) > 0).astype(float)
    sure = 1 / (1 + np.exp(-6 * (score + 2 * random.normal(size=4000))))
    slope = fit_platt(labels, sure).slope
    assert 0.03 < slope < 0.2


def test_rows_that_are_alike_are_less_evidence() -> None:
    random = np.random.default_rng(0)
    ones = np.ones(3000)
    alone = random.normal(size=3000)
    days = np.repeat(random.normal(size=30), 100)
    assert block_error(alone, ones) == pytest.approx(1 / 3000**0.5, rel=0.3)
    assert block_error(days, ones) == pytest.approx(1 / 30**0.5, rel=0.3)


def test_combining_a_model_with_itself_changes_nothing() -> None:
    random = np.random.default_rng(0)
    chances = torch.from_numpy(random.dirichlet([1, 1, 1], 50).astype(np.float32))
    ends = torch.from_numpy(random.normal(size=(50, 3)).astype(np.float32))
    for head, answers in (
        (BinaryHead(), chances[:, 0]),
        (MulticlassHead(classes=("a", "b", "c")), chances),
        (NumberHead(level=0.9, mean=5.0, std=2.0), ends),
    ):
        mixed = head.combine([answers, answers, answers], (0.3, 0.5, 0.2))
        torch.testing.assert_close(mixed, answers.double(), rtol=1e-5, atol=1e-6)


def test_the_history_is_json(make_splits: Any, tmp_path: Path, tracking: str) -> None:
    run(make_splits(rows=600, kinds=("numeric",)), tmp_path, model="auto")
    assert json.loads((tmp_path / "bundle" / "training.json").read_text())["choice"]["noise"] > 0
