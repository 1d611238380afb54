"""What a stage imports before its first line: the settings' models, and nothing that works."""

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from slipway.components.support.images import STAGES

# Pydantic reads the settings. What else a stage needs comes once they are read.
ALLOWED = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
# Of our own, what is slow to import and is of use only later.
LATER = (
    "slipway.components.metrics.kinds.binary",
    "slipway.components.metrics.kinds.multiclass",
    "slipway.components.metrics.kinds.number",
    "slipway.components.evaluate.card",
    "slipway.components.evaluate.evidence",
    "slipway.components.monitor.measures",
    "slipway.components.monitor.report",
)
REPORT = """
import sys
for name in sorted(sys.modules):
    print(name)
"""


def modules_of(code: str) -> set[str]:
    """What a new interpreter has imported after the code, beyond what it starts with."""

    def listed(code: str) -> set[str]:
        command = [sys.executable, "-c", code + REPORT]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    return listed(code) - listed("")


def imports_of(stage: str) -> str:
    """The imports of a stage's faces, which stand before the call of its work."""
    spec = find_spec(f"slipway.components.{stage}.component")
    assert spec and spec.origin
    tree = ast.parse(Path(spec.origin).read_text())
    faces = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    found = [n for face in faces for n in face.body if isinstance(n, ast.ImportFrom | ast.Import)]
    return "".join(f"{ast.unparse(node)}\n" for node in found)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_library_before_its_first_line(stage: str) -> None:
    code = imports_of(stage)
    assert f"slipway.components.{stage}." in code
    modules = modules_of(code)
    packages = {name.partition(".")[0] for name in modules}
    own = {name for name in packages if name.startswith("_sysconfigdata")}  # Python's, by machine
    assert packages - own - sys.stdlib_module_names - ALLOWED == {"slipway"}
    assert [name for name in sorted(modules) if name.startswith(LATER)] == []


def test_an_import_that_comes_too_early_is_seen() -> None:
    assert "numpy" in modules_of("import slipway.components.monitor.measures.sketch\n")
