"""The Python that the pages show: what it imports of Slipway is there and takes what it is given."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "components").glob("*/*.md")]
BLOCKS = [
    pytest.param(block, id=f"{path.relative_to(ROOT)}-{number}")
    for path in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
    if "slipway" in block
]


def check(block: str) -> int:
    """Imports what is Slipway's and binds each call of it to its signature; says how much there was."""
    tree, ours, calls = ast.parse(block), {}, 0
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slipway"):
            module = importlib.import_module(str(node.module))
            ours.update({alias.name: getattr(module, alias.name) for alias in node.names})
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ours:
            keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            inspect.signature(ours[node.func.id]).bind(*node.args, **keywords)
            calls += 1
    return calls + len(ours)


@pytest.mark.parametrize("block", BLOCKS)
def test_what_a_page_calls_takes_what_it_is_given(block: str) -> None:
    assert check(block) >= 1


def test_another_keyword_is_found() -> None:
    start = "from slipway.components.evaluate.evaluate import evaluate_model\n"
    with pytest.raises(TypeError, match="task"):
        check(f"{start}evaluate_model(bundle=1)")
