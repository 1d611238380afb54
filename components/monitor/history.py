"""The history of monitored windows: one parquet file a window (see `state` for the layout).

A window that is run again replaces its files, so the history has one row a window whatever happens to
the run; two models, or two windows at once, do not touch each other. Names carry the windows: of the
history of years only those that are shown are read.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from slipway.components.config.base import parse_instant
from slipway.components.config.data import Window, parse_window
from slipway.components.contracts.monitoring.monitoring_record import MonitoringRecord
from slipway.components.monitor import state
from slipway.components.monitor.measures.sketch import Sketch, merge, sketch_from_dict
from slipway.components.monitor.state import Root, folder
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import pyarrow as pa

TREND = 30
LATEST = "latest.json"
"""Beside a model's windows: the name of the one that was measured last."""


def window_name(window: tuple[str, str]) -> str:
    """The file name of a window: sorts by its start, then its end."""
    return "_".join(f"{parse_instant(moment):%Y%m%dT%H%M%SZ}" for moment in window)


def append(root: Root, record: MonitoringRecord) -> str:
    """Writes the row of a window, in place of an earlier one of the same window."""
    import pyarrow as pa

    numbers = asdict(record.metrics)
    numbers.pop("timestamp")
    version = numbers.pop("model_version")
    instant = pa.timestamp("us", tz="UTC")
    schema = pa.schema(
        [
            ("model", pa.string()),
            ("window_start", instant),
            ("window_end", instant),
            ("timestamp", instant),
            ("model_version", pa.string()),
            *((name, pa.float64()) for name in numbers),
            ("drift_status", pa.string()),
            ("total_predictions", pa.int64()),
            ("alerts", pa.list_(pa.string())),
            ("retrain", pa.bool_()),
            ("measured_at", instant),
            ("record", pa.string()),
        ]
    )
    row = {
        "model": record.model,
        "window_start": parse_instant(record.window[0]),
        "window_end": parse_instant(record.window[1]),
        "timestamp": parse_instant(record.metrics.timestamp),
        "model_version": version,
        **numbers,
        "drift_status": record.drift_status,
        "total_predictions": record.summary["total_predictions"],
        "alerts": [alert.name for alert in record.alerts],
        "retrain": record.retrain,
        "measured_at": datetime.now(UTC),
        "record": record.to_json(),
    }
    name = f"{window_name(record.window)}.parquet"
    path = f"{folder(root, record.model)}/windows/{name}"
    _write(path, pa.Table.from_pylist([row], schema=schema))
    state.write(
        f"{folder(root, record.model)}/{LATEST}", (json.dumps({"window": name}) + "\n").encode()
    )
    return path


def append_sketches(
    root: Root, model: str, window: tuple[str, str], version: str, sketches: Mapping[str, Sketch]
) -> str:
    """Keeps the sketches of a window, so that windows can be merged later without their data."""
    import pyarrow as pa

    table = pa.table(
        {
            "model_version": [version] * len(sketches),
            "feature": list(sketches),
            "sketch": [json.dumps(sketch.to_dict()) for sketch in sketches.values()],
        }
    )
    path = f"{folder(root, model)}/sketches/{window_name(window)}.parquet"
    _write(path, table)
    return path


def read_sketches(path: str) -> tuple[str, dict[str, Sketch]]:
    """The model version and the sketches of an earlier window.

    Raises:
        SlipwayError: the file is damaged.
    """
    rows = _read(path).to_pylist()
    sketches = {row["feature"]: sketch_from_dict(json.loads(row["sketch"])) for row in rows}
    return rows[0]["model_version"], sketches


def merged_sketches(
    root: Root,
    model: str,
    version: str,
    window: Window,
    span: timedelta,
    season: timedelta | None = None,
) -> tuple[dict[str, Sketch], int]:
    """The sketches of earlier windows of one model version, merged without reading their data.

    Args:
        root: where monitoring keeps its files.
        model: the registered model's name.
        version: only windows of this version: those of another have other bins.
        window: the window to compare; earlier ones end by its start, and begin within `span` of it.
        span: how far back.
        season: only windows that began a whole number of seasons earlier, give or take half a window.

    Returns:
        Feature to its sketch, and how many windows were merged (none: no sketches).
    """
    merged: dict[str, Sketch] = {}
    windows = 0
    place = f"{folder(root, model)}/sketches"
    for name in state.names(place):
        earlier = _window_of(name)
        age = window.start - earlier.start
        if earlier.end > window.start or age > span:
            continue
        if season:
            off = age % season
            if min(off, season - off) > window.length / 2:
                continue
        owner, sketches = read_sketches(f"{place}/{name}")
        if owner != version:
            continue
        windows += 1
        for feature, sketch in sketches.items():
            known = merged.get(feature)
            merged[feature] = merge(known, sketch) if known else sketch
    return merged, windows


def records(
    root: Root,
    model: str,
    before: datetime | None = None,
    after: datetime | None = None,
    newest: int | None = None,
) -> list[MonitoringRecord]:
    """The records of a model's windows, the oldest first; of two that end at once the newer one last.

    Args:
        root: where monitoring keeps its files.
        model: the registered model's name.
        before: only windows that ended earlier.
        after: only windows that ended at this time or later.
        newest: so many of them, those that ended last; others are not read.
    """
    return [record for _, record in _measured(root, model, before, after, newest)]


def count(root: Root, model: str) -> int:
    """How many windows of a model are kept."""
    return len(state.names(f"{folder(root, model)}/windows"))


def _measured(
    root: Root,
    model: str,
    before: datetime | None = None,
    after: datetime | None = None,
    newest: int | None = None,
) -> list[tuple[datetime, MonitoringRecord]]:
    """As `records`, each with the time at which its window was measured last."""
    place = f"{folder(root, model)}/windows"
    ends = sorted((_window_of(name).end, name) for name in state.names(place))
    wanted = [
        name
        for end, name in ends
        if (before is None or end < before) and (after is None or end >= after)
    ]
    found = [_record(f"{place}/{name}") for name in (wanted[-newest:] if newest else wanted)]
    return sorted(found, key=lambda entry: (parse_instant(entry[1].window[1]), entry[0]))


def _measured_last(
    root: Root, model: str, shown: list[tuple[datetime, MonitoringRecord]]
) -> MonitoringRecord:
    """The record that was measured last: of those that are shown, and of the one that is noted.

    The note alone is not asked: a run may have ended before it wrote it.
    """
    entries = list(shown)
    path = f"{folder(root, model)}/{LATEST}"
    noted = state.read(path)
    if noted is not None:
        try:
            name = json.loads(noted)["window"]
            window = _window_of(name).texts
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise SlipwayError(
                f"{path} does not name a window ({error!r}). Delete it: the next window writes it anew."
            ) from error
        known = {window_name(record.window) for _, record in shown}
        if window_name(window) not in known and name in state.names(
            place := f"{folder(root, model)}/windows"
        ):
            entries.append(_record(f"{place}/{name}"))
    return entries[max(range(len(entries)), key=lambda i: (entries[i][0], i))][1]


class TrendWindow(TypedDict):
    """One window in a trend; `quality` is accuracy, or the RMSE of a number."""

    window: tuple[str, str]
    window_end: str
    model_version: str
    quality: float | None
    avg_latency: float | None
    data_drift_score: float | None
    features: dict[str, int] | None
    total_predictions: int
    alerts: list[str]


class LatestWindow(TypedDict):
    """The window of a model that was measured last, and its trend."""

    model: str
    model_version: str
    window: tuple[str, str]
    drift_status: str
    features: dict[str, int] | None
    metric: str
    summary: dict[str, Any]
    alerts: list[dict[str, object]]
    retrain: bool
    trend: list[TrendWindow]


def latest(root: Root) -> list[LatestWindow]:
    """What `slipway status` shows: for each model the window that was measured last, and the trend.

    That need not be the window that ends last: of two runs on other data the newer one counts.

    Returns:
        A dict a model: model, model_version, window, drift_status, features (how many changed,
        not_changed and cannot_tell; None: none was compared), metric (accuracy, or rmse of a number),
        summary, alerts (as dicts), retrain, and trend: the last windows' window, window_end,
        model_version, quality (that metric), avg_latency, data_drift_score, features,
        total_predictions and alerts (names), the oldest first.
    """
    shown: list[LatestWindow] = []
    for model in state.names(str(root)):
        entries = _measured(root, model, newest=TREND)
        if not entries:
            continue
        # A window's late labels are told by windows that end later, so by windows of the trend.
        history = [record for _, record in entries]
        last = _measured_last(root, model, entries)
        metric = "rmse" if "rmse" in last.summary else "accuracy"
        late = {
            tuple(w["window"]): w.get(metric) for r in history for w in r.details.get("late", ())
        }
        shown.append(
            {
                "model": model,
                "model_version": last.metrics.model_version,
                "window": last.window,
                "drift_status": last.drift_status,
                "features": asdict(last.drift_counts) if last.drift_counts else None,
                "metric": metric,
                "summary": last.summary,
                "alerts": [asdict(alert) for alert in last.alerts],
                "retrain": last.retrain,
                "trend": [
                    {
                        "window": record.window,
                        "window_end": record.window[1],
                        "model_version": record.metrics.model_version,
                        # With the labels that came later, where they did.
                        "quality": late.get(record.window, _quality(record, metric)),
                        "avg_latency": record.metrics.prediction_latency_ms,
                        "data_drift_score": record.metrics.data_drift_score,
                        "features": asdict(record.drift_counts) if record.drift_counts else None,
                        "total_predictions": record.summary["total_predictions"],
                        "alerts": [alert.name for alert in record.alerts],
                    }
                    for record in history
                ],
            }
        )
    return shown


def _quality(record: MonitoringRecord, metric: str) -> float | None:
    """A window's metric by its own run."""
    value = record.summary.get("rmse") if metric == "rmse" else record.metrics.model_accuracy
    return None if value is None else float(value)


def _window_of(name: str) -> Window:
    """The window that a file is named after."""
    return parse_window(*name.removesuffix(".parquet").split("_"))


def _record(path: str) -> tuple[datetime, MonitoringRecord]:
    row = _read(path).to_pylist()[0]
    # Rows of an earlier release do not say when they were measured: before all others.
    measured_at = row.get("measured_at") or datetime.min.replace(tzinfo=UTC)
    return measured_at, MonitoringRecord.parse(row["record"], path)


def _read(path: str) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = state.read(path)
    try:
        return pq.ParquetFile(pa.BufferReader(content or b"")).read()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SlipwayError(
            f"The monitoring history {path} cannot be read: {error}. Run the window again."
        ) from error


def _write(path: str, table: "pa.Table") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    state.write(path, sink.getvalue().to_pybytes())
