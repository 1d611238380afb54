"""The label rule: what is read as it is, what is declared, and that nothing else becomes a label."""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from slipway.components.config.features.features import Label
from slipway.components.metrics.outcomes.outcome import read_label, tell
from slipway.components.support.errors import SlipwayError

NAN = float("nan")


@dataclass(frozen=True)
class Case:
    """A column, what the project file says of it, and the labels or words of the refusal."""

    name: str
    values: list[Any]
    says: dict[str, Any]
    expected: list[int | None] | str
    kind: Any = None


BIG = 2**53 + 1
LONG = "12345678901234567890123456789.123456789"
MINUTES = [timedelta(minutes=m) for m in (5, 15, 30)]
CASES = [
    Case("booleans", [True, False, None], {}, [1, 0, None]),
    Case("whole 0 and 1", [1, 0, None], {}, [1, 0, None]),
    Case("unsigned 0 and 1", [1, 0], {}, [1, 0], pl.UInt8),
    Case("0.0 and 1.0", [1.0, 0.0, None], {}, [1, 0, None]),
    Case("decimals 0 and 1", [Decimal("1.00"), Decimal("0.00")], {}, [1, 0]),
    Case("no type at all", [None, None], {}, [None, None]),
    Case("all null", [None, None], {}, [None, None], pl.Float64),
    # What was taken for a label without a word.
    Case("9 for unknown", [0, 1, 9, 9], {}, r"9 \(2 rows\).*label.positive.*label.unknown"),
    Case("1 and 2", [1, 2, 2], {}, r"is not 0 or 1. It has 2 \(2 rows\), 1 \(1 rows\)"),
    Case("-1 and 1", [-1, 1], {}, r"-1 \(1 rows\)"),
    Case("shares", [0.2, 0.8], {}, r"0.2 \(1 rows\)"),
    Case("shares in float32", [0.2, 0.8], {}, r"0.2 \(1 rows\)", pl.Float32),
    Case("NaN", [0.0, 1.0, NAN], {}, r"NaN \(1 rows\)"),
    Case("infinity", [0.0, float("inf")], {}, r"inf \(1 rows\)"),
    Case("yes and no", ["yes", "no", "no"], {}, r"no \(2 rows\), yes \(1 rows\).*label.positive"),
    Case("texts of 0 and 1", ["1", "0"], {}, r"label.positive"),
    Case("empty text", ["", ""], {}, r"\(empty text\) \(2 rows\)"),
    Case("many values", list(range(30)), {}, r"and 20 more values.*label.above"),
    Case("durations", MINUTES, {}, r"Duration.*Set `label.above` with a unit, as in 15m"),
    Case("days", [date(2024, 1, 1)], {}, r"is of type Date: a label is made of"),
    Case("lists", [[1], [0]], {}, r"is of type List"),
    # What the project file says.
    Case("positive: yes", ["yes", "no", None], {"positive": "yes"}, [1, 0, None]),
    Case("several are positive", ["a", "b", "c"], {"positive": ["a", "c"]}, [1, 0, 1]),
    Case("a category", ["a", "b"], {"positive": "a"}, [1, 0], pl.Categorical),
    Case("positive: 1 of 1 and 2", [1, 2], {"positive": 1}, [1, 0]),
    Case("positive: 2.0 of numbers", [1.0, 2.0, None], {"positive": 2.0}, [0, 1, None]),
    Case("positive: -1", [-1, 1], {"positive": -1}, [1, 0]),
    Case("a share of float32", [0.2, 0.8], {"positive": 0.8}, [0, 1], pl.Float32),
    Case("positive: false", [True, False], {"positive": False}, [0, 1]),
    Case("a number beyond 2**53", [2**53 + 1, 2**53], {"positive": 2**53 + 1}, [1, 0]),
    Case("9 declared", [0, 1, 9, None], {"unknown": [9]}, [0, 1, None, None]),
    Case("9.0 declared", [0.0, 1.0, 9.0], {"unknown": 9}, [0, 1, None]),
    Case("9.50 declared of decimals", [Decimal("1.00"), Decimal("9.50")],
         {"positive": 1, "unknown": 9.5}, [1, None]),
    Case("numbers declared as texts", [1, 9, 0],
         {"positive": "1.0", "unknown": ["9.0", "nan"]}, [1, None, 0]),
    Case("texts stay texts", ["1", "1.0"], {"positive": 1}, [1, 0]),
    Case("NaN declared", [0.0, 1.0, NAN], {"unknown": "NaN"}, [0, 1, None]),
    Case("positive and unknown", ["y", "n", "?"], {"positive": "y", "unknown": "?"}, [1, 0, None]),
    Case("NaN beside a positive", [1.0, 2.0, NAN], {"positive": 1}, r"NaN \(1 rows\)"),
    Case("a positive that is not there", ["Yes", "no"], {"positive": "yes"},
         r"has no value yes \(positive\). It has .*Yes \(1 rows\)"),
    Case("an unknown 9 and another", [0, 1, 9, 8], {"unknown": 9}, r"8 \(1 rows\)"),
    # above
    Case("above", [10, 15, 16, None], {"above": 15}, [0, 0, 1, None]),
    Case("above, infinite", [float("inf"), float("-inf")], {"above": 15}, [1, 0]),
    Case("above, NaN", [20.0, NAN], {"above": 15}, r"NaN in 1 of 2 rows.*label.unknown: \[NaN\]"),
    Case("above, NaN declared", [20.0, NAN], {"above": 15, "unknown": "NaN"}, [1, None]),
    Case("above, 999 declared", [20, 999, 1], {"above": 15, "unknown": [999]}, [1, None, 0]),
    Case("above of durations", MINUTES, {"above": "15m"}, [0, 0, 1]),
    Case("above without a unit", MINUTES, {"above": 15}, r"has no unit.*15m"),
    Case("a unit without durations", [1, 2], {"above": "15m"}, r"must be a plain number"),
    Case("above, beyond 2**53", [BIG, BIG - 1, BIG + 1], {"above": BIG}, [0, 0, 1]),
    Case("above, beyond 2**53 as text", [BIG, BIG + 1], {"above": str(BIG)}, [0, 1]),
    Case("above, beyond 2**63", [2**64 - 1, 2**64 - 2], {"above": 2**64 - 2}, [1, 0], pl.UInt64),
    Case("above what the type holds", [127, -128], {"above": 300}, [0, 0], pl.Int8),
    Case("above less than the type holds", [127, -128, None], {"above": -300}, [1, 1, None], pl.Int8),
    Case("above between whole numbers", [BIG, BIG + 1], {"above": f"{BIG}.5"}, [0, 1]),
    Case("above of decimals", [Decimal(f"{BIG}.25"), Decimal(f"{BIG}.26")],
         {"above": f"{BIG}.25"}, [0, 1]),
    Case("above, doubles beyond 2**53", [float(BIG + 1), float(BIG + 3)], {"above": BIG + 2}, [0, 1]),
    Case("above a tenth", [0.1, 0.2], {"above": 0.1}, [0, 1]),
    Case("above a tenth in float32", [0.1, 0.2], {"above": 0.1}, [0, 1], pl.Float32),
    Case("above, unknown beyond 2**53", [BIG, BIG - 1, BIG + 1],
         {"above": BIG - 1, "unknown": [BIG]}, [None, 0, 1]),
    Case("above, unknown of decimals", [Decimal(f"{BIG}.25"), Decimal(f"{BIG}.26")],
         {"above": 1, "unknown": [f"{BIG}.25"]}, [None, 1]),
    Case("a long decimal declared", [Decimal(LONG), Decimal("1")], {"positive": LONG}, [1, 0]),
    Case("above of texts", ["1", "2"], {"above": 1}, r"label.positive"),
    Case("above of booleans", [True, False], {"above": 0}, r"label.positive"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_column_is_read_or_refused(case: Case) -> None:
    label = Label.model_validate({"column": "returned", **case.says})
    # As a pipeline's parameter has it: every number a float.
    struct = label.to_struct()
    assert Label.model_validate(struct) == label
    column = pl.Series("returned", case.values, dtype=case.kind)
    if isinstance(case.expected, str):
        with pytest.raises(SlipwayError, match=case.expected) as refused:
            read_label(column, label, "orders")
        assert "column returned of table orders" in str(refused.value)
        return
    labels = read_label(column, label, "orders")
    assert labels.dtype == pl.Int8
    assert labels.to_list() == case.expected


def test_what_became_of_each_value_is_told() -> None:
    label = Label(column="returned", positive=("yes", "y"), unknown=("?",))
    column = pl.Series(["yes", "y", "y", "no", "maybe", "?", None])
    assert tell(column, read_label(column, label, "orders"), label).startswith(
        "positive: y (2 rows), yes (1 r"
    )
    # A value that nobody thought of is negative, and said.
    assert "negative: " in (told := tell(column, read_label(column, label, "orders"), label))
    assert "maybe (1 rows)" in told and told.endswith("not known: ? (1 rows)")


def test_late_labels_need_not_have_every_class() -> None:
    label = Label(column="returned", positive=("yes",))
    assert read_label(pl.Series(["no"]), label, "orders", whole=False).to_list() == [0]
    with pytest.raises(SlipwayError, match="has no value yes"):
        read_label(pl.Series(["no"]), label, "orders")


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({"positive": "yes", "above": 3}, "say the same thing twice"),
        ({"positive": [1, 2], "unknown": [2.0]}, "2 cannot be both"),
        ({"positive": []}, "at least 1 item"),
        ({"positive": {"a": 1}}, "give a value or a list of values"),
        ({"above": "15 minutes"}, "is not a duration"),
        ({"above": "1.5.0"}, "is not a number of plain digits"),
        ({"above": 9007199254740993.0}, "write it in quotes"),
        ({"unknown": [9007199254740993.0]}, "write it in quotes"),
        ({"above": NAN}, "finite"),
        ({"above": [1]}, "give a number"),
    ],
)
def test_a_label_that_makes_no_sense_is_refused_at_load(says: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Label.model_validate({"column": "returned", **says})
