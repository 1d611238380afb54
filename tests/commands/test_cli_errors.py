"""The command's errors: one clear paragraph, the right exit code, a traceback only under --debug."""

import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SLIPWAY = Path(sys.executable).parent / "slipway"


@dataclass(frozen=True)
class Case:
    name: str
    arguments: list[str]
    code: int
    expected: str


CASES = [
    Case("unknown command", ["runn"], 2, "No such command 'runn'"),
    Case("unknown option", ["run", "--projct", "x"], 2, "No such option"),
    Case("bad runner", ["run", "--runner", "podman"], 2, "'podman' is not one of"),
    Case("no project", ["run", "--project", "{tmp}"], 2, r"no project\.yaml in .*--project"),
    Case("misspelled override", ["run", "--set", "gate.acu=1"], 2, "gate.acu. Did you mean auc"),
    Case("override without value", ["run", "--set", "gate.auc"], 2, "write KEY=VALUE"),
    Case("value out of range", ["run", "--set", "gate.auc=1.5"], 2, "must be at most 1"),
    Case("bad stretch", ["run", "--traffic", "week"], 2, "--traffic: 'week' is not a duration"),
    Case("graph of nothing", ["graph", "{tmp}/none.yaml"], 1, r"no .*none\.yaml.*slipway compile"),
    Case("compile into a file", ["compile", "--out", "{file}"], 1, "(?i)not a directory|exists"),
    Case(
        "missing data",
        [
            "run",
            "--set",
            "data.root={tmp}/lake",
            "--set",
            "deployment.port={port}",
            "--out",
            "{tmp}/run",
        ],
        1,
        r"Stage ingest failed.*{tmp}/lake",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_errors(case: Case, tmp_path: Path, repository: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with socket.socket() as probe:  # the default port may be someone else's here
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fill = {"{tmp}": str(tmp_path), "{file}": str(file), "{port}": str(port)}

    def filled(text: str) -> str:
        for name, value in fill.items():
            text = text.replace(name, value)
        return text

    done = subprocess.run(
        [SLIPWAY, *map(filled, case.arguments)], cwd=repository, capture_output=True, text=True
    )
    message = " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stderr).split())
    assert done.returncode == case.code, done.stdout + done.stderr
    assert re.search(filled(case.expected), message), message
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [SLIPWAY, "--debug", "run", "--project", str(tmp_path)], capture_output=True, text=True
    )
    assert "Traceback" in done.stderr
    assert "ProjectError" in done.stderr


COMMANDS = ["run", "compile", "graph", "stop", "rollback", "schema infer"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = subprocess.run([SLIPWAY, *command.split(), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert f"slipway {command}" in done.stdout.split("Example:")[1]
