"""A small released model on the real flights: its registry, reference, log and labels, by contract."""

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway.components.contracts.dataset import Manifest, TableInfo, write_manifest
from slipway.components.contracts.monitoring.inference_log import (
    FEATURE_PREFIX,
    log_schema,
    partition,
)
from slipway.components.contracts.monitoring.reference import FILE, ReferenceSummary
from slipway.components.contracts.splits import Feature
from slipway.components.metrics.kinds.choose import label_type

LEAD = timedelta(hours=2)
THRESHOLD = 0.25
FEATURES = tuple(
    Feature(name=name, kind=kind, view="flights")
    for name, kind in (
        ("departs", "time"),
        ("operator", "categorical"),
        ("leaves_from", "categorical"),
        ("flies_to", "categorical"),
        ("miles", "numeric"),
        ("planned_minutes", "numeric"),
        ("temp", "numeric"),
        ("precip", "numeric"),
        ("visib", "numeric"),
        ("pressure", "numeric"),
        ("wind_speed", "numeric"),
        ("long_haul", "boolean"),
    )
)
SECTION: dict[str, Any] = {
    "entities": {"flight": "flight_id"},
    "examples": {"table": "flights", "key": "flight_id", "time": "departure", "lead": "2h"},
    "label": {"column": "arr_delay", "above": 15, "known": "arrival"},
    "split": {"validation": "31d", "test": "61d"},
    "views": [
        {
            "name": "flights",
            "entity": "flight",
            "table": "flights",
            "time": "departure",
            "available": "30d",
            "fields": {f.name: "distance" if f.name == "miles" else f.name for f in FEATURES},
        }
    ],
}


@pytest.fixture(scope="session")
def flights(lake: Path) -> pl.DataFrame:
    """Every flight of 2013 with features, outcome and a model's probability, ordered by time.

    The model is a table: the share of late flights of each hour and carrier from January to September.
    """
    weather = pl.read_parquet(lake / "weather" / "*.parquet").select(
        "origin", "temp", "precip", "visib", "pressure", "wind_speed",
        hour=pl.col("observed").dt.truncate("1h"),
    ).unique(["origin", "hour"], keep="first", maintain_order=True)  # fmt: skip
    table = (
        pl.read_parquet(lake / "flights" / "*.parquet")
        .with_columns(hour=pl.col("departure").dt.truncate("1h"))
        .join(weather, on=["origin", "hour"], how="left")
        .sort("departure", "flight_id")
        .with_columns(
            late=(pl.col("arr_delay") > 15).cast(pl.Int8),
            departs=pl.col("departure_local"),
            operator="carrier",
            leaves_from="origin",
            flies_to="dest",
            miles=pl.col("distance").cast(pl.Float64),
            planned_minutes=pl.col("scheduled_minutes").cast(pl.Float64),
            long_haul=pl.col("distance") > 1500,
            clock=pl.col("departure_local").dt.hour(),
        )
    )
    learnt = (
        table.filter(pl.col("departure") < datetime(2013, 10, 1, tzinfo=UTC))
        .group_by("clock", "carrier")
        .agg(probability=(pl.col("late").sum() + 2) / (pl.col("late").count() + 10))
    )
    return table.join(
        learnt, on=["clock", "carrier"], how="left", maintain_order="left"
    ).with_columns(pl.col("probability").fill_null(0.2))


@dataclass
class World:
    """One installation: a registry with a released version, a log, labels and a home."""

    root: Path
    flights: pl.DataFrame
    version: str
    config: dict[str, Any] = field(
        default_factory=lambda: {"alerts": {"accuracy": 0.6}, "report_rows": 0}
    )

    @property
    def log(self) -> Path:
        return self.root / "log"

    def between(self, start: str, end: str) -> pl.DataFrame:
        """Flights that were predicted (two hours before departure) in [start, end)."""
        first, last = (datetime.fromisoformat(t).replace(tzinfo=UTC) for t in (start, end))
        moment = pl.col("departure") - LEAD
        return self.flights.filter((moment >= first) & (moment < last))

    def write_log(
        self,
        rows: pl.DataFrame,
        *,
        version: str | None = None,
        latency_ms: float = 3.0,
        failed: int = 0,
        drop: tuple[str, ...] = (),
    ) -> None:
        """Logs the rows as the predictor would have, one file an hour, and `failed` 500s."""
        served = datetime(2026, 1, 1, tzinfo=UTC)
        table = rows.select(
            request_id=pl.arange(0, pl.len()).cast(pl.String),
            row=pl.lit(0, pl.Int32),
            key=pl.col("flight_id"),
            time=pl.col("departure") - LEAD,
            served_at=pl.lit(served) + pl.duration(milliseconds=10 * pl.arange(0, pl.len())),
            model_version=pl.lit(version or self.version),
            status=pl.lit(200, pl.Int16),
            probability=pl.col("probability"),
            label=(pl.col("probability") >= THRESHOLD).cast(pl.Int8),
            latency_ms=pl.lit(latency_ms),
            **{FEATURE_PREFIX + f.name: pl.col(f.name) for f in FEATURES if f.name not in drop},
        )
        features = tuple(f for f in FEATURES if f.name not in drop)
        schema = log_schema(features, label_type("binary").columns())
        for (hour,), part in table.group_by(pl.col("time").dt.truncate("1h")):
            folder = self.log / partition("flights", hour)  # type: ignore[arg-type]
            folder.mkdir(parents=True, exist_ok=True)
            whole = part.to_arrow().cast(pa.schema(schema))
            if failed:
                count, failed = failed, 0
                lost = pa.Table.from_pylist(
                    [
                        {"request_id": f"e{i}", "row": -1, "time": hour, "served_at": served,
                         "model_version": self.version, "status": 500, "latency_ms": 1.0}
                        for i in range(count)
                    ],
                    schema=schema,
                )  # fmt: skip
                whole = pa.concat_tables([whole, lost])
            pq.write_table(whole, folder / f"{uuid.uuid4().hex}.parquet")

    def write_labels(self, rows: pl.DataFrame | None = None) -> Path:
        """The labels dataset: the lake's columns of these flights, or of all."""
        folder = self.root / "labels"
        table = (self.flights if rows is None else rows).select(
            "flight_id", "departure", "arrival", "arr_delay"
        )
        (folder / "flights").mkdir(parents=True, exist_ok=True)
        table.write_parquet(folder / "flights" / "part-00000.parquet")
        info = TableInfo(
            rows=table.height,
            bytes=1,
            content_hash="0",
            columns={name: str(kind) for name, kind in table.schema.items()},
        )
        write_manifest(
            folder,
            Manifest(tables={"flights": info}, window=("2013", "2014"), content_hash="0"),
        )
        return folder

    def run(
        self,
        start: str,
        end: str,
        *,
        endpoint: str = "",
        wait: Callable[[Any], str] = lambda window: "",
        **changes: Any,
    ) -> Any:
        """Runs the stage as the face does; the log is taken for whole."""
        from slipway.components.config.data import parse_window
        from slipway.components.monitor.monitor import MonitoringTask, monitor_window

        labels = self.root / "labels"
        if not labels.exists():
            self.write_labels()
        return monitor_window(
            MonitoringTask(
                labels_path=labels,
                project="flights",
                config={**self.config, **changes},
                features=SECTION,
                window=parse_window(start, end),
                endpoint=endpoint,
                record_path=self.root / "record.json",
                report_path=self.root / "report",
                evidently_path=self.root / "evidently.html",
            ),
            wait,
        )


def write_reference(folder: Path, flights: pl.DataFrame) -> dict[str, float]:
    """The reference as register keeps it: train is January to September, test October."""
    first, last = datetime(2013, 10, 1, tzinfo=UTC), datetime(2013, 11, 1, tzinfo=UTC)
    labelled = flights.filter(pl.col("late").is_not_null())
    parts = {
        "train": labelled.filter(pl.col("departure") < first),
        "test": labelled.filter((pl.col("departure") >= first) & (pl.col("departure") < last)),
    }
    release: dict[str, float] = {}
    tables = []
    for name, rows in parts.items():
        predicted = (rows["probability"] >= THRESHOLD).cast(pl.Int8)
        if name == "test":
            release = {"accuracy": float((predicted == rows["late"]).mean())}  # type: ignore[arg-type]
        even = np.unique(np.linspace(0, rows.height - 1, 30_000).astype(int))
        tables.append(
            rows.with_columns(predicted=predicted).select(
                part=pl.lit(name),
                flight_id="flight_id",
                event_timestamp="departure",
                label="late",
                probability="probability",
                predicted="predicted",
                **{f.name: pl.col(f.name) for f in FEATURES},
            )[even]
        )
    folder.mkdir(parents=True, exist_ok=True)
    pl.concat(tables).write_parquet(folder / "reference.parquet")
    ReferenceSummary(
        model="flights",
        model_hash="c0ffee" * 10,
        data_hash="da7a" * 16,
        threshold=THRESHOLD,
        features=FEATURES,
        key="flight_id",
        rows={name: rows.height for name, rows in parts.items()},
        sampled=dict.fromkeys(parts, 30_000),
        windows={},
        statistics={},
        release=dict(release),
        intervals={},
        thresholds={"accuracy": 0.7},
        label_rate={},
        probability_mean={},
    ).write(folder / FILE)
    return release


@pytest.fixture(scope="session")
def reference_folder(tmp_path_factory: pytest.TempPathFactory, flights: pl.DataFrame) -> Path:
    """The reference folder of the released version."""
    folder = tmp_path_factory.mktemp("release") / "reference"
    write_reference(folder, flights)
    return folder


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, reference_folder: Path) -> tuple[str, str]:
    """URI of an MLflow with one released version of `flights`, and that version."""
    import mlflow

    root = tmp_path_factory.mktemp("monitor_mlflow")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment("flights", artifact_location=(root / "a").as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_artifacts(run, str(reference_folder), "reference")
    client.create_registered_model("flights")
    tags = {
        "slipway.reference_uri": f"runs:/{run}/reference",
        "slipway.model_hash": "c0ffee" * 10,
    }
    version = client.create_model_version("flights", source=str(root), run_id=run, tags=tags)
    return uri, str(version.version)


@pytest.fixture
def world(
    registry: tuple[str, str],
    flights: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """An installation of this test's own, with the shared registry."""
    from slipway.components.support import tracking

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry[0])
    monkeypatch.setenv("INFERENCE_LOG_URI", str(tmp_path / "log"))
    monkeypatch.setenv("MONITORING_URI", str(tmp_path / "home"))
    tracking.connect()
    return World(tmp_path, flights, registry[1])


@pytest.fixture
def flights_section() -> dict[str, Any]:
    """The world's `features` section."""
    return SECTION


@pytest.fixture
def new_world(world: World, tmp_path: Path) -> Callable[[], World]:
    """More worlds beside `world`, with logs and homes of their own."""

    def make() -> World:
        return World(tmp_path / uuid.uuid4().hex, world.flights, world.version)

    return make


@pytest.fixture
def page() -> Iterator[dict[str, Any]]:
    """A server whose /metrics answers with `text`."""
    state: dict[str, Any] = {"text": "", "status": 200}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = state["text"].encode() if self.path == "/metrics" else b""
            self.send_response(state["status"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state["url"] = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()
