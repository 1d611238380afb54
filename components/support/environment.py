"""The settings that a stage takes from its environment: where the stores are, never what to do.

On a cluster they come from the config map and the secrets in the namespace (see `manifests/`), on a
laptop `slipway run` sets them. The names are the same, so the compiled pipeline is.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import holds_secret

# The objects of the namespace that every task takes its settings from, by reference.
CONFIG_MAP, SECRETS = "slipway-config", "slipway-secrets"
# A self-hosted object store needs these; in a cloud the pod's identity opens the bucket instead.
STORE_SETTINGS = ("AWS_ENDPOINT_URL", "AWS_REGION")
STORE_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
VARIABLES = {
    "MLFLOW_TRACKING_URI": "the MLflow server, or sqlite:///PATH on a laptop",
    "FEATURE_STORE_URI": "the folder or object-store prefix of the Feast registry and offline tables",
    "FEAST_REDIS_URL": "host:port[,password=…] of the Redis online store; without it: sqlite",
    "INFERENCE_LOG_URI": "the folder or object-store prefix that predictors write their log below",
    "MONITORING_URI": "the folder or object-store prefix of monitoring's history and requests",
    "SLIPWAY_HOME": "where local endpoints keep their state",
    "MODEL_PRIVATE_KEY": "the key that register signs models with: PEM text, or its file",
    "MODEL_PRIVATE_KEY_PASSWORD": "of that key, where it has one",
    "MODEL_PUBLIC_KEYS": "the keys whose models are loaded, others never: PEM text, or its file",
    "MODEL_SIGNERS": "who may sign without a key, a line a name and its issuer; or a file of them",
    "MODEL_TRUST_ROOT": "the root that their signatures are checked by: JSON text, or its file",
}

# Whose models are loaded.
TRUST = ("MODEL_PUBLIC_KEYS", "MODEL_SIGNERS", "MODEL_TRUST_ROOT")

# Kubeflow's MLflow plug-in sets MLFLOW_TRACKING_URI on a task's container where an administrator lets it.
# Argo merges that with a variable of the same name that comes from a secret into one with a value and a
# reference, which Kubernetes refuses: so ours has a name of its own on a cluster.
OWN_NAMES = {"MLFLOW_TRACKING_URI": "SLIPWAY_TRACKING_URI"}

LOCAL_RUN = "SLIPWAY_LOCAL_RUN"


def required(name: str) -> str:
    """Reads a setting that the stage cannot do without.

    Raises:
        SlipwayError: it is not set; the message says what it is and where it comes from.
    """
    value = optional(name)
    if not value:
        raise SlipwayError(
            f"{name} is not set. It is {VARIABLES[name]}. On a cluster the config map or secret"
            " of the namespace gives it; `slipway run` sets it on a laptop."
        )
    return value


def store_uri(name: str) -> str:
    """Reads the address of a folder or an object store, which is shown and handed on everywhere.

    Raises:
        SlipwayError: it is not set, or holds a key (Arrow takes s3://key:secret@bucket).
    """
    uri = required(name)
    check_store_uri(name, uri)
    return uri


def check_store_uri(name: str, uri: str) -> None:
    """Refuses an address of a store that holds a key.

    Raises:
        SlipwayError: it does.
    """
    if holds_secret(uri):
        raise SlipwayError(
            f"{name} holds a key or a password. Say only where the store is; the key comes from the"
            " environment or a mounted secret (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
            " AZURE_STORAGE_ACCOUNT_KEY), and a self-hosted store's address from AWS_ENDPOINT_URL."
        )


def optional(name: str) -> str:
    """Reads a setting, under its own name or the one that it has on a cluster; empty: it is not set."""
    value = os.environ.get(name, "").strip()
    own = OWN_NAMES.get(name)
    return value or (os.environ.get(own, "").strip() if own else "")


def plugin_run() -> str:
    """The run that Kubeflow's MLflow plug-in opened for this task; empty: there is none.

    Whoever opened it ends it. Its id means something on the server that MLFLOW_TRACKING_URI names alone.
    """
    return os.environ.get("MLFLOW_RUN_ID", "").strip()


def tracking_uri() -> str:
    """URI of the MLflow tracking server and model registry."""
    return required("MLFLOW_TRACKING_URI")


def feature_store_uri() -> str:
    """Folder or object-store prefix that holds the Feast registry and the offline tables."""
    return store_uri("FEATURE_STORE_URI")


def redis_url() -> str | None:
    """Connection string of the Redis online store, or None where sqlite serves."""
    return os.environ.get("FEAST_REDIS_URL", "").strip() or None


def inference_log_uri() -> str:
    """Folder or object-store prefix that predictors write their inference log below."""
    return store_uri("INFERENCE_LOG_URI")


def monitoring_uri() -> str:
    """Folder or object-store prefix of what monitoring keeps from run to run."""
    return store_uri("MONITORING_URI")


def home() -> Path:
    """Folder for the state of local endpoints."""
    return Path(required("SLIPWAY_HOME"))


def local_run() -> str:
    """The name of a run on this machine, where Kubeflow's runner calls all by one; empty on a cluster."""
    return os.environ.get(LOCAL_RUN, "").strip()


def use_scratch(folder: str) -> None:
    """Lets temporary files lie in a folder, as on a run's volume; empty: where they would lie anyway."""
    if folder:
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = None  # Something may have asked for the place already.


def without_signers(settings: Mapping[str, str]) -> dict[str, str]:
    """Environment variables without those that sign models, which register alone has need of."""
    return {n: value for n, value in settings.items() if not n.startswith("MODEL_PRIVATE_KEY")}
