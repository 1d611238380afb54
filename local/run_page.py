"""What a local run leaves for people: one page of the whole run, with its parts beside it.

Kubeflow's runner writes an artifact to a path without a suffix, which a browser shows as source text. So
what is HTML gets a copy beside it that ends in .html, and a run's pages are gathered in one folder.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from slipway.components.config.kinds import METRICS, asked_bound, asked_of, metric_name, rule_name
from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
from slipway.components.contracts.verdict import Verdict
from slipway.components.monitor.report.says import conclude
from slipway.components.support.pages import digits
from slipway.components.support.pages.flow import Step, draw_flow
from slipway.components.support.pages.pages import write_page
from slipway.components.train.report import describe_model
from slipway.local.job import RunResult
from slipway.local.runner.execution import TaskRun

if TYPE_CHECKING:
    from slipway.components.train.report import TrainingLog

TEMPLATE = Path(__file__).with_name("run_page.html.j2")
RUN = "run"
FILES = {
    "model card": "card.html",
    "training report": "training.html",
    "validation report": "validation.html",
    "monitoring report": "monitoring.html",
    "Evidently's page": "evidently.html",
}
"""The parts of a run, by the name that they have in its summary, and their files."""
_PART_OF = {
    "validate": "validation report",
    "train": "training report",
    "evaluate": "model card",
    "monitor": "monitoring report",
}
_LOOKS = 5
"""Features that are named of those that the model looks at; its own report has them all."""
_STATES = {"succeeded": "good", "cached": "good", "failed": "bad", "refused": "bad"}


def publish(
    folder: Path,
    result: RunResult,
    tracking: str,
    needs: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Writes a run's page, gathers its parts beside it, and names them all in `result.reports`.

    Args:
        folder: the run's own, made here.
        result: what it came to, also where it broke.
        tracking: where its experiments can be looked at: an address or a command.
        needs: stage to those that it waits for; one that is not named follows the one before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for name, path in result.reports.items():
        parts[name] = folder / FILES[name]
        shutil.copyfile(path, parts[name])
    page = folder / "report.html"
    write_page(
        page,
        TEMPLATE,
        result=result,
        says=_verdict(result),
        stages=_stages(result.tasks, parts),
        flow=_flow(result.tasks, needs),
        predicts=_read(result, "features", "splits", "splits.json").get("predicts", ""),
        tables=_read(result, "validate", "results").get("tables", {}),
        training=_training(_read(result, "train", "bundle", "training.json")),
        metrics=_metrics(result.verdict) if result.verdict else [],
        weakest_by=_weakest_by(result.verdict),
        watched=_watched(result.record) if result.record else None,
        parts=[(name, path.name) for name, path in parts.items()],
        tracking=tracking,
    )
    result.reports = {RUN: str(page), **{name: str(path) for name, path in parts.items()}}


def _verdict(result: RunResult) -> tuple[str, str, str]:
    """State, word and sentence of the whole run."""
    verdict = result.verdict
    if result.error:
        return "bad", "It broke.", result.error.splitlines()[0]
    if verdict is None:
        return "unknown", "No verdict.", "The run ended before the gate."
    if verdict.outcome == "fail":
        failed = sum(rule.outcome != "pass" for rule in verdict.rules)
        return (
            "bad",
            "Refused by the gate.",
            f"{failed} of {digits.counted(len(verdict.rules), 'rule')} failed; {result.meanwhile}.",
        )
    by = f", let through by {verdict.override.approver}" if verdict.override else ""
    serves = (
        f"version {result.deployment.model_version} serves at {result.deployment.endpoint}"
        if result.deployment
        else "nothing was deployed"
    )
    alerts = bool(result.record and result.record.alerts)
    state = "warn" if verdict.override or alerts else "good"
    return state, "Passed the gate.", f"{serves[:1].upper()}{serves[1:]}{by}."


def _stages(tasks: list[TaskRun], parts: dict[str, Path]) -> list[dict[str, object]]:
    longest = max((task.seconds for task in tasks), default=0.0) or 1.0
    rows = []
    for task in tasks:
        part = parts.get(_PART_OF.get(task.name, ""))
        rows.append(
            {
                "name": task.name,
                "status": task.status,
                "state": _STATES.get(task.status, ""),
                "time": _time(task),
                "share": task.seconds / longest,
                "headline": task.headline,
                "part": part.name if part else "",
            }
        )
    return rows


def _flow(tasks: list[TaskRun], needs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The stages with arrows, for a wide page and for a narrow one."""
    steps: list[Step] = []
    for task in tasks:
        before = [step.name for step in steps]
        known = needs.get(task.name, before[-1:])
        steps.append(
            Step(
                name=task.name,
                says=task.status if task.status == "skipped" else _time(task),
                state=_STATES.get(task.status, task.status if task.status == "skipped" else ""),
                needs=tuple(name for name in known if name in before),
            )
        )
    if not steps:
        return {}
    said = "The stages and what each waited for: " + "; ".join(
        f"{task.name} {task.status}, {_time(task)}" for task in tasks
    )
    return {name: draw_flow(steps, said, down=name == "narrow") for name in ("wide", "narrow")}


def _time(task: TaskRun) -> str:
    if task.status == "cached":
        return "cached"
    return digits.NONE if task.status == "skipped" else digits.seconds(task.seconds)


def _read(result: RunResult, stage: str, output: str, file: str = "") -> dict[str, object]:
    """JSON that a stage left; empty where it did not get so far."""
    for task in result.tasks:
        place = task.outputs.get(output)
        if task.name == stage and isinstance(place, str):
            path = Path(place) / file if file else Path(place)
            if path.is_file():
                found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
                return found
    return {}


def _training(log: dict[str, Any]) -> list[tuple[str, str]]:
    if not log:
        return []
    quality = log["quality_name"]
    best = sorted(log["importance"], key=lambda one: one["drop"], reverse=True)
    looks = ", ".join(one["feature"] for one in best[:_LOOKS] if one["drop"] > 0)
    model = describe_model(cast("TrainingLog", log))
    return [
        ("Model", f"{model[:1].upper()}{model[1:]}"),
        ("Trained on", f"{log['rows'].get('train', 0):,} rows"),
        (f"Validation {metric_name(quality)}", digits.number(log["metrics"].get(quality), 3)),
        *([("Looks most at", looks)] if looks else []),
        ("MLflow run", log["mlflow_run_id"] or "none"),
    ]


def _metrics(verdict: Verdict) -> list[dict[str, object]]:
    """Each rule that failed, then what the gate's first line holds against a bound."""
    bounded = _bounded(verdict)
    shown = {row["rule"] for row in bounded}
    failed = [
        {
            "rule": rule.name,
            "name": rule_name(rule.name),
            "value": digits.number(rule.value, places),
            "interval": digits.span(rule.low, rule.high, places),
            "bound": digits.NONE if rule.threshold is None else f"{rule.threshold:g}",
            "failed": True,
        }
        for rule in verdict.rules
        if rule.outcome != "pass" and rule.name not in shown
        for places in (digits.decimals_of(rule.low, rule.high, rule.value),)
    ]
    return failed + sorted(bounded, key=lambda row: not row["failed"])


def _bounded(verdict: Verdict) -> list[dict[str, object]]:
    ordered = dict.fromkeys(name for names in METRICS.values() for name in names)
    intervals = verdict.notes.get("intervals", {})
    rows = []
    for name in ordered:
        if (bound := asked_bound(name, verdict.thresholds.get(name))) is not None:
            value, (low, high) = verdict.metrics.get(name), intervals.get(name, (None, None))
            places = digits.decimals_of(low, high, value)
            failed = any(r.name == name and r.outcome != "pass" for r in verdict.rules)
            rows.append(
                {
                    "rule": name,
                    "name": metric_name(name),
                    "value": digits.number(value, places),
                    "interval": digits.span(low, high, places),
                    "bound": asked_of(name, bound),
                    "failed": failed,
                }
            )
    return rows


def _weakest_by(verdict: Verdict | None) -> str:
    """What the weakest groups are weakest in; empty: there are none."""
    weakest = verdict.notes.get("weakest") if verdict else None
    return metric_name(weakest[0]["metric"]) if weakest else ""


def _watched(record: MonitoringRecord) -> dict[str, Any]:
    """What the window came to, in the words of its own page."""
    return {
        "window": record.window,
        "found": conclude(record),
        "decision": record.details.get("decision", ""),
    }
