"""Nodes and constants of an ONNX graph in the making."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

ML = "ai.onnx.ml"
OPSETS = MappingProxyType({"": 18, ML: 3})
_IR_VERSION = 10


class GraphBuilder:
    """Collects nodes and constants; values are told apart by the names that it gives them.

    Args:
        prefix: of all names.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._nodes: dict[bytes, onnx.NodeProto] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    def constant(self, value: object, dtype: Any = np.float32) -> str:
        """The name of a constant; the same content is kept once.

        Args:
            value: what numpy makes an array of; torch tensors must be on the CPU.
            dtype: of the constant.
        """
        from onnx import numpy_helper

        array = np.asarray(value).astype(dtype, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"{self._prefix}constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(array, name)
        return str(self._constants[key].name)

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: object) -> str:
        """Adds a node with one output and gives the output's name."""
        return self.split(operator, *inputs, outputs=1, domain=domain, **attributes)[0]

    def split(
        self, operator: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Adds a node with several outputs and gives their names; the same node is there once."""
        from onnx import helper

        node = helper.make_node(operator, inputs, [], domain=domain, **attributes)
        key = node.SerializeToString(deterministic=True) + bytes([outputs])
        if key not in self._nodes:
            name = f"{self._prefix}{operator}_{len(self._nodes)}"
            node.output.extend(f"{name}_{i}" for i in range(outputs))
            self._nodes[key] = node
        return list(self._nodes[key].output)

    def double(self, value: str) -> str:
        """Adds a Cast to float64."""
        from onnx import TensorProto

        return self.add("Cast", value, to=TensorProto.DOUBLE)

    def single(self, value: str) -> str:
        """Adds a Cast to float32."""
        from onnx import TensorProto

        return self.add("Cast", value, to=TensorProto.FLOAT)

    def reshape(self, value: str, *shape: int) -> str:
        """Adds a Reshape; 0 keeps a dimension, -1 is what is left."""
        return self.add("Reshape", value, self.constant(shape, np.int64))

    def name(self, value: str, name: str) -> None:
        """Gives a value, which no node reads yet, a name of its own."""
        node = next(node for node in self._nodes.values() if value in node.output)
        node.output[list(node.output).index(value)] = name

    def argument(self, value: str, operator: str) -> str | None:
        """The first input of the node that gives a value, where it is of that operator; else None."""
        for node in self._nodes.values():
            if value in node.output and node.op_type == operator:
                return str(node.input[0])
        return None

    def used(self, value: str) -> "tuple[list[onnx.NodeProto], list[onnx.TensorProto]]":
        """The nodes and constants that a value is made of, in the order in which they were added."""
        names, nodes = {value}, []
        for node in reversed(self._nodes.values()):
            if names.intersection(node.output):
                nodes.append(node)
                names.update(node.input)
        constants = [each for each in self._constants.values() if each.name in names]
        return nodes[::-1], constants

    def finish(
        self,
        value: str,
        output: "onnx.ValueInfoProto",
        inputs: Sequence["onnx.ValueInfoProto"],
    ) -> "onnx.ModelProto":
        """The checked model whose output is a value, which no node reads."""
        from onnx import helper

        self.name(value, output.name)
        nodes, constants = self.used(output.name)
        return finish_model(
            helper.make_graph(nodes, "model", inputs, [output], initializer=constants)
        )


def finish_model(
    graph: "onnx.GraphProto",
    functions: Sequence["onnx.FunctionProto"] = (),
    opsets: Mapping[str, int] = OPSETS,
) -> "onnx.ModelProto":
    """The checked model of a graph.

    Args:
        graph: all of it.
        functions: that its nodes call.
        opsets: domain to version, of all operators and functions.
    """
    import onnx
    from onnx import helper

    model = helper.make_model(
        graph,
        functions=list(functions),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        ir_version=_IR_VERSION,
        producer_name="slipway",
    )
    onnx.checker.check_model(model)
    return model
