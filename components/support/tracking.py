"""The MLflow server that runs and registered models live in, and where a laptop keeps their files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from slipway.components.support import environment

if TYPE_CHECKING:
    from mlflow import MlflowClient


def connect() -> "MlflowClient":
    """A client of the server (or sqlite file) that MLFLOW_TRACKING_URI names."""
    # A bar for each download is noise in a log.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    uri = environment.tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def open_experiment(client: "MlflowClient", name: str) -> str:
    """The id of the experiment of this name, made where there is none.

    On sqlite MLflow would put the files into `mlruns` below whatever folder the process runs in. Here
    they lie beside the database, where every later stage finds them.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifact_location(name)))
        except MlflowException:
            # Another task made it in the meantime; if not, the next line says what is wrong.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def artifact_location(name: str) -> str | None:
    """Where the files of an experiment go: beside a sqlite database, else as the server decides."""
    uri = environment.tracking_uri()
    if not uri.startswith("sqlite:///"):
        return None
    database = Path(uri.removeprefix("sqlite:///")).resolve()
    return (database.parent / "mlflow-artifacts" / quote(name, safe="")).as_uri()
