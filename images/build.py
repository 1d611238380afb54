"""Builds the images with the engine at hand.

    python3 -m images.build [NAME …]

Settings, from the environment (`make images TAG=1.2.0`):
    REGISTRY    prefix of the names, for example registry.example.com/team; empty for local images
    TAG         of the images; default: the project's version
    BASE_IMAGE  Python 3.11 on glibc; default python:3.11-slim-bookworm
    PLATFORM    linux/amd64 or linux/arm64; default this machine's. Another one than this machine's needs
                its emulation (Debian: qemu-user-static), and a TAG of its own
    WHEELHOUSE  folder of wheels that are taken before the index is asked; without it, a CPU build of
                torch that pip finds on this machine (its find-links, its extra index) is taken
    OFFLINE     1: build without a network, WHEELHOUSE has all
    TORCH_BUILD cpu (default) or cuda, for train: its tag then ends with -cuda
    JOBS        images built at a time; default 2
    NO_CACHE    1: take no layer of an earlier build
    CACHE_FROM  tag of earlier images whose layers may be taken; they are also marked for that
"""

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from .plan import (
    ROOT,
    SOURCES_LABEL,
    Image,
    content_hash,
    last_change,
    read_images,
    sources_of,
)

LOGS = ROOT / "build" / "images"
LICENCE = "Apache-2.0"
SOURCE_URL = "https://github.com/kfp-slipway/slipway"
TAG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
BASE_IMAGE = "python:3.11-slim-bookworm"
STAND_IN = "io.slipway.stand-in"
LAST_LINES = 25
TORCH_LOCK = "images/torch-cpu.lock"
# For these every lock has wheels; by the name that the machine gives itself.
PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
CACHE = Path(os.environ.get("SLIPWAY_CACHE") or Path.home() / ".cache" / "slipway")


class BuildError(Exception):
    """An image could not be built; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """What a build is made with; see the module's text."""

    registry: str = ""
    tag: str = TAG
    base_image: str = BASE_IMAGE
    platform: str = ""
    wheelhouse: Path | None = None
    offline: bool = False
    torch: str = "cpu"
    jobs: int = 2
    no_cache: bool = False
    cache_from: str = ""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "BuildSettings":
        """The settings in an environment; empty values count as not set.

        Raises:
            BuildError: a value cannot be used.
        """
        given = {name: value for name, value in environment.items() if value}
        wheelhouse = Path(given["WHEELHOUSE"]) if "WHEELHOUSE" in given else None
        if wheelhouse and not any(wheelhouse.glob("*.whl")):
            raise BuildError(f"WHEELHOUSE={wheelhouse} holds no wheels.")
        target = given.get("PLATFORM", "")
        if target and target not in PLATFORMS.values():
            known = " or ".join(PLATFORMS.values())
            raise BuildError(f"PLATFORM={target}: say {known}, one at a time.")
        jobs = given.get("JOBS", "2")
        if not re.fullmatch(r"[1-9]\d*", jobs):
            raise BuildError(
                f"JOBS={jobs}: say how many images are built at a time, for example 2."
            )
        for switch in ("OFFLINE", "NO_CACHE"):
            if given.get(switch, "0") not in ("0", "1"):
                raise BuildError(f"{switch}={given[switch]}: say 1 or 0.")
        torch = given.get("TORCH_BUILD", "cpu")
        if torch not in ("cpu", "cuda"):
            raise BuildError(f"TORCH_BUILD={torch}: say cpu or cuda.")
        return cls(
            registry=given.get("REGISTRY", "").rstrip("/"),
            tag=given.get("TAG", TAG),
            base_image=given.get("BASE_IMAGE", BASE_IMAGE),
            platform=target,
            wheelhouse=wheelhouse,
            offline=given.get("OFFLINE") == "1",
            torch=torch,
            jobs=int(jobs),
            no_cache=given.get("NO_CACHE") == "1",
            cache_from=given.get("CACHE_FROM", ""),
        )

    def reference(self, name: str, tag: str = "") -> str:
        """The full name of an image, with the tag of this build or another."""
        prefix = f"{self.registry}/" if self.registry else ""
        variant = "-cuda" if self.torch_of(name) == "cuda" else ""
        return f"{prefix}slipway/{name}:{tag or self.tag}{variant}"

    def torch_of(self, name: str) -> str:
        """The build of torch that an image gets: training alone has one for GPUs."""
        return self.torch if name == "train" else "cpu"


def main(arguments: Sequence[str]) -> int:
    """Builds the images that are named, or all; prints a line for each."""
    images = read_images()
    if unknown := sorted(set(arguments) - images.keys()):
        print(
            f"error: there is no image {', '.join(unknown)}. There are: {', '.join(images)}.",
            file=sys.stderr,
        )
        return 2
    try:
        settings = BuildSettings.read(os.environ)
        builder = find_builder()
        wanted = [images[name] for name in arguments or images]
        # For every image alike: wheels that come and go would change the builder and rebuild all images.
        own = PLATFORMS.get(platform.machine(), "")
        if settings.wheelhouse is None and settings.platform in ("", own):
            settings = replace(settings, wheelhouse=_find_torch(CACHE / "wheels"))
        build_base(settings, builder)
        with ThreadPoolExecutor(max(1, settings.jobs)) as pool:
            done = [pool.submit(build, image, settings, builder) for image in wanted]
            problems = [str(error) for job in done if (error := job.exception()) is not None]
    except BuildError as error:
        problems = [str(error)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def find_builder() -> list[str]:
    """The command that builds: docker with buildx or BuildKit where it has them, or buildah.

    Raises:
        BuildError: there is neither.
    """
    if _answers("docker", "info"):
        if _answers("docker", "buildx", "version"):
            return ["docker", "buildx", "build", "--load"]
        client = _output("docker", "version", "--format", "{{.Client.Version}}")
        # Clients since 23 need buildx for BuildKit, and without it fall back to the classic builder.
        modern = int(client.split(".")[0]) >= 23
        return ["env", f"DOCKER_BUILDKIT={0 if modern else 1}", "docker", "build"]
    if shutil.which("buildah"):
        # Docker's format has random ids of working containers in it; OCI's has nothing but the image.
        return ["buildah", "build", "--layers", "--format", "oci"]
    raise BuildError(
        "no container engine answers and there is no buildah. Start Docker, or run"
        " `images/engine.sh start` (root on Debian)."
    )


def build(image: Image, settings: BuildSettings, builder: list[str]) -> None:
    """Builds one image on the base that `build_base` made.

    Raises:
        BuildError: with the last lines of the build.
    """
    revision, seconds = last_change(image)
    labels = {
        "org.opencontainers.image.title": f"slipway/{image.name}",
        "org.opencontainers.image.source": SOURCE_URL,
        "org.opencontainers.image.revision": revision,
        "org.opencontainers.image.version": settings.tag,
        "org.opencontainers.image.licenses": LICENCE,
        SOURCES_LABEL: content_hash(image),
    }
    engine = next((name for name in ("docker", "buildah") if name in builder), None)
    if engine and label_of(engine, settings.reference("base"), STAND_IN) == "true":
        labels[STAND_IN] = "true"  # the predictor copies from its base, and so inherits no label
    arguments = {
        "BASE": settings.reference("base"),
        "BUILDER": settings.reference("builder"),
        "TORCH": settings.torch_of(image.name),
        "GIT_COMMIT": revision,
        "SLIPWAY_VERSION": TAG,
    }
    step = BuildStep(
        name=image.name,
        dockerfile=image.dockerfile,
        sources=image.sources,
        arguments=arguments,
        labels=labels,
        seconds=seconds,
    )
    run_step(step, settings, builder)


def label_of(engine: str, reference: str, label: str) -> str:
    """An image's label, or "".

    Args:
        engine: docker or buildah.
        reference: of the image.
        label: its name.

    Raises:
        BuildError: the image is not there.
    """
    if engine == "buildah":
        place, inspect = ".OCIv1.Config", ["buildah", "inspect", "--type", "image"]
    else:
        place, inspect = ".Config", ["docker", "image", "inspect"]
    return _output(*inspect, "--format", f'{{{{index {place}.Labels "{label}"}}}}', reference)


def _find_torch(folder: Path) -> Path | None:
    """A folder with the CPU build of torch, where this machine's pip is set up to find one.

    A build sees neither this machine's wheels nor pip's settings. None: the build
    asks the index of torch.
    """
    requirement = re.search(r"^torch==\S+\+cpu", (ROOT / TORCH_LOCK).read_text(), re.MULTILINE)
    if requirement is None or platform.system() != "Linux":
        return None
    version = requirement[0].removeprefix("torch==")
    if not any(folder.glob(f"torch-{version}-*.whl")):
        shutil.rmtree(folder, ignore_errors=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            str(folder),
        ]
        if subprocess.run([*command, requirement[0]], capture_output=True, check=False).returncode:
            return None
    return folder


def build_base(settings: BuildSettings, builder: list[str]) -> None:
    """Builds what all images stand on: `builder`, which stays behind, and `base`.

    Raises:
        BuildError: with the last lines of the build.
    """
    base = settings.base_image
    if "docker" in builder:
        # Where the base cannot be pulled, a stand-in takes its place.
        base = _output(str(ROOT / "images" / "engine.sh"), "base", base, settings.platform)
    arguments = {"BASE_IMAGE": base, "OFFLINE": str(int(settings.offline))}
    sources = sources_of(ROOT, "base")
    for target in ("builder", "base"):
        step = BuildStep(
            name=target,
            dockerfile="images/base/Dockerfile",
            sources=sources,
            arguments=arguments,
            target=target,
        )
        run_step(step, settings, builder)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStep:
    """One run of the builder.

    Attributes:
        name: of the image. target: stage of the Dockerfile; empty: the last.
        sources: paths from the root that the context holds.
        arguments: build arguments; those that the Dockerfile does not take are left out.
        seconds: time of the image, since 1970.
    """

    name: str
    dockerfile: str
    sources: Sequence[str]
    arguments: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    seconds: int = 0


def run_step(step: BuildStep, settings: BuildSettings, builder: list[str]) -> None:
    """Runs one build in a context that holds nothing but the image's sources."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{step.name}.log"
    reference = settings.reference(step.name)
    print(f"{reference}  building …", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch)
        _stage(context, step.sources, settings.wheelhouse)
        with log.open("wb") as output:
            code = subprocess.run(
                [*_build_command(step, settings, builder, context), str(context)],
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                # Builders that know it write this time into the image in place of now.
                env={**os.environ, "SOURCE_DATE_EPOCH": str(step.seconds)},
            ).returncode
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
        if "exec format error" in tail.lower():
            tail += (
                f"\nThis machine cannot run programs of {settings.platform or 'the base image'}. Install"
                " their emulation (Debian: qemu-user-static, binfmt_misc) or build on such a machine."
            )
        raise BuildError(f"{reference} was not built; its log is {log}. The last lines:\n{tail}")
    print(
        f"{reference}  {time.monotonic() - started:.0f} s  {_size(builder, reference)}", flush=True
    )


def _build_command(
    step: BuildStep, settings: BuildSettings, builder: list[str], context: Path
) -> list[str]:
    command = [*builder]
    if step.target:
        command += ["--target", step.target]
    command += ["--file", str(context / step.dockerfile), "--tag", settings.reference(step.name)]
    if settings.platform:
        command += ["--platform", settings.platform]
    if builder[0] == "buildah":
        command += ["--timestamp", str(step.seconds)]
    if settings.no_cache:
        command.append("--no-cache")
    if settings.offline:
        command += ["--network", "none"]
    if settings.cache_from:
        command += ["--cache-from", settings.reference(step.name, settings.cache_from)]
        command += ["--build-arg", "BUILDKIT_INLINE_CACHE=1"]
    used = Path(ROOT / step.dockerfile).read_text(encoding="utf-8")
    for key, value in step.arguments.items():
        if f"ARG {key}" in used:
            command += ["--build-arg", f"{key}={value}"]
    for key, value in sorted(step.labels.items()):
        command += ["--label", f"{key}={value}"]
    return command


def _stage(context: Path, sources: Sequence[str], wheelhouse: Path | None) -> None:
    """Copies an image's sources with plain modes and no times: only their content counts."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "README.md")
    for source in sources:
        target = context / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=ignored, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(ROOT / source, target)
        if wheelhouse and source == "images/wheelhouse":
            for wheel in wheelhouse.glob("*.whl"):
                shutil.copyfile(wheel, target / wheel.name)
    for path in context.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (0, 0))


def _size(builder: list[str], reference: str) -> str:
    if builder[0] == "buildah":
        # One line for each name that the image has.
        sizes = _output("buildah", "images", "--format", "{{.Size}}", reference)
        return sizes.splitlines()[0]
    size = json.loads(_output("docker", "image", "inspect", "--format", "{{.Size}}", reference))
    return f"{size / 1e6:.0f} MB"


def _answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _output(*command: str) -> str:
    """What a command prints; what it says on its error output goes to the person."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BuildError(f"`{shlex.join(command)}` failed with exit code {done.returncode}.")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
