"""Names and labels as Kubernetes takes them: refused where they are written, not by a webhook later."""

import re
from typing import Annotated

from pydantic import AfterValidator

# The longest label of a host name, and the longest value of a label.
LONGEST = 63
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def check_namespace(value: str) -> str:
    """A DNS-1123 label, which a namespace's name is.

    Raises:
        ValueError: it is none.
    """
    if len(value) > LONGEST or not _LABEL.fullmatch(value):
        raise ValueError(
            f"'{value}' is not a name of Kubernetes: use small letters, digits and -, first and last a"
            f" letter or a digit, at most {LONGEST}"
        )
    return value


def check_object_name(value: str) -> str:
    """A DNS-1123 subdomain, which the names of most objects are.

    Raises:
        ValueError: it is none.
    """
    if len(value) > 253 or not _SUBDOMAIN.fullmatch(value):
        raise ValueError(
            f"'{value}' is not a name of Kubernetes: use small letters, digits, - and ., each part first"
            " and last a letter or a digit, at most 253"
        )
    return value


def check_labels(labels: dict[str, str]) -> dict[str, str]:
    """Keys and values of labels.

    Raises:
        ValueError: Kubernetes would refuse one of them; the message names it.
    """
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix)):
            raise ValueError(f"'{key}' is not a label's key: {prefix or 'nothing'} is no domain")
        if len(name) > LONGEST or not _QUALIFIED.fullmatch(name):
            raise ValueError(
                f"'{key}' is not a label's key: use letters, digits, -, _ and ., first and last a letter"
                f" or a digit, at most {LONGEST}; a domain and / may stand before"
            )
        if value and (len(value) > LONGEST or not _QUALIFIED.fullmatch(value)):
            raise ValueError(
                f"'{value}' is not a label's value ({key}): use letters, digits, -, _ and ., first and"
                f" last a letter or a digit, at most {LONGEST}"
            )
    return labels


def host_problem(project: str, namespace: str, *, part: str) -> str:
    """Why KServe could give an endpoint no host: its default template joins names into one label of it.

    It is `<project>-<part>-<namespace>` (kserve/kserve v0.20.0, reconcilers/ingress, domain.go and
    httproute_reconciler.go); one that is too long is an event of the controller, and no route is made.

    Args:
        project: the InferenceService's name.
        namespace: that it is in.
        part: what the route leads to: "predictor" or "transformer".

    Returns:
        The reason, as a sentence without its full stop; empty: there is none.
    """
    host = f"{project}-{part}-{namespace}"
    if len(host) <= LONGEST:
        return ""
    room = LONGEST - len(f"-{part}-")
    return (
        f"KServe makes the host {host} of project_name and namespace, and a part of a host has at most"
        f" {LONGEST} characters, this one {len(host)}: shorten them to {room} together"
    )


Namespace = Annotated[str, AfterValidator(check_namespace)]
ObjectName = Annotated[str, AfterValidator(check_object_name)]
Labels = Annotated[dict[str, str], AfterValidator(check_labels)]
