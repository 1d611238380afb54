"""`slipway ui`: a page of what local runs left."""

from typing import Annotated

import typer

from slipway.commands.console.terminal import Quiet, say
from slipway.commands.projects import RUN_FOLDER, Out
from slipway.components.support.libraries.extras import require_extra


def ui(
    out: Out = RUN_FOLDER,
    port: Annotated[int, typer.Option(help="Loopback port.", min=1, max=65535)] = 8765,
    quiet: Quiet = False,
) -> None:
    """Show runs, versions with their evidence and the monitoring history in a browser.

    A page of this machine alone, which only reads; Ctrl-C ends it.

    Example: `slipway ui --port 8765`
    """
    require_extra("local", "slipway ui")
    from slipway.local.ui.app import HOST, serve
    from slipway.local.workspace import Workspace

    say(f"http://{HOST}:{port}/ shows what is in {out}. Ctrl-C ends it.")
    serve(Workspace.at(out), port)
