"""The arrows between packages run one way (see [tool.importlinter] in pyproject.toml)."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from slipway.commands import stage_pages
from slipway.components.config.model import Project
from slipway.pipelines import compiler

# Where a program that another image has has its name.
PODS = "slipway.components.contracts.endpoint"


def test_arrows(repository: Path) -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


ROOMS = ("serving", "pipelines", "cluster", "stack", "local", "commands", "images", "examples")


@functools.cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(
        "slipway.components", *(f"slipway.{room}" for room in ROOMS), cache_dir=None
    )


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside a function and those for a type checker alone count too."""
    arrows = {name: graph().find_modules_directly_imported_by(name) for name in graph().modules}
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_module_that_is_named_in_a_text_is_imported_there_or_of_the_same_room(
    repository: Path,
) -> None:
    """What a room starts as a process is an arrow too: `python -m` takes a module's own __name__.

    What a pod starts, whose image the room that asks for it is not in, has its name in one place.
    """
    hidden = []
    for name in sorted(graph().modules):
        for target in named(repository, name) & graph().modules:
            if room(target) != room(name) and not imports(name, target) and name != PODS:
                hidden.append(f"{name} names {target}")
    assert hidden == []
    assert named(repository, PODS) & graph().modules


def room(module: str) -> str:
    """The folder that a module belongs to: a stage, or one at the top."""
    parts = module.split(".")
    return ".".join(parts[: 3 if parts[1] == "components" else 2])


def imports(module: str, target: str) -> bool:
    found = graph().find_modules_directly_imported_by(module)
    return any(one == target or one.startswith(f"{target}.") for one in found)


def named(repository: Path, module: str) -> set[str]:
    """Modules of ours that stand in a module's texts, docstrings and descriptions left out."""
    path = repository / module.removeprefix("slipway.").replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text())
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    prose |= {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "description"
    }
    return {
        found
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
        for found in re.findall(r"slipway(?:\.[a-z_]+)+", node.value)
    }


@pytest.mark.parametrize("stage", compiler.packages())
def test_every_stage_has_its_face_its_work_and_its_page(repository: Path, stage: str) -> None:
    folder = repository / "components" / stage
    for name in ("component.py", f"{stage}.py", "README.md"):
        assert (folder / name).is_file(), f"components/{stage}/{name}"
    page = folder / "README.md"
    assert stage_pages.renewed(page, stage) == page.read_text(), "stale: run `make compile`"
    assert "| input |" in page.read_text()


@pytest.mark.parametrize("section", stage_pages.SECTIONS.values())
def test_every_setting_says_what_it_is_where_it_stands(section: str) -> None:
    fields = dict(stage_pages.leaves(Project.model_fields[section].annotation))
    assert fields
    assert [key for key, field in fields.items() if not field.description] == []


PICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def _unpickles(tree: ast.Module) -> list[str]:
    """What in a module reads, or could read, objects that carry code."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in PICKLERS]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").split(".")[0] in PICKLERS else []
        elif isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if call == "torch.load" and given.get("weights_only") != "True":
                found.append(ast.unparse(node))
            if given.get("allow_pickle") == "True":
                found.append(ast.unparse(node))
    return found


def test_nothing_unpickles(repository: Path) -> None:
    files = [
        path
        for room in (*ROOMS, "components")
        for path in (repository / room).rglob("*.py")
        if "__pycache__" not in path.parts
    ]
    assert len(files) > 200
    assert {
        str(path): found for path in files if (found := _unpickles(ast.parse(path.read_text())))
    } == {}


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from joblib import load", "torch.load(f)", "np.load(f, allow_pickle=True)"],
)
def test_what_unpickles_is_seen(text: str) -> None:
    assert _unpickles(ast.parse(text))
