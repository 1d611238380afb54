"""Networks and the linear model as nodes of an ONNX graph: what they read, their layers, their answers.

They say what `TrainedModel.forward` says, in fewer steps: numeric features go from the raw value to their
embedding at once (`numbers`), times are looked up by their minute of the week, and categories by their
text. torch's own exporter is the oracle in the tests.
"""

from typing import TYPE_CHECKING, cast

import numpy as np
from torch import Tensor, nn

from slipway.components.contracts.bundle import Bundle
from slipway.components.train.graph.builder import GraphBuilder
from slipway.components.train.graph.inputs import (
    Block,
    tabulate_times,
    write_codes,
    write_flags,
    write_minutes,
)
from slipway.components.train.graph.numbers import fold, write_numbers
from slipway.components.train.linear.model import Linear
from slipway.components.train.model.network import Network

if TYPE_CHECKING:
    from slipway.components.train.model.trained import TrainedModel


Member = Network | Linear


def write_members(
    graph: GraphBuilder, model: "TrainedModel", bundle: Bundle, networks: list[Network]
) -> list[str]:
    """Adds the networks' mean answer, and that of the linear model, of those that there are.

    Args:
        graph: to add to.
        model: on the CPU, in evaluation mode.
        bundle: its signature.
        networks: the model's, or none where they are not Slipway's own.

    Returns:
        Of each an answer before calibration, float64 [N, outputs].
    """
    linear = [] if model.linear is None else [cast("Linear", model.linear)]
    members: list[Member] = [*networks, *linear]
    if not members:
        return []
    answers = [
        _write_member(graph, member, blocks, model)
        for member, blocks in zip(
            members, _write_blocks(graph, model, members, bundle), strict=True
        )
    ]
    means = answers[len(networks) :]
    if len(networks) > 1:  # onnxruntime has no Mean of float64
        share = graph.constant(1 / len(networks), np.float64)
        means.insert(0, graph.add("Mul", graph.add("Sum", *answers[: len(networks)]), share))
    elif networks:
        means.insert(0, answers[0])
    return means


def _write_blocks(
    graph: GraphBuilder, model: "TrainedModel", members: list[Member], bundle: Bundle
) -> list[list[Block]]:
    """Adds what the first layers read: the blocks of each member."""
    preprocessor, numeric = model.preprocessor, len(bundle.numeric)
    embedded = [column for column in preprocessor.varying_columns if column < numeric]
    numbers = [""] * len(members)
    if embedded:
        segments = fold(preprocessor, [m.numbers for m in members if m.numbers is not None])
        found = write_numbers(graph, "numeric", embedded, numeric, segments[: len(embedded)])
        numbers = _split_members(graph, found, [_number_width(member) for member in members])
    codes = write_codes(graph, "categorical", bundle) if bundle.categorical else []
    minutes = write_minutes(graph, "time", len(bundle.time)) if bundle.time else ""
    flags = None
    if any(column < numeric for column in preprocessor.flagged_columns):
        flags = write_flags(graph, "numeric", preprocessor, numeric)
    found_blocks = []
    for member, value in zip(members, numbers, strict=True):
        width = _number_width(member)
        first = width * len(preprocessor.varying_columns)
        blocks = []
        if value:
            sources = range(width * len(embedded))
            blocks.append(Block(value=graph.reshape(value, 0, len(sources)), sources=sources))
        if flags is not None:
            moved = [first + place if place >= 0 else -1 for place in flags.sources]
            blocks.append(Block(value=flags.value, sources=moved))
        if minutes:
            table, times = tabulate_times(preprocessor, member, bundle, first)
            rows = graph.add("Gather", graph.constant(table), minutes)
            blocks.append(Block(value=graph.reshape(rows, 0, len(times)), sources=times))
        start = first + preprocessor.plain_width
        for code, table_module in zip(codes, member.categories, strict=False):
            weight = cast("nn.Embedding", table_module).weight
            place = range(start, start + weight.shape[1])
            rows = graph.add("Gather", graph.constant(_array(weight)), code)
            blocks.append(Block(value=rows, sources=place))
            start += weight.shape[1]
        found_blocks.append(blocks)
    return found_blocks


def _number_width(member: Member) -> int:
    """How many columns a numeric feature becomes."""
    return 0 if member.numbers is None else int(member.numbers.get_output_shape()[-1])


def _split_members(graph: GraphBuilder, value: str, widths: list[int]) -> list[str]:
    if len(widths) == 1:
        return [value]
    sizes = graph.constant(widths, np.int64)
    return graph.split("Split", value, sizes, outputs=len(widths), axis=2)


def _write_member(
    graph: GraphBuilder, member: Member, blocks: list[Block], model: "TrainedModel"
) -> str:
    """Adds a member's layers and its answer: float64 [N, outputs]."""
    values = [block.value for block in blocks]
    order = [source for block in blocks for source in block.sources]
    x = graph.add("Concat", *values, axis=1) if len(values) > 1 else values[0]
    layers: list[nn.Module] = []
    if isinstance(member, Network):
        layers = [cast("nn.Module", block[0]) for block in member.backbone.blocks]
    if member.heads == 1:
        for number, layer in enumerate([*layers, member.output]):
            if number:
                x = graph.add("Relu", x)
            weight = _array(layer.weight)
            x = _write_linear(graph, x, _reorder(weight, order) if number == 0 else weight, layer)
        return model.head.write_link(graph, x)
    x = graph.reshape(x, 0, 1, len(order))
    for number, layer in enumerate(layers):
        weight, scale = _array(layer.weight), _array(layer.r)
        if number == 0:
            weight, scale = _reorder(weight, order), _reorder(scale, order)
        x = graph.add("Mul", x, graph.constant(scale))
        x = graph.add("MatMul", x, graph.constant(weight.T))
        x = graph.add("Mul", x, graph.constant(_array(layer.s)))
        x = graph.add("Relu", graph.add("Add", x, graph.constant(_array(layer.bias))))
    # Each head has an output layer of its own: [heads, N, width] times [heads, width, outputs].
    x = graph.add("Transpose", x, perm=[1, 0, 2])
    x = graph.add("MatMul", x, graph.constant(_array(member.output.weight)))
    x = graph.add("Add", x, graph.constant(_array(member.output.bias)[:, None]))
    answers = model.head.write_link(graph, x)
    return graph.add("ReduceMean", answers, graph.constant([0], np.int64), keepdims=0)


def _write_linear(graph: GraphBuilder, x: str, weight: np.ndarray, layer: nn.Module) -> str:
    bias = graph.constant(_array(cast("Tensor", layer.bias)))
    return graph.add("Gemm", x, graph.constant(weight), bias, transB=1)


def _reorder(weight: np.ndarray, order: list[int]) -> np.ndarray:
    """Columns of a first layer as the graph's blocks have them; one from nowhere weighs nothing."""
    padded = np.concatenate([weight, np.zeros_like(weight[:, :1])], axis=1)
    return padded[:, order]


def _array(tensor: "Tensor | nn.Module") -> np.ndarray:
    return cast("Tensor", tensor).detach().numpy()
