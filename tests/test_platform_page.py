"""docs/platform.md names tests that exist, and numbers what we lean on without a gap."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "platform.md").read_text()
NAMED = re.compile(r"`(?:tests/)?((?:[a-z0-9_]+/)+test_[a-z0-9_]+\.py)(?:::(test_\w+))?`")


def test_every_test_that_the_page_names_is_there() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 30
    for file, test in named:
        path = ROOT / "tests" / file
        assert path.is_file(), file
        assert not test or f"def {test}(" in path.read_text(), f"{file}::{test}"


def test_the_lines_on_kubeflow_pipelines_are_numbered() -> None:
    section = PAGE.partition("## Kubeflow Pipelines\n")[2].partition("\n## ")[0]
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 35
