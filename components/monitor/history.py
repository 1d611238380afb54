"""The history of monitored windows: one parquet file a window below SLIPWAY_HOME/monitoring.

Layout, version 1::

    <home>/monitoring/<model>/windows/<start>_<end>.parquet    one row: the record, typed
    <home>/monitoring/<model>/sketches/<start>_<end>.parquet   one row a feature: its sketch

A window that is run again replaces its files, so the history has one row a window whatever happens to
the run; two models, or two windows at once, do not touch each other.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.contracts.config.base import parse_instant
from components.contracts.errors import SlipwayError
from components.contracts.monitoring_record import Alert, MLSystemMetrics, MonitoringRecord
from components.monitor.sketch import Sketch, merge, sketch_from_dict

if TYPE_CHECKING:
    import pyarrow as pa

TREND = 30


def folder(home: Path, model: str) -> Path:
    """Where the history of one model lies."""
    return home / "monitoring" / model


def window_name(window: tuple[str, str]) -> str:
    """The file name of a window: sorts by its start, then its end."""
    return "_".join(f"{parse_instant(moment):%Y%m%dT%H%M%SZ}" for moment in window)


def append(home: Path, record: MonitoringRecord) -> Path:
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
        "record": json.dumps(asdict(record), sort_keys=True, allow_nan=False),
    }
    path = folder(home, record.model) / "windows" / f"{window_name(record.window)}.parquet"
    _write(path, pa.Table.from_pylist([row], schema=schema))
    return path


def append_sketches(
    home: Path, model: str, window: tuple[str, str], version: str, sketches: Mapping[str, Sketch]
) -> Path:
    """Keeps the sketches of a window, so that windows can be merged later without their data."""
    import pyarrow as pa

    table = pa.table(
        {
            "model_version": [version] * len(sketches),
            "feature": list(sketches),
            "sketch": [json.dumps(sketch.to_dict()) for sketch in sketches.values()],
        }
    )
    path = folder(home, model) / "sketches" / f"{window_name(window)}.parquet"
    _write(path, table)
    return path


def read_sketches(path: Path) -> tuple[str, dict[str, Sketch]]:
    """The model version and the sketches of an earlier window.

    Raises:
        SlipwayError: the file is damaged.
    """
    rows = _read(path).to_pylist()
    sketches = {row["feature"]: sketch_from_dict(json.loads(row["sketch"])) for row in rows}
    return rows[0]["model_version"], sketches


def merged_sketches(
    home: Path,
    model: str,
    version: str,
    window: tuple[datetime, datetime],
    span: timedelta,
    season: timedelta | None = None,
) -> tuple[dict[str, Sketch], int]:
    """The sketches of earlier windows of one model version, merged without reading their data.

    Args:
        home: the state folder.
        model: the registered model's name.
        version: only windows of this version: those of another have other bins.
        window: the window to compare; earlier ones end by its start, and begin within `span` of it.
        span: how far back.
        season: only windows that began a whole number of seasons earlier, give or take half a window.

    Returns:
        Feature to its sketch, and how many windows were merged (none: no sketches).
    """
    start, length = window[0], window[1] - window[0]
    merged: dict[str, Sketch] = {}
    windows = 0
    for path in sorted((folder(home, model) / "sketches").glob("*.parquet")):
        begins, ends = (parse_instant(moment) for moment in path.stem.split("_"))
        age = start - begins
        if ends > start or age > span:
            continue
        if season:
            off = age % season
            if min(off, season - off) > length / 2:
                continue
        owner, sketches = read_sketches(path)
        if owner != version:
            continue
        windows += 1
        for name, sketch in sketches.items():
            merged[name] = merge(merged[name], sketch) if name in merged else sketch
    return merged, windows


def records(home: Path, model: str, before: datetime | None = None) -> list[MonitoringRecord]:
    """The records of a model's windows, the oldest first.

    Args:
        home: the state folder.
        model: the registered model's name.
        before: only windows that ended earlier.
    """
    found = []
    for path in sorted((folder(home, model) / "windows").glob("*.parquet")):
        end = parse_instant(path.stem.split("_")[1])
        if before is None or end < before:
            found.append(_record(path))
    return sorted(found, key=lambda record: parse_instant(record.window[1]))


def latest(home: Path) -> list[dict[str, Any]]:
    """What `slipway status` shows: for each model its last window and the trend.

    Returns:
        A dict a model: model, model_version, window, drift_status, summary, alerts (as dicts), retrain,
        and trend: the last windows' window_end, current_accuracy, avg_latency, data_drift_score,
        total_predictions and alerts (names), the oldest first.
    """
    models = sorted(path.name for path in (home / "monitoring").glob("*") if path.is_dir())
    shown = []
    for model in models:
        history = records(home, model)
        if not history:
            continue
        last = history[-1]
        shown.append(
            {
                "model": model,
                "model_version": last.metrics.model_version,
                "window": last.window,
                "drift_status": last.drift_status,
                "summary": last.summary,
                "alerts": [asdict(alert) for alert in last.alerts],
                "retrain": last.retrain,
                "trend": [
                    {
                        "window_end": record.window[1],
                        "current_accuracy": record.metrics.model_accuracy,
                        "avg_latency": record.metrics.prediction_latency_ms,
                        "data_drift_score": record.metrics.data_drift_score,
                        "total_predictions": record.summary["total_predictions"],
                        "alerts": [alert.name for alert in record.alerts],
                    }
                    for record in history[-TREND:]
                ],
            }
        )
    return shown


def _record(path: Path) -> MonitoringRecord:
    content = json.loads(_read(path)["record"][0].as_py())
    content["metrics"] = MLSystemMetrics(**content["metrics"])
    content["alerts"] = tuple(Alert(**alert) for alert in content["alerts"])
    content["window"] = tuple(content["window"])
    return MonitoringRecord(**content)


def _read(path: Path) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise SlipwayError(
            f"The monitoring history {path} cannot be read: {error}. Run the window again."
        ) from error


def _write(path: Path, table: "pa.Table") -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        pq.write_table(table, partial, compression="zstd")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
