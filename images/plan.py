"""What each image is made from, read from its Dockerfile: the one place that says so."""

import hashlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = "base"
SOURCES_LABEL = "io.slipway.sources"
IGNORED = re.compile(r"(^|/)(__pycache__/.*|[^/]*\.pyc|README\.md)$")  # takes part in no image
# What decides every image's bytes, besides its own Dockerfile and what that copies.
COMMON = ("images/build.py", "images/plan.py", "images/wheelhouse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image.

    Attributes:
        name: of the image, and of its folder in `images/`.
        sources: paths from the root of the repository that its bytes come from, its base's included.
    """

    name: str
    sources: tuple[str, ...]

    @property
    def dockerfile(self) -> str:
        """The Dockerfile's path from the root."""
        return f"images/{self.name}/Dockerfile"

    def is_made_from(self, path: str) -> bool:
        """Whether a file takes part in the image."""
        if IGNORED.search(path):
            return False
        return any(path == source or path.startswith(f"{source}/") for source in self.sources)


def read_images(root: Path = ROOT) -> dict[str, Image]:
    """All images that have a Dockerfile, the base left out.

    Args:
        root: of the repository.

    Raises:
        ValueError: this is no checkout.
    """
    if not (root / "images" / BASE / "Dockerfile").is_file():
        raise ValueError("the images' Dockerfiles are in a checkout of Slipway, not in the package")
    base = sources_of(root, BASE)
    names = sorted(path.parent.name for path in root.glob("images/*/Dockerfile"))
    return {
        name: Image(name=name, sources=tuple(sorted({*base, *sources_of(root, name)})))
        for name in names
        if name != BASE
    }


def sources_of(root: Path, name: str) -> tuple[str, ...]:
    """The Dockerfile of an image and what it copies out of the repository."""
    text = (root / "images" / name / "Dockerfile").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, flags=re.MULTILINE)
    paths = [path for line in copied for path in line.split()]
    # A build argument in a path stands for each file that it can name.
    found = [
        source.relative_to(root).as_posix()
        for path in paths
        for source in sorted(root.glob(re.sub(r"\$\{\w+\}", "*", path)))
    ]
    return (f"images/{name}/Dockerfile", *found)


def content_hash(image: Image, root: Path = ROOT) -> str:
    """A hash over the names and contents of an image's sources: its label `io.slipway.sources`."""
    digest = hashlib.sha256()
    for source in image.sources:
        path = root / source
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            name = file.relative_to(root).as_posix()
            if file.is_file() and not IGNORED.search(name):
                digest.update(f"{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def affected(changed: list[str], root: Path = ROOT) -> list[str]:
    """The images that changed files take part in.

    Args:
        changed: paths from the root of the repository, deleted ones too.
        root: of the repository.
    """
    everywhere = any(path == c or path.startswith(f"{c}/") for path in changed for c in COMMON)
    return [
        image.name
        for image in read_images(root).values()
        if everywhere or any(image.is_made_from(path) for path in changed)
    ]


def builds(names: list[str]) -> list[dict[str, str]]:
    """What the workflow builds of some images, one entry a job: train with either build of torch.

    Args:
        names: of the images.
    """
    return [
        {"image": name, "torch": torch}
        for name in names
        for torch in (("cpu", "cuda") if name == "train" else ("cpu",))
    ]


def changed_since(revision: str, root: Path = ROOT) -> list[str]:
    """Files that differ between a revision and the working tree, new ones included.

    Raises:
        ValueError: git does not know the revision.
    """
    differing = _git(root, "diff", "--name-only", "--no-renames", revision, "--")
    untracked = _git(root, "ls-files", "--others", "--exclude-standard")
    return sorted({*differing.splitlines(), *untracked.splitlines()})


def last_change(image: Image, root: Path = ROOT) -> tuple[str, int]:
    """The commit that last changed an image's sources, and its time in seconds since 1970.

    An image that no commit touched since keeps its labels, and so its digest. Outside a git checkout:
    ("", 0).
    """
    try:
        line = _git(root, "log", "-1", "--format=%H %ct", "--", *image.sources).split()
    except ValueError:
        return "", 0
    return (line[0], int(line[1])) if line else ("", 0)


def _git(root: Path, *arguments: str) -> str:
    result = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise ValueError(" ".join(result.stderr.split()))
    return result.stdout
