"""The trained model as ONNX, and as pt2 on request, with all preprocessing inside."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from slipway.components.contracts.bundle import ONNX, PT2, Bundle, model_inputs
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.support.errors import SlipwayError
from slipway.components.train.graph.traced import trace, trace_graph
from slipway.components.train.graph.whole import write_graph
from slipway.components.train.model.network import Network
from slipway.components.train.model.preprocess import RawArrays
from slipway.components.train.model.trained import (
    CHUNK,
    TrainedModel,
    exact_answers,
    forward_in_chunks,
)

if TYPE_CHECKING:
    import onnx
    import pyarrow as pa

TOLERANCE = 1e-5
"""How far an exported file's answers may be from the trained model's."""


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
    if all(isinstance(member, Network) for member in model.members):
        return write_graph(model, bundle)
    if model.linear is None and model.forest is None:
        return trace_graph(model, bundle, raw)
    return write_graph(model, bundle, trace_graph(model.networks_alone(), bundle, raw))


def check_export(
    folder: Path, model: TrainedModel, bundle: Bundle, table: "pa.Table", raw: RawArrays
) -> float:
    """Runs the trained model, the ONNX file and, where it is there, the pt2 file over the same rows.

    A file must be within `TOLERANCE` of what the trained model answers in float64. The trained model in
    float32 has a rounding of its own: where that is coarser, a file may be twice as far from it.

    Returns:
        The largest difference of two answers, of numbers as a share of their size.

    Raises:
        SlipwayError: it is too large, or an answer is not finite.
    """
    trained = forward_in_chunks(model, raw)
    exact = _exact_or(trained, model, raw)
    size = label_type_of(bundle).size(exact)
    rounding = _gaps(trained, exact, size).max(initial=0)
    # What is not finite is no rounding.
    allowed = max(TOLERANCE, 2 * float(rounding)) if np.isfinite(rounding) else TOLERANCE
    answers = {}
    if (folder / PT2).exists():
        answers[PT2] = forward_in_chunks(torch.export.load(folder / PT2).module(), raw)
    answers[ONNX] = _run_onnx(folder / ONNX, bundle, table)
    worst = 0.0
    for name, answer in answers.items():
        gaps = _gaps(answer, exact, size)
        difference = float(gaps.max(initial=0))
        if not difference <= allowed:
            row = int(np.argmax(np.nan_to_num(gaps, nan=np.inf)))
            raise SlipwayError(
                f"{name} and the trained model disagree by {difference:.2e} at row {row} of the"
                f" test table (allowed: {allowed:.3g}). The bundle was not written."
            )
        worst = max(worst, difference)
    return worst


def _exact_or(trained: np.ndarray, model: TrainedModel, raw: RawArrays) -> np.ndarray:
    """`exact_answers`; of a package's network that knows float32 only, what it answers there."""
    if all(isinstance(member, Network) for member in model.members):
        return exact_answers(model, raw)
    try:
        return exact_answers(model, raw)
    except Exception:  # it may refuse float64 in any way
        return trained


def _gaps(answers: np.ndarray, exact: np.ndarray, size: float) -> np.ndarray:
    """How far each row's answer is from the exact one: float64 [N]."""
    gaps = np.abs(answers.astype(np.float64) - exact).reshape(len(exact), -1) / size
    return gaps.max(1, initial=0)


def _run_onnx(path: Path, bundle: Bundle, table: "pa.Table") -> np.ndarray:
    """What onnxruntime answers to a table: float32 [N] or [N, W]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    output, shape = bundle.output
    parts = [np.zeros((0, *shape), np.float32)]
    for start in range(0, table.num_rows, CHUNK):
        inputs = model_inputs(bundle, table.slice(start, CHUNK))
        parts.append(session.run([output], inputs)[0])
    return np.concatenate(parts)
