"""Pushed events: whatever comes in whatever order, a value is the one that the offline store gives."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.datasets import write_dataset

from slipway.components.config.features.features import FeaturesConfig
from slipway.components.contracts.dataset import read_manifest
from slipway.components.contracts.feature_store import locate
from slipway.components.contracts.streams import StreamTag
from slipway.components.features.columns import key_columns
from slipway.components.features.features import write_views
from slipway.components.features.store.online import materialise
from slipway.components.features.store.registry import apply_definitions, open_store
from slipway.components.features.streams.push import Pusher, keep_streams
from slipway.serving.online.lookup import RedisSource, SqliteSource, StoredView, look_up

ZERO = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WINDOWS = {"30m": 30, "2h": 120}
AGGREGATES = {
    f"{function}_{window}": {"function": function, "window": window}
    | ({} if function in ("count", "rate") else {"column": "amount"})
    for function in ("count", "sum", "mean", "min", "max", "std", "last", "rate")
    for window in WINDOWS
} | {
    "large_2h": {"function": "sum", "column": "amount", "above": 1, "window": "2h"},
    "lagged_30m": {"function": "sum", "column": "amount", "window": "30m", "lag": 2},
    "since_2h": {"function": "since", "window": "2h"},
    "pages_2h": {"function": "distinct", "column": "page", "window": "2h"},
    "most_2h": {"function": "most_common", "column": "page", "window": "2h"},
}
CONFIG: dict[str, Any] = {
    "entities": {"user": "user", "pair": ["user", "item"]},
    "examples": {"table": "orders", "key": "order", "time": "at"},
    "label": {"column": "label"},
    "split": {"validation": "1h", "test": "1h"},
    "streams": {"clicks": {"key": "event"}},
    "views": [
        {
            "name": "recent", "entity": "user", "table": "clicks", "time": "at", "known": "seen",
            "aggregates": AGGREGATES,
        },
        {
            "name": "newest", "entity": "user", "table": "clicks", "time": "at", "known": "seen",
            "ttl": "3h",
            "fields": {
                "page": "page", "money": "amount", "when": {"column": "at", "kind": "time"},
            },
        },
        {
            "name": "both", "entity": "pair", "table": "clicks", "time": "at", "known": "seen",
            "aggregates": {"pair_count": {"function": "count", "window": "1h"}},
        },
    ],
}  # fmt: skip
SETTINGS = FeaturesConfig.parse(CONFIG, "features")
COLUMNS: dict[str, Any] = {
    "event": pl.String(), "user": pl.Int64(), "item": pl.String(), "page": pl.String(),
    "at": pl.Datetime("us", "UTC"), "seen": pl.Datetime("us", "UTC"), "amount": pl.Float64(),
}  # fmt: skip
USERS, ITEMS = (1, 2), ("a", "b|c")
numbers = itertools.count()


def click(number: int, minute: int, lag: int, user: int | None, item: str, amount: Any) -> Any:
    """An event; two of the same number are one event that is known at different moments."""
    return {
        "event": f"e{number}", "user": user, "item": item, "page": f"p{number % 3}",
        "at": ZERO + minute * MINUTE, "seen": ZERO + (minute + lag) * MINUTE, "amount": amount,
    }  # fmt: skip


def as_json(event: dict[str, Any]) -> dict[str, Any]:
    """An event as a line of jsonl has it."""
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in event.items()}


@dataclass
class World:
    """A project whose clicks are pushed, and what must be seen of it by then."""

    folder: Path
    now: datetime = ZERO
    arrived: list[dict[str, Any]] = field(default_factory=list)
    end: datetime | None = None
    behind: timedelta | None = None

    def __post_init__(self) -> None:
        self.project = f"clicks-{next(numbers)}"
        self.pusher: Pusher | None = None

    def clock(self) -> float:
        return self.now.timestamp()

    def materialise(self, more: list[dict[str, Any]], end: datetime) -> None:
        """The features stage on all that arrived and more events, up to a moment."""
        self.arrived += more
        dataset = self.dataset(self.arrived)
        manifest, place = read_manifest(dataset), locate(self.project)
        made = write_views(dataset, manifest, SETTINGS, place)
        store = open_store(place)
        apply_definitions(store, place, SETTINGS, key_columns(manifest, SETTINGS), made)
        for view in SETTINGS.views:
            materialise(store, view.name, end)
        keep_streams(store, place, dataset, manifest, SETTINGS, now=self.clock)
        self.end = max(end, self.end or end)
        self.store = store
        self.pusher = Pusher(self.project, now=self.clock)

    def push(self, events: list[dict[str, Any]]) -> None:
        assert self.pusher is not None
        self.pusher.push("clicks", map(as_json, events))
        self.arrived += events
        known = [e["seen"] for e in events if e["user"] is not None and e["seen"] <= self.now]
        for moment in known:
            late = self.now - moment
            self.behind = late if self.behind is None else min(late, self.behind)

    def dataset(self, events: list[dict[str, Any]]) -> Path:
        orders = pl.DataFrame(
            {"order": ["o"], "at": [ZERO], "user": [1], "item": ["a"], "label": [1]},
            schema_overrides={"at": pl.Datetime("us", "UTC")},
        )
        tables = {"orders": orders, "clicks": pl.DataFrame(events, schema=COLUMNS)}
        name = f"dataset-{next(numbers)}"
        return write_dataset(self.folder / name, tables, ("2023-01-01", "2025-01-01"))

    @property
    def moment(self) -> datetime:
        assert self.end is not None
        return self.end if self.behind is None else max(self.end, self.now - self.behind)

    def offline(self) -> list[dict[str, Any]]:
        """What the offline tables of all that arrived say of each user and item at that moment."""
        dataset = self.dataset(self.arrived)
        os.environ["FEATURE_STORE_URI"], there = (
            f"{self.folder}/truth",
            os.environ["FEATURE_STORE_URI"],
        )
        try:
            place = locate(self.project)
            write_views(dataset, read_manifest(dataset), SETTINGS, place)
        finally:
            os.environ["FEATURE_STORE_URI"] = there
        answers = []
        for user, item in itertools.product(USERS, ITEMS):
            answer: dict[str, Any] = {}
            for view in SETTINGS.views:
                rows = pl.read_parquet(place.table(view.name)).filter(
                    pl.col("user") == user, pl.col("event_timestamp") <= self.moment
                )
                if "item" in rows.columns:
                    rows = rows.filter(pl.col("item") == item)
                if view.ttl:
                    rows = rows.filter(pl.col("event_timestamp") >= self.moment - view.ttl)
                newest = rows.sort("event_timestamp").tail(1).to_dicts()
                for name in view.feature_names:
                    value = newest[0][name] if newest else None
                    answer[name] = view.empty(name) if value is None else value
            answers.append(answer)
        return answers

    def online(self) -> list[dict[str, Any]]:
        """What the predictor reads."""
        online = self.store._get_provider().online_store
        source: Any
        if self.store.config.online_store.type == "redis":
            source = RedisSource(
                online._get_client(self.store.config.online_store), self.store.project
            )
        else:
            source = SqliteSource(online._get_conn(self.store.config), self.store.project)
        views = [
            StoredView(
                name=view.name,
                keys={c.name: str(c.dtype) == "String" for c in view.entity_columns},
                features=[feature.name for feature in view.features],
                stream=StreamTag.read(view.tags),
            )
            for view in self.store.list_feature_views()
        ]
        rows = [{"user": u, "item": i} for u, i in itertools.product(USERS, ITEMS)]
        columns = look_up(source, views, rows, self.clock())
        empty = {name: view.empty(name) for view in SETTINGS.views for name in view.feature_names}
        answers = []
        for place in range(len(rows)):
            row = {name: values[place] for name, values in columns.items()}
            row = {name: empty[name] if value is None else value for name, value in row.items()}
            answers.append(row)
        return answers

    def require_equal(self) -> None:
        for seen, truth in zip(self.online(), self.offline(), strict=True):
            numbers = {k for k, v in truth.items() if isinstance(v, float)}
            assert {k: seen[k] for k in numbers} == pytest.approx(
                {k: truth[k] for k in numbers}, rel=1e-9, abs=1e-9
            )
            assert {k: v for k, v in seen.items() if k not in numbers} == {
                k: v.replace(tzinfo=UTC).timestamp() * 1e6 if isinstance(v, datetime) else v
                for k, v in truth.items()
                if k not in numbers
            }


@pytest.fixture(params=["sqlite", "redis"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """An online store in sqlite, or a real Redis."""
    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))
    monkeypatch.delenv("FEAST_REDIS_URL", raising=False)
    if request.param == "redis":
        monkeypatch.setenv("FEAST_REDIS_URL", request.getfixturevalue("redis_server"))
    return tmp_path


clicks = st.builds(
    click,
    st.integers(0, 9),
    st.integers(0, 300),
    st.integers(0, 20),
    st.sampled_from([*USERS, None]),
    st.sampled_from(ITEMS),
    st.sampled_from([None, -2.0, 0.5, 1.0, 4.0, 8.25]),
)
batches = st.lists(clicks, max_size=4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), batches),
        st.tuples(st.just("again"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(0, 90)),
        st.tuples(st.just("materialise"), batches, st.integers(0, 60)),
    ),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.generate],  # shrinking would take minutes
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(first=batches, steps=steps)
def test_online_is_what_offline_says_in_any_order(
    place: Path, first: list[Any], steps: list[Any]
) -> None:
    """Late events, repeated ones, ones that are known later, and runs of the stage in between."""
    world = World(place, now=ZERO + 120 * MINUTE)
    world.materialise(unique(first), ZERO + 60 * MINUTE)
    world.require_equal()
    for step in steps:
        match step:
            case "push", events:
                world.push(unique(events, world.arrived))
            case "again", count:
                world.push(world.arrived[-count:] if count else [])
            case "wait", minutes:
                world.now += minutes * MINUTE
            case "materialise", events, before:
                world.materialise(unique(events, world.arrived), world.now - before * MINUTE)
        world.require_equal()


def unique(events: list[Any], there: list[Any] = []) -> list[Any]:  # noqa: B006 - not changed
    """Events with a name of their own, but one in three keeps another's: it is known again later."""
    taken = {event["event"]: event for event in there}
    made = []
    for event in events:
        other = taken.get(event["event"])
        if other is not None:
            event = {**event, "event": f"n{next(numbers)}"}
        taken[event["event"]] = event
        made.append(event)
    return made


def test_what_the_last_run_wrote_leaves_its_windows_too(place: Path) -> None:
    """The row of an entity of which nothing was pushed, and one that was too old to be kept."""
    world = World(place, now=ZERO + 40 * MINUTE)
    world.materialise([click(0, 0, 0, 1, "a", 1.0)], world.now)
    world.require_equal()
    for number, minute in enumerate((119, 120, 129, 131, 149, 151), 1):
        world.now = ZERO + minute * MINUTE
        world.push([click(number, minute, 0, 2, "a", 1.0)])
        world.require_equal()
    late = World(place, now=ZERO + 140 * MINUTE)
    late.materialise([], ZERO)
    late.push([click(1, 140, 0, 2, "a", 1.0)])
    late.materialise([click(2, 0, 0, 1, "a", 1.0)], ZERO + 60 * MINUTE)
    late.require_equal()
    late.push([click(3, 1, 0, 1, "a", 1.0)])
    late.require_equal()
