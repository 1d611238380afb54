"""Labels of several classes and numbers, as tables have them."""

import math
from datetime import timedelta
from decimal import Decimal

import polars as pl
import pytest
from pydantic import ValidationError

from slipway.components.config.features.label import Label
from slipway.components.metrics.outcomes.outcome import read_label, tell
from slipway.components.metrics.outcomes.outcome_kinds import find_classes
from slipway.components.support.errors import SlipwayError

MANY = 10


def multi(**settings) -> Label:
    return Label(column="kind", kind="multiclass", **settings)


def rows(*values, times: int = MANY) -> list:
    return list(values) * times


@pytest.mark.parametrize(
    ("values", "settings", "classes"),
    [
        (rows("b", "a", None), {}, ("a", "b")),
        (rows(10, 9, 100), {}, ("9", "10", "100")),
        (rows(2.0, 1.0), {}, ("1", "2")),
        (rows(True, False), {}, ("false", "true")),
        (rows(2**60 + 1, 2**60), {}, (str(2**60), str(2**60 + 1))),
        (rows("a", "b", "?"), {"unknown": "?"}, ("a", "b")),
        (rows(1, 2, 9), {"unknown": 9}, ("1", "2")),
        (rows("b", "a", "c"), {"classes": ["c", "b", "a"]}, ("c", "b", "a")),
        (rows(3.0, 1.0), {"classes": [3, 1]}, ("3", "1")),
        ([*rows("a", "b"), "z", "y"], {"merge_rare": "other"}, ("a", "b", "other")),
        ([*rows("a", "b", "other"), "z"], {"merge_rare": "other"}, ("a", "b", "other")),
        (rows("a", "b"), {"merge_rare": "other"}, ("a", "b")),
        ([*rows("a", "b"), "z"], {"classes": ["b", "a"], "merge_rare": "rest"}, ("b", "a", "rest")),
        (["a", "b"], {"min_class_rows": 1}, ("a", "b")),
        (rows("", "a"), {}, ("", "a")),
    ],
)
def test_the_classes_are_those_of_the_data_in_order(values, settings, classes) -> None:
    label = multi(**settings)
    column = pl.Series("kind", values)
    assert find_classes(column, label, "t") == classes
    places = read_label(column, label, "t", classes=classes)
    assert places.dtype == pl.Int32
    for value, place in zip(values, places, strict=True):
        text = {True: "true", False: "false"}.get(value, value) if value in (True, False) else value
        if isinstance(value, float | int) and not isinstance(value, bool):
            text = str(int(value))
        if value is None or text in (label.unknown or ()):
            assert place is None
        else:
            assert classes[place] == (text if text in classes else label.merge_rare)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (rows("a"), {}, "has 1 classes, and a model tells 2 to 1,000 apart"),
        ([*rows("a", "b"), "z"], {}, "classes with fewer than 10 rows: z .1 rows"),
        (rows("a", "b", "c"), {"classes": ["a", "b"]}, "c .10 rows., which features.label.classes"),
        (rows("a", "b"), {"classes": ["a", "b", "c"]}, "has no row of class c"),
        (rows(0.5, 1.0), {}, "0.5 .10 rows.: a class is a text or a whole number"),
        (rows(math.nan, 1.0), {}, "NaN .10 rows.: a class is a text"),
        (list(range(1001)), {"min_class_rows": 1}, "1,001 classes.*set `kind: number`"),
        (rows(timedelta(1), timedelta(2)), {}, "classes are texts, whole numbers or booleans"),
    ],
)
def test_what_cannot_be_classes_is_refused(values, settings, message) -> None:
    with pytest.raises(SlipwayError, match=message):
        find_classes(pl.Series("kind", values), multi(**settings), "t")


def test_a_class_that_came_after_the_training_is_refused_or_merged() -> None:
    column = pl.Series("kind", ["a", "new", None])
    with pytest.raises(SlipwayError, match=r"new .1 rows., a class that the model does not know"):
        read_label(column, multi(), "t", classes=("a", "b"))
    merged = read_label(column, multi(merge_rare="other"), "t", classes=("a", "b", "other"))
    assert merged.to_list() == [0, 2, None]


@pytest.mark.parametrize(
    ("values", "settings", "expected"),
    [
        ([1, 2, None], {}, [1.0, 2.0, None]),
        ([1.5, -2.0], {}, [1.5, -2.0]),
        ([Decimal("1.10"), None], {}, [1.1, None]),
        ([1, -1, 3], {"unknown": -1}, [1.0, None, 3.0]),
        ([1.0, math.nan], {"unknown": "NaN"}, [1.0, None]),
        ([timedelta(minutes=90), None], {"unit": "h"}, [1.5, None]),
        ([timedelta(seconds=1)], {"unit": "m"}, [1 / 60]),
    ],
)
def test_numbers_are_read_exactly(values, settings, expected) -> None:
    label = Label(column="price", kind="number", **settings)
    found = read_label(pl.Series("price", values), label, "t")
    assert found.dtype == pl.Float64
    assert found.to_list() == pytest.approx(expected)


def test_a_float32_is_the_number_that_was_written() -> None:
    found = read_label(pl.Series([0.1], dtype=pl.Float32), Label(column="p", kind="number"), "t")
    assert found.to_list() == [0.1]


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (["a"], {}, "set `kind: multiclass`"),
        ([True], {}, "is of type Boolean"),
        ([math.nan, 1.0], {}, "is NaN in 1 of 2 rows"),
        ([math.inf, 1.0], {}, "is inf in 1 of 2 rows"),
        ([timedelta(1)], {}, "set features.label.unit"),
        ([1.0], {"unit": "h"}, "no duration: leave out `unit`"),
    ],
)
def test_what_is_no_number_is_refused(values, settings, message) -> None:
    with pytest.raises(SlipwayError, match=message):
        read_label(pl.Series("p", values), Label(column="p", kind="number", **settings), "t")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "number", "positive": [1]}, "`positive` is for `kind: binary`"),
        ({"kind": "multiclass", "above": 3}, "`above` is for `kind: binary`"),
        ({"classes": ["a", "b"]}, "`classes` is for `kind: multiclass`"),
        ({"kind": "number", "merge_rare": "x"}, "`merge_rare` is for `kind: multiclass`"),
        ({"unit": "h"}, "`unit` is for `kind: number`"),
        ({"kind": "multiclass", "classes": ["a"]}, "give 2 to 1,000 `classes`, not 1"),
        ({"kind": "multiclass", "classes": ["a", "b"], "unknown": ["b"]}, "b cannot be both"),
    ],
)
def test_a_setting_of_another_kind_is_refused_at_load(settings, message) -> None:
    with pytest.raises(ValidationError, match=message):
        Label(column="x", **settings)


def test_what_was_read_is_told() -> None:
    column = pl.Series("kind", rows("a", "b"))
    assert tell(column, column, multi()) in ("a (10 rows), b (10 rows)", "b (10 rows), a (10 rows)")
    numbers = pl.Series("p", [1.0, 2.5])
    label = Label(column="p", kind="number", unit="h")
    assert tell(numbers, numbers, label) == "2 numbers from 1 h to 2.5 h"
