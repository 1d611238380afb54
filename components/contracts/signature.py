r"""Signature of a bundle: who vouches for these bytes, in OpenSSF's model-signing form (OMS 1.0).

`model.sig` beside the files is a Sigstore bundle: a DSSE envelope around an in-toto statement that
lists the SHA-256 of every file of the model. Anyone checks it with the public key alone, off line, also
with OpenSSF's own command::

    model_signing verify key BUNDLE --signature BUNDLE/model.sig \
        --public-key model.pub --ignore-paths BUNDLE/training.json

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
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_file, write_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
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
class TrustPolicy:
    """Whose bundles are let in.

    Attributes:
        keys: public keys by their fingerprint; empty: every bundle is let in, signed or not.
    """

    keys: Mapping[str, "EllipticCurvePublicKey"]

    @classmethod
    def parse(cls, text: str) -> "TrustPolicy":
        """Reads MODEL_PUBLIC_KEYS: PEM blocks one after the other, or a file that holds them.

        Raises:
            SlipwayError: there is text, and no elliptic-curve public key in it: nothing is trusted by
                mistake.
        """
        if not text.strip():
            return cls(keys={})
        found = _PUBLIC_KEY.findall(read_key(text, "MODEL_PUBLIC_KEYS"))
        if not found:
            raise SlipwayError(
                "MODEL_PUBLIC_KEYS holds no public key: it is PEM text that begins with -----BEGIN PUBLIC"
                " KEY-----, or the path of a file with it."
            )
        keys = [_public_key(block) for block in found]
        return cls(keys={fingerprint(key): key for key in keys})

    def check(self, folder: Path) -> str:
        """Lets a bundle in, or not.

        Args:
            folder: the bundle, before anything in it is loaded.

        Returns:
            The fingerprint of the key that signed it; empty: there is no policy.

        Raises:
            UntrustedModel: it is not signed, by none of the keys, or not these bytes.
        """
        if not self.keys:
            return ""
        envelope = _read_envelope(folder)
        signer = self._check_signature(folder, envelope)
        _check_files(folder, _read_statement(folder, envelope))
        return signer

    def _check_signature(self, folder: Path, envelope: "_Envelope") -> str:
        from cryptography.exceptions import InvalidSignature

        for name, key in self.keys.items():
            if envelope.hint and envelope.hint != name:
                continue
            try:
                key.verify(envelope.signature, _encode(envelope.payload), _algorithm(key))
            except InvalidSignature:
                continue
            return name
        known = ", ".join(short(name) for name in self.keys)
        by = f"the key {short(envelope.hint)}" if envelope.hint else "another key"
        raise UntrustedModel(
            f"The model in {folder} is signed by {by}, and its signature fits none of the keys that"
            f" MODEL_PUBLIC_KEYS trusts ({known}). It is not loaded."
        )


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
    payload = json.dumps(_statement(folder), indent=2).encode()
    signature = key.sign(_encode(payload), _algorithm(public))
    content = {
        "mediaType": _MEDIA_TYPE,
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
    """The fingerprint of the key that a bundle says it is signed by; empty: it is not signed.

    Raises:
        SlipwayError: its signature cannot be read.
    """
    return _read_envelope(folder).hint if (folder / SIGNATURE).exists() else ""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    """What a signature file holds: the signed bytes, the signature over them, and which key made it."""

    payload: bytes
    signature: bytes
    hint: str


def _files(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a model, by its path in the bundle."""
    return {
        file.relative_to(folder).as_posix(): hash_file(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.relative_to(folder).as_posix() not in UNHASHED
    }


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


def _read_envelope(folder: Path) -> _Envelope:
    path = folder / SIGNATURE
    if not path.is_file():
        raise UntrustedModel(
            f"The model in {folder} is not signed: it has no {SIGNATURE}, and MODEL_PUBLIC_KEYS says"
            " that only signed models are loaded. Give the register task MODEL_PRIVATE_KEY and register"
            " the model again."
        )
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
        content = json.loads(path.read_bytes())
        material, envelope = content["verificationMaterial"], content["dsseEnvelope"]
        if content["mediaType"] != _MEDIA_TYPE:
            raise ValueError("it is no Sigstore bundle of version 0.3")
        if "publicKey" not in material:
            raise ValueError(
                "it was made with a certificate, as in Sigstore's keyless flow, and only the keys of"
                " MODEL_PUBLIC_KEYS are checked here: sign it with one of them (`slipway sign`)"
            )
        if envelope["payloadType"] != _PAYLOAD_TYPE:
            raise ValueError("what it signs is no in-toto statement")
        [one] = envelope["signatures"]
        return _Envelope(
            payload=base64.b64decode(envelope["payload"], validate=True),
            signature=base64.b64decode(one["sig"], validate=True),
            hint=str(material["publicKey"].get("hint") or ""),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise UntrustedModel(f"{path} cannot be read: {reason}. It is not loaded.") from error


def _read_statement(folder: Path, envelope: _Envelope) -> dict[str, str]:
    """The digests that a statement vouches for, by name. Its signature was checked."""
    try:
        content = json.loads(envelope.payload)
        if (content["_type"], content["predicateType"]) != (_STATEMENT, _PREDICATE):
            raise ValueError("it is no statement about a model's files")
        resources = content["predicate"]["resources"]
        files = {str(resource["name"]): str(resource["digest"]) for resource in resources}
        if any(resource["algorithm"] != "sha256" for resource in resources):
            raise ValueError("its files are not hashed by SHA-256")
        [subject] = content["subject"]
        if len(files) != len(resources) or subject["digest"]["sha256"] != _root(files):
            raise ValueError("its digests do not fit its subject")
        return files
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise UntrustedModel(
            f"The statement in {folder / SIGNATURE} cannot be read: {reason}. The model is not loaded."
        ) from error


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
