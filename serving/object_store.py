"""Arrow's file systems, each with an end to how long it waits for a store that never answers."""

import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, urlsplit

from slipway.components.support.libraries import hanging
from slipway.components.support.stores import ATTEMPTS, CONNECT_SECONDS, READ_SECONDS

if TYPE_CHECKING:
    import pyarrow.fs as pafs

LONGEST_SECONDS = 25.0
"""To answer at all: twice what S3's client is told, since Google's and Azure's are told by nobody."""
SLOWEST_BYTES = 250_000
"""A second, of a transfer that goes on."""
_HANGING = "object store"
_S3_OPTIONS = {"region", "scheme", "endpoint_override"}
T = TypeVar("T")


def open_store(uri: str) -> "tuple[pafs.FileSystem, str]":
    """The file system of a folder or an address, and the path in it.

    Raises:
        pyarrow.ArrowException, OSError, ValueError: it is none that Arrow reads.
    """
    import pyarrow.fs as pafs

    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).absolute())
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    if parts.scheme == "s3" and options.keys() <= _S3_OPTIONS:
        return within(
            LONGEST_SECONDS, lambda: _s3(parts.netloc, options)
        ), parts.netloc + parts.path
    found: tuple[pafs.FileSystem, str] = within(
        LONGEST_SECONDS, lambda: pafs.FileSystem.from_uri(uri)
    )
    return found


def _s3(bucket: str, options: dict[str, str]) -> "pafs.FileSystem":
    """As `FileSystem.from_uri`, which waits three seconds thirty times and takes no bounds."""
    import pyarrow.fs as pafs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    scheme, _, host = endpoint.rpartition("://")
    host = options.get("endpoint_override") or host.rstrip("/")
    region = options.get("region") or os.environ.get("AWS_REGION")
    region = region or os.environ.get("AWS_DEFAULT_REGION")
    if not region and not host:
        region = pafs.resolve_s3_region(bucket)
    return pafs.S3FileSystem(
        region=region or None,
        scheme=options.get("scheme") or scheme or None,
        endpoint_override=host or None,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=READ_SECONDS,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of a call to a store; a thread that hangs in its library is left behind.

    Raises:
        OSError: there is none within so many seconds.
    """
    return hanging.within(seconds, call, name=_HANGING)


def transfer(size: int, call: Callable[[], T]) -> T:
    """The same for a transfer of so many bytes."""
    return within(LONGEST_SECONDS + size / SLOWEST_BYTES, call)


def exit_beside_hanging(code: int = 0, *names: str) -> None:
    """Ends the process at once where a thread hangs: at exit its library would wait for the store.

    Args:
        code: of the process.
        names: of other threads that may hang so.
    """
    if any(thread.name in (_HANGING, *names) for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
