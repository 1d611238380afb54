"""Makes the tables of the recommender example: a shop's users, items, impressions and clicks.

They are simulated, since no package carries impressions with what was not clicked. What a person likes is
drawn once for each category; what is clicked raises the interest in its category for the next hours (as
sessions in click logs have it: Hidasi et al., "Session-based recommendations with recurrent neural
networks", 2016), popularity follows Zipf's law, and an item is in fashion for some days. So a recommender
can learn tastes from users and items, but does well only with what was clicked a moment ago.

    python lay_out.py build/shop [users]

writes users, items, impressions (parquet) and clicks (jsonl), and clicks-to-come.jsonl: the day after.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS, ITEMS, CATEGORIES, SHOWN = 28, 600, 8, 12
Row = dict[str, Any]
DEVICES = ("phone", "tablet", "desktop")


def lay_out(folder: Path, users: int = 150, seed: int = 0) -> None:
    """Writes the tables into a folder."""
    draw = np.random.default_rng(seed)
    category = draw.integers(0, CATEGORIES, ITEMS)
    price = np.round(draw.lognormal(3, 0.7, ITEMS), 2)
    weight = 1 / np.arange(1, ITEMS + 1) ** 0.7
    fashion = draw.integers(0, DAYS, ITEMS)
    taste = draw.normal(0, 1.0, (users, CATEGORIES))
    purse = draw.normal(3, 0.5, users)
    impressions: list[Row] = []
    clicks: list[Row] = []
    for minute, user in _visits(draw, users):
        at = START + timedelta(minutes=int(minute))
        day = minute / 1440
        recent = [
            c for c in clicks[-4000:] if c["user"] == user and at - c["at"] < timedelta(hours=6)
        ]
        seen = np.array([category[c["item"]] for c in recent], np.int64)
        interest = np.bincount(seen, minlength=CATEGORIES)
        chances = weight * np.exp(-np.abs(day - fashion) / 4) + 0.02 * weight
        shown = draw.choice(ITEMS, SHOWN, replace=False, p=chances / chances.sum())
        leaning = (
            -2.6
            + taste[user, category[shown]]
            + 1.3 * np.minimum(interest[category[shown]], 2)
            - 0.8 * np.abs(np.log(price[shown]) - purse[user])
            + 0.9 * np.exp(-np.abs(day - fashion[shown]) / 2)
        )
        clicked = draw.random(SHOWN) < 1 / (1 + np.exp(-leaning))
        device = DEVICES[int(draw.integers(0, 3))]
        for place, item in enumerate(shown):
            row = {"user": user, "item": int(item), "at": at, "device": device}
            impressions.append(
                row | {"visit": len(impressions) // SHOWN, "clicked": bool(clicked[place])}
            )
            if clicked[place]:
                seconds = int(draw.integers(5, 600))
                clicks.append(
                    {"user": user, "item": int(item), "at": at + timedelta(seconds=seconds)}
                )
    _write(folder, users, category, price, impressions, clicks, draw)


def _visits(draw: np.random.Generator, users: int) -> list[tuple[int, int]]:
    """Minutes since the start and the user, in order; some come often, and mostly twice."""
    visits = []
    for user, often in enumerate(draw.gamma(1.5, 0.5, users)):
        for day in range(DAYS + 1):
            for _ in range(draw.poisson(often)):
                first = day * 1440 + int(draw.integers(420, 1300))
                visits += [(first, user), (first + int(draw.integers(15, 120)), user)]
    return sorted(visits)


def _write(
    folder: Path,
    users: int,
    category: np.ndarray,
    price: np.ndarray,
    impressions: list[Row],
    clicks: list[Row],
    draw: np.random.Generator,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    instant = pl.Datetime("us", "UTC")
    end = START + timedelta(days=DAYS)
    pl.DataFrame(
        {
            "user_id": range(users),
            "age": draw.integers(18, 80, users),
            "region": draw.choice(["north", "south", "east", "west"], users),
        }
    ).write_parquet(folder / "users.parquet")
    pl.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(ITEMS)],
            "category": [f"c{c}" for c in category],
            "price": price,
        }
    ).write_parquet(folder / "items.parquet")
    pl.DataFrame(impressions, schema_overrides={"at": instant}).filter(pl.col("at") < end).select(
        pl.format("m{}", pl.int_range(pl.len())).alias("impression_id"),
        pl.col("visit").cast(pl.String).alias("visit_id"),
        pl.col("user").alias("user_id"),
        pl.format("i{}", "item").alias("item_id"),
        pl.col("at").alias("shown_at"),
        pl.col("at").dt.offset_by("30m").alias("settled_at"),
        "device",
        "clicked",
    ).write_parquet(folder / "impressions.parquet")
    rows = [
        {
            "click_id": f"k{number}",
            "user_id": click["user"],
            "item_id": f"i{click['item']}",
            "category": f"c{category[click['item']]}",
            "price": float(price[click["item"]]),
            "clicked_at": click["at"].isoformat(),
        }
        for number, click in enumerate(clicks)
    ]
    (folder / "clicks").mkdir(exist_ok=True)
    for name, chosen in (
        ("clicks/clicks.jsonl", [row for row in rows if row["clicked_at"] < end.isoformat()]),
        ("clicks-to-come.jsonl", [row for row in rows if row["clicked_at"] >= end.isoformat()]),
    ):
        (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in chosen))


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]), *(int(number) for number in sys.argv[2:3]))
