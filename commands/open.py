"""`slipway open`: a page of the last run."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from slipway.commands.console.terminal import AsJson, deliver, say
from slipway.commands.projects import RUN_FOLDER, Out
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import short_path


class RunPage(StrEnum):
    """The pages of a run, by the command's word for them."""

    run = "run"
    card = "card"
    train = "train"
    validate = "validate"
    monitor = "monitor"
    evidently = "evidently"


NAMES = {
    RunPage.run: "run",
    RunPage.card: "model card",
    RunPage.train: "training report",
    RunPage.validate: "validation report",
    RunPage.monitor: "monitoring report",
    RunPage.evidently: "Evidently's page",
}
"""What the summary of a run calls them."""


def open_(
    part: Annotated[
        RunPage, typer.Argument(help="The whole run, or one part of it.")
    ] = RunPage.run,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the path and open nothing.")
    ] = False,
    out: Out = RUN_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Open a page of the last run in the browser; print its path where there is no screen.

    Example: `slipway open card`
    """
    from slipway.local.workspace import Workspace

    page = find_page(Workspace.at(out).summary, part)
    deliver({"part": part.value, "path": str(page)}, lambda: say(short_path(page)))
    if not (only_print or as_json) and sys.stdout.isatty():
        typer.launch(page.as_uri())


def find_page(summary: Path, part: RunPage) -> Path:
    """The page of the last run.

    Raises:
        SlipwayError: there is no run here, it did not get so far, or its page was deleted.
    """
    try:
        pages = json.loads(summary.read_text(encoding="utf-8"))["reports"]
    except FileNotFoundError as error:
        raise SlipwayError(
            f"There is no run in {summary.parent} yet. Start one with `slipway run`, or name its folder"
            " with --out."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise SlipwayError(f"{summary} cannot be read ({error!r}). Run again.") from error
    name = NAMES[part]
    if name not in pages:
        there = ", ".join(one.value for one, called in NAMES.items() if called in pages)
        raise SlipwayError(f"The last run has no {name}; it has: {there or 'nothing'}.")
    page = Path(pages[name])
    if not page.is_file():
        raise SlipwayError(f"{page} is gone. Run again.")
    return page
