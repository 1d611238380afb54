"""Who may sign a model without a key: by the name in a certificate, and whoever vouched for the name.

Sigstore's Fulcio gives a certificate for some minutes to whom an OpenID Connect issuer knows: a person by
an e-mail address, a job of CI or a service account by a URI. What its extensions mean:
github.com/sigstore/fulcio, docs/oid-info.md.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_ISSUER, _ISSUER_OF_OLD = "1.3.6.1.4.1.57264.1.8", "1.3.6.1.4.1.57264.1.1"
# An @ is in no part that a wildcard stands for: whoever may name a branch of a repository could else name
# one that looks like the end of another identity.
_WILDCARDS = {"**": "[^@]*", "*": "[^@/]*"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The name that a certificate was given for.

    Attributes:
        name: an e-mail address or a URI. issuer: URL of the OpenID Connect issuer that knows it.
    """

    name: str
    issuer: str

    def __str__(self) -> str:
        return f"{self.name} {self.issuer}"

    @classmethod
    def parse(cls, text: str) -> "Identity":
        """Reads what `str` wrote; without a space the issuer is empty, and nobody trusts that."""
        name, _, issuer = text.partition(" ")
        return cls(name=name, issuer=issuer)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedSigner:
    """A line of MODEL_SIGNERS.

    Attributes:
        pattern: of the name; `*` stands for any characters but / and @, `**` for any but @.
        issuer: the issuer's URL, exactly.
    """

    pattern: str
    issuer: str

    def __str__(self) -> str:
        return f"{self.pattern} {self.issuer}"

    def fits(self, identity: Identity) -> bool:
        """Whether this line names somebody."""
        parts = re.split(r"(\*+)", self.pattern)
        pattern = "".join(_WILDCARDS.get(part, re.escape(part)) for part in parts)
        return self.issuer == identity.issuer and bool(re.fullmatch(pattern, identity.name))


def parse_signers(text: str) -> tuple[TrustedSigner, ...]:
    """Reads MODEL_SIGNERS: a line a signer, the name and its issuer; or a file with such lines.

    Raises:
        SlipwayError: there is text, and a line says nothing of use: nobody is trusted by mistake.
    """
    text = text.strip()
    if text and "://" not in text:
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SlipwayError(
                "MODEL_SIGNERS is neither lines of a name and its issuer's URL nor a file that can be"
                " read."
            ) from error
    elif not text:
        return ()
    lines = [line.strip() for line in text.splitlines()]
    signers = tuple(_parse(line) for line in lines if line and not line.startswith("#"))
    if not signers:
        raise SlipwayError("MODEL_SIGNERS names nobody: remove it, or give it a line a signer.")
    return signers


def _parse(line: str) -> TrustedSigner:
    parts = line.split()
    if len(parts) != 2 or not parts[1].startswith("https://") or "*" in parts[1]:
        raise SlipwayError(
            f"MODEL_SIGNERS: '{line}' is no signer. A line is a name, which may hold *, a space and the"
            " URL of its issuer, as in 'https://github.com/acme/models/.github/workflows/train.yaml@refs/"
            "heads/main https://token.actions.githubusercontent.com'."
        )
    name, issuer = parts
    if "***" in name or "*" in _owner(name):
        raise SlipwayError(
            f"MODEL_SIGNERS: '{name}' would trust strangers whom {issuer} knows too. A * may stand"
            " neither in an address's host and the first part of its path nor after the @ of an e-mail"
            " address."
        )
    return TrustedSigner(pattern=name, issuer=issuer)


def _owner(name: str) -> str:
    """What of a name says whose it is; where nothing does, the whole name."""
    if found := re.match(r"https?://[^/]+/[^/]+(?=/|$)|(?!https?:)[a-z]+://[^/]+", name):
        return found[0]
    _, at, domain = name.partition("@")
    return domain if at and "://" not in name and domain else name


def read_identity(certificate: bytes) -> Identity:
    """Whom a certificate was given for, by its own word: who issued it was not checked.

    Args:
        certificate: in DER.

    Raises:
        ValueError: it cannot be read, or does not name one e-mail address or URI and its issuer.
    """
    from cryptography.x509 import load_der_x509_certificate

    try:
        return identity_of(load_der_x509_certificate(certificate))
    except TypeError as error:
        raise ValueError("its certificate is damaged") from error


def identity_of(certificate: "Certificate") -> Identity:
    """As `read_identity`, of a certificate that was read."""
    from cryptography.x509 import (
        ExtensionNotFound,
        RFC822Name,
        SubjectAlternativeName,
        UniformResourceIdentifier,
    )

    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        raise ValueError("its certificate names nobody") from None
    known = [
        *names.get_values_for_type(RFC822Name),
        *names.get_values_for_type(UniformResourceIdentifier),
    ]
    if len(known) != 1 or len(list(names)) != 1:
        raise ValueError("its certificate does not name one e-mail address or URI")
    identity = Identity(name=known[0], issuer=_issuer(certificate))
    # A wildcard would stand for a space or a line break too, and whoever reads the name would be misled.
    if not is_word(identity.name) or not is_word(identity.issuer):
        raise ValueError("its certificate names something that is no e-mail address and no URI")
    return identity


def is_word(text: str) -> bool:
    """Whether a text is visible characters of ASCII and nothing else, as an address is."""
    return bool(re.fullmatch(r"[!-~]+", text))


def _issuer(certificate: "Certificate") -> str:
    from cryptography.hazmat.asn1 import decode_der
    from cryptography.x509 import ExtensionNotFound, ObjectIdentifier, UnrecognizedExtension

    for number in (_ISSUER, _ISSUER_OF_OLD):
        try:
            found = certificate.extensions.get_extension_for_oid(ObjectIdentifier(number)).value
        except ExtensionNotFound:
            continue
        if isinstance(found, UnrecognizedExtension):
            return decode_der(str, found.value) if number == _ISSUER else found.value.decode()
    raise ValueError("its certificate does not say who issued the identity")
