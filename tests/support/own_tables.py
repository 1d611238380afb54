"""Tables as strangers have them, for `slipway init`: small, made, and known to the last column."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from slipway.local.guess.draft import Draft, make_draft
from slipway.local.guess.facts import read_tables
from slipway.local.guess.guess import Answers

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 120
Change = Callable[[pl.DataFrame], pl.DataFrame]


def orders(rows: int = 1200, seed: int = 3) -> pl.DataFrame:
    """Orders over 120 days; `returned` (yes, no) depends on amount and channel, AUC about .8."""
    random = np.random.default_rng(seed)
    minutes = np.sort(random.choice(DAYS * 1440, rows, replace=False))
    amount = np.round(random.lognormal(3, 1, rows), 2)
    channel = random.choice(["web", "app", "shop"], rows)
    odds = -3.2 + 1.5 * (channel == "web") + 1.2 * (np.log(amount) - 2)
    returned = random.random(rows) < 1 / (1 + np.exp(-odds))
    return pl.DataFrame(
        {
            "order_id": [f"o{number}" for number in range(rows)],
            "customer_id": random.integers(0, rows // 8, rows),
            "placed_at": [START + timedelta(minutes=int(minute)) for minute in minutes],
            "amount": amount,
            "channel": channel,
            "returned": np.where(returned, "yes", "no"),
        }
    )


def customers(orders: pl.DataFrame, seed: int = 4) -> pl.DataFrame:
    """One row a customer of the orders."""
    random = np.random.default_rng(seed)
    ids = orders["customer_id"].unique().sort()
    return pl.DataFrame(
        {
            "customer_id": ids,
            "age": random.integers(18, 90, len(ids)),
            "segment": random.choice(["small", "large"], len(ids)),
        }
    )


def visits(orders: pl.DataFrame, seed: int = 5) -> pl.DataFrame:
    """Several rows a customer, each with its time."""
    random = np.random.default_rng(seed)
    ids = orders["customer_id"].unique().sort().to_list()
    rows = 6 * len(ids)
    minutes = random.choice(DAYS * 1440, rows)
    return pl.DataFrame(
        {
            "customer_id": random.choice(ids, rows),
            "visited_at": [START + timedelta(minutes=int(minute)) for minute in minutes],
            "pages": random.integers(1, 30, rows),
        }
    )


def write(folder: Path, tables: dict[str, pl.DataFrame]) -> list[str]:
    """Writes tables by the endings of their names; gives their paths."""
    for name, table in tables.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            table.write_parquet(path)
        elif name.endswith(".jsonl"):
            table.with_columns(pl.col(pl.Datetime).dt.to_string("iso")).write_ndjson(path)
        else:
            table.write_csv(path)
    return [str(folder / name) for name in tables]


def draft_of(folder: Path, tables: dict[str, pl.DataFrame], answers: Answers) -> Draft:
    """What is guessed of tables that are written into a folder."""
    return make_draft(read_tables(write(folder, tables)), answers)
