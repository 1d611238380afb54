"""A container engine for the tests: the one that answers, or a private one (Debian, as root)."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "images" / "engine.sh"
TINY = "slipway-test/tiny:1"


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """A client of a running engine; the test is skipped where there is none and none can be had."""
    ran_before = subprocess.run([ENGINE, "env"], capture_output=True, check=False).returncode == 0
    started = subprocess.run([ENGINE, "start"], capture_output=True, text=True, check=False)
    if started.returncode:
        pytest.skip(started.stderr.strip().splitlines()[-1])
    settings = subprocess.run([ENGINE, "env"], capture_output=True, text=True, check=True).stdout
    before = dict(os.environ)
    for line in settings.splitlines():
        name, value = line.removeprefix("export ").split("=", 1)
        os.environ[name] = value.replace("$PATH", before["PATH"])
    client = docker.from_env()
    try:
        yield client
    finally:
        client.close()
        os.environ.clear()
        os.environ.update(before)
        if not ran_before:
            subprocess.run([ENGINE, "stop"], check=False)


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
