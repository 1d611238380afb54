"""`slipway sign --keyless`: a CI job's identity signs what the registry has, and evidence says who."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import gate_world as world
from support.registration import passed, register
from support.registry import mlflow_client
from support.sigstore_services import CERTIFICATE, LOG, LOG_2, STAMP, Services, make_token, serve
from support.sigstore_world import GITHUB, TRAIN, Sigstore
from typer.testing import CliRunner

from slipway.commands.cli import app
from slipway.components.contracts.bundle import ONNX, SIGNATURE
from slipway.components.contracts.release import Release, Tag
from slipway.components.contracts.signing.keyless import check_keyless
from slipway.components.contracts.signing.policy import TrustPolicy
from slipway.components.contracts.signing.signature import UntrustedModel
from slipway.components.register import sign_keyless as module
from slipway.components.register.evidence_report import show_evidence
from slipway.components.register.sign import sign_by_identity
from slipway.components.register.sign_keyless import sign_keyless
from slipway.components.support import retry
from slipway.components.support.errors import SlipwayError
from slipway.local.workspace import Workspace

SIGSTORE = Sigstore()
SIGNER = f"{TRAIN} {GITHUB}"
AMBIENT = ("GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "BUILDKITE", "GOOGLE_SERVICE_ACCOUNT_NAME")


def kept(release: Release) -> Path:
    """The bundle's folder in the registry, not a copy of it."""
    run = mlflow_client().get_run(release.run_id)
    _, _, place = release.bundle_uri.removeprefix("runs:/").partition("/")
    return Path(run.info.artifact_uri.removeprefix("file://")) / place


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    with serve(SIGSTORE) as running:
        for name in (*AMBIENT, "MODEL_PUBLIC_KEYS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("MODEL_SIGNERS", SIGNER)
        monkeypatch.setenv("MODEL_TRUST_ROOT", json.dumps(running.trust_config()))
        monkeypatch.setenv("SIGSTORE_ID_TOKEN", make_token())
        monkeypatch.setattr(retry.time, "sleep", lambda _: None)
        yield running


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    world.make_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def sign(folder: Path, token: Path | None = None, services: Path | None = None) -> str:
    """Signs a bundle that is in no registry; says by whom."""
    sign_keyless(folder, TrustPolicy.here(), token, services)
    return TrustPolicy.here().check(folder, check_keyless)


def _refuse_what_a_stranger_signs(
    release: Release, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else whom Fulcio knows; and a Rekor that the root does not know."""
    other = TRAIN.replace("train", "test")
    with monkeypatch.context() as patch:
        patch.setenv("SIGSTORE_ID_TOKEN", make_token(job_workflow_ref=other[19:]))
        with pytest.raises(UntrustedModel, match=r"version 1 is signed by .*test\.yaml") as told:
            sign_by_identity("toy", "1", None, None)
        assert str(told.value).startswith(
            "The signature that was made is not taken. The model in toy"
        )
        patch.setenv("SIGSTORE_ID_TOKEN", make_token())
        config = services.trust_config()
        config["trustedRoot"]["tlogs"] = Sigstore().trusted_root()["tlogs"]
        patch.setenv("MODEL_TRUST_ROOT", json.dumps(config))
        with pytest.raises(UntrustedModel, match="signed by no log of MODEL_TRUST_ROOT"):
            sign_by_identity("toy", "1", None, None)
    assert not (kept(release) / SIGNATURE).exists()
    assert Tag.SIGNED_BY not in mlflow_client().get_model_version("toy", "1").tags
    services.asked.clear()


def _say_who_signed(registry: str, tmp_path: Path) -> None:
    command = ["sign", "toy@challenger", "--keyless", "--json", "--out", str(tmp_path / "run")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "settings", lambda _: {"MLFLOW_TRACKING_URI": registry})
        told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    made = json.loads(told.stdout)
    assert made == {"name": "toy", "model_version": "1", "signed_by": SIGNER}


def test_an_identity_signs_a_version(
    bundle: Path,
    splits: Path,
    services: Services,
    registry: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = register(bundle, passed(bundle), splits, tmp_path)
    _refuse_what_a_stranger_signs(release, services, monkeypatch)
    assert sign_by_identity("toy", "challenger", None, None) == ("1", SIGNER)
    assert services.asked == [CERTIFICATE, STAMP, LOG]
    _say_who_signed(registry, tmp_path)
    assert TrustPolicy.here().check(kept(release), check_keyless) == SIGNER
    assert mlflow_client().get_model_version("toy", "1").tags[Tag.SIGNED_BY] == SIGNER
    report = show_evidence("toy")
    assert report.problems == ()
    assert f"signature      valid, by the trusted signer {TRAIN} of {GITHUB}" in report.text
    assert services.tokens[0] not in (kept(release) / SIGNATURE).read_text()

    monkeypatch.delenv("MODEL_TRUST_ROOT")
    half = show_evidence("toy")
    assert "signature      could not be checked" in half.text
    assert any("MODEL_TRUST_ROOT is not set" in problem for problem in half.problems)
    monkeypatch.delenv("MODEL_SIGNERS")
    said = f"by the signer {TRAIN} of {GITHUB}, not checked: set MODEL_SIGNERS and MODEL_TRUST_ROOT"
    assert said in show_evidence("toy").text

    # Rekor's second API gives no time: the timestamp authority alone says when.
    monkeypatch.setenv("MODEL_SIGNERS", SIGNER)
    monkeypatch.setenv("MODEL_TRUST_ROOT", json.dumps(SIGSTORE.trusted_root()))
    (tmp_path / "signing_config.json").write_text(json.dumps(services.signing_config(rekor=2)))
    (tmp_path / "token").write_text(make_token() + "\n")
    before = (kept(release) / SIGNATURE).read_text()
    told = sign_by_identity("toy", "1", tmp_path / "token", tmp_path / "signing_config.json")
    assert told == ("1", SIGNER)
    assert services.asked[6:] == [CERTIFICATE, STAMP, LOG_2]
    after = (kept(release) / SIGNATURE).read_text()
    assert after != before and "inclusionPromise" not in after
    assert TrustPolicy.here().check(kept(release), check_keyless) == SIGNER
    (kept(release) / ONNX).write_bytes(b"another")
    with pytest.raises(UntrustedModel, match=f"{ONNX} was changed"):
        TrustPolicy.here().check(kept(release), check_keyless)
    with pytest.raises(SlipwayError, match="it was changed, and is not to be signed"):
        sign_by_identity("toy", "1", tmp_path / "token", tmp_path / "signing_config.json")


PASSING: dict[str, list[int | str]] = {
    CERTIFICATE: [429, 503, "close"],
    LOG: [500, 429],
}


@pytest.mark.parametrize("path", PASSING)
def test_what_passes_is_waited_for(bundle: Path, services: Services, path: str) -> None:
    services.faults[path] = [*PASSING[path]]
    assert sign(bundle) == SIGNER
    assert services.asked.count(path) == len(PASSING[path]) + 1
    # Each attempt has a certificate of its own.
    assert services.asked.count(CERTIFICATE) == len(PASSING[path]) + 1


FAILING: dict[str, tuple[str, list[int | str], str]] = {
    "too many requests": (CERTIFICATE, [429] * 4, "answered 429, 4 times. Try again later"),
    "Fulcio is down": (CERTIFICATE, [503] * 4, "answered 503, 4 times"),
    "Rekor is down": (LOG, [502] * 4, "answered 502, 4 times"),
    "Fulcio resets": (CERTIFICATE, ["close"] * 4, "could not be reached or did not answer"),
    "Rekor hangs": (LOG, ["hang"] * 4, "did not answer within"),
    "token refused": (CERTIFICATE, [401], "answered 401. Fulcio takes tokens only"),
    "a portal answers for Fulcio": (CERTIFICATE, ["nonsense"], "no answer of Fulcio or Rekor"),
    "a portal answers for Rekor": (LOG, ["nonsense"], "no answer of Fulcio or Rekor"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_service_that_fails_leaves_the_version_unsigned(
    bundle: Path, services: Services, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, faults, message = FAILING[name]
    services.faults[path] = [*faults]
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    with pytest.raises(SlipwayError, match=message) as told:
        sign(bundle)
    assert str(told.value).startswith("The model is not signed")
    assert services.tokens == [] or services.tokens[0] not in str(told.value)
    assert services.asked.count(path) == len(faults)
    assert not (bundle / SIGNATURE).exists()


def test_a_timestamp_is_needed_only_where_the_log_gives_no_time(
    bundle: Path, services: Services, tmp_path: Path
) -> None:
    services.faults[STAMP] = [500]
    assert sign(bundle) == SIGNER
    services.faults[STAMP] = [500]
    (tmp_path / "signing_config.json").write_text(json.dumps(services.signing_config(rekor=2)))
    with pytest.raises(SlipwayError, match="nothing in it says when it was made"):
        sign(bundle, None, tmp_path / "signing_config.json")


def test_a_certificate_log_of_strangers_is_found_out(
    bundle: Path, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = services.trust_config()
    config["trustedRoot"]["ctlogs"] = Sigstore().trusted_root()["ctlogs"]
    monkeypatch.setenv("MODEL_TRUST_ROOT", json.dumps(config))
    with pytest.raises(SlipwayError, match="no certificate log of MODEL_TRUST_ROOT has its"):
        sign(bundle)
    assert LOG not in services.asked and not (bundle / SIGNATURE).exists()


TOKENS: dict[str, tuple[dict[str, Any] | str, str]] = {
    "run out": ({"seconds": -60}, "The identity token has run out"),
    "another audience": ({"audience": "sts.example"}, "another audience than sigstore"),
    "another issuer": ({"issuer": "https://other.example"}, "is of https://other.example"),
    "no token": ("secret-that-is-no-token", "is no identity token of OpenID Connect"),
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_that_is_of_no_use_is_not_sent(
    bundle: Path, services: Services, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, message = TOKENS[name]
    token = made if isinstance(made, str) else make_token(**made)
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", token)
    with pytest.raises(SlipwayError, match=message) as told:
        sign(bundle)
    assert token not in str(told.value) and services.asked == []


def test_what_is_missing_is_said(
    bundle: Path, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_TRUST_ROOT", json.dumps(SIGSTORE.trusted_root()))
    with pytest.raises(SlipwayError, match="which Fulcio and which Rekor"):
        sign(bundle)
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(SlipwayError, match=r"c\.json holds no signing configuration"):
        sign(bundle, None, tmp_path / "c.json")
    with pytest.raises(SlipwayError, match="nowhere cannot be read"):
        sign(bundle, tmp_path / "nowhere")
    monkeypatch.delenv("SIGSTORE_ID_TOKEN")
    with pytest.raises(SlipwayError, match="There is no identity token to sign with"):
        sign(bundle)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", raising=False)
    with pytest.raises(SlipwayError, match="permissions: id-token: write"):
        sign(bundle)
    for name in ("MODEL_SIGNERS", "MODEL_TRUST_ROOT"):
        monkeypatch.delenv(name)
    with pytest.raises(SlipwayError, match="MODEL_SIGNERS and MODEL_TRUST_ROOT are not set"):
        sign_by_identity("toy", "1", None, None)
    assert services.asked == []
