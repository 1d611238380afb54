"""Skew against the offline store, and labels that came after their window."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from support.datasets import write_dataset

from slipway.components.config.data import Window
from slipway.components.config.features.features import FeaturesConfig, FeatureView
from slipway.components.contracts.monitoring.inference_log import FEATURE_PREFIX
from slipway.components.contracts.splits import TIME, Feature
from slipway.components.monitor import history
from slipway.components.monitor.measures.skew import measure_skew, offline_values
from slipway.components.monitor.window import LogWindow
from slipway.components.support import environment

WEEK = ("2013-12-09T05:00:00", "2013-12-16T05:00:00")
DAY = ("2013-12-09T05:00:00", "2013-12-10T05:00:00")
NAMES = (
    "departs", "operator", "leaves_from", "flies_to", "miles", "planned_minutes", "temp", "precip",
    "visib", "pressure", "wind_speed", "long_haul",
)  # fmt: skip
NEXT = ("2013-12-10T05:00:00", "2013-12-11T05:00:00")


@pytest.fixture
def store(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes the view's offline table as the features stage does: known 30 days before departure."""
    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))

    def write(until: str = "2014-02-01", **changes: pl.Expr) -> None:
        columns = {name: pl.col(name) for name in NAMES} | changes
        table = world.flights.select(
            pl.col("flight_id"),
            event_timestamp=pl.col("departure") - timedelta(days=30),
            **columns,
        ).filter(pl.col("event_timestamp") < pl.lit(until).str.to_datetime(time_zone="UTC"))
        path = tmp_path / "store" / "flights" / "tables" / "flights.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.write_parquet(path)

    return write


def skew_of(result: Any) -> dict[str, Any]:
    found: dict[str, Any] = result.record.details["skew"]
    return found


def names(result: Any) -> list[str]:
    return [alert.name for alert in result.record.alerts]


def test_what_serving_saw_is_what_the_store_says(world: Any, store: Any) -> None:
    store()
    world.write_log(world.between(*DAY))
    result = world.run(*DAY)
    assert skew_of(result)["worst"] == 0
    assert skew_of(result)["rows"] > 300
    assert len(skew_of(result)["features"]) == 12
    assert "SKEW" not in names(result)


def test_a_log_of_small_files_gives_as_large_a_sample(world: Any, store: Any) -> None:
    store()
    world.write_log(world.between(*WEEK))
    files = len(list((world.root / "log").rglob("*.parquet")))
    assert world.between(*WEEK).height / files < 100
    assert skew_of(world.run(*WEEK))["rows"] == 2000
    assert skew_of(world.run(*WEEK, skew_rows=500))["rows"] == 500


def test_a_unit_that_differs_in_serving_is_found_and_named(world: Any, store: Any) -> None:
    store(miles=pl.col("miles") * 1.609344)
    world.write_log(world.between(*DAY))
    result = world.run(*DAY)
    (alert,) = [a for a in result.record.alerts if a.name == "SKEW"]
    assert alert.value == pytest.approx(1.0) and "miles" in alert.message
    assert "temp" not in alert.message
    assert result.record.summary["skew"] == pytest.approx(1.0)


def test_a_few_stale_rows_are_counted_and_raise_nothing(world: Any, store: Any) -> None:
    stale = pl.col("flight_id").hash(seed=1) % 100 == 0
    store(operator=pl.when(stale).then(pl.lit("??")).otherwise("operator"))
    world.write_log(world.between(*WEEK))
    result = world.run(*WEEK)
    assert 0 < skew_of(result)["worst"] < 0.02
    assert "SKEW" not in names(result)


def test_a_value_that_one_side_lacks_differs(world: Any, store: Any) -> None:
    store(temp=pl.lit(None, pl.Float64))
    world.write_log(world.between(*DAY))
    features = {f["name"]: f for f in skew_of(world.run(*DAY))["features"]}
    assert features["temp"]["only_online"] > 0.9
    assert features["temp"]["only_offline"] == 0


def test_a_file_that_logged_words_for_numbers_has_no_such_value(world: Any, store: Any) -> None:
    store()
    world.write_log(world.between(*WEEK))
    column = f"{FEATURE_PREFIX}temp"
    for path in sorted((world.root / "log").rglob("*.parquet"))[::2]:
        table = pq.read_table(path)
        place = table.column_names.index(column)
        pq.write_table(table.set_column(place, column, pa.array(["warm"] * table.num_rows)), path)
    features = {f["name"]: f for f in skew_of(world.run(*WEEK))["features"]}
    assert features["temp"]["only_offline"] == pytest.approx(0.5, abs=0.15)
    assert {name for name, found in features.items() if found["differ"] > 0} == {"temp"}


def test_an_empty_text_on_one_side_is_what_is_missing_on_the_other(world: Any, store: Any) -> None:
    store(operator=pl.lit(""))
    day = world.between(*DAY)
    world.write_log(day.with_columns(operator=pl.lit(None, pl.String)))
    features = {f["name"]: f for f in skew_of(world.run(*DAY))["features"]}
    assert features["operator"]["differ"] == 0
    assert features["leaves_from"]["differ"] == 0 and features["operator"]["compared"] > 300


def test_a_store_that_ends_before_the_window_says_so(world: Any, store: Any) -> None:
    store(until="2013-11-01")
    world.write_log(world.between(*DAY))
    result = world.run(*DAY)
    assert skew_of(result)["worst"] is None and "ends before" in skew_of(result)["note"]
    assert "SKEW" not in names(result)


DERIVED = {
    "entities": {"driver": "driver"},
    "examples": {"table": "trips", "key": "trip", "time": "at"},
    "label": {"column": "tipped"},
    "split": {"validation": "1d", "test": "1d"},
    "views": [
        {"name": "plan", "table": "trips", "time": "at", "fields": {"fare": "fare", "city": "city"}},
        {
            "name": "driver", "entity": "driver", "table": "drivers", "time": "since",
            "fields": {"usual": "usual"},
        },
    ],
    "derived": {"dear": "ratio(fare, usual, 1)", "twice": "2 * dear", "home": "city == 'Rome'"},
    "not_inputs": ["fare", "usual", "city", "dear"],
}  # fmt: skip


def skew_of_derived(folder: Path, usual: float) -> Any:
    """A log of eight trips, of which all inputs are made of others; what a driver usually takes is 10.

    Args:
        folder: for the log, the labels and the offline tables.
        usual: what the offline table says that it is.
    """
    start = datetime(2024, 1, 2, tzinfo=UTC)
    at = [start + timedelta(hours=n) for n in range(8)]
    trips = pl.DataFrame(
        {
            "trip": [f"t{n}" for n in range(8)], "driver": ["d"] * 8, "at": at,
            "fare": [5.0 * n for n in range(8)], "city": ["Rome", "Oslo"] * 4, "tipped": [0, 1] * 4,
        }
    )  # fmt: skip
    labels = write_dataset(folder / "labels", {"trips": trips}, None)
    drivers = {"driver": ["d"], TIME: [start - timedelta(days=1)], "usual": [usual]}
    plan = trips.select(pl.col("at").alias(TIME), "trip", "fare", "city")
    place = SimpleNamespace(table=lambda name: str(folder / f"{name}.parquet"))
    # A last row of each: the tables reach past the window.
    later = {"driver": ["other"], TIME: [start + timedelta(days=9)], "usual": [1.0]}
    pl.concat([pl.DataFrame(drivers), pl.DataFrame(later)]).write_parquet(place.table("driver"))
    plan.write_parquet(place.table("plan"))
    log = trips.select(
        pl.col("trip").alias("key"), pl.col("at").alias("time"), pl.lit("1").alias("model_version"),
        (pl.col("fare") / 5).alias("feature.twice"), (pl.col("city") == "Rome").alias("feature.home"),
    )  # fmt: skip
    log.write_parquet(folder / "log.parquet")
    window = Window(start=start, end=start + timedelta(days=1))
    seen = LogWindow(
        uri="", model="m", window=window, files=[str(folder / "log.parquet")],
        filesystem=LocalFileSystem(),
    )  # fmt: skip
    inputs = (
        Feature(name="twice", kind="numeric", view=""),
        Feature(name="home", kind="boolean", view=""),
    )
    config = FeaturesConfig.parse(DERIVED, "features")
    kinds = {feature.name: feature.kind for feature in inputs}
    reference: Any = SimpleNamespace(features=inputs, kinds=kinds)
    return measure_skew(seen, "1", reference, labels, config, place, 100)  # type: ignore[arg-type]


def test_what_is_no_input_is_compared_by_the_inputs_that_are_made_of_it(tmp_path: Path) -> None:
    """None of the four features that serving looks up is in the log: all are `not_inputs`."""
    same = skew_of_derived(tmp_path, 10.0)
    assert same.rows == 8 and same.worst == 0
    assert [(f.name, f.compared) for f in same.features] == [("twice", 8), ("home", 8)]


def test_a_stale_value_that_is_no_input_is_seen_where_it_counts(tmp_path: Path) -> None:
    found = {feature.name: feature for feature in skew_of_derived(tmp_path, 12.5).features}
    # All but the fare of 0, which no usual fare changes.
    assert found["twice"].differ == pytest.approx(7 / 8) and found["home"].differ == 0


def test_an_aggregate_reaches_as_far_as_its_events_not_as_its_last_change(tmp_path: Path) -> None:
    """The last change of a 30-day count is the last event leaving it, 30 days after the data ends."""
    view = FeatureView.model_validate(
        {
            "name": "delays", "entity": "aircraft", "table": "flights", "time": "departure",
            "known": "arrival", "ttl": "30d",
            "aggregates": {"flights_30d": {"function": "count", "window": "30d"}},
        }
    )  # fmt: skip
    end = datetime(2013, 6, 1, tzinfo=UTC)
    table = {"tailnum": ["N1", "N1"], TIME: [end, end + timedelta(days=30)], "flights_30d": [1, 0]}
    path = tmp_path / "flights" / "tables" / "delays.parquet"
    path.parent.mkdir(parents=True)
    pl.DataFrame(table).write_parquet(path)
    known = pl.DataFrame({"time": [end + timedelta(days=7)], "entity tailnum": ["N1"]})
    place = SimpleNamespace(table=lambda name: str(path))
    _, reaches = offline_values(known, view, ("tailnum",), ["flights_30d"], place)  # type: ignore[arg-type]
    assert reaches == end


def test_a_since_is_compared_in_hours_at_the_moment_of_the_prediction(tmp_path: Path) -> None:
    view = FeatureView.model_validate(
        {
            "name": "delays", "entity": "aircraft", "table": "flights", "time": "departure",
            "aggregates": {"since": {"function": "since", "window": "2d"}},
        }
    )  # fmt: skip
    last = datetime(2013, 6, 1, tzinfo=UTC)
    path = tmp_path / "delays.parquet"
    pl.DataFrame({"tailnum": ["N1"], TIME: [last], "since": [last]}).write_parquet(path)
    moments = [last + timedelta(hours=hours) for hours in (-1, 0, 7.5, 48)]
    known = pl.DataFrame({"time": moments, "entity tailnum": ["N1"] * 4})
    place = SimpleNamespace(table=lambda name: str(path))
    found, _ = offline_values(known, view, ("tailnum",), ["since"], place)  # type: ignore[arg-type]
    assert found["offline since"].to_list() == [None, 0.0, 7.5, None]


def test_a_store_that_cannot_be_read_hides_nothing_else(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEATURE_STORE_URI", raising=False)
    world.write_log(world.between(*DAY))
    result = world.run(*DAY)
    assert "FEATURE_STORE_URI is not set" in skew_of(result)["note"]
    assert result.record.summary["current_accuracy"] is not None


def test_labels_that_come_later_are_joined_by_a_later_run(world: Any) -> None:
    rows = world.between(DAY[0], NEXT[1])
    world.write_log(rows)
    first = world.run(*DAY).record
    second = world.run(*NEXT).record
    (again,) = second.details["late"]
    day = world.between(*DAY).filter(pl.col("late").is_not_null())
    right = ((day["probability"] >= 0.25).cast(pl.Int8) == day["late"]).mean()
    assert again["window"] == list(first.window) or again["window"] == first.window
    assert again["labelled_then"] == first.summary["labelled"] < again["labelled"] == day.height
    assert again["accuracy"] == pytest.approx(right)
    expected = first.summary["expected_accuracy"]
    assert again["estimate_error"] == pytest.approx(expected - right)
    (shown,) = history.latest(environment.monitoring_uri())
    assert shown["trend"][0]["quality"] == pytest.approx(right)


def test_windows_further_back_are_left_alone(world: Any) -> None:
    world.write_log(world.between(DAY[0], NEXT[1]))
    world.run(*DAY)
    assert world.run(*NEXT, look_back="0s").record.details["late"] == []
