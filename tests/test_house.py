"""Bounds of the house that only ever shrink: long functions, many parameters, full folders, names that
two classes share, `Any`.

`python tests/test_house.py` prints the figures, and each place that counts.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "cluster", "commands", "components", "examples", "images", "local", "pipelines", "serving", "stack",
)  # fmt: skip
LINES, PARAMETERS, FILES = 60, 7, 15
# Lines with `Any` in an annotation. A change that needs more says why here.
ANY_LINES = 220

# Faces are flat: a parameter is one of the pipeline, or an option of the command. Their signatures do not
# count as lines.
FACES = {
    "component.py", "cli.py", "batch.py", "init.py", "prune.py", "retrain.py", "sign.py", "stack.py",
    "commands/cluster/pipelines.py", "commands/cluster/runs.py", "commands/cluster/schedules.py",
}  # fmt: skip
MANY_PARAMETERS = {
    "commands/sign.py": "options of the command, as of a face",
    "components/features/offline_store.py": "Feast's interface",
    "components/train/model/trained.py": "the parts of a trained model, each by its name",
    "components/ingest/shards.py": "the stage's parameters, each by its name",
    "components/support/retry.py": "settings with defaults",
    "components/metrics/kinds/choose.py": "settings with defaults",
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Our source, by path."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "recommendation-engine" not in path.parts:
                yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """All functions and methods."""
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def is_face(path: str) -> bool:
    """Whether a module's parameters are those of a pipeline or of a command."""
    return path in FACES or Path(path).name in FACES


def long_functions() -> list[str]:
    """Functions whose lines are too many; of a face those below the signature."""
    found = []
    for path, node in functions():
        first = node.body[0].lineno if is_face(path) else node.lineno
        if (lines := (node.end_lineno or 0) - first + 1) > LINES:
            found.append(f"{path}: {node.name} has {lines} lines")
    return found


def wide_functions() -> list[str]:
    """Functions with too many parameters, `self` not counted; faces and `MANY_PARAMETERS` left out."""
    found = []
    for path, node in functions():
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len(given) - (bool(given) and given[0].arg in ("self", "cls"))
        if count > PARAMETERS and not is_face(path) and path not in MANY_PARAMETERS:
            found.append(f"{path}: {node.name} takes {count}")
    return found


def full_folders() -> list[str]:
    """Folders with too many modules."""
    count = Counter(str(Path(path).parent) for path, _ in modules())
    return [f"{folder} has {files} files" for folder, files in count.items() if files > FILES]


def any_lines() -> list[str]:
    """Lines that name `Any`, imports left out."""
    return [
        f"{path}:{line}"
        for path, tree in modules()
        for line in sorted(
            {n.lineno for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "Any"}
        )
    ]


def shared_names() -> list[str]:
    """Names that more than one class has: who reads one of them has to look up which it is."""
    places: dict[str, list[str]] = {}
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(path)
    return [f"{name} is in {', '.join(paths)}" for name, paths in places.items() if paths[1:]]


@pytest.mark.parametrize(
    "find",
    [long_functions, wide_functions, full_folders, shared_names],
    ids=lambda find: find.__name__,
)
def test_nothing_grows_beyond_its_bound(find) -> None:
    assert find() == []


def test_any_only_shrinks() -> None:
    lines = any_lines()
    assert len(lines) <= ANY_LINES, "a record, a TypedDict or object, where the shape is known"
    assert len(lines) > ANY_LINES - 60, "fewer: lower ANY_LINES"


def test_what_is_allowed_is_there() -> None:
    there = {path for path, _ in modules()}
    assert MANY_PARAMETERS.keys() <= there
    assert there | {Path(path).name for path in there} >= FACES


if __name__ == "__main__":
    for name, found in (
        ("functions above 60 lines", long_functions()),
        ("functions above 7 parameters", wide_functions()),
        ("folders above 15 files", full_folders()),
        ("names of two classes", shared_names()),
        ("lines with Any", any_lines()),
    ):
        print(f"{name}: {len(found)}", *found[:400], sep="\n  ", file=sys.stdout)
