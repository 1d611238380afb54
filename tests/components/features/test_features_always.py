"""Views that hold at any moment that Slipway takes, and views of which no row can be used."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from slipway.components.config.data import Window
from slipway.components.contracts.feature_rows import ROWS
from slipway.components.contracts.feature_store import locate, repo_config
from slipway.components.contracts.splits import PARTS, read_part, read_splits
from slipway.components.features.backfill import backfill_features
from slipway.components.features.features import build_features
from slipway.components.features.look_up import look_up_features

MakeDataset = Callable[..., Path]
DAY = timedelta(days=1)
PEOPLE = {"name": "people", "entity": "person", "table": "people", "fields": {"born": "born"}}
NEWS = {
    "name": "news",
    "entity": "person",
    "table": "news",
    "time": "at",
    "fields": {"mood": "mood"},
}
CALLS: dict[str, Any] = {
    "name": "calls",
    "entity": "person",
    "table": "calls",
    "time": "at",
    "known": "heard",
    "aggregates": {
        "calls": {"function": "count", "window": "3d"},
        "minutes": {"function": "sum", "column": "minutes", "window": "3d"},
        "pace": {"function": "rate", "window": "3d"},
        "usual": {"function": "mean", "column": "minutes", "window": "3d"},
    },
}


def config(*views: dict[str, Any], lead: str = "12h") -> dict[str, Any]:
    return {
        "entities": {"person": "person"},
        "examples": {"table": "visits", "key": "visit", "time": "at", "lead": lead},
        "label": {"column": "paid"},
        "split": {"validation": "2d", "test": "3d"},
        "views": list(views),
    }


def visits(start: datetime) -> pl.DataFrame:
    """Four a day for ten days, by three people."""
    return pl.DataFrame(
        {
            "visit": [f"v{n:02d}" for n in range(40)],
            "at": [start + n * DAY / 4 for n in range(40)],
            "person": [n % 3 for n in range(40)],
            "paid": [n % 2 == 0 for n in range(40)],
        }
    )


def joined(folder: Path, names: list[str]) -> pl.DataFrame:
    parts = [pl.DataFrame(read_part(folder, part)) for part in PARTS]
    return pl.concat(parts).select("visit", "person", *names).sort("visit")


def online(names: list[str]) -> list[tuple[Any, ...]]:
    from feast import FeatureStore, RepoConfig

    store = FeatureStore(config=RepoConfig(**repo_config("visits")))
    answer = store.get_online_features(
        features=store.get_feature_service("visits"),
        entity_rows=[{"person": person} for person in range(3)],
    ).to_dict()
    return list(zip(*(answer[name] for name in names), strict=True))


@pytest.mark.parametrize("lead", ["0s", "12h", "7300d"])
@pytest.mark.parametrize(
    "start",
    [datetime(year, 1, 1, tzinfo=UTC) for year in (1700, 1705, 1850, 1969, 2024, 2600, 9990)],
    ids=lambda start: str(start.year),
)
def test_a_view_without_time_holds_at_every_moment(
    make_dataset: MakeDataset, store_uri: Path, tmp_path: Path, start: datetime, lead: str
) -> None:
    """Offline, online, in rows to predict and after a backfill alike; a value once known stays."""
    window = (start.isoformat(), (start + 10 * DAY).isoformat())
    tables = {
        "visits": visits(start),
        "people": pl.DataFrame({"person": range(3), "born": [10.0, 20.0, 30.0]}),
        "news": pl.DataFrame({"person": range(3), "at": [start] * 3, "mood": ["a", "b", "c"]}),
    }
    settings = config(PEOPLE, NEWS, lead=lead)
    dataset = make_dataset(tables, window)
    build_features(dataset, "visits", settings, tmp_path / "splits")
    rows = joined(tmp_path / "splits", ["born", "mood"])
    assert rows.height == 40
    assert rows["born"].to_list() == [10.0 + 10 * (n % 3) for n in range(40)]
    assert online(["born", "mood"]) == [(10.0, "a"), (20.0, "b"), (30.0, "c")]

    asked = Window(start=start, end=start + 10 * DAY)
    if lead != "7300d":  # so long a history is not there to be scored
        early = make_dataset(tables, ((start - DAY).isoformat(), window[1]), "early")
        look_up_features(early, "visits", settings, asked, tmp_path / "rows")
        scored = pl.read_parquet(tmp_path / "rows" / ROWS).sort("visit")
        assert scored.select(rows.columns).equals(rows)
    before = pl.read_parquet(locate("visits").table("people"))
    backfill_features(dataset, "visits", settings, asked, True, tmp_path / "record.json")
    assert pl.read_parquet(locate("visits").table("people")).equals(before)
    assert online(["born", "mood"]) == [(10.0, "a"), (20.0, "b"), (30.0, "c")]


START = datetime(2024, 1, 1, tzinfo=UTC)
NEVER = datetime(9999, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("people", "heard"),
    [(None, START), (0, None), (0, NEVER), (7, START)],
    ids=["no key", "never known: null", "never known: 9999", "other people"],
)
def test_a_view_without_a_row_of_use_says_nothing_anywhere(
    make_dataset: MakeDataset,
    store_uri: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    people: int | None,
    heard: datetime | None,
) -> None:
    """Its counts are null offline and missing online; with rows of others alone they are 0."""
    calls = pl.DataFrame(
        {"person": [people], "at": [START], "heard": [heard], "minutes": [5.0]},
        schema={
            "person": pl.Int64,
            "at": pl.Datetime("us", "UTC"),
            "heard": pl.Datetime("us", "UTC"),
            "minutes": pl.Float64,
        },
    )
    tables = {
        "visits": visits(START),
        "calls": calls,
        "people": pl.DataFrame({"person": range(3), "born": [10.0, 20.0, 30.0]}),
    }
    window = (START.isoformat(), (START + 10 * DAY).isoformat())
    settings = config(PEOPLE, CALLS, lead="0s")
    build_features(make_dataset(tables, window), "visits", settings, tmp_path / "splits")
    names = ["calls", "minutes", "pace", "usual"]
    of_use = people == 7
    nothing = 0.0 if of_use else None
    rows = joined(tmp_path / "splits", names)
    assert set(rows.select(names).rows()) == {(nothing, nothing, nothing, None)}
    printed = "".join(capsys.readouterr())
    assert ("view calls has no row of use" in printed) == (not of_use)

    # Online the entity has no row: the predictor then takes the feature's default.
    defaults = {f.name: f.default for f in read_splits(tmp_path / "splits").features}
    assert online(names) == [(None, None, None, None)] * 3
    assert [defaults[name] for name in names] == [nothing, nothing, nothing, None]
