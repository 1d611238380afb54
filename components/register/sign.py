"""Signs a registered version from outside: by a key that no pod may hold, in an HSM or a cloud's KMS.

The bundle is fetched, signed wherever the key is, and the signature is put beside it. It is taken only if
one of the trusted keys made it for exactly these bytes, so whoever may write to the registry gains
nothing by it.
"""

import shutil
import tempfile
from pathlib import Path

from slipway.components.contracts.bundle import SIGNATURE, bundle_hash
from slipway.components.contracts.release import Tag, require_tags
from slipway.components.contracts.signature import TrustPolicy, UntrustedModel, short
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.tracking import MlflowServer, RegisteredVersion, connect


def fetch_to_sign(model: str, alias_or_version: str, folder: Path) -> RegisteredVersion:
    """Writes a version's bundle to a folder, once it is known to be the one that passed the gate.

    Raises:
        SlipwayError: there is no such version, its bundle was changed, or the folder is there already.
    """
    if folder.exists():
        raise SlipwayError(f"{folder} is there already. Give another folder to --fetch.")
    server = connect()
    version = server.require_version(model, alias_or_version)
    with tempfile.TemporaryDirectory(prefix="slipway-sign-") as scratch:
        shutil.copytree(_fetch(server, version, Path(scratch)), folder)
    return version


def attach_signature(model: str, alias_or_version: str, signature: Path) -> tuple[str, str]:
    """Puts a signature beside a version's bundle in the registry.

    Args:
        model: the registered model's name.
        alias_or_version: an alias ("challenger") or a version number ("3").
        signature: the file that OpenSSF's `model_signing sign` wrote.

    Returns:
        The version, and the fingerprint of the key that signed it.

    Raises:
        SlipwayError: no keys are trusted here, or none of them made this signature for this bundle.
    """
    policy = TrustPolicy.parse(environment.optional("MODEL_PUBLIC_KEYS"))
    if not policy.keys:
        raise SlipwayError(
            "MODEL_PUBLIC_KEYS is not set: without it nobody can say whether the signature is one that"
            " is trusted. Give it the public key of the HSM or KMS."
        )
    server = connect()
    version = server.require_version(model, alias_or_version)
    with tempfile.TemporaryDirectory(prefix="slipway-sign-") as scratch:
        bundle = _fetch(server, version, Path(scratch))
        try:
            shutil.copyfile(signature, bundle / SIGNATURE)
        except OSError as error:
            raise SlipwayError(f"{signature} cannot be read: {error.strerror}.") from error
        try:
            signer = policy.check(bundle)
        except UntrustedModel as error:
            said = str(error).replace(str(bundle), f"{version.name} version {version.version}")
            raise UntrustedModel(f"{signature} is not taken. {said}") from error
        put_signature(server, version, bundle / SIGNATURE, signer)
    return version.version, short(signer)


def put_signature(
    server: MlflowServer, version: RegisteredVersion, signature: Path, signer: str
) -> None:
    """Puts a signature file beside a version's bundle, and the signer into its tags."""
    [uri] = require_tags(version, Tag.BUNDLE_URI)
    run_id, _, place = uri.removeprefix("runs:/").partition("/")
    server.log_files(run_id, [signature], place)
    server.tag_version(version.name, version.version, {Tag.SIGNED_BY: signer})


def _fetch(server: MlflowServer, version: RegisteredVersion, scratch: Path) -> Path:
    [uri, expected] = require_tags(version, Tag.BUNDLE_URI, Tag.MODEL_HASH)
    what = f"The bundle of {version.name} version {version.version}"
    bundle = server.fetch(uri, scratch / "bundle", what=what)
    if bundle_hash(bundle) != expected:
        raise SlipwayError(
            f"{what} in the registry is not the one that passed the gate: it was changed, and is not"
            " to be signed."
        )
    return bundle
