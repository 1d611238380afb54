"""The commands `slipway schema …`: of tables, as ingest makes them, and of the project file."""

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from slipway.commands.console.help import command_group
from slipway.commands.console.terminal import errors, say
from slipway.commands.projects import FORMAT_NAMES, find_project
from slipway.components.config.data import DataConfig, Table, Window
from slipway.components.config.project import FILE_NAME, load_data
from slipway.components.support.errors import ProjectError
from slipway.components.support.files import short_path, write_text

schema_app = command_group("schema", "Schemas of input tables, and of the project file.")
# A table that is no project's has no time column to cut; the window is not looked at.
_ALWAYS = Window(start=datetime(1, 1, 1, tzinfo=UTC), end=datetime(9999, 12, 31, tzinfo=UTC))


@schema_app.command("infer")
def infer(
    table: Annotated[
        str | None,
        typer.Argument(
            help="A file, a folder or a URI; or a table of the project. Without it: all of its tables."
        ),
    ] = None,
    project: Annotated[
        Path | None,
        typer.Option(
            "--project", "-p", help="Folder with project.yaml; else this folder.", metavar="DIR"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; of a project: its schema.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help=f"{FORMAT_NAMES}, where its files do not say."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace entries that the file has already.")
    ] = False,
) -> None:
    """Write a first schema from tables' data, for a person to tighten.

    It reads what ingest reads (parquet, csv, jsonl, delta; folders and object stores) and sees it as
    ingest makes it: with the types, names and window of the project's table. Entries of other tables
    stay.

    Example: `slipway schema infer --project examples/flights` or
    `slipway schema infer build/lake/flights --out schemas/input.json`
    """
    from slipway.components.validate.infer import write_schema
    from slipway.components.validate.schema import META_SCHEMA

    known = _project(project)
    tables, target = _asked(table, known, form)
    entries = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (settings, data) in tables.items():
            entries[name] = _entry(name, settings, data, Path(scratch))
    out = out or target
    if out is None:
        meta = json.loads(META_SCHEMA.read_text(encoding="utf-8"))
        print(json.dumps({"$schema": meta["$id"], "tables": entries}, indent=2))
        return
    changed = write_schema(entries, out, force=force)
    what = f"wrote {', '.join(changed)}" if changed else "it says so already"
    say(f"{short_path(out)}: {what}. Read it and tighten what you know better.")


@schema_app.command("project")
def of_project(
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; else it is printed.")
    ] = None,
) -> None:
    """Give the JSON Schema of the project file, with which an editor completes and checks it.

    `slipway init` writes it beside a project and names it in the project file's first line:
    `# yaml-language-server: $schema=schemas/project.schema.json`.

    Example: `slipway schema project --out schemas/project.schema.json`
    """
    from slipway.components.config.editor import schema_text

    if out is None:
        print(schema_text(), end="")
        return
    write_text(out, schema_text())
    say(short_path(out))


Asked = dict[str, tuple[Table, DataConfig]]


def _project(folder: Path | None) -> tuple[DataConfig, Path] | None:
    """The data section of the project that is meant, and its schema file; None: there is none."""
    if folder is not None:
        return load_data(folder)
    here = find_project()
    return load_data(here) if (here / FILE_NAME).is_file() else None


def _asked(
    table: str | None, known: tuple[DataConfig, Path] | None, form: str | None
) -> tuple[Asked, Path | None]:
    """The tables that are asked for, and where their entries belong; None: nowhere yet.

    Raises:
        ProjectError: no table is named, and there is no project.
    """
    if known is not None:
        data, schema = known
        if table is None:
            return {name: (settings, data) for name, settings in data.tables.items()}, schema
        if table in data.tables:
            return {table: (data.tables[table], data)}, schema
        for name, settings in data.tables.items():
            if _same_place(table, settings, data):
                return {name: (settings, data)}, None
    if table is None:
        raise ProjectError(
            f"Name a table, or a project with --project: there is no {FILE_NAME} here."
        )
    return dict(_alone(table, form)), None


def _same_place(path: str, settings: Table, data: DataConfig) -> bool:
    from slipway.components.ingest.sources import join_uri, public_uri

    return public_uri(path) == public_uri(join_uri(_root(data), settings.path))


def _alone(path: str, form: str | None) -> Iterator[tuple[str, tuple[Table, DataConfig]]]:
    """A table that no project names: taken whole, under the name of its file or folder."""
    from pydantic import ValidationError

    from slipway.components.config.checks.messages import settings_problems
    from slipway.components.contracts.dataset import MANIFEST, read_manifest
    from slipway.components.ingest.sources import find_format, public_uri

    if (Path(path) / MANIFEST).is_file():
        given: dict[str, Any] = {
            name: {"path": str(Path(path, name).resolve()), "time": info.time}
            for name, info in read_manifest(Path(path)).tables.items()
        }
    else:
        name = public_uri(path).rstrip("/").rsplit("/", 1)[-1].split(".")[0]
        name = "".join(c if c.isalnum() and c.isascii() else "_" for c in name) or "table"
        given = {f"_{name}" if name[0].isdigit() else name: {"path": path}}
        next(iter(given.values()))["format"] = form or find_format(path)
    section = {"tables": given, "window": _ALWAYS}
    try:
        data = DataConfig.model_validate(section)
    except ValidationError as error:
        raise ProjectError(settings_problems(error, section, DataConfig)) from error
    for name, settings in data.tables.items():
        yield name, (settings, data)


def _root(data: DataConfig) -> str:
    """Where relative paths start from: as for `slipway run`, this folder."""
    return data.root if "://" in data.root or not data.root else str(Path(data.root).resolve())


def _entry(name: str, settings: Table, data: DataConfig, scratch: Path) -> dict[str, object]:
    from slipway.components.ingest.reader import TableReader
    from slipway.components.validate.infer import infer_table

    reader = TableReader(name, settings, _root(data), data.window, scratch)
    entry = infer_table(name, reader.schema, reader.batches())
    for warning in reader.warnings:
        say(f"{name}: {warning}.", to=errors)
    return entry
