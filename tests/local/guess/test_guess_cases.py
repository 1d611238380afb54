"""Strangers' tables: what init says of each, and what it writes. No guess is silently wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.own_tables import customers, draft_of, orders, visits

from slipway.local.guess.draft import Draft
from slipway.local.guess.guess import Answers
from slipway.local.guess.write import project_files

Tables = dict[str, pl.DataFrame]
OWN = ["placed_at", "amount", "channel"]
FEW = "only 251 test rows"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Tables, what a person says of them, and what is to be guessed.

    Attributes:
        fields: the features that are columns as they stand.
        left_out: column to a part of why it is no feature.
        views: names of the views of earlier rows.
        warnings: a part of each warning, in order; these and no others.
        gate: settings of the gate that are to have these values.
    """

    tables: Callable[[], Tables]
    answers: Answers = field(default_factory=lambda: Answers(label="returned"))
    time: str | None = "placed_at"
    key: tuple[str, ...] = ("order_id",)
    fields: list[str] = field(default_factory=lambda: list(OWN))
    left_out: dict[str, str] = field(default_factory=lambda: {"customer_id": ""})
    views: list[str] = field(default_factory=lambda: ["customer_id_history"])
    warnings: list[str] = field(default_factory=lambda: [FEW])
    gate: dict[str, Any] = field(default_factory=dict)


def with_columns(**columns: Any) -> Callable[[], Tables]:
    return lambda: {"orders.csv": orders().with_columns(**columns)}


def copy_of_label() -> pl.Expr:
    return pl.when(pl.col("returned") == "yes").then(pl.lit("sent back")).otherwise(pl.lit("kept"))


def noise(seed: int) -> pl.Series:
    return pl.Series(np.random.default_rng(seed).normal(size=1200))


def rare() -> pl.DataFrame:
    rows = orders(rows=20_000)
    chosen = pl.int_range(pl.len()).filter((pl.col("returned") == "yes") & (pl.col("amount") > 20))
    all_of_them = rows.select(chosen)[:, 0].to_list()
    few = all_of_them[:: len(all_of_them) // 40][:40]
    label = pl.Series("returned", ["no"] * rows.height).scatter(few, "yes")
    return rows.with_columns(label)


def parcels() -> pl.DataFrame:
    sent = orders().filter(pl.col("returned") == "yes")
    return sent.select(
        "order_id", arrived=pl.col("placed_at") + pl.duration(days=5), weight="amount"
    )


CASES = {
    "one table": Case(tables=lambda: {"orders.csv": orders()}),
    "parquet": Case(tables=lambda: {"orders.parquet": orders()}),
    "json lines": Case(tables=lambda: {"orders.jsonl": orders()}),
    "narrow": Case(
        tables=lambda: {
            "orders.csv": orders().select("order_id", "placed_at", "amount", "returned")
        },
        fields=["placed_at", "amount"],
        left_out={},
        views=[],
    ),
    "wide": Case(
        tables=with_columns(**{f"noise_{n}": noise(n) for n in range(150)}),
        fields=[*OWN, *(f"noise_{n}" for n in range(150))],
    ),
    "a label of 0 and 1": Case(
        tables=with_columns(returned=(pl.col("returned") == "yes").cast(pl.Int8))
    ),
    "a label of booleans": Case(
        tables=lambda: {"orders.parquet": orders().with_columns(pl.col("returned") == "yes")}
    ),
    "a label that some rows lack": Case(
        tables=with_columns(
            returned=pl.when(pl.int_range(pl.len()) % 50 == 7)
            .then(pl.lit("?"))
            .otherwise("returned")
        ),
        warnings=["only 236 test rows"],
    ),
    "a copy of the label": Case(
        tables=with_columns(state=copy_of_label()),
        left_out={"customer_id": "an id", "state": "it alone tells the label"},
        warnings=["LEAK: state alone tells returned (AUC 1.000)", FEW],
    ),
    "a value that is there only with the label": Case(
        tables=with_columns(refund=pl.when(pl.col("returned") == "yes").then(pl.col("amount"))),
        left_out={"customer_id": "an id", "refund": "it alone tells the label"},
        warnings=["LEAK: refund alone tells returned (AUC 1.000)", FEW],
    ),
    "an id that leaks": Case(
        # Sent back ones were numbered in a system of their own.
        tables=lambda: {
            "orders.csv": orders().with_columns(
                order_id=pl.int_range(pl.len())
                + pl.when(pl.col("returned") == "yes").then(10**6).otherwise(0)
            )
        },
    ),
    "a code that leaks": Case(
        tables=with_columns(
            case_code=pl.when(pl.col("returned") == "yes")
            .then(7)
            .otherwise(pl.int_range(pl.len()) % 5)
        ),
        left_out={"customer_id": "an id", "case_code": "it alone tells the label"},
        warnings=["LEAK: case_code alone tells returned", FEW],
    ),
    "a time after the label": Case(
        tables=with_columns(settled_on=pl.col("placed_at") + pl.duration(days=9)),
        answers=Answers(label="returned", time="placed_at"),
        left_out={"customer_id": "an id", "settled_on": "known only later"},
        warnings=["LEAK: settled_on is known only after the prediction", FEW],
    ),
    "a label with the time when it is known": Case(
        tables=with_columns(
            returned=pl.when(pl.int_range(pl.len()) % 40 != 0).then("returned"),
            settled_on=pl.when(pl.int_range(pl.len()) % 40 != 0).then(
                pl.col("placed_at") + pl.duration(days=3)
            ),
        ),
        left_out={"customer_id": "an id"},
        warnings=["only 245 test rows"],
    ),
    "a birth is no time of a row": Case(
        tables=with_columns(birth_date=pl.col("placed_at").dt.offset_by("-30y").dt.date()),
        fields=[*OWN, "birth_date"],
    ),
    "constant and empty columns": Case(
        tables=with_columns(currency=pl.lit("EUR"), fax=pl.lit(None, pl.String), zero=pl.lit(0)),
        left_out={
            "customer_id": "an id",
            "currency": "one value in every row",
            "fax": "no value at all",
            "zero": "one value in every row",
        },
    ),
    "free text": Case(
        tables=with_columns(remark=pl.format("to {} by {}", "order_id", "customer_id")),
        left_out={"customer_id": "an id", "remark": "free text or an id: 1,200 different values"},
    ),
    "names as spreadsheets make them": Case(
        tables=lambda: {
            "orders.csv": orders().rename(
                {"amount": "Amount (€)", "channel": "Sales channel", "order_id": "Order ID"}
            )
        },
        key=("order_id",),
        fields=["placed_at", "amount", "sales_channel"],
    ),
    "a column without a name": Case(
        tables=lambda: {"orders.csv": orders().with_row_index("")},
        left_out={"customer_id": "an id", "row": "an id"},
    ),
    "one in five hundred": Case(
        tables=lambda: {"orders.csv": rare()},
        warnings=[
            "only 7 test rows of the rarer class",
            "the classes are unbalanced",
        ],
        gate={"accuracy": 0.0},
    ),
    "few rows": Case(
        tables=lambda: {"orders.csv": orders(rows=160)},
        warnings=[
            "is not to be told from chance",
            "test rows",
            "test rows of the rarer class",
            "only 160 rows with a label",
        ],
    ),
    "a table of customers": Case(
        tables=lambda: {"orders.csv": orders(), "customers.csv": customers(orders())},
        fields=[*OWN, "age", "segment"],
    ),
    "customers who call their key id": Case(
        tables=lambda: {
            "orders.csv": orders(),
            "customers.csv": customers(orders()).rename({"customer_id": "id"}),
        },
        fields=[*OWN, "age", "segment"],
    ),
    "a table of visits": Case(
        tables=lambda: {"orders.csv": orders(), "visits.csv": visits(orders())},
        views=["customer_id_history", "visits_of_customer_id"],
    ),
    "visits without a time": Case(
        tables=lambda: {"orders.csv": orders(), "visits.csv": visits(orders()).drop("visited_at")},
        warnings=[
            "the table visits has several rows for a customer_id, and no column that says when",
            FEW,
        ],
    ),
    "a table that hangs on nothing": Case(
        tables=lambda: {
            "orders.csv": orders(),
            "rates.csv": pl.DataFrame({"currency": ["EUR", "USD"], "rate": [1.0, 1.1]}),
        },
        warnings=["the table rates shares no key with orders", FEW],
    ),
    "rows that came afterwards": Case(
        # One row for each order that was sent back: that there is one gives the label away.
        tables=lambda: {"orders.csv": orders(), "parcels.csv": parcels()},
        left_out={
            "customer_id": "an id",
            "weight": "no example has a value before it is predicted",
        },
        warnings=["LEAK: the rows of parcels come after the prediction (arrived)", FEW],
    ),
}


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Draft, Path]]:
    """The draft of a case, made once."""
    made: dict[str, tuple[Draft, Path]] = {}

    def draft(name: str) -> tuple[Draft, Path]:
        if name not in made:
            folder = tmp_path_factory.mktemp("case")
            made[name] = draft_of(folder, CASES[name].tables(), CASES[name].answers), folder
        return made[name]

    return draft


@pytest.mark.parametrize("name", CASES)
def test_what_is_guessed(name: str, drafts: Callable[[str], tuple[Draft, Path]]) -> None:
    case, (draft, _) = CASES[name], drafts(name)
    assert draft.moments.time.value == case.time
    assert draft.key.value == case.key
    assert [found.name for found in draft.fields.found] == case.fields
    left_out = {
        column: why for reasons in draft.fields.left_out.values() for column, why in reasons.items()
    }
    assert sorted(left_out) == sorted(case.left_out)
    for column, why in case.left_out.items():
        assert why in left_out[column]
    assert [history.name for history in draft.histories] == case.views
    for setting, value in case.gate.items():
        assert draft.gate.gate[setting].value == value


@pytest.mark.parametrize("name", CASES)
def test_what_is_warned_of(name: str, drafts: Callable[[str], tuple[Draft, Path]]) -> None:
    draft, _ = drafts(name)
    expected = CASES[name].warnings
    assert len(draft.warnings) == len(expected), draft.warnings
    for warning, part in zip(draft.warnings, expected, strict=True):
        assert part in warning


@pytest.mark.parametrize("name", CASES)
def test_it_is_a_project_with_a_reason_beside_each_value(
    name: str, drafts: Callable[[str], tuple[Draft, Path]]
) -> None:
    draft, folder = drafts(name)
    text = project_files(draft, folder)["project.yaml"]
    lines = text.splitlines()
    for setting in ("root:", "label:", "key:", "split:", "accuracy:", "f1:", "auc:"):
        (number,) = [n for n, line in enumerate(lines[:-1]) if line.strip().startswith(setting)][:1]
        above = lines[number - 1].strip() if setting != "label:" else lines[number + 1].strip()
        assert above.startswith("#"), f"{name}: {setting} has no reason above it"


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    tables = {
        "orders.csv": orders(),
        "customers.csv": customers(orders()),
        "visits.csv": visits(orders()),
    }
    first, second = (
        project_files(draft_of(tmp_path, tables, Answers(label="returned")), tmp_path) for _ in "ab"
    )
    assert first == second
    assert sorted(first) == [
        "project.yaml",
        "schemas/input.json",
        "schemas/project.schema.json",
        "schemas/schema.meta.json",
    ]


def test_the_label_is_known_late(drafts: Callable[[str], tuple[Draft, Path]]) -> None:
    draft, _ = drafts("a label with the time when it is known")
    assert draft.moments.known.value == "settled_on"
    assert draft.moments.lag == timedelta(days=3)
    assert draft.split.split.value["gap"] == "3d"


def test_a_leak_does_not_set_the_gate(drafts: Callable[[str], tuple[Draft, Path]]) -> None:
    (leaking, _), (plain, _) = drafts("a copy of the label"), drafts("one table")
    assert leaking.gate.gate == plain.gate.gate


def test_a_later_table_counts_from_its_own_time(
    drafts: Callable[[str], tuple[Draft, Path]],
) -> None:
    draft, _ = drafts("rows that came afterwards")
    assert draft.trial.baseline["auc"].value < 0.9
