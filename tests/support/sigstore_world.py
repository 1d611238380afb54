"""A Sigstore of our own: an authority, a certificate log, a transparency log and a timestamp authority.

What each makes is written here from its specification (RFC 5280, 6962, 3161; the checkpoints of
C2SP's tlog; Fulcio's oid-info.md), so that sigstore's library meets it as it meets the real ones.
"""

import base64
import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

GITHUB = "https://token.actions.githubusercontent.com"
TRAIN = "https://github.com/acme/models/.github/workflows/train.yaml@refs/heads/main"
SCT_LIST = "1.3.6.1.4.1.11129.2.4.2"
MINUTES = 10
_USAGE = dict.fromkeys(
    (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    ),
    False,
)


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def canonical(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def sign(key: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
    return key.sign(content, ec.ECDSA(hashes.SHA256()))


@dataclass(slots=True)
class Authority:
    """A root, and the certificate under it that issues others."""

    name: str
    usage: x509.ObjectIdentifier
    root_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    root: x509.Certificate = field(init=False)
    issuing: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        self.root = self._make(
            self.root_key, self.root_key, f"{self.name} root", f"{self.name} root"
        )
        self.issuing = self._make(self.root_key, self.key, f"{self.name} root", self.name)

    def _make(
        self,
        signer: ec.EllipticCurvePrivateKey,
        subject: ec.EllipticCurvePrivateKey,
        issuer: str,
        name: str,
    ) -> x509.Certificate:
        now, length = datetime.now(UTC), None if issuer == name else 0
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(subject.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=365))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
            .add_extension(
                x509.KeyUsage(**_USAGE | {"key_cert_sign": True, "crl_sign": True}), critical=True
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(subject.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                critical=False,
            )
        )
        if issuer != name:
            builder = builder.add_extension(x509.ExtendedKeyUsage([self.usage]), critical=False)
        return builder.sign(signer, hashes.SHA256())

    def described(self) -> dict[str, Any]:
        """As a trusted root has it."""
        chain = [{"rawBytes": b64(der(one))} for one in (self.issuing, self.root)]
        return {
            "subject": {"organization": "example", "commonName": self.name},
            "uri": f"https://{self.name}.example",
            "certChain": {"certificates": chain},
            "validFor": {"start": "2025-01-01T00:00:00Z"},
        }


@dataclass(slots=True)
class Log:
    """A transparency log: leaves in a Merkle tree, and a key that signs its states."""

    origin: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    leaves: list[bytes] = field(default_factory=lambda: [b"others %d" % n for n in range(5)])

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(spki(self.key)).digest()

    def described(self) -> dict[str, Any]:
        """As a trusted root has it."""
        return {
            "baseUrl": f"https://{self.origin}",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": b64(spki(self.key)),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": "2025-01-01T00:00:00Z"},
            },
            "logId": {"keyId": b64(self.key_id)},
        }

    def append(self, body: bytes) -> dict[str, Any]:
        """Takes an entry in; gives its proof: root, size, hashes (bytes) and checkpoint."""
        self.leaves += [body, b"one that came after"]
        index, size = len(self.leaves) - 2, len(self.leaves)
        root = _root(self.leaves)
        note = f"{self.origin} - 42\n{size}\n{b64(root)}\n"
        signature = b64(self.key_id[:4] + sign(self.key, note.encode()))
        return {
            "index": index,
            "root": root,
            "size": size,
            "hashes": list(_path(index, self.leaves)),
            "checkpoint": f"{note}\n— {self.origin} {signature}\n",
        }


def _leaf(content: bytes) -> bytes:
    return hashlib.sha256(b"\0" + content).digest()


def _split(count: int) -> int:
    """The largest power of two below a count (RFC 6962, 2.1)."""
    return 1 << ((count - 1).bit_length() - 1)


def _root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return _leaf(leaves[0])
    at = _split(len(leaves))
    return hashlib.sha256(b"\1" + _root(leaves[:at]) + _root(leaves[at:])).digest()


def _path(index: int, leaves: list[bytes]) -> Iterator[bytes]:
    if len(leaves) == 1:
        return
    at = _split(len(leaves))
    if index < at:
        yield from _path(index, leaves[:at])
        yield _root(leaves[at:])
    else:
        yield from _path(index - at, leaves[at:])
        yield _root(leaves[:at])


@dataclass(slots=True)
class Sigstore:
    """All of it, with what goes wrong as arguments of what makes it."""

    authority: Authority = field(
        default_factory=lambda: Authority("fulcio", ExtendedKeyUsageOID.CODE_SIGNING)
    )
    stamper: Authority = field(
        default_factory=lambda: Authority("tsa", ExtendedKeyUsageOID.TIME_STAMPING)
    )
    certificates: Log = field(default_factory=lambda: Log("ctfe.example"))
    rekor: Log = field(default_factory=lambda: Log("rekor.example"))
    stamp_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    stamp_leaf: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        self.stamp_leaf = self._stamp_leaf()

    def trusted_root(self) -> dict[str, Any]:
        """What trusted_root.json holds."""
        stamper = self.stamper.described()
        leaf = {"rawBytes": b64(der(self.stamp_leaf))}
        stamper["certChain"]["certificates"].insert(0, leaf)
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self.rekor.described()],
            "certificateAuthorities": [self.authority.described()],
            "ctlogs": [self.certificates.described()],
            "timestampAuthorities": [stamper],
        }

    def issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str = TRAIN,
        issuer: str = GITHUB,
        *,
        names: list[x509.GeneralName] | None = None,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
        minutes_ago: float = 0,
        logged: bool = True,
    ) -> x509.Certificate:
        """A certificate of ten minutes, as Fulcio issues it: logged first, then with the log's word."""
        start = datetime.now(UTC) - timedelta(minutes=minutes_ago, seconds=5)
        one = x509.RFC822Name(name) if "://" not in name else x509.UniformResourceIdentifier(name)
        fulcio = "1.3.6.1.4.1.57264.1"
        text = core.UTF8String(issuer).dump()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.authority.issuing.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(minutes=MINUTES))
            .add_extension(x509.KeyUsage(**_USAGE | {"digital_signature": True}), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.key.public_key()),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(names or [one]), critical=True)
        )
        for number, content in (("1", issuer.encode()), ("8", text)):
            extension = x509.UnrecognizedExtension(
                x509.ObjectIdentifier(f"{fulcio}.{number}"), content
            )
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(self.authority.key, hashes.SHA256())
        if not logged:
            return certificate
        promise = self._promise(certificate.tbs_certificate_bytes)
        listed = x509.UnrecognizedExtension(x509.ObjectIdentifier(SCT_LIST), promise)
        return builder.add_extension(listed, critical=False).sign(
            self.authority.key, hashes.SHA256()
        )

    def _promise(self, precertificate: bytes) -> bytes:
        """The certificate log's promise as an extension's value (RFC 6962, 3.2 and 3.3)."""
        now = int(datetime.now(UTC).timestamp() * 1000)
        entry = hashlib.sha256(spki(self.authority.key)).digest()
        entry += len(precertificate).to_bytes(3, "big") + precertificate
        signed = struct.pack("!BBQH", 0, 0, now, 1) + entry + b"\0\0"
        signature = sign(self.certificates.key, signed)
        sct = struct.pack("!B32sQHBBH", 0, self.certificates.key_id, now, 0, 4, 3, len(signature))
        sct += signature
        one = len(sct).to_bytes(2, "big") + sct
        return core.OctetString(len(one).to_bytes(2, "big") + one).dump()

    def log_dsse(
        self, envelope: dict[str, Any], certificate: str, *, minutes_ago: float = 0
    ) -> dict[str, Any]:
        """What Rekor's first API answers for an envelope: the entry with its proof and promise.

        Args:
            envelope: as a bundle has it. certificate: in PEM.
            minutes_ago: when it was taken in.
        """
        payload = base64.b64decode(envelope["payload"])
        digest = {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}
        whole = {"algorithm": "sha256", "value": hashlib.sha256(canonical(envelope)).hexdigest()}
        (one,) = envelope["signatures"]
        signature = {"signature": one["sig"], "verifier": b64(certificate.encode())}
        spec = {"envelopeHash": whole, "payloadHash": digest, "signatures": [signature]}
        body = canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        proof = self.rekor.append(body)
        # Rekor's index counts the log's older trees too.
        entry = {
            "body": b64(body),
            "integratedTime": int(datetime.now(UTC).timestamp() - 60 * minutes_ago),
            "logID": self.rekor.key_id.hex(),
            "logIndex": 1000 + proof["index"],
        }
        promise = b64(sign(self.rekor.key, canonical(entry)))
        inclusion = {
            "checkpoint": proof["checkpoint"],
            "hashes": [one.hex() for one in proof["hashes"]],
            "logIndex": proof["index"],
            "rootHash": proof["root"].hex(),
            "treeSize": proof["size"],
        }
        return entry | {
            "verification": {"inclusionProof": inclusion, "signedEntryTimestamp": promise}
        }

    def log_hash(self, request: dict[str, Any]) -> dict[str, Any]:
        """What Rekor's second API answers: the entry in the form that a bundle has; it says no time."""
        asked = request["hashedRekordRequestV002"]
        data = {"algorithm": "SHA2_256", "digest": asked["digest"]}
        spec = {"hashedRekordV002": {"data": data, "signature": asked["signature"]}}
        body = canonical({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": spec})
        proof = self.rekor.append(body)
        return {
            "logIndex": str(proof["index"]),
            "logId": {"keyId": b64(self.rekor.key_id)},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "inclusionProof": {
                "logIndex": str(proof["index"]),
                "rootHash": b64(proof["root"]),
                "treeSize": str(proof["size"]),
                "hashes": [b64(one) for one in proof["hashes"]],
                "checkpoint": {"envelope": proof["checkpoint"]},
            },
            "canonicalizedBody": b64(body),
        }

    def _stamp_leaf(self) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tsa leaf")]))
            .issuer_name(self.stamper.issuing.subject)
            .public_key(self.stamp_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.KeyUsage(**_USAGE | {"digital_signature": True}), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True
            )
            .sign(self.stamper.key, hashes.SHA256())
        )

    def stamp(self, request: bytes) -> bytes:
        """A timestamp authority's answer to a request, both as RFC 3161 has them."""
        asked = tsp.TimeStampReq.load(request)
        leaf = self.stamp_leaf
        info = tsp.TSTInfo(
            {
                "version": "v1",
                "policy": "1.3.6.1.4.1.57264.2",
                "message_imprint": asked["message_imprint"],
                "serial_number": x509.random_serial_number(),
                "gen_time": datetime.now(UTC).replace(microsecond=0),
                "nonce": asked["nonce"],
            }
        )
        content = info.dump()
        about = asn1_x509.Certificate.load(der(leaf))
        attributes = cms.CMSAttributes(
            [
                cms.CMSAttribute({"type": "content_type", "values": ["tst_info"]}),
                cms.CMSAttribute(
                    {"type": "message_digest", "values": [hashlib.sha256(content).digest()]}
                ),
                cms.CMSAttribute(
                    {
                        "type": "signing_certificate_v2",
                        "values": [
                            tsp.SigningCertificateV2(
                                {"certs": [{"cert_hash": hashlib.sha256(der(leaf)).digest()}]}
                            )
                        ],
                    }
                ),
            ]
        )
        signer = cms.SignerInfo(
            {
                "version": "v1",
                "sid": cms.SignerIdentifier(
                    "issuer_and_serial_number",
                    cms.IssuerAndSerialNumber(
                        {"issuer": about.issuer, "serial_number": about.serial_number}
                    ),
                ),
                "digest_algorithm": algos.DigestAlgorithm({"algorithm": "sha256"}),
                "signed_attrs": attributes,
                "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
                "signature": sign(self.stamp_key, attributes.dump()),
            }
        )
        data = cms.SignedData(
            {
                "version": "v3",
                "digest_algorithms": [algos.DigestAlgorithm({"algorithm": "sha256"})],
                "encap_content_info": {
                    "content_type": "tst_info",
                    "content": core.ParsableOctetString(content),
                },
                "certificates": [about],
                "signer_infos": [signer],
            }
        )
        return tsp.TimeStampResp(
            {
                "status": {"status": "granted"},
                "time_stamp_token": {"content_type": "signed_data", "content": data},
            }
        ).dump()


def envelope_of(payload: bytes, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """A DSSE envelope around an in-toto statement."""
    kind = "application/vnd.in-toto+json"
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    return {
        "payload": b64(payload),
        "payloadType": kind,
        "signatures": [{"sig": b64(sign(key, signed))}],
    }


def make_bundle(
    world: Sigstore,
    payload: bytes,
    *,
    log: Sigstore | None = None,
    signed_minutes_ago: float = 0,
    **issued: Any,
) -> dict[str, Any]:
    """A Sigstore bundle, made without sigstore's library.

    Args:
        world: who issues the certificate, and logs. payload: the statement that is signed.
        log: whose transparency log takes the entry in; None: the world's.
        signed_minutes_ago: when it did.
        issued: further arguments of `Sigstore.issue`.
    """
    key = new_key()
    certificate = world.issue(key.public_key(), **issued)
    envelope = envelope_of(payload, key)
    entry = (log or world).log_dsse(envelope, pem(certificate), minutes_ago=signed_minutes_ago)
    proof, promise = entry["verification"]["inclusionProof"], entry["verification"]
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "certificate": {"rawBytes": b64(der(certificate))},
            "tlogEntries": [
                {
                    "logIndex": str(entry["logIndex"]),
                    "logId": {"keyId": b64(bytes.fromhex(entry["logID"]))},
                    "kindVersion": {"kind": "dsse", "version": "0.0.1"},
                    "integratedTime": str(entry["integratedTime"]),
                    "inclusionPromise": {"signedEntryTimestamp": promise["signedEntryTimestamp"]},
                    "inclusionProof": {
                        "logIndex": str(proof["logIndex"]),
                        "rootHash": b64(bytes.fromhex(proof["rootHash"])),
                        "treeSize": str(proof["treeSize"]),
                        "hashes": [b64(bytes.fromhex(one)) for one in proof["hashes"]],
                        "checkpoint": {"envelope": proof["checkpoint"]},
                    },
                    "canonicalizedBody": entry["body"],
                }
            ],
        },
        "dsseEnvelope": envelope,
    }
