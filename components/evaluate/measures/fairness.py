"""Measures what `gate.fairness` compares: the groups of the test rows, and how far they lie apart."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.gate import FairnessRule, GateConfig
from slipway.components.contracts.rows.scoring import read_part_batches
from slipway.components.contracts.splits import part_file
from slipway.components.evaluate.measures.measure import TestPass, as_estimate, has_blocks
from slipway.components.evaluate.measures.measured import Estimate, GroupEvidence
from slipway.components.evaluate.measures.slices import SliceColumn, require_groups, texts
from slipway.components.metrics.fairness import MISSING, GroupTally, row_sums, spread
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.tally import MAX_BLOCKS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MAX_GROUPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedGroups:
    """One rule with what it compares.

    Attributes:
        column: its groups, those that are compared.
        plain: the tally with each row counted once, which is what monitoring can repeat: the same, unless
            rows are weighed.
        problems: why it cannot be answered whatever is measured, in words.
    """

    rule: FairnessRule
    column: SliceColumn
    tally: GroupTally
    plain: GroupTally
    problems: tuple[str, ...] = ()

    def add(
        self,
        table: "pa.Table",
        labels: "np.ndarray",
        answers: "np.ndarray",
        block: "np.ndarray",
        weights: "np.ndarray | None",
    ) -> None:
        """Counts a batch of test rows."""
        if not self.column.values:
            return
        rule = self.rule
        rows = row_sums(self.tally.label, rule.measure, rule.positive, labels, answers)
        groups = self.column.groups(table)
        self.tally.add(rows, block, groups, weights)
        if self.plain is not self.tally:
            self.plain.add(rows, block, groups)


def plan_groups(folder: Path, label: LabelType, gate: GateConfig) -> list[ComparedGroups]:
    """Finds the groups of every rule, in one pass over their columns.

    Raises:
        SlipwayError: a column is not in the test table, is the label, or is a number with fractions.
    """
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(rule.by for rule in gate.fairness))
    if not names:
        return []
    schema = pq.read_schema(part_file(folder, "test"))
    for name in names:
        require_groups(name, schema, "gate.fairness")
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    for table in read_part_batches(folder, "test", names):
        for name in names:
            for pair in texts(table, name).value_counts().to_pylist():
                counts[name][pair["values"]] += pair["counts"]
    weighted = gate.weights is not None
    return [_plan(rule, counts[rule.by], label, weighted=weighted) for rule in gate.fairness]


def _plan(
    rule: FairnessRule, counts: Counter[str], label: LabelType, *, weighted: bool
) -> ComparedGroups:
    there = sorted(value for value in counts if value not in (rule.leave_out or ()))
    problems = []
    if MISSING in there and MISSING not in (rule.groups or ()):
        there.remove(MISSING)
        problems.append(
            f"{counts[MISSING]:,} test rows have no {rule.by}, so how it does by them is not known."
            f" Fill it at the source, or write `leave_out: ['{MISSING}']`."
        )
    if rule.groups is not None:
        strange = [value for value in there if value not in rule.groups]
        if strange:
            problems.append(
                f"{rule.by} has values that are no declared group: {', '.join(strange[:5])}. Add them to"
                " `groups`, or to `leave_out`."
            )
        there = list(rule.groups)
    if len(there) > MAX_GROUPS:
        problems.append(
            f"{rule.by} has {len(there):,} values; at most {MAX_GROUPS} groups can be compared. Name a"
            " coarser column."
        )
        there = []
    if rule.measure != "error" and (rule.positive or "1") not in label.class_names:
        problems.append(f"The model has no class {rule.positive or '1'}.")
        there = []
    column = SliceColumn(name=rule.by, values=tuple(there), declared=False, source=rule.by)
    tally = GroupTally(label, len(there), MAX_BLOCKS)
    return ComparedGroups(
        rule=rule,
        column=column,
        tally=tally,
        plain=GroupTally(label, len(there), MAX_BLOCKS) if weighted else tally,
        problems=tuple(problems),
    )


def group_evidence(
    compared: Sequence[ComparedGroups], done: TestPass, gate: GateConfig
) -> tuple[GroupEvidence, ...]:
    """The groups' values and how far they lie apart, with intervals from the pass's own blocks."""
    return tuple(_measure(one, done, gate.confidence) for one in compared)


def _measure(compared: ComparedGroups, done: TestPass, confidence: float) -> GroupEvidence:
    tally, names = compared.tally, compared.column.values
    if not names:
        nothing = Estimate(value=None)
        return GroupEvidence(
            rule=compared.rule.name,
            groups={},
            gap=nothing,
            ratio=nothing,
            problems=compared.problems,
        )
    values, rows = tally.values(), tally.rows()
    gap, ratio = spread(values)
    drawn = tally.resample(done.weights, done.blocks) if has_blocks(done) else None
    drawn_gap, drawn_ratio = spread(drawn) if drawn is not None else (None, None)
    total = int(rows.sum())
    return GroupEvidence(
        rule=compared.rule.name,
        groups={
            name: as_estimate(
                values[place],
                None if drawn is None else drawn[:, place],
                confidence,
                int(rows[place]),
            )
            for place, name in enumerate(names)
        },
        gap=as_estimate(float(gap), drawn_gap, confidence, total),
        ratio=as_estimate(float(ratio), drawn_ratio, confidence, total),
        problems=compared.problems,
    )


def note_groups(compared: Sequence[ComparedGroups]) -> list[dict[str, Any]]:
    """What was asked, and measured with each row counted once: monitoring asks the same again."""
    notes = []
    for one in compared:
        values = {
            name: _or_none(value)
            for name, value in zip(one.column.values, one.plain.values(), strict=True)
        }
        gap, ratio = spread(one.plain.values()) if values else (math.nan, math.nan)
        notes.append(
            {
                "rule": one.rule.to_struct(),
                "gap": _or_none(gap),
                "ratio": _or_none(ratio),
                "groups": values,
            }
        )
    return notes


def _or_none(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
