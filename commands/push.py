"""`slipway push`: events to the online store, between two runs."""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from slipway.commands.console.terminal import console
from slipway.commands.projects import RUN_FOLDER, Out, ProjectFolder, load
from slipway.components.support.errors import ProjectError
from slipway.components.support.libraries.extras import require_extra

if TYPE_CHECKING:
    from slipway.components.config.project import LoadedProject
    from slipway.components.features.streams.push import Pushed, Pusher
    from slipway.components.features.streams.schema import Landing

BATCH_LINES = 5_000
WAIT_SECONDS = 0.2
"""What comes within so long after the first line is pushed together with it."""
_WAITING = 50_000


class To(StrEnum):
    """Where events go."""

    online = "online"
    offline = "offline"
    both = "both"


def push(
    events: Annotated[
        str, typer.Argument(help="A jsonl file with an event a line; - reads standard input.")
    ],
    project: ProjectFolder,
    table: Annotated[
        str, typer.Option(help="The stream; else the only one.", show_default=False)
    ] = "",
    to: Annotated[
        To,
        typer.Option(
            help="The online store; or the table's source, for the next ingest (a jsonl folder)."
        ),
    ] = To.online,
    out: Out = RUN_FOLDER,
) -> None:
    """Push events to the online store: what the endpoint looks up is fresh from then on.

    A table is pushed to where `features.streams` names it, and a run has filled the store (of the local
    runs; or FEATURE_STORE_URI, FEAST_REDIS_URL). Repeating a push changes nothing. Of a file with a
    malformed event, or one that is not as the table's schema says, nothing is pushed; of standard input
    what came before it.

    Example: `tail -F clicks.jsonl | slipway push - --table clicks`
    """
    require_extra("local", "slipway push")
    from slipway.components.features.streams.push import Pusher
    from slipway.local.workspace import Workspace

    loaded = load(project, None)
    os.environ.update(Workspace.at(out).settings())
    table = _stream(loaded, table)
    land = _landing(loaded, table) if to != To.online else None
    pusher = Pusher(loaded.project.project_name)
    pusher.require(table)
    name = "standard input" if events == "-" else events
    started, done, last = time.monotonic(), None, 0.0
    try:
        for first, lines in _batches(
            events,
            lambda found: pusher.check_lines(
                table, found, name=name, landing=land.landing if land else None
            ),
        ):
            began = time.monotonic()
            pushed = _push(pusher, table, lines, name, first, to, land)
            last = time.monotonic() - began
            done = pushed if done is None else done.plus(pushed)
    except KeyboardInterrupt:
        console.print()
    if done is None:
        console.print("No events came: nothing is pushed.")
        return
    _show(table, done, to, time.monotonic() - started, last)


def _push(
    pusher: "Pusher",
    table: str,
    lines: list[bytes],
    name: str,
    first: int,
    to: To,
    land: "_Lander | None",
) -> "Pushed":
    """Pushes some lines; they are landed only once all of them are known to be events."""
    from slipway.components.features.streams.push import Pushed

    if land is not None:
        pusher.check_lines(table, lines, name=name, first=first, landing=land.landing)
        land.write(b"\n".join(line.rstrip(b"\n") for line in lines if line.strip()) + b"\n")
    if to == To.offline:
        events = sum(1 for line in lines if line.strip())
        return Pushed(events=events, entities={}, stands_for="", capped={})
    return pusher.push_lines(table, lines, name=name, first=first)


def _stream(loaded: "LoadedProject", table: str) -> str:
    streams = list(loaded.project.features.streams)
    if not streams:
        raise ProjectError(
            f"{loaded.project.project_name} has no stream: name the table under `features.streams`, as in"
            " `streams: {clicks: {key: click_id}}`, and run it once."
        )
    if not table and len(streams) > 1:
        raise ProjectError(f"Say with --table which of {', '.join(streams)} the events are of.")
    return table or streams[0]


@dataclass(frozen=True, slots=True)
class _Lander:
    """Writes events to their table's source, and what must hold of them for that."""

    landing: "Landing"
    write: Callable[[bytes], str]


def _landing(loaded: "LoadedProject", table: str) -> _Lander:
    from slipway.components.features.streams.schema import Landing
    from slipway.components.ingest.landing import land_lines, require_landing

    data = loaded.project.data
    if table not in data.tables:
        raise ProjectError(f"'{table}' is no table of this project ({', '.join(data.tables)}).")
    uri = require_landing(table, data.tables[table], data.root)
    return _Lander(
        Landing(all_fields=data.tables[table].columns is None),
        lambda lines: land_lines(table, uri, lines),
    )


def _batches(
    events: str, check: Callable[[Iterator[bytes]], int]
) -> Iterator[tuple[int, list[bytes]]]:
    """Lines in batches, each with its first line's number. A file is checked whole before."""
    if events == "-":
        yield from _as_they_come(sys.stdin.buffer)
        return
    path = Path(events)
    if not path.is_file():
        raise ProjectError(f"{events} is no file: give a jsonl file, or - for standard input.")
    with path.open("rb") as file:
        check(iter(file))
    with path.open("rb") as file:
        first = 1
        while lines := [line for _, line in zip(range(BATCH_LINES), file, strict=False)]:
            yield first, lines
            first += len(lines)


def _as_they_come(stream: IO[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """A stream's lines; a line waits for no other longer than WAIT_SECONDS."""
    coming: queue.Queue[bytes | None] = queue.Queue(_WAITING)

    def read() -> None:
        for line in stream:
            coming.put(line)
        coming.put(None)

    threading.Thread(target=read, daemon=True).start()
    first, more = 1, True
    while more:
        lines: list[bytes] = []
        until = float("inf")
        while len(lines) < BATCH_LINES:
            try:
                line = coming.get(timeout=min(max(until - time.monotonic(), 0.0), 3600.0))
            except queue.Empty:
                if lines:
                    break
                continue
            if line is None:
                more = False
                break
            if not lines:
                until = time.monotonic() + WAIT_SECONDS
            lines.append(line)
        if lines:
            yield first, lines
            first += len(lines)


def _show(table: str, done: "Pushed", to: To, seconds: float, last: float) -> None:
    where = {"online": "online", "offline": "to its source", "both": "online and to its source"}
    console.print(
        f"Pushed {done.events:,} events of {escape(table)} {where[to.value]} in {seconds:.1f} s"
        f" (the last batch in {last * 1000:.0f} ms)."
    )
    for view, entities in done.entities.items():
        capped = done.capped.get(view, 0)
        more = f"; {capped:,} of them had more events than `most_events` keeps" if capped else ""
        console.print(f"  {escape(view)}: {entities:,} entities{more}")
    for check, events in done.warned.items():
        console.print(f"  WARNING: {escape(check)}: {events:,} events fail it (x-level: warn)")
    if done.stands_for:
        console.print(f"  the online store stands for {done.stands_for}")
