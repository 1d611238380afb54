"""The ONNX model with an input a feature, as MLflow's signature shows it and a data frame has it.

The bundle's graph takes matrices, numbers in one and texts in another, which is what a server fills at
least cost. To a person who loads the model through MLflow they say nothing: here each feature has an
input of its own name, one value a row, and the matrices are put together inside.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from slipway.components.contracts.bundle import Bundle

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto

_PREFIX = "slipway/"


def split_inputs(bundle: Bundle, inputs: "Mapping[str, np.ndarray]") -> "dict[str, np.ndarray]":
    """The matrices of `model_inputs` as columns: feature to its values, (rows,) each."""
    return {
        name: inputs[matrix][:, place]
        for matrix, names in _matrices(bundle).items()
        for place, name in enumerate(names)
    }


def name_inputs(model: "ModelProto", bundle: Bundle) -> "ModelProto":
    """The model with an input of shape (rows,) for each feature in the place of each matrix."""
    from onnx import compose, helper

    # What is inside has a prefix, so that a feature may be called as any of it.
    inner = compose.add_prefix(model, _PREFIX, rename_outputs=False)
    graph = inner.graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    made, nodes = [], []
    for matrix, names in _matrices(bundle).items():
        columns = []
        for place, name in enumerate(names):
            made.append(helper.make_tensor_value_info(name, kinds[_PREFIX + matrix], ["rows"]))
            columns.append(f"{_PREFIX}{matrix}/{place}")
            nodes.append(helper.make_node("Reshape", [name, f"{_PREFIX}column"], columns[-1:]))
        nodes.append(helper.make_node("Concat", columns, [_PREFIX + matrix], axis=1))
    graph.initializer.append(helper.make_tensor(f"{_PREFIX}column", 7, [2], [-1, 1]))  # 7: int64
    inside = list(graph.node)
    del graph.input[:], graph.node[:]
    graph.input.extend(made)
    graph.node.extend([*nodes, *inside])
    return inner


def _matrices(bundle: Bundle) -> dict[str, list[str]]:
    """The graph's inputs, each with the names of its columns; one of no feature is left out.

    A feature's column has its name, but where the answer, or what is inside, is called so: a graph has
    each name once.
    """
    answer = bundle.output[0]
    found = {"numeric": bundle.numeric, "categorical": bundle.categorical, "time": bundle.time}
    return {
        matrix: [
            f"{name} (feature)" if name == answer or name.startswith(_PREFIX) else name
            for name in names
        ]
        for matrix, names in found.items()
        if names
    }
