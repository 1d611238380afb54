"""Which container image each stage runs in: one place for names, tags and digests.

`images/images.lock.yaml` lists them; SLIPWAY_IMAGES names another file of the same form, for a team that
builds the images into a registry of its own.
"""

import functools
import os
from collections.abc import Iterable
from pathlib import Path

from slipway.components.support.documents import UnfitDocument, load_yaml, read_document
from slipway.components.support.errors import SlipwayError

STAGES = ("ingest", "validate", "features", "train", "evaluate", "register", "deploy", "monitor")
"""The eight stages in their order, each with an image of its name."""
LOCK = Path(__file__).resolve().parents[2] / "images" / "images.lock.yaml"


def lock_file() -> Path:
    """The file that lists the images."""
    return Path(os.environ.get("SLIPWAY_IMAGES") or LOCK)


@functools.cache
def _locked(path: Path) -> dict[str, str]:
    try:
        images: dict[str, str] = load_yaml(read_document(path))[0]["images"]
    except (OSError, LookupError, TypeError, UnfitDocument) as error:
        raise SlipwayError(
            f"{path} does not list the images ({error}). `images:` maps each name to a reference."
        ) from error
    return images


def image(name: str, lock: Path | None = None) -> str:
    """The image reference of a stage (or of "predictor"), as the lock has it."""
    path = lock or lock_file()
    locked = _locked(path)
    if name not in locked:
        known = ", ".join(sorted(locked))
        raise SlipwayError(f"{path} has no image '{name}'. It lists: {known}.")
    return locked[name]


def require_digests(names: Iterable[str]) -> None:
    """Checks that images are named by digest: a cluster's cache goes by the name, not by the content.

    Raises:
        SlipwayError: listing those that a tag names, which may mean other bytes tomorrow.
    """
    floating = [f"{name}: {image(name)}" for name in names if "@sha256:" not in image(name)]
    if floating:
        raise SlipwayError(
            f"{lock_file()} names images by tag ({', '.join(floating)}). Push them with"
            " `make push REGISTRY=…` in a checkout of Slipway, which locks their digests in its"
            " images/images.lock.yaml; elsewhere SLIPWAY_IMAGES names that file (docs/images.md)."
        )
