"""Trees in an ONNX graph: one TreeEnsembleRegressor that reads the raw values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from slipway.components.contracts.bundle import MISSING_TIME, Bundle
from slipway.components.train.graph.builder import ML, GraphBuilder
from slipway.components.train.graph.inputs import write_codes
from slipway.components.train.model.preprocess import DAY, MINUTE, WEEKDAYS

if TYPE_CHECKING:
    from slipway.components.train.trees.forest import Nodes

_THURSDAY = 3


def write_trees(graph: GraphBuilder, nodes: "Nodes", bundle: Bundle) -> str:
    """Adds the trees.

    They add up their leaves in float64, as torch does: thousands of small float32 leaves would lose a
    few digits. The comparisons are those of float32, whose values float64 holds.

    Args:
        graph: to add to.
        nodes: of all trees.
        bundle: names the inputs.

    Returns:
        float32 [N, W], the outputs before the link function.
    """
    from onnx import numpy_helper

    attributes = tree_attributes(nodes, _cardinalities(bundle)) | {"base_values": nodes.base}
    for name in ("nodes_values", "target_weights", "base_values"):
        numbers = np.asarray(attributes.pop(name), np.float64)
        attributes[f"{name}_as_tensor"] = numpy_helper.from_array(numbers, name)
    return graph.add(
        "TreeEnsembleRegressor",
        graph.double(_write_matrix(graph, bundle)),
        domain=ML,
        n_targets=len(nodes.base),
        aggregate_function="SUM",
        post_transform="NONE",
        **attributes,
    )


def _write_matrix(graph: GraphBuilder, bundle: Bundle) -> str:
    """Adds what the trees read: `tree_matrix`, float32 [N, F]."""
    from onnx import TensorProto

    parts = ["numeric"] if bundle.numeric else []
    weekdays = ""
    if bundle.time:
        missing = graph.add("Equal", "time", graph.constant(MISSING_TIME, np.int64))
        # Integers all the way: Mod takes the sign of its divisor, so Div has nothing to round.
        within = graph.add("Mod", "time", graph.constant(DAY, np.int64))
        minute = graph.add("Div", within, graph.constant(MINUTE, np.int64))
        minute = graph.add("Cast", minute, to=TensorProto.FLOAT)
        parts.append(graph.add("Where", missing, graph.constant(np.nan), minute))
        days = graph.add("Div", graph.add("Sub", "time", within), graph.constant(DAY, np.int64))
        later = graph.add("Add", days, graph.constant(_THURSDAY, np.int64))
        weekday = graph.add("Mod", later, graph.constant(7, np.int64))
        weekday = graph.add("Add", weekday, graph.constant(1, np.int64))
        weekday = graph.add("Where", missing, graph.constant(0, np.int64), weekday)
        weekdays = graph.add("Cast", weekday, to=TensorProto.FLOAT)
    if bundle.categorical:
        codes = [graph.reshape(code, -1, 1) for code in write_codes(graph, "categorical", bundle)]
        joined = graph.add("Concat", *codes, axis=1) if len(codes) > 1 else codes[0]
        parts.append(graph.add("Cast", joined, to=TensorProto.FLOAT))
    if weekdays:
        parts.append(weekdays)
    return graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


@dataclass(slots=True)
class _Attributes:
    """The attributes of a TreeEnsembleRegressor, node by node."""

    tree: list[int] = field(default_factory=list)
    node: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    mode: list[str] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    true: list[int] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    missing_true: list[int] = field(default_factory=list)

    def add(self, tree: int, node: int, mode: str, **rest: object) -> None:
        self.tree.append(tree)
        self.node.append(node)
        self.mode.append(mode)
        for name in ("feature", "value", "true", "false", "missing_true"):
            getattr(self, name).append(rest.get(name, 0))


def tree_attributes(nodes: "Nodes", cardinalities: Sequence[int]) -> dict[str, object]:
    """The trees as attributes of ai.onnx.ml's TreeEnsembleRegressor (version 3).

    Version 3 knows no sets: a node that asks whether a code is in one becomes a chain of comparisons
    with each of its codes, or, where that is shorter, with each of those that are not in it; all of them
    lead to the same subtree.

    Args:
        nodes: of all trees.
        cardinalities: of each column, how many codes there are; 0 for a number.
    """
    written = _Attributes()
    leaves = np.flatnonzero(nodes.is_leaf)
    ends = [*nodes.roots[1:].tolist(), len(nodes.left)]
    tree_of = np.zeros(len(nodes.left), np.int64)
    for tree, (root, end) in enumerate(zip(nodes.roots.tolist(), ends, strict=True)):
        tree_of[root:end] = tree
        extra = end - root
        for at in range(root, end):
            place, left, right = at - root, int(nodes.left[at]) - root, int(nodes.right[at]) - root
            feature = int(nodes.feature[at])
            if left == place:
                written.add(tree, place, "LEAF")
            elif nodes.set_size[at]:
                codes, yes, no = _chain(nodes.codes(at), left, right, cardinalities[feature])
                steps = [place, *range(extra, extra + len(codes) - 1)]
                extra += len(codes) - 1
                for step, code, after in zip(steps, codes, [*steps[1:], no], strict=True):
                    written.add(
                        tree, step, "BRANCH_EQ", feature=feature, value=code, true=yes, false=after
                    )
            else:
                written.add(
                    tree,
                    place,
                    "BRANCH_LT",
                    feature=feature,
                    value=float(nodes.threshold[at]),
                    true=left,
                    false=right,
                    missing_true=int(nodes.missing_left[at]),
                )
    return {
        "nodes_treeids": written.tree,
        "nodes_nodeids": written.node,
        "nodes_featureids": written.feature,
        "nodes_modes": written.mode,
        "nodes_values": written.value,
        "nodes_truenodeids": written.true,
        "nodes_falsenodeids": written.false,
        "nodes_missing_value_tracks_true": written.missing_true,
        "target_treeids": tree_of[leaves].tolist(),
        "target_nodeids": (leaves - nodes.roots[tree_of[leaves]]).tolist(),
        "target_ids": nodes.outputs[tree_of[leaves]].tolist(),
        "target_weights": nodes.value[leaves].tolist(),
    }


def _chain(
    members: np.ndarray, left: int, right: int, cardinality: int
) -> tuple[list[float], int, int]:
    """Codes to compare with, where one of them leads, and where any other does."""
    others = np.setdiff1d(np.arange(cardinality), members)
    if 0 < len(others) < len(members):
        return [float(code) for code in others], left, right
    return [float(code) for code in members], right, left


def _cardinalities(bundle: Bundle) -> list[int]:
    """Of the columns of `tree_columns`: how many codes there are, 0 for a number."""
    return [
        *[0] * (len(bundle.numeric) + len(bundle.time)),
        *(len(bundle.vocabularies[name]) + 1 for name in bundle.categorical),
        *[WEEKDAYS] * len(bundle.time),
    ]
