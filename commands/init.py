"""`slipway init`: a project from tables of one's own; without any, the flights example."""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.prompt import Prompt
from rich.text import Text

from slipway.commands.console.terminal import AsJson, Quiet, console, deliver, say
from slipway.commands.projects import FORMAT_NAMES
from slipway.components.config.data import FORMATS
from slipway.components.config.kinds import UNBOUNDED, rule_name
from slipway.components.config.project import FILE_NAME
from slipway.components.support import files
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.components.support.files import short_path
from slipway.components.support.libraries.extras import missing_packages, require_extra

if TYPE_CHECKING:
    from slipway.components.config.data import Format
    from slipway.local.guess.draft import Draft
    from slipway.local.guess.guess import Answers, Question

FLIGHTS = "flights"


def init(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Tables: files, folders or URIs; {FORMAT_NAMES}. Without --label: the"
            " folder that an example is written into.",
            metavar="DATA",
        ),
    ] = None,
    label: Annotated[str, typer.Option(help="The column to predict.", metavar="COLUMN")] = "",
    positive: Annotated[
        list[str] | None, typer.Option(help="A value of the label that is positive.")
    ] = None,
    above: Annotated[str, typer.Option(help="Positive is what is greater: a number, or 15m.")] = "",
    kind: Annotated[str, typer.Option(help="binary, multiclass or number.")] = "",
    time: Annotated[
        str, typer.Option(help="When a row's thing happens; `none`: the rows have no time.")
    ] = "",
    key: Annotated[
        list[str] | None,
        typer.Option(help="What names a row, once for each column; `none`: nothing does."),
    ] = None,
    table: Annotated[str, typer.Option(help="The table with one row a prediction.")] = "",
    exclude: Annotated[
        list[str] | None, typer.Option(help="A column that is no feature.", metavar="COLUMN")
    ] = None,
    number: Annotated[
        list[str] | None,
        typer.Option(help="A column of numbers that a csv writes in two ways.", metavar="COLUMN"),
    ] = None,
    name: Annotated[str, typer.Option(help="The project's name; else that of the table.")] = "",
    example: Annotated[
        str, typer.Option(help="An example with its data, in place of tables.", metavar="NAME")
    ] = "",
    form: Annotated[
        str,
        typer.Option("--format", help=f"{FORMAT_NAMES}, where endings do not say."),
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder to write.", metavar="DIR")] = Path(),
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that say something else.")
    ] = False,
    project_only: Annotated[
        bool, typer.Option("--project-only", help="Write no files for a CI platform.")
    ] = False,
    ci_only: Annotated[
        bool,
        typer.Option("--ci-only", help="Write those alone, for the project in --out."),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a project from your tables, ready for `slipway run`: every guess beside its reason.

    It finds the label's kind, time, keys, features, joins, windows, the split, the schema, and values
    for the gate from baselines that it fits on the spot. What the tables do not tell it asks on a
    terminal, and else names the option to give. Without tables it writes an example: the flights, or
    the one that --example names.

    Example: `slipway init customers.csv --label churned` or `slipway init --example digits DIR`
    """
    if ci_only:
        _write_ci(data or example, out, force=force, project_only=project_only)
        return
    if example or (not label and not (data and _is_data(data))):
        _write_example(example, data or [], label, out)
        return
    require_extra("local", "slipway init with tables")
    if not data:
        raise ProjectError(
            "--label names a column of tables: give them too, as in `slipway init DATA`."
        )
    from slipway.local.guess.guess import Answers
    from slipway.local.guess.write import project_files, write_all

    answers = Answers(
        label=label,
        table=table,
        kind=kind,
        positive=tuple(positive or ()),
        above=above,
        time=time,
        key=tuple(key or ()),
        exclude=tuple(exclude or ()),
        name=name,
    )
    made = _make_own(data, answers, _format(form), tuple(number or ()))
    contents = project_files(made, out, with_ci=not project_only)
    written = write_all(contents, out, force=force)
    facts = _facts(made)
    answer = {**facts, "warnings": list(made.warnings), **_written(written, out)}

    def show() -> None:
        _tell(facts, made.warnings)
        _say_written(written, out)

    deliver(answer, show)


def _is_data(places: list[str]) -> bool:
    """Whether the arguments are tables, and not the folder of an example."""
    if len(places) > 1 or "://" in places[0] or Path(places[0]).is_file():
        return True
    folder = Path(places[0])
    if not folder.is_dir() or (folder / FILE_NAME).is_file():
        return False
    from slipway.components.ingest.sources import find_format

    try:
        find_format(places[0])
    except (SlipwayError, ModuleNotFoundError):  # without [local] there is only the example
        return False
    return True


def _format(text: str) -> "Format | None":
    if text and text not in FORMATS:
        raise ProjectError(f"--format {text}: it is one of {', '.join(FORMATS)}.")
    return next((form for form in FORMATS if form == text), None)


def _write_ci(data: list[str] | str | None, out: Path, *, force: bool, project_only: bool) -> None:
    """The CI platform's files of a project that is there."""
    from slipway.components.config.project import load_project
    from slipway.local.guess.write import ci_files, write_all

    if data or project_only:
        raise ProjectError(
            "--ci-only writes files for the project in --out: give it no tables, and no --project-only."
        )
    project = load_project(out).project
    written = write_all(ci_files(project), out, force=force)
    answer = {"files": [str(path) for path in written]}
    deliver(answer, lambda: say("\n".join(f"wrote {short_path(path)}" for path in written)))


def _written(written: list[Path], out: Path) -> dict[str, object]:
    return {"files": [str(path) for path in written], "next": next_command(out)}


def next_command(folder: Path) -> str:
    """The command that a person goes on with."""
    return ("" if folder == Path() else f"cd {shlex.quote(str(folder))} && ") + "slipway run"


def _say_written(written: list[Path], out: Path) -> None:
    say("\n".join(f"wrote {short_path(path)}" for path in written))
    say(f"Next: {next_command(out)}")


def _make_own(
    data: list[str], answers: "Answers", form: "Format | None", numbers: tuple[str, ...]
) -> "Draft":
    """Reads the tables and guesses; asks where there is somebody to ask."""
    from slipway.local.guess.draft import make_draft
    from slipway.local.guess.guess import Question
    from slipway.local.guess.tables.facts import read_tables
    from slipway.local.guess.tables.named import require_columns

    if answers.label and (answers.kind == "number" or answers.above):
        numbers = (*numbers, answers.label)
    tables = read_tables(data, form, numbers)
    require_columns("number", numbers, tables)
    for facts in tables:
        say(f"{facts.name}: {facts.rows:,} rows, {len(facts.columns)} columns")
    if not answers.label:
        names = tuple(c.source for facts in tables for c in facts.columns.values())
        answers = _ask(Question("label", "Which column is to be predicted?", names), answers)
    while True:
        try:
            return make_draft(tables, answers)
        except Question as question:
            answers = _ask(question, answers)


def _ask(question: "Question", answers: "Answers") -> "Answers":
    """Asks a person, where there is one.

    Raises:
        Question: there is no terminal; it names the option to give.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise question
    text, choices = escape(question.text), list(question.choices) or None
    return answers.having(question.answer, Prompt.ask(text, console=console, choices=choices))


def _facts(draft: "Draft") -> dict[str, str]:
    """What was guessed, in a few words each."""
    label, moments, fields = draft.label, draft.moments, draft.fields
    language = f" ({label.language} for yes)" if label.language else ""
    positive = f", positive: {', '.join(label.positive.value)}" if label.positive.value else ""
    rows = draft.trial.rows
    return {
        "label": f"{label.column.name}, {label.kind.value}{positive}{language}",
        "time": moments.time.value or "none",
        "key": " and ".join(draft.key.value) or "none",
        "features": f"{len(fields.found)} as they are,"
        f" {sum(len(h.aggregates) for h in draft.histories)} of earlier rows",
        "parts": ", ".join(f"{part} {count:,}" for part, count in rows.items()),
        "gate": ", ".join(
            f"{rule_name(name)} {'no bound' if name in UNBOUNDED and not guess.value else guess.value}"
            for name, guess in draft.gate.gate.items()
        ),
    }


def _tell(facts: dict[str, str], warnings: Iterable[str]) -> None:
    """What was guessed, a line each, and what to look at."""
    for what, text in facts.items():
        say(text, label=f"  {what:<9} ")
    for warning in warnings:
        say(f"{warning}.", "yellow", label=Text("  warning: ", "yellow"))


def _write_example(name: str, data: list[str], label: str, out: Path) -> None:
    """An example, the flights where none is named, in the folder that is."""
    from slipway import examples

    known = examples.names()
    if name and name not in known:
        raise ProjectError(f"--example {name}: there is no such example. Take {', '.join(known)}.")
    if name and (label or len(data) > 1 or (data and _is_data(data))):
        raise ProjectError(
            "--example brings its own tables: give it a folder to write, as in"
            f" `slipway init --example {name} DIR`, and no tables and no --label."
        )
    folder = Path(data[0]) if data else out
    again = f"slipway init --example {name}" if name else "slipway init"
    written = _write_files(examples.contents(name or FLIGHTS), folder, again)
    missing = missing_packages("local")
    if not missing:
        examples.lay_out(name or FLIGHTS, folder / examples.data_root(name or FLIGHTS))

    def show() -> None:
        say("\n".join(map(short_path, written)))
        if missing:
            say(
                "The tables themselves were left out: what runs the stages is not installed"
                f" ({', '.join(missing[:3])}, …). `pip install 'kfp-slipway[local]'`, then `{again}`"
                " again; `slipway compile` works as it is."
            )
        else:
            say(f"Next: {next_command(folder)}")

    deliver({**_written(written, folder), "missing": list(missing)}, show)


def _write_files(contents: dict[str, bytes], folder: Path, command: str) -> list[Path]:
    """Writes the files of an example that are not there yet.

    Raises:
        ProjectError: one is there with other content, so the folder is another project's.
    """
    wanted = {folder / name: content for name, content in contents.items()}
    for path, content in wanted.items():
        if path.exists() and path.read_bytes() != content:
            raise ProjectError(f"{path} is there already. Give another folder: {command} DIR.")
    new = [path for path in wanted if not path.exists()]
    for path in new:
        files.write_text(path, wanted[path].decode())
    return new
