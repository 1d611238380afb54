"""What the model card shows of slices: a table a column, and why its rows are not all rows."""

from dataclasses import dataclass
from typing import Any

from slipway.components.config.gate import GateConfig
from slipway.components.config.kinds import LOWER_IS_BETTER
from slipway.components.evaluate.measures.measured import Estimate, Evidence, SliceEvidence
from slipway.components.support.pages import digits

_WEAKEST = 3
SHOWN = 12
"""Slices of a column that are seen at once; the others are a click away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceTable:
    """The slices of one column, the weakest first.

    Attributes:
        rows: as they are shown. note: how its rows add up to all rows.
    """

    column: str
    rows: tuple[dict[str, object], ...]
    note: str

    @property
    def first(self) -> tuple[dict[str, object], ...]:
        """Those that are seen at once."""
        return self.rows[:SHOWN]

    @property
    def more(self) -> tuple[dict[str, object], ...]:
        """Those that are a click away."""
        return self.rows[SHOWN:]


def show_slices(evidence: Evidence, gate: GateConfig) -> list[SliceTable]:
    """A table a column that has a slice with enough rows, in the columns' order.

    All are drawn on one scale, with the value of all rows as the upright line.
    """
    label = evidence.label
    measured = [part for part in evidence.slices if part.metrics]
    overall = evidence.metrics.get(label.lead)
    whole = overall.value if overall else None
    values = [end for part in measured for end in _ends(part, label.lead)]
    values += [whole] if whole is not None else []
    if not values or max(values) <= min(values):
        return []
    room = (max(values) - min(values)) * 0.04
    ends = (min(values) - room, max(values) + room)
    tables = []
    for column in dict.fromkeys(part.column for part in evidence.slices):
        parts = [part for part in measured if part.column == column]
        if parts:
            rows = tuple(_row(part, label.lead, ends, whole) for part in parts)
            worst = sorted(rows, key=lambda row: row["rank"], reverse=label.lead in LOWER_IS_BETTER)
            tables.append(
                SliceTable(
                    column=column,
                    rows=tuple(worst),
                    note=f"{_note(parts, evidence, gate)}{_on_one_side(parts, label.lead, whole)}",
                )
            )
    return tables


def _ends(part: SliceEvidence, metric: str) -> list[float]:
    own = part.metrics.get(metric) or Estimate(value=None)
    return [end for end in (own.value, own.low, own.high) if end is not None]


def _row(
    part: SliceEvidence, metric: str, ends: tuple[float, float], whole: float | None
) -> dict[str, Any]:
    own = part.metrics.get(metric) or Estimate(value=None)
    difference = part.differences.get(metric)
    champion = (
        own.value - difference.value
        if own.value is not None and difference is not None and difference.value is not None
        else None
    )
    places = digits.decimals_of(own.low, own.high, own.value)
    return {
        "value": part.value,
        "rows": part.rows,
        "metric": digits.number(own.value, places),
        "interval": digits.span(own.low, own.high, places),
        "champion": digits.number(champion, places),
        "rank": own.value if own.value is not None else 0.0,
        "drawn": {
            "ends": ends, "value": own.value, "low": own.low, "high": own.high,
            "limit": whole, "mark": champion,
        },
    }  # fmt: skip


def _note(parts: list[SliceEvidence], evidence: Evidence, gate: GateConfig) -> str:
    """How the slices of a column add up to all rows, and why where they do not."""
    rows = sum(part.rows for part in parts)
    if rows == evidence.rows:
        return f"Together all {rows:,} test rows."
    return (
        f"Together {rows:,} of {evidence.rows:,} test rows: the other {evidence.rows - rows:,} have"
        f" values with fewer than {gate.slices.min_rows:,} rows (gate.slices.min_rows), too few to"
        " measure alone."
    )


def _on_one_side(parts: list[SliceEvidence], metric: str, whole: float | None) -> str:
    """Why all groups may lie below all rows, or above: AUC orders rows of different groups too."""
    found = [part.metrics[metric].value for part in parts if metric in part.metrics]
    values = [value for value in found if value is not None]
    if metric != "auc" or whole is None or len(values) < 2:
        return ""
    side = "below" if max(values) < whole else "above" if min(values) > whole else ""
    reason = "AUC of all rows also compares rows of different groups, which is why each lies {} it."
    return f" {reason.format(side)}" if side else ""


def find_weakest(evidence: Evidence) -> list[dict[str, object]]:
    """The slices in which the leading metric is worse than on all rows, for the verdict's notes.

    Returns:
        Name, metric, value and rows of each.
    """
    lead = evidence.label.lead
    overall = evidence.metrics.get(lead)
    whole = overall.value if overall else None
    sign = -1 if lead in LOWER_IS_BETTER else 1
    found: list[dict[str, Any]] = [
        {
            "name": f"{part.column} = {part.value}",
            "metric": lead,
            "rows": part.rows,
            "value": own.value,
        }
        for part in evidence.slices
        if (own := part.metrics.get(lead)) is not None
        and own.value is not None
        and part.rows < evidence.rows
        and (whole is None or sign * own.value < sign * whole)
    ]
    found.sort(key=lambda one: one["value"], reverse=lead in LOWER_IS_BETTER)
    return found[:_WEAKEST]
