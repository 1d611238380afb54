"""Tables as strangers have them, for `slipway init`: small, made, and known to the last column."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from sklearn import datasets

from slipway.local.guess.draft import Draft, make_draft
from slipway.local.guess.guess import Answers
from slipway.local.guess.tables.facts import read_tables

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 120
Change = Callable[[pl.DataFrame], pl.DataFrame]
Tables = dict[str, pl.DataFrame | bytes]
"""File to what it holds: a table, written as the name's ending says, or its bytes."""


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


def earners(rows: int = 3000) -> pl.DataFrame:
    """Customers whose segment and spending follow from what they earn and where they live."""
    rng = np.random.default_rng(0)
    income = rng.lognormal(10, 0.5, rows).round(2)
    city = rng.choice(["Rome", "Paris", "Oslo", "Bonn"], rows)
    rich = np.log(income) - 10 + 1.5 * (city == "Oslo") * (income > 20_000)
    spend = 50 + 30 * rich + rng.normal(0, np.where(city == "Rome", 15, 5))
    segment = np.array(["basic", "plus", "gold"])[
        np.digitize(rich + rng.normal(0, 0.3, rows), [0, 1])
    ]
    return pl.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(rows)],
            "income": income,
            "city": city,
            "segment": segment,
            "spend": spend.round(2),
        }
    )


def write(folder: Path, tables: Mapping[str, pl.DataFrame | bytes]) -> list[str]:
    """Writes tables by the endings of their names (none: a Delta table); gives their paths."""
    for name, table in tables.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(table, bytes):
            path.write_bytes(table)
        elif name.endswith(".parquet"):
            table.write_parquet(path)
        elif name.endswith(".jsonl"):
            table.with_columns(pl.col(pl.Datetime).dt.to_string("iso")).write_ndjson(path)
        elif name.endswith(".csv"):
            table.write_csv(path)
        else:
            import deltalake

            deltalake.write_deltalake(str(path), table.to_arrow())
    return [str(folder / name) for name in tables]


def draft_of(
    folder: Path,
    tables: Mapping[str, pl.DataFrame | bytes],
    answers: Answers,
    places: Sequence[str] = (),
) -> Draft:
    """What is guessed of tables that are written into a folder; `places` in it, else each file."""
    written = write(folder, tables)
    return make_draft(read_tables([str(folder / p) for p in places] or written), answers)


def as_spreadsheet(rows: pl.DataFrame) -> bytes:
    """Orders as a spreadsheet in Germany writes them."""
    comma = pl.format("{},{}", pl.col("amount").floor().cast(pl.Int64), _cents(pl.col("amount")))
    written = rows.with_columns(
        comma.alias("amount"), pl.col("placed_at").dt.strftime("%d.%m.%Y %H:%M")
    )
    return written.with_columns(shop=pl.lit("Köln")).write_csv(separator=";").encode("cp1252")


def _cents(amount: pl.Expr) -> pl.Expr:
    """The two digits after the comma."""
    return (amount * 100).round().cast(pl.Int64).mod(100).cast(pl.String).str.zfill(2)


def bundled(name: str) -> pl.DataFrame:
    """A table of scikit-learn's, its classes by name."""
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    table = pl.DataFrame(bunch.frame)
    if name == "diabetes":
        return table
    return table.with_columns(target=pl.Series([str(bunch.target_names[n]) for n in bunch.target]))
