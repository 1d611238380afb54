"""Writes each stage's inputs, outputs and settings into its README, from its face and its section.

    python -m slipway.commands.stage_pages        # `make compile` does

A table stands between two marks, and takes the place of the one that stood there; the rest of the page is
a person's.
"""

import importlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import docstring_parser
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from slipway.components.config.base import format_duration
from slipway.components.config.model import Project
from slipway.components.support import files
from slipway.components.support.errors import SlipwayError
from slipway.components.support.expressions.functions import FUNCTIONS, TYPES
from slipway.pipelines.compiler import COMPONENTS as FOLDER
from slipway.pipelines.compiler import packages

START, END = "<!-- inputs and outputs: from component.py, by `make compile` -->", "<!-- end -->"
SETTINGS = "<!-- settings: from components/config, by `make compile` -->"
EXPRESSIONS = "<!-- expressions: from components/support/expressions, by `make compile` -->"
# The section of the project file that a stage reads; validate and register have none.
SECTIONS = {
    "ingest": "data",
    "features": "features",
    "train": "training",
    "evaluate": "gate",
    "deploy": "deployment",
    "monitor": "monitoring",
}


def main() -> None:
    """Renews the tables in every stage's README."""
    for stage in packages():
        page = FOLDER / stage / "README.md"
        files.write_text(page, renewed(page, stage))


def renewed(page: Path, stage: str) -> str:
    """A page's text with the tables that its stage's face and settings give now.

    Raises:
        SlipwayError: the page lacks the marks.
    """
    text = _replaced(page, page.read_text(encoding="utf-8"), START, _table(stage))
    if stage in SECTIONS:
        text = _replaced(page, text, SETTINGS, settings_table(SECTIONS[stage]))
    if stage == "features":
        text = _replaced(page, text, EXPRESSIONS, functions_table())
    return text


def _replaced(page: Path, text: str, mark: str, table: str) -> str:
    before, start, rest = text.partition(mark)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise SlipwayError(f"{page} lacks the lines {mark} and {END}: the table goes between them.")
    return f"{before}{mark}\n{table}{END}{after}"


def functions_table() -> str:
    """Markdown: a row for each operator and function of an expression."""
    rows = ["| form | takes | gives | meaning |", "| --- | --- | --- | --- |"]
    for name, function in FUNCTIONS.items():
        more = ", …" if function.more else ""
        takes = " or ".join(", ".join(form) + more for form in function.takes)
        kinds = dict.fromkeys(g if g in TYPES.values() else "that type" for g in function.gives)
        gives = " or ".join(kinds)
        rows.append(f"| `{name}` | {takes} | {gives} | {function.means} |")
    return "\n".join(rows) + "\n"


def settings_table(name: str) -> str:
    """Markdown: a row for each setting of a section, those of its parts below their part's name.

    Args:
        name: of the section in the project file.
    """
    section: Any = Project.model_fields[name].annotation
    rows = [f"| setting (below `{name}`) | default | meaning |", "| --- | --- | --- |"]
    for key, field in leaves(section):
        text = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{key}` | {default(field)} | {text} |")
    return "\n".join(rows) + "\n"


def leaves(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The settings of a section and of the sections in it: the key's path, and the field."""
    for name, field in section.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner, many = _section_in(field.annotation)
        if inner is None:
            yield key, field
        else:
            yield from leaves(inner, f"{key}{many}.")


def _section_in(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The section in a field's type, and the mark of a list or a table of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    origin = get_origin(annotation)
    if origin is Literal:
        return None, ""
    for argument in get_args(annotation):
        inner, many = _section_in(argument)
        if inner is not None:
            return inner, {list: "[]", dict: ".<name>"}.get(origin, "") + many
    return None, ""


def default(field: FieldInfo) -> str:
    """A setting's default as Markdown; a dash where one must be given."""
    if field.is_required():
        return "–"
    value = field.get_default(call_default_factory=True)
    if value is None or value == "":
        return ""
    shown = format_duration(value) if isinstance(value, timedelta) else to_jsonable_python(value)
    return f"`{shown if isinstance(shown, str) else json.dumps(shown)}`"


def _table(stage: str) -> str:
    """Markdown: a row an input, then a row an output."""
    face: Any = getattr(importlib.import_module(f"slipway.components.{stage}.component"), stage)
    explained = {
        parameter.arg_name: " ".join((parameter.description or "").split())
        for parameter in docstring_parser.parse(face.python_func.__doc__).params
    }
    returned = docstring_parser.parse(face.python_func.__doc__).returns
    explained["Output"] = " ".join(((returned and returned.description) or "").split())
    rows = ["| way | name | type | meaning |", "| --- | --- | --- | --- |"]
    spec = face.component_spec
    for kind, values in (("input", spec.inputs), ("output", spec.outputs)):
        for name, value in (values or {}).items():
            shown = value.type.split("@")[0].removeprefix("system.")
            default = getattr(value, "default", None)
            text = explained.get(name, "")
            if getattr(value, "optional", False) and default not in (None, ""):
                text += f" Default: `{default}`."
            rows.append(f"| {kind} | `{name}` | {shown} | {text} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
