"""What a card and a verdict show of slices and of another version."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from slipway.components.config.gate import GateConfig
from slipway.components.contracts.verdict import RuleResult
from slipway.components.evaluate.card.card import _rule_row, _version_row
from slipway.components.evaluate.card.slice_tables import find_weakest, show_slices
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
        ((-2e-8, 1e-8, 3e-8), ("0.806", "0.806"), "the same"),
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


@pytest.mark.parametrize(
    ("values", "side"), [((0.72, 0.734), "below"), ((0.83, 0.9), "above"), ((0.72, 0.83), "")]
)
def test_groups_that_all_lie_on_one_side_of_all_rows_say_why(
    values: tuple[float, float], side: str
) -> None:
    (table,) = show_slices(evidence(*(("month", 500, v) for v in values)), GateConfig())
    assert table.note.startswith("Together all 1,000 test rows.")
    assert ("which is why each lies" in table.note) is bool(side)
    assert f"lies {side} it" in table.note if side else True


@pytest.mark.parametrize(
    ("name", "metric", "threshold", "shown"),
    [
        ("f1", "f1", 0.0, ("–", "No bound is set.")),
        ("f1", "f1", 0.5, ("0.5", "as measured")),
        # What leads a baseline by more than nothing was asked for something.
        ("beats logistic", "auc", 0.0, ("0", "as measured")),
    ],
)
def test_a_bound_of_0_is_not_shown_as_one_that_was_held(
    name: str, metric: str, threshold: float, shown: tuple[str, str]
) -> None:
    rule = RuleResult(
        name=name, metric=metric, outcome="pass", reason="as measured", threshold=threshold,
        value=0.6,
    )  # fmt: skip
    row = _rule_row(rule)
    assert (row["threshold"], row["reason"]) == shown
