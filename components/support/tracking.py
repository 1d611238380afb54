"""The MLflow server that runs and registered models live in, and where a laptop keeps their files."""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.exceptions import MlflowException

# Worth another try: the server, or what stands before it, is busy or being moved.
_PASSING = frozenset(
    {
        "TEMPORARILY_UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "REQUEST_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "RESOURCE_CONFLICT",
        "ABORTED",
        "CANCELLED",
    }
)
_DENIED = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"})


def connect() -> "MlflowClient":
    """A client of the server (or sqlite file) that MLFLOW_TRACKING_URI names."""
    # A bar for each download is noise in a log.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # It would replace os.environ's methods for all threads while it logs a model, fail where another
    # thread reads a variable meanwhile, and write down names of variables that our model does not read.
    os.environ.setdefault("MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING", "false")
    import mlflow

    uri = environment.tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def open_experiment(client: "MlflowClient", name: str) -> str:
    """The id of the experiment of this name, made where there is none.

    On sqlite MLflow would put the files into `mlruns` below whatever folder the process runs in. Here
    they lie beside the database, where every later stage finds them.

    Raises:
        SlipwayError: somebody deleted it.
        MlflowException: the server refuses, or does not answer.
    """
    from mlflow.exceptions import MlflowException

    found = find_experiment(client, name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifact_location(name)))
        except MlflowException:
            # Another task made it in the meantime; if not, the next line says what is wrong.
            found = find_experiment(client, name)
            if found is None:
                raise
    return str(found.experiment_id)


def find_experiment(client: "MlflowClient", name: str) -> "Experiment | None":
    """The experiment of this name, or None where there is none.

    Raises:
        SlipwayError: somebody deleted it: MLflow keeps it, and its name, until it is restored or purged.
        MlflowException: the server refuses, or does not answer.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        uri = environment.tracking_uri()
        command = ["mlflow", "experiments", "restore", "--experiment-id", str(found.experiment_id)]
        raise SlipwayError(
            f"The MLflow experiment '{name}' was deleted, and MLflow keeps its name. Restore it with"
            f" `MLFLOW_TRACKING_URI={shlex.quote(uri)} {shlex.join(command)}`, or give the project"
            " another project_name."
        )
    return found


def monitoring_experiment(project: str) -> str:
    """The name of the experiment in which a project's windows are time series."""
    return f"{project}-monitoring"


def find_version(client: "MlflowClient", name: str, wanted: str) -> "ModelVersion":
    """The registered version that an alias or a number names.

    Raises:
        SlipwayError: there is none, or the registry could not be asked; the message says which.
    """
    from mlflow.exceptions import MlflowException

    try:
        if wanted.isdigit():
            return client.get_model_version(name, wanted)
        return client.get_model_version_by_alias(name, wanted)
    except MlflowException as error:
        if not is_absent(error):
            raise failure(error, f"say which version '{wanted}' of {name} is") from error
        raise SlipwayError(
            f"The registry has no version '{wanted}' of {name}. Give an alias, such as champion or"
            " challenger, or a version's number."
        ) from error


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turns what MLflow raises in the block into a `SlipwayError` for a person.

    Args:
        what: MLflow is asked to do, after "to": "register the model".
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise failure(error, what) from error


def failure(error: "MlflowException", what: str) -> SlipwayError:
    """What an error of MLflow means: a refusal, or no answer."""
    server, text = _shown(environment.tracking_uri()), describe(error)
    if not is_refusal(error):
        return SlipwayError(
            f"MLflow at {server} does not answer; it was asked to {what}. Check MLFLOW_TRACKING_URI,"
            f" and that the server is up. ({text})"
        )
    advice = ""
    if error.error_code in _DENIED:
        advice = (
            " Check MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,"
            " and what that account may do."
        )
    elif error.error_code == "ENDPOINT_NOT_FOUND":
        advice = " Is MLFLOW_TRACKING_URI the address of an MLflow server?"
    return SlipwayError(f"MLflow at {server} refuses to {what}: {text}{advice}")


def describe(error: Exception) -> str:
    """An error of MLflow in one line that ends as a sentence does."""
    code = getattr(error, "error_code", "")
    text = " ".join(str(error).removeprefix(f"{code}: ").split())[:300]
    return text if text.endswith((".", "!", "?", "'")) else f"{text}."


def is_refusal(error: Exception) -> bool:
    """Whether the server answered, and would answer the same again.

    MLflow raises one type for everything. Where no server answered its code is INTERNAL_ERROR, which is
    also what it makes of an HTTP status that it does not know (`mlflow.exceptions`,
    `mlflow.utils.rest_utils.verify_rest_response`); the status then stands in the text.
    """
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException) or error.error_code in _PASSING:
        return False
    if error.error_code != "INTERNAL_ERROR":
        return True
    found = re.search(r"failed with error code (\d+) ", str(error))
    status = int(found[1]) if found else 0
    return 400 <= status < 500 and status not in (408, 425, 429)


def is_absent(error: "MlflowException") -> bool:
    """Whether the registry itself says that a model, a version or an alias does not exist.

    For a missing alias of a model that exists, MLflow answers INVALID_PARAMETER_VALUE. A 404 or 400 of
    anything else, such as a proxy, has other codes.
    """
    if error.error_code == "RESOURCE_DOES_NOT_EXIST":
        return True
    text = str(error).lower()
    return error.error_code == "INVALID_PARAMETER_VALUE" and "alias" in text and "not found" in text


def _shown(uri: str) -> str:
    """The address without a password in it."""
    return re.sub(r"://[^/@]*@", "://", uri)


def artifact_location(name: str) -> str | None:
    """Where the files of an experiment go: beside a sqlite database, else as the server decides."""
    uri = environment.tracking_uri()
    if not uri.startswith("sqlite:///"):
        return None
    database = Path(uri.removeprefix("sqlite:///")).resolve()
    return (database.parent / "mlflow-artifacts" / quote(name, safe="")).as_uri()
