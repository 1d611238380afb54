"""`slipway new component NAME`: the files of a stage, in a project or in a checkout of Slipway."""

from pathlib import Path
from typing import Annotated

import typer

from slipway.commands.console.help import command_group
from slipway.commands.console.terminal import AsJson, deliver, say
from slipway.commands.new import checkout, project
from slipway.commands.new.names import require_name
from slipway.components.support import files
from slipway.components.support.errors import ProjectError
from slipway.components.support.files import short_path

new_app = command_group("new", "Code of your own that fits in.")


@new_app.command("component")
def new_component(
    name: Annotated[
        str, typer.Argument(help="Of the component: lower-case letters, digits and _.")
    ],
    out: Annotated[
        Path,
        typer.Option(help="Folder of the project, or of a checkout of Slipway.", metavar="DIR"),
    ] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a stage that looks like Slipway's own: face, work, README, image and test.

    It takes a dataset, leaves out rows without a value, and gives a dataset; its test passes. Put your
    own work in the place of that. In a checkout of Slipway it is entered in the lists of the stages.

    Example: `slipway new component dedupe`
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
    written = {
        verb: [str(out / path) for path in paths]
        for verb, paths in (("wrote", made.new), ("changed", made.changed))
    }

    def show() -> None:
        for verb, paths in written.items():
            for path in paths:
                say(f"{verb} {short_path(path)}")
        say(f"Next: {made.advice}")

    deliver({**written, "next": made.advice}, show)
