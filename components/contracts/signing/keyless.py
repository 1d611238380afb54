"""Checks a signature that was made without a key, as Sigstore's clients make it, off line.

A certificate of some minutes says who signed, a certificate log that it was given, and a transparency
log or a timestamp authority when it was used; the trusted root has the keys of all of them. What that
takes is sigstore's own library, and nothing of ours but who is trusted and what is said.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.contracts.signing.identities import Identity, identity_of
from slipway.components.contracts.signing.policy import TrustPolicy
from slipway.components.contracts.signing.signature import Envelope, UntrustedModel
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import TrustedRoot

# What sigstore says, and what it means here. The first that is found counts.
_REASONS = {
    "must contain inclusion proof": "it holds no proof that a transparency log has it",
    "inclusionproof\n  field required": "it holds no proof that a transparency log has it",
    "exactly one log entry": "it holds no entry of a transparency log, or several",
    "must contain an inclusion promise": "nothing in it says when it was made",
    "not enough sources of verified time": "nothing in it that is trusted says when it was made",
    "no timestamp authorities": "MODEL_TRUST_ROOT trusts no timestamp authority, and it has a timestamp",
    "not valid at validation time": "its certificate did not hold at the time when it was used",
    "certificate chain": "no authority of MODEL_TRUST_ROOT issued its certificate",
    "signed certificate timestamp": "its certificate is in no certificate log",
    "sct": "no certificate log of MODEL_TRUST_ROOT has its certificate",
    "key usage": "its certificate is not one for signatures",
    "extended usage": "its certificate is not one for signatures",
    "invalid root hash": "its proof that the transparency log has it does not hold",
    "proof has wrong size": "its proof that the transparency log has it does not hold",
    "checkpoint": "the state of the transparency log that it shows is signed by no log of"
    " MODEL_TRUST_ROOT",
    "inclusion promise": "its time in the transparency log is signed by no log of MODEL_TRUST_ROOT",
    "dsse: invalid signature": "its signature does not fit its statement",
    "log entry": "its entry in the transparency log is about another signature",
}


def check_keyless(folder: Path, envelope: Envelope, policy: TrustPolicy) -> Identity:
    """A `KeylessCheck` that asks nobody outside.

    Args:
        folder: the bundle, for messages.
        envelope: its signature.
        policy: whom to trust, and by which root.

    Returns:
        Who signed the envelope's payload.

    Raises:
        UntrustedModel: the signature does not hold, or is by nobody whom the policy names.
        SlipwayError: the policy's root cannot be used.
    """
    from sigstore.models import Bundle
    from sigstore.verify import Verifier

    root = load_root(policy.root)
    asked = _Asked(folder, policy)
    try:
        bundle = Bundle.from_json(envelope.raw)
        _, payload = Verifier(trusted_root=root).verify_dsse(bundle, asked)
    except SlipwayError:
        raise
    # It, pydantic and cryptography raise errors that have no base in common. All mean no.
    except Exception as error:
        raise UntrustedModel(
            f"The model in {folder} was signed without a key, and {reason(error)}. It is not"
            " loaded."
        ) from error
    if asked.identity is None or payload != envelope.payload:
        raise UntrustedModel(f"The signature of the model in {folder} is not about what it holds.")
    return asked.identity


class _Asked:
    """Sigstore's interface of a policy: ours, asked about the certificate once its issuer is known."""

    def __init__(self, folder: Path, policy: TrustPolicy) -> None:
        self.folder, self.policy = folder, policy
        self.identity: Identity | None = None

    def verify(self, cert: "Certificate") -> None:
        """Lets a certificate pass, or raises."""
        try:
            identity = identity_of(cert)
        except ValueError as error:
            raise UntrustedModel(
                f"The model in {self.folder} was signed without a key, and {error}. It is not loaded."
            ) from error
        self.policy.require(identity, self.folder)
        self.identity = identity


def load_root(text: str) -> "TrustedRoot":
    """Reads a trusted root, alone or in a client's trust configuration.

    Raises:
        SlipwayError: sigstore's library cannot use it.
    """
    from sigstore.models import ClientTrustConfig, TrustedRoot

    try:
        if "clienttrustconfig" in text.partition("trustedRoot")[0]:
            return ClientTrustConfig.from_json(text).trusted_root
        with tempfile.NamedTemporaryFile(mode="w", suffix=".json", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            return TrustedRoot.from_file(file.name)
    except Exception as error:  # as above
        raise SlipwayError(
            "MODEL_TRUST_ROOT cannot be used: it lacks something that a trusted root of Sigstore has,"
            " or is of a version that is not known here."
        ) from error


def reason(error: Exception) -> str:
    """What an error of the library says of a signature, in words that go on from "and"."""
    said = str(error).lower()
    return next(
        (meaning for words, meaning in _REASONS.items() if words in said),
        "its signature does not hold",
    )
