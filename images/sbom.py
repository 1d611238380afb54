"""Writes the bill of materials of each image as CycloneDX JSON: build/sbom/<image>.json.

    python -m images.sbom [NAME …]      TORCH_BUILD=cuda writes train-cuda.json for that variant of train

It lists the Python packages that the image is built from, as its locks have them; the same locks give the
same bytes. Packages of the base's operating system are the registry scanner's part.
"""

import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from .build import BuildSettings
from .plan import ROOT, last_change, read_images, sources_of

FOLDER = ROOT / "build" / "sbom"


def main(arguments: Sequence[str]) -> int:
    """Writes the bills of the images that are named, or of all."""
    settings = BuildSettings.read(os.environ)
    for name in arguments or read_images():
        torch = settings.torch_of(name)
        print(write_bill(name, FOLDER / f"{_variant(name, torch)}.json", torch))
    return 0


def locks(name: str, torch: str = "cpu") -> list[Path]:
    """The locks that an image is built from, its base's included."""
    sources = [*sources_of(ROOT, "base"), *sources_of(ROOT, name)]
    other = {"cpu": "cuda", "cuda": "cpu"}[torch]
    return [
        ROOT / source
        for source in sources
        if source.endswith(".lock") and not source.endswith((f"torch-{other}.lock", "/uv.lock"))
    ]


def write_bill(name: str, path: Path, torch: str = "cpu") -> Path:
    """Writes one image's bill.

    Args:
        name: of the image.
        path: of the bill.
        torch: the build of torch that the image has, cpu or cuda.

    Returns:
        The path.
    """
    revision, seconds = last_change(read_images()[name])
    image = Component(
        name=f"slipway/{name}", version=revision or None, type=ComponentType.CONTAINER, bom_ref=name
    )
    packages = []
    for package, locked in pins(name, torch):
        url = PackageURL("pypi", None, package, locked)
        packages.append(Component(name=package, version=locked, purl=url, bom_ref=str(url)))
    bom = Bom(components=packages, metadata=BomMetaData(component=image))
    bom.metadata.timestamp = datetime.fromtimestamp(seconds, UTC)
    # An image that nothing changed keeps its bill, number included.
    bom.serial_number = uuid5(
        NAMESPACE_URL, f"slipway/{name}@{revision}{'-cuda' if torch == 'cuda' else ''}"
    )
    bom.register_dependency(image, packages)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(JsonV1Dot6(bom).output_as_string(indent=2), encoding="utf-8")
    return path


def pins(name: str, torch: str = "cpu") -> list[tuple[str, str]]:
    """Name and version of the packages in an image's locks, sorted."""
    text = "".join(lock.read_text(encoding="utf-8") for lock in locks(name, torch))
    return sorted(set(re.findall(r"^([A-Za-z0-9_.-]+)==([^ \\\n]+)", text, re.MULTILINE)))


def _variant(name: str, torch: str) -> str:
    return f"{name}-cuda" if torch == "cuda" else name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
