"""What the workflows and Dockerfiles promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = [
    *(ROOT / ".github" / "workflows").glob("*.yaml"),
    *(ROOT / "manifests/ci").glob("*.yaml"),
]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_actions_are_pinned_by_commit(path: Path) -> None:
    used = re.findall(r"uses: *['\"]?([^\s'\"]+)", path.read_text())
    floating = [name for name in used if not re.fullmatch(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40}", name)]
    assert floating == []


def test_one_version_of_an_action_is_one_commit() -> None:
    commits: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for name, commit in re.findall(r"uses: (\S+)@([0-9a-f]{40})", path.read_text()):
            commits.setdefault(name, set()).add(commit)
    assert {name: found for name, found in commits.items() if len(found) > 1} == {}


def test_the_images_workflow_builds_audits_pushes_signs_and_compiles() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/images.yaml").read_text())["jobs"]
    assert list(jobs) == ["affected", "build", "compile"]
    text = "\n".join(str(step) for job in jobs.values() for step in job["steps"])
    steps = ("audit", "build", "sbom", "push")
    others = (
        "cosign sign",
        "cosign attest",
        "attest-build-provenance",
        "diff --exit-code compiled",
    )
    for part in (*(f"images.{step}" for step in steps), *others):
        assert part in text, part
    pushing = ("Push", "Log in", "Keep the digest", "Provenance")
    named = {step.get("name"): step for step in jobs["build"]["steps"]}
    assert all(named[name]["if"] == "github.event_name == 'push'" for name in pushing)


def test_every_change_is_checked_as_ci_does() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/check.yaml").read_text())["jobs"]
    assert {"run": ".ci/run"} in jobs["check"]["steps"]
    script = (ROOT / ".ci" / "run").read_text()
    order = [script.index(f"\nmake {target}") for target in ("lint", "engine", "images", "test")]
    assert order == sorted(order)
    assert "export CI=true" in script


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("FROM debian:12\nRUN apt-get update && apt-get install curl\n", "DL3008"),
        ("FROM debian:latest\n", "DL3007"),
    ],
)
def test_hadolint_fires(text: str, rule: str) -> None:
    assert rule in hadolint("-", text).stdout


@pytest.mark.parametrize(
    "path", sorted((ROOT / "images").glob("*/Dockerfile")), ids=lambda p: p.parent.name
)
def test_dockerfiles_are_clean_and_build_everywhere(path: Path) -> None:
    done = hadolint(str(path))
    assert done.returncode == 0, done.stdout
    text = path.read_text()
    for word in ("ENTRYPOINT", "# syntax", "--mount", "--chmod", "apt-get"):
        assert word not in text, word


def hadolint(path: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Runs hadolint on a file, or on text."""
    command = [Path(sys.executable).with_name("hadolint"), path]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)
