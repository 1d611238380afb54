"""Pushes the images and locks what the registry says that they are: `images/images.lock.yaml`.

    REGISTRY=registry.example.com/team python3 -m images.push [NAME …]

Images that are not named keep their line in the lock. See images/build.py for the settings.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .build import STAND_IN, BuildError, BuildSettings, find_builder, label_of
from .plan import ROOT, read_images

LOCK = ROOT / "images" / "images.lock.yaml"
HEADING = (
    "# The image of each stage. `make push` writes digests here; without a registry they are"
    " local tags.\n"
)
LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?(/|$)")


def main(arguments: Sequence[str], lock: Path = LOCK) -> int:
    """Pushes the images that are named, or all, and writes their digests into the lock."""
    try:
        settings = BuildSettings.read(os.environ)
        if not settings.registry:
            raise BuildError("REGISTRY is not set: say where to push, for example ghcr.io/team.")
        names = list(arguments) or list(read_images())
        engine = "buildah" if find_builder()[0] == "buildah" else "docker"
        for name in names:
            _refuse_stand_in(engine, settings, name)
        found = {}
        for name in names:
            found[name] = push(engine, settings, name)
            print(found[name], flush=True)
        write_lock(lock, {**read_lock(lock), **found})
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def push(engine: str, settings: BuildSettings, name: str) -> str:
    """Pushes one image.

    Returns:
        Its reference by digest, as the registry has it.

    Raises:
        BuildError: the registry did not take it.
    """
    reference = settings.reference(name)
    if engine == "buildah":
        with tempfile.NamedTemporaryFile(mode="r") as file:
            # As docker does: a registry on loopback may speak plain HTTP.
            plain = ["--tls-verify=false"] if LOOPBACK.match(settings.registry) else []
            _do("buildah", "push", *plain, "--digestfile", file.name, reference)
            digest = file.read().strip()
        return f"{reference.rpartition(':')[0]}@{digest}"
    _do("docker", "push", "--quiet", reference)
    repository = reference.rpartition(":")[0]
    lines = _do("docker", "image", "inspect", "--format", '{{join .RepoDigests "\\n"}}', reference)
    for line in lines.splitlines():
        if line.startswith(f"{repository}@sha256:"):
            return line
    raise BuildError(f"{reference} was pushed, but the engine does not know its digest.")


def read_lock(lock: Path) -> dict[str, str]:
    """Name to reference of the images in a lock."""
    return dict(re.findall(r"^  (\S+): (\S+)$", lock.read_text(encoding="utf-8"), re.MULTILINE))


def write_lock(lock: Path, references: Mapping[str, str]) -> None:
    """Writes a lock, whole or not at all, in the order of the mapping."""
    lines = [f"  {name}: {reference}\n" for name, reference in references.items()]
    scratch = lock.with_suffix(".new")
    scratch.write_text(f"{HEADING}images:\n{''.join(lines)}", encoding="utf-8")
    scratch.replace(lock)


def _refuse_stand_in(engine: str, settings: BuildSettings, name: str) -> None:
    """A stand-in base carries this machine's certificates: it may go to a registry on it, no further."""
    if LOOPBACK.match(settings.registry):
        return
    reference = settings.reference(name)
    if label_of(engine, reference, STAND_IN) == "true":
        raise BuildError(
            f"{reference} was built on a stand-in base of this machine and is not pushed. Build it"
            " where BASE_IMAGE can be pulled."
        )


def _do(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        said = " ".join(result.stderr.split()[-60:])
        raise BuildError(f"{' '.join(command[:2])} {command[-1]} failed: {said}")
    return result.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
