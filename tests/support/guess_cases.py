"""Strangers' tables: each with what is guessed of it, what is warned of, and how its project is judged.

What is guessed is held in tests/local/guess, and what the project comes to in tests/e2e.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from slipway.local.guess.guess import Answers
from support.own_tables import Tables, as_spreadsheet, bundled, customers, earners, orders, visits

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
        places: what init is given in the folder; else each file.
        kind: of the label.
        refused: the rules that the gate refuses the model by, each with the setting that its line is to
            name; none: the model passes.
        monitored: whether the run goes on to requests and to monitoring.
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
    places: tuple[str, ...] = ()
    kind: str = "binary"
    refused: dict[str, str] = field(default_factory=dict)
    monitored: bool = False

    def options(self) -> list[str]:
        """The answers as options of the command."""
        options = []
        for answer, values in asdict(self.answers).items():
            for value in [values] if isinstance(values, str) else values:
                options += [f"--{answer}", value] if value else []
        return options


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
    "one table": Case(tables=lambda: {"orders.csv": orders()}, monitored=True),
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
        tables=lambda: {"orders.parquet": orders().with_columns(pl.col("returned") == "yes")},
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
        monitored=True,
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
        monitored=True,
    ),
    "few rows": Case(
        tables=lambda: {"orders.csv": orders(rows=160)},
        warnings=[
            "is not to be told from chance",
            "test rows",
            "test rows of the rarer class",
            "only 160 rows with a label",
        ],
        monitored=True,
    ),
    "a table of customers": Case(
        tables=lambda: {"orders.csv": orders(), "customers.csv": customers(orders())},
        fields=[*OWN, "age", "segment"],
        monitored=True,
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
        monitored=True,
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
        monitored=True,
    ),
    "positives of which nobody knows but who asks": Case(
        tables=with_columns(returned=pl.when(pl.col("returned") == "yes").then(2).otherwise(1)),
        answers=Answers(label="returned", positive=("2",)),
    ),
    "a key that some rows share": Case(
        tables=with_columns(
            order_id=pl.when(pl.int_range(pl.len()) < 6)
            .then(pl.lit("o1"))
            .otherwise(pl.col("order_id"))
        ),
        key=(),
        left_out={"customer_id": "an id", "order_id": "an id"},
        warnings=["order_id looks like the key of orders, but 5 of 1,200 rows repeat", FEW],
        monitored=True,
    ),
    "a spreadsheet of another country": Case(
        tables=lambda: {"orders.csv": as_spreadsheet(orders())},
        left_out={"customer_id": "an id", "shop": "one value in every row"},
        monitored=True,
    ),
    "a folder of monthly files": Case(
        tables=lambda: {
            f"orders/2024-{month:02d}.csv": orders().filter(pl.col("placed_at").dt.month() == month)
            for month in range(1, 5)
        },
        places=("orders",),
    ),
    "a Delta table": Case(tables=lambda: {"orders": orders()}, monitored=True),
    "no time, and a customer comes back": Case(
        tables=lambda: {"orders.csv": orders().drop("placed_at")},
        time=None,
        fields=["amount", "channel"],
        views=[],
        warnings=["only 234 test rows"],
        monitored=True,
    ),
    "several classes": Case(
        tables=lambda: {"people.csv": earners(1200).drop("spend")},
        answers=Answers(label="segment"),
        kind="multiclass",
        time=None,
        key=("customer_id",),
        fields=["income", "city"],
        left_out={},
        views=[],
        warnings=["only 256 test rows", "test rows of the rarest class"],
        monitored=True,
    ),
    "a number": Case(
        tables=lambda: {"people.csv": earners(1200).drop("segment")},
        answers=Answers(label="spend"),
        kind="number",
        time=None,
        key=("customer_id",),
        fields=["income", "city"],
        left_out={},
        views=[],
        warnings=["only 256 test rows"],
        monitored=True,
    ),
    "tumours that are easy to tell": Case(
        tables=lambda: {"tumours.csv": bundled("breast_cancer").with_row_index("patient_id")},
        answers=Answers(label="target"),
        time=None,
        key=("patient_id",),
        fields=[name.replace(" ", "_") for name in bundled("breast_cancer").columns[:-1]],
        left_out={},
        views=[],
        warnings=["too good to be true", "test rows", "test rows of the rarer class"],
        # Honestly: a person is to say that these features were measured before.
        refused={"too good to be true": "gate.leak"},
    ),
}
