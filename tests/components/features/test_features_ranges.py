"""Features of rows to predict and of a range of the past: the values that training would have."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from slipway.components.config.data import Window
from slipway.components.config.features.features import FeaturesConfig
from slipway.components.config.features.reach import backfill_margins, scoring_history
from slipway.components.contracts.backfill_record import BackfillRecord
from slipway.components.contracts.feature_rows import ROWS, read_feature_rows
from slipway.components.contracts.feature_store import locate, repo_config
from slipway.components.contracts.splits import LABEL, read_part
from slipway.components.features import backfill, tables
from slipway.components.features.backfill import backfill_features
from slipway.components.features.features import build_features
from slipway.components.features.look_up import look_up_features
from slipway.components.support.errors import SlipwayError

MakeDataset = Callable[..., Path]
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
END = START + 20 * DAY
CONFIG: dict[str, Any] = {
    "entities": {"trip": "trip_id", "driver": "driver"},
    "examples": {"table": "trips", "key": "trip_id", "time": "starts", "lead": "1h"},
    "label": {"column": "delay", "above": 10, "known": "ends"},
    "split": {"validation": "2d", "test": "2d", "gap": "6h"},
    "views": [
        {
            "name": "plan",
            "entity": "trip",
            "table": "trips",
            "time": "starts",
            "available": "2d",
            "ttl": "4d",
            "fields": {"miles": "miles"},
        },
        {"name": "person", "entity": "driver", "table": "drivers", "fields": {"age": "age"}},
        {
            "name": "driver_delays",
            "entity": "driver",
            "table": "trips",
            "time": "starts",
            "known": "ends",
            "ttl": "2d",
            "aggregates": {
                "driver_delay": {"function": "mean", "column": "delay", "window": "1d"},
                "driver_trips": {"function": "count", "window": "36h"},
                "driver_last": {"function": "last", "column": "delay", "window": "12h"},
                "driver_trips_before": {"function": "count", "window": "12h", "lag": 2},
                "driver_since": {"function": "since", "window": "1d"},
                "driver_routes": {"function": "distinct", "column": "miles", "window": "36h"},
                "driver_route": {"function": "most_common", "column": "miles", "window": "36h"},
            },
        },
    ],
}


def trips() -> pl.DataFrame:
    numbers = range(20 * 24)
    starts = [START + n * HOUR for n in numbers]
    return pl.DataFrame(
        {
            "trip_id": [f"t{n:03d}" for n in numbers],
            "starts": starts,
            "ends": [s + 2 * HOUR for s in starts],
            "driver": [(n * n) % 7 for n in numbers],
            "miles": [n % 12 for n in numbers],
            "delay": [float((n * 7) % 25) for n in numbers],
        }
    )


DRIVERS = pl.DataFrame({"driver": range(7), "age": [30 + 3 * n for n in range(7)]})


@pytest.fixture
def dataset(make_dataset: MakeDataset) -> Callable[..., Path]:
    """The trips that start in a stretch of time, as ingest would give them."""

    def make(name: str, rows: pl.DataFrame, start: datetime = START, end: datetime = END) -> Path:
        inside = rows.filter(pl.col("starts").is_between(start, end, closed="left"))
        window = (start.isoformat(), end.isoformat())
        return make_dataset({"trips": inside, "drivers": DRIVERS}, window, name)

    return make


# Rows to predict


def test_rows_to_predict_have_the_features_that_training_gave_them(
    dataset: Callable[..., Path], store_uri: Path, tmp_path: Path
) -> None:
    """The test part's rows, from no more history than the configuration asks for, without a label."""
    build_features(dataset("whole", trips()), "trips", CONFIG, tmp_path / "splits")
    trained = pl.DataFrame(read_part(tmp_path / "splits", "test"))
    window = Window(start=END - 2 * DAY, end=END)
    history = scoring_history(FeaturesConfig.model_validate(CONFIG), whole=20 * DAY)
    assert history == timedelta(days=6)  # 2 d TTL, 36 h window, 1 h lead, 2 d until all is known
    unlabelled = trips().with_columns(
        pl.when(pl.col("starts") < window.start).then("delay").alias("delay")
    )
    # What happens in the window is not known when it is predicted: only the schedule is.
    unlabelled = unlabelled.with_columns(
        pl.when(pl.col("starts") < window.start).then("ends").alias("ends")
    )
    folder = dataset("recent", unlabelled, window.start - history, END)
    before = sorted(p for p in store_uri.rglob("*") if p.is_file())
    stamps = [p.stat().st_mtime_ns for p in before]

    result = look_up_features(folder, "trips", CONFIG, window, tmp_path / "rows")

    rows = pl.read_parquet(tmp_path / "rows" / ROWS)
    assert LABEL not in rows.columns
    assert rows.height == result.rows == 48
    # The first row of the window is the last whose history is wholly known in both.
    first = trained.drop(LABEL).head(3)
    assert_frame_equal(rows.head(3), first)
    assert first["driver_trips"].sum() > 0
    assert_frame_equal(
        rows.select("trip_id", "miles", "age"), trained.select("trip_id", "miles", "age")
    )
    assert read_feature_rows(tmp_path / "rows") == result
    assert [f.name for f in result.features] == [
        *("miles", "age"),
        *("driver_delay", "driver_last", "driver_route", "driver_routes", "driver_since"),
        *("driver_trips", "driver_trips_before"),
    ]
    assert result.lead_seconds == 3600
    # The project's own store is as training left it.
    assert [p.stat().st_mtime_ns for p in before] == stamps


def test_all_rows_agree_where_the_outcomes_are_known(
    dataset: Callable[..., Path], store_uri: Path, tmp_path: Path
) -> None:
    build_features(dataset("whole", trips()), "trips", CONFIG, tmp_path / "splits")
    trained = pl.DataFrame(read_part(tmp_path / "splits", "test")).drop(LABEL)
    folder = dataset("recent", trips(), END - 8 * DAY, END)
    look_up_features(
        folder, "trips", CONFIG, Window(start=END - 2 * DAY, end=END), tmp_path / "rows"
    )
    assert_frame_equal(pl.read_parquet(tmp_path / "rows" / ROWS), trained)


def test_too_short_a_history_is_refused(dataset: Callable[..., Path], tmp_path: Path) -> None:
    folder = dataset("recent", trips(), END - 4 * DAY, END)
    with pytest.raises(
        SlipwayError, match="driver_delays looks 85h back from the first row, to 2024-01-15T11"
    ):
        look_up_features(
            folder, "trips", CONFIG, Window(start=END - 2 * DAY, end=END), tmp_path / "rows"
        )
    assert not (tmp_path / "rows").exists()


def test_a_window_without_rows_is_refused(dataset: Callable[..., Path], tmp_path: Path) -> None:
    folder = dataset("whole", trips())
    with pytest.raises(SlipwayError, match="has no row with starts from 2024-01-21"):
        look_up_features(
            folder, "trips", CONFIG, Window(start=END, end=END + DAY), tmp_path / "rows"
        )


def test_a_view_without_a_ttl_looks_back_over_all_data() -> None:
    config = {**CONFIG, "views": [{**CONFIG["views"][2], "ttl": None}]}
    parsed = FeaturesConfig.model_validate(config)
    assert scoring_history(parsed, whole=365 * DAY) == timedelta(days=367)


# A range of the past

RANGE = Window(start=START + 6 * DAY, end=START + 9 * DAY)


def _tables(project: str = "trips") -> dict[str, pl.DataFrame]:
    place = locate(project)
    return {v["name"]: pl.read_parquet(place.table(v["name"])) for v in CONFIG["views"]}


def _online(driver: int) -> dict[str, Any]:
    from feast import FeatureStore, RepoConfig

    store = FeatureStore(config=RepoConfig(**repo_config("trips")))
    answer = store.get_online_features(
        features=store.get_feature_service("trips"),
        entity_rows=[{"trip_id": "t479", "driver": driver}],
    ).to_dict()
    return {name: values[0] for name, values in answer.items()}


def _around(dataset: Callable[..., Path], rows: pl.DataFrame) -> Path:
    before, after = backfill_margins(FeaturesConfig.model_validate(CONFIG))
    return dataset("around", rows, RANGE.start - before, RANGE.end + after)


def _corrected() -> pl.DataFrame:
    """Trips in the range had other delays, and one of them never took place."""
    inside = pl.col("starts").is_between(RANGE.start, RANGE.end, closed="left")
    rows = trips().with_columns(pl.when(inside).then(pl.col("delay") + 5).otherwise("delay"))
    return rows.filter(pl.col("trip_id") != "t170")


def test_a_corrected_range_gives_what_training_on_the_corrected_data_gives(
    dataset: Callable[..., Path],
    store_uri: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Offline every row of every view, online every value; and a second time nothing changes."""
    build_features(dataset("corrected", _corrected()), "trips", CONFIG, tmp_path / "a")
    wanted, wanted_online = _tables(), [_online(driver) for driver in range(7)]
    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "mended"))
    build_features(dataset("whole", trips()), "trips", CONFIG, tmp_path / "b")
    assert not _tables()["driver_delays"].equals(wanted["driver_delays"])

    record = tmp_path / "record.json"
    around = _around(dataset, _corrected())
    result = backfill_features(around, "trips", CONFIG, RANGE, True, record)

    for name, rows in _tables().items():
        assert_frame_equal(rows, wanted[name])
    assert [_online(driver) for driver in range(7)] == wanted_online
    assert BackfillRecord.read(record) == result
    # Values look back into the range until 36 hours after the last of it is known, an hour behind it.
    assert result.views["driver_delays"].until == "2024-01-11T13:00:01Z"
    assert result.views["driver_delays"].replaced > result.views["driver_delays"].written > 0

    mended = _tables()
    again = backfill_features(around, "trips", CONFIG, RANGE, True, record)
    assert {n: v.written for n, v in again.views.items()} == {
        n: v.written for n, v in result.views.items()
    }
    assert again.views["driver_delays"].online == 0
    for name, rows in _tables().items():
        assert_frame_equal(rows, mended[name])


def test_a_range_mended_a_share_of_the_entities_at_a_time_is_the_same(
    dataset: Callable[..., Path],
    store_uri: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    around, largest = _around(dataset, _corrected()), []

    def mended(name: str) -> Any:
        monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / name))
        build_features(dataset("whole", trips()), "trips", CONFIG, tmp_path / "splits")
        return backfill_features(around, "trips", CONFIG, RANGE, False, tmp_path / "record.json")

    def watched(*arguments: Any) -> Iterator[pl.DataFrame]:
        for share in tables.entity_shares(*arguments):
            largest.append(share.height)
            yield share

    result, wanted = mended("whole"), _tables()
    monkeypatch.setattr("slipway.components.features.tables.SHARE", 100)
    monkeypatch.setattr("slipway.components.features.tables.ROW_GROUP", 90)
    monkeypatch.setattr(backfill, "entity_shares", watched)
    assert mended("shares") == result
    for name, rows in _tables().items():
        keys = rows.columns[:2]
        assert_frame_equal(rows.sort(keys), wanted[name].sort(keys))
    assert max(largest) < wanted["driver_delays"].height / 2


FAR: dict[str, Any] = {
    "name": "offers",
    "entity": "driver",
    "table": "offers",
    "time": "starts",
    "known": "told",
}


@pytest.mark.parametrize("days", [-3, -1, 2, 4], ids=lambda days: f"{days}d")
@pytest.mark.parametrize(
    "features",
    [
        {"fields": {"worth": "delay"}},
        {"aggregates": {"worth": {"function": "sum", "column": "delay", "window": "1d"}}},
    ],
    ids=["fields", "aggregates"],
)
def test_what_is_known_far_from_when_it_happens_is_replaced_too(
    make_dataset: MakeDataset,
    store_uri: Path,
    tmp_path: Path,
    days: int,
    features: dict[str, Any],
) -> None:
    """Whole store equal to one made of the corrected data, where the dataset reaches far enough."""
    config = {**CONFIG, "views": [CONFIG["views"][0], {**FAR, **features}]}

    def made(name: str, rows: pl.DataFrame, start: datetime = START, end: datetime = END) -> Path:
        # Every fifth offer is known much earlier or later than it holds, the others an hour later.
        far = pl.col("trip_id").str.slice(1).cast(pl.Int64) % 5 == 0
        told = pl.when(far).then(pl.lit(days * DAY)).otherwise(pl.lit(HOUR)) + pl.col("starts")
        rows = rows.filter(pl.col("starts").is_between(start, end, closed="left"))
        offers = rows.select("driver", "delay", "starts", told.alias("told"))
        window = (start.isoformat(), end.isoformat())
        return make_dataset({"trips": rows, "drivers": DRIVERS, "offers": offers}, window, name)

    table = locate("trips").table("offers")
    build_features(made("corrected", _corrected()), "trips", config, tmp_path / "a")
    wanted = pl.read_parquet(table)
    build_features(made("whole", trips()), "trips", config, tmp_path / "b")
    there = pl.read_parquet(table)
    assert not there.equals(wanted)

    short = made("short", _corrected(), RANGE.start - DAY, RANGE.end + 2 * DAY)
    with pytest.raises(SlipwayError, match=r"known up to .* before and .*\((after|before): \d+d"):
        backfill_features(short, "trips", config, RANGE, False, tmp_path / "record.json")
    assert pl.read_parquet(table).equals(there)
    around = made("around", _corrected(), RANGE.start - 6 * DAY, RANGE.end + 9 * DAY)
    backfill_features(around, "trips", config, RANGE, False, tmp_path / "record.json")
    assert_frame_equal(pl.read_parquet(table), wanted)


def test_an_empty_store_is_filled_and_serves(
    dataset: Callable[..., Path], store_uri: Path, tmp_path: Path
) -> None:
    window = Window(start=START + 17 * DAY, end=END)
    before, after = backfill_margins(FeaturesConfig.model_validate(CONFIG))
    folder = dataset("late", trips(), window.start - before, window.end + after)
    result = backfill_features(folder, "trips", CONFIG, window, True, tmp_path / "record.json")
    build_features(dataset("whole", trips()), "fresh", CONFIG, tmp_path / "splits")
    for name, ahead in (("plan", 2 * DAY), ("driver_delays", 0 * DAY)):
        known = pl.col("event_timestamp") >= window.start - ahead
        assert_frame_equal(_tables()[name], _tables("fresh")[name].filter(known))
    assert result.views["driver_delays"].replaced == 0
    assert result.views["driver_delays"].until == ""
    assert _online(3)["age"] == 39
    assert _online(2)["driver_trips"] > 0


def test_the_online_store_is_left_alone_on_request(
    dataset: Callable[..., Path], store_uri: Path, tmp_path: Path
) -> None:
    around = _around(dataset, trips())
    result = backfill_features(around, "trips", CONFIG, RANGE, False, tmp_path / "record.json")
    assert {view.online for view in result.views.values()} == {0}
    assert _online(2)["driver_trips"] is None


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (RANGE.start - DAY, RANGE.end + 4 * DAY, r"36h.*Ingest 12h more \(before\)"),
        (RANGE.start - 2 * DAY, RANGE.end + DAY, r"Ingest \d+[dh] more \(after\)"),
    ],
)
def test_a_dataset_that_does_not_reach_around_the_range_is_refused(
    dataset: Callable[..., Path],
    store_uri: Path,
    tmp_path: Path,
    start: datetime,
    end: datetime,
    said: str,
) -> None:
    with pytest.raises(SlipwayError, match=said):
        backfill_features(
            dataset("short", trips(), start, end), "trips", CONFIG, RANGE, True, tmp_path / "r"
        )
    assert not store_uri.exists()


def test_a_store_with_other_columns_is_refused_and_stays(
    dataset: Callable[..., Path], store_uri: Path, tmp_path: Path
) -> None:
    build_features(dataset("whole", trips()), "trips", CONFIG, tmp_path / "splits")
    there = _tables()
    views = [*CONFIG["views"][:2], {**CONFIG["views"][2], "aggregates": {}}]
    views[2]["aggregates"] = {"driver_sum": {"function": "sum", "column": "delay", "window": "1d"}}
    with pytest.raises(SlipwayError, match=r"only there .*driver_trips.*only here .*driver_sum"):
        backfill_features(
            _around(dataset, trips()),
            "trips",
            {**CONFIG, "views": views},
            RANGE,
            True,
            tmp_path / "record.json",
        )
    for name, rows in _tables().items():
        assert_frame_equal(rows, there[name])
