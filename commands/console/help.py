"""How `--help` looks: commands in groups; boxes and colours on a terminal alone."""

import functools
import sys
from typing import Any

import typer
from typer.core import MarkupMode, TyperGroup

# Piped, help and usage errors are plain text, which a pager, a log and grep can read.
MARKUP: MarkupMode = "markdown" if sys.stdout.isatty() else None


_WORDS = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "Path": "PATH", "bool": ""}
"""What to type where an option does not say so itself, by the name of its type in Python."""


def _say_what_to_type(command: Any, ctx: object) -> None:
    """Puts a word in the place of each type's name in Python: of options, arguments and --help itself."""
    for below in getattr(command, "commands", {}).values():
        _say_what_to_type(below, ctx)
    for given in (*command.params, command.get_help_option(ctx)):
        kind = given.bare_type().removeprefix("list[").removesuffix("]")
        if kind in _WORDS and not given.type_descriptor.is_choice:
            given.display_type = functools.partial(_word, _WORDS[kind])


def _word(word: str, context: object) -> str:
    del context
    return word


class Commands(TyperGroup):
    """A group whose commands stand below the name of their own group in plain help too."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, its help in words."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _say_what_to_type(command, ctx)
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Its own help, in words too."""
        _say_what_to_type(self, ctx)
        super().format_help(ctx, formatter)

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
