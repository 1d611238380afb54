"""Numeric features: from the raw value to the embedding in one piecewise-linear step.

The quantile scale and the piecewise-linear embedding of a feature are each linear between edges, and so
is one after the other. The graph finds a value's segment, looks up where the segment begins, its slopes
and what it begins with, and multiplies once. The tables are computed in float64 and rounded at the end.
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from slipway.components.train.graph.builder import GraphBuilder
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
    if columns != list(range(width)):
        values = graph.add("Gather", values, graph.constant(columns, np.int64), axis=1)
    search = _Search.over(segments)
    number = _write_search(graph, values, search)
    begin = graph.add(
        "Gather", graph.constant(search.arrange([s.begins for s in segments])), number
    )
    # A missing value's segment is flat: any finite number will do. So are the ends, for infinite ones.
    chosen = graph.add("Where", graph.add("IsNaN", values), graph.constant(0.0), values)
    greatest = float(np.finfo(np.float32).max) / 4
    chosen = graph.add("Clip", chosen, graph.constant(-greatest), graph.constant(greatest))
    beyond = graph.reshape(graph.add("Sub", chosen, begin), 0, len(columns), 1)
    missing = [s.missing for s in segments]
    slopes = graph.constant(search.arrange([s.slopes for s in segments]))
    starts = graph.constant(search.arrange([s.starts for s in segments], missing))
    slope, start = (graph.add("Gather", table, number) for table in (slopes, starts))
    return graph.add("Add", graph.add("Mul", slope, beyond), start)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """How a value's segment is found: it is counted how many bounds a value reaches, twice.

    First of `coarse`, which gives a cell of C + 1 segments, then of the C bounds within that cell. No
    step depends on a comparison's outcome, so that a processor has nothing to guess: a decision tree a
    column took twice as long on values that it had not just seen. The first coarse bound is -inf, which
    all numbers reach, and NaN does not: cell 0 is that of a missing value. NaN stands for no bound.

    Attributes:
        coarse: float32 [B, P], of each column.
        fine: float32 [P * (B + 1), C], of each cell of each column.
    """

    coarse: np.ndarray
    fine: np.ndarray

    @classmethod
    def over(cls, segments: list[Segments]) -> "_Search":
        """The bounds of these columns' segments."""
        most = max(len(each.begins) for each in segments)
        inner = math.isqrt(most)
        count = -(-most // (inner + 1))
        bounds = np.full((len(segments), count, inner + 1), np.nan, np.float32)
        for row, each in zip(bounds.reshape(len(segments), -1), segments, strict=True):
            row[: len(each.begins)] = each.begins
        bounds[:, 0, 0] = -np.inf
        fine = np.pad(bounds[:, :, 1:], ((0, 0), (1, 0), (0, 0)), constant_values=np.nan)
        return cls(coarse=bounds[:, :, 0].T, fine=fine.reshape(-1, inner))

    @property
    def cell(self) -> int:
        """Segments of a cell."""
        return self.fine.shape[1] + 1

    def arrange(
        self, values: list[np.ndarray], missing: list[np.ndarray] | None = None
    ) -> np.ndarray:
        """What belongs to the segments, in the order of the numbers that the search gives.

        Args:
            values: [S, …] of each column.
            missing: […], of each column's missing value; 0 by default.
        """
        cells = len(self.coarse) + 1
        table = np.zeros((len(values), cells * self.cell, *values[0].shape[1:]))
        for column, each in enumerate(values):
            table[column, self.cell : self.cell + len(each)] = each
            if missing is not None:
                table[column, 0] = missing[column]
        return table.reshape(-1, *values[0].shape[1:])


def _write_search(graph: GraphBuilder, values: str, search: _Search) -> str:
    """Adds the search: int32 [N, P], the number of each value's segment among those of all columns.

    Counts are float32 (exact below 2**24), since onnxruntime adds up integers one by one.
    """
    from onnx import TensorProto

    cells, columns = search.coarse.shape[0] + 1, search.coarse.shape[1]
    rows = graph.reshape(values, 0, 1, columns)
    reached = graph.add("GreaterOrEqual", rows, graph.constant(search.coarse))
    cell = _write_count(graph, reached, axis=1)
    cell = graph.add("Add", cell, graph.constant(np.arange(columns) * cells))
    place = graph.add("Cast", cell, to=TensorProto.INT32)
    bounds = graph.add("Gather", graph.constant(search.fine), place)
    reached = graph.add("GreaterOrEqual", graph.reshape(values, 0, columns, 1), bounds)
    within = _write_count(graph, reached, axis=2)
    number = graph.add("Mul", cell, graph.constant(float(search.cell)))
    return graph.add("Cast", graph.add("Add", number, within), to=TensorProto.INT32)


def _write_count(graph: GraphBuilder, reached: str, axis: int) -> str:
    return graph.add(
        "ReduceSum", graph.single(reached), graph.constant([axis], np.int64), keepdims=0
    )
