"""Compiled pipelines on a cluster: upload them, and say what a change does."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from slipway.commands.cluster.options import (
    COMPILED,
    HERE,
    REFUSED,
    KubeflowServer,
    asks_kubeflow,
)
from slipway.commands.console.terminal import AsJson, Quiet, deliver, say
from slipway.components.support.errors import SlipwayError


@asks_kubeflow
def upload(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Compiled pipelines.", metavar="YAML...")
    ] = None,
    server: KubeflowServer = HERE,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Upload compiled pipelines, each content as one version.

    The version is named after Slipway's version and the content's hash, so that the same content
    uploaded twice is one version. Without files: all pipelines in compiled/.

    Example: `slipway upload compiled/flights-training.yaml`
    """
    from slipway.cluster.upload import upload as send
    from slipway.pipelines.package import read_package

    packages = [read_package(path) for path in files or _compiled()]
    kubeflow = server.connect()
    done = []
    for package in packages:
        uploaded = send(kubeflow, package)
        done.append(asdict(uploaded))
        word = "uploaded" if uploaded.created else "was there already"
        say(f"{uploaded.pipeline} {uploaded.version} {word}  {uploaded.link}")
    deliver({"pipelines": done}, lambda: None)


@asks_kubeflow
def diff(
    old: Annotated[Path, typer.Argument(help="Compiled pipeline.", metavar="YAML")],
    new: Annotated[
        Path | None,
        typer.Argument(help="Another; else the newest version on the server.", metavar="YAML"),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="For a comment on a change.")
    ] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 where they differ.")
    ] = False,
    server: KubeflowServer = HERE,
    as_json: AsJson = False,
) -> None:
    """Say what two compiled pipelines do differently: stages, images, parameters, wiring.

    With one file: what uploading it would change on the server.

    Example: `slipway diff main/compiled/flights-training.yaml compiled/flights-training.yaml`
    """
    from slipway.cluster.diff import compare, newest_on_server, show
    from slipway.pipelines.package import read_package

    if new is not None:
        before, after = read_package(old), read_package(new)
    else:
        after = read_package(old)
        before = newest_on_server(server.connect(), after)
    changes = compare(before, after)
    answer = {"changes": [asdict(change) for change in changes]}
    deliver(answer, lambda: say(show(before, after, changes, markdown=markdown)))
    if changes and exit_code:
        raise typer.Exit(REFUSED)


def _compiled() -> list[Path]:
    found = sorted(COMPILED.glob("*.yaml"))
    if not found:
        raise SlipwayError(f"There is no compiled pipeline in {COMPILED}. Run `slipway compile`.")
    return found
