"""Only images that a change takes part in are rebuilt."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from slipway.commands.cluster.images import images_app
from slipway.components.support.errors import ProjectError
from slipway.components.support.images import LOCK
from slipway.images import plan

ALL = sorted(yaml.safe_load(LOCK.read_text())["images"])


@dataclass(frozen=True)
class Case:
    name: str
    changed: list[str]
    expected: list[str]


CASES = [
    Case("nothing", [], []),
    Case("code of one stage", ["components/train/loop.py"], ["train"]),
    Case("a new file of one stage", ["components/ingest/orc/reader.py"], ["ingest"]),
    Case("a name that only begins like a stage", ["components/training/x.py"], []),
    Case("lock of one image", ["images/features/requirements.lock"], ["features"]),
    Case("what a lock is made from", ["images/features/requirements.in"], []),
    Case("Dockerfile", ["images/monitor/Dockerfile"], ["monitor"]),
    Case("torch", ["images/torch-cpu.lock"], ["train"]),
    Case("CUDA build of torch", ["images/torch-cuda.lock"], ["train"]),
    Case("predictor, which evaluate rehearses", ["serving/app.py"], ["evaluate", "predictor"]),
    Case("contracts", ["components/contracts/splits.py"], ALL),
    Case("base", ["images/base/requirements.lock"], ALL),
    Case("base's Dockerfile", ["images/base/Dockerfile"], ALL),
    Case("installer", ["images/base/install.sh"], ALL),
    Case("a page", ["components/train/README.md", "docs/images.md"], []),
    Case("wiring and tests", ["local/run.py", "tests/images/x.py", "pyproject.toml"], []),
    Case(
        "two stages",
        ["components/train/loop.py", "components/deploy/deploy.py"],
        ["deploy", "train"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_affected(case: Case) -> None:
    assert plan.affected(case.changed) == case.expected


def test_every_source_of_a_dockerfile_exists() -> None:
    for image in plan.read_images().values():
        for source in image.sources:
            assert (plan.ROOT / source).exists(), f"{image.name}: {source}"
    assert sorted(plan.read_images()) == ALL


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of its own with the images' sources, in one commit."""
    for image in plan.read_images().values():
        for source in image.sources:
            target = tmp_path / source
            if (plan.ROOT / source).is_dir():
                target.mkdir(parents=True, exist_ok=True)
                (target / "code.py").write_text("x = 1\n")
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(plan.ROOT / source, target)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    commit(tmp_path)
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(root), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path) -> str:
    git(root, "add", "-A")
    git(root, "commit", "--quiet", "--allow-empty", "-m", "c")
    return git(root, "rev-parse", "HEAD")


def test_git_tells_what_changed(checkout: Path) -> None:
    assert plan.changed_since("HEAD", checkout) == []
    (checkout / "components/train/code.py").write_text("x = 2\n")  # in the working tree
    (checkout / "components/ingest/new.py").write_text("")  # not yet known to git
    (checkout / "components/monitor/code.py").unlink()  # deleted
    assert plan.affected(plan.changed_since("HEAD", checkout), checkout) == [
        "ingest",
        "monitor",
        "train",
    ]
    commit(checkout)
    assert plan.affected(plan.changed_since("HEAD~1", checkout), checkout) == [
        "ingest",
        "monitor",
        "train",
    ]
    assert plan.affected(plan.changed_since("HEAD", checkout), checkout) == []


def test_a_moved_file_touches_both_images(checkout: Path) -> None:
    (checkout / "components/ingest/code.py").rename(checkout / "components/validate/moved.py")
    commit(checkout)
    assert plan.affected(plan.changed_since("HEAD~1", checkout), checkout) == ["ingest", "validate"]


def test_an_image_keeps_its_revision_while_nothing_of_it_changes(checkout: Path) -> None:
    first = git(checkout, "rev-parse", "HEAD")
    (checkout / "components/train/code.py").write_text("x = 2\n")
    second = commit(checkout)
    images = plan.read_images(checkout)
    assert plan.last_change(images["train"], checkout)[0] == second
    assert plan.last_change(images["deploy"], checkout)[0] == first


def test_without_git_an_image_has_no_revision(tmp_path: Path) -> None:
    image = plan.Image(name="train", sources=("components/train",))
    assert plan.last_change(image, tmp_path) == ("", 0)


def test_the_command_lists_images() -> None:
    result = CliRunner().invoke(images_app, ["affected", "--since", "HEAD", "--json"])
    assert result.exit_code == 0
    assert result.stdout.startswith("[")


def test_an_unknown_revision_is_named() -> None:
    result = CliRunner().invoke(images_app, ["affected", "--since", "no-such-branch"])
    assert isinstance(result.exception, ProjectError)
    assert "no-such-branch" in str(result.exception)
