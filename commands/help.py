"""How `--help` looks: commands in groups; boxes and colours on a terminal alone."""

import sys
from typing import Any

import typer
from typer.core import MarkupMode, TyperGroup

# Piped, help and usage errors are plain text, which a pager, a log and grep can read.
MARKUP: MarkupMode = "markdown" if sys.stdout.isatty() else None


class Commands(TyperGroup):
    """A group whose commands stand below the name of their own group in plain help too."""

    def format_commands(self, ctx: object, formatter: Any) -> None:
        """Writes a section for each group of commands; typer does so with boxes alone."""
        sections: dict[str, list[tuple[str, str]]] = {}
        width = max(map(len, self.commands), default=0)
        for name, command in self.commands.items():
            if not command.hidden:
                title = getattr(command, "rich_help_panel", None) or "Commands"
                # Whole sentences: the formatter wraps them.
                row = (f"{name:<{width}}", command.get_short_help_str(1000))
                sections.setdefault(str(title), []).append(row)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows, col_max=20)


def command_group(name: str, text: str) -> typer.Typer:
    """A group of commands. It stays one while it has a single command."""
    group = typer.Typer(name=name, help=text, no_args_is_help=True, rich_markup_mode=MARKUP)
    group.callback(help=text)(lambda: None)
    return group
