"""What an operator is told of a refused request, and how something is created once."""

from collections.abc import Callable
from typing import TypeVar

from slipway.components.support.kubeflow import BACKOFF, TRIES, KfpApiError
from slipway.components.support.retry import retry

T = TypeVar("T")


def ensure(create: Callable[[], T], find: Callable[[], T | None], *, backoff: float = BACKOFF) -> T:
    """Creates something once: where the outcome is unknown, looks before it tries again.

    Args:
        create: sends the request; raises `KfpApiError`.
        find: looks whether it is there.
        backoff: seconds before the second try, doubled for each further one.
    """

    def create_or_find() -> T:
        try:
            return create()
        except KfpApiError as error:
            if not error.unknown and error.status != 409:
                raise
            try:
                found = find()
            except KfpApiError as looking:
                looking.unknown = False  # it only read
                raise
            if found is None:
                raise
            return found

    return retry(create_or_find, attempts=TRIES, first_wait=backoff, when=is_unknown)


def is_unknown(error: BaseException) -> bool:
    """Whether the server may have acted on the request that failed."""
    return isinstance(error, KfpApiError) and error.unknown


def advise(status: int, detail: str) -> str:
    """What a status means to a person at a terminal."""
    said = f" It said: {detail}" if detail else ""
    match status:
        case 401:
            return (
                "the credentials were not accepted (401). Renew the token or cookie; `slipway"
                f" doctor` names the way in that is used.{said}"
            )
        case 403:
            return (
                "this identity may not do that here (403). Check --namespace and the role that"
                f" manifests/ gives.{said}"
            )
        case 404:
            return f"it does not exist (404).{said}"
        case 409:
            return f"something of that name exists already (409).{said}"
        case 429:
            return f"the server is busy (429) and stayed so. Try again later.{said}"
        case _:
            return f"the server answered {status}.{said}"
