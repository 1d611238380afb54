"""`slipway new component`: what it writes fits into a project, and into a checkout, and passes there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.commands.cli import app
from slipway.commands.new.locks import lock_text, read_lock
from slipway.components.support.errors import ProjectError

ROOMS = "cluster commands components examples images local manifests pipelines serving stack"
BIN = Path(sys.executable).parent
# Of the suite, what looks at every stage or image; of one that has a case for each, the new one's.
FITS = (
    "not (ingest or train or evaluate or deploy or monitor) and not wheels_for_each and not torch"
)


def new(name: str, folder: Path) -> str:
    done = CliRunner().invoke(app, ["new", "component", name, "--out", str(folder)])
    if done.exception:
        raise done.exception
    return done.output


def call(folder: Path, *command: str | Path, code: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_in_a_project_its_test_passes_and_its_face_compiles(
    repository: Path, tmp_path: Path
) -> None:
    said = new("keep_paid", tmp_path)
    assert sorted(files(tmp_path)) == [
        "components/keep_paid/README.md",
        "components/keep_paid/__init__.py",
        "components/keep_paid/component.py",
        "components/keep_paid/keep_paid.py",
        "images/keep_paid/Dockerfile",
        "images/keep_paid/requirements.txt",
        "tests/test_keep_paid.py",
    ]
    assert said.splitlines()[-1].endswith("python -m pytest tests/test_keep_paid.py")
    call(tmp_path, "ruff", "format", "--config", repository / "pyproject.toml", "--check", ".")
    assert "4 passed" in call(tmp_path, "python", "-m", "pytest", "tests/test_keep_paid.py", "-q")
    face = "components/keep_paid/component.py"
    call(tmp_path, "kfp", "dsl", "compile", "--py", face, "--output", "keep_paid.yaml")
    assert "image: keep_paid:0.1.0" in (tmp_path / "keep_paid.yaml").read_text()


def test_the_test_that_is_written_notices_a_work_that_keeps_everything(tmp_path: Path) -> None:
    new("keep_paid", tmp_path)
    work = tmp_path / "components/keep_paid/keep_paid.py"
    text = work.read_text()
    work.write_text(text.replace("batch.filter(pc.is_valid(batch[name]))", "batch"))
    assert work.read_text() != text
    said = call(tmp_path, "python", "-m", "pytest", "tests/test_keep_paid.py", "-q", code=1)
    assert "2 failed, 2 passed" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my-Stage", "Say my_stage"),
        ("2nd", "a letter first"),
        ("_hidden", "Say hidden"),
        ("a" * 41, "41 characters"),
        ("train", "Slipway has"),
        ("report_end", "Slipway has"),
        ("contracts", "Slipway has"),
        ("lambda", "Python has"),
        ("json", "Python has"),
        ("", "a letter first"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=said):
        new(name, tmp_path)
    assert files(tmp_path) == {}


def test_nothing_that_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "images/dedupe").mkdir(parents=True)
    (tmp_path / "images/dedupe/Dockerfile").write_text("FROM mine\n")
    with pytest.raises(ProjectError, match="images/dedupe/Dockerfile: there already"):
        new("dedupe", tmp_path)
    assert files(tmp_path) == {"images/dedupe/Dockerfile": b"FROM mine\n"}


@pytest.fixture(scope="module")
def checkout(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout in which a component was made; what runs there sees no other checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=repository, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listing.stdout.rstrip("\0").split("\0"):
        if (repository / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(repository / name, folder / name)
    who = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
    for step in (("init", "--quiet"), ("add", "-A"), (*who, "commit", "--quiet", "-m", "c")):
        subprocess.run(["git", "-C", folder, *step], check=True)
    (folder / "build/path/slipway").mkdir(parents=True)
    for room in ROOMS.split():
        (folder / "build/path/slipway" / room).symlink_to(folder / room)
    new("keep_paid", folder)
    inside(folder, "python", "-m", "slipway.commands.stage_pages")
    inside(folder, "ruff", "check", "--fix-only", "--quiet", ".")
    inside(folder, "ruff", "format", "--quiet", ".")
    return folder


def inside(folder: Path, *command: str | Path) -> str:
    return call(folder, *command, PYTHONPATH=str(folder / "build/path"))


def test_in_a_checkout_it_is_a_stage_like_the_others(checkout: Path) -> None:
    page = (checkout / "components/keep_paid/README.md").read_text()
    assert "| output | `result` | Dataset | The same tables without those rows. |" in page
    inside(checkout, "ruff", "check", ".")
    chosen = (
        "tests/components/keep_paid",
        "tests/test_arrows.py",
        "tests/test_package.py::test_every_package_of_the_tree_is_named_once",
        "tests/images/test_images_locks.py",
        "tests/images/test_images_affected.py",
    )
    said = inside(checkout, "python", "-m", "pytest", *chosen, "-k", FITS, "-q")
    assert " failed" not in said
    assert "keep_paid" in (checkout / "images/images.lock.yaml").read_text()


def test_in_a_checkout_it_is_compiled_with_the_others(checkout: Path) -> None:
    program = (
        "from pathlib import Path\n"
        "from slipway.components.config.project import load_project\n"
        "from slipway.pipelines.compiler import compile_project\n"
        "compile_project(load_project(Path('examples/flights')), Path('build/compiled'))\n"
    )
    inside(checkout, "python", "-c", program)
    made = (checkout / "build/compiled/components/keep_paid.yaml").read_text()
    assert "image: slipway/keep_paid:" in made
    assert files(checkout / "build/compiled") == {
        **files(checkout / "compiled"),
        "components/keep_paid.yaml": made.encode(),
    }


@pytest.mark.parametrize("image", ["validate", "predictor", "monitor"])
def test_a_lock_without_an_index_is_the_one_that_the_index_gave(
    image: str, repository: Path, tmp_path: Path
) -> None:
    folder = repository / "images" / image
    asked = (folder / "requirements.in").read_text().splitlines()
    names = [line.strip() for line in asked if line.strip() and not line.startswith("#")]
    made = tmp_path / "requirements.lock"
    made.write_text(lock_text(repository, names))
    assert read_lock(made) == read_lock(folder / "requirements.lock")
