"""Push to a real registry on loopback, lock the digests, compile against them, run by digest."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import yaml

from slipway.components.support.errors import SlipwayError
from slipway.components.support.images import require_digests
from slipway.images import push
from slipway.images.build import BuildError, BuildSettings

NAMES = [
    "ingest",
    "validate",
    "features",
    "train",
    "evaluate",
    "register",
    "deploy",
    "monitor",
    "predictor",
]
CONFIG = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's docker-registry on a free port of loopback."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs Debian's package docker-registry")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("registry")
    config = folder / "config.yml"
    config.write_text(CONFIG.format(folder=folder, port=port))
    process = subprocess.Popen(
        [program, "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/").close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail("the registry did not start")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "images.lock.yaml"
    push.write_lock(path, {name: f"slipway/{name}:0.1.0" for name in NAMES})
    return path


def test_push_lock_compile_run(
    registry: str,
    engine: docker.DockerClient,
    tiny: str,
    lock: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REGISTRY", registry)
    monkeypatch.setenv("TAG", "1.2.3")
    for name in NAMES:
        engine.images.get(tiny).tag(f"{registry}/slipway/{name}", "1.2.3")
    assert push.main(["train", "deploy"], lock) == 0
    locked = yaml.safe_load(lock.read_text())["images"]
    assert list(locked) == NAMES
    assert locked["ingest"] == "slipway/ingest:0.1.0", "what is not pushed keeps its line"
    repository, digest = locked["train"].split("@")
    assert repository == f"{registry}/slipway/train"
    request = urllib.request.Request(
        f"http://{registry}/v2/slipway/train/manifests/{digest}",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["Docker-Content-Digest"] == digest

    assert push.main([], lock) == 0
    locked = yaml.safe_load(lock.read_text())["images"]
    assert all("@sha256:" in reference for reference in locked.values())

    environment = {**os.environ, "SLIPWAY_IMAGES": str(lock)}
    command = [
        Path(sys.executable).with_name("slipway"),
        "compile",
        "--cluster",
        "--set",
        "data.root=s3://lake",
        "--out",
        str(tmp_path / "compiled"),
    ]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    documents = yaml.safe_load_all((tmp_path / "compiled" / "flights-training.yaml").read_text())
    executors = next(documents)["deploymentSpec"]["executors"].values()
    used = {executor["container"]["image"] for executor in executors}
    assert used == {locked[name] for name in NAMES if name != "predictor"}

    engine.images.remove(f"{registry}/slipway/train:1.2.3")
    output = engine.containers.run(
        locked["train"], ["/bin/sh", "-c", "echo by digest"], remove=True
    )
    assert output == b"by digest\n"


def test_an_image_on_a_stand_in_base_goes_to_no_other_machine(
    engine: docker.DockerClient,
    tiny: str,
    lock: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    container = engine.containers.create(tiny, ["/bin/sh"])
    container.commit(
        "registry.invalid/slipway/train", "0.1.0", changes=f"LABEL {push.STAND_IN}=true"
    )
    container.remove()
    monkeypatch.setenv("REGISTRY", "registry.invalid")
    before = lock.read_text()
    assert push.main(["train"], lock) == 1
    assert "stand-in" in capsys.readouterr().err
    assert lock.read_text() == before
    engine.images.remove("registry.invalid/slipway/train:0.1.0")


def test_push_with_buildah(
    registry: str,
    buildah: list[str],
    lock: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM scratch\nLABEL {push.STAND_IN}=true\n")
    names = [f"{place}/slipway/train:0.1.0" for place in (registry, "registry.invalid")]
    tags = [argument for name in names for argument in ("--tag", name)]
    subprocess.run([*buildah, *tags, tmp_path], check=True, capture_output=True)
    monkeypatch.setenv("REGISTRY", registry)
    assert push.main(["train"], lock) == 0
    repository, digest = push.read_lock(lock)["train"].split("@")
    assert repository == f"{registry}/slipway/train"
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    request = urllib.request.Request(
        f"http://{registry}/v2/slipway/train/manifests/0.1.0", headers=accept
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["Docker-Content-Digest"] == digest
    monkeypatch.setenv("REGISTRY", "registry.invalid")
    assert push.main(["train"], lock) == 1
    assert "stand-in" in capsys.readouterr().err


def test_a_registry_that_does_not_answer_leaves_the_lock(
    engine: docker.DockerClient,
    tiny: str,
    lock: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("REGISTRY", f"127.0.0.1:{port}")
    engine.images.get(tiny).tag(f"127.0.0.1:{port}/slipway/train", "0.1.0")
    before = lock.read_text()
    assert push.main(["train"], lock) == 1
    assert "docker push" in capsys.readouterr().err
    assert lock.read_text() == before


def test_push_needs_a_registry(
    lock: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("REGISTRY", raising=False)
    assert push.main([], lock) == 1
    assert "REGISTRY is not set" in capsys.readouterr().err


def test_the_committed_lock_lists_every_image() -> None:
    assert list(push.read_lock(push.LOCK)) == NAMES
    text = push.LOCK.read_text()
    assert yaml.safe_load(text)["images"] == push.read_lock(push.LOCK)


def test_compiling_for_a_cluster_refuses_tags(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_IMAGES", str(lock))
    command = [Path(sys.executable).with_name("slipway"), "compile", "--out", str(tmp_path / "out")]
    command += ["--set", "data.root=s3://bucket/lake"]
    done = subprocess.run([*command, "--cluster"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "predictor: slipway/predictor:0.1.0" in said
    assert "make push" in said
    assert not (tmp_path / "out").exists()


def test_a_tag_is_refused_where_digests_are_required(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_IMAGES", str(lock))
    with pytest.raises(SlipwayError, match=r"train: slipway/train:0\.1\.0.*make push"):
        require_digests(["train"])
    digest = "sha256:" + "0" * 64
    pushed = lock.with_name("pushed.yaml")
    push.write_lock(pushed, {"train": f"r/slipway/train@{digest}"})
    monkeypatch.setenv("SLIPWAY_IMAGES", str(pushed))
    require_digests(["train"])


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"WHEELHOUSE": "/nowhere"}, "holds no wheels"),
        ({"TORCH_BUILD": "rocm"}, "say cpu or cuda"),
        ({"PLATFORM": "linux/riscv64"}, "PLATFORM=linux/riscv64: say linux/amd64 or linux/arm64"),
        ({"PLATFORM": "linux/amd64,linux/arm64"}, "one at a time"),
        ({"JOBS": "many"}, "JOBS=many"),
        ({"OFFLINE": "true"}, "OFFLINE=true: say 1 or 0"),
        ({"NO_CACHE": "yes"}, "NO_CACHE=yes: say 1 or 0"),
    ],
)
def test_settings_that_cannot_be_used(environment: dict[str, str], says: str) -> None:
    with pytest.raises(BuildError, match=says):
        BuildSettings.read(environment)


def test_settings() -> None:
    assert BuildSettings.read({"TAG": ""}).reference("train") == "slipway/train:0.1.0"
    given = BuildSettings.read({"REGISTRY": "r.example.com/team/", "TAG": "1.2", "OFFLINE": "1"})
    assert given.reference("train") == "r.example.com/team/slipway/train:1.2"
    assert given.offline
