"""Labels that no part can teach, and numbers that no answer can hold: refused before any join."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.datasets import write_dataset

from slipway.components.contracts.splits import LABEL, read_part
from slipway.components.features.features import build_features
from slipway.components.support.errors import SlipwayError

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 20


def build(folder: Path, labels: list[Any], label: dict[str, Any], *, begin: int = 0) -> Any:
    """Builds rows of a label each, an hour apart; the last four days are tested, four before validate."""
    hours = len(labels)
    rows = pl.DataFrame(
        {
            "id": [f"r{number}" for number in range(hours)],
            "at": [START + timedelta(hours=number) for number in range(hours)],
            "a": np.arange(hours, dtype=float),
            "y": labels,
        }
    )
    config = {
        "examples": {"table": "rows", "key": "id", "time": "at"},
        "label": {"column": "y", **label},
        "split": {"validation": "4d", "test": "4d"},
        "views": [
            {"name": "v", "table": "rows", "time": "at", "available": "1d", "fields": {"a": "a"}}
        ],
    }
    window = [START + timedelta(hours=number) for number in (begin, hours)]
    dataset = write_dataset(
        folder / "dataset", {"rows": rows}, (window[0].isoformat(), window[1].isoformat())
    )
    return build_features(dataset, "t", config, folder / "splits")


MULTI = {"kind": "multiclass"}
LATE = ["a", "b"] * 180 + ["c"] * 120
"""A class that appears in the last five days."""


def test_a_class_that_the_train_part_lacks_is_refused(tmp_path: Path, store_uri: Path) -> None:
    says = r"The train part has no row of some class of y.*: c \(train 0, validation 24, test 96\)"
    with pytest.raises(SlipwayError, match=says):
        build(tmp_path / "new", LATE, MULTI)
    # Nothing to merge it into: the train part has no `other` either.
    with pytest.raises(SlipwayError, match=says):
        build(tmp_path / "nothing", LATE, {**MULTI, "merge_rare": "other"})
    named = {**MULTI, "classes": ["a", "b", "z"]}
    with pytest.raises(SlipwayError, match=r"z \(train 0, validation 0, test 0\)"):
        build(tmp_path / "named", ["z"] * 24 + ["a", "b"] * 228, named, begin=24)
    with pytest.raises(SlipwayError, match=r"features.label.costs names c, which is no class"):
        build(tmp_path / "cost", LATE, {**MULTI, "merge_rare": "a", "costs": {"c": {"a": 5}}})


def test_it_counts_as_what_rare_ones_are_merged_into(tmp_path: Path, store_uri: Path) -> None:
    """As after the training a class that the model does not know."""
    made = build(tmp_path, ["x", "y", *LATE[2:]], {**MULTI, "merge_rare": "other"})
    assert made.classes == ("a", "b", "other")
    assert made.labels["train"]["other"] == 2 and made.labels["test"]["other"] == 96
    test = pl.DataFrame(read_part(tmp_path / "splits", "test"))
    assert (test[LABEL] == 2).sum() == 96 and test[LABEL].max() == 2


def test_a_class_of_rows_outside_the_window_is_none(tmp_path: Path, store_uri: Path) -> None:
    made = build(tmp_path, ["z"] * 24 + ["a", "b"] * 228, MULTI, begin=24)
    assert made.classes == ("a", "b")
    train = pl.DataFrame(read_part(tmp_path / "splits", "train"))
    assert made.labels["train"] == {"a": train.height / 2, "b": train.height / 2}


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([None] * 480, r"No row of table 'rows' has a label \(y\)"),
        ([9.0] * 480, r"No row of table 'rows' has a label \(y\)"),
        ([1e300, *[1.0] * 479], r"is 1e\+300 in one of 1 rows .*beyond 3.4e\+38"),
        ([1.7e9 + n % 7 for n in range(480)], "near 1.70000001e\\+09 that differ by 2 only"),
    ],
)
def test_numbers_that_no_model_answers_with(
    labels: list[Any], says: str, tmp_path: Path, store_uri: Path
) -> None:
    with pytest.raises(SlipwayError, match=says):
        build(tmp_path, labels, {"kind": "number", "unknown": 9})


@pytest.mark.parametrize("centre", [0.0, 2000.0, -1e30])
def test_numbers_that_it_does(centre: float, tmp_path: Path, store_uri: Path) -> None:
    labels = [centre + (abs(centre) or 1) * (n % 7) / 1e4 for n in range(480)]
    made = build(tmp_path, labels, {"kind": "number"})
    assert made.labels["train"]["min"] == pytest.approx(centre)
