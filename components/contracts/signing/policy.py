"""Whose models are loaded here, by key and by identity."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.contracts.bundle import bundle_hash
from slipway.components.contracts.signing.identities import (
    Identity,
    TrustedSigner,
    parse_signers,
)
from slipway.components.contracts.signing.signature import (
    Envelope,
    UntrustedModel,
    check_statement,
    describe_signer,
    is_signed_by,
    parse_keys,
    read_envelope,
    read_signer,
    short,
)
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

_ROOTS = (
    "application/vnd.dev.sigstore.trustedroot",
    "application/vnd.dev.sigstore.clienttrustconfig",
)

KeylessCheck = Callable[[Path, Envelope, "TrustPolicy"], Identity]
"""Of a bundle's folder, its signature and the policy: who signed it, or an UntrustedModel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustPolicy:
    """Whose bundles are let in; with neither keys nor signers every one is, signed or not.

    Attributes:
        keys: public keys by their fingerprint.
        signers: who signs without a key.
        root: whose certificates and logs their signatures are checked by: Sigstore's trusted root, as
            JSON text.
    """

    keys: Mapping[str, "EllipticCurvePublicKey"]
    signers: tuple[TrustedSigner, ...] = ()
    root: str = ""

    @classmethod
    def parse(cls, keys: str, signers: str = "", root: str = "") -> "TrustPolicy":
        """Reads MODEL_PUBLIC_KEYS, MODEL_SIGNERS and MODEL_TRUST_ROOT: each is text, or a file's path.

        Raises:
            SlipwayError: one holds something else than it should.
        """
        return cls(
            keys=parse_keys(keys), signers=parse_signers(signers), root=read_trust_root(root)
        )

    @classmethod
    def here(cls) -> "TrustPolicy":
        """What the environment says.

        Raises:
            SlipwayError: as `parse`; or signers are trusted by no root, or a root is there for nobody.
        """
        policy = cls.parse(*map(environment.optional, environment.TRUST))
        policy.require_whole()
        return policy

    def require_whole(self) -> None:
        """Asks whether a root is there for signers, and signers for a root.

        Raises:
            SlipwayError: one of the two is missing.
        """
        if bool(self.signers) != bool(self.root):
            missing = "MODEL_TRUST_ROOT" if self.signers else "MODEL_SIGNERS"
            raise SlipwayError(
                f"{missing} is not set: it is {environment.VARIABLES[missing]}, and MODEL_SIGNERS and"
                " MODEL_TRUST_ROOT say only together whose models are loaded."
            )

    def check(self, folder: Path, keyless: KeylessCheck | None = None) -> str:
        """Lets a bundle in, or not.

        Args:
            folder: the bundle, before anything in it is loaded.
            keyless: checks signatures that were made without a key; None: none is let in.

        Returns:
            The fingerprint of the key that signed it, or the signer's name, a space and its issuer;
            empty: there is no policy.

        Raises:
            UntrustedModel: it is not signed, by nobody who is trusted, or not these bytes.
        """
        if not self.keys and not self.signers:
            return ""
        envelope = read_envelope(folder)
        if not envelope.certificate:
            signer = self._check_key(folder, envelope)
        elif keyless is None or not self.signers:
            raise UntrustedModel(
                f"The model in {folder} was signed without a key, with a certificate, and MODEL_SIGNERS"
                " names nobody who may sign so: name the signer there, or sign the version with a key"
                " of MODEL_PUBLIC_KEYS (`slipway sign`). It is not loaded."
            )
        else:
            signer = str(keyless(folder, envelope, self))
        check_statement(folder, envelope.payload)
        return signer

    def require(self, identity: Identity, folder: Path) -> None:
        """Asks whether somebody may sign.

        Raises:
            UntrustedModel: nobody of that name from that issuer may.
        """
        if any(signer.fits(identity) for signer in self.signers):
            return
        known = "; ".join(str(signer) for signer in self.signers) or "nobody"
        raise UntrustedModel(
            f"The model in {folder} is signed by {identity.name} of {identity.issuer or 'no issuer'},"
            f" whom MODEL_SIGNERS does not name (it names: {known}). It is not loaded."
        )

    def _check_key(self, folder: Path, envelope: Envelope) -> str:
        for name, key in self.keys.items():
            if envelope.hint in ("", name) and is_signed_by(envelope, key):
                return name
        known = ", ".join(short(name) for name in self.keys) or "none"
        by = describe_signer(envelope.hint) if envelope.hint else "another key"
        raise UntrustedModel(
            f"The model in {folder} is signed by {by}, and its signature fits none of the keys that"
            f" MODEL_PUBLIC_KEYS trusts ({known}). It is not loaded."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """What deploy tells a predictor of a signature without a key, since it checked that itself.

    To check one takes a library that has no place in the predictor's image. So deploy does it, and pins
    the model's hash and the signer in what it starts: the predictor loads nothing else, and only while
    its namespace trusts that signer.

    Attributes:
        model_hash: of the bundle. signed_by: as `TrustPolicy.check` gives it.
    """

    model_hash: str
    signed_by: str

    @classmethod
    def flags(cls, folder: Path, model_hash: str) -> list[str]:
        """The predictor's flags for a bundle that this place's policy let in; none: it needs none.

        Args:
            folder: the bundle, after `TrustPolicy.here().check`.
            model_hash: its hash.
        """
        if not TrustPolicy.here().signers or not read_envelope(folder).certificate:
            return []
        return [f"--model-hash={model_hash}", f"--signed-by={read_signer(folder)}"]

    def let_in(self, folder: Path, policy: TrustPolicy) -> None:
        """Lets a bundle into a predictor, or not.

        What is pinned holds whatever the signature there is now, and also where the namespace has lost
        its policy: a config map that is missing would else let in whatever the store holds.

        Raises:
            UntrustedModel: it is not what is pinned, or the policy refuses it.
        """
        if self.model_hash and bundle_hash(folder) != self.model_hash:
            raise UntrustedModel(
                f"The model in {folder} is not the one that deploy has checked (--model-hash): it was"
                " changed since. Deploy the version again. It is not loaded."
            )
        if self.signed_by and not policy.keys and not policy.signers:
            policy.require(Identity.parse(self.signed_by), folder)
        policy.check(folder, self.check)

    def check(self, folder: Path, _: Envelope, policy: TrustPolicy) -> Identity:
        """A `KeylessCheck`."""
        if not self.model_hash or bundle_hash(folder) != self.model_hash:
            raise UntrustedModel(
                f"The model in {folder} was signed without a key, and is not one whose signature deploy"
                " has checked (--model-hash): deploy the version again. It is not loaded."
            )
        identity = Identity.parse(self.signed_by)
        policy.require(identity, folder)
        return identity


def read_trust_root(text: str) -> str:
    """The text of MODEL_TRUST_ROOT, which the setting holds itself or names the file of.

    Raises:
        SlipwayError: it is no trusted root of Sigstore's.
    """
    text = text.strip()
    if not text:
        return ""
    try:
        if not text.startswith("{"):
            text = Path(text).read_text(encoding="utf-8")
        kind = json.loads(text)["mediaType"]
        if not kind.startswith(_ROOTS):
            raise ValueError(kind)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SlipwayError(
            "MODEL_TRUST_ROOT holds no trusted root of Sigstore's: it is the JSON text of a"
            " trusted_root.json or of a client's trust configuration, or the path of such a file."
        ) from error
    return text
