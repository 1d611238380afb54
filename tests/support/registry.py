"""MLflow's own client, to look at what Slipway wrote and to make what others could have."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient


def mlflow_client() -> "MlflowClient":
    """A client of what MLFLOW_TRACKING_URI names, which is the process's server from now on."""
    import mlflow

    uri = os.environ["MLFLOW_TRACKING_URI"]
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
