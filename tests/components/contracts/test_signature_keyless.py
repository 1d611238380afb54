"""Signatures without a key: what Sigstore's clients make is let in by name, and nothing else is."""

import base64
import copy
import importlib.resources
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from model_signing import hashing, verifying
from sigstore.verify.policy import Identity as SigstoreIdentity
from support.model_keys import make_keys
from support.sigstore_world import GITHUB, TRAIN, Sigstore, b64, der, make_bundle, new_key

from slipway.components.contracts.bundle import SIGNATURE, TRAINING, bundle_hash
from slipway.components.contracts.signing.identities import Identity, identity_of, parse_signers
from slipway.components.contracts.signing.keyless import check_keyless
from slipway.components.contracts.signing.policy import TrustPolicy, Vouched
from slipway.components.contracts.signing.signature import (
    UntrustedModel,
    describe_signer,
    read_signer,
    sign_bundle,
    write_statement,
)
from slipway.components.support.errors import SlipwayError

WORLD, STRANGERS = Sigstore(), Sigstore()
ROOT = json.dumps(WORLD.trusted_root())
SIGNERS = f"# who trains\n{TRAIN} {GITHUB}\n"
KEYS = make_keys()
POLICY = TrustPolicy.parse("", SIGNERS, ROOT)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir(parents=True)
    for name in ("bundle.json", "model.onnx", TRAINING):
        (folder / name).write_text(f"the content of {name}")
    return folder


def sign(folder: Path, world: Sigstore = WORLD, **how: Any) -> None:
    made = make_bundle(world, write_statement(folder), **how)
    (folder / SIGNATURE).write_text(json.dumps(made))


@pytest.fixture(autouse=True)
def off_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a signature is checked off line")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_what_a_trusted_identity_signed_is_let_in(bundle: Path) -> None:
    sign(bundle)
    before = bundle_hash(bundle)
    signer = POLICY.check(bundle, check_keyless)
    assert signer == read_signer(bundle) == f"{TRAIN} {GITHUB}"
    assert describe_signer(signer, trusted=True) == f"the trusted signer {TRAIN} of {GITHUB}"
    assert bundle_hash(bundle) == before
    # The log of a training is no part of the model.
    (bundle / TRAINING).write_text("another training")
    assert POLICY.check(bundle, check_keyless) == signer
    assert TrustPolicy.parse("").check(bundle) == ""


def test_openssf_package_agrees(bundle: Path, tmp_path: Path) -> None:
    """The same signature, policy and root, by `model_signing verify sigstore --trust-config`."""
    sign(bundle)
    services = {"operator": "us", "majorApiVersion": 1, "url": "https://fulcio.example"}
    config = {
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": WORLD.trusted_root(),
        "signingConfig": {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [services],
            "rekorTlogUrls": [services],
            "rekorTlogConfig": {"selector": "ANY"},
        },
    }
    (tmp_path / "trust.json").write_text(json.dumps(config))
    ignored = hashing.Config().set_ignored_paths(
        paths=[TRAINING, SIGNATURE], ignore_git_paths=False
    )

    def verify(identity: str) -> None:
        verifying.Config().use_sigstore_verifier(
            identity=identity, oidc_issuer=GITHUB, trust_config=tmp_path / "trust.json"
        ).set_hashing_config(ignored).verify(bundle, bundle / SIGNATURE)

    verify(TRAIN)
    with pytest.raises(Exception, match="do not match"):
        verify(f"{TRAIN}2")
    # Ours takes the same file.
    ours = TrustPolicy.parse("", SIGNERS, str(tmp_path / "trust.json"))
    assert ours.check(bundle, check_keyless)
    (bundle / "model.onnx").write_text("another")
    with pytest.raises(ValueError, match="mismatch"):
        verify(TRAIN)


def edit(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / SIGNATURE).read_text())
        change(content)
        (folder / SIGNATURE).write_text(json.dumps(content))

    return apply


def entry(change: Callable[[Any], None]) -> Callable[[Path], None]:
    return edit(lambda content: change(content["verificationMaterial"]["tlogEntries"][0]))


def proof(**fields: Any) -> Callable[[Path], None]:
    return entry(lambda one: one["inclusionProof"].update(fields))


def swap_body(one: dict[str, Any]) -> None:
    """An entry of the same log about another signature, with its own sound proof."""
    other = make_bundle(WORLD, b'{"another": 1}')
    one.clear()
    one.update(other["verificationMaterial"]["tlogEntries"][0])


def swap_checkpoint(one: dict[str, Any]) -> None:
    """A state that the log signed, and not the one that the proof is about."""
    other = make_bundle(WORLD, b'{"another": 1}')["verificationMaterial"]["tlogEntries"][0]
    one["inclusionProof"]["checkpoint"] = other["inclusionProof"]["checkpoint"]


def swap_payload(content: Any) -> None:
    payload = base64.b64decode(content["dsseEnvelope"]["payload"]).replace(b"onnx", b"ONNX")
    content["dsseEnvelope"]["payload"] = b64(payload)


def other_certificate(content: Any) -> None:
    """Somebody else's certificate, who is trusted and did not make this signature."""
    certificate = der(WORLD.issue(new_key().public_key()))
    content["verificationMaterial"]["certificate"] = {"rawBytes": b64(certificate)}


def later(one: dict[str, Any]) -> None:
    one["integratedTime"] = str(int(one["integratedTime"]) + 1)


OTHER = "https://github.com/evil/models/.github/workflows/train.yaml@refs/heads/main"
TWO = [x509.UniformResourceIdentifier(TRAIN), x509.RFC822Name("a@example.com")]
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another identity": (lambda b: sign(b, name=OTHER), f"signed by {OTHER} of {GITHUB}, whom"),
    "another branch": (lambda b: sign(b, name=f"{TRAIN}2"), "does not name"),
    "another issuer": (
        lambda b: sign(b, issuer="https://evil.example"),
        "of https://evil.example, whom MODEL_SIGNERS does not name",
    ),
    "two names": (lambda b: sign(b, names=TWO), "does not name one e-mail address or URI"),
    "a line break in the name": (
        lambda b: sign(b, name=f"{TRAIN}\nThe model is trusted"),
        "no e-mail address and no URI",
    ),
    "a space in the name": (lambda b: sign(b, name=f"{TRAIN} x"), "no e-mail address and no URI"),
    "an escape in the issuer": (
        lambda b: sign(b, issuer=f"{GITHUB}\x1b[2J"),
        "no e-mail address and no URI",
    ),
    "no signature": (lambda b: (b / SIGNATURE).unlink(), "is not signed"),
    "changed model": (lambda b: (b / "model.onnx").write_text("x"), "model.onnx was changed"),
    "added file": (lambda b: (b / "model.pt2").write_text("x"), "model.pt2 was added"),
    "another authority": (lambda b: sign(b, STRANGERS), "no authority of MODEL_TRUST_ROOT"),
    "run out when used": (
        lambda b: sign(b, minutes_ago=30),
        "did not hold at the time when it was used",
    ),
    "used before it was issued": (
        lambda b: sign(b, signed_minutes_ago=30),
        "did not hold at the time when it was used",
    ),
    "for servers": (
        lambda b: sign(b, usage=ExtendedKeyUsageOID.SERVER_AUTH),
        "not one for signatures",
    ),
    "not in the certificate log": (lambda b: sign(b, logged=False), "is in no certificate log"),
    "another log": (lambda b: sign(b, log=STRANGERS), "signed by no log of MODEL_TRUST_ROOT"),
    "no proof": (
        entry(lambda one: one.pop("inclusionProof")),
        "holds no proof that a transparency log has it",
    ),
    "no checkpoint": (
        entry(lambda one: one["inclusionProof"].pop("checkpoint")),
        "holds no proof that a transparency log has it",
    ),
    "no entry": (
        edit(lambda c: c["verificationMaterial"].update(tlogEntries=[])),
        "no entry of a transparency log",
    ),
    "changed proof": (proof(hashes=[b64(b"x" * 32)] * 3), "log has it does not hold"),
    "changed root": (proof(rootHash=b64(b"x" * 32)), "log has it does not hold"),
    "shorter proof": (proof(hashes=[]), "log has it does not hold"),
    "changed checkpoint": (
        entry(lambda one: one["inclusionProof"]["checkpoint"].update(envelope="a\n\n— b c\n")),
        "its signature does not hold",
    ),
    "another state of the log": (entry(swap_checkpoint), "log has it does not hold"),
    "changed time": (entry(later), "time in the transparency log is signed by no log"),
    "no time": (
        entry(lambda one: (one.pop("integratedTime"), one.pop("inclusionPromise"))),
        "nothing in it says when it was made",
    ),
    "another's entry": (entry(swap_body), "about another signature"),
    "changed statement": (edit(swap_payload), "does not fit its statement"),
    "another's certificate": (edit(other_certificate), "does not fit its statement"),
    "damaged certificate": (
        edit(
            lambda c: c["verificationMaterial"]["certificate"].update(rawBytes=b64(b"\x30\x03abc"))
        ),
        "its signature does not hold",
    ),
    "an authority's chain": (
        edit(lambda c: c.update(verificationMaterial={"x509CertificateChain": {}})),
        "an authority's certificates",
    ),
    "key and certificate": (
        edit(lambda c: c["verificationMaterial"].update(publicKey={"hint": ""})),
        "or both",
    ),
    "unknown member": (edit(lambda c: c.update(more=1)), "its signature does not hold"),
    "a key instead": (
        lambda b: sign_bundle(b, KEYS.private, "", b / SIGNATURE),
        r"none of the keys that MODEL_PUBLIC_KEYS trusts \(none\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_trusted_identity_signed_whole_is_refused(bundle: Path, name: str) -> None:
    spoil, message = REFUSED[name]
    sign(bundle)
    assert POLICY.check(bundle, check_keyless)
    spoil(bundle)
    with pytest.raises(UntrustedModel, match=message) as told:
        POLICY.check(bundle, check_keyless)
    words = str(told.value)
    assert words.startswith(("The model in", f"{bundle / SIGNATURE} cannot be read"))
    assert not any(inside in words for inside in ("pydantic", "SCT", "DSSE", "validation error"))


def test_each_part_of_the_root_is_asked(bundle: Path) -> None:
    sign(bundle)
    for part, message in (
        ("certificateAuthorities", "no authority of MODEL_TRUST_ROOT"),
        ("ctlogs", "no certificate log of MODEL_TRUST_ROOT"),
        ("tlogs", "signed by no log of MODEL_TRUST_ROOT"),
    ):
        root = copy.deepcopy(WORLD.trusted_root()) | {part: STRANGERS.trusted_root()[part]}
        policy = TrustPolicy.parse("", SIGNERS, json.dumps(root))
        with pytest.raises(UntrustedModel, match=message):
            policy.check(bundle, check_keyless)
        empty = TrustPolicy.parse("", SIGNERS, json.dumps(root | {part: []}))
        with pytest.raises(SlipwayError):
            empty.check(bundle, check_keyless)


def test_a_retired_authority_is_trusted_until_it_is_removed(bundle: Path) -> None:
    """As docs/signing.md says: sigstore's library holds `validFor` against no signature."""
    sign(bundle)
    root = copy.deepcopy(WORLD.trusted_root())
    for part in (*root["certificateAuthorities"], *(log["publicKey"] for log in root["tlogs"])):
        part["validFor"]["end"] = "2025-02-01T00:00:00Z"
    assert TrustPolicy.parse("", SIGNERS, json.dumps(root)).check(bundle, check_keyless)


@pytest.mark.parametrize("hint", ["ann@example.com https://accounts.example", "a\nb", "\x1b[2J"])
def test_a_key_s_hint_passes_for_nobody_s_name(bundle: Path, hint: str) -> None:
    sign_bundle(bundle, KEYS.private, "", bundle / SIGNATURE)
    edit(lambda c: c["verificationMaterial"].update(publicKey={"hint": hint}))(bundle)
    with pytest.raises(UntrustedModel, match="hint of a key is no word"):
        read_signer(bundle)


def test_keys_and_identities_are_trusted_side_by_side(bundle: Path) -> None:
    both = TrustPolicy.parse(KEYS.public, SIGNERS, ROOT)
    sign(bundle)
    assert both.check(bundle, check_keyless) == f"{TRAIN} {GITHUB}"
    only_keys = TrustPolicy.parse(KEYS.public)
    with pytest.raises(UntrustedModel, match=r"without a key, with a certificate.*slipway sign"):
        only_keys.check(bundle, check_keyless)
    by_key = sign_bundle(bundle, KEYS.private, "", bundle / SIGNATURE)
    assert both.check(bundle, check_keyless) == by_key
    assert describe_signer(by_key) == f"the key {by_key[:16]}"


TAGS = "https://github.com/acme/*/.github/workflows/train.yaml@refs/tags/v*"


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        (TRAIN, TRAIN, True),
        (TRAIN, TRAIN.replace(".github", "xgithub"), False),
        (TRAIN, f"{TRAIN}/more", False),
        (TAGS, TRAIN.replace("heads/main", "tags/v1.2"), True),
        (TAGS, TRAIN.replace("heads/main", "tags/v1/2"), False),
        (TAGS, TRAIN, False),
        (TAGS, TRAIN.replace("models", "a/b").replace("heads/main", "tags/v1"), False),
        ("https://github.com/acme/**@refs/heads/main", TRAIN, True),
        # A branch whose name is the end of another identity.
        ("https://github.com/acme/**@refs/heads/main", f"{TRAIN}2@refs/heads/main", False),
        ("*@example.com", "ann@example.com", True),
        ("*@example.com", "ann@example.com.evil.org", False),
        ("*@example.com", "a@b@example.com", False),
        ("spiffe://acme.example/ns/ml/*", "spiffe://acme.example/ns/ml/register", True),
        ("spiffe://acme.example/**", "spiffe://acme.example/ns/ml/register", True),
    ],
)
def test_a_name_may_hold_wildcards(pattern: str, name: str, fits: bool) -> None:
    (signer,) = parse_signers(f"{pattern} {GITHUB}")
    assert signer.fits(Identity(name=name, issuer=GITHUB)) is fits
    assert not signer.fits(Identity(name=name, issuer=f"{GITHUB}/"))
    assert not signer.fits(Identity.parse(name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TRAIN, "is no signer"),
        (f"{TRAIN} http://token.example", "is no signer"),
        (f"{TRAIN} https://*.example", "is no signer"),
        (f"{TRAIN} {GITHUB} more", "is no signer"),
        (f"# {TRAIN} {GITHUB}", "names nobody"),
        ("/nowhere", "nor a file that can be read"),
        *(
            (f"{name} {GITHUB}", "would trust strangers")
            for name in (
                *("*", "**", "https://**", "https://github.com/*", "https://github.com/**"),
                *("https://github.com/acme*/x", "*@*.com", "ann*", "***@a.org"),
                *("spiffe://*/ns", "https://*.com/acme/x"),
            )
        ),
    ],
)
def test_signers_that_would_trust_anybody_are_refused(text: str, message: str) -> None:
    with pytest.raises(SlipwayError, match=message):
        parse_signers(text)


def test_settings_may_stand_in_files(tmp_path: Path) -> None:
    (tmp_path / "signers").write_text(SIGNERS)
    (tmp_path / "root.json").write_text(ROOT)
    policy = TrustPolicy.parse("", str(tmp_path / "signers"), str(tmp_path / "root.json"))
    assert policy == POLICY


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"mediaType": "text/plain"}', "/nowhere", '{"mediaType": 1}']
)
def test_what_is_no_trusted_root_is_refused(text: str) -> None:
    with pytest.raises(SlipwayError, match="MODEL_TRUST_ROOT holds no trusted root"):
        TrustPolicy.parse("", SIGNERS, text)


def test_a_root_that_lacks_something_is_refused(bundle: Path) -> None:
    sign(bundle)
    kind = WORLD.trusted_root()["mediaType"]
    for text in (json.dumps({"mediaType": kind}), json.dumps(WORLD.trusted_root() | {"more": 1})):
        with pytest.raises(SlipwayError, match="MODEL_TRUST_ROOT cannot be used"):
            TrustPolicy.parse("", SIGNERS, text).check(bundle, check_keyless)


def test_signers_and_their_root_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL_PUBLIC_KEYS", "MODEL_SIGNERS", "MODEL_TRUST_ROOT"):
        monkeypatch.delenv(name, raising=False)
    assert TrustPolicy.here() == TrustPolicy.parse("")
    monkeypatch.setenv("MODEL_SIGNERS", SIGNERS)
    with pytest.raises(SlipwayError, match="MODEL_TRUST_ROOT is not set"):
        TrustPolicy.here()
    monkeypatch.setenv("MODEL_TRUST_ROOT", ROOT)
    assert TrustPolicy.here() == POLICY
    monkeypatch.delenv("MODEL_SIGNERS")
    with pytest.raises(SlipwayError, match="MODEL_SIGNERS is not set"):
        TrustPolicy.here()


def test_the_public_root_of_sigstore_is_taken(bundle: Path) -> None:
    """The one that sigstore's package carries: what is signed elsewhere is refused by it, not by us."""
    (found,) = (
        path / "trusted_root.json"
        for path in importlib.resources.files("sigstore._store").iterdir()
        if "sigstore.dev" in path.name
    )
    sign(bundle)
    policy = TrustPolicy.parse("", SIGNERS, found.read_text(encoding="utf-8"))
    with pytest.raises(UntrustedModel, match="no authority of MODEL_TRUST_ROOT"):
        policy.check(bundle, check_keyless)


def test_names_are_read_as_sigstore_reads_them() -> None:
    for name in (TRAIN, "ann@example.com"):
        certificate = WORLD.issue(new_key().public_key(), name=name)
        assert identity_of(certificate) == Identity(name=name, issuer=GITHUB)
        SigstoreIdentity(identity=name, issuer=GITHUB).verify(certificate)


def test_a_predictor_takes_what_deploy_vouches_for(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(bundle)
    digest, signer = bundle_hash(bundle), f"{TRAIN} {GITHUB}"
    monkeypatch.delenv("MODEL_PUBLIC_KEYS", raising=False)
    monkeypatch.delenv("MODEL_SIGNERS", raising=False)
    monkeypatch.delenv("MODEL_TRUST_ROOT", raising=False)
    assert Vouched.flags(bundle, digest) == [], "nothing was checked"
    monkeypatch.setenv("MODEL_SIGNERS", SIGNERS)
    monkeypatch.setenv("MODEL_TRUST_ROOT", ROOT)
    assert Vouched.flags(bundle, digest) == [f"--model-hash={digest}", f"--signed-by={signer}"]
    # A predictor has no root.
    policy = TrustPolicy.parse("", SIGNERS)
    assert policy.check(bundle, Vouched(model_hash=digest, signed_by=signer).check) == signer
    for vouched, message in (
        (Vouched(model_hash="", signed_by=""), "deploy has checked"),
        (Vouched(model_hash="0" * 64, signed_by=signer), "deploy has checked"),
        (Vouched(model_hash=digest, signed_by=f"{OTHER} {GITHUB}"), "does not name"),
        (Vouched(model_hash=digest, signed_by=TRAIN), "of no issuer, whom"),
    ):
        with pytest.raises(UntrustedModel, match=message):
            policy.check(bundle, vouched.check)
    (bundle / "model.onnx").write_text("another")
    with pytest.raises(UntrustedModel, match="deploy has checked"):
        policy.check(bundle, Vouched(model_hash=digest, signed_by=signer).check)
    by_key = TrustPolicy.parse(KEYS.public, SIGNERS, ROOT)
    sign_bundle(bundle, KEYS.private, "", bundle / SIGNATURE)
    # Signed with a key too, it is still not the model that deploy started.
    with pytest.raises(UntrustedModel, match="not the one that deploy has checked"):
        Vouched(model_hash=digest, signed_by=signer).let_in(bundle, by_key)
    Vouched(model_hash=bundle_hash(bundle), signed_by=signer).let_in(bundle, by_key)
    monkeypatch.setenv("MODEL_PUBLIC_KEYS", KEYS.public)
    assert by_key.check(bundle) and Vouched.flags(bundle, bundle_hash(bundle)) == []
