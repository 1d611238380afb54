"""How long an object store may keep a client of ours waiting, and what its errors are called."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import redact

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 5.0, 6.0, 2
_VARIABLE = "FSSPEC_S3"
# Clients below fsspec whose errors pass through it as they are: no OSError where nobody answers.
_BELOW = frozenset({"botocore", "aiobotocore", "aiohttp", "google", "gcsfs", "azure", "adlfs"})


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

    s3fs tries each call five times itself, and botocore as often within each: minutes without a word.
    What the environment says already (`FSSPEC_S3`, `AWS_MAX_ATTEMPTS`) stays.

    Args:
        read_seconds: how long one answer may take to begin, or to go on.
    """
    os.environ.setdefault("AWS_MAX_ATTEMPTS", str(ATTEMPTS))
    os.environ.setdefault("AWS_RETRY_MODE", "standard")
    if _VARIABLE in os.environ:
        return
    retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    bounds = {"connect_timeout": CONNECT_SECONDS, "read_timeout": read_seconds, "retries": retries}
    os.environ[_VARIABLE] = json.dumps({"config_kwargs": bounds})
    # It reads the environment once, when it is imported; not each image has it.
    if read := sys.modules.get("fsspec.config"):
        read.conf.setdefault("s3", {})["config_kwargs"] = bounds
