"""Every command that Slipway prints, or that a page shows, runs as it stands."""

import re
import shlex
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console

from slipway.commands.cli import app
from slipway.commands.console.runs import show_result
from slipway.commands.init import next_command
from slipway.components.contracts.release import Deployment
from slipway.local.job import RunResult
from slipway.local.workspace import Workspace

ROOT = Path(__file__).parents[2]
SOURCES = ("components", "commands", "local", "cluster", "pipelines", "stack", "serving")
# What stands for something of the reader's, and what an f-string puts in.
STANDS_FOR = {
    # Options that a command was given itself, and gives to the next one.
    r"\{more\}": " --namespace team",
    r"\{[^{}]*\}": "x",
    r"\b[A-Z][A-Z_]+\b(?!=)": "x",
    r"\[[^\]]*\]": "",
    r"…": "",
}


def parse(words: list[str]) -> None:
    """Lets the command line's own parser read the words, and runs nothing.

    Raises:
        Exception: typer's UsageError: there is no such command, argument or option.
    """
    command = typer.main.get_command(app)
    context = command.make_context("slipway", list(words))
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def commands() -> list[tuple[str, str]]:
    """Where each command stands, and the command: in backticks, or as an indented line of a page."""
    found = []
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    pages += (ROOT / "components").glob("*/README.md")
    # Its messages are those of the sources, which are looked at themselves.
    pages.remove(ROOT / "docs" / "start" / "troubleshooting.md")
    sources = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")]
    for path in [*pages, *sources]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            # Texts that go over several lines are joined as Python joins them.
            text = re.sub(r'"\s*\n\s*f?"', "", text)
        lines = re.findall(r"`(?:[A-Z_]+=\S+ )?(slipway [^`\n]+)`", text)
        if path.suffix == ".md":
            lines += re.findall(r"^(?: {4}|\$ )?(slipway [^`|\n]+)$", text, re.MULTILINE)
        for line in lines:
            for part in line.partition(" #")[0].split("&&"):
                if part.strip().startswith("slipway "):
                    found.append((path.relative_to(ROOT).as_posix(), part.strip()))
    return sorted(set(found))


@pytest.mark.parametrize(("where", "text"), commands())
def test_a_command_on_a_page_or_in_a_message_is_one(where: str, text: str) -> None:
    for placeholder, value in STANDS_FOR.items():
        text = re.sub(placeholder, value, text)
    words = shlex.split(text)[1:]
    assert words, where
    try:
        parse(words)
    except typer.Exit as end:  # of --help and its like
        assert end.exit_code == 0, where
    except Exception as error:
        said = type(error).__name__
        if said == "BadParameter" and "does not exist" in str(error):
            return  # a file of the reader's
        # A sentence may name a command without giving it what it asks for.
        incomplete = said in ("MissingParameter", "NoArgsIsHelpError")
        assert incomplete and len(words) == 1, f"{where}: {error}"


def test_the_parser_of_this_test_refuses() -> None:
    for words in (
        ["runn"],
        ["stop", "--outt", "x"],
        ["schema", "infer", "--nothing"],
        ["stop", "x"],
    ):
        with pytest.raises(Exception, match=r"No such|unexpected extra"):
            parse(words)


def test_there_are_commands_to_look_at() -> None:
    assert len(commands()) > 40


@pytest.mark.parametrize("folder", ["build/run", "my runs/[old] it's", "plain"])
def test_what_a_run_prints_at_its_end_can_be_pasted(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = Workspace.at(Path(folder))
    deployment = Deployment(
        name="shop", endpoint="http://127.0.0.1:8080", target="local", model_version="1",
        model_hash="a" * 64, inference_log="",
    )  # fmt: skip
    screen = StringIO()
    result = RunResult(project="shop", deployment=deployment)
    show_result(Console(file=screen, width=60), result, workspace)
    lines = screen.getvalue().splitlines()
    (experiments,) = [line for line in lines if "mlflow ui" in line]
    words = shlex.split(experiments.partition("experiments")[2])
    # As short as it can be: from here.
    assert words == ["mlflow", "ui", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    assert Path(words[3].removeprefix("sqlite:///")).resolve() == workspace.root / "mlflow.db"
    (stop,) = [line for line in lines if "slipway stop" in line]
    words = shlex.split(stop.partition("predictor")[2])
    assert words[:2] == ["slipway", "stop"]
    # From here, the command finds the folder of this run.
    named = [] if folder == "build/run" else ["--out", folder]
    assert words[2:] == named
    parse(words[1:])


@pytest.mark.parametrize("folder", [".", "plain", "my runs/[old] it's; rm -rf x"])
def test_what_init_says_comes_next_can_be_pasted(folder: str) -> None:
    """The shell gets the folder as one word, whatever it is called."""
    said = next_command(Path(folder))
    *there, last = said.rsplit(" && ", 1)
    assert last == "slipway run"
    parse(shlex.split(last)[1:])
    assert [shlex.split(part) for part in there] == ([["cd", folder]] if folder != "." else [])
