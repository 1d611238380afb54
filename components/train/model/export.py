"""The trained model as ONNX and as pt2, with all preprocessing inside."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from slipway.components.contracts.bundle import ONNX, PT2, Bundle, model_inputs
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.support.errors import SlipwayError
from slipway.components.train.model.heads import Head
from slipway.components.train.model.preprocess import Preprocessor, RawArrays

if TYPE_CHECKING:
    import onnx
    import pyarrow as pa

TOLERANCE = 1e-5
_CHUNK = 1024
_INPUTS = ("numeric", "codes", "time")


class TrainedModel(nn.Module):
    """Raw feature values to answers, calibrated where the head was fitted and `calibrated` is set."""

    def __init__(
        self,
        preprocessor: Preprocessor,
        members: list[nn.Module],
        head: Head,
        *,
        calibrated: bool = True,
    ) -> None:
        super().__init__()
        self.preprocessor = preprocessor
        self.members = nn.ModuleList(members)
        self.head, self.calibrated = head, calibrated

    def forward(self, numeric: Tensor, codes: Tensor, time: Tensor) -> Tensor:
        """Answers float32 [N] or [N, W]; see `RawArrays` for the inputs."""
        inputs = self.preprocessor(numeric, codes, time)
        answers = [self.head.answer(member(*inputs)) for member in self.members]
        mean = torch.stack(answers, dim=1).mean(1)
        return self.head.calibrate(mean) if self.calibrated else mean

    def quality(self, labels: np.ndarray, answers: np.ndarray) -> float:
        """The head's quality of this model's answers.

        Args:
            labels: float64 [N], as the tables have them.
            answers: as `forward` gives them.
        """
        return self.head.measure(labels, answers)[self.head.quality_name]


def forward_in_chunks(model: nn.Module, raw: RawArrays) -> np.ndarray:
    """Runs a torch model over a table: float32 [N] or [N, W]."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(raw.numeric), _CHUNK):
            cut = slice(start, start + _CHUNK)
            parts.append(
                model(
                    torch.from_numpy(raw.numeric[cut]),
                    torch.from_numpy(raw.codes[cut]),
                    torch.from_numpy(raw.time[cut]),
                ).numpy()
            )
    return np.concatenate(parts)


def export_model(folder: Path, model: TrainedModel, bundle: Bundle, raw: RawArrays) -> None:
    """Writes model.pt2 and model.onnx.

    Args:
        folder: the bundle's folder.
        model: on the CPU, in evaluation mode.
        bundle: the signature.
        raw: a few rows, as the example that tracing needs.
    """
    model.eval()
    example = (
        torch.from_numpy(raw.numeric[:2].copy()),
        torch.from_numpy(raw.codes[:2].copy()),
        torch.from_numpy(raw.time[:2].copy()),
    )
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(
        model, example, dynamic_shapes={name: {0: batch} for name in _INPUTS}
    )
    torch.export.save(program, folder / PT2)
    exported = torch.onnx.export(
        program,
        input_names=list(_INPUTS),
        output_names=[bundle.output[0]],
        dynamo=True,
        verbose=False,
        external_data=False,
    )
    if exported is None:
        raise SlipwayError("The ONNX exporter gave no model.")
    graph = _read_strings(exported.model_proto, bundle)
    (folder / ONNX).write_bytes(graph.SerializeToString(deterministic=True))


def _read_strings(proto: "onnx.ModelProto", bundle: Bundle) -> "onnx.ModelProto":
    """Puts the mapping from strings to codes in front, and drops inputs of width 0 and traces."""
    import onnx
    from onnx import TensorProto, helper

    graph = proto.graph
    nodes: list[onnx.NodeProto] = []
    inputs: list[onnx.ValueInfoProto] = []
    constants = list(graph.initializer)
    widths = {
        "numeric": len(bundle.numeric),
        "codes": len(bundle.categorical),
        "time": len(bundle.time),
    }
    used = {name for node in graph.node for name in node.input}
    for value in graph.input:
        name = value.name
        if name == "codes" and bundle.categorical:
            inputs.append(
                helper.make_tensor_value_info(
                    "categorical", TensorProto.STRING, ["batch", widths[name]]
                )
            )
            nodes += _encoders(bundle, constants)
        elif widths[name]:
            inputs.append(value)
        elif name in used:
            raise SlipwayError(f"The exported graph reads {name}, of which there is no feature.")
    for node in [*graph.node]:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    main = helper.make_graph(
        [*nodes, *graph.node], "model", inputs, list(graph.output), initializer=constants
    )
    opsets = [helper.make_opsetid(o.domain, o.version) for o in proto.opset_import]
    if all(o.domain != "ai.onnx.ml" for o in opsets):
        opsets.append(helper.make_opsetid("ai.onnx.ml", 3))
    result = helper.make_model(
        main,
        opset_imports=opsets,
        ir_version=min(proto.ir_version, 10),
        functions=list(proto.functions),
        producer_name="slipway",
    )
    onnx.checker.check_model(result)
    return result


def _encoders(bundle: Bundle, constants: list["onnx.TensorProto"]) -> list["onnx.NodeProto"]:
    """Nodes that turn `categorical`, string [N, m], into `codes`, int64 [N, m]."""
    from onnx import helper, numpy_helper

    nodes, columns = [], []
    for i, name in enumerate(bundle.categorical):
        values = bundle.vocabularies[name]
        index = f"category_{i}_index"
        constants.append(numpy_helper.from_array(np.array([i], np.int64), index))
        nodes.append(helper.make_node("Gather", ["categorical", index], [f"category_{i}"], axis=1))
        if not values:
            # LabelEncoder wants at least one key; no value is the empty string's code anyway.
            values, codes = [""], [0]
        else:
            codes = list(range(1, len(values) + 1))
        nodes.append(
            helper.make_node(
                "LabelEncoder",
                [f"category_{i}"],
                [f"code_{i}"],
                domain="ai.onnx.ml",
                keys_strings=[value.encode() for value in values],
                values_int64s=codes,
                default_int64=0,
            )
        )
        columns.append(f"code_{i}")
    nodes.append(helper.make_node("Concat", columns, ["codes"], axis=1))
    return nodes


def check_export(
    folder: Path, model: TrainedModel, bundle: Bundle, table: "pa.Table", raw: RawArrays
) -> float:
    """Runs the training model, the ONNX file and the pt2 file over the same rows.

    Returns:
        The largest difference of two answers, of numbers as a share of their size.

    Raises:
        SlipwayError: it is above 1e-5, or an answer is not finite.
    """
    import onnxruntime

    expected = forward_in_chunks(model, raw)
    program = torch.export.load(folder / PT2).module()
    answers = {PT2: forward_in_chunks(program, raw)}
    session = onnxruntime.InferenceSession(str(folder / ONNX), providers=["CPUExecutionProvider"])
    parts = []
    for start in range(0, table.num_rows, _CHUNK):
        inputs = model_inputs(bundle, table.slice(start, _CHUNK))
        parts.append(session.run([bundle.output[0]], inputs)[0])
    answers[ONNX] = np.concatenate(parts)
    worst = 0.0
    for name, answer in answers.items():
        gaps = np.abs(answer - expected).reshape(len(expected), -1) / np.float32(
            label_type_of(bundle).size(expected)
        )
        difference = float(gaps.max()) if len(expected) else 0.0
        if not difference <= TOLERANCE:
            row = int(np.argmax(np.nan_to_num(gaps.max(1), nan=np.inf)))
            raise SlipwayError(
                f"{name} and the trained model disagree by {difference:.2e} at row {row} of the"
                f" test table (allowed: {TOLERANCE:g}). The bundle was not written."
            )
        worst = max(worst, difference)
    return worst
