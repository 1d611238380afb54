"""A setting that a message names is one of the project file, whatever the label's kind."""

import ast
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from slipway.components.config.model import Project

ROOT = Path(__file__).parents[1]
SECTIONS = ("data", "features", "training", "gate", "deployment", "monitoring", "orchestration")
_SETTING = re.compile(rf"(?<![\w./-])(?:{'|'.join(SECTIONS)})(?:\.[a-z_0-9]+)+(?![\w(/])")
FILES = sorted(
    path
    for room in ("components", "local", "commands", "cluster", "stack", "pipelines")
    for path in (ROOT / room).rglob("*.py")
)
NO_SETTING = re.compile(r"\.(json|py|md|parquet|html|yaml)$|^features\.since_hours$")
"""Files, and a field of an artifact."""


def texts(tree: ast.AST) -> Iterator[str]:
    """The string literals that are no docstrings; of an f-string each part."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def inner(kind: Any) -> list[Any]:
    """The types that a field's value, or an entry of it, may be of."""
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Annotated:
        return inner(parts[0])
    return [kind] if not parts else [found for part in parts for found in inner(part)]


def resolves(setting: str) -> bool:
    """Whether a path leads to a field, or into a mapping whose keys are a project's own."""
    models: list[Any] = [Project]
    for name in setting.split("."):
        fields = [
            model.model_fields.get(name)
            or next((f for f in model.model_fields.values() if f.alias == name), None)
            for model in models
        ]
        found = [field for field in fields if field]
        if not found:
            return False
        kinds = [field.annotation for field in found]
        if any("dict" in str(kind).lower() for kind in kinds):
            return True
        models = [
            kind
            for each in kinds
            for kind in inner(each)
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
    return True


def test_every_setting_that_a_message_names_is_there() -> None:
    wrong = {}
    for path in FILES:
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            for setting in _SETTING.findall(text):
                if not NO_SETTING.search(setting) and not resolves(setting):
                    wrong.setdefault(f"{path.relative_to(ROOT)}", []).append(setting)
    assert not wrong


@pytest.mark.parametrize(
    ("setting", "there"),
    [
        ("gate.baseline.linear", True), ("gate.baseline.logistic", False), ("gate.metrics.r2", True),
        ("training.network.width", True), ("training.width", False), ("monitoring.rules.NO_DATA", True),
    ],
)  # fmt: skip
def test_what_is_found(setting: str, there: bool) -> None:
    assert resolves(setting) == there
