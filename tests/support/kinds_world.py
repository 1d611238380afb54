"""The gate's small world for labels of several classes and for numbers, with a known truth.

The features are those of `gate_world`. A class has the utility of its weights plus Gumbel noise, so the
softmax of the true weights is calibrated; a number is a weighted sum plus normal noise, so an interval of
1.645 standard deviations holds 90 % of the labels.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper

from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.bundle import ONNX, PT2, TRAINING, Bundle, write_bundle
from slipway.components.contracts.splits import PARTS, Splits, part_file, read_part, write_splits
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.support.files import write_json
from support.gate_world import FEATURES
from support.gate_world import make_splits as make_binary_splits

CLASSES = ("ant", "bee", "cat")
LEVEL, NOISE = 0.9, 15.0
# By answer: the weights of a and b, of red, and the constant.
CLASS_TRUTH = ((2.0, 0.0, 0.0, 0.0), (-1.0, 1.5, 0.0, 0.0), (-1.0, -1.5, 1.0, -0.5))
NUMBER_TRUTH = (30.0, -20.0, 10.0, 100.0)
_HALF = 1.645 * NOISE


def _features(table: pa.Table) -> np.ndarray:
    """The columns that the truth weighs: a, b, red, and one; a missing b is 0."""
    b = np.nan_to_num(table["b"].to_numpy())
    red = np.array([value == "red" for value in table["colour"].to_pylist()])
    return np.stack([table["a"].to_numpy(), b, red, np.ones(table.num_rows)], axis=1)


def label_of(kind: LabelKind, table: pa.Table, seed: int) -> pa.Array:
    """The labels of rows, drawn by the truth."""
    rng = np.random.default_rng(seed)
    known = _features(table)
    if kind == "multiclass":
        utility = known @ np.array(CLASS_TRUTH).T + rng.gumbel(size=(table.num_rows, 3))
        return pa.array(utility.argmax(1), pa.int32())
    return pa.array(known @ np.array(NUMBER_TRUTH) + rng.normal(0, NOISE, table.num_rows))


def with_label(table: pa.Table, label: pa.Array) -> pa.Table:
    """The table with other labels."""
    return table.set_column(table.column_names.index("label"), "label", label)


def make_splits(folder: Path, kind: LabelKind, *, test_rows: int = 3000) -> Splits:
    """Writes the three tables with splits.json."""
    binary = make_binary_splits(folder, test_rows=test_rows)
    for seed, part in enumerate(PARTS):
        table = read_part(folder, part)
        pq.write_table(with_label(table, label_of(kind, table, seed)), part_file(folder, part))
    return describe(folder, binary, kind)


def describe(folder: Path, splits: Splits, kind: LabelKind) -> Splits:
    """Writes splits.json of what the tables hold now."""
    classes = CLASSES if kind == "multiclass" else ()
    label = label_type(kind, classes=classes, level=LEVEL)
    labels = {part: read_part(folder, part)["label"].to_numpy() for part in PARTS}
    made = replace(
        splits,
        rows={part: len(values) for part, values in labels.items()},
        positives={},
        label_kind=kind,
        classes=classes,
        labels={
            part: label.describe(values[label.is_usable(values)]) for part, values in labels.items()
        },
    )
    write_splits(folder, made)
    return made


def make_bundle(
    folder: Path,
    kind: LabelKind,
    *,
    weights: tuple[tuple[float, ...], ...] | tuple[float, ...] = (),
    scale: float = 1.0,
    half: float = _HALF,
    broken: str = "",
    classes: tuple[str, ...] = CLASSES,
) -> Bundle:
    """Writes a bundle of a linear model.

    Args:
        weights: as `CLASS_TRUTH` or `NUMBER_TRUTH`, which are the default.
        scale: of classes, multiplies the utilities: the order stays, the calibration goes.
        half: of a number, half the width of its intervals.
        broken: "double" answers twice of everything, so that probabilities are 2 together; "crossed" has
            the ends of the intervals exchanged; "batch" adds 0.01 × the batch's mean of each answer.
        classes: names, in the order of the answers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bundle = Bundle(
        name="toy",
        features=FEATURES,
        key="row_id",
        entities={"customer": "string"},
        feature_service="toy",
        threshold=0.5 if kind == "binary" else 0.0,
        vocabularies={"colour": ["red", "green", "blue"]},
        data_hash="d" * 64,
        label_kind=kind,
        classes=classes if kind == "multiclass" else (),
        level=LEVEL if kind == "number" else 0.0,
    )
    if kind == "multiclass":
        table = np.array(weights or CLASS_TRUTH) * scale
    else:
        ends = (0.0, half, -half) if broken == "crossed" else (0.0, -half, half)
        table = np.array([weights or NUMBER_TRUTH] * 3) + [[0, 0, 0, end] for end in ends]
    graph = _graph(table, bundle.output[0], softmax=kind == "multiclass", broken=broken)
    (folder / ONNX).write_bytes(graph.SerializeToString())
    (folder / PT2).write_bytes(b"not used by these tests")
    write_json(folder / TRAINING, {"seed": 0, "epochs": 1})
    write_bundle(folder, bundle)
    return bundle


def _graph(weights: np.ndarray, output: str, *, softmax: bool, broken: str) -> onnx.ModelProto:
    """A graph that answers with weights [W, 4] of a, b, red and one."""

    def constant(name: str, values: np.ndarray) -> onnx.NodeProto:
        flat = np.asarray(values, np.float32)
        tensor = helper.make_tensor(name, TensorProto.FLOAT, flat.shape, flat.reshape(-1).tolist())
        return helper.make_node("Constant", [], [name], value=tensor)

    def node(kind: str, inputs: list[str], output: str, **more: object) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], **more)

    width = len(weights)
    of_numbers = np.vstack([weights[:, :2].T, np.zeros((1, width))])
    last = "clean" if broken in ("double", "batch") else output
    nodes = [
        node("IsNaN", ["numeric"], "missing"),
        constant("zero", np.zeros(1)),
        node("Where", ["missing", "zero", "numeric"], "known"),
        constant("of_numbers", of_numbers),
        node("MatMul", ["known", "of_numbers"], "numbers"),
        helper.make_node(
            "LabelEncoder",
            ["categorical"],
            ["is_red"],
            domain="ai.onnx.ml",
            keys_strings=["red"],
            values_floats=[1.0],
            default_float=0.0,
        ),
        constant("of_red", weights[:, 2][None, :]),
        node("MatMul", ["is_red", "of_red"], "colours"),
        constant("bias", weights[:, 3]),
        node("Add", ["numbers", "colours"], "sum"),
        node("Add", ["sum", "bias"], "odds"),
        node(
            "Softmax" if softmax else "Identity", ["odds"], last, **({"axis": 1} if softmax else {})
        ),
    ]
    if broken == "double":
        nodes += [constant("two", np.full(1, 2.0)), node("Mul", ["clean", "two"], output)]
    elif broken == "batch":
        nodes += [
            node("ReduceMean", ["clean"], "mean", axes=[0], keepdims=1),
            constant("little", np.full(1, 0.01)),
            node("Mul", ["mean", "little"], "excess"),
            node("Add", ["clean", "excess"], "moved"),
            *(
                [
                    node("ReduceSum", ["moved", "axis"], "whole", keepdims=1),
                    node("Div", ["moved", "whole"], output),
                ]
                if softmax
                else [node("Identity", ["moved"], output)]
            ),
        ]
        axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
        nodes.insert(0, helper.make_node("Constant", [], ["axis"], value=axis))
    graph = helper.make_graph(
        nodes,
        "linear",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("categorical", TensorProto.STRING, ["N", 1]),
            helper.make_tensor_value_info("time", TensorProto.INT64, ["N", 1]),
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", width])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)
