"""The replay's parts that need no training: the turned year, the months, the picture."""

import importlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.metrics import (
    accuracy_score,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)
from support.datasets import write_dataset
from support.kinds_world import CLASSES, LEVEL, make_bundle, make_splits

from slipway.components.config.kinds import LabelKind, metric_name
from slipway.components.contracts.monitoring.monitoring_record import (
    Alert,
    MLSystemMetrics,
    MonitoringRecord,
)
from slipway.components.contracts.rows.scoring import open_model, predict
from slipway.components.contracts.splits import LABEL, TIME, read_part
from slipway.components.features.features import build_features
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.support.errors import SlipwayError
from slipway.examples.flights.replay.months import (
    clear_workspace,
    months,
    note,
    read_all_rows,
    score,
)
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


def served(month: int, value: float | None, alerts: tuple[str, ...], label: LabelType) -> Served:
    worse = dict.fromkeys(label.headline, 0.7)
    return Served(
        window=(f"2013-{month:02d}-01T05:00:00Z", f"2013-{month + 1:02d}-01T05:00:00Z"),
        requests=1000,
        version="1",
        metrics=dict.fromkeys(label.headline, value),
        intervals={} if value is None else {label.headline[0]: (value - 0.02, value + 0.02)},
        release=dict.fromkeys(label.headline, 0.74),
        kept=worse,
        drift=0.5 if alerts else None,
        alerts=alerts,
        decision="",
        retrained="fail" if alerts else None,
        report="",
    )


KINDS: dict[LabelKind, LabelType] = {
    "binary": label_type("binary"),
    "multiclass": label_type("multiclass", classes=CLASSES),
    "number": label_type("number", level=LEVEL),
}


@pytest.mark.parametrize(
    ("kind", "panels", "better"),
    [
        ("binary", ("AUC", "accuracy"), 1),
        ("multiclass", ("AUC", "accuracy"), 1),
        # 0.73 is more than 0.7: the worse RMSE.
        ("number", ("R²", "RMSE"), 0),
    ],
)  # fmt: skip
def test_the_picture_is_drawn_also_where_a_window_had_no_labels(
    kind: LabelKind,
    panels: tuple[str, str],
    better: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from matplotlib import figure

    hours = pl.datetime_range(
        datetime(2013, 6, 1), datetime(2013, 11, 1), "6h", time_zone="UTC", eager=True
    )
    values = [n % 2 * 1.0 if kind == "number" else n % 2 for n in range(len(hours))]
    rows = pl.DataFrame({TIME: hours, LABEL: values})
    parts = {
        part: (f"2013-0{i}-01T05:00:00Z", f"2013-0{i + 1}-01T05:00:00Z")
        for part, i in (("train", 6), ("validation", 7), ("test", 8))
    }
    label = KINDS[kind]
    release = Released(
        version="1", at="2013-09-01T05:00:00Z", parts=parts, thresholds={},
        metrics=dict.fromkeys(label.headline, 0.7),
    )  # fmt: skip
    windows = [
        # Here the first model serves itself: there is nothing to compare.
        served(8, 0.73, (), label),
        replace(served(9, 0.73, ("DATA_DRIFT",), label), version="2"),
        replace(served(10, None, (), label), version="2"),
    ]
    drawn: list[Any] = []
    save = figure.Figure.savefig

    def keep(self: Any, *arguments: Any, **more: Any) -> None:
        drawn.append(self)
        save(self, *arguments, **more)

    monkeypatch.setattr(figure.Figure, "savefig", keep)
    draw(tmp_path / "replay.png", windows, [release], rows, label)
    assert (tmp_path / "replay.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["replay.png"]
    axes = drawn[0].axes
    assert tuple(axis.get_ylabel() for axis in axes[:2]) == panels
    assert f"a better {panels[0]} than" in drawn[0].get_suptitle()
    assert "in 1 of 1 windows. 1 model passed" in drawn[0].get_suptitle()
    refused = "the gate refuses one"
    assert refused in [text.get_text() for text in axes[0].get_legend().get_texts()]
    passed = [replace(window, retrained=None) for window in windows]
    draw(tmp_path / "replay.png", passed, [release], rows, label)
    # A colour that is not drawn has no legend.
    lines = [text.get_text() for text in drawn[1].axes[0].get_legend().get_texts()]
    assert refused not in lines and "a model is released" in lines
    names = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert f"served: better in {better} of 1 windows" in names
    assert "the first model, had it stayed" in names and axes[0].get_legend() is not None
    # Half of the labels are 1: the best constant answer is right in half the cases, and 0.5 away.
    (constant,) = (c for c in axes[1].collections if c.get_label().startswith("worse than"))
    ends = {round(y, 6) for y in constant.get_paths()[0].vertices[:, 1]}
    assert 0.5 in ends and round(axes[1].get_ylim()[panels[1] == "RMSE"], 6) in ends


@pytest.mark.parametrize("kind", ["multiclass", "number"])
def test_a_model_is_scored_in_the_metrics_of_its_kind(kind: LabelKind, tmp_path: Path) -> None:
    splits = make_splits(tmp_path / "splits", kind, test_rows=500)
    bundle = make_bundle(tmp_path / "bundle", kind)
    table = read_part(tmp_path / "splits", "test")
    rows = pl.DataFrame(table)
    found = score(tmp_path / "bundle", rows, splits)
    answers = predict(open_model(tmp_path / "bundle"), bundle, table)
    truth = rows[LABEL].to_numpy()
    if kind == "number":
        assert found["rmse"] == pytest.approx(root_mean_squared_error(truth, answers[:, 0]))
        assert found["r2"] == pytest.approx(r2_score(truth, answers[:, 0]))
    else:
        assert found["accuracy"] == pytest.approx(accuracy_score(truth, answers.argmax(1)))
        assert found["auc"] == pytest.approx(
            roc_auc_score(truth, answers, multi_class="ovr", average="macro"), abs=1e-6
        )
    unknown = rows.with_columns(pl.lit(None, rows.schema[LABEL]).alias(LABEL))
    assert set(score(tmp_path / "bundle", unknown, splits).values()) == {None}


def test_a_class_has_the_place_that_the_model_gives_it(tmp_path: Path) -> None:
    """The whole stretch may know classes that the first model does not, and have them elsewhere."""
    splits = make_splits(tmp_path / "splits", "multiclass", test_rows=500)
    make_bundle(tmp_path / "bundle", "multiclass")
    rows = pl.DataFrame(read_part(tmp_path / "splits", "test"))
    found = score(tmp_path / "bundle", rows, splits)
    later = ("dog", "cat", "bee", "ant")
    moved = rows.with_columns((3 - pl.col(LABEL)).alias(LABEL))
    stray = moved.head(50).with_columns(pl.lit(0, pl.Int32).alias(LABEL))
    whole = pl.concat([moved, stray])
    assert score(tmp_path / "bundle", whole, replace(splits, classes=later)) == found


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_window_is_noted_in_the_metrics_of_its_kind(kind: LabelKind) -> None:
    label = KINDS[kind]
    values = {name: 0.1 * n for n, name in enumerate(label.headline)}
    performance = {**values, "labelled": 100, "intervals": {label.headline[0]: (0.0, 0.2)}}
    record = MonitoringRecord(
        model="m", window=("2013-06-01T00:00:00Z", "2013-07-01T00:00:00Z"), drift_status="stable",
        metrics=MLSystemMetrics(
            timestamp="", model_version="3", model_accuracy=None, prediction_latency_ms=None,
            throughput_rps=None, error_rate=None, data_drift_score=0.25, feature_drift_score=0.1,
        ),
        summary={}, retrain=False, alerts=(
            Alert(name="A", severity="warning", value=None, threshold=None, message=""),
            Alert(name="B", severity="info", value=None, threshold=None, message=""),
        ),
        details={"performance": performance, "release": {**values, "more": 1}, "decision": "no"},
    )  # fmt: skip
    kept = dict.fromkeys(label.headline, 0.5)
    noted = note(record, kept, 100)
    assert noted.metrics == noted.release == values and noted.kept == kept
    assert noted.alerts == ("A",) and noted.version == "3" and noted.drift == 0.25
    text = importlib.import_module("slipway.examples.flights.replay.__main__").line(noted)
    assert f"{metric_name(label.headline[0])} 0.0000 (the first model: 0.5000)" in text
    few = note(record, kept, 101)
    assert set(few.metrics.values()) == {None} and few.intervals == {}
