"""Signs a registered version from outside: by a key in an HSM or a cloud's KMS, or by an identity.

The bundle is fetched, signed wherever the key is, and the signature is put beside it. It is taken only if
somebody who is trusted made it for exactly these bytes, so whoever may write to the registry gains
nothing by it.
"""

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from slipway.components.contracts.bundle import SIGNATURE, bundle_hash
from slipway.components.contracts.release import Tag, require_tags
from slipway.components.contracts.signing.keyless import check_keyless
from slipway.components.contracts.signing.policy import TrustPolicy
from slipway.components.contracts.signing.signature import UntrustedModel, short
from slipway.components.register.sign_keyless import sign_keyless
from slipway.components.support.errors import SlipwayError
from slipway.components.support.tracking import RegisteredVersion, TrackingServer, connect


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
        The version, and who signed it: the start of a key's fingerprint, or a name and its issuer.

    Raises:
        SlipwayError: nobody is trusted here, or nobody who is made this signature for this bundle.
    """

    def copy(bundle: Path) -> None:
        try:
            shutil.copyfile(signature, bundle / SIGNATURE)
        except OSError as error:
            raise SlipwayError(f"{signature} cannot be read: {error.strerror}.") from error

    return _attach(model, alias_or_version, copy, what=str(signature))


def sign_by_identity(
    model: str, alias_or_version: str, token_file: Path | None, services: Path | None
) -> tuple[str, str]:
    """Signs a version's bundle without a key, and puts the signature beside it in the registry.

    Args:
        model: the registered model's name.
        alias_or_version: an alias ("challenger") or a version number ("3").
        token_file: holds an identity token; None: the CI job's own.
        services: Sigstore's signing_config.json; None: MODEL_TRUST_ROOT holds it too.

    Returns:
        The version, and who signed it: the start of a key's fingerprint, or a name and its issuer.

    Raises:
        SlipwayError: it cannot be signed, or by nobody whom MODEL_SIGNERS names.
    """
    policy = TrustPolicy.here()
    if not policy.signers:
        raise SlipwayError(
            "MODEL_SIGNERS and MODEL_TRUST_ROOT are not set: without them nobody can say whether the"
            " signature is one that is trusted. Give them the identity that signs, and Sigstore's root."
        )
    make = partial(sign_keyless, policy=policy, token_file=token_file, services=services)
    return _attach(model, alias_or_version, make, what="The signature that was made")


def _attach(
    model: str, alias_or_version: str, make: Callable[[Path], None], what: str
) -> tuple[str, str]:
    policy = TrustPolicy.here()
    if not policy.keys and not policy.signers:
        raise SlipwayError(
            "MODEL_PUBLIC_KEYS is not set: without it nobody can say whether the signature is one that"
            " is trusted. Give it the public key of the HSM or KMS (or MODEL_SIGNERS and"
            " MODEL_TRUST_ROOT the identity that signed)."
        )
    server = connect()
    version = server.require_version(model, alias_or_version)
    with tempfile.TemporaryDirectory(prefix="slipway-sign-") as scratch:
        bundle = _fetch(server, version, Path(scratch))
        make(bundle)
        try:
            signer = policy.check(bundle, check_keyless)
        except UntrustedModel as error:
            said = str(error).replace(str(bundle), f"{version.name} version {version.version}")
            raise UntrustedModel(f"{what} is not taken. {said}") from error
        put_signature(server, version, bundle / SIGNATURE, signer)
    return version.version, signer if " " in signer else short(signer)


def put_signature(
    server: TrackingServer, version: RegisteredVersion, signature: Path, signer: str
) -> None:
    """Puts a signature file beside a version's bundle, and the signer into its tags."""
    [uri] = require_tags(version, Tag.BUNDLE_URI)
    run_id, _, place = uri.removeprefix("runs:/").partition("/")
    server.log_files(run_id, [signature], place)
    server.tag_version(version.name, version.version, {Tag.SIGNED_BY: signer})


def _fetch(server: TrackingServer, version: RegisteredVersion, scratch: Path) -> Path:
    [uri, expected] = require_tags(version, Tag.BUNDLE_URI, Tag.MODEL_HASH)
    what = f"The bundle of {version.name} version {version.version}"
    bundle = server.fetch(uri, scratch / "bundle", what=what)
    if bundle_hash(bundle) != expected:
        raise SlipwayError(
            f"{what} in the registry is not the one that passed the gate: it was changed, and is not"
            " to be signed."
        )
    return bundle
