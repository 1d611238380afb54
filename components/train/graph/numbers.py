"""Numeric features: from the raw value to the embedding in one piecewise-linear step.

The quantile scale and the piecewise-linear embedding of a feature are each linear between edges, and so
is one after the other. The graph finds a value's segment with a decision tree a feature, looks up where
the segment begins, its slopes and what it begins with, and multiplies once. All is computed in float64
and rounded at the end.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from slipway.components.train.graph.builder import ML, GraphBuilder
from slipway.components.train.linear.model import Scales

if TYPE_CHECKING:
    from rtdl_num_embeddings import PiecewiseLinearEmbeddings

    from slipway.components.train.model.preprocess import Preprocessor

# Nearer edges on the normal scale are one: a float32 near 4 does not tell them apart.
_SAME = 5e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """One feature's segments: S pieces, from `begins[i]` (included) to `begins[i + 1]`.

    Attributes:
        begins: float32 [S]; that of the first, which has no beginning, is 0.
        starts: float64 [S, D], the embedding there.
        slopes: float64 [S, D], per unit of the raw value.
        missing: float64 [D], the embedding of a missing value.
    """

    begins: np.ndarray
    starts: np.ndarray
    slopes: np.ndarray
    missing: np.ndarray


def fold(
    preprocessor: "Preprocessor", embeddings: "list[PiecewiseLinearEmbeddings | Scales]"
) -> list[Segments]:
    """The segments of each embedded column, D being the embeddings' widths one after the other.

    Args:
        preprocessor: its knots are those of all numeric columns.
        embeddings: of the networks, the same bins in each, then of the linear model, which bends at the
            preprocessor's knots.
    """
    exact = [deepcopy(module).double() for module in embeddings]
    columns = []
    for place, column in enumerate(preprocessor.varying_columns):
        raw, normal = _knots(preprocessor, column)
        raw, normal = _refine(raw, normal, _edges(exact[0], place))
        columns.append((raw, normal))
    # One call a member: the embeddings take all columns at once.
    grid = np.zeros((max(len(raw) for raw, _ in columns) + 1, len(columns)))
    for place, (_, normal) in enumerate(columns):
        grid[: len(normal), place] = normal
    with torch.no_grad():
        values = torch.cat([module(torch.from_numpy(grid)) for module in exact], dim=2).numpy()
    return [
        _segments(raw, values[: len(raw), place], values[-1, place])
        for place, (raw, _) in enumerate(columns)
    ]


def _knots(preprocessor: "Preprocessor", column: int) -> tuple[np.ndarray, np.ndarray]:
    """A column's different knots and where each lies on the normal scale, in float64."""
    width = preprocessor.knots.shape[1] - 1
    rows = preprocessor.segments[column * width : (column + 1) * width].double().numpy()
    raw = np.append(rows[:, 0], rows[-1, 1])
    normal = np.append(rows[:, 2], rows[-1, 3])
    raw, first = np.unique(raw, return_index=True)
    return raw, normal[first]


def _edges(embedding: "PiecewiseLinearEmbeddings | Scales", place: int) -> np.ndarray:
    """Where a column's embedding bends between the knots, on the normal scale."""
    if isinstance(embedding, Scales):
        return np.empty(0)
    weight, bias = embedding.impl.weight[place].numpy(), embedding.impl.bias[place].numpy()
    used = weight != 0
    # The first bin goes on below its left edge, and the last one above its right edge.
    return np.sort(-bias[used] / weight[used])[1:]


def _refine(
    raw: np.ndarray, normal: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Knots with the edges between them."""
    inner = edges[(edges > normal[0]) & (edges < normal[-1])]
    near = np.abs(inner[:, None] - normal[None]).min(1) if len(inner) else inner
    inner = inner[near > _SAME * np.maximum(1, np.abs(inner))]
    right = np.searchsorted(normal, inner, side="right")
    share = (inner - normal[right - 1]) / (normal[right] - normal[right - 1])
    at = raw[right - 1] + share * (raw[right] - raw[right - 1])
    order = np.argsort(np.concatenate([raw, at]), kind="stable")
    return np.concatenate([raw, at])[order], np.concatenate([normal, inner])[order]


def _segments(raw: np.ndarray, values: np.ndarray, missing: np.ndarray) -> Segments:
    """Segments between knots, float64 [K], whose embeddings are float64 [K, D]."""
    begins = _not_below(raw)
    widths = np.diff(raw)[:, None]
    slopes = np.divide(
        np.diff(values, axis=0), widths, out=np.zeros_like(values[1:]), where=widths > 0
    )
    # Two values that near to one another are one: no number lies between them that counts.
    slopes[~(np.abs(slopes) < 1e30).all(1)] = 0
    starts = values[:-1] + slopes * (begins[:-1].astype(np.float64) - raw[:-1])[:, None]
    # Where no float32 lies in a segment, nothing is found there.
    there = begins[:-1] < begins[1:]
    flat = np.zeros((1, values.shape[1]))
    return Segments(
        begins=np.concatenate([[0], begins[:-1][there], begins[-1:]]).astype(np.float32),
        starts=np.concatenate([values[:1], starts[there], values[-1:]]),
        slopes=np.concatenate([flat, slopes[there], flat]),
        missing=missing,
    )


def _not_below(values: np.ndarray) -> np.ndarray:
    """The smallest float32 not below each float64."""
    rounded = values.astype(np.float32)
    return np.where(
        rounded.astype(np.float64) < values, np.nextafter(rounded, np.float32(np.inf)), rounded
    )


def write_numbers(
    graph: GraphBuilder, values: str, columns: list[int], width: int, segments: list[Segments]
) -> str:
    """Adds the embeddings of the numeric input.

    Args:
        graph: to add to.
        values: float32 [N, width], missing is NaN.
        columns: the embedded columns.
        width: columns of `values`.
        segments: of the embedded columns.

    Returns:
        float32 [N, len(columns), D].
    """
    from onnx import TensorProto

    found = _write_search(graph, values, columns, segments)
    number, begin = graph.split("Split", found, outputs=2, axis=1, num_outputs=2)
    number = graph.add("Cast", number, to=TensorProto.INT32)
    chosen = values
    if columns != list(range(width)):
        chosen = graph.add("Gather", values, graph.constant(columns, np.int64), axis=1)
    # A missing value's segment is flat: any finite number will do. So are the ends, for infinite ones.
    absent = graph.add("IsNaN", chosen)
    chosen = graph.add("Where", absent, graph.constant(0.0), chosen)
    greatest = float(np.finfo(np.float32).max) / 4
    chosen = graph.add("Clip", chosen, graph.constant(-greatest), graph.constant(greatest))
    beyond = graph.add("Sub", chosen, begin)
    beyond = graph.reshape(beyond, 0, len(columns), 1)
    starts = np.concatenate([np.concatenate([s.starts, s.missing[None]]) for s in segments])
    slopes = np.concatenate([np.concatenate([s.slopes, 0 * s.missing[None]]) for s in segments])
    # In one row: a look into a table costs more than the arithmetic that follows it.
    table = graph.constant(np.concatenate([slopes, starts], axis=1))
    rows = graph.add("Gather", table, number)
    slope, start = graph.split("Split", rows, outputs=2, axis=2, num_outputs=2)
    return graph.add("Add", graph.add("Mul", slope, beyond), start)


def _write_search(
    graph: GraphBuilder, values: str, columns: list[int], segments: list[Segments]
) -> str:
    """Adds one decision tree a column: float32 [N, 2 * columns], segments' rows, then their beginnings.

    A column's rows are its segments, and one for a missing value.
    """
    search = _Search(len(columns))
    row = 0
    for tree, (column, of) in enumerate(zip(columns, segments, strict=True)):
        search.add_tree(tree, column, of.begins, row)
        row += len(of.begins) + 1
    return graph.add(
        "TreeEnsembleRegressor",
        values,
        domain=ML,
        n_targets=2 * len(columns),
        aggregate_function="SUM",
        post_transform="NONE",
        **search.attributes,
    )


class _Search:
    """The attributes of a TreeEnsembleRegressor that finds segments.

    All comparisons are `value >= bound`: onnxruntime has a fast way where all are alike, and NaN fulfils
    none, so that it comes to the first segment, where one more comparison tells it apart.
    """

    _NODE = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    _TARGET = ("treeids", "nodeids", "ids", "weights")

    def __init__(self, trees: int) -> None:
        self._trees = trees
        self._nodes: list[list[Any]] = []
        self._targets: list[list[Any]] = []

    @property
    def attributes(self) -> dict[str, list[Any]]:
        """By name."""
        nodes = zip(self._NODE, zip(*self._nodes, strict=True), strict=True)
        targets = zip(self._TARGET, zip(*self._targets, strict=True), strict=True)
        return {f"nodes_{name}": list(values) for name, values in nodes} | {
            f"target_{name}": list(values) for name, values in targets
        }

    def add_tree(self, tree: int, column: int, begins: np.ndarray, row: int) -> None:
        """A column's tree: it halves the segments until one is left.

        Args:
            tree: its number.
            column: that it looks at.
            begins: of the segments.
            row: of the first one; that of a missing value follows the last one's.
        """

        def leaf(number: int, begin: float) -> int:
            node = self._add(tree, column, "LEAF", 0.0)
            self._targets.append([tree, node, tree, float(row + number)])
            self._targets.append([tree, node, self._trees + tree, begin])
            return node

        def branch(bound: float, above: Callable[[], int], below: Callable[[], int]) -> int:
            node = self._add(tree, column, "BRANCH_GTE", bound)
            self._nodes[node][5:] = [above(), below()]
            return node

        def build(first: int, last: int) -> int:
            if first < last:
                middle = (first + last + 1) // 2
                return branch(
                    float(begins[middle]),
                    lambda: build(middle, last),
                    lambda: build(first, middle - 1),
                )
            if first == 0:
                return branch(-np.inf, lambda: leaf(0, 0.0), lambda: leaf(len(begins), 0.0))
            return leaf(first, float(begins[first]))

        build(0, len(begins) - 1)

    def _add(self, tree: int, column: int, mode: str, value: float) -> int:
        node = len(self._nodes)
        self._nodes.append([tree, node, column, value, mode, 0, 0])
        return node
