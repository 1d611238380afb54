"""How long an object store may keep a client of ours waiting, and what its errors are called."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import redact

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 5.0, 6.0, 2
DELTA_BOUNDS = {"connect_timeout": "5s", "retry_timeout": "20s"}
POLARS_BOUNDS = {
    "connect_timeout": "5s",
    "timeout": "30s",
    "retry_timeout_ms": 20_000,
    "max_retries": 1,
}
"""What delta-rs and Polars are told: by themselves they ask for three minutes and more."""
_VARIABLE = "FSSPEC_S3"
# Clients below fsspec whose errors pass through it as they are: no OSError where nobody answers.
_BELOW = frozenset({"botocore", "aiobotocore", "aiohttp", "google", "gcsfs", "azure", "adlfs"})
_changed: set[str] = set()


@contextmanager
def asking_store(what: str) -> Iterator[None]:
    """Turns what fsspec raises in the block into an error for a person; an absent file stays one.

    Args:
        what: failed, as in "The log of 2024-06-01 cannot be deleted".

    Raises:
        SlipwayError: the store refuses, or does not answer.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if not isinstance(error, OSError) and package not in _BELOW:
            raise
        said = redact(" ".join(str(error).split()))[:300] or type(error).__name__
        raise SlipwayError(f"{what}: {said.rstrip('.')}.") from error


def bound_stores(read_seconds: float = READ_SECONDS) -> None:
    """Bounds every client of an object store that this process and its children will make.

    By themselves they are silent for two (boto3, s3fs), five (Google) or more minutes (Azure) before a
    store that never answers. What the environment says already (`FSSPEC_S3`, `AWS_MAX_ATTEMPTS`) stays.

    Args:
        read_seconds: how long one answer may take to begin, or to go on.
    """
    os.environ.setdefault("AWS_MAX_ATTEMPTS", str(ATTEMPTS))
    os.environ.setdefault("AWS_RETRY_MODE", "standard")
    # gcsfs would first ask, over gRPC, of what kind the bucket is. Who may only read objects, or
    # reaches the store by an endpoint of its own, would wait a minute for each file.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    if _VARIABLE not in os.environ:
        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        bounds = {"connect_timeout": CONNECT_SECONDS, "read_timeout": read_seconds}
        os.environ[_VARIABLE] = json.dumps({"config_kwargs": {**bounds, "retries": retries}})
    for name, change in _changes(read_seconds).items():
        _once_imported(name, change)


def _changes(read_seconds: float) -> dict[str, Callable[[ModuleType], None]]:
    """What has no variable of the environment, by the module that it is in."""

    def botocore(module: ModuleType) -> None:
        """For boto3, which MLflow uses."""
        module.Config.OPTION_DEFAULTS["connect_timeout"] = CONNECT_SECONDS
        module.Config.OPTION_DEFAULTS["read_timeout"] = read_seconds

    def s3fs(module: ModuleType) -> None:
        """Its own tries, around botocore's."""
        module.S3FileSystem.retries = module.S3File.retries = ATTEMPTS

    def fsspec(module: ModuleType) -> None:
        """It reads the environment once, when it is imported."""
        for name, value in json.loads(os.environ[_VARIABLE]).items():
            module.conf.setdefault("s3", {}).setdefault(name, value)

    def gcsfs_retry(module: ModuleType) -> None:
        """Six tries by itself, and half a minute between them."""
        own = module.retry_request
        vars(module)["retry_request"] = lambda *given, **named: own(
            *given, **{**named, "retries": ATTEMPTS}
        )

    def gcsfs(module: ModuleType) -> None:
        # gcsfs has imported it: who has the one has the other.
        aiohttp = sys.modules["aiohttp"]
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=read_seconds)
        conf = sys.modules["fsspec.config"]
        for name in ("gs", "gcs"):
            conf.conf.setdefault(name, {}).setdefault("requests_timeout", timeout)

    def azure(module: ModuleType) -> None:
        vars(module).update(CONNECTION_TIMEOUT=CONNECT_SECONDS, READ_TIMEOUT=read_seconds)

    def azure_policies(module: ModuleType) -> None:
        """Four tries by itself, and fifteen to thirty seconds between them."""
        own = module.ExponentialRetry.__init__

        def retry(
            self: object, initial_backoff: int = 1, increment_base: int = 2, **named: object
        ) -> None:
            named = {"retry_total": ATTEMPTS - 1, "random_jitter_range": 0, **named}
            own(self, initial_backoff, increment_base, **named)

        module.ExponentialRetry.__init__ = retry

    return {
        "botocore.config": botocore,
        "s3fs.core": s3fs,
        "fsspec.config": fsspec,
        "gcsfs.retry": gcsfs_retry,
        "gcsfs.core": gcsfs,
        "azure.storage.blob._shared.constants": azure,
        "azure.storage.blob._shared.policies": azure_policies,
        "azure.storage.blob._shared.policies_async": azure_policies,
    }


def _once_imported(name: str, change: Callable[[ModuleType], None]) -> None:
    """Changes a module that is there, or when it is imported: to import it takes half a second.

    Once in a process.
    """
    if name in _changed:
        return
    _changed.add(name)
    if name in sys.modules:
        change(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Import(name, change))


class _Import(MetaPathFinder):
    """Waits for one module's import."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]) -> None:
        self._name, self._change = name, change

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own spec, whose loader runs the change at the end."""
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                self._change(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
