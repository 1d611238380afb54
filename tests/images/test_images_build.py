"""What a build is asked for, and what the installer of an image asks of uv."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from slipway.images import build as build_module
from slipway.images.build import BuildError, BuildSettings, build
from slipway.images.plan import ROOT, read_images

Builder = Callable[[str], list[str]]


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    """A builder that writes down what it is asked for and then runs a line of shell."""
    monkeypatch.setattr(build_module, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(build_module, "_size", lambda builder, reference: "no size")
    return lambda then: ["sh", "-c", f'printf "%s\\n" "$@" > {tmp_path}/asked; {then}', "builder"]


@pytest.mark.parametrize(
    ("name", "torch", "expected"),
    [
        ("train", "cpu", ("slipway/train:0.1.0", "TORCH=cpu")),
        ("train", "cuda", ("slipway/train:0.1.0-cuda", "TORCH=cuda")),
        ("evaluate", "cuda", ("slipway/evaluate:0.1.0", "BASE=slipway/base:0.1.0")),
    ],
)
def test_the_cuda_variant_is_trains_alone(
    name: str, torch: str, expected: tuple[str, str], builder: Builder, tmp_path: Path
) -> None:
    build(read_images()[name], BuildSettings.read({"TORCH_BUILD": torch}), builder(":"))
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[asked.index("--tag") + 1] == expected[0]
    assert expected[1] in asked


def test_a_platform_reaches_the_builder(builder: Builder, tmp_path: Path) -> None:
    settings = BuildSettings.read({"PLATFORM": "linux/arm64"})
    build(read_images()["predictor"], settings, builder(":"))
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[asked.index("--platform") + 1] == "linux/arm64"
    build(read_images()["predictor"], BuildSettings(), builder(":"))
    assert "--platform" not in (tmp_path / "asked").read_text().splitlines()


def test_a_platform_that_the_machine_cannot_run_is_explained(builder: Builder) -> None:
    failing = builder("echo 'exec /bin/sh: exec format error'; exit 1")
    with pytest.raises(BuildError, match=r"(?s)programs of linux/arm64.*qemu-user-static"):
        build(read_images()["predictor"], BuildSettings(platform="linux/arm64"), failing)


def test_buildah_gives_the_same_digest_again(
    buildah: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module_setting in ("ROOT", "LOGS"):
        monkeypatch.setattr(build_module, module_setting, tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("x = 1\n")
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nCOPY code /code/\nENV A=b\nUSER 10001:0\nARG GIT_COMMIT=\n"
        "ENV GIT_COMMIT=${GIT_COMMIT}\n"
    )
    found = []
    for tag in ("1", "2"):
        settings = BuildSettings(tag=tag, no_cache=True)
        step = build_module.BuildStep(
            name="tiny",
            dockerfile="Dockerfile",
            sources=["Dockerfile", "code"],
            arguments={"GIT_COMMIT": "c"},
            labels={"title": "tiny"},
            seconds=1_000_000,
        )
        build_module.run_step(step, settings, buildah)
        layout = tmp_path / f"pushed-{tag}"
        command = ["buildah", "push", settings.reference("tiny"), f"oci:{layout}:x"]
        subprocess.run(command, check=True, capture_output=True)
        found.append(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
    assert found[0] == found[1]


CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CASES = {
    "CPU, wheel at hand": ("cpu", ["torch-2.13.0+cpu-x.whl"], "0", "--no-index"),
    "CPU, no wheel": ("cpu", [], "0", CPU_INDEX),
    "CPU, wheel of another package": ("cpu", ["torchmetrics-1.0-x.whl"], "0", CPU_INDEX),
    "CPU, offline": ("cpu", [], "1", "--no-index"),
    "CUDA, CPU wheel at hand": ("cuda", ["torch-2.13.0+cpu-x.whl"], "0", ""),
    "CUDA, offline": ("cuda", ["torch-2.13.0-x.whl"], "1", "--no-index"),
}


@pytest.mark.parametrize("case", CASES)
def test_where_torch_is_taken_from(
    case: str, engine: docker.DockerClient, built_images: dict[str, str]
) -> None:
    build_of, wheels, offline, expected = CASES[case]
    lock = (ROOT / "images" / f"torch-{build_of}.lock").read_text()
    script = f"""
set -e
rm -f /wheelhouse/*.whl
for wheel in {" ".join(wheels)}; do : > "/wheelhouse/$wheel"; done
printf '%s\\n' '#!/bin/sh' 'echo "$@"; ls /wheelhouse; exit 7' > /tmp/uv
chmod +x /tmp/uv
cat > /tmp/torch.lock <<'LOCK'
{lock}LOCK
PATH=/tmp:$PATH OFFLINE={offline} sh /usr/local/bin/install.sh /tmp/torch.lock || [ $? = 7 ]
"""
    assert built_images, "so the builder has the installer as it is"
    output = engine.containers.run(
        "slipway/builder:0.1.0", ["sh", "-c", script], network_mode="none", remove=True
    ).decode()
    assert "--require-hashes" in output
    found = [word for word in ("--no-index", CPU_INDEX) if word in output.split()]
    assert found == [expected] * bool(expected)
    if build_of == "cuda":
        assert "+cpu" not in output
