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


def german(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("Preis", lambda n: german(3000 + n * 7.31)),
        ("Preis", lambda n: german(3000 + n * 7.31) + " €"),
        ("Preis", lambda n: f"{3000 + n * 7.31:,.2f}"),
        ("Preis", lambda n: f"{3000 + n * 7.31:,.2f}".replace(",", "'")),
        ("Preis", lambda n: f"CHF {3000 + n * 7}"),
        ("Preis", lambda n: f"{3000 + n * 7.31:,.2f}".translate({44: "\u202f", 46: ","})),
        ("Gewicht", lambda n: f"{n * 1.377:.3f} kg"),
        ("Anteil", lambda n: f"{n / 7:.3f}%"),
        ("customer_no", lambda n: german(3000 + n * 7.31)),
        ("Note", lambda n: f"They called {n} times and complained"),
        ("Stand", lambda n: f"{n % 28 + 1:02d}.{n % 12 + 1}.24 10:{n % 60:02d}:{n // 60:02d}"),
        ("Stand", lambda n: f"{n // 60 % 24:02d}:{n % 60:02d}:{n // 7 % 60:02d}.{n}"),
        ("Stand", lambda n: f"{n % 28 + 1} March {1000 + n}"),
        ("payload", lambda n: f"{n:0128x}"),
        ("amount_paid", lambda n: str(n * n + 13)),
    ],
)
def test_an_amount_a_time_or_a_sentence_is_never_guessed_as_a_key(
    tmp_path: Path, name: str, write: Any
) -> None:
    """Each row has a value of its own there, as it is with measures, and that names nothing."""
    random = np.random.default_rng(5)
    table = pl.DataFrame(
        {
            name: [write(n) for n in range(400)],
            "rooms": random.integers(1, 6, 400),
            "sold": np.where(random.random(400) < 0.4, "yes", "no"),
        }
    )
    draft = draft_of(tmp_path, {"homes.csv": table}, Answers(label="sold"))
    assert draft.key.value == (), draft.key


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("code", lambda n: f"{n:05d}"),
        ("parcel", lambda n: f"{n:05d}"),
        ("mail", lambda n: f"a{n}@example.org"),
        ("plate", lambda n: f"ULM{n}"),
        ("Kunden-Nr", lambda n: str(n * 13 + 7)),
        ("Bestellnr", lambda n: str(n * 13 + 7)),
        ("order_id", lambda n: f"2024-01-{n % 28 + 1:02d}-{n}"),
        ("order_id", lambda n: f"North {n}"),
        ("uuid", lambda n: f"1e9-{n:032x}"),
    ],
)
def test_what_names_rows_is_still_guessed_as_a_key(tmp_path: Path, name: str, write: Any) -> None:
    random = np.random.default_rng(5)
    table = pl.DataFrame(
        {
            name: [write(n) for n in range(400)],
            "rooms": random.integers(1, 6, 400),
            "sold": np.where(random.random(400) < 0.4, "yes", "no"),
        }
    )
    draft = draft_of(tmp_path, {"homes.csv": table}, Answers(label="sold"))
    (column,) = draft.key.value
    assert draft.label.table.columns[column].source == name


@pytest.mark.parametrize(
    ("label", "column", "said"),
    [
        ("site", "site", "site stands in both, but it is what is predicted"),
        ("returned", "size", "size stands in both, but is of type Float64, and a key is text or"),
        ("returned", "site_id", "site_id stands in both, but less than half of the values of one"),
        ("returned", "area", "area stands in both, but has several rows in sites and no name such"),
        ("returned", "", "no column stands in both. Name the key alike in both tables"),
    ],
)
def test_why_a_table_shares_no_key(tmp_path: Path, label: str, column: str, said: str) -> None:
    """True to the tables: one that has the column is not told that none is alike."""
    count = np.arange(1200)
    values = {
        "site": np.array(["a", "b", "c"])[count % 3],
        "size": count / 7,
        "site_id": count % 40,
        "area": np.array(["n", "s", "w"])[count % 3],
    }
    rows = orders().with_columns(pl.Series(column, values[column])) if column else orders()
    theirs = values[column] + 1000 if column == "site_id" else values.get(column)
    sites = pl.DataFrame({column or "other": theirs if column else count, "rent": count * 1.5})
    sites = sites[:3] if column == "site" else sites
    answers = Answers(label=label, table="orders", key=("order_id",))
    draft = draft_of(tmp_path, {"orders.csv": rows, "sites.csv": sites}, answers)
    (warning,) = (text for text in draft.warnings if "shares no key" in text)
    assert said in warning
