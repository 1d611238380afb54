"""Keys that sign models, made anew for each test."""

from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A key's two halves as PEM text."""

    private: str
    public: str


def make_keys(curve: ec.EllipticCurve | None = None, password: str = "") -> KeyPair:
    """A new pair, on P-256 where no curve is named."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        protection = serialization.BestAvailableEncryption(password.encode())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return KeyPair(private=private.decode(), public=public.decode())
