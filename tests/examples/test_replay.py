"""The replay's parts that need no training: the turned year, the months, the picture."""

import importlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.datasets import write_dataset

from slipway.components.contracts.splits import LABEL, TIME
from slipway.components.features.features import build_features
from slipway.components.support.errors import SlipwayError
from slipway.examples.flights.replay.months import clear_workspace, months, read_all_rows
from slipway.examples.flights.replay.picture import draw
from slipway.examples.flights.replay.records import Released, Served
from slipway.local.workspace import Workspace


@pytest.fixture(scope="module")
def example() -> Any:
    """The example's script as a module."""
    return importlib.import_module("slipway.examples.flights.replay.__main__")


def test_the_turned_year_shows_every_flight_once_on_its_weekday(
    example: Any, lake: Path, tmp_path: Path
) -> None:
    example.turn(lake, tmp_path)
    before = pl.read_parquet(lake / "flights" / "*.parquet")
    after = pl.read_parquet(tmp_path / "flights" / "year.parquet")
    first = before.filter(pl.col("departure_local") < datetime(2013, 1, 2)).height
    assert after.height == before.height - first
    assert after["flight_id"].n_unique() == after.height
    assert after["departure_local"].min() >= datetime(2013, 3, 1)
    assert after["departure_local"].max() < datetime(2014, 3, 1)
    moved = after.filter(pl.col("departure_local") >= datetime(2014, 1, 1))
    back = moved.with_columns(
        departure_local=pl.col("departure_local") - timedelta(weeks=52)
    ).select("departure_local", "carrier", "flight", "origin", "dest", "arr_delay")
    january = before.filter(
        pl.col("departure_local") >= datetime(2013, 1, 2),
        pl.col("departure_local") < datetime(2013, 3, 1),
    ).select(back.columns)
    assert back.sort(back.columns).equals(january.sort(back.columns))
    stamps = moved["flight_id"].str.slice(0, 13)
    assert stamps.equals(moved["departure_local"].dt.strftime("%Y%m%dT%H%M"), check_names=False)
    weather = pl.read_parquet(tmp_path / "weather" / "year.parquet")
    assert not weather.select("origin", "observed").is_duplicated().any()


def test_a_replay_begins_without_what_an_earlier_one_left(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    clear_workspace(workspace)
    left = ("mlflow.db", "inference_log/flights/a.parquet", "monitoring/flights/retrain/a.json")
    for name in ("lake/flights/year.parquet", *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    clear_workspace(workspace)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".replay", "lake"]
    assert (tmp_path / "lake" / "flights" / "year.parquet").exists()


def test_a_replay_leaves_the_folder_of_other_runs_alone(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(SlipwayError, match="models of other runs"):
        clear_workspace(Workspace.at(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_rows_that_never_get_a_label_are_replayed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row of the year is sent once, in its place, whichever part's window it lies in."""
    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))
    start = datetime(2024, 1, 1, tzinfo=UTC)
    flights = pl.DataFrame(
        {
            "flight": [f"f{n:03d}" for n in range(480)],
            "leaves": [start + timedelta(hours=n) for n in range(480)],
            "miles": [float(n % 12) for n in range(480)],
            "late": [None if n % 7 == 0 else n % 2 for n in range(480)],
        }
    )
    window = (start.isoformat(), (start + timedelta(days=20)).isoformat())
    dataset = write_dataset(tmp_path / "dataset", {"flights": flights}, window)
    config = {
        "entities": {"flight": "flight"},
        "examples": {"table": "flights", "key": "flight", "time": "leaves"},
        "label": {"column": "late"},
        "split": {"validation": "4d", "test": "4d"},
        "views": [
            {"name": "plan", "entity": "flight", "table": "flights", "fields": {"miles": "miles"}}
        ],
    }
    build_features(dataset, "flights", config, tmp_path / "rows")
    rows = read_all_rows(tmp_path / "rows")
    assert rows["flight"].to_list() == flights["flight"].to_list()
    assert rows[LABEL].cast(pl.Int64).to_list() == flights["late"].to_list()


def test_months_cross_the_year() -> None:
    starts = months(datetime(2013, 11, 1, 5, tzinfo=UTC), 4)
    assert [f"{s:%Y-%m-%d %H}" for s in starts] == [
        "2013-11-01 05", "2013-12-01 05", "2014-01-01 05", "2014-02-01 05",
    ]  # fmt: skip


def served(month: int, accuracy: float | None, alerts: tuple[str, ...]) -> Served:
    return Served(
        window=(f"2013-{month:02d}-01T05:00:00Z", f"2013-{month + 1:02d}-01T05:00:00Z"),
        requests=1000,
        version="1",
        accuracy=accuracy,
        interval=None if accuracy is None else (accuracy - 0.02, accuracy + 0.02),
        auc=accuracy and 0.7,
        f1=0.5,
        release_accuracy=0.74,
        kept={"accuracy": 0.7, "f1": 0.5, "auc": 0.7},
        drift=0.5 if alerts else None,
        alerts=alerts,
        decision="",
        retrained="fail" if alerts else None,
        report="",
    )


def test_the_picture_is_drawn_also_where_a_window_had_no_labels(tmp_path: Path) -> None:
    hours = pl.datetime_range(
        datetime(2013, 6, 1), datetime(2013, 11, 1), "6h", time_zone="UTC", eager=True
    )
    rows = pl.DataFrame({TIME: hours, LABEL: [0, 1] * (len(hours) // 2) + [0] * (len(hours) % 2)})
    parts = {
        part: (f"2013-0{i}-01T05:00:00Z", f"2013-0{i + 1}-01T05:00:00Z")
        for part, i in (("train", 6), ("validation", 7), ("test", 8))
    }
    release = Released(
        version="1", at="2013-09-01T05:00:00Z", parts=parts, metrics={"auc": 0.7}, thresholds={}
    )
    windows = [served(9, 0.73, ("DATA_DRIFT",)), served(10, None, ())]
    draw(tmp_path / "replay.png", windows, [release], rows)
    assert (tmp_path / "replay.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["replay.png"]
