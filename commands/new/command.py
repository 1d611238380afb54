"""`slipway new component NAME`: the files of a stage, in a project or in a checkout of Slipway."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from slipway.commands.new import checkout, project
from slipway.commands.new.names import require_name
from slipway.components.support import files
from slipway.components.support.errors import ProjectError

new_app = typer.Typer(name="new", help="Code of your own that fits in.", no_args_is_help=True)
console = Console(width=None if sys.stdout.isatty() else 120)


@new_app.callback()
def _group() -> None:
    """Code of your own that fits in."""


@new_app.command("component")
def new_component(
    name: Annotated[
        str, typer.Argument(help="Of the component: lower-case letters, digits and _.")
    ],
    out: Annotated[
        Path,
        typer.Option(help="Folder of the project, or of a checkout of Slipway.", metavar="DIR"),
    ] = Path(),
) -> None:
    """Write a stage that looks like Slipway's own: face, work, README, image and test.

    It takes a dataset, leaves out rows without a value, and gives a dataset; its test passes. Put your
    own work in the place of that. In a checkout of Slipway it is entered in the lists of the stages.

    **Example:** `slipway new component dedupe`
    """
    require_name(name)
    inside = checkout.is_checkout(out)
    made = (checkout if inside else project).component_files(name, out)
    there = [path for path in made.new if (out / path).exists()]
    if there:
        raise ProjectError(
            f"{', '.join(str(out / path) for path in there)}: there already. Nothing is written. Give the"
            " component another name, or take what is there away first."
        )
    for path, text in {**made.new, **made.changed}.items():
        files.write_text(out / path, text)
        console.print(
            f"{'changed' if path in made.changed else 'wrote'} {out / path}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    console.print(f"Next: {made.advice}", highlight=False, markup=False, soft_wrap=True)
