"""What tests of images share: a tiny image, and buildah."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from slipway.images import build as build_module
from slipway.images.build import find_builder

TINY = "slipway-test/tiny:1"


@pytest.fixture(scope="session")
def tiny(engine: docker.DockerClient) -> str:
    """An image of some MB with a shell, made from this machine's own files: no registry, no build."""
    programs = [
        Path(found) for name in ("sh", "sleep", "tail", "cat") if (found := shutil.which(name))
    ]
    files = {Path("/bin") / path.name: path.resolve() for path in programs}
    for path in programs:
        for word in subprocess.run(
            ["ldd", path], capture_output=True, text=True, check=True
        ).stdout.split():
            if word.startswith("/"):
                files[Path(word)] = Path(word).resolve()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for target, source in files.items():
            tar.add(source, arcname=str(target).lstrip("/"), recursive=False)
    repository, tag = TINY.split(":")
    engine.api.import_image_from_data(archive.getvalue(), repository=repository, tag=tag)
    return TINY


@pytest.fixture
def buildah(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Debian's buildah, where no Docker answers, with a store of its own."""
    if shutil.which("buildah") is None:
        pytest.skip("needs Debian's package buildah")
    monkeypatch.setattr(build_module, "_answers", lambda *command: False)
    store = tmp_path / "store"
    config = tmp_path / "storage.conf"
    config.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{store}"\nrunroot = "{tmp_path / "run"}"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(config))
    yield find_builder()
    subprocess.run(["buildah", "rmi", "--all", "--force"], check=False, capture_output=True)
