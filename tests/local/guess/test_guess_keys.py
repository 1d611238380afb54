"""Keys that two tables share: what names a row of another table is no amount, and the file says so."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.own_tables import DAYS, START, draft_of, orders

from slipway.local.guess.draft import Draft, project_text
from slipway.local.guess.guess import Answers


def sold(key: str, names: Any) -> dict[str, pl.DataFrame]:
    """Orders of stores, and a row a store; the orders' column `key` names it."""
    drawn = np.random.default_rng(1).choice(names, 1200)
    every = np.array(names)
    stores = pl.DataFrame({key: every, "size": np.linspace(20.0, 900.0, len(every))})
    rows = orders().drop("customer_id").with_columns(pl.Series(key, drawn))
    return {"orders.csv": rows, "stores.csv": stores}


def drafted(folder: Path, tables: dict[str, pl.DataFrame]) -> tuple[Draft, str]:
    draft = draft_of(folder, tables, Answers(label="returned"))
    return draft, project_text(draft, folder)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("store_id", range(100, 250)),
        ("store", range(100, 250)),
        ("store", [f"s{n}" for n in range(150)]),
    ],
)
def test_a_shared_key_of_many_values_is_no_feature(tmp_path: Path, key: str, names: Any) -> None:
    """Neither as a number, which it is by its type, nor as a category, of which most are rare."""
    draft, text = drafted(tmp_path, sold(key, names))
    (join,) = draft.joins
    assert (join.own, join.other, join.table.name) == (key, key, "stores")
    assert [f.name for f in draft.fields.found] == ["placed_at", "amount", "channel", "size"]
    why = "an id: 150 different values; it names a row of stores, which is joined by it"
    assert draft.fields.left_out["orders"][key] == why
    assert f"{key} ({why})" in " ".join(text.replace("#", " ").split())


@pytest.mark.parametrize("key", ["store_id", "store"])
@pytest.mark.parametrize("names", [range(101, 113), [f"s{n}" for n in range(12)]])
def test_a_shared_key_of_few_values_is_a_category_and_says_why(
    tmp_path: Path, key: str, names: Any
) -> None:
    draft, text = drafted(tmp_path, sold(key, names))
    (field,) = (f for f in draft.fields.found if f.column == key)
    assert field.kind == "categorical" and field.declared == isinstance(names, range)
    said = " ".join(text.replace("#", " ").split())
    why = "it names one of 12, with 100 rows each that it can be learnt from"
    assert f"{key} is a category, not an amount: {why}" in said
    assert "a new one says nothing but what stores says of it." in said


def test_an_id_that_joins_nothing_says_why_it_is_kept(tmp_path: Path) -> None:
    rows = orders().drop("customer_id").with_columns(shop_no=pl.int_range(pl.len()) % 6)
    draft, text = drafted(tmp_path, {"orders.csv": rows})
    (field,) = (f for f in draft.fields.found if f.column == "shop_no")
    assert field.kind == "categorical" and field.declared
    said = " ".join(text.replace("#", " ").split())
    assert "shop_no is a category, not an amount: it names one of 6, with 200 rows each" in said


def test_no_mean_is_taken_of_a_key_of_another_table(tmp_path: Path) -> None:
    """The visits' store is the key of stores: of it a history has no mean, of the pages it has."""
    tables = sold("store", range(100, 250))
    random = np.random.default_rng(2)
    minutes = random.choice(DAYS * 1440, 3000)
    user = [f"u{n % 300}" for n in range(1200)]
    tables["orders.csv"] = tables["orders.csv"].with_columns(pl.Series("user_id", user))
    tables["visits.csv"] = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in random.integers(0, 300, 3000)],
            "visited_at": minutes,
            "store": random.integers(100, 250, 3000),
            "pages": random.integers(1, 30, 3000),
        }
    ).with_columns(visited_at=pl.lit(START) + pl.duration(minutes=pl.col("visited_at")))
    draft, _ = drafted(tmp_path, tables)
    (history,) = (h for h in draft.histories if h.table == "visits")
    columns = {settings.get("column") for settings in history.aggregates.values()}
    assert columns == {None, "pages"}
