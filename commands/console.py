"""What a person sees in the terminal."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from slipway.commands.projects import RUN_FOLDER
from slipway.components.support.secrets import redact
from slipway.local.execution import TaskRun

if TYPE_CHECKING:
    from slipway.components.contracts.monitoring_record import MonitoringRecord
    from slipway.local.job import RunResult
    from slipway.local.workspace import Workspace

COLOURS = {"succeeded": "green", "cached": "cyan", "failed": "red", "skipped": "dim"}


class Display:
    """Progress of a run: a line for each task that ended, and a live line for the one at work.

    Without a terminal (in CI, in a file) the live line is left out.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._status: Status | None = None

    @contextmanager
    def pipeline(self, name: str) -> Iterator[None]:
        """Shows what runs while the block does."""
        if name != "requests":
            self.console.print(f"[bold]{name} pipeline[/bold]")
        if not self.console.is_terminal:
            yield
            return
        self._status = self.console.status(name)
        with self._status:
            yield
        self._status = None

    def started(self, task: TaskRun) -> None:
        """A task has started."""
        self.progress(task, "…", None)

    def progress(self, task: TaskRun, message: str, done: float | None) -> None:
        """A task says how far it is."""
        if self._status:
            share = "" if done is None else f" {done:.0%}"
            self._status.update(f"{task.name}{share} [dim]{escape(message)}[/dim]")

    def ended(self, task: TaskRun) -> None:
        """A task has ended."""
        colour = COLOURS.get(task.status, "")
        self.console.print(
            f"  {task.name:<10} [{colour}]{task.status:<9}[/{colour}] {task.seconds:6.1f} s"
            f"  {escape(task.headline)}",
            soft_wrap=True,
            highlight=False,
        )

    def note(self, text: str) -> None:
        """Something that a person should know, and that ends nothing."""
        self.console.print(
            f"  note: {escape(text)}", style="yellow", soft_wrap=True, highlight=False
        )


def show_result(console: Console, result: "RunResult", workspace: "Workspace") -> None:
    """The table, the verdict, the endpoint, the alerts, and where to look next."""
    table = Table(title=f"{result.project}", title_justify="left")
    table.add_column("stage")
    table.add_column("status")
    table.add_column("seconds", justify="right")
    table.add_column("peak MB", justify="right")
    table.add_column("what came out")
    for task in result.tasks:
        colour = COLOURS.get(task.status, "")
        table.add_row(
            task.name,
            f"[{colour}]{task.status}[/{colour}]",
            f"{task.seconds:.1f}" if task.status != "skipped" else "",
            f"{task.peak_mb:.0f}" if task.peak_mb else "",
            escape(task.headline),
        )
    console.print(table)
    _show_verdict(console, result)
    if result.deployment:
        console.print(f"Endpoint: {result.deployment.endpoint}{_served(result)}", highlight=False)
    elif result.verdict and result.verdict.outcome == "fail":
        console.print("Nothing was registered and nothing deployed; what served before still does.")
    if result.record:
        show_monitoring(console, result.record)
    if result.retraining:
        show_retraining(console, result.retraining)
    console.print("\nWhere to look next", style="bold")
    places = {
        **result.reports,
        "experiments": _experiments(workspace.settings()["MLFLOW_TRACKING_URI"]),
        "this summary": str(workspace.summary),
    }
    if result.deployment and result.deployment.target == "local":
        places["stop the predictor"] = shlex.join(["slipway", "stop", *out_option(workspace.root)])
    for name, place in places.items():
        console.print(f"  {name:<18} {escape(place)}", soft_wrap=True, highlight=False)


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
    return shlex.join(["mlflow", "ui", "--backend-store-uri", redact(uri)])


def out_option(root: Path) -> list[str]:
    """The option that leads another command to a folder of runs; none where it goes there anyway."""
    return [] if root == RUN_FOLDER.resolve() else ["--out", str(root)]


def _show_verdict(console: Console, result: "RunResult") -> None:
    verdict = result.verdict
    if verdict is None:
        return
    from slipway.components.config.kinds import LOWER_IS_BETTER, METRICS

    word = "[green]PASS[/green]" if verdict.outcome == "pass" else "[red]FAIL[/red]"
    console.print(f"\nVerdict: {word}", style="bold")
    # In the order that a kind's metrics are shown: a record's own order is the alphabet's.
    ordered = dict.fromkeys(name for metrics in METRICS.values() for name in metrics)
    for name in filter(verdict.thresholds.__contains__, ordered):
        value, threshold = verdict.metrics.get(name), verdict.thresholds[name]
        shown = "not measured" if value is None else f"{value:.4f}"
        relation = "at most" if name in LOWER_IS_BETTER else "at least"
        console.print(f"  {name:<9} {shown}   {relation} {threshold}", highlight=False)
    for reason in verdict.reasons:
        console.print(f"  refused: {escape(reason)}", style="red", highlight=False, soft_wrap=True)
    if verdict.override:
        console.print(
            f"  OVERRIDDEN by {escape(verdict.override.approver)}: {escape(verdict.override.reason)}",
            style="bold yellow",
            highlight=False,
            soft_wrap=True,
        )
    elif "override" in verdict.notes:
        console.print(f"  {escape(verdict.notes['override'])}", highlight=False, soft_wrap=True)
    if remedies := verdict.notes.get("remedies", ()):
        console.print("What to do", style="bold")
        for line in remedies:
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    for line in verdict.notes.get("advice", ()):
        console.print(f"  note: {escape(line)}", style="yellow", highlight=False, soft_wrap=True)
    if result.release:
        console.print(f"Model: {result.release.name} version {result.release.model_version}")


def show_monitoring(console: Console, record: "MonitoringRecord") -> None:
    """What a window came to, and its alerts."""
    summary = record.summary
    latency = summary["avg_latency"]
    name, value = ("accuracy", summary["current_accuracy"])
    if "rmse" in summary:
        name, value = "RMSE", summary["rmse"]
    console.print(
        f"Monitoring: {summary['total_predictions']:,} predictions, drift {record.drift_status},"
        f" {name} {'—' if value is None else f'{value:.4f}'},"
        f" latency {'—' if latency is None else f'{latency:.1f} ms'}",
        highlight=False,
        soft_wrap=True,
    )
    if not record.alerts:
        console.print("Alerts: none")
    for alert in record.alerts:
        console.print(
            f"Alert: [yellow]{alert.name}[/yellow] {escape(alert.message)}",
            highlight=False,
            soft_wrap=True,
        )


def show_retraining(console: Console, result: "RunResult") -> None:
    """What came of a training that monitor or a person asked for."""
    _show_verdict(console, result)
    if result.deployment:
        console.print(
            f"Retrained: version {result.deployment.model_version} serves at"
            f" {result.deployment.endpoint}",
            highlight=False,
        )
    else:
        console.print(
            "Retrained, and refused by the gate: the model that served before still serves."
        )


def show_status(console: Console, endpoints: list[str], records: list[dict[str, Any]]) -> None:
    """The local endpoints, and each model's latest monitored window with its trend."""
    for line in endpoints or ["No predictor is running here."]:
        console.print(line, highlight=False)
    if not records:
        console.print("Nothing was monitored yet: `slipway run` does, and so does the schedule.")
        return
    table = Table(
        "model", "window", "predictions", "accuracy", "trend", "latency", "drift", "alerts"
    )
    for record in records:
        summary = record["summary"]
        accuracy, latency = summary["current_accuracy"], summary["avg_latency"]
        measured = "—" if accuracy is None else f"{accuracy:.4f}"
        if summary.get("rmse") is not None:
            measured = f"RMSE {summary['rmse']:.5g}"
        trend = [row["current_accuracy"] for row in record["trend"]]
        table.add_row(
            f"{record['model']} {record['model_version']}",
            " to ".join(str(moment) for moment in record["window"]),
            f"{summary['total_predictions']:,}",
            measured,
            " ".join("—" if value is None else f"{value:.3f}" for value in trend[-5:]),
            "—" if latency is None else f"{latency:.1f} ms",
            record["drift_status"],
            ", ".join(alert["name"] for alert in record["alerts"]) or "none",
        )
    console.print(table)
