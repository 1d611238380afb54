"""Who liked what: a row is named by a user and an item together, and so is what is known of the pair."""

from typing import Any

import numpy as np
import polars as pl

USERS, ITEMS = 120, 40
CONFIG: dict[str, Any] = {
    "entities": {"user": "user_id", "item": "item_id", "pair": ["user_id", "item_id"]},
    "examples": {"table": "ratings", "key": ["user_id", "item_id"]},
    "label": {"column": "liked"},
    "split": {"method": "group", "by": "user_id", "validation": 0.15, "test": 0.25},
    "views": [
        {"name": "rating", "table": "ratings", "fields": {"device": "device"}},
        {"name": "person", "entity": "user", "table": "users", "fields": {"age": "age"}},
        {"name": "thing", "entity": "item", "table": "items", "fields": {"price": "price"}},
        {
            "name": "past", "entity": "pair", "table": "visits",
            "source_key": ["visitor", "article"], "fields": {"visits": "visits"},
        },
    ],
}  # fmt: skip


def ratings(rows: int = 3000, seed: int = 0) -> dict[str, pl.DataFrame]:
    """Distinct pairs; who visited often likes, and the young like what is cheap."""
    draw = np.random.default_rng(seed)
    pairs = draw.choice(USERS * ITEMS, rows, replace=False)
    user, item = pairs // ITEMS, pairs % ITEMS
    age, price = draw.integers(18, 80, USERS), draw.gamma(2, 20, ITEMS).round(2)
    visits = draw.poisson(1.5, rows)
    leaning = 2.5 * (visits > 2) + 2 * ((age[user] < 40) & (price[item] < 30)) - 1.8
    liked = draw.random(rows) < 1 / (1 + np.exp(-leaning))
    names = pl.Series([f"i|{number}" for number in item])
    table = pl.DataFrame(
        {
            "user_id": user + 1000,
            "item_id": names,
            "device": np.where(draw.random(rows) < 0.5, "phone", "desk"),
            "liked": liked.astype(int),
        }
    )
    return {
        "ratings": table,
        "users": pl.DataFrame({"user_id": np.arange(USERS) + 1000, "age": age}),
        "items": pl.DataFrame({"item_id": [f"i|{n}" for n in range(ITEMS)], "price": price}),
        "visits": pl.DataFrame({"visitor": user + 1000, "article": names, "visits": visits}),
    }
