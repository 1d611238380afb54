"""What an error of MLflow means: no answer, a refusal, or that something does not exist."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import redact

if TYPE_CHECKING:
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
# Libraries below MLflow whose errors pass through it as they are.
_BELOW = ("sqlalchemy", "botocore", "boto3", "urllib3", "requests", "google", "azure")
_DATABASES = ("postgresql", "mysql", "mssql")
# MLflow and the stores' clients tell of a server that does not answer in text alone.
_SILENCE = {
    r"Connection refused": "the connection was refused",
    r"timed? ?out|Timeout": "it did not answer in time",
    r"Name or service not known|NameResolution|nodename nor servname|getaddrinfo": (
        "there is no host of that name"
    ),
    r"too many (\d+) error responses": r"it answered HTTP \1",
    r"Connection reset|RemoteDisconnected|Connection aborted|IncompleteRead|broken pipe": (
        "it broke the connection off"
    ),
    r"No route to host|Network is unreachable": "there is no way to it",
    r"CERTIFICATE_VERIFY_FAILED|SSLError": "its certificate is not trusted here",
    r"EndpointConnectionError|Could not connect|ConnectionError|Max retries exceeded": (
        "it cannot be reached"
    ),
    r"\((?:503|ServiceUnavailable|SlowDown|InternalError)\)": "it is busy or broken",
}


class TrackingError(SlipwayError):
    """MLflow could not be asked, or would not say: what the answer is remains unknown."""


class NoAnswer(TrackingError):
    """The server does not answer; it may do so later."""


class Refused(TrackingError):
    """The server answered, and would answer the same again."""


@contextmanager
def asking(address: str, what: str) -> Iterator[None]:
    """Turns what MLflow raises in the block into a `TrackingError` for a person.

    Args:
        address: of the server.
        what: it is asked to do, after "to": "register the model".
    """
    try:
        yield
    except SlipwayError:
        raise
    except ModuleNotFoundError as error:
        scheme = urlsplit(address).scheme
        if scheme.partition("+")[0] not in _DATABASES:
            raise
        raise Refused(
            f"MLFLOW_TRACKING_URI names a database ({scheme}), and what opens it is not installed here:"
            f" the module {error.name}. Give the address of an MLflow server that has the database"
            " behind it, as the images need, or install that module."
        ) from error
    except Exception as error:
        if not comes_from_server(error):
            raise
        raise explain(error, address, what) from error


def comes_from_server(error: Exception) -> bool:
    """Whether MLflow or a client below it raised the error, rather than a mistake of ours."""
    from mlflow.exceptions import MlflowException

    package = type(error).__module__.partition(".")[0]
    return isinstance(error, MlflowException | ConnectionError | TimeoutError) or package in _BELOW


def explain(error: Exception, address: str, what: str) -> TrackingError:
    """The error for a person: a refusal, or no answer."""
    server = redact(address)
    if not is_refusal(error):
        return NoAnswer(
            f"MLflow at {server} does not answer; it was asked to {what}. Check MLFLOW_TRACKING_URI,"
            f" and that the server is up. ({silence(error) or describe(error)})"
        )
    advice, code = "", getattr(error, "error_code", "")
    if code in _DENIED:
        advice = (
            " Check MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,"
            " and what that account may do."
        )
    elif code == "ENDPOINT_NOT_FOUND":
        advice = " Is MLFLOW_TRACKING_URI the address of an MLflow server?"
    return Refused(f"MLflow at {server} refuses to {what}: {describe(error)}{advice}")


def describe(error: Exception) -> str:
    """An error of MLflow in one line, without secrets, that ends as a sentence does."""
    code = getattr(error, "error_code", "")
    text = redact(" ".join(str(error).removeprefix(f"{code}: ").split()))[:300]
    return text if text.endswith((".", "!", "?", "'")) else f"{text}."


def silence(error: Exception) -> str:
    """Why a server did not answer, in words; empty: the error does not say so."""
    text = f"{type(error).__name__}: {error}"
    for pattern, words in _SILENCE.items():
        if found := re.search(pattern, text, re.IGNORECASE):
            return found.expand(words)
    return ""


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
