"""What every command writes with: words wrap, paths are short, paths and commands stay in one piece.

Standard output is for people; under `--json` it holds one JSON document, and what is for people goes to
standard error. Without a terminal nothing is wrapped: a log has a line for each thing that is said.
"""

import json
import re
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from slipway.components.support.errors import visible

LOG_WIDTH = 120
# A command between backticks is one word: broken over two lines it could not be pasted.
_WORD = re.compile(r"\S*`[^`\n]*`\S*|\S+")
_ROOM = 24

console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH, highlight=False, emoji=False)
errors = Console(
    stderr=True, width=None if sys.stderr.isatty() else LOG_WIDTH, highlight=False, emoji=False
)
_json_wanted = False
_delivered = False


def reset_output() -> None:
    """Before each command: what the one before asked for, in the same process, is over."""
    _want_json(False)
    _want_quiet(False)


def _want_json(wanted: bool) -> None:
    global _json_wanted, _delivered
    _json_wanted, _delivered = wanted, False
    console.stderr = wanted


def _want_quiet(wanted: bool) -> None:
    console.quiet = wanted


AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON document on standard output; all else goes to standard error.",
        callback=_want_json,
        show_default=False,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print nothing but errors (and, with --json, the document).",
        callback=_want_quiet,
        show_default=False,
    ),
]


def deliver(answer: object, show: Callable[[], None]) -> None:
    """Gives what a command came to: as a JSON document where one is asked for, and else to a person.

    Args:
        answer: JSON values; docs/output.md has the shape of each command's.
        show: prints the same for a person.
    """
    global _delivered
    if _json_wanted:
        print(json.dumps(answer, indent=2, default=str))
        _delivered = True
    else:
        show()


def deliver_error(error: Exception) -> None:
    """Prints an error; under --json it is the document too, where none was given before it."""
    say(str(error), label=Text("error: ", "red"), to=errors)
    if _json_wanted and not _delivered:
        print(json.dumps({"error": str(error)}, indent=2))


def say(text: str, style: str = "", *, label: str | Text = "", to: Console | None = None) -> None:
    """Prints a paragraph, or several lines; on a terminal wrapped at words, below its label.

    Args:
        text: as it is: no markup. Spaces that it begins with are an indent of all its lines.
        style: of the text.
        label: what stands before it, in a column of its own.
        to: another console than standard output's.
    """
    out = to or console
    for number, paragraph in enumerate(visible(text).split("\n")):
        indent = " " * (len(paragraph) - len(paragraph.lstrip(" ")))
        head = Text.assemble(label if number == 0 else " " * cell_len(str(label)), indent)
        lines = [paragraph.strip()]
        room = out.width - head.cell_len
        if out.is_terminal and room >= _ROOM:
            lines = wrapped(lines[0], room)
        for line in lines:
            written = Text.assemble(head, (line, style))
            written.rstrip()
            out.print(written, soft_wrap=True)
            head = Text(" " * head.cell_len)


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a paragraph: broken between words, never inside one or inside a command."""
    lines = [""]
    end = 0
    for word in _WORD.finditer(text):
        gap = text[end : word.start()]
        end = word.end()
        joined = lines[-1] + gap + word.group()
        if lines[-1] and cell_len(joined) > width:
            lines.append(word.group())
        else:
            lines[-1] = joined
    return lines
