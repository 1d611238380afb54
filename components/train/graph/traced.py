"""The graph of a model whose networks are not Slipway's own, as torch's exporter traces it."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from slipway.components.contracts.bundle import Bundle
from slipway.components.support.errors import SlipwayError
from slipway.components.train.graph.builder import OPSETS, GraphBuilder, finish_model
from slipway.components.train.graph.inputs import describe_inputs, write_codes
from slipway.components.train.model.preprocess import RawArrays

if TYPE_CHECKING:
    import onnx

INPUTS = ("numeric", "codes", "time")


def trace(model: nn.Module, raw: RawArrays) -> torch.export.ExportedProgram:
    """The model as torch exports it, for any number of rows.

    Args:
        model: in evaluation mode; takes what `TrainedModel.forward` takes.
        raw: two rows at least, as an example.
    """
    example = (
        torch.from_numpy(raw.numeric[:2].copy()),
        torch.from_numpy(raw.codes[:2].copy()),
        torch.from_numpy(raw.time[:2].copy()),
    )
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(model, example, dynamic_shapes={name: {0: batch} for name in INPUTS})


def trace_graph(model: nn.Module, bundle: Bundle, raw: RawArrays) -> "onnx.ModelProto":
    """The model as ONNX, with the mapping from strings to codes in front and no trace of this machine.

    Args:
        model: see `trace`.
        bundle: its signature.
        raw: see `trace`.

    Raises:
        SlipwayError: torch cannot export it.
    """
    from onnx import helper

    exported = torch.onnx.export(
        trace(model, raw),
        input_names=list(INPUTS),
        output_names=[bundle.output[0]],
        dynamo=True,
        verbose=False,
        external_data=False,
    )
    if exported is None:
        raise SlipwayError("The ONNX exporter gave no model.")
    proto = exported.model_proto
    encoders = GraphBuilder("category_")
    if bundle.categorical:
        columns = [
            encoders.reshape(code, -1, 1) for code in write_codes(encoders, "categorical", bundle)
        ]
        encoders.name(encoders.add("Concat", *columns, axis=1), "codes")
    nodes, constants = encoders.used("codes")
    for node in proto.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    main = helper.make_graph(
        [*nodes, *proto.graph.node],
        "model",
        describe_inputs(bundle),
        list(proto.graph.output),
        initializer=[*proto.graph.initializer, *constants],
    )
    opsets = OPSETS | {opset.domain: opset.version for opset in proto.opset_import}
    return finish_model(main, proto.functions, opsets)
