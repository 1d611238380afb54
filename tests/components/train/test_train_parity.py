"""The graph beside the model in float64: strangers' columns, and answers that calibration draws far back.

A network that was trained too long is far too sure; its calibration has a small slope, and what
float32 loses of a probability near 1 would be seen in the answer. One that was trained too short has a
large slope.
"""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from slipway.components.config.kinds import LabelKind
from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.splits import read_splits
from slipway.components.support.errors import SlipwayError
from slipway.components.train.data.preparation import Prepared, prepare
from slipway.components.train.data.tables import raw_arrays, read_features
from slipway.components.train.heads.base import Head
from slipway.components.train.heads.binary import BinaryHead
from slipway.components.train.heads.multiclass import MulticlassHead
from slipway.components.train.heads.number import NumberHead
from slipway.components.train.heads.platt import Platt
from slipway.components.train.heads.temperature import Temperature
from slipway.components.train.linear.fit import fit_linear
from slipway.components.train.model.export import check_export, export_model
from slipway.components.train.model.trained import TrainedModel, exact_answers, forward_in_chunks
from slipway.components.train.process.checkpoint import Checkpoint
from slipway.components.train.trees.fit import grow_trees
from slipway.components.train.trees.forest import Forest, Nodes

CLASSES = ("a", "b", "c")
NUMERIC = ("amount", "skewed", "constant", "importance")


def draw_column(shape: str, random: np.random.Generator, rows: int) -> np.ndarray:
    """A column as strangers have them: float64 [rows]."""
    normal = random.normal(size=rows)
    return {
        "ties": lambda: random.choice([0.0, 0.1, 0.1000001, 5.0], rows, p=[0.6, 0.2, 0.1, 0.1]),
        "tiny": lambda: normal * 1e-12,
        "huge": lambda: normal * 1e12,
        "both": lambda: np.where(random.random(rows) < 0.5, normal * 1e-12, normal * 1e12),
        "ids": lambda: 16_000_000.0 + random.permutation(rows),
        "nearly constant": lambda: np.where(random.random(rows) < 0.995, 7.0, 7 + normal * 1e-5),
        "seconds": lambda: 1.7e9 + np.round(random.random(rows) * 2e6),
        "skewed": lambda: np.exp(4 * normal),
        "decimals": lambda: np.round(random.gamma(2, 60, rows), 1),
        "counts": lambda: random.poisson(4, rows).astype(float),
    }[shape]()


SHAPES = (
    "ties,tiny,huge,both",
    "ids,nearly constant,seconds,skewed",
    "decimals,counts,ids,ties",
)


@dataclass(frozen=True)
class Case:
    """What a model is made of, and how its head calibrates: outputs by `sure`, then by `slope`."""

    kind: LabelKind
    architecture: str
    sure: float
    slope: float
    trees: bool = False


CASES = [
    Case("binary", "mlp", 60, 0.1),
    Case("binary", "tabm", 60, 0.1),
    Case("binary", "mlp", 0.1, 10),
    Case("binary", "mlp", 60, 0.1, trees=True),
    Case("multiclass", "mlp", 60, 0.1),
    Case("multiclass", "tabm", 0.1, 10),
    Case("multiclass", "mlp", 60, 0.1, trees=True),
    Case("number", "tabm", 1, 1),
    Case("number", "mlp", 1, 1, trees=True),
]


def head_of(kind: LabelKind, slope: float) -> Head:
    """A head that calibrates by a slope."""
    return {
        "binary": BinaryHead(platt=Platt(slope=slope, offset=0.1)),
        "multiclass": MulticlassHead(
            classes=CLASSES, temperature=Temperature(slope=slope, offsets=(0.1, 0.0, -0.1))
        ),
        "number": NumberHead(level=0.9, mean=3e5, std=2.0, margin=0.1),
    }[kind]


@pytest.fixture(scope="module", params=SHAPES)
def stranger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, write_example: Any
) -> dict[LabelKind, Path]:
    """Splits of one stranger's table, with each kind of label."""
    folder = tmp_path_factory.mktemp("stranger")
    shapes = dict(zip(NUMERIC, request.param.split(","), strict=True))

    def make(kind: LabelKind) -> Path:
        def change(part: str, table: pa.Table) -> pa.Table:
            random = np.random.default_rng([len(part), len(request.param)])
            for name, shape in shapes.items():
                values = draw_column(shape, random, table.num_rows)
                gaps = random.random(table.num_rows) < 0.03
                place = table.column_names.index(name)
                table = table.set_column(place, name, pa.array(values, mask=gaps))
            ranks = random.normal(size=table.num_rows)
            labels = {
                "binary": (ranks > 0).astype(np.int8),
                "multiclass": ranks.argsort().argsort() % 3,
                "number": ranks,
            }
            place = table.column_names.index("label")
            return table.set_column(place, "label", pa.array(labels[kind]))

        return Path(
            write_example(
                folder / kind,
                250,
                kind=kind,
                classes=CLASSES if kind == "multiclass" else (),
                change=change,
            )
        )

    return {kind: make(kind) for kind in ("binary", "multiclass", "number")}


def prepare_case(splits: Path, case: Case) -> Prepared:
    network = {"width": 16, "architecture": case.architecture, "tabm_heads": 3}
    settings = {"network": network, "trees": {"rounds": 8}, "threads": 1}
    config = TrainingConfig.model_validate(settings)
    return prepare(splits, read_splits(splits), "toy", config, torch.device("cpu"))


def make_model(splits: Path, prepared: Prepared, case: Case) -> TrainedModel:
    """A model with random weights, whose outputs are multiplied by `sure`."""
    torch.manual_seed(3)
    member = prepared.make_network().eval().requires_grad_(False)
    for name, weight in member.named_parameters():
        weight.add_(torch.randn(weight.shape) * (0.3 if "numbers" in name else 0.15))
        if name.startswith("output."):
            weight.mul_(case.sure)
    forest = None
    if case.trees:
        forest = Forest(grow_trees(splits, prepared, Checkpoint("", "toy", "trees")).nodes())
    head = head_of(case.kind, case.slope)
    linear = fit_linear(prepared).module if case.trees else None
    shares = (0.4, 0.25, 0.35) if case.trees else ()
    return TrainedModel(
        prepared.parts.preprocessor, [member], head, linear=linear, forest=forest, factors=shares
    ).eval()


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.kind}, {c.architecture}, {c.sure:g}")
def test_the_graph_answers_as_the_model_in_float64(
    case: Case, stranger: dict[LabelKind, Path], tmp_path: Path
) -> None:
    splits = stranger[case.kind]
    prepared = prepare_case(splits, case)
    model = make_model(splits, prepared, case)
    bundle = replace(prepared.parts.signature, scale=model.head.scale, centre=model.head.centre)
    test = read_features(splits, "test", bundle)
    raw = raw_arrays(bundle, test)
    export_model(tmp_path, model, bundle, raw)
    exact = exact_answers(model, raw)
    assert exact.dtype == np.float64
    assert np.ptp(exact) > 0.05, "else there is nothing to see"
    assert check_export(tmp_path, model, bundle, test, raw) <= 3e-6
    # The trained model itself is no farther from it: what calibrates and measures is what serves.
    trained = forward_in_chunks(model, raw)
    assert trained.dtype == np.float32
    size = 3e5 if case.kind == "number" else 1
    assert np.abs(trained - exact).max() / size <= 3e-6


def test_a_model_that_is_coarse_in_float32_is_not_refused_for_that(
    stranger: dict[LabelKind, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may be twice as far from the exact answer as the trained model is, and no farther."""
    case = CASES[0]
    splits = stranger[case.kind]
    prepared = prepare_case(splits, case)
    model = make_model(splits, prepared, case)
    bundle = prepared.parts.signature
    test = read_features(splits, "test", bundle)
    raw = raw_arrays(bundle, test)
    export_model(tmp_path, model, bundle, raw)
    exact = exact_answers(model, raw)
    module = "slipway.components.train.model.export"

    def check(coarse: float, wrong: float) -> float:
        trained = (exact + coarse).astype(np.float32)
        monkeypatch.setattr(f"{module}.exact_answers", lambda *_: exact + wrong)
        monkeypatch.setattr(f"{module}.forward_in_chunks", lambda *_: trained + np.float32(wrong))
        return check_export(tmp_path, model, bundle, test, raw)

    assert check(coarse=0, wrong=0) < 1e-5
    with pytest.raises(SlipwayError, match=r"allowed: 1e-05"):
        check(coarse=0, wrong=4e-5)
    assert check(coarse=3e-5, wrong=4e-5) == pytest.approx(4e-5, rel=0.2)
    with pytest.raises(SlipwayError, match=r"allowed: 6(\.\d+)?e-05"):
        check(coarse=3e-5, wrong=9e-5)
    for broken in (np.nan, np.inf):
        with pytest.raises(SlipwayError, match="allowed: 1e-05"):
            check(coarse=broken, wrong=4e-5)


def test_thousands_of_small_leaves_add_up_exactly() -> None:
    """In float32 4,000 leaves of a third lose several digits; XGBoost itself may, the graph may not."""
    import onnxruntime
    from onnx import TensorProto, helper

    from slipway.components.contracts.bundle import Bundle
    from slipway.components.contracts.splits import Feature
    from slipway.components.train.graph.builder import GraphBuilder
    from slipway.components.train.graph.trees import write_trees

    count = 4000
    zeros = np.zeros(count, np.int64)
    nodes = Nodes(
        feature=zeros,
        threshold=np.zeros(count, np.float32),
        left=np.arange(count),
        right=np.arange(count),
        missing_left=np.ones(count, bool),
        value=np.full(count, 1 / 3, np.float32),
        set_start=zeros,
        set_size=zeros,
        members=np.zeros(0, bool),
        roots=np.arange(count),
        outputs=zeros,
        base=np.float32([0.1]),
        depth=0,
    )
    bundle = Bundle(
        name="toy",
        features=(Feature(name="x", kind="numeric", view="v"),),
        key="id",
        entities={},
        feature_service="toy",
        threshold=0.5,
        vocabularies={},
        data_hash="x",
    )
    graph = GraphBuilder()
    inputs = [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", 1])]
    output = helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", 1])
    model = graph.finish(write_trees(graph, nodes, bundle), output, inputs)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    answer = session.run(None, {"numeric": np.zeros((1, 1), np.float32)})[0].item()
    expected = count * float(np.float32(1 / 3)) + float(np.float32(0.1))
    assert answer == np.float32(expected)
    assert Forest(nodes)(torch.zeros(1, 1)).item() == np.float32(expected)


@pytest.mark.parametrize("stage", ["evaluate", "register", "deploy"])
def test_what_comes_after_training_imports_no_torch(stage: str) -> None:
    """All modules of the stage; the images of these have no torch."""
    code = f"""
import importlib, pkgutil, sys
import slipway.components.{stage} as package
names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    importlib.import_module(name)
loaded = [n for n in ("torch", "tabm", "xgboost", "slipway.components.train") if n in sys.modules]
print(len(names) > 3, loaded)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True []\n", done.stdout + done.stderr
