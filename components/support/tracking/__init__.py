"""Runs, registered models and their files: the one place that knows MLflow.

`connect` gives the server; what it can be asked is the methods of `MlflowServer`. Nothing else of
Slipway imports mlflow. Every answer is a record or a text of ours, every error a `SlipwayError`:
`NoAnswer` where the server could not be reached, `Refused` where it will not. What does not exist is no
error but None, so a dead server is never taken for an empty one.
"""

from typing import TypeAlias

from slipway.components.support import environment
from slipway.components.support.tracking.errors import NoAnswer, Refused, TrackingError
from slipway.components.support.tracking.mlflow_server import MlflowServer, import_client
from slipway.components.support.tracking.records import (
    LoggedDataset,
    LoggedModel,
    RegisteredVersion,
)

__all__ = [
    "PATIENCE_SECONDS",
    "LoggedDataset",
    "LoggedModel",
    "MlflowServer",
    "NoAnswer",
    "Refused",
    "RegisteredVersion",
    "TrackingError",
    "TrackingServer",
    "connect",
    "import_client",
    "monitoring_experiment",
]

PATIENCE_SECONDS = 15.0
TrackingServer: TypeAlias = MlflowServer
"""What `connect` gives, by the name that its callers use: with a second registry, either of the two."""


def connect(uri: str = "", *, patience: float = PATIENCE_SECONDS) -> TrackingServer:
    """The server (or sqlite file) of runs and registered models.

    Args:
        uri: empty: the one that MLFLOW_TRACKING_URI names.
        patience: seconds for which a server that does not answer is asked again.
    """
    return MlflowServer(uri or environment.tracking_uri(), patience=patience)


def monitoring_experiment(project: str) -> str:
    """The name of the experiment in which a project's windows are time series."""
    return f"{project}-monitoring"
