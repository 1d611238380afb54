"""An ONNX model in MLflow's own format, for whoever loads models through MLflow."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from slipway.components.support.tracking.errors import asking
from slipway.components.support.tracking.mlflow_server import MlflowServer
from slipway.components.support.tracking.records import LoggedModel

if TYPE_CHECKING:
    import numpy as np
    from mlflow.types import Schema
    from onnx import ModelProto


def log_onnx_model(
    server: MlflowServer,
    run_id: str,
    model: "ModelProto",
    *,
    example: "Mapping[str, np.ndarray]",
    answer: "Mapping[str, np.ndarray]",
) -> LoggedModel:
    """Logs an ONNX model with its signature and an example of its input.

    Args:
        server: that the run is on.
        run_id: of the run.
        model: the ONNX model.
        example: input to a few rows, (rows, …).
        answer: output to what the model says of them, (rows, …).

    Raises:
        TrackingError: MLflow does not answer, or refuses.
    """
    from importlib.metadata import version

    import mlflow
    from mlflow.models import ModelSignature

    signature = ModelSignature(inputs=_schema(example), outputs=_schema(answer))
    _know_packages()
    with (
        asking(server.uri, f"take the model of the run {run_id}"),
        mlflow.start_run(run_id=run_id),
    ):
        info = mlflow.onnx.log_model(
            model,
            name="model",
            signature=signature,
            input_example=dict(example),
            onnx_execution_providers=["CPUExecutionProvider"],
            pip_requirements=[
                f"{name}=={version(name)}" for name in ("mlflow", "onnx", "onnxruntime")
            ],
            save_as_external_data=False,
        )
    return LoggedModel(model_id=str(info.model_id), uri=str(info.model_uri))


def _know_packages() -> None:
    """Spares MLflow a walk over all files of all packages, most of what logging a model costs.

    It looks which package a module is from, to warn where a requirement is not what is installed: the
    requirements above are what is installed.
    """
    from mlflow.utils import requirements_utils

    if getattr(requirements_utils, "_MODULES_TO_PACKAGES", {}) is None:
        requirements_utils._MODULES_TO_PACKAGES = {}  # type: ignore[assignment]


def _schema(arrays: "Mapping[str, np.ndarray]") -> "Schema":
    from mlflow.types import Schema, TensorSpec

    return Schema(
        [TensorSpec(array.dtype, (-1, *array.shape[1:]), name) for name, array in arrays.items()]
    )
