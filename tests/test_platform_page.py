"""Pages name tests that exist; docs/platform.md numbers what we lean on without a gap."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "platform.md").read_text()
NAMED = re.compile(r"`(?:tests/)?((?:[a-z0-9_]+/)+test_[a-z0-9_]+\.py)(?:::(test_\w+))?`")


@pytest.mark.parametrize(("page", "least"), [("platform.md", 30), ("threat-model.md", 20)])
def test_every_test_that_a_page_names_is_there(page: str, least: int) -> None:
    named = NAMED.findall((ROOT / "docs" / page).read_text())
    assert len(named) > least
    for file, test in named:
        path = ROOT / "tests" / file
        assert path.is_file(), file
        assert not test or f"def {test}(" in path.read_text(), f"{file}::{test}"


def test_the_lines_on_kubeflow_pipelines_are_numbered() -> None:
    section = PAGE.partition("## Kubeflow Pipelines\n")[2].partition("\n## ")[0]
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 35
