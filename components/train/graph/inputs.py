"""Times, categories and flags: what the network reads beside the numeric embeddings, by look-up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from slipway.components.contracts.bundle import MISSING_TIME, Bundle
from slipway.components.train.graph.builder import ML, GraphBuilder

if TYPE_CHECKING:
    import onnx

    from slipway.components.train.linear.model import Linear
    from slipway.components.train.model.network import Network
    from slipway.components.train.model.preprocess import Preprocessor

_MINUTE = 60_000_000
_WEEK = 7 * 1440


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Columns of the first layer's input in the graph.

    Attributes:
        value: float32 [N, len(sources)].
        sources: the column that each is in `Network`'s own input; -1: in none.
    """

    value: str
    sources: Sequence[int]


def describe_inputs(bundle: Bundle) -> "list[onnx.ValueInfoProto]":
    """The graph's inputs, as `components/contracts/bundle.py` says."""
    from onnx import TensorProto, helper

    return [
        helper.make_tensor_value_info(name, element, ["batch", width])
        for name, element, width in (
            ("numeric", TensorProto.FLOAT, len(bundle.numeric)),
            ("categorical", TensorProto.STRING, len(bundle.categorical)),
            ("time", TensorProto.INT64, len(bundle.time)),
        )
        if width
    ]


def write_flags(
    graph: GraphBuilder, numeric: str, preprocessor: "Preprocessor", width: int
) -> Block:
    """Adds the flags of missing values; a column without a flag gives one that is read by nothing.

    Args:
        graph: to add to.
        numeric: float32 [N, width].
        preprocessor: knows which columns have a flag.
        width: of `numeric`.
    """
    from onnx import TensorProto

    flags = graph.add("Cast", graph.add("IsNaN", numeric), to=TensorProto.FLOAT)
    flagged = preprocessor.flagged_columns
    sources = [flagged.index(c) if c in flagged else -1 for c in range(width)]
    return Block(value=flags, sources=sources)


def write_minutes(graph: GraphBuilder, time: str, features: int) -> str:
    """Adds the row of each time in `tabulate_times`: int64 [N, features].

    Args:
        graph: to add to.
        time: int64 [N, features].
        features: number of time features.
    """
    within = graph.add("Mod", time, graph.constant(_WEEK * _MINUTE, np.int64))
    minute = graph.add("Div", within, graph.constant(_MINUTE, np.int64))
    missing = graph.add("Equal", time, graph.constant(MISSING_TIME, np.int64))
    row = graph.add("Where", missing, graph.constant(_WEEK, np.int64), minute)
    if features == 1:
        return row
    return graph.add("Add", row, graph.constant(np.arange(features) * (_WEEK + 1), np.int64))


def tabulate_times(
    preprocessor: "Preprocessor", member: "Network | Linear", bundle: Bundle, first: int
) -> tuple[np.ndarray, list[int]]:
    """What the network reads of each minute of a week, and of a missing time.

    Args:
        preprocessor: of the model.
        member: a network, or the linear model.
        bundle: the signature.
        first: column of the network's input where the plain ones begin.

    Returns:
        float32 [features * 10,081, W], and the sources (see `Block`) of [features, W], flat.
    """
    times, numeric = len(bundle.time), len(bundle.numeric)
    stamps = torch.cat([torch.arange(_WEEK) * _MINUTE, torch.tensor([MISSING_TIME])])
    rows = len(stamps)
    with torch.no_grad():
        scaled, plain, codes = preprocessor(
            torch.zeros(rows, numeric),
            torch.zeros(rows, len(bundle.categorical), dtype=torch.int64),
            stamps[:, None].expand(-1, times),
        )
        embedded = member.numbers(scaled).numpy() if member.numbers is not None else None
        weekdays = [table(codes[:, i]).numpy() for i, table in enumerate(member.categories)]
    flags = len(preprocessor.flagged_columns)
    starts = np.cumsum([first + plain.shape[1], *(t.embedding_dim for t in member.categories)])
    tables: list[np.ndarray] = []
    sources: list[int] = []
    for feature in range(times):
        parts: list[np.ndarray] = []
        column, category = numeric + feature, len(bundle.categorical) + feature
        if embedded is not None:
            width = embedded.shape[2]
            if column in preprocessor.varying_columns:
                place = preprocessor.varying_columns.index(column)
                parts.append(embedded[:, place])
                sources += range(place * width, (place + 1) * width)
            else:
                parts.append(np.zeros((rows, width)))
                sources += [-1] * width
        flag = -1
        if column in preprocessor.flagged_columns:
            flag = preprocessor.flagged_columns.index(column)
        circle = [flags + feature, flags + times + feature]
        parts += [plain[:, [max(flag, 0), *circle]].numpy(), weekdays[category]]
        sources += [first + place if place >= 0 else -1 for place in (flag, *circle)]
        sources += range(starts[category], starts[category + 1])
        tables.append(np.concatenate(parts, axis=1))
    return np.concatenate(tables).astype(np.float32), sources


def write_codes(graph: GraphBuilder, categorical: str, bundle: Bundle) -> list[str]:
    """Adds the codes of each categorical feature: int64 [N] each.

    Args:
        graph: to add to.
        categorical: string [N, m].
        bundle: has the vocabularies.
    """
    codes = []
    for i, name in enumerate(bundle.categorical):
        # LabelEncoder wants at least one key; no value is the empty string's code anyway.
        values = bundle.vocabularies[name] or [""]
        first = 1 if bundle.vocabularies[name] else 0
        codes.append(
            graph.add(
                "LabelEncoder",
                graph.add("Gather", categorical, graph.constant(i, np.int64), axis=1),
                domain=ML,
                keys_strings=[value.encode() for value in values],
                values_int64s=list(range(first, first + len(values))),
                default_int64=0,
            )
        )
    return codes
