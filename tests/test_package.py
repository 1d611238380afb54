"""What is built from this tree, installed and used: the wheel, its data, and what each extra needs."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slipway.components.support.libraries.extras import DISTRIBUTION

# Folders that install as slipway.<name>, and what of them is of use in a checkout alone.
NOT_SHIPPED = re.compile(
    r"images/(.+/.*|engine\.sh|audit\.allow|torch-\w+\.lock|\.gitignore)$", re.ASCII
)
# What a command may import when it starts; everything else inside the function that needs it.
LIGHT = ("commands", "pipelines", "cluster", "stack", "local")
LIGHT += ("components/config", "components/contracts", "components/support")
# The whole way on two months and one epoch: whether it runs, not how good the model is.
MAIN_JOB = {
    "data.window": "{start: 2013-05-01T04:00:00Z, end: 2013-07-01T04:00:00Z}",
    "features.split": "{validation: 7d, test: 14d, gap: 1d}",
    "training.network": "{architecture: mlp}",
    "training.epochs": "3",
    "training.members": "1",
    "gate": "{auc: 0.51, accuracy: 0.3, f1: 0.1, calibration_error: 0.5, baseline: {linear: false}}",
    "deployment.port": "8197",
}


@pytest.fixture(scope="session")
def tree(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git would have, so that nothing left over from an earlier build is in the wheel."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=repository, capture_output=True, text=True, check=True,
    )  # fmt: skip
    copy = tmp_path_factory.mktemp("tree")
    for name in listing.stdout.rstrip("\0").split("\0"):
        if (repository / name).is_file():  # one that was deleted is listed until it is committed
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(repository / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--no-build-isolation", "--out-dir", str(folder), str(tree))
    [built] = folder.glob("*.whl")
    return built


def uv(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("uv")), *arguments]
    if arguments[0] == "build":
        command[2:2] = ["--python", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def environment(folder: Path, wheel: Path, extra: str) -> Path:
    """A fresh environment that has the wheel, what it asks for with one extra, and nothing else.

    The packages are this environment's, file by file: an installation as pip makes it, without a network.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [site] = (folder / "lib").glob("*/site-packages")
    for name in sorted(closure(wheel, extra)):
        for file in metadata.distribution(name).files or ():
            source, target = Path(str(file.locate())), site / file
            if ".." not in file.parts and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    os.link(source, target)
    uv(
        "pip",
        "install",
        "--no-deps",
        "--offline",
        "--python",
        str(folder / "bin/python"),
        str(wheel),
    )
    return folder / "bin" / "slipway"


def closure(wheel: Path, extra: str) -> set[str]:
    """Names of all distributions that the wheel requires with an extra ("": the base), theirs too."""
    found: set[str] = set()
    waiting = [(DISTRIBUTION, extra)]
    seen = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        own = name == DISTRIBUTION
        for text in (built(wheel) if own else metadata.distribution(name)).requires or ():
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": wanted}):
                continue
            inner = canonicalize_name(requirement.name)
            if not is_here(inner):
                continue  # an optional part of another platform, or torch's CUDA packages
            waiting += [(inner, more) for more in ("", *requirement.extras)]
            found.add(inner)
    return found - {DISTRIBUTION}


def built(wheel: Path) -> metadata.Distribution:
    [folder] = [path for path in zipfile.Path(wheel).iterdir() if path.name.endswith(".dist-info")]
    return metadata.PathDistribution(folder)  # type: ignore[arg-type]


def is_here(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A user's own folder: it has packages named as ours are, and as a library; each breaks at import."""
    folder = tmp_path / "work"
    for name in ("components", "pipelines", "commands", "serving", "slipway", "yaml"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('the user's own {name}')\n")
    return folder


@pytest.fixture(scope="session")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("base") / "venv", wheel, "")


def slipway(command: Path, folder: Path, *arguments: str, code: int = 0) -> str:
    # MLflow leaves the address of the test before in the environment.
    ours = ("PYTHONPATH", "MLFLOW_", "FEAST_", "FEATURE_", "SLIPWAY_", "INFERENCE_", "MONITORING_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [command, *arguments], cwd=folder, capture_output=True, text=True, env=clean, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def shipped(tree: Path) -> Iterator[str]:
    """The files of the tree that belong in the wheel, as it names them."""
    project = packages_of(tree)
    for name, folder in project.items():
        for path in (tree / folder).rglob("*"):
            inside = path.relative_to(tree).as_posix()
            if path.is_file() and not NOT_SHIPPED.search(inside):
                yield f"{name.replace('.', '/')}/{path.relative_to(tree / folder).as_posix()}"


def packages_of(tree: Path) -> dict[str, str]:
    import tomllib

    settings = tomllib.loads((tree / "pyproject.toml").read_text())["tool"]["setuptools"]
    return dict(settings["package-dir"])


def test_the_wheel_holds_every_module_and_data_file_of_the_tree(tree: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == set(shipped(tree))


def test_every_package_of_the_tree_is_named_once(tree: Path) -> None:
    import tomllib

    settings = tomllib.loads((tree / "pyproject.toml").read_text())["tool"]["setuptools"]
    named = settings["packages"]
    folders = {
        f"{name}.{inside}".rstrip(".")
        for name, folder in settings["package-dir"].items()
        for path in (tree / folder).rglob("__init__.py")
        for inside in [
            path.parent.relative_to(tree / folder).as_posix().replace("/", ".").strip(".")
        ]
    }
    assert named == sorted({*folders, "slipway.manifests"})


def test_without_an_extra_all_that_needs_no_stage_works(
    base: Path, wheel: Path, hostile: Path
) -> None:
    said = slipway(base, hostile, "--version")
    assert said == f"slipway {built(wheel).version}\n"
    assert "pip install 'kfp-slipway[local]'" in slipway(base, hostile, "init")
    slipway(base, hostile, "compile")
    compiled = sorted(path.name for path in (hostile / "compiled").glob("*.yaml"))
    assert "flights-training.yaml" in compiled
    slipway(base, hostile, "stack", "render", "--cloud", "aws")
    assert (hostile / "manifests/base/deploy-role.yaml").is_file()
    training = "compiled/flights-training.yaml"
    assert "evaluate" in slipway(base, hostile, "graph", training)
    slipway(base, hostile, "diff", training, training, "--exit-code")
    for command in ("upload", "submit", "schedule", "runs", "logs", "doctor"):
        assert "Usage" in slipway(base, hostile, command, "--help")


def test_without_an_extra_what_needs_one_says_which(base: Path, hostile: Path) -> None:
    slipway(base, hostile, "init")
    said = slipway(base, hostile, "run", code=1)
    assert re.search(r"slipway run needs \w.+ and \d+ more", said)
    said = slipway(base, hostile, "score", code=1)
    assert "pip install 'kfp-slipway[local]'" in said
    said = slipway(base, hostile, "evidence", "flights@champion", code=1)
    assert "This needs mlflow, which is not installed." in said
    said = slipway(base, hostile, "status", code=1)
    assert "pip install 'kfp-slipway[cluster]'" in said


def test_the_cluster_extra_has_what_asks_the_stores(
    wheel: Path, hostile: Path, tmp_path: Path
) -> None:
    command = environment(tmp_path / "venv", wheel, "cluster")
    slipway(command, hostile, "init")
    assert "Nothing was monitored yet" in slipway(command, hostile, "status")
    said = slipway(command, hostile, "rollback", "--target", "local", code=1)
    assert "flights" in said
    assert "not installed" not in said


def test_a_folder_of_another_project_is_left_alone(base: Path, hostile: Path) -> None:
    (hostile / "project.yaml").write_text("project_name: mine\n")
    assert "project.yaml is there already" in slipway(base, hostile, "init", code=2)
    assert not (hostile / "schemas").exists()


@pytest.mark.slow
def test_the_main_job_runs_from_the_wheel_in_an_empty_folder(
    wheel: Path, hostile: Path, tmp_path: Path
) -> None:
    command = environment(tmp_path / "venv", wheel, "local")
    slipway(command, hostile, "init")
    changes = [text for key, value in MAIN_JOB.items() for text in ("--set", f"{key}={value}")]
    try:
        said = slipway(command, hostile, "run", *changes, "--traffic", "2d")
    finally:
        slipway(command, hostile, "stop")
    assert "Verdict: PASS" in said
    assert (hostile / "build/run/summary.json").is_file()


@pytest.mark.parametrize("room", LIGHT)
def test_a_command_starts_without_the_libraries_of_the_stages(
    repository: Path, wheel: Path, room: str
) -> None:
    mine = {canonicalize_name(name) for name in closure(wheel, "")}
    known = metadata.packages_distributions()
    heavy = {
        f"{path.relative_to(repository)}: {module}"
        for path in (repository / room).rglob("*.py")
        for module in imported_at_the_top(path)
        if not mine & {canonicalize_name(name) for name in known.get(module, [module])}
    }
    assert heavy == set()


def imported_at_the_top(path: Path) -> set[str]:
    """Third-party modules that are imported when the module is, those for type checkers left out."""
    names = set()
    waiting: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
        waiting += ast.iter_child_nodes(node)
    modules = {name.split(".")[0] for name in names}
    return modules - {"slipway", *sys.stdlib_module_names}
