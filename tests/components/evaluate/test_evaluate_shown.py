"""What a card and a verdict show of slices and of another version."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from slipway.components.evaluate.card.card import _version_row
from slipway.components.evaluate.card.slice_tables import find_weakest
from slipway.components.evaluate.measures.measured import Estimate, Evidence, SliceEvidence
from slipway.components.metrics.kinds.binary import BinaryLabel


def evidence(*slices: tuple[str, int, float], **more: Any) -> Evidence:
    return Evidence(
        label=BinaryLabel(threshold=0.5), rows=1000, expected_rows=1000, class_rows=(500, 500),
        metrics={"auc": Estimate(value=0.8063, low=0.78, high=0.83)},
        slices=tuple(
            SliceEvidence(
                column=name, value="v", rows=rows, metrics={"auc": Estimate(value=value)},
                differences={},
            )
            for name, rows, value in slices
        ),
        **more,
    )  # fmt: skip


def test_the_weakest_groups_are_some_of_the_rows_and_worse_than_all() -> None:
    found = find_weakest(evidence(("month", 1000, 0.8063), ("a", 500, 0.71), ("b", 500, 0.9)))
    assert [(one["name"], one["metric"]) for one in found] == [("a = v", "auc")]


@pytest.mark.parametrize(
    ("difference", "shown", "finding"),
    [
        ((0.0, 0.0, 0.0), ("0.806", "0.806"), "the same"),
        ((-0.02, 0.01, 0.04), ("0.806", "0.796"), "no difference shown"),
        ((0.002, 0.01, 0.018), ("0.8063", "0.7963"), "better"),
    ],
)
def test_versions_beside_each_other_have_digits_that_say_something(
    difference: tuple[float, float, float], shown: tuple[str, str], finding: str
) -> None:
    """Two versions that answered alike stood there as 0.8 and 0.8, their log loss as 0 and 0."""
    low, value, high = difference
    content = SimpleNamespace(
        evidence=evidence(champion={"auc": Estimate(value=value, low=low, high=high)}),
        champion={"auc": 0.8063 - value},
    )
    row = _version_row("auc", cast("Any", content))
    assert ((row["own"], row["champion"]), row["finding"]) == (shown, finding)
