"""A shop whose clicks are pushed: its feature store, its clock, and what the predictor reads of it."""

import itertools
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from slipway.components.contracts.streams import StreamTag
from slipway.components.features.features import build_features
from slipway.components.features.streams.push import Pusher
from slipway.components.validate.validate import validate_dataset
from slipway.serving.online.lookup import RedisSource, SqliteSource, StoredView, look_up
from support.datasets import write_dataset

START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(days=10)
HOUR = timedelta(hours=1)
CONFIG: dict[str, Any] = {
    "entities": {"user": "user", "item": "item"},
    "examples": {"table": "orders", "key": "order", "time": "at"},
    "label": {"column": "bought"},
    "split": {"validation": "2d", "test": "2d"},
    "streams": {"clicks": {"key": "event", "most_events": 50}},
    "views": [
        {
            "name": "recent", "entity": "user", "table": "clicks", "time": "at",
            "aggregates": {
                "clicks_1h": {"function": "count", "window": "1h"},
                "spent_1d": {"function": "sum", "column": "price", "window": "1d"},
            },
        },
        {
            "name": "popular", "entity": "item", "table": "clicks", "time": "at",
            "aggregates": {"item_clicks_1h": {"function": "count", "window": "1h"}},
        },
        {
            "name": "newest", "entity": "user", "table": "clicks", "time": "at",
            "fields": {"last_item": "item", "last_at": "at", "last_big": "big"},
        },
    ],
}  # fmt: skip
projects = itertools.count()


class Shop:
    """A project with a filled store, and its clock."""

    def __init__(
        self, folder: Path, config: dict[str, Any] = CONFIG, schema: str | None = None
    ) -> None:
        self.name = f"shop-{next(projects)}"
        self.now = END
        minutes = [START + 97 * timedelta(minutes=i) for i in range(148)]
        orders = pl.DataFrame(
            {
                "order": [f"o{i}" for i in range(148)],
                "user": [i % 3 for i in range(148)],
                "item": [f"i{i % 4}" for i in range(148)],
                "at": minutes,
                "bought": [i % 2 for i in range(148)],
            },
            schema_overrides={"at": pl.Datetime("us", "UTC")},
        )
        clicks = pl.DataFrame(
            {
                "event": [f"old{i}" for i in range(148)],
                "user": [i % 3 for i in range(148)],
                "item": [f"i{i % 4}" for i in range(148)],
                "at": minutes,
                "price": [0.5] * 148,
                "big": [i % 2 == 0 for i in range(148)],
                "page": ["home", "list"] * 74,
            },
            schema_overrides={"at": pl.Datetime("us", "UTC")},
        )
        window = (START.isoformat(), END.isoformat())
        dataset = write_dataset(folder / self.name, {"orders": orders, "clicks": clicks}, window)
        if schema is not None:
            dataset = _validated(dataset, schema)
        build_features(dataset, self.name, config, folder / f"{self.name}-splits")
        self.pusher = Pusher(self.name, now=lambda: self.now.timestamp())
        self.store = self.pusher._store

    def source(self) -> Any:
        online = self.store._get_provider().online_store
        if self.store.config.online_store.type == "redis":
            client = online._get_client(self.store.config.online_store)
            return RedisSource(client, self.store.project)
        path = self.store.config.online_store.path
        return SqliteSource(sqlite3.connect(path), self.store.project)

    def read(self, users: list[Any], source: Any = None) -> dict[str, list[Any]]:
        views = [
            StoredView(
                name=view.name,
                keys={c.name: str(c.dtype) == "String" for c in view.entity_columns},
                features=[feature.name for feature in view.features],
                stream=StreamTag.read(view.tags),
            )
            for view in self.store.list_feature_views()
        ]
        rows = [{"user": user, "item": "i1"} for user in users]
        return look_up(source or self.source(), views, rows, self.now.timestamp())

    def feast(self, user: int) -> dict[str, Any]:
        keys = {"user": user, "item": "i1"}
        service = self.store.get_feature_service(self.store.project)
        found = self.store.get_online_features(features=service, entity_rows=[keys]).to_dict()
        return {name: values[0] for name, values in found.items()}


def click(name: str, minutes: float, **more: Any) -> dict[str, Any]:
    at = (END + timedelta(minutes=minutes)).isoformat()
    return {"event": name, "user": 1, "item": "i1", "at": at, "price": 2.0, "big": None} | more


def _validated(dataset: Path, schema: str) -> Path:
    """The dataset as validate leaves it."""
    places = {n: dataset / f"validated-{n}" for n in ("good", "quarantine", "report", "results")}
    validate_dataset(dataset=dataset, schema=schema, **places)
    return places["good"]
