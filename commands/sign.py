"""`slipway sign`: a signature from outside, by a key in an HSM or a KMS, or by an identity."""

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
    keyless: Annotated[
        bool, typer.Option("--keyless", help="Sign by this CI job's identity, through Sigstore.")
    ] = False,
    identity_token: Annotated[
        Path | None,
        typer.Option(help="With --keyless: the file of another identity token.", dir_okay=False),
    ] = None,
    signing_config: Annotated[
        Path | None,
        typer.Option(help="With --keyless: Sigstore's signing_config.json.", dir_okay=False),
    ] = None,
    out: Out = RUN_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Sign a registered version: with a key in an HSM or KMS, or keylessly, by a CI job's identity.

    With a key, in two steps: fetch the bundle and sign it where the key is, then attach the signature. It
    is taken only where MODEL_PUBLIC_KEYS or MODEL_SIGNERS trust who made it, for exactly this bundle.
    Register signs by itself where it has MODEL_PRIVATE_KEY.

    Example: `slipway sign flights@challenger --fetch to-sign`
    """
    from slipway.local.workspace import Workspace

    if [fetch is not None, signature is not None, keyless].count(True) != 1:
        raise ProjectError("Give one of --fetch FOLDER, --signature FILE and --keyless.")
    if (identity_token or signing_config) and not keyless:
        raise ProjectError("--identity-token and --signing-config are for --keyless.")
    os.environ.update(Workspace.at(out).settings())
    name, _, which = model.replace("/", "@", 1).partition("@")
    which = which or "challenger"
    if fetch is not None:
        _fetch(name, which, fetch)
        return
    from slipway.components.contracts.signing.signature import describe_signer
    from slipway.components.register.sign import attach_signature, sign_by_identity

    if signature is not None:
        version, signer = attach_signature(name, which, signature)
    else:
        version, signer = sign_by_identity(name, which, identity_token, signing_config)
    deliver(
        {"name": name, "model_version": version, "signed_by": signer},
        lambda: say(
            f"{name} version {version} is signed by {describe_signer(signer, trusted=True)}."
        ),
    )


def _fetch(name: str, which: str, fetch: Path) -> None:
    """Writes the bundle, and says how it is signed there."""
    from slipway.components.register.sign import fetch_to_sign

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
