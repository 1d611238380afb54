"""`slipway images`: which images a change touches."""

import json
from typing import Annotated

import typer

from slipway.commands.console.help import command_group
from slipway.components.support.errors import ProjectError

images_app = command_group("images", "The stages' images.")


@images_app.command()
def affected(
    since: Annotated[str, typer.Option("--since", help="Revision to compare with.", metavar="REV")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON list, for a CI matrix.")
    ] = False,
) -> None:
    """List the images whose code, lock, Dockerfile or base changed since a revision.

    Example: `slipway images affected --since origin/main`
    """
    from slipway.images import plan

    try:
        names = plan.affected(plan.changed_since(since))
    except ValueError as error:
        raise ProjectError(f"--since {since}: {error}.") from error
    print(json.dumps(names) if as_json else "\n".join(names))
