"""Signatures of bundles: OpenSSF's own package reads ours and we read its, and nothing else gets in."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing, verifying
from support.model_keys import KeyPair, make_keys

from slipway.components.contracts.bundle import SIGNATURE, TRAINING, bundle_hash
from slipway.components.contracts.signing.policy import TrustPolicy
from slipway.components.contracts.signing.signature import (
    UntrustedModel,
    read_signer,
    sign_bundle,
)
from slipway.components.support.errors import SlipwayError

KEYS, STRANGERS = make_keys(), make_keys()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "more").mkdir(parents=True)
    for name in ("bundle.json", "model.onnx", TRAINING, "more/b", "more-a"):
        (folder / name).write_text(f"the content of {name}")
    return folder


def sign(folder: Path, keys: KeyPair = KEYS, password: str = "") -> str:
    return sign_bundle(folder, keys.private, password, folder / SIGNATURE)


def hashed(folder: Path) -> Any:
    ignored = [TRAINING, SIGNATURE]
    return hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_openssf_package_verifies_what_we_sign(
    bundle: Path, tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    keys = make_keys(curve)
    (tmp_path / "key.pub").write_text(keys.public)
    before = bundle_hash(bundle)
    sign(bundle, keys)
    assert bundle_hash(bundle) == before, "a signature is no part of what it stands for"
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "key.pub")
    verifier.set_hashing_config(hashed(bundle)).verify(bundle, bundle / SIGNATURE)
    (bundle / "model.onnx").write_text("another")
    with pytest.raises(ValueError, match="mismatch"):
        verifier.verify(bundle, bundle / SIGNATURE)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_we_verify_what_openssf_package_signs(
    bundle: Path, tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    keys = make_keys(curve)
    (tmp_path / "key.pem").write_text(keys.private)
    signer = signing.Config().use_elliptic_key_signer(private_key=tmp_path / "key.pem")
    signer.set_hashing_config(hashed(bundle)).sign(bundle, bundle / SIGNATURE)
    policy = TrustPolicy.parse(keys.public)
    assert policy.check(bundle) == read_signer(bundle) == next(iter(policy.keys))
    (bundle / "model.onnx").write_text("another")
    with pytest.raises(UntrustedModel, match=r"model\.onnx was changed"):
        policy.check(bundle)


def edit(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / SIGNATURE).read_text())
        change(content)
        (folder / SIGNATURE).write_text(json.dumps(content))

    return apply


def resign(change: Callable[[Any], None]) -> Callable[[Path], None]:
    """Changes the statement itself and signs that, as only the holder of the key can."""

    def apply(folder: Path) -> None:
        from slipway.components.contracts.signing import signature

        whole = signature._statement

        def changed(path: Path) -> Any:
            content = whole(path)
            change(content)
            return content

        signature._statement = changed
        try:
            sign(folder)
        finally:
            signature._statement = whole

    return apply


def drop_signature(content: Any) -> None:
    content["dsseEnvelope"]["signatures"] = []


def swap_payload(content: Any) -> None:
    payload = base64.b64decode(content["dsseEnvelope"]["payload"]).replace(b"more-a", b"more-c")
    content["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no signature": (lambda b: (b / SIGNATURE).unlink(), "is not signed"),
    "changed model": (lambda b: (b / "model.onnx").write_text("x"), "model.onnx was changed"),
    "changed signature card": (
        lambda b: (b / "bundle.json").write_text("x"),
        "bundle.json was changed",
    ),
    "added file": (lambda b: (b / "model.pt2").write_text("x"), "model.pt2 was added"),
    "missing file": (lambda b: (b / "more/b").unlink(), "more/b is missing"),
    "renamed file": (lambda b: (b / "more-a").rename(b / "more-c"), "more-a is missing"),
    "another signer": (lambda b: sign(b, STRANGERS), "fits none of the keys"),
    "another signer with our hint": (
        lambda b: (
            sign(b, STRANGERS),
            edit(
                lambda c: c["verificationMaterial"]["publicKey"].update(
                    hint=next(iter(TrustPolicy.parse(KEYS.public).keys))
                )
            )(b),
        ),
        "fits none of the keys",
    ),
    "changed statement": (edit(swap_payload), "fits none of the keys"),
    "no signatures inside": (edit(drop_signature), "cannot be read"),
    "certificate": (
        edit(lambda c: c.update(verificationMaterial={"certificate": {"rawBytes": "MAA="}})),
        "without a key, with a certificate, and MODEL_SIGNERS names nobody",
    ),
    "certificate without bytes": (
        edit(lambda c: c.update(verificationMaterial={"certificate": {}})),
        "it lacks 'rawBytes'",
    ),
    "an authority's chain": (
        edit(lambda c: c.update(verificationMaterial={"x509CertificateChain": {}})),
        "made with an authority's certificates",
    ),
    "another media type": (edit(lambda c: c.update(mediaType="text/plain")), "no Sigstore bundle"),
    "another payload": (
        edit(lambda c: c["dsseEnvelope"].update(payloadType="text/plain")),
        "no in-toto statement",
    ),
    "no JSON": (lambda b: (b / SIGNATURE).write_text("{"), "cannot be read"),
    "a list": (lambda b: (b / SIGNATURE).write_text("[]"), "cannot be read"),
    "deep nesting": (lambda b: (b / SIGNATURE).write_text("[" * 100_000), "cannot be read"),
    "huge": (lambda b: (b / SIGNATURE).write_text(" " * 300_000), "more than 262,144 bytes"),
    "no base64": (
        edit(lambda c: c["dsseEnvelope"]["signatures"][0].update(sig="??")),
        "cannot be read",
    ),
    "another predicate": (
        resign(lambda c: c.update(predicateType="https://slsa.dev/provenance/v1")),
        "no statement about a model",
    ),
    "a weak hash": (
        resign(lambda c: c["predicate"]["resources"][0].update(algorithm="md5")),
        "not hashed by SHA-256",
    ),
    "a file twice": (
        resign(lambda c: c["predicate"]["resources"].append(c["predicate"]["resources"][0])),
        "do not fit its subject",
    ),
    "digests without their subject": (
        resign(lambda c: c["predicate"]["resources"].pop()),
        "do not fit its subject",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_signed_whole_by_a_trusted_key_is_refused(bundle: Path, name: str) -> None:
    spoil, message = REFUSED[name]
    sign(bundle)
    policy = TrustPolicy.parse(KEYS.public)
    assert policy.check(bundle)
    spoil(bundle)
    with pytest.raises(UntrustedModel, match=message):
        policy.check(bundle)
    assert TrustPolicy.parse("").check(bundle) == "", "without a policy all is as it was"


def test_a_key_is_changed_by_trusting_two_for_a_while(bundle: Path, tmp_path: Path) -> None:
    old, new = make_keys(), make_keys(ec.SECP384R1())
    both = TrustPolicy.parse(old.public + new.public)
    by_old = sign(bundle, old)
    assert both.check(bundle) == by_old
    by_new = sign(bundle, new)
    assert both.check(bundle) == by_new != by_old
    with pytest.raises(UntrustedModel, match=by_new[:16]):
        TrustPolicy.parse(old.public).check(bundle)
    # What was signed is the model alone: the log of a training may be another.
    (bundle / TRAINING).write_text("another training, the same model")
    assert both.check(bundle) == by_new


def test_keys_may_stand_in_files_and_have_a_password(bundle: Path, tmp_path: Path) -> None:
    keys = make_keys(password="correct horse")
    (tmp_path / "k.pem").write_text(keys.private)
    (tmp_path / "k.pub").write_text(keys.public)
    signature = bundle / SIGNATURE
    sign_bundle(bundle, str(tmp_path / "k.pem"), "correct horse", signature)
    assert TrustPolicy.parse(str(tmp_path / "k.pub")).check(bundle)
    for password in ("", "battery staple"):
        with pytest.raises(SlipwayError, match="MODEL_PRIVATE_KEY_PASSWORD") as found:
            sign_bundle(bundle, keys.private, password, signature)
        assert "staple" not in str(found.value)


RSA = """-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAMjvCSpG3bqMVPJEpXRtDB5Yc5WSrIfK
vT8hYVyM+B9hFzNn0bMFbzLLUtPLWQY/3aVsnKXYCPvQIyZYp1D5+qECAwEAAQ==
-----END PUBLIC KEY-----
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no key at all", "neither PEM text nor a file"),
        (KEYS.private, "holds no public key"),
        (KEYS.public.replace("M", "N"), "damaged"),
        (make_keys(ec.SECP256K1()).public, "P-256, P-384 and P-521"),
        (RSA, "P-256, P-384 and P-521"),
    ],
)
def test_a_policy_that_trusts_nobody_by_mistake_is_an_error(text: str, message: str) -> None:
    with pytest.raises(SlipwayError, match=message):
        TrustPolicy.parse(text)
