r"""Signature of a bundle: who vouches for these bytes, in OpenSSF's model-signing form (OMS 1.0).

`model.sig` beside the files is a Sigstore bundle: a DSSE envelope around an in-toto statement that
lists the SHA-256 of every file of the model. Anyone checks it with the public key alone, off line, also
with OpenSSF's own command::

    model_signing verify key BUNDLE --signature BUNDLE/model.sig \
        --public_key model.pub --ignore-paths BUNDLE/training.json

Written here rather than with the package model-signing, which the tests hold it against in both
directions: the predictor verifies before it loads, and the package brings 15 others, pydantic, tuf and
requests among them, and takes 0.25 s to import.

Formats: github.com/ossf/model-signing-spec, github.com/secure-systems-lab/dsse (protocol.md, v1.0.0),
docs.sigstore.dev/about/bundle (v0.3, with a public key's hint).
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.contracts.bundle import SIGNATURE, TRAINING, UNHASHED
from slipway.components.contracts.signing.identities import Identity, is_word, read_identity
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_file, write_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
# A statement has some 150 bytes a file, and a bundle has three files.
_MOST_BYTES = 256 << 10
_PUBLIC_KEY = re.compile(r"-----BEGIN PUBLIC KEY-----[\s\S]*?-----END PUBLIC KEY-----")
_CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}


class UntrustedModel(SlipwayError):
    """A bundle that the policy of this place does not let in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What a signature file holds.

    Attributes:
        raw: the file. payload: the signed bytes, and signature: over them.
        hint: which key made it; empty: it does not say.
        certificate: whose holder made it, in DER; empty: it was made with a key.
    """

    raw: bytes
    payload: bytes
    signature: bytes
    hint: str
    certificate: bytes


def sign_bundle(folder: Path, private_key: str, password: str, signature_path: Path) -> str:
    """Signs the files of a bundle.

    Args:
        folder: the bundle; its training log is no part of the model, and is left out.
        private_key: MODEL_PRIVATE_KEY: PEM text of an elliptic-curve key, or a file that holds it.
        password: of the key; empty: it has none.
        signature_path: the file to write.

    Returns:
        The fingerprint of the key.

    Raises:
        SlipwayError: the key cannot be used.
    """
    key = _private_key(private_key, password)
    public = key.public_key()
    payload = write_statement(folder)
    signature = key.sign(_encode(payload), _algorithm(public))
    content = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": fingerprint(public)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    write_text(signature_path, json.dumps(content, indent=1) + "\n")
    return fingerprint(public)


def read_signer(folder: Path) -> str:
    """Who a bundle says that it is signed by, as `TrustPolicy.check` names them; empty: it is not signed.

    Raises:
        SlipwayError: its signature cannot be read.
    """
    if not (folder / SIGNATURE).exists():
        return ""
    envelope = read_envelope(folder)
    if not envelope.certificate:
        return envelope.hint
    try:
        return str(read_identity(envelope.certificate))
    except ValueError as error:
        raise UntrustedModel(f"{folder / SIGNATURE} cannot be read: {error}.") from error


def describe_signer(signer: str, trusted: bool = False) -> str:
    """A signer for people: a key by the start of its fingerprint, or a name and its issuer."""
    kind = "trusted " if trusted else ""
    if " " not in signer:
        return f"the {kind}key {short(signer)}"
    identity = Identity.parse(signer)
    return f"the {kind}signer {identity.name} of {identity.issuer}"


def fingerprint(key: "EllipticCurvePublicKey") -> str:
    """SHA-256 of a public key's PEM text, in hexadecimal digits: its hint in a signature."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def short(name: str) -> str:
    """A fingerprint as people compare it."""
    return name[:16]


def read_key(text: str, name: str) -> str:
    """A key's PEM text, which a setting holds itself or names the file of.

    Raises:
        SlipwayError: `name` is neither.
    """
    if "-----BEGIN" in text:
        return text
    if found := re.match(r"(pkcs11|[a-z]*kms|hashivault|k8s|ref\+[a-z]+)(?=:)", text.strip(), re.I):
        raise SlipwayError(
            f"{name} names a key in {found[1]}, which no task asks. Let the key stay there, sign the"
            " registered version beside it and attach the signature with `slipway sign`, and give its"
            " public key's PEM text to MODEL_PUBLIC_KEYS."
        )
    try:
        return Path(text.strip()).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SlipwayError(f"{name} is neither PEM text nor a file that can be read.") from error


def _files(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a model, by its path in the bundle."""
    return {
        file.relative_to(folder).as_posix(): hash_file(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.relative_to(folder).as_posix() not in UNHASHED
    }


def write_statement(folder: Path) -> bytes:
    """What is signed: the in-toto statement about a bundle's files."""
    return json.dumps(_statement(folder), indent=2).encode()


def _statement(folder: Path) -> dict[str, object]:
    files = _files(folder)
    return {
        "_type": _STATEMENT,
        "subject": [{"name": folder.name, "digest": {"sha256": _root(files)}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "resources": [
                {"digest": digest, "algorithm": "sha256", "name": name}
                for name, digest in files.items()
            ],
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [TRAINING],
            },
        },
    }


def _root(files: Mapping[str, str]) -> str:
    return hashlib.sha256(b"".join(map(bytes.fromhex, files.values()))).hexdigest()


def _encode(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed in place of the payload alone."""
    return f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(payload)} ".encode() + payload


def read_envelope(folder: Path) -> Envelope:
    """Reads a bundle's signature, which is not checked.

    Raises:
        UntrustedModel: it has none, or none that can be read.
    """
    path = folder / SIGNATURE
    if not path.is_file():
        raise UntrustedModel(
            f"The model in {folder} is not signed: it has no {SIGNATURE}, and only signed models are"
            " loaded here (MODEL_PUBLIC_KEYS, MODEL_SIGNERS). Give the register task MODEL_PRIVATE_KEY"
            " and register the model again, or sign the version with `slipway sign`."
        )
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
        content = json.loads(raw)
        material, envelope = content["verificationMaterial"], content["dsseEnvelope"]
        if content["mediaType"] != MEDIA_TYPE:
            raise ValueError("it is no Sigstore bundle of version 0.3")
        if "x509CertificateChain" in material:
            raise ValueError(
                "it was made with an authority's certificates (`model_signing sign certificate`), which"
                " are not checked here: sign it with a key, or keylessly (`slipway sign`)"
            )
        if ("publicKey" in material) == ("certificate" in material):
            raise ValueError("it holds neither a public key's hint nor a certificate, or both")
        if envelope["payloadType"] != _PAYLOAD_TYPE:
            raise ValueError("what it signs is no in-toto statement")
        hint = str(material.get("publicKey", {}).get("hint") or "")
        if hint and not is_word(hint):
            raise ValueError("its hint of a key is no word")
        [one] = envelope["signatures"]
        return Envelope(
            raw=raw,
            payload=base64.b64decode(envelope["payload"], validate=True),
            signature=base64.b64decode(one["sig"], validate=True),
            hint=hint,
            certificate=base64.b64decode(
                material["certificate"]["rawBytes"] if "certificate" in material else "",
                validate=True,
            ),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise UntrustedModel(f"{path} cannot be read: {reason}. It is not loaded.") from error


def check_statement(folder: Path, payload: bytes) -> None:
    """Holds a bundle's files against the statement that was signed.

    Args:
        folder: the bundle.
        payload: the statement, whose signature was checked.

    Raises:
        UntrustedModel: it cannot be read, or other files were signed.
    """
    try:
        content = json.loads(payload)
        if (content["_type"], content["predicateType"]) != (_STATEMENT, _PREDICATE):
            raise ValueError("it is no statement about a model's files")
        resources = content["predicate"]["resources"]
        files = {str(resource["name"]): str(resource["digest"]) for resource in resources}
        if any(resource["algorithm"] != "sha256" for resource in resources):
            raise ValueError("its files are not hashed by SHA-256")
        [subject] = content["subject"]
        if len(files) != len(resources) or subject["digest"]["sha256"] != _root(files):
            raise ValueError("its digests do not fit its subject")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise UntrustedModel(
            f"The statement in {folder / SIGNATURE} cannot be read: {reason}. The model is not loaded."
        ) from error
    _check_files(folder, files)


def _check_files(folder: Path, signed: Mapping[str, str]) -> None:
    found = _files(folder)
    wrong = [f"{name} was added" for name in found.keys() - signed.keys()]
    wrong += [f"{name} is missing" for name in signed.keys() - found.keys()]
    wrong += [
        f"{name} was changed"
        for name in found.keys() & signed.keys()
        if found[name] != signed[name]
    ]
    if wrong:
        raise UntrustedModel(
            f"The model in {folder} is not the one that was signed: {', '.join(sorted(wrong))}. It is"
            " not loaded."
        )


def parse_keys(text: str) -> dict[str, "EllipticCurvePublicKey"]:
    """Reads MODEL_PUBLIC_KEYS: PEM blocks one after the other, or a file that holds them.

    Returns:
        The keys by their fingerprint; none: there is no text.

    Raises:
        SlipwayError: there is text, and no elliptic-curve public key in it: nothing is trusted by
            mistake.
    """
    if not text.strip():
        return {}
    found = _PUBLIC_KEY.findall(read_key(text, "MODEL_PUBLIC_KEYS"))
    if not found:
        raise SlipwayError(
            "MODEL_PUBLIC_KEYS holds no public key: it is PEM text that begins with -----BEGIN PUBLIC"
            " KEY-----, or the path of a file with it."
        )
    keys = [_public_key(block) for block in found]
    return {fingerprint(key): key for key in keys}


def is_signed_by(envelope: Envelope, key: "EllipticCurvePublicKey") -> bool:
    """Whether a key made a signature, by the key's mathematics alone."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(envelope.signature, _encode(envelope.payload), _algorithm(key))
    except InvalidSignature:
        return False
    return True


def _public_key(block: str) -> "EllipticCurvePublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(block.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SlipwayError("A key in MODEL_PUBLIC_KEYS is damaged: copy its PEM again.") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise SlipwayError(_unfit("MODEL_PUBLIC_KEYS"))
    _check_curve(key, "MODEL_PUBLIC_KEYS")
    return key


def _private_key(text: str, password: str) -> "EllipticCurvePrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = read_key(text, "MODEL_PRIVATE_KEY").encode()
    try:
        key = load_pem_private_key(content, password.encode() or None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The library's words may quote what it was given.
        raise SlipwayError(
            "MODEL_PRIVATE_KEY cannot be read: it is damaged, or MODEL_PRIVATE_KEY_PASSWORD is not its"
            " password."
        ) from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise SlipwayError(_unfit("MODEL_PRIVATE_KEY"))
    _check_curve(key.public_key(), "MODEL_PRIVATE_KEY")
    return key


def _check_curve(key: "EllipticCurvePublicKey", name: str) -> None:
    if key.curve.name not in _CURVES:
        raise SlipwayError(_unfit(name))


def _unfit(name: str) -> str:
    return (
        f"{name}: a key for models is one of the curves P-256, P-384 and P-521, as"
        " `openssl ecparam -name prime256v1 -genkey -noout -out model.key` makes."
    )


def _algorithm(key: "EllipticCurvePublicKey") -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(getattr(hashes, _CURVES[key.curve.name])())
