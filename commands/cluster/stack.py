"""`slipway stack`: the platform under a project."""

from pathlib import Path
from typing import Annotated

import typer

from slipway.commands.console.help import command_group
from slipway.commands.console.terminal import AsJson, deliver, say
from slipway.commands.projects import ProjectFolder
from slipway.components.support.files import short_path

stack_app = command_group("stack", "The platform under a project.")


@stack_app.command()
def render(
    project: ProjectFolder,
    cloud: Annotated[
        str, typer.Option(help="aws, gcp, azure or onprem; all: one overlay each.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("manifests"),
    environment: Annotated[str, typer.Option(help="dev, staging, production …")] = "dev",
    team: Annotated[str, typer.Option(help="Who pays.")] = "ml",
    namespace: Annotated[str, typer.Option(help="Else PROJECT-ENVIRONMENT.")] = "",
    region: Annotated[str, typer.Option(help="Of the cloud.")] = "",
    cluster: Annotated[str, typer.Option(help="Its name.")] = "ml",
    account: Annotated[
        str, typer.Option(help="AWS account, GCP project, Azure storage account.")
    ] = "ACCOUNT",
    gpus: Annotated[int, typer.Option(help="GPUs that the namespace may hold.", min=0)] = 4,
    registry: Annotated[
        str, typer.Option(help="Host of the images; empty: nodes pull without a login.")
    ] = "ghcr.io",
    public_keys: Annotated[
        Path | None,
        typer.Option(
            help="PEM file of the keys whose models alone are loaded (docs/signing.md).",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    signers: Annotated[
        Path | None,
        typer.Option(
            help="File of who may sign without a key: lines of a name and its issuer.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    trust_root: Annotated[
        Path | None,
        typer.Option(
            help="Sigstore's trusted_root.json, for --signers.", exists=True, dir_okay=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a project's choices into kustomize manifests and the pipeline of its CI platform.

    Example: `slipway stack render --cloud aws --environment staging --out build/manifests`
    """
    from slipway.components.config.project import load_project
    from slipway.components.contracts.signing.policy import TrustPolicy
    from slipway.stack.render import render as write
    from slipway.stack.site import CLOUDS, Site

    loaded = load_project(project).project
    keys, who, root = (
        path.read_text(encoding="utf-8") if path else ""
        for path in (public_keys, signers, trust_root)
    )
    TrustPolicy.parse(keys, who, root).require_whole()  # A file without a key would end every pod.
    chosen = cloud or loaded.cloud_provider
    sites = [
        Site(
            project=loaded,
            cloud=name,
            namespace=namespace or f"{loaded.project_name}-{environment}",
            environment=environment,
            team=team,
            region=region,
            cluster=cluster,
            account=account,
            gpus=gpus,
            registry=registry,
            public_keys=keys,
            signers=who,
            trust_root=root,
        )
        for name in (CLOUDS if chosen == "all" else (chosen,))
    ]
    written = [str(path) for path in write(sites, out)]
    deliver({"files": written}, lambda: say("\n".join(map(short_path, written))))
