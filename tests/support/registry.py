"""MLflow's own client, to look at what Slipway wrote and to make what others could have."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.contracts.bundle import bundle_hash
from slipway.components.support.tracking import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient


def mlflow_client() -> "MlflowClient":
    """A client of what MLFLOW_TRACKING_URI names, which is the process's server from now on."""
    import mlflow

    uri = os.environ["MLFLOW_TRACKING_URI"]
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def crown(bundle: Path, **tags: str) -> Path:
    """Registers a bundle and gives it the alias `champion`; returns the folder of its files."""
    client = mlflow_client()
    run_id = connect().open_run("toy")
    client.log_artifacts(run_id, str(bundle), "bundle")
    client.create_registered_model("toy")
    everything = {
        "slipway.bundle_uri": f"runs:/{run_id}/bundle",
        "slipway.model_hash": bundle_hash(bundle),
        **tags,
    }
    version = client.create_model_version(
        "toy",
        source=f"runs:/{run_id}/bundle",
        run_id=run_id,
        tags={name: value for name, value in everything.items() if value},
    )
    client.set_registered_model_alias("toy", "champion", version.version)
    return Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://")) / "bundle"
