"""docs/start/levels.md: what a team types on levels 1 and 2 runs as it stands, in this order."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kfp_double import Double
from typer.testing import CliRunner

from slipway.commands.cli import app
from slipway.components.support.images import LOCK

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "start" / "levels.md").read_text()
# Asks a cluster's own API, for which it has tests of its own (test_cluster_doctor.py).
ELSEWHERE = ("slipway doctor",)


def commands(level: int) -> list[str]:
    section = PAGE.partition(f"## Level {level}:")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [line for line in block.splitlines() if line not in ELSEWHERE]


def type_in(command: str) -> str:
    words = shlex.split(command)[1:]
    if "--wait" in words:
        words += ["--every", "0s"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"{command}: {done.output} {done.exception}"
    return done.output


@pytest.fixture
def team(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the flights, deployed to KServe, and images that have digests."""
    example = repository / "examples" / "flights"
    shutil.copytree(example / "schemas", tmp_path / "schemas")
    project: dict[str, Any] = yaml.safe_load((example / "project.yaml").read_text())
    project.setdefault("deployment", {})["target"] = "kserve"
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(project, sort_keys=False))
    names = yaml.safe_load(LOCK.read_text())["images"]
    lock = {name: f"registry.example/{name}@sha256:{'0' * 64}" for name in names}
    (tmp_path / "images.yaml").write_text(yaml.safe_dump({"images": lock}))
    monkeypatch.setenv("SLIPWAY_IMAGES", str(tmp_path / "images.yaml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_level_1_then_level_2(team: Path, kubeflow_server: Double) -> None:
    said = {command: type_in(command) for command in commands(1)}
    assert len(said) == 5
    assert (team / "manifests/overlays/aws").is_dir()
    assert said["slipway upload"].count(" uploaded") == 5
    assert "Verdict: PASS" in said["slipway submit --wait"]
    assert len(kubeflow_server.recurring) == 1

    shutil.copytree(team / "compiled", team / "main/compiled")
    type_in("slipway compile --cluster --set data.root=s3://bucket/lake --set gate.auc=0.76")
    said = {command: type_in(command) for command in commands(2)}
    assert len(said) == 3
    (shown,) = [text for command, text in said.items() if " diff " in command]
    assert "gate_auc" in shown and "0.76" in shown
    assert (team / ".github/workflows/promote.yaml").is_file()
    (uploaded,) = [text for command, text in said.items() if " upload " in command]
    assert " uploaded" in uploaded
