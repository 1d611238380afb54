"""Register signs what the registry has, with the key of the place, and evidence says who did."""

from pathlib import Path

import pytest
from model_signing import hashing, signing
from support import gate_world as world
from support.model_keys import make_keys
from support.registration import passed, register
from support.registry import mlflow_client

from slipway.components.contracts.bundle import ONNX, SIGNATURE, TRAINING
from slipway.components.contracts.release import Release, Tag
from slipway.components.contracts.signing.policy import TrustPolicy
from slipway.components.contracts.signing.signature import UntrustedModel, short
from slipway.components.register.evidence_report import show_evidence
from slipway.components.register.sign import attach_signature, fetch_to_sign
from slipway.components.support.errors import SlipwayError
from slipway.components.support.secrets import redact

FIRST, SECOND = make_keys(password="a password"), make_keys()


def kept(release: Release) -> Path:
    """The bundle's folder in the registry, not a copy of it."""
    run = mlflow_client().get_run(release.run_id)
    _, _, place = release.bundle_uri.removeprefix("runs:/").partition("/")
    return Path(run.info.artifact_uri.removeprefix("file://")) / place


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    world.make_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_version_is_signed_and_anew_with_another_key(
    bundle: Path, splits: Path, tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsigned = register(bundle, passed(bundle), splits, tmp_path)
    assert not (kept(unsigned) / SIGNATURE).exists()
    assert "signature      not signed" in show_evidence("toy").text

    monkeypatch.setenv("MODEL_PRIVATE_KEY", FIRST.private)
    monkeypatch.setenv("MODEL_PRIVATE_KEY_PASSWORD", "a password")
    assert FIRST.private.splitlines()[3] not in redact(f"key: {FIRST.private}")
    release = register(bundle, passed(bundle), splits, tmp_path)
    assert release == unsigned, "the same bundle is the same version"
    policy = TrustPolicy.parse(FIRST.public)
    first = policy.check(kept(release))
    assert not (bundle / SIGNATURE).exists(), "what register was given stays as it is"
    tags = mlflow_client().get_model_version("toy", "1").tags
    assert tags[Tag.SIGNED_BY] == first
    report = show_evidence("toy")
    assert report.problems == ()
    assert f"signature      by the key {short(first)}, not checked" in report.text

    monkeypatch.setenv("MODEL_PUBLIC_KEYS", FIRST.public)
    report = show_evidence("toy")
    assert report.problems == ()
    assert f"signature      valid, by the trusted key {short(first)}" in report.text

    monkeypatch.setenv("MODEL_PRIVATE_KEY", SECOND.private)
    monkeypatch.delenv("MODEL_PRIVATE_KEY_PASSWORD")
    register(bundle, passed(bundle), splits, tmp_path)
    with pytest.raises(UntrustedModel, match="fits none of the keys"):
        policy.check(kept(release))
    (problem,) = show_evidence("toy").problems
    assert "fits none of the keys" in problem
    monkeypatch.setenv("MODEL_PUBLIC_KEYS", FIRST.public + SECOND.public)
    assert show_evidence("toy").problems == ()


def test_what_was_changed_in_the_registry_is_not_signed(
    bundle: Path, splits: Path, tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = register(bundle, passed(bundle), splits, tmp_path)
    model = kept(release) / ONNX
    model.write_bytes(model.read_bytes() + b"more")
    monkeypatch.setenv("MODEL_PRIVATE_KEY", SECOND.private)
    with pytest.raises(SlipwayError, match="it was changed, and is not signed"):
        register(bundle, passed(bundle), splits, tmp_path)
    assert not (kept(release) / SIGNATURE).exists()


def test_a_key_that_cannot_be_used_ends_the_task_without_showing_it(
    bundle: Path, splits: Path, tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_PRIVATE_KEY", FIRST.private)
    monkeypatch.setenv("MODEL_PRIVATE_KEY_PASSWORD", "not the password")
    with pytest.raises(SlipwayError, match="MODEL_PRIVATE_KEY cannot be read") as found:
        register(bundle, passed(bundle), splits, tmp_path)
    assert "not the password" not in str(found.value)
    assert FIRST.private.splitlines()[3] not in str(found.value)


def sign_elsewhere(folder: Path, private: str) -> Path:
    """What an HSM's or a KMS's owner does with OpenSSF's package, by a key of its own."""
    key = folder.parent / "key.pem"
    key.write_text(private)
    ignored = hashing.Config().set_ignored_paths(
        paths=[TRAINING, SIGNATURE], ignore_git_paths=False
    )
    signer = signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(ignored)
    signer.sign(folder, folder / SIGNATURE)
    return folder / SIGNATURE


def test_a_key_that_no_pod_holds_signs_from_outside(
    bundle: Path, splits: Path, tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = register(bundle, passed(bundle), splits, tmp_path)
    folder = tmp_path / "outside" / "to-sign"
    assert fetch_to_sign("toy", "challenger", folder).version == "1"
    with pytest.raises(SlipwayError, match="is there already"):
        fetch_to_sign("toy", "challenger", folder)
    signature = sign_elsewhere(folder, SECOND.private)
    with pytest.raises(SlipwayError, match="MODEL_PUBLIC_KEYS is not set"):
        attach_signature("toy", "1", signature)
    monkeypatch.setenv("MODEL_PUBLIC_KEYS", FIRST.public)
    with pytest.raises(
        UntrustedModel, match=r"toy version 1 is signed by the key .* none of the keys"
    ):
        attach_signature("toy", "1", signature)
    assert not (kept(release) / SIGNATURE).exists(), "what is not trusted is not stored"

    monkeypatch.setenv("MODEL_PUBLIC_KEYS", SECOND.public)
    version, signer = attach_signature("toy", "1", signature)
    assert version == "1" and f"valid, by the trusted key {signer}" in show_evidence("toy").text
    # A register task without a key leaves it as it is.
    register(bundle, passed(bundle), splits, tmp_path)
    assert show_evidence("toy").problems == ()

    (folder / ONNX).write_bytes(b"another")
    with pytest.raises(UntrustedModel, match=rf"{ONNX} was changed"):
        attach_signature("toy", "1", sign_elsewhere(folder, SECOND.private))
    with pytest.raises(SlipwayError, match="nowhere cannot be read"):
        attach_signature("toy", "1", tmp_path / "nowhere")
    (kept(release) / ONNX).write_bytes(b"another")
    for ask in (
        lambda: attach_signature("toy", "1", signature),
        lambda: fetch_to_sign("toy", "1", tmp_path / "again"),
    ):
        with pytest.raises(SlipwayError, match="it was changed, and is not to be signed"):
            ask()
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("key", ["pkcs11:token=a;object=b", "awskms:///alias/models", "k8s://a/b"])
def test_a_key_in_an_hsm_is_told_how_it_signs(
    key: str,
    bundle: Path,
    splits: Path,
    tmp_path: Path,
    registry: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODEL_PRIVATE_KEY", key)
    with pytest.raises(SlipwayError, match=r"which no task asks.* `slipway sign`"):
        register(bundle, passed(bundle), splits, tmp_path)
