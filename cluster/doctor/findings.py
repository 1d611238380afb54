"""What the doctor's checks share: the lines that they give, and the site that they look at."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from slipway.pipelines.package import Package

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Status = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One finding."""

    status: Status
    what: str
    message: str


@dataclass(slots=True, kw_only=True)
class DoctorTarget:
    """Where a pipeline is to run.

    Attributes:
        arguments: parameters that a run is to be started with, if not the pipeline's own.
        settings: the values of the config map and the secret, once they were read; never shown.
    """

    api: "ApiClient"
    namespace: str
    kfp_namespace: str
    account: str
    package: Package
    arguments: dict[str, object] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def default(self, parameter: str) -> Any:
        """What a run has as a parameter; None where there is no such parameter."""
        if parameter in self.arguments:
            return self.arguments[parameter]
        return self.package.parameters.get(parameter, {}).get("defaultValue")

    def references(self, kind: str) -> dict[str, dict[str, bool]]:
        """What the tasks read: name of the config map or secret, to key, to whether it may lack.

        Args:
            kind: "configMap" or "secret".
        """
        found: dict[str, dict[str, bool]] = {}
        platforms = self.package.platform.get("platforms", {}).get("kubernetes", {})
        for executor in platforms.get("deploymentSpec", {}).get("executors", {}).values():
            for entry in executor.get(f"{kind}AsEnv", ()):
                keys = found.setdefault(entry[f"{kind}Name"], {})
                for pair in entry["keyToEnv"]:
                    optional = bool(entry.get("optional"))
                    keys[pair[f"{kind}Key"]] = keys.get(pair[f"{kind}Key"], True) and optional
        return found


# What to do where an object of the namespace is missing.
RENDER = "make it with `slipway stack render` and `kubectl apply -k` (docs/stack.md)"


def ok(what: str, message: str) -> Line:
    """All is well."""
    return Line(status="ok", what=what, message=message)


def warn(what: str, message: str) -> Line:
    """It will run, but a person should know."""
    return Line(status="warn", what=what, message=message)


def fail(what: str, message: str) -> Line:
    """It will not run."""
    return Line(status="fail", what=what, message=message)


def skip(what: str, message: str) -> Line:
    """It could not be examined."""
    return Line(status="skip", what=what, message=message)


def or_none(function: Any, *arguments: object) -> Any:
    """What a call of the Kubernetes client gives; None where there is no such object."""
    from kubernetes.client import ApiException

    try:
        return function(*arguments)
    except ApiException as error:
        if error.status == 404:
            return None
        raise
