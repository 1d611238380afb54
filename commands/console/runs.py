"""What a person sees of a run in the terminal."""

import shlex
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from slipway.commands.console.terminal import say
from slipway.commands.projects import RUN_FOLDER
from slipway.components.config.base import format_duration, parse_instant
from slipway.components.support.files import short_path
from slipway.components.support.secrets import redact
from slipway.local.runner.execution import TaskRun

if TYPE_CHECKING:
    from rich.console import JustifyMethod

    from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
    from slipway.components.contracts.verdict import Verdict
    from slipway.components.monitor.history import LatestWindow, TrendWindow
    from slipway.local.job import RunResult
    from slipway.local.workspace import Workspace

COLOURS = {
    "succeeded": "green",
    "cached": "cyan",
    "failed": "red",
    "refused": "red",
    "skipped": "dim",
    "working": "cyan",
}
# A log says that a stage is at work after so long without another line.
HEARTBEAT_SECONDS = 30.0
# Tasks that had nothing to do, by what they say then: the stages' own lines have said it.
_UNEVENTFUL = {
    "report-end": (" ended as SUCCEEDED",),
    "report-verdict": ("the gate let the model pass", "the gate refused"),
    "retrain": ("nothing asked for it",),
}
WINDOWS = 5
_SHORT, _LONG = 10, 19
"""Columns of a task's name: those of scoring are as long as monitor-predictions."""


class Display:
    """Progress of a run: a line for each task that ended, and a live line for the one at work.

    Without a terminal (in CI, in a file) there is a line every half minute in place of the live one.
    """

    def __init__(self, console: Console, heartbeat: float = HEARTBEAT_SECONDS) -> None:
        self.console = console
        self._heartbeat = heartbeat
        self._status: Status | None = None
        self._at_work: TaskRun | None = None
        self._width = _SHORT
        self._message = ""
        self._done: float | None = None
        self._since = self._said_at = time.monotonic()

    @contextmanager
    def pipeline(self, name: str) -> Iterator[None]:
        """Shows what runs while the block does."""
        self._width = _LONG if name in ("scoring", "backfill") else _SHORT
        if name != "requests":
            self._line(Text(f"{name} pipeline", "bold"))
        if self.console.quiet:
            yield
        elif self.console.is_terminal:
            self._status = self.console.status(name)
            with self._status:
                yield
            self._status = None
        else:
            ended = threading.Event()
            beating = threading.Thread(target=self._beat, args=(ended,), daemon=True)
            beating.start()
            try:
                yield
            finally:
                ended.set()
                beating.join()

    def started(self, task: TaskRun) -> None:
        """A task has started."""
        self._at_work, self._since, self._done = task, time.monotonic(), None
        self.progress(task, "starting", None)

    def progress(self, task: TaskRun, message: str, done: float | None) -> None:
        """A task says how far it is."""
        self._message = message
        # A step of unknown length does not take back how far the stage was.
        self._done = done if done is not None else self._done
        if self._status:
            share = "" if self._done is None else f" {self._done:.0%}"
            room = self.console.width - len(task.name) - len(share) - 4
            line = Text.assemble(f"{task.name}{share} ", (" ".join(message.split()), "dim"))
            line.truncate(len(task.name) + len(share) + max(room, 10), overflow="ellipsis")
            self._status.update(line)

    def ended(self, task: TaskRun) -> None:
        """A task has ended."""
        self._at_work = None
        if task.headline.endswith(_UNEVENTFUL.get(task.name, ())):
            return
        seconds = f"{task.seconds:6.1f} s" if task.status != "skipped" else " " * 8
        self._say(self._label(task.name, task.status, seconds), task.headline)

    def note(self, text: str) -> None:
        """Something that a person should know, and that ends nothing."""
        say(text, "yellow", label=Text("  note: ", "yellow"), to=self.console)

    def _beat(self, ended: threading.Event) -> None:
        """Says every so often that a stage is at work, where nothing else was said."""
        while not ended.wait(self._heartbeat / 10):
            task, now = self._at_work, time.monotonic()
            if task is None or now - self._said_at < self._heartbeat:
                continue
            share = "" if self._done is None else f"{self._done:.0%}  "
            label = self._label(task.name, "working", f"{now - self._since:6.0f} s")
            self._say(label, f"{share}{self._message}")

    def _say(self, label: Text, text: str) -> None:
        self._said_at = time.monotonic()
        say(text, label=label, to=self.console)

    def _line(self, text: Text) -> None:
        self._said_at = time.monotonic()
        self.console.print(text, soft_wrap=True)

    def _label(self, name: str, status: str, time_text: str) -> Text:
        word = (f"{status:<9}", COLOURS.get(status, ""))
        return Text.assemble(f"  {name:<{self._width}} ", word, f" {time_text}  ")


def show_result(console: Console, result: "RunResult", workspace: "Workspace") -> None:
    """The verdict, the endpoint, the alerts, and where to look next."""
    show_verdict(console, result)
    if result.deployment:
        say(f"Endpoint: {result.deployment.endpoint}{_served(result)}", to=console)
    elif result.verdict and result.verdict.outcome == "fail":
        say(f"Nothing was registered and nothing deployed; {result.meanwhile}.", to=console)
    if result.record:
        show_monitoring(console, result.record)
    if result.retraining:
        show_retraining(console, result.retraining)
    console.print(Text("\nWhere to look next", "bold"))
    places = {
        **{name: short_path(path) for name, path in result.reports.items()},
        "experiments": _experiments(workspace.settings()["MLFLOW_TRACKING_URI"]),
        "this summary": short_path(workspace.summary),
    }
    if result.deployment and result.deployment.target == "local":
        places["stop the predictor"] = shlex.join(["slipway", "stop", *out_option(workspace.root)])
    show_places(console, places)


def show_places(console: Console, places: dict[str, str]) -> None:
    """Names with a path or a command each, which stay in one piece: below its name, where one is long."""
    width = max(map(len, places), default=0)
    for name, place in places.items():
        line = f"  {name:<{width}} {place}"
        if console.is_terminal and cell_len(line) > console.width:
            line = f"  {name}\n    {place}"
        console.print(Text(line), soft_wrap=True)


def _served(result: "RunResult") -> str:
    """What serves, where that is not what the run deployed."""
    if result.serving is None or result.deployment is None:
        return ""
    if result.serving == result.deployment.model_version:
        return ""
    return f", where version {result.serving} serves now" if result.serving else ", stopped by now"


def _experiments(uri: str) -> str:
    """Where the runs can be looked at: a server's own address, or the command that serves a file's."""
    if uri.startswith(("http://", "https://")):
        return redact(uri)
    scheme, separator, path = uri.partition(":///")
    shown = f"{scheme}{separator}{short_path(path)}" if separator else uri
    return shlex.join(["mlflow", "ui", "--backend-store-uri", redact(shown)])


def out_option(root: Path) -> list[str]:
    """The option that leads another command to a folder of runs; none where it goes there anyway."""
    return [] if root == RUN_FOLDER.resolve() else ["--out", short_path(root)]


def show_verdict(console: Console, result: "RunResult") -> None:
    """The gate's decision: each bound with its mark, why it refused, and what to do."""
    verdict = result.verdict
    if verdict is None:
        return
    word = ("PASS", "bold green") if verdict.outcome == "pass" else ("FAIL", "bold red")
    console.print(Text.assemble("\n", ("Verdict: ", "bold"), word))
    _show_rules(console, verdict)
    if verdict.override:
        text = f"OVERRIDDEN by {verdict.override.approver}: {verdict.override.reason}"
        say(f"  {text}", "bold yellow", to=console)
    elif "override" in verdict.notes:
        say(f"  {verdict.notes['override']}", to=console)
    if remedies := verdict.notes.get("remedies", ()):
        console.print(Text("What to do", "bold"))
        for line in remedies:
            say(line, label="  ", to=console)
    for line in verdict.notes.get("advice", ()):
        say(line, "yellow", label=Text("  note: ", "yellow"), to=console)
    if result.release:
        say(f"Model: {result.release.name} version {result.release.model_version}", to=console)


def _show_rules(console: Console, verdict: "Verdict") -> None:
    """A line for each bound and for each other rule that failed, with their marks."""
    from slipway.components.config.kinds import (
        asked_bound,
        asked_of,
        in_order,
        metric_name,
        rule_name,
    )

    ascii_only = console.options.ascii_only
    bad, good = (
        Text("  x " if ascii_only else "  ✗ ", "red"),
        Text("  + " if ascii_only else "  ✓ ", "green"),
    )
    failed = [rule for rule in verdict.rules if rule.outcome != "pass"]
    names = in_order(verdict.thresholds)
    width = max((len(metric_name(name)) for name in names), default=0)
    for name in names:
        value, threshold = verdict.metrics.get(name), verdict.thresholds[name]
        shown = "not measured" if value is None else f"{value:.4f}"
        broken = [rule for rule in failed if rule.metric == name and rule.name.split()[0] == name]
        line = f"{metric_name(name):<{width}}  {shown}   {asked_of(name, threshold)}"
        asked = asked_bound(name, threshold) is not None
        mark = bad if broken else good if asked else Text(" " * good.cell_len)
        say(line, "red" if broken else "", label=mark, to=console)
        for rule in broken:  # where an interval is judged the value alone does not show it
            say(rule.reason, "red", label=" " * 4, to=console)
    others = [rule for rule in verdict.rules if rule.name.split()[0] not in names]
    for rule in others:
        if rule.outcome != "pass":
            say(f"{rule_name(rule.name)}: {rule.reason}", "red", label=bad, to=console)
    held = sum(rule.outcome == "pass" for rule in others)
    if held:
        say(f"{held} other rule{'s' * (held != 1)}", label=good, to=console)


_DRIFT = {
    "drift": "the data drifted",
    "stable": "the data is stable",
    "cannot_tell": "whether the data drifted cannot be told",
    "no_data": "too few data",
}


def show_monitoring(console: Console, record: "MonitoringRecord") -> None:
    """What a window came to, and its alerts."""
    summary = record.summary
    latency = summary["avg_latency"]
    labelled, least = summary.get("labelled") or 0, record.details.get("min_rows", 0)
    few = f" ({labelled:,} labels of the {least:,} that it takes)" if labelled < least else ""
    say(
        f"Monitoring: {summary['total_predictions']:,} predictions, {say_drift(record)},"
        f" {' '.join(quality(summary))}{few}, latency {'—' if latency is None else f'{latency:.1f} ms'}",
        to=console,
    )
    if not record.alerts:
        say("Alerts: none", to=console)
    show_alerts(console, record)


def say_drift(record: "MonitoringRecord") -> str:
    """Whether the data drifted: that nothing was seen to does not mean that it could have been."""
    counts = record.drift_counts
    if record.drift_status == "drift" or counts is None:
        return _DRIFT[record.drift_status]
    # Too few changed for the alert that asks for their share, or some cannot be told.
    told = counts.changed or counts.cannot_tell
    return counts.in_words if told else _DRIFT["stable"]


def show_alerts(console: Console, record: "MonitoringRecord") -> None:
    """Each alert of a window, and what to do about it."""
    for alert in record.alerts:
        label = Text.assemble("Alert: ", (alert.name, "yellow"), " ")
        say(alert.message, label=label, to=console)


def show_retraining(console: Console, result: "RunResult") -> None:
    """What came of a training that monitor or a person asked for."""
    show_verdict(console, result)
    if result.deployment:
        served = result.deployment
        say(f"Retrained: version {served.model_version} serves at {served.endpoint}", to=console)
    else:
        say(f"Retrained, and refused by the gate; {result.meanwhile}.", to=console)


def show_status(console: Console, lines: list[str], records: "list[LatestWindow]") -> None:
    """What runs, serves and was refused, and each model's latest monitored window with its trend.

    Args:
        console: where to.
        lines: a run at work, each local endpoint, each refusal.
        records: of `history.latest`.
    """
    for line in lines:
        say(line, to=console)
    if not records:
        say("Nothing was monitored yet: `slipway run` does, and so does the schedule.", to=console)
    for record in records:
        console.print()
        _show_model(console, record)


def _show_model(console: Console, record: "LatestWindow") -> None:
    """A model's last windows, a line each, and the alerts of each below where a line is too short."""
    from slipway.components.config.kinds import metric_name
    from slipway.components.contracts.monitoring.monitoring_record import DriftCounts

    metric, rows = metric_name(record["metric"]), record["trend"][-WINDOWS:]
    console.print(Text.assemble((record["model"], "bold"), f" version {record['model_version']}"))
    table = _trend(metric, rows, [", ".join(row["alerts"]) or "none" for row in rows])
    wide = console.options.update(width=1000)
    if console.is_terminal and console.measure(table, options=wide).maximum > console.width:
        table = _trend(metric, rows, [f"{len(row['alerts']) or 'none'}" for row in rows])
        below = [row for row in rows if row["alerts"]]
    else:
        below = []
    console.print(table)
    for row in below:
        say(", ".join(row["alerts"]), label=f"  {short_window(row['window'])}: ", to=console)
    counts = [DriftCounts(**row["features"]) for row in rows if row["features"]]
    if any(one.changed + one.not_changed and one.cannot_tell for one in counts):
        say("changed: features of all; ? of so many it cannot be told", "dim", to=console)


def _trend(metric: str, rows: "list[TrendWindow]", alerts: list[str]) -> Table:
    """The windows as a table, with what stands of the alerts of each."""
    from slipway.components.contracts.monitoring.monitoring_record import DriftCounts

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for title in ("window (UTC)", "predictions", metric, "latency", "changed"):
        justify: JustifyMethod = "left" if title.startswith("window") else "right"
        table.add_column(title, justify=justify, no_wrap=True)
    table.add_column("alerts", no_wrap=True)
    for row, fired in zip(rows, alerts, strict=True):
        latency, features = row["avg_latency"], row["features"]
        table.add_row(
            short_window(row["window"]),
            f"{row['total_predictions']:,}",
            _digits(metric, row["quality"]),
            "—" if latency is None else f"{latency:.1f} ms",
            DriftCounts(**features).in_short if features else "—",
            fired,
        )
    return table


def short_window(window: tuple[str, str]) -> str:
    """A window's days where both ends are midnight; else its start to the minute and its length."""
    start, end = (parse_instant(moment) for moment in window)
    ends = [f"{moment:%Y-%m-%d %H:%M}" for moment in (start, end)]
    if all(text.endswith(" 00:00") for text in ends):
        return " – ".join(text[:10] for text in ends)
    seconds = (end - start).total_seconds()
    whole = 60 * round(seconds / 60) if seconds >= 60 else round(seconds)
    return f"{ends[0]}, {_length(whole)}"


def _length(seconds: int) -> str:
    """How long a window is: in days and hours from a day on."""
    hours = seconds // 3600
    if hours < 24 or seconds % 3600 or not hours % 24:
        return format_duration(timedelta(seconds=seconds))
    return f"{hours // 24}d {hours % 24}h"


def quality(summary: Mapping[str, float | None]) -> tuple[str, str]:
    """What a window's labels are measured by, and the value: of a number that is the RMSE."""
    name, key = ("RMSE", "rmse") if "rmse" in summary else ("accuracy", "current_accuracy")
    return name, _digits(name, summary[key])


def _digits(metric: str, value: float | None) -> str:
    """A share with four decimals; what has a unit with five digits."""
    return "—" if value is None else f"{value:.4f}" if metric == "accuracy" else f"{value:.5g}"
