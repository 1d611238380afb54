"""Renews every lock: those of the development environment here, and that of each image.

    .venv/bin/python requirements/lock.py           all, to the newest versions that are allowed
    .venv/bin/python requirements/lock.py images    those of the images, at the versions of run.lock

pyproject.toml says which versions may be taken. run.lock, dev.lock and bench.lock are exact versions with
hashes for everything but torch, which is installed before, by pip: pip can take a local CPU build.

An image asks for packages by name in `images/<image>/requirements.in` and gets the versions of run.lock,
so that it runs what the tests ran. Its `requirements.lock` leaves out what the base image has. torch has
two locks of its own, for train: `images/torch-cpu.lock` and `images/torch-cuda.lock`.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS, IMAGES = ROOT / "requirements", ROOT / "images"
PYPROJECT, CONSTRAINTS = ROOT / "pyproject.toml", REQUIREMENTS / "constraints.txt"
TORCH = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)$")
HEADING = (
    "# Made by requirements/lock.py (`make lock`). torch comes first, by pip: see the Makefile.\n"
)
IMAGE_HEADING = (
    "# Made by requirements/lock.py (`make lock`) from requirements.in and requirements/run.lock.\n"
)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Taken without what they require. kfp: a task imports kfp.dsl, which at run time (_KFP_RUNTIME) imports
# nothing of the Kubernetes and Google clients that kfp's compiler and client require. mlflow:
# mlflow-skinny brings what its client needs, and the rest is its server's.
ALONE = {"kfp", "mlflow"}
# Required and never imported at run time: Feast asks for SQLAlchemy with its plugin for mypy.
EXCLUDED = ("mypy", "types-greenlet")

Packages = dict[str, str]  # name of a package -> its lines in a lock


def main(which: str = "all") -> None:
    """Renews all locks, or those of the images alone."""
    if which == "images":
        # run.lock leaves out torch and what its CUDA build needs.
        kept = (CONSTRAINTS, REQUIREMENTS / "run.lock", IMAGES / "torch-cuda.lock")
        tested = [argument for path in kept for argument in ("--constraint", str(path))]
        lock_images(compile_lock(PYPROJECT, "--extra", "local", *tested), *tested)
        return
    resolved = {}
    for name, extra in {"run": "local", "dev": "dev", "bench": "bench"}.items():
        options = ("--extra", extra, "--constraint", str(CONSTRAINTS))
        resolved[name] = compile_lock(PYPROJECT, *options)
        write(REQUIREMENTS / f"{name}.lock", HEADING, without_torch(resolved[name]))
    lock_images(resolved["run"])


def lock_images(versions: Packages, *options: str) -> None:
    """Locks the base, torch and every image to the versions that the whole project resolved to.

    Args:
        versions: all packages of the run environment, torch included.
        options: of `uv pip compile`: the constraints, where what is locked is to stay as it is.
    """
    with tempfile.TemporaryDirectory() as scratch:
        pins = Path(scratch) / "versions.txt"
        pins.write_text("".join(f"{block.split(' ')[0]}\n" for block in versions.values()))
        excluded = Path(scratch) / "excluded.txt"
        excluded.write_text("".join(f"{name}\n" for name in EXCLUDED))
        base = compile_lock(IMAGES / "base" / "requirements.in", "--constraint", str(pins))
        write(IMAGES / "base" / "requirements.lock", IMAGE_HEADING, base)
        for source in sorted(IMAGES.glob("*/requirements.in")):
            if source.parent.name == "base":
                continue
            lines = source.read_text().splitlines()
            normal = Path(scratch) / "normal.in"
            normal.write_text("\n".join(line for line in lines if line.strip() not in ALONE))
            locked = compile_lock(normal, "--constraint", str(pins), "--excludes", str(excluded))
            locked |= {name: versions[name] for name in ALONE & {*lines}}
            kept = {name: block for name, block in locked.items() if name not in base}
            write(source.with_name("requirements.lock"), IMAGE_HEADING, without_torch(kept))
    lock_torch(versions, *options)


def lock_torch(versions: Packages, *options: str) -> None:
    """Locks torch's CUDA build and its CPU build, both with hashes; `options` as in `lock_images`."""
    cuda = {name: block for name, block in versions.items() if TORCH.match(name)}
    # MLflow reads a GPU's load and memory through it, and without it leaves them out.
    cuda |= compile_lock("-", *options, text="nvidia-ml-py")
    write(IMAGES / "torch-cuda.lock", IMAGE_HEADING, cuda)
    version = cuda["torch"].split(" ")[0].removeprefix("torch==")
    path = IMAGES / "torch-cpu.lock"
    write(path, IMAGE_HEADING, lock_cpu_torch(f"torch=={version}+cpu", path.read_text()))


def lock_cpu_torch(requirement: str, before: str) -> Packages:
    """The lock of torch's CPU build, which PyPI does not have.

    Its own index knows the hash of each platform's wheel. Where that does not answer, a lock of the same
    version stays as it is, and a new version gets the hash of the wheel that pip finds on this machine.

    Args:
        requirement: torch at an exact version.
        before: text of the lock as it is.
    """
    try:
        return compile_lock("-", "--no-deps", "--index-url", CPU_INDEX, text=requirement)
    except subprocess.CalledProcessError:
        print(f"{CPU_INDEX} does not answer.")
    hashes = re.findall(r"--hash=\S+", before) if f"{requirement} \\\n" in before else []
    return {"torch": " \\\n    ".join([requirement, *(hashes or [wheel_hash(requirement)])])}


def wheel_hash(requirement: str) -> str:
    """The hash, as a lock has it, of the wheel that pip finds for this machine."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            scratch,
        ]
        if subprocess.run([*command, requirement], check=False).returncode:
            sys.exit(f"error: {requirement} is not to be had, so torch-cpu.lock cannot be renewed.")
        [wheel] = Path(scratch).iterdir()
        print(f"torch-cpu.lock: the hash of {wheel.name} alone; other platforms are missing.")
        with wheel.open("rb") as file:
            return f"--hash=sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def compile_lock(source: Path | str, *options: str, text: str | None = None) -> Packages:
    """Resolves requirements to exact versions with hashes.

    Args:
        source: a requirements file or pyproject.toml; "-" reads `text`.
        options: further options of `uv pip compile`.
        text: requirements, where `source` is "-".
    """
    command = [
        str(Path(sys.executable).parent / "uv"), "pip", "compile", str(source), *options,
        "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header", "--quiet",
    ]  # fmt: skip
    result = subprocess.run(command, check=True, capture_output=True, text=True, input=text)
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", result.stdout.strip())
    return {re.split(r"[=\[ ]", block)[0]: block for block in blocks}


def without_torch(packages: Packages) -> Packages:
    """The packages but torch and what only its CUDA build needs."""
    return {name: block for name, block in packages.items() if not TORCH.match(name)}


def write(path: Path, heading: str, packages: Packages) -> None:
    """Writes a lock file."""
    blocks = [packages[name] for name in sorted(packages)]
    path.write_text(heading + "\n".join(blocks) + "\n")
    print(f"{path.relative_to(ROOT)}: {len(blocks)} packages")


if __name__ == "__main__":
    main(*sys.argv[1:])
