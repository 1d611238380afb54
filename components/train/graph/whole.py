"""The whole model as one ONNX graph: each model's answer, what they are together, and calibration.

A network that is not Slipway's own comes as a finished graph: its answer before calibration is one more
input of what is added here.
"""

from typing import TYPE_CHECKING, cast

from slipway.components.contracts.bundle import Bundle
from slipway.components.train.graph.builder import OPSETS, GraphBuilder, finish_model
from slipway.components.train.graph.inputs import describe_inputs
from slipway.components.train.graph.trees import write_trees
from slipway.components.train.graph.writer import write_members

if TYPE_CHECKING:
    import onnx

    from slipway.components.train.model.network import Network
    from slipway.components.train.model.trained import TrainedModel

_NETWORK = "network_answer"


def write_graph(
    model: "TrainedModel", bundle: Bundle, traced: "onnx.ModelProto | None" = None
) -> "onnx.ModelProto":
    """The model as ONNX.

    Args:
        model: on the CPU, in evaluation mode.
        bundle: its signature; inputs and output are as `components/contracts/bundle.py` says.
        traced: where the networks are not Slipway's own, their mean answer before calibration in float64,
            from the raw inputs. It is changed.
    """
    from onnx import TensorProto, helper

    graph = GraphBuilder("" if traced is None else "more_")
    name, shape = bundle.output
    answers, networks = [], cast("list[Network]", list(model.members))
    nodes, constants, functions = [], [], []
    opsets = dict(OPSETS)
    if traced is not None:
        _rename_output(traced, _NETWORK)
        nodes, constants = list(traced.graph.node), list(traced.graph.initializer)
        functions = list(traced.functions)
        opsets |= {opset.domain: opset.version for opset in traced.opset_import}
        answers.append(_NETWORK if shape else graph.reshape(_NETWORK, -1, 1))
        networks = []
    answers += write_members(graph, model, bundle, networks)
    if model.forest is not None:
        trees = write_trees(graph, model.forest.nodes, bundle)
        answers.append(model.head.write_link(graph, trees))
    answer = answers[0]
    if len(answers) > 1:
        answer = model.head.write_combination(graph, answers, model.factors)
    if model.calibrated:
        answer = model.head.write_calibration(graph, answer)
    if not shape:
        answer = graph.reshape(answer, -1)
    answer = graph.single(answer)
    graph.name(answer, name)
    added, added_constants = graph.used(name)
    whole = helper.make_graph(
        [*nodes, *added],
        "model",
        describe_inputs(bundle),
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])],
        initializer=[*constants, *added_constants],
    )
    return finish_model(whole, functions, opsets)


def _rename_output(network: "onnx.ModelProto", name: str) -> None:
    """Gives the graph's one output another name."""
    before = network.graph.output[0].name
    for node in network.graph.node:
        for names in (node.input, node.output):
            for place, value in enumerate(names):
                if value == before:
                    names[place] = name
