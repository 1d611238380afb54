"""The predictor's settings: every flag has an environment variable, for pods and for people."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.components.contracts.monitoring.inference_log import ROLL_SECONDS
from slipway.components.support.environment import check_store_uri
from slipway.components.support.errors import SlipwayError


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorSettings:
    """How one predictor process runs.

    Attributes:
        model_dir: folder of the bundle.
        model_uri: file, s3, gs or abfss URI to fetch the bundle from, where `model_dir` has none.
        model_name: the served name; empty: the bundle's.
        model_version: the registered version; empty: the first 12 digits of the bundle's hash.
        host: address to listen on. port: of HTTP. grpc_port: of gRPC; 0 turns it off.
        fd: a listening socket that the process inherited, in place of host and port.
        join_fd: another one, on which it accepts only after SIGUSR1 (a rollout on one machine).
        life_fd: an inherited pipe: when its other end is closed, as by the end of the process that
            holds it, this one ends as at a SIGTERM.
        log_uri: root of the inference log; empty: no log.
        log_spool: folder that the log is spooled in; empty: one below the temporary folder.
        log_sample: share of requests that are logged, 0 to 1.
        log_roll_seconds: how often spooled rows become parquet files.
        log_spool_mb: the spool's bound; rows past it are dropped and counted.
        model_public_keys: whose bundles are loaded, as PEM text or its file.
        model_signers: who may sign them without a key, a line each, or a file of lines; without this and
            keys any bundle is loaded.
        model_hash: the bundle that deploy has checked the signature of, where it was made without a key.
        signed_by: whom deploy found it signed by: the name, a space and the issuer.
        trust_request_time: a request's parameter `time` is its time (replays); else the clock is.
        missing_features: "refuse" a request without a feature's tensor, or take it as "null".
        online: features that a request leaves out are read from Feast, by its entity keys.
        online_unfit: where the online store lost a view or is too old, "refuse" with 503, or "answer".
        online_max_age_seconds: from the moment that the store stands for; 0: any.
        feature_project: whose feature store; empty: the bundle's name.
        max_batch: rows that one forward pass takes at most.
        max_queue: rows that may wait; a request past it is answered 503.
        max_rows: rows of one request. max_body_mb: size of one request's body, in MB.
        max_inflight_mb: bytes of requests held at one time over all connections and protocols.
        max_connections: over HTTP at one time; an idle one makes room for a new one.
        threads: of one forward pass.
        linger_seconds: after SIGTERM, how long connections are still accepted, while a cluster's
            load balancers learn that the pod is going.
        drain_seconds: after that, how long requests in flight have.
        keep_alive_seconds: an idle connection is closed after it.
        receive_seconds: a request must have arrived whole after it.
    """

    model_dir: Path = Path("/mnt/models")
    model_uri: str = ""
    model_name: str = ""
    model_version: str = ""
    host: str = "0.0.0.0"  # noqa: S104 - a pod's predictor is reached from outside
    port: int = 8080
    grpc_port: int = 0
    fd: int = -1
    join_fd: int = -1
    life_fd: int = -1
    model_public_keys: str = ""
    model_signers: str = ""
    model_hash: str = ""
    signed_by: str = ""
    log_uri: str = ""
    log_spool: str = ""
    log_sample: float = 1.0
    log_roll_seconds: float = ROLL_SECONDS
    log_spool_mb: int = 512
    trust_request_time: bool = False
    missing_features: str = "refuse"
    online: bool = False
    online_unfit: str = "refuse"
    online_max_age_seconds: float = 0.0
    feature_project: str = ""
    max_batch: int = 256
    max_queue: int = 4096
    max_rows: int = 16384
    max_body_mb: int = 16
    max_inflight_mb: int = 64
    max_connections: int = 4096
    threads: int = 1
    linger_seconds: float = 0.0
    drain_seconds: float = 20.0
    keep_alive_seconds: int = 75
    receive_seconds: float = 30.0


_HELP = {
    "model_dir": "folder of the model bundle",
    "model_uri": "fetch the bundle from this URI (file, s3, gs, abfss) where --model-dir has none",
    "model_name": "served name (default: the bundle's)",
    "model_version": "registered version (default: start of the bundle's hash)",
    "host": "address to listen on",
    "port": "HTTP port",
    "grpc_port": "gRPC port; 0: no gRPC",
    "fd": "inherited listening socket, in place of host and port",
    "join_fd": "inherited listening socket that is accepted on only after SIGUSR1",
    "life_fd": "inherited pipe; its other end closed means SIGTERM",
    "model_public_keys": "load only a model that one of these keys signed (PEM, or its file)",
    "model_signers": "or these, without a key: lines of a name and its issuer, or their file",
    "model_hash": "the model whose signature without a key deploy has checked",
    "signed_by": "whom deploy found it signed by: a name, a space and its issuer",
    "log_uri": "folder or object-store prefix of the inference log (default: no log)",
    "log_spool": "folder for the log's spool (default: below the temporary folder)",
    "log_sample": "share of requests that are logged, 0 to 1",
    "log_roll_seconds": "how often spooled rows become parquet files",
    "log_spool_mb": "bound of the spool in MB; rows past it are dropped and counted",
    "trust_request_time": "take a request's parameter `time` as its time (for replays)",
    "missing_features": "a feature without a tensor: refuse the request, or take it as null",
    "online": "read features that a request leaves out from Feast, by its entity keys",
    "online_unfit": "an online store that lost a view or is too old: refuse with 503, or answer",
    "online_max_age_seconds": "the most that the online store may be behind; 0: any",
    "feature_project": "project of the feature store (default: the bundle's name)",
    "max_batch": "rows of one forward pass",
    "max_queue": "rows that may wait before requests are answered 503",
    "max_rows": "rows of one request",
    "max_body_mb": "size of one request in MB",
    "max_inflight_mb": "size of all requests held at one time, in MB",
    "max_connections": "HTTP connections at one time",
    "threads": "threads of one forward pass",
    "linger_seconds": "after SIGTERM, go on accepting connections for this long",
    "drain_seconds": "after that, time for requests in flight",
    "keep_alive_seconds": "close an idle connection after this long",
    "receive_seconds": "a request must have arrived whole after this long",
}

# Names that are agreed with KServe, Knative and the other stages; all others are SLIPWAY_<FLAG>.
_VARIABLES = {
    "port": "PORT",
    "log_uri": "INFERENCE_LOG_URI",
    "model_uri": "STORAGE_URI",
    "model_public_keys": "MODEL_PUBLIC_KEYS",
    "model_signers": "MODEL_SIGNERS",
}
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


def variable(name: str) -> str:
    """The environment variable of one setting."""
    return _VARIABLES.get(name, f"SLIPWAY_{name.upper()}")


def parse_settings(
    arguments: Sequence[str], environ: Mapping[str, str] = os.environ
) -> PredictorSettings:
    """Reads the command line, then the environment, then the defaults.

    Raises:
        SlipwayError: an environment variable or a number is out of range.
        SystemExit: a flag is not understood (argparse).
    """
    parser = argparse.ArgumentParser(
        prog="python -m slipway.serving",
        description="Serves a model bundle over the Open Inference Protocol (V2) and V1.",
        epilog="Example: python -m slipway.serving --model-dir build/bundle --host 127.0.0.1 --port 8080",
    )
    defaults = PredictorSettings()
    for name, text in _HELP.items():
        default = getattr(defaults, name)
        text = f"{text} [{default}, env {variable(name)}]"
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=None, help=text
            )
        else:
            parser.add_argument(flag, type=type(default), default=None, help=text, metavar="X")
    given = vars(parser.parse_args(arguments))
    values = {}
    for name in _HELP:
        kind = type(getattr(defaults, name))
        if given[name] is not None:
            values[name] = kind(given[name])
        elif environ.get(variable(name), "").strip():
            values[name] = _from_text(name, environ[variable(name)].strip(), kind)
    settings = PredictorSettings(**values)
    _check(settings)
    return settings


def _from_text(name: str, text: str, kind: type) -> object:
    try:
        if kind is bool:
            if text.lower() not in _TRUE + _FALSE:
                raise ValueError("write 1 or 0")
            return text.lower() in _TRUE
        return kind(text)
    except ValueError as error:
        raise SlipwayError(f"{variable(name)}={text} cannot be used: {error}.") from error


def _check(settings: PredictorSettings) -> None:
    for name in ("model_uri", "log_uri"):
        check_store_uri(variable(name), getattr(settings, name))
    if not 0 <= settings.log_sample <= 1:
        raise SlipwayError(f"--log-sample is a share from 0 to 1, not {settings.log_sample}.")
    if settings.missing_features not in ("refuse", "null"):
        raise SlipwayError(
            f"--missing-features is refuse or null, not '{settings.missing_features}'."
        )
    if settings.online_unfit not in ("refuse", "answer"):
        raise SlipwayError(f"--online-unfit is refuse or answer, not '{settings.online_unfit}'.")
    positive = ("max_batch", "max_queue", "max_rows", "max_body_mb", "max_inflight_mb")
    for name in (*positive, "max_connections", "threads"):
        if getattr(settings, name) < 1:
            raise SlipwayError(f"--{name.replace('_', '-')} is at least 1.")
    for name in ("port", "grpc_port"):
        if not 0 <= getattr(settings, name) <= 65535:
            raise SlipwayError(f"--{name.replace('_', '-')} is a port number, 0 to 65535.")
