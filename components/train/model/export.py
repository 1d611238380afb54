"""The trained model as ONNX, and as pt2 on request, with all preprocessing inside."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from slipway.components.contracts.bundle import ONNX, PT2, Bundle, model_inputs
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.support.errors import SlipwayError
from slipway.components.train.graph.traced import trace, trace_graph
from slipway.components.train.graph.trees import add_trees
from slipway.components.train.graph.writer import write_graph
from slipway.components.train.model.network import Network
from slipway.components.train.model.preprocess import RawArrays
from slipway.components.train.model.trained import CHUNK, TrainedModel, forward_in_chunks

if TYPE_CHECKING:
    import onnx
    import pyarrow as pa

TOLERANCE = 1e-5


def export_model(
    folder: Path, model: TrainedModel, bundle: Bundle, raw: RawArrays, *, pt2: bool = False
) -> None:
    """Writes model.onnx, and model.pt2 where it is asked for.

    Args:
        folder: the bundle's folder.
        model: on the CPU, in evaluation mode.
        bundle: the signature.
        raw: a few rows, as the example that tracing needs: for pt2, and for the network of a package.
        pt2: whether to write it.
    """
    model.eval()
    graph = _write(model, bundle, raw)
    (folder / ONNX).write_bytes(graph.SerializeToString(deterministic=True))
    if pt2:
        torch.export.save(trace(model, raw), folder / PT2)


def _write(model: TrainedModel, bundle: Bundle, raw: RawArrays) -> "onnx.ModelProto":
    """The graph of networks by Slipway's writer, or by torch's exporter where they are a package's."""
    if model.forest is not None:
        network = model.network_alone()
        alone = None if network is None else _write(network, bundle, raw)
        return add_trees(alone, model, bundle)
    own = all(isinstance(member, Network) for member in model.members)
    return write_graph(model, bundle) if own else trace_graph(model, bundle, raw)


def check_export(
    folder: Path, model: TrainedModel, bundle: Bundle, table: "pa.Table", raw: RawArrays
) -> float:
    """Runs the training model, the ONNX file and, where it is there, the pt2 file over the same rows.

    Returns:
        The largest difference of two answers, of numbers as a share of their size.

    Raises:
        SlipwayError: it is above 1e-5, or an answer is not finite.
    """
    import onnxruntime

    expected = forward_in_chunks(model, raw)
    answers = {}
    if (folder / PT2).exists():
        answers[PT2] = forward_in_chunks(torch.export.load(folder / PT2).module(), raw)
    session = onnxruntime.InferenceSession(str(folder / ONNX), providers=["CPUExecutionProvider"])
    parts = []
    for start in range(0, table.num_rows, CHUNK):
        inputs = model_inputs(bundle, table.slice(start, CHUNK))
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
