"""Logarithms of probabilities and their sums, in torch and as nodes of an ONNX graph."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from slipway.components.train.graph.builder import GraphBuilder


LEAST = 1e-7  # a probability below it counts as so much where its logarithm is taken


def log_odds(probabilities: Tensor) -> Tensor:
    """The log-odds of probabilities: float64 of the same shape."""
    inner = probabilities.double().clamp(LEAST, 1 - LEAST)
    return torch.log(inner) - torch.log1p(-inner)


def log(probabilities: Tensor) -> Tensor:
    """The logarithm of probabilities: float64 of the same shape."""
    return torch.log(probabilities.double().clamp(min=LEAST))


def write_log_odds(graph: "GraphBuilder", probabilities: str) -> str:
    """Adds what `log_odds` does."""
    odds = graph.argument(probabilities, "Sigmoid")
    if odds is not None:  # of one model, and not of a mean
        farthest = float(np.log(1 - LEAST) - np.log(LEAST))
        ends = (graph.constant(end, np.float64) for end in (-farthest, farthest))
        return graph.add("Clip", odds, *ends)
    least, most, one = (graph.constant(n, np.float64) for n in (LEAST, 1 - LEAST, 1.0))
    inner = graph.add("Clip", probabilities, least, most)
    against = graph.add("Log", graph.add("Sub", one, inner))
    return graph.add("Sub", graph.add("Log", inner), against)


def write_log(graph: "GraphBuilder", probabilities: str) -> str:
    """Adds what `log` does."""
    return graph.add("Log", graph.add("Clip", probabilities, graph.constant(LEAST, np.float64)))


def add_up(values: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    """The sum of values, each times its factor."""
    first, *rest = (value * factor for value, factor in zip(values, factors, strict=True))
    for more in rest:
        first = first + more
    return first


def write_sum(graph: "GraphBuilder", values: Sequence[str], factors: Sequence[float]) -> str:
    """Adds what `add_up` does."""
    first, *rest = (
        graph.add("Mul", value, graph.constant(factor, np.float64))
        for value, factor in zip(values, factors, strict=True)
    )
    for more in rest:
        first = graph.add("Add", first, more)
    return first
