"""Running a bundle's ONNX model over rows: the same code wherever a stage needs predictions."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.contracts.bundle import ONNX, Bundle, model_inputs
from slipway.components.contracts.splits import Part, part_file
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from onnxruntime import InferenceSession

BATCH_ROWS = 65_536
_RUN_ROWS = 4096
"""Rows of one run of the model: its activations are what takes the memory."""


def open_model(folder: Path) -> "InferenceSession":
    """Opens a bundle's ONNX model on the CPU.

    Raises:
        SlipwayError: the model is missing or cannot be loaded.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(folder / ONNX), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        # onnxruntime has one exception class a failure, without a public base.
        raise SlipwayError(f"{folder / ONNX} cannot be loaded: {error}") from error


def predict(session: "InferenceSession", bundle: Bundle, table: "pa.Table") -> "np.ndarray":
    """The model's answers.

    Args:
        session: from `open_model`.
        bundle: the model's signature.
        table: rows with the features under their names.

    Returns:
        float32 [N] or [N, W], as the model gave them (see `bundle`): a caller checks that they are
        sound.

    Raises:
        SlipwayError: a feature is missing, or the model fails on the rows.
    """
    import numpy as np

    output, shape = bundle.output
    parts = [np.empty((0, *shape), np.float32)]
    for start in range(0, table.num_rows, _RUN_ROWS):
        rows = table.slice(start, _RUN_ROWS)
        inputs = model_inputs(bundle, rows)
        try:
            (answers,) = session.run([output], inputs)
        except Exception as error:
            raise SlipwayError(f"The model fails on {rows.num_rows} rows: {error}") from error
        if answers.shape != (rows.num_rows, *shape):
            raise SlipwayError(
                f"The model answered {rows.num_rows} rows with an array of shape {answers.shape}."
            )
        parts.append(answers)
    return np.concatenate(parts)


def read_part_batches(
    splits: Path, part: Part, columns: list[str] | None = None, rows: int = BATCH_ROWS
) -> Iterator["pa.Table"]:
    """Reads one part in batches, so that memory does not grow with it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(part_file(splits, part)) as file:
        for batch in file.iter_batches(batch_size=rows, columns=columns):
            yield pa.Table.from_batches([batch])
