"""A tiny image for tests of how containers end."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import docker
import pytest

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
