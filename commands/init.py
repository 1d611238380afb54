"""`slipway init`: the flights example, written into a folder of your own."""

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from slipway.components.support import files
from slipway.components.support.errors import ProjectError
from slipway.components.support.extras import missing_packages

FILES = ("project.yaml", "schemas/input.json")
LAKE = Path("build/lake")
console = Console()


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write.", metavar="DIR")] = Path(),
) -> None:
    """Write the flights example into a folder: project file, schema and data, ready for `slipway run`.

    A second time it adds what is missing. A project file that is another one stays as it is.

    **Example:** `slipway init` or `slipway init flights`
    """
    written = _write_project(folder)
    for path in written:
        _say(str(path))
    if missing := missing_packages("local"):
        _say(
            "The flights themselves were left out: what runs the stages is not installed"
            f" ({', '.join(missing[:3])}, …). `pip install 'kfp-slipway[local]'`, then `slipway init`"
            " again; `slipway compile` works as it is."
        )
        return
    from slipway.examples.flights.lay_out_lake import lay_out

    lay_out(folder / LAKE)
    _say(f"Next: {'' if folder == Path() else f'cd {folder} && '}slipway run")


def _write_project(folder: Path) -> list[Path]:
    """Writes the files of the example that are not there yet.

    Raises:
        ProjectError: one is there with other content, so the folder is another project's.
    """
    example = resources.files("slipway.examples.flights")
    contents = {folder / name: example.joinpath(name).read_bytes() for name in FILES}
    for path, content in contents.items():
        if path.exists() and path.read_bytes() != content:
            raise ProjectError(f"{path} is there already. Give another folder: slipway init DIR.")
    new = [path for path in contents if not path.exists()]
    for path in new:
        files.write_text(path, contents[path].decode())
    return new


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
