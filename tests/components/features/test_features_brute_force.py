"""Features against brute force in SQL, in small: benchmarks/feature_values.py compares public tables."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.feature_values import World, compare

START = datetime(2024, 1, 1, tzinfo=UTC)
INSTANT = pl.Datetime("us", "UTC")
FUNCTIONS = ("count", "rate", "sum", "mean", "min", "max", "std", "last")


def world(lead: str) -> World:
    """Sales in whole hours, so that a shop has several at one instant; prices beside them."""
    r = random.Random(9)
    sales = pl.DataFrame(
        [
            {
                "sale": number,
                "shop": r.choice([None, *range(8)]),
                "ware": r.choice(["a", "b", "c", None]),
                "sold": START + timedelta(hours=r.randrange(20 * 24)),
                "lag": r.choice([0, 0, 1, 5, 30]),
                "euros": r.choice([None, round(r.lognormvariate(2, 1), 2)]),
                "pieces": r.randrange(5),
            }
            for number in range(1500)
        ],
        schema_overrides={"sold": INSTANT},
        infer_schema_length=None,
    ).with_columns(paid=pl.col("sold") + pl.duration(hours="lag"), good=pl.col("pieces") > 2)
    prices = pl.DataFrame(
        {
            "ware": [r.choice("abc") for _ in range(200)],
            "since": [START + timedelta(hours=n * 2) for n in range(200)],
            "price": [r.random() for _ in range(200)],
        },
        schema_overrides={"since": INSTANT},
    )
    specs: dict[str, dict[str, Any]] = {
        f"{function}_{window}": {"function": function, "window": window}
        | ({} if function in ("count", "rate") else {"column": "euros"})
        for function in FUNCTIONS
        for window in ("6h", "4d")
    }
    specs |= {
        f"{name}_{lag}": specs[name] | {"lag": lag}
        for name in ("count_6h", "sum_4d", "mean_4d", "last_6h", "std_4d")
        for lag in ("6h", "3d")
    }
    for window in ("6h", "4d"):
        of = {"window": window}
        specs |= {
            f"since_{window}": of | {"function": "since"},
            f"since_many_{window}": of | {"function": "since", "column": "pieces", "above": 2},
            f"since_paid_{window}": of | {"function": "since", "column": "euros", "lag": "5h"},
            f"wares_{window}": of | {"function": "distinct", "column": "ware"},
            f"sizes_{window}": of | {"function": "distinct", "column": "pieces", "lag": "1d"},
            f"ware_{window}": of | {"function": "most_common", "column": "ware"},
            f"size_{window}": of | {"function": "most_common", "column": "pieces", "lag": "7h"},
        }
    specs["a_share"] = {"function": "mean", "column": "pieces", "above": 2, "window": "2d"}
    paid = {f"paid_{name}": spec for name, spec in specs.items()}
    view = {"entity": "shop", "table": "sales", "time": "sold"}
    return World(
        name="sales",
        tables={"sales": sales, "prices": prices},
        config={
            "entities": {"shop": "shop", "ware": "ware"},
            "examples": {"table": "sales", "key": "sale", "time": "sold", "lead": lead},
            "label": {"column": "good"},
            "split": {"validation": "4d", "test": "4d"},
            "views": [
                view | {"name": "past", "aggregates": specs},
                view | {"name": "paid", "known": "paid", "aggregates": paid},
                view | {"name": "before", "ttl": "3d", "fields": {"euros_before": "euros"}},
                {
                    "name": "price", "entity": "ware", "table": "prices", "time": "since", "ttl": "5h",
                    "fields": {"price": "price"},
                },
            ],
        },
        window=("2024-01-01T00:00:00Z", "2024-01-21T00:00:00Z"),
    )  # fmt: skip


@pytest.mark.parametrize("lead", ["0s", "1h"])
def test_no_value_differs_from_brute_force(
    lead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FEATURE_STORE_URI", "FEAST_REDIS_URL"):
        monkeypatch.setenv(name, "")  # put back behind the test
    offline, online = compare(world(lead), tmp_path)
    assert offline.values > 45_000 and online.values > 500
    assert offline.open < 3_000
    assert (offline.differ, online.differ) == (0, 0), offline.shown + online.shown
