"""The commands over a window: `slipway monitor`, `slipway score` and `slipway backfill`."""

import signal
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from slipway.commands.console.terminal import AsJson, Quiet, console, deliver, say
from slipway.commands.projects import RUN_FOLDER, Out, Overrides, ProjectFolder, Runner
from slipway.components.support.files import short_path
from slipway.components.support.libraries.extras import require_extra

if TYPE_CHECKING:
    from slipway.components.config.project import LoadedProject
    from slipway.components.contracts.backfill_record import BackfillRecord
    from slipway.local.batch import Scored
    from slipway.local.job import Job

INTERRUPTED = 130
Stages = Annotated[Runner, typer.Option("--runner", help="Where stages work.")]
Start = Annotated[
    str,
    typer.Option(
        help="First instant, ISO 8601; or how long before the end. 7d where it is left out.",
        metavar="TIME",
    ),
]
End = Annotated[
    str,
    typer.Option(
        help="First instant after it; else the end of data.window, or now where there is none.",
        metavar="TIME",
    ),
]


def monitor(
    project: ProjectFolder,
    start: Start = "",
    end: End = "",
    overrides: Overrides = None,
    runner: Stages = Runner.subprocess,
    out: Out = RUN_FOLDER,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Watch a window of what the endpoint here was asked: drift, accuracy, latency, alerts.

    Runs the compiled monitoring pipeline on this machine, on the inference log that `slipway run` filled
    (or INFERENCE_LOG_URI); nothing is sent. A window that was watched before is measured again.

    Example: `slipway monitor --start 2013-12-24 --end 2013-12-31`
    """
    from slipway.commands.console.runs import show_monitoring, show_places
    from slipway.local.batch import monitor_project

    loaded = _load(project, overrides)
    window = _window(loaded, start, end)
    try:
        record, report = monitor_project(_job(loaded, runner, out), window=window)
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(INTERRUPTED) from interrupt

    def show() -> None:
        show_monitoring(console, record)
        show_places(console, {"monitoring report": short_path(report)})

    deliver({**asdict(record), "report": str(report)}, show)


def score(
    project: ProjectFolder,
    model: Annotated[str, typer.Option(help="Alias or version.")] = "champion",
    start: Start = "",
    end: End = "",
    publish: Annotated[
        str, typer.Option(help="Folder or prefix to copy the predictions below.", metavar="URI")
    ] = "",
    overrides: Overrides = None,
    runner: Stages = Runner.subprocess,
    out: Out = RUN_FOLDER,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Predict the rows of a window with a registered version, and record their drift.

    Runs the compiled scoring pipeline on this machine, against the registry that `slipway run` filled
    (or MLFLOW_TRACKING_URI). Rows need no label.

    Example: `slipway score --start 2013-12-24 --end 2014-01-01 --publish build/predictions`
    """
    from slipway.local.batch import score_project

    loaded = _load(project, overrides)
    window = _window_of_rows(loaded, start, end)
    job = _job(loaded, runner, out)
    try:
        scored = score_project(job, model=model, window=window, publish=publish)
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(INTERRUPTED) from interrupt
    answer = {
        "predictions": asdict(scored.predictions),
        "folder": str(scored.folder),
        "monitoring": asdict(scored.record),
        "report": str(scored.report),
    }
    deliver(answer, lambda: _show_scored(scored))


def _show_scored(scored: "Scored") -> None:
    from slipway.commands.console.runs import quality, say_drift, show_alerts, show_places

    say(scored.predictions.headline)
    name, value = quality(scored.record.summary)
    known = "no labels yet" if value == "—" else f"{name} {value}"
    say(f"Drift: {say_drift(scored.record)}; {known}")
    show_alerts(console, scored.record)
    places = {"predictions": short_path(scored.folder), "published": scored.predictions.published}
    places["drift report"] = short_path(scored.report)
    show_places(console, {name: place for name, place in places.items() if place})


def backfill(
    project: ProjectFolder,
    start: Start = "",
    end: End = "",
    online: Annotated[bool, typer.Option(help="Bring the online store up to date too.")] = True,
    before: Annotated[
        str,
        typer.Option(
            help="How long before the range the tables are read; empty: the longest window."
        ),
    ] = "",
    after: Annotated[str, typer.Option(help="How long after it.")] = "",
    overrides: Overrides = None,
    runner: Stages = Runner.subprocess,
    out: Out = RUN_FOLDER,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Recompute the feature values of a past range, in the offline and the online store.

    Runs the compiled backfill pipeline on this machine, on the feature store that `slipway run` filled
    (or FEATURE_STORE_URI). Values outside the range stay as they are.

    Example: `slipway backfill --start 2013-06-01 --end 2013-06-08`
    """
    from slipway.components.config.base import parse_duration
    from slipway.components.support.errors import ProjectError
    from slipway.local.batch import backfill_project

    margins = {name: text for name, text in (("before", before), ("after", after)) if text}
    for name, text in margins.items():
        try:
            parse_duration(text)
        except ValueError as error:
            raise ProjectError(f"--{name}: {error}.") from error
    loaded = _load(project, overrides)
    window = _window_of_rows(loaded, start, end)
    job = _job(loaded, runner, out)
    try:
        record = backfill_project(job, window=window, online=online, margins=margins)
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(INTERRUPTED) from interrupt
    deliver(asdict(record), lambda: _show_backfill(record))


def _show_backfill(record: "BackfillRecord") -> None:
    table = Table("view", "replaced", "written", "rows now", "online")
    for name, view in record.views.items():
        numbers = (view.replaced, view.written, view.rows, view.online)
        table.add_row(name, *(f"{number:,}" for number in numbers))
    console.print(table)


def _load(project: Path, overrides: list[str] | None) -> "LoadedProject":
    require_extra("local", "A pipeline on this machine")
    from slipway.commands.projects import load

    return load(project, overrides)


def _window(loaded: "LoadedProject", start: str, end: str) -> tuple[str, str]:
    """The window that was asked for; without an end it is that of the data."""
    from slipway.components.config.base import format_instant, next_second
    from slipway.components.config.data import resolve_window
    from slipway.components.support.errors import ProjectError, SlipwayError

    _, last = loaded.project.data.window_texts
    window = start or "7d", end or last or format_instant(next_second(datetime.now(UTC)))
    try:
        resolve_window(*window)
    except SlipwayError as error:
        raise ProjectError(f"--start and --end: {error}") from error
    return window


def _window_of_rows(loaded: "LoadedProject", start: str, end: str) -> tuple[str, str]:
    """The window of the examples that was asked for; of rows without time the project's own."""
    from slipway.components.support.errors import ProjectError

    if loaded.project.features.examples.time is not None:
        return _window(loaded, start, end)
    if start or end:
        raise ProjectError(
            "--start and --end: the examples have no time (features.examples.time), so that all of them"
            " are read. Leave both out."
        )
    return loaded.project.data.window_texts


def _job(loaded: "LoadedProject", runner: Runner, out: Path) -> "Job":
    """The project and where it runs."""
    from slipway.commands.console.runs import Display
    from slipway.local.job import Job
    from slipway.local.workspace import Workspace

    # A command that receives SIGTERM (from a CI system, say) ends its stages as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return Job(loaded, Workspace.at(out), Display(console), runner.value)
