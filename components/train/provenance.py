"""What a training was made with: versions, commit, and the parameters that its MLflow run shows."""

import hashlib
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from slipway.components.contracts.splits import PARTS, Splits
from slipway.components.support import environment
from slipway.components.support.libraries.packages import git_commit

if TYPE_CHECKING:
    from slipway.components.train.data.preparation import Prepared

PLACE = "slipway.place"
_RECORDED = (
    "torch",
    "numpy",
    "onnx",
    "onnxscript",
    "mlflow",
    "tabm",
    "rtdl-num-embeddings",
    "xgboost-cpu",
)


def read_environment() -> dict[str, str]:
    """Versions and commit that the model was made with."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in _RECORDED},
        "git_commit": git_commit(),
    }


def place_hash() -> str:
    """Names the folder of local runs on this machine, in which one training is at work at a time."""
    text = f"{platform.node()}\0{environment.home().absolute()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_tags(meta: Splits) -> dict[str, str]:
    """Tags of a training's MLflow run."""
    place = {PLACE: place_hash()} if environment.optional("SLIPWAY_HOME") else {}
    return {
        **place,
        "slipway.project": meta.project,
        "slipway.data_hash": meta.data_hash,
        "mlflow.source.git.commit": git_commit(),
        "mlflow.runName": f"train-{meta.data_hash[:8]}",
        "mlflow.note.content": _describe(meta),
    }


def _describe(meta: Splits) -> str:
    """What MLflow shows of the run before its parameters: what is learnt, and from how much."""
    rows = [f"{meta.rows.get(part, 0):,}" for part in PARTS]
    predicts = f" Predicts {meta.predicts}." if meta.predicts else ""
    return (
        f"A training of {meta.project}.{predicts} It learns from {rows[0]} rows and chooses by {rows[1]};"
        f" {rows[2]} are kept for the gate, whose verdict is in the model card."
    )


def run_parameters(prepared: "Prepared") -> dict[str, Any]:
    """The settings as flat MLflow parameters, with what they led to."""
    settings = prepared.config
    flat: dict[str, Any] = {}
    for name, value in settings.to_struct().items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            flat[name] = value
    return flat | {
        "architecture": settings.network.architecture,
        "device": str(prepared.parts.device),
        "train_rows": len(prepared.parts.source),
        "features": len(prepared.parts.signature.features),
        "data_hash": prepared.parts.signature.data_hash,
        **{f"version.{name}": value for name, value in read_environment().items()},
    }
