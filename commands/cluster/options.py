"""What the commands of a cluster share: the server's options, stated once, and how it is reached."""

import functools
import inspect
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.commands.console.terminal import say

if TYPE_CHECKING:
    from slipway.cluster.api import Kubeflow
    from slipway.cluster.connection import Connection
    from slipway.pipelines.package import Package

BROKEN, USAGE, REFUSED, INTERRUPTED = 1, 2, 3, 130
COMPILED = Path("compiled")
TRAINING = COMPILED / "flights-training.yaml"
"""The pipeline that is meant where none is named."""

PipelineFile = Annotated[Path, typer.Argument(help="Compiled pipeline.", metavar="YAML")]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="The user's namespace [env SLIPWAY_NAMESPACE].")
]
Context = Annotated[str, typer.Option(help="Context of the kubeconfig.")]
Account = Annotated[
    str, typer.Option("--service-account", help="That the pods run as; else the server's default.")
]
RunId = Annotated[str, typer.Argument(help="Id of the run.", metavar="RUN")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the run to its end.")]
FailOnRefusal = Annotated[
    bool, typer.Option("--fail-on-refusal", help="Exit with 3 where the gate refuses.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter of the pipeline's run.", metavar="NAME=VALUE"),
]
SERVER_OPTIONS: dict[str, object] = {
    "host": Annotated[
        str,
        typer.Option(
            help="Address of Kubeflow Pipelines [env KF_PIPELINES_ENDPOINT]; without it: the pod's own"
            " cluster, else the kubeconfig's.",
            metavar="URL",
        ),
    ],
    "namespace": Namespace,
    "context": Context,
    "ca": Annotated[
        str, typer.Option("--ca", help="File of certificate authorities [env SLIPWAY_KFP_CA].")
    ],
}
"""The options of every command that asks a Kubeflow server, by parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeflowServer:
    """The server that a command asks, as its options name it; empty: as the environment does."""

    host: str = ""
    namespace: str = ""
    context: str = ""
    ca: str = ""

    @property
    def connection(self) -> "Connection":
        """Where it is, and how to get in."""
        from slipway.cluster.connection import Connection

        return Connection.of(
            host=self.host, namespace=self.namespace, context=self.context, ca=self.ca
        )

    def connect(self) -> "Kubeflow":
        """A client; nothing is sent yet."""
        from slipway.cluster.api import Kubeflow

        return Kubeflow(self.connection)

    @property
    def words(self) -> str:
        """The options that lead another command to the same server."""
        given = {name: getattr(self, name) for name in SERVER_OPTIONS}
        return shlex.join(
            word for name, value in given.items() if value for word in (f"--{name}", value)
        )


HERE = KubeflowServer()


def asks_kubeflow(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of a server, in the place of its parameter `server`."""
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name == "server":
            parameters += [
                parameter.replace(name=name, default="", annotation=annotation)
                for name, annotation in SERVER_OPTIONS.items()
            ]
        else:
            parameters.append(parameter)

    @functools.wraps(command)
    def run(**given: object) -> None:
        server = KubeflowServer(**{name: str(given.pop(name)) for name in SERVER_OPTIONS})
        command(server=server, **given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def warn_of_local_sources(
    package: "Package", arguments: dict[str, object], advice: str = "Give --set data_root=s3://…"
) -> None:
    """Says which sources of a run lie on one machine, where no pod sees them."""
    from slipway.cluster.sources import read_sources

    _, _, found = read_sources(package, arguments)
    if found:
        say(
            f"warning: {package.name}: {', '.join(found)} is a place on one machine, which a pod does not"
            f" see. {advice}, or compile with --cluster, which refuses it."
        )
