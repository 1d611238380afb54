"""Places that only one machine has: a pod starts on an empty disk, on another machine."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from slipway.components.config.model import Project

# What these name is on the machine that reads it (file systems of fsspec; sqlite of MLflow).
_LOCAL_SCHEMES = frozenset({"", "file", "local", "sqlite"})
_LOOPBACK = ("localhost", "127.", "0.0.0.0", "::1")  # noqa: S104 - names, nothing is bound
_CHAIN = re.compile(r"^(\w+::)+")
# Parameters of pipelines that are places.
_PARAMETERS = ("data_root", "publish", "endpoint")


def is_local(place: str) -> bool:
    """Whether a place is one that another machine does not see.

    Args:
        place: a path, or an address with a scheme; fsspec's chained ones count by their last part.
    """
    address = _CHAIN.sub("", place)
    scheme, separator, _ = address.partition(":")
    if not separator or "/" in scheme:
        return True
    return _is_of_this_machine(scheme) or is_loopback(address)


def is_loopback(address: str) -> bool:
    """Whether an address leads to the machine itself."""
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return False
    return host.startswith(_LOOPBACK) or host.endswith(".localhost")


def local_sources(data: Mapping[str, Any], root: str) -> list[str]:
    """The fields that name a place on one machine, as a pod elsewhere cannot see it.

    Args:
        data: the `data` section as a struct.
        root: what relative paths start from.
    """
    found = []
    for name, table in data["tables"].items():
        path = str(table["path"])
        if ":" not in path and not path.startswith("/"):
            if is_local(root):
                found.append(f"data.root ({root or 'empty'})")
        elif is_local(path):
            found.append(f"data.tables.{name}.path ({path})")
    return list(dict.fromkeys(found))


def local_places(project: "Project") -> list[str]:
    """All settings of a project that only this machine could obey, each with its value."""
    return [*local_sources(project.data.to_struct(), project.data.root), *_others(project)]


def _others(project: "Project") -> Iterator[str]:
    deployment = project.deployment
    if deployment.target == "local":
        yield "deployment.target (local)"
    stores = {
        "training.checkpoints": project.training.checkpoints,
        "deployment.storage": deployment.storage,
    }
    for name, schedule in (project.schedules or {}).items():
        for parameter in _PARAMETERS:
            value = schedule.parameters.get(parameter)
            stores[f"schedules.{name}.parameters.{parameter}"] = value
    for setting, place in stores.items():
        if place and is_local(str(place)):
            yield f"{setting} ({place})"
    addresses = {
        f"monitoring.routes.{route.name}": route.url for route in project.monitoring.routes
    }
    if deployment.autoscaling and deployment.autoscaling.server:
        addresses["deployment.autoscaling.server"] = deployment.autoscaling.server
    for setting, address in addresses.items():
        if is_loopback(address):
            yield f"{setting} ({address})"


def _is_of_this_machine(scheme: str) -> bool:
    # A single letter is a drive of Windows; mysql+pymysql is mysql by a driver.
    return len(scheme) == 1 or scheme.lower().partition("+")[0] in _LOCAL_SCHEMES
