"""Only models of trusted signers are loaded: by deploy, score, rollback and the predictor itself."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import deploy_world
from support.deploy_world import World, champion
from support.model_keys import make_keys
from support.sigstore_world import GITHUB, TRAIN, Sigstore, make_bundle

from slipway.components.config.deployment import DeploymentConfig
from slipway.components.contracts.bundle import SIGNATURE, bundle_hash
from slipway.components.contracts.release import Release
from slipway.components.contracts.signing.signature import sign_bundle, write_statement
from slipway.components.deploy.kserve.manifest import predictor
from slipway.components.deploy.local.target import _environment
from slipway.components.deploy.rollback import roll_back
from slipway.components.support.environment import CONFIG_MAP
from slipway.components.support.errors import SlipwayError

bundles = deploy_world.bundles
OURS, THEIRS = make_keys(), make_keys()
SIGSTORE, SIGNER = Sigstore(), f"{TRAIN} {GITHUB}"
QUICK = {"max_latency_ms": 5000}


def sign(world: World, version: int, private: str = OURS.private) -> None:
    folder = world.root / f"bundle-{version}"
    sign_bundle(folder, private, "", folder / SIGNATURE)


def sign_keyless(folder: Path, name: str = TRAIN) -> None:
    made = make_bundle(SIGSTORE, write_statement(folder), name=name)
    (folder / SIGNATURE).write_text(json.dumps(made))


def deploy(world: World, version: int, signer: str = "") -> Any:
    release, verdict = world.release(version, bias=version / 10)
    if signer.startswith("https://"):
        sign_keyless(world.root / f"bundle-{version}", signer)
    elif signer:
        sign(world, version, signer)
    from slipway.components.deploy.deploy import deploy_model

    return deploy_model(
        release=release,
        verdict=verdict,
        splits=world.root / "splits",
        project="flights",
        config={"target": "local", "port": float(world.port), **QUICK},
        deployment=world.root / "deployment.json",
    )


def served(world: World) -> str:
    ready = httpx.get(f"http://127.0.0.1:{world.port}/v2/models/flights").json()
    return str(ready["versions"][0])


def test_only_what_a_trusted_key_signed_is_deployed_and_returned_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(world, 1)
    world.register(1)
    # From here on this place asks for signatures.
    monkeypatch.setenv("MODEL_PUBLIC_KEYS", OURS.public)
    for signer, message in (("", "is not signed"), (THEIRS.private, "fits none of the keys")):
        with pytest.raises(SlipwayError, match=message):
            deploy(world, 2, signer)
        assert (served(world), champion()) == ("1", "1"), "what served serves on"
    monkeypatch.setenv("MODEL_PRIVATE_KEY", OURS.private)
    deploy(world, 2, OURS.private)
    world.register(2)
    assert (served(world), champion()) == ("2", "2")
    environ = Path(f"/proc/{predictor_pid(world)}/environ").read_bytes()
    assert b"MODEL_PUBLIC_KEYS=" in environ and b"MODEL_PRIVATE_KEY" not in environ

    section = DeploymentConfig(target="local", port=world.port, **QUICK)
    with pytest.raises(SlipwayError, match="is not signed"):
        roll_back(project="flights", config=section, version="1")
    assert (served(world), champion()) == ("2", "2")
    # The same model, signed later.
    sign(world, 1)
    assert roll_back(project="flights", config=section, version="1").model_version == "1"
    assert (served(world), champion()) == ("1", "1")


def test_what_a_trusted_identity_signed_is_deployed_and_pinned(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_SIGNERS", SIGNER)
    monkeypatch.setenv("MODEL_TRUST_ROOT", json.dumps(SIGSTORE.trusted_root()))
    for signer, message in (("", "is not signed"), (f"{TRAIN}2", "MODEL_SIGNERS does not name")):
        with pytest.raises(SlipwayError, match=message):
            deploy(world, 1, signer)
    deploy(world, 1, TRAIN)
    assert (served(world), champion()) == ("1", "1")
    (state,) = world.home.glob("endpoints/*/state.json")
    arguments = json.loads(state.read_text())["stable"]["arguments"]
    assert f"--signed-by={SIGNER}" in arguments
    (pinned,) = [one for one in arguments if one.startswith("--model-hash=")]
    assert pinned == f"--model-hash={bundle_hash(world.root / 'bundle-1')}"


def predictor_pid(world: World) -> int:
    (state,) = world.home.glob("endpoints/*/state.json")
    return int(json.loads(state.read_text())["stable"]["pid"])


@pytest.fixture
def signed(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "bundle"
    bundles.make_bundle(folder)
    sign_bundle(folder, OURS.private, "", folder / SIGNATURE)
    yield folder


def start(root: Path, bundle: Path, keys: str, *flags: str) -> int:
    """The status of one request to a predictor that trusts these keys."""
    (root / "keys.pub").write_text(keys)
    flags = (*flags, f"--model-public-keys={root / 'keys.pub'}") if keys else flags
    with bundles.predictor(root, *flags, bundle=bundle) as running:
        return running.infer(bundles.flight_tensors(1)).status_code


def test_the_predictor_verifies_before_it_loads(signed: Path, tmp_path: Path) -> None:
    assert start(tmp_path, signed, THEIRS.public + OURS.public) == 200
    with pytest.raises(AssertionError, match=r"error: .* fits none of the keys"):
        start(tmp_path, signed, THEIRS.public)
    with pytest.raises(AssertionError, match="error: MODEL_PUBLIC_KEYS holds no public key"):
        start(tmp_path, signed, "-----BEGIN nothing-----")
    # A file that onnxruntime would end on: it is never asked.
    (signed / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(AssertionError, match=r"not the one that was signed: model\.onnx"):
        start(tmp_path, signed, OURS.public)


def test_the_predictor_loads_without_a_key_what_deploy_pinned(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    bundles.make_bundle(folder)
    sign_keyless(folder)
    trusted = f"--model-signers={SIGNER}"
    pins = (f"--model-hash={bundle_hash(folder)}", f"--signed-by={SIGNER}")
    assert start(tmp_path, folder, "", trusted, *pins) == 200
    for flags, message in (
        ((trusted,), "not one whose signature deploy has checked"),
        ((trusted, "--model-hash=0", pins[1]), "not the one that deploy has checked"),
        ((trusted.replace("train", "test"), *pins), "whom MODEL_SIGNERS does not name"),
        # The config map with the policy is gone.
        (pins, r"whom MODEL_SIGNERS does not name \(it names: nobody\)"),
        (("--model-hash=0",), "not the one that deploy has checked"),
    ):
        with pytest.raises(AssertionError, match=f"error: .* {message}"):
            start(tmp_path, folder, "", *flags)
    # Whoever may write to the store, between deploy and the pod's next start.
    (folder / "model.onnx").write_bytes(b"no graph")
    sign_keyless(folder)
    with pytest.raises(AssertionError, match="not the one that deploy has checked"):
        start(tmp_path, folder, "", trusted, *pins)
    with pytest.raises(AssertionError, match="not the one that deploy has checked"):
        start(tmp_path, folder, "", *pins)


def test_a_pod_takes_the_keys_from_its_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERENCE_LOG_URI", "s3://logs")
    monkeypatch.setenv("MODEL_PUBLIC_KEYS", THEIRS.public)  # of whoever deploys
    release = Release(
        name="flights", model_version="1", alias="", run_id="0", bundle_uri="", model_hash="0" * 64
    )
    spec = predictor(release, "flights", "s3://models/1", DeploymentConfig())
    for name in ("MODEL_PUBLIC_KEYS", "MODEL_SIGNERS"):
        (entry,) = [e for e in spec["containers"][0]["env"] if e["name"] == name]
        reference = {"name": CONFIG_MAP, "key": name, "optional": True}
        assert entry == {"name": name, "valueFrom": {"configMapKeyRef": reference}}
    vouched = ["--model-hash=0", f"--signed-by={SIGNER}"]
    other = predictor(release, "flights", "s3://models/1", DeploymentConfig(), vouched)
    assert other["containers"][0]["args"] == [*spec["containers"][0]["args"], *vouched]


def test_a_key_s_file_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A predictor runs elsewhere: after `slipway start` it ended on MODEL_PUBLIC_KEYS=model.pub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL_PUBLIC_KEYS", "model.pub")
    monkeypatch.setenv("MODEL_SIGNERS", SIGNER)
    assert _environment()["MODEL_PUBLIC_KEYS"] == str(tmp_path / "model.pub")
    assert _environment()["MODEL_SIGNERS"] == SIGNER
    monkeypatch.setenv("MODEL_PUBLIC_KEYS", OURS.public)
    assert _environment()["MODEL_PUBLIC_KEYS"] == OURS.public
