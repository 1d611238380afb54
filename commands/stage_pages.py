"""Writes each stage's inputs and outputs into its README, from its face.

    python -m slipway.commands.stage_pages        # `make compile` does

The table stands between two marks, and takes the place of the one that stood there; the rest of the page
is a person's.
"""

import importlib
from pathlib import Path
from typing import Any

import docstring_parser

from slipway.components.support import files
from slipway.components.support.errors import SlipwayError
from slipway.components.support.images import STAGES

FOLDER = Path(__file__).resolve().parents[1] / "components"
START, END = "<!-- inputs and outputs: from component.py, by `make compile` -->", "<!-- end -->"


def main() -> None:
    """Renews the table in every stage's README."""
    for stage in STAGES:
        page = FOLDER / stage / "README.md"
        files.write_text(page, renewed(page, stage))


def renewed(page: Path, stage: str) -> str:
    """A page's text with the table that its stage's face gives now.

    Raises:
        SlipwayError: the page lacks the marks.
    """
    text = page.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise SlipwayError(
            f"{page} lacks the lines {START} and {END}: the table goes between them."
        )
    return f"{before}{START}\n{_table(stage)}{END}{after}"


def _table(stage: str) -> str:
    """Markdown: a row an input, then a row an output."""
    face: Any = getattr(importlib.import_module(f"slipway.components.{stage}.component"), stage)
    explained = {
        parameter.arg_name: " ".join((parameter.description or "").split())
        for parameter in docstring_parser.parse(face.python_func.__doc__).params
    }
    returned = docstring_parser.parse(face.python_func.__doc__).returns
    explained["Output"] = " ".join(((returned and returned.description) or "").split())
    rows = ["| | name | type | |", "| --- | --- | --- | --- |"]
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
