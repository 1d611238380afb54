"""The whole loop, replayed: months one after another, monitored, and retrained where they decay.

The first model learns from what lies before the first window. Then each window's rows are sent to the
endpoint as requests at their own moments, the monitoring pipeline looks at the window, and a training
that it asks for runs through the same compiled pipeline, gate and rollout as the first. The rows are
joined point in time once for the whole stretch, so that none knows more than it could.

A replay begins with no model: what an earlier one left in its folder is removed, since its last model
learnt from the months that the next one is tested on.

Beside what is served, the first model scores the same rows: what would have come without retraining.
"""

import itertools
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.base import format_instant, parse_instant
from slipway.components.config.project import LoadedProject
from slipway.components.contracts.bundle import read_bundle
from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
from slipway.components.contracts.rows.scoring import open_model, predict
from slipway.components.contracts.splits import (
    LABEL,
    PARTS,
    TIME,
    UNLABELLED,
    Splits,
    read_splits,
)
from slipway.components.metrics.kinds.choose import label_type, label_type_of
from slipway.components.support import files
from slipway.components.support.errors import SlipwayError
from slipway.examples.flights.replay.records import Released, Served, Values
from slipway.local.job import Job, RunResult, monitor, train
from slipway.local.retraining import serve_if_asked
from slipway.local.runner.progress import Progress
from slipway.local.traffic import send_rows
from slipway.local.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

TOLD = ("warning", "critical")
MARK = ".replay"  # in a folder that a replay made
KEPT = (MARK, ".lock", "lake")


def replay(
    loaded: LoadedProject,
    workspace: Workspace,
    display: Progress,
    starts: list[datetime],
    every: int = 1,
    on_window: Callable[[Served], None] = lambda served: None,
) -> tuple[list[Served], list[Released]]:
    """Replays the windows that begin at `starts`, the last up to the end of the project's data.

    Args:
        loaded: the project; its data window holds the training data and all windows.
        workspace: where everything is kept, in a folder of the replay's own; replay.json and replay.png
            are written there.
        display: shows progress.
        starts: beginnings of the windows; the first model learns from what lies before the first.
        every: of the rows, one in so many is sent.
        on_window: called after each window.

    Raises:
        SlipwayError: a stage failed, the gate refused the first model, or the folder is not a replay's.
    """
    from slipway.components.deploy.local.target import stop
    from slipway.examples.flights.replay.picture import draw

    with workspace.locked(), ExitStack() as at_end:
        clear_workspace(workspace)
        at_end.callback(stop, workspace.home)
        job = Job(loaded, workspace, display)
        job.compile("training", "monitoring")
        splits, rows = _history(job)
        training, result = train(job, {"window_end": format_instant(starts[0])})
        if result.deployment is None:
            reasons = result.verdict.reasons if result.verdict else []
            raise SlipwayError(f"The gate refused the first model: {' '.join(reasons)}")
        bundle = Path(training.output("train", "bundle"))
        label = label_type_of(read_bundle(bundle))
        rows = with_places(rows, splits.classes, label.class_names)
        splits = replace(splits, classes=label.class_names if splits.classes else ())
        released = [_released(result, starts[0], Path(training.output("features", "splits")))]
        windows: list[Served] = []
        ends = [*starts[1:], parse_instant(loaded.project.data.window_texts[1])]
        for start, end in zip(starts, ends, strict=True):
            served, new = _window(job, result, splits, rows, (start, end), every, bundle)
            windows.append(served)
            if new and new.deployment:
                result = new
                released.append(_released(new, end, _splits_of(new)))
            _keep(workspace, windows, released)
            draw(workspace.root / "replay.png", windows, released, rows, label)
            on_window(served)
    return windows, released


def clear_workspace(workspace: Workspace) -> None:
    """Empties the folder of an earlier replay, but for its tables.

    Raises:
        SlipwayError: there are models in the folder, and no replay made them.
    """
    from slipway.components.deploy.local.target import stop

    mark = workspace.root / MARK
    if not mark.exists():
        if (workspace.root / "mlflow.db").exists():
            raise SlipwayError(
                f"{workspace.root} holds the models of other runs, and a replay begins without any."
                " Give it a folder of its own with --out."
            )
        mark.touch()
    stop(workspace.home)
    for entry in workspace.root.iterdir():
        if entry.name in KEPT:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _window(
    job: Job,
    result: RunResult,
    splits: Splits,
    rows: "pl.DataFrame",
    window: tuple[datetime, datetime],
    every: int,
    first: Path,
) -> tuple[Served, RunResult | None]:
    """Sends one window, monitors it, and retrains where that is asked for."""
    import polars as pl

    if result.deployment is None:
        raise SlipwayError("Nothing is served.")
    lead = timedelta(seconds=splits.lead_seconds)
    moment = pl.col(TIME) - lead
    asked = rows.filter(moment >= window[0], moment < window[1]).gather_every(every)
    with job.display.pipeline("requests"):
        failed = send_rows(result.deployment.endpoint, result.deployment.name, splits, asked)
    if failed:
        raise SlipwayError(f"{failed} of {asked.height} requests failed.")
    ends = (format_instant(window[0]), format_instant(window[1]))
    run, record = monitor(job, ends, result.deployment.endpoint)
    new = serve_if_asked(job, record)
    kept = score(first, asked, splits)
    served = note(record, kept, job.loaded.project.monitoring.min_rows)
    report = str(run.output("monitor", "report"))
    outcome = new.verdict.outcome if new and new.verdict else None
    return replace(served, requests=asked.height, report=report, retrained=outcome), new


def note(record: MonitoringRecord, kept: Values, least: int) -> Served:
    """What a monitoring record says of a window, in the metrics of the first model.

    Args:
        record: of the window.
        kept: the first model's metrics there.
        least: fewer labels measure nothing.
    """
    performance, release = (record.details[name] or {} for name in ("performance", "release"))
    enough = performance.get("labelled", 0) >= least
    return Served(
        window=record.window,
        requests=0,
        version=record.metrics.model_version,
        metrics={name: performance.get(name) if enough else None for name in kept},
        intervals=(performance.get("intervals") or {}) if enough else {},
        release={name: release.get(name) for name in kept},
        kept=kept,
        drift=record.metrics.data_drift_score,
        alerts=tuple(a.name for a in record.alerts if a.severity in TOLD),
        decision=record.details["decision"],
        retrained=None,
        report="",
    )


def score(folder: Path, rows: "pl.DataFrame", splits: Splits) -> Values:
    """How a model does on those rows that have a label, whether or not it is the one that serves.

    Args:
        folder: its bundle.
        rows: with features and labels.
        splits: what the labels stand for. Of a class that the model does not know no row counts.
    """
    import numpy as np

    bundle = read_bundle(folder)
    label = label_type_of(bundle)
    rows = with_places(rows, splits.classes, bundle.classes).drop_nulls(LABEL)
    answers = predict(open_model(folder), bundle, rows.to_arrow()).astype(np.float64)
    values = label.measure(rows[LABEL].to_numpy(), answers) if rows.height else {}
    found = {name: values.get(name, math.nan) for name in label.headline}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def with_places(
    rows: "pl.DataFrame", classes: tuple[str, ...], known: tuple[str, ...]
) -> "pl.DataFrame":
    """Rows with the places that a model has for its classes; null of one that it does not know."""
    import polars as pl

    if not classes:
        return rows
    places = {place: known.index(name) for place, name in enumerate(classes) if name in known}
    moved = pl.col(LABEL).replace_strict(places, default=None, return_dtype=pl.Int32)
    return rows.with_columns(moved)


def _history(job: Job) -> tuple[Splits, "pl.DataFrame"]:
    """All rows of the project's data with their features, joined once."""
    from slipway.components.config.parameters import struct_of
    from slipway.components.features.features import build_features
    from slipway.components.ingest.ingest import ingest_tables

    project = job.loaded.project
    folder = job.workspace.root / "history"
    start, end = project.data.window_texts
    features = project.features.to_struct()
    features["split"] = {**features["split"], "gap": "0s"}  # no row is left out
    with job.display.pipeline("history"), _environment(FEATURE_STORE_URI=str(folder / "store")):
        ingest_tables(
            config=struct_of(project.data, "data"),
            data_root=job.data_root,
            window_start=start,
            window_end=end,
            output=folder / "dataset",
        )
        build_features(folder / "dataset", project.project_name, features, folder / "rows")
    splits = read_splits(folder / "rows")
    return splits, read_all_rows(folder / "rows")


def read_all_rows(folder: Path) -> "pl.DataFrame":
    """The rows of all parts, in order of time, also those that never get a label.

    Nobody knows which they are when they are asked for: a cancelled flight is predicted like any other.
    """
    import polars as pl

    tables = [pl.read_parquet(folder / f"{part}.parquet") for part in PARTS]
    if (unlabelled := folder / UNLABELLED).is_file():
        tables.append(pl.read_parquet(unlabelled).select(tables[0].columns))
    return pl.concat(tables, how="vertical_relaxed").sort(TIME)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _splits_of(result: RunResult) -> Path:
    features = next(task for task in result.tasks if task.name == "features")
    return Path(features.outputs["splits"])


def _released(result: RunResult, at: datetime, splits: Path) -> Released:
    found = read_splits(splits)
    names = label_type(found.label_kind, classes=found.classes).headline
    verdict = result.verdict
    return Released(
        version=result.release.model_version if result.release else "",
        at=format_instant(at),
        parts=found.windows,
        metrics={name: verdict.metrics.get(name) if verdict else None for name in names},
        thresholds={name: verdict.thresholds.get(name) if verdict else None for name in names},
    )


def _keep(workspace: Workspace, windows: list[Served], released: list[Released]) -> None:
    content = {
        "windows": [asdict(window) for window in windows],
        "releases": [asdict(release) for release in released],
    }
    files.write_json(workspace.root / "replay.json", content)


def months(first: datetime, count: int) -> list[datetime]:
    """The same instant of so many months in a row."""
    starts = (
        (first.year + (first.month - 1 + i) // 12, (first.month - 1 + i) % 12 + 1)
        for i in itertools.count()
    )
    return [first.replace(year=y, month=m) for y, m in itertools.islice(starts, count)]
