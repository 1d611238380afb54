"""`slipway sign`: a signature by a key that register cannot hold, in an HSM or a KMS."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from slipway.commands.console.terminal import AsJson, deliver, say
from slipway.commands.projects import RUN_FOLDER, Out
from slipway.components.support.errors import ProjectError


def sign(
    model: Annotated[str, typer.Argument(help="NAME, NAME@ALIAS or NAME@VERSION.")],
    fetch: Annotated[
        Path | None,
        typer.Option(
            "--fetch", help="Write the bundle to this folder, to sign it there.", file_okay=False
        ),
    ] = None,
    signature: Annotated[
        Path | None,
        typer.Option("--signature", help="Put this signature beside the bundle.", dir_okay=False),
    ] = None,
    out: Out = RUN_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Sign a registered version with a key in an HSM or KMS: fetch it, sign it there, attach that.

    A signature is taken only where one of MODEL_PUBLIC_KEYS made it for exactly this bundle. Register
    signs by itself where it has MODEL_PRIVATE_KEY.

    Example: `slipway sign flights@challenger --fetch to-sign`
    """
    from slipway.components.register.sign import attach_signature, fetch_to_sign
    from slipway.local.workspace import Workspace

    if (fetch is None) == (signature is None):
        raise ProjectError("Give either --fetch FOLDER or --signature FILE.")
    os.environ.update(Workspace.at(out).settings())
    name, _, which = model.replace("/", "@", 1).partition("@")
    which = which or "challenger"
    if fetch is not None:
        version = fetch_to_sign(name, which, fetch).version
        folder = shlex.quote(str(fetch))
        made = {"name": name, "model_version": version, "folder": str(fetch)}

        def show() -> None:
            say(f"{name} version {version} is in {fetch}. Sign it where the key is, for example:")
            say(
                f"model_signing sign pkcs11-key {folder} --pkcs11_uri URI --ignore-paths"
                f" {folder}/training.json --signature {folder}/model.sig",
                label="  ",
            )
            say(f"slipway sign {name}@{version} --signature {folder}/model.sig", label="  ")

        deliver(made, show)
    elif signature is not None:
        version, signer = attach_signature(name, which, signature)
        deliver(
            {"name": name, "model_version": version, "signed_by": signer},
            lambda: say(f"{name} version {version} is signed by the trusted key {signer}."),
        )
