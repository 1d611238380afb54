"""docs/own-data.md: what it says that a command prints and writes is what it prints and writes."""

import re
import shlex
from pathlib import Path

import pytest
from support.own_tables import customers, orders, visits, write
from typer.testing import CliRunner

from slipway.commands.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "own-data.md").read_text()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of the page."""
    folder = tmp_path_factory.mktemp("shop")
    rows = orders(rows=5000)
    write(
        folder,
        {"orders.csv": rows, "customers.csv": customers(rows), "visits.csv": visits(rows)},
    )
    return folder


def test_the_command_prints_and_writes_what_the_page_shows(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    (block,) = re.findall(r"```console\n\$ (.*?)```", PAGE, re.DOTALL)
    command, _, expected = block.partition("\n")
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    assert done.output == expected
    (excerpt,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert excerpt in (shop / "project.yaml").read_text()


def test_every_option_that_the_page_names_is_one() -> None:
    known = CliRunner().invoke(app, ["init", "--help"], env={"COLUMNS": "200"}).output
    named = set(re.findall(r"`(--[a-z]+)", PAGE))
    assert named >= {"--positive", "--time", "--key", "--kind", "--above", "--table", "--exclude"}
    assert {option for option in named if option not in known} == {"--set"} & named


def test_every_warning_that_the_page_explains_is_given() -> None:
    code = "".join(path.read_text() for path in (ROOT / "local" / "guess").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    table = PAGE.partition("## What it warns of")[2]
    warnings = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(warnings) == 9
    for warning in warnings:
        pattern = ".*?".join(map(re.escape, warning.split("…")))
        assert re.search(pattern, code), warning
