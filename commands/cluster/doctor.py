"""`slipway doctor`: a cluster, examined before anything is sent."""

from dataclasses import asdict

import typer
from rich.cells import cell_len
from rich.text import Text

from slipway.commands.cluster.options import (
    BROKEN,
    HERE,
    TRAINING,
    Account,
    KubeflowServer,
    Overrides,
    PipelineFile,
    asks_kubeflow,
)
from slipway.commands.console.terminal import AsJson, console, deliver, say

# The columns of the state and of what was examined.
LABEL = 28
STYLES = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "dim"}


@asks_kubeflow
def doctor(
    file: PipelineFile = TRAINING,
    overrides: Overrides = None,
    service_account: Account = "pipeline-runner",
    server: KubeflowServer = HERE,
    as_json: AsJson = False,
) -> None:
    """Examine a cluster before anything is sent: each line is ok, or says what to do.

    Example: `slipway doctor compiled/flights-training.yaml --namespace team-a`
    """
    from slipway.cluster.doctor.doctor import examine
    from slipway.pipelines.package import arguments_from, read_package

    package = read_package(file)
    arguments = arguments_from(package, overrides or [])
    connection = server.connection
    found = []
    for line in examine(connection, package, service_account, arguments):
        found.append(line)
        label = Text.assemble((f"{line.status:<4}", STYLES[line.status]), f" {line.what:<22} ")
        if cell_len(label.plain) > LABEL:  # a long one has a line of its own
            console.print(label, soft_wrap=True)
            label = Text(" " * 5)
        say(line.message, label=label)
    deliver({"findings": [asdict(line) for line in found]}, lambda: None)
    if any(line.status == "fail" for line in found):
        raise typer.Exit(BROKEN)
