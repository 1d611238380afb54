"""What a training was made with: versions, commit, and the parameters that its MLflow run shows."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.contracts.splits import Splits

if TYPE_CHECKING:
    from slipway.components.train.data.preparation import Prepared

_RECORDED = ("torch", "numpy", "onnx", "onnxscript", "mlflow", "tabm", "rtdl-num-embeddings")


def read_environment() -> dict[str, str]:
    """Versions and commit that the model was made with."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in _RECORDED},
        "git_commit": _git_commit(),
    }


def _git_commit() -> str:
    """The commit of this code: baked into the image as GIT_COMMIT, or asked of git in a checkout."""
    if commit := os.environ.get("GIT_COMMIT"):
        return commit
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return ""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def run_tags(meta: Splits) -> dict[str, str]:
    """Tags of a training's MLflow run."""
    return {
        "slipway.project": meta.project,
        "slipway.data_hash": meta.data_hash,
        "mlflow.source.git.commit": _git_commit(),
        "mlflow.runName": f"train-{meta.data_hash[:8]}",
    }


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
