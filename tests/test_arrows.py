"""The arrows between packages run one way (see [tool.importlinter] in pyproject.toml)."""

import subprocess
import sys
from pathlib import Path

import pytest

from slipway.commands import stage_pages

STAGES = "ingest", "validate", "features", "train", "evaluate", "register", "deploy", "monitor"


def test_arrows(repository: Path) -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_its_face_its_work_and_its_page(repository: Path, stage: str) -> None:
    folder = repository / "components" / stage
    for name in ("component.py", f"{stage}.py", "README.md"):
        assert (folder / name).is_file(), f"components/{stage}/{name}"
    page = folder / "README.md"
    assert stage_pages.renewed(page, stage) == page.read_text(), "stale: run `make compile`"
    assert "| input |" in page.read_text()
