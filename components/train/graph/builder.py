"""Nodes and constants of an ONNX graph in the making."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

OPSET = 18
ML = "ai.onnx.ml"
ML_OPSET = 3
IR_VERSION = 10


class GraphBuilder:
    """Collects nodes and constants; values are told apart by the names that it gives them."""

    def __init__(self) -> None:
        self._nodes: dict[bytes, onnx.NodeProto] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """The name of a constant; the same content is kept once.

        Args:
            value: what numpy makes an array of; torch tensors must be on the CPU.
            dtype: of the constant.
        """
        from onnx import numpy_helper

        array = np.asarray(value).astype(dtype, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(array, name)
        return str(self._constants[key].name)

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
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
            node.output.extend(f"{operator}_{len(self._nodes)}_{i}" for i in range(outputs))
            self._nodes[key] = node
        return list(self._nodes[key].output)

    def reshape(self, value: str, *shape: int) -> str:
        """Adds a Reshape; 0 keeps a dimension, -1 is what is left."""
        return self.add("Reshape", value, self.constant(shape, np.int64))

    def finish(
        self,
        value: str,
        output: "onnx.ValueInfoProto",
        inputs: Sequence["onnx.ValueInfoProto"],
    ) -> "onnx.ModelProto":
        """The checked model whose output is a value, which no node reads."""
        import onnx
        from onnx import helper

        nodes = list(self._nodes.values())
        last = next(node for node in nodes if value in node.output)
        last.output[list(last.output).index(value)] = output.name
        main = helper.make_graph(
            nodes, "model", inputs, [output], initializer=list(self._constants.values())
        )
        model = helper.make_model(
            main,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)],
            ir_version=IR_VERSION,
            producer_name="slipway",
        )
        onnx.checker.check_model(model)
        return model
