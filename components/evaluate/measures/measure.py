"""One pass over the test rows: every model scores the same batch, everything is counted at once."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slipway.components.config.gate import GateConfig
from slipway.components.contracts.rows.scoring import read_part_batches
from slipway.components.contracts.splits import LABEL, TIME, Splits, part_file
from slipway.components.evaluate.measures.blocks import (
    MIN_BLOCKS,
    block_of,
    column_of,
    draw_weights,
)
from slipway.components.evaluate.measures.measured import Estimate, SliceEvidence
from slipway.components.evaluate.measures.slices import SliceColumn
from slipway.components.evaluate.measures.weights import RowWeights
from slipway.components.metrics.intervals import of_gaps, percentile
from slipway.components.metrics.kinds.base import LabelTally, LabelType
from slipway.components.metrics.multiclass import of_classes
from slipway.components.support.stage import progress

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_SLICE_BLOCKS = 100
_SLICE_BINS = 512
_SHOWN_RESAMPLES = 200
_CHANCE_ERRORS = 5

Score = Callable[["pa.Table"], "np.ndarray"]
"""Gives an answer for each row of a table: float32 [N] or [N, W], as the kind of label has it."""


class GroupCounter(Protocol):
    """What counts the gated model's answers by groups of rows."""

    @property
    def column(self) -> SliceColumn:
        """The column of its groups."""
        ...

    def add(
        self,
        table: "pa.Table",
        labels: "np.ndarray",
        answers: "np.ndarray",
        block: "np.ndarray",
        weights: "np.ndarray | None",
    ) -> None:
        """Counts a batch; `weights` float64 [N] say how much each row counts, None: all once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """A model that takes part: how it scores, and what its answers mean."""

    name: str
    score: Score
    label: LabelType
    columns: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class MeasuredModel:
    """What one model did on the test rows.

    Attributes:
        tally: over all rows. slices: by slice column, one group a value.
        plain: the tally with each row counted once: the same, unless rows are weighed. Of the gated model
            alone; None of others.
        problems: what was unsound, in words.
    """

    scorer: Scorer
    tally: LabelTally
    plain: LabelTally | None
    slices: dict[str, LabelTally]
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPass:
    """The result of the pass: all models by name, and the weights that all intervals share."""

    models: dict[str, MeasuredModel]
    rows: int
    blocks: "np.ndarray"
    weights: "np.ndarray"
    shuffled: LabelTally


def run_pass(
    folder: Path,
    splits: Splits,
    scorers: Sequence[Scorer],
    columns: Sequence[SliceColumn],
    config: GateConfig,
    compared: Sequence[GroupCounter] = (),
    weigh: RowWeights | None = None,
) -> TestPass:
    """Scores every test row with every model.

    A model other than the first that cannot score gets a problem and no numbers; the first one's
    failure is raised. `compared` count the first one's answers by groups of their own. `weigh` says how
    much each row counts; against shuffled labels all count once.

    Raises:
        SlipwayError: the test table cannot be read as its splits.json says, or the model fails.
    """
    import numpy as np

    needed = {LABEL, TIME, splits.key, column_of(config.block, splits.key)}
    needed |= {column for scorer in scorers for column in scorer.columns}
    needed |= {column.source for column in (*columns, *(groups.column for groups in compared))}
    needed |= {weigh.column} if weigh else set()
    measured = {
        scorer.name: _start(scorer, columns, weighted=weigh is not None) for scorer in scorers
    }
    first = measured[scorers[0].name]
    first.plain = scorers[0].label.make_tally() if weigh else first.tally
    shuffled = scorers[0].label.make_tally(blocks=1)
    shuffle = np.random.default_rng(config.seed)
    rows = unlabelled = 0
    expected = max(splits.rows.get("test", 0), 1)
    for read in read_part_batches(folder, "test", _present(folder, needed)):
        table, label = _labelled(read, scorers[0].label)
        rows += read.num_rows
        unlabelled += read.num_rows - table.num_rows
        block = block_of(table, config.block, splits.key)
        sliced = {column.name: column.groups(table) for column in columns if column.values}
        weights = weigh.of(table) if weigh else None
        batch = _Batch(table=table, label=label, block=block, groups=sliced, weights=weights)
        for model in measured.values():
            if model.problems and model is not first:
                continue
            answers = _add(model, batch, required=model is first)
            if model is first and answers is not None:
                _add_beside(first, batch, answers, compared)
                mixed = shuffle.permutation(label)
                shuffled.add(answers, mixed, np.zeros(len(label), np.int64))
        progress(f"scored {rows:,} of {expected:,} test rows", min(rows / expected, 1.0))
    if unlabelled:
        first.problems.append(f"{unlabelled:,} test rows have no {scorers[0].label.label_name}.")
    if not first.tally.rows():
        first.problems.append("There is no test row to measure.")
    blocks = first.tally.used_blocks
    drawn = draw_weights(max(len(blocks), 1), config.resamples, config.seed)
    return TestPass(models=measured, rows=rows, blocks=blocks, weights=drawn, shuffled=shuffled)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Test rows with labels: each has its block, its group in every slice column, and its weight."""

    table: "pa.Table"
    label: "np.ndarray"
    block: "np.ndarray"
    groups: dict[str, "np.ndarray"]
    weights: "np.ndarray | None"


def _labelled(table: "pa.Table", kind: LabelType) -> tuple["pa.Table", "np.ndarray"]:
    """The rows that have a label, and their labels."""
    # A null, which no label is, becomes NaN.
    label = table[LABEL].to_numpy()
    known = kind.is_usable(label)
    return (table, label) if known.all() else (table.filter(known), label[known])


def _start(scorer: Scorer, columns: Sequence[SliceColumn], *, weighted: bool) -> MeasuredModel:
    return MeasuredModel(
        scorer=scorer,
        tally=scorer.label.make_tally(weighted=weighted),
        plain=None,
        slices={
            column.name: scorer.label.make_tally(
                len(column.values), _SLICE_BLOCKS, _SLICE_BINS, weighted=weighted
            )
            for column in columns
            if column.values
        },
    )


def _add(model: MeasuredModel, batch: _Batch, *, required: bool) -> "np.ndarray | None":
    """Counts a batch; its answers, or None where a model that is not required fails."""
    answers = _score(model, batch.table, required)
    if answers is None:
        return None
    label = model.scorer.label
    good = label.is_sound(answers)
    if not good.all():
        model.problems.append(
            f"{int((~good).sum()):,} of {len(good):,} rows got an answer that is not"
            f" {label.answer_name}."
        )
        answers = label.replace_unsound(answers, good)
    model.tally.add(answers, batch.label, batch.block, weights=batch.weights)
    for name, group in batch.groups.items():
        model.slices[name].add(
            answers, batch.label, batch.block % _SLICE_BLOCKS, group, batch.weights
        )
    return answers


def _add_beside(
    first: MeasuredModel, batch: _Batch, answers: "np.ndarray", compared: Sequence[GroupCounter]
) -> None:
    """Counts the first model's answers by groups of their own, and once each where rows have weights."""
    for groups in compared:
        groups.add(batch.table, batch.label, answers, batch.block, batch.weights)
    if first.plain is not None and batch.weights is not None:
        first.plain.add(answers, batch.label, batch.block)


def _present(folder: Path, needed: set[str]) -> list[str]:
    """The needed columns that the test table has; a model that lacks one says so itself."""
    import pyarrow.parquet as pq

    return [name for name in pq.read_schema(part_file(folder, "test")).names if name in needed]


def _score(model: MeasuredModel, table: "pa.Table", required: bool) -> "np.ndarray | None":
    try:
        return model.scorer.score(table)
    except Exception as error:
        if required:
            raise
        # Another model's failure must not stop this one's measuring: its rule will fail.
        model.problems.append(f"{error}")
        return None


def estimates(tally: LabelTally, done: TestPass, config: GateConfig) -> dict[str, Estimate]:
    """Every metric of a model's tally with its interval."""
    drawn = resampled(tally, done)
    gaps = tally.gaps(done.weights, done.blocks) if drawn else None
    found = _estimate(tally.measure(), drawn, config.confidence, tally.rows())
    return _unbiased(found, gaps, config.confidence)


def differences(
    model: MeasuredModel, other: MeasuredModel, done: TestPass, config: GateConfig
) -> dict[str, Estimate]:
    """Every metric's difference (model − other) on the same rows, paired: the same blocks drawn.

    Only of the metrics that both have: one may answer with sets, and the other not.
    """
    ours, theirs = model.tally.measure(), other.tally.measure()
    drawn, against = resampled(model.tally, done), resampled(other.tally, done)
    return _estimate(
        {name: ours[name] - theirs[name] for name in ours if name in theirs},
        {name: drawn[name] - against[name] for name in drawn if name in against},
        config.confidence,
        done.rows,
    )


def slice_evidence(
    done: TestPass,
    model: str,
    other: str | None,
    columns: Sequence[SliceColumn],
    config: GateConfig,
) -> tuple[SliceEvidence, ...]:
    """Every slice's metrics, and its differences to another model, with intervals.

    Where no rule looks at the interval, it gets fewer replicates: it is for the eye.
    """
    import numpy as np

    ours = done.models[model]
    theirs = done.models[other] if other is not None else None
    blocks = sorted({int(block) % _SLICE_BLOCKS for block in done.blocks})
    used = np.array(blocks, dtype=np.int64)
    result = []
    for column in columns:
        if column.name not in ours.slices:
            continue
        precise = column.declared and config.slices.judge == "interval"
        resamples = config.resamples if precise else _SHOWN_RESAMPLES
        weights = draw_weights(max(len(blocks), 1), resamples, config.seed)
        tally = ours.slices[column.name]
        against = theirs.slices[column.name] if theirs is not None else None
        for group, value in enumerate(column.values):
            rows = tally.rows(group)
            metrics: dict[str, Estimate] = {}
            differences: dict[str, Estimate] = {}
            if rows >= config.slices.min_rows:
                enough = len(blocks) >= MIN_BLOCKS
                drawn = tally.resample(weights, used, group) if enough else {}
                measured = tally.measure(group)
                gaps = tally.gaps(weights, used, group) if enough else None
                metrics = _estimate(measured, drawn, config.confidence, rows)
                metrics = _unbiased(metrics, gaps, config.confidence)
                if against is not None:
                    base = against.measure(group)
                    drawn_base = against.resample(weights, used, group) if enough else {}
                    differences = _estimate(
                        {name: measured[name] - base[name] for name in measured if name in base},
                        {
                            name: drawn[name] - drawn_base[name]
                            for name in drawn
                            if name in drawn_base
                        },
                        config.confidence,
                        rows,
                    )
            result.append(
                SliceEvidence(
                    column=column.name,
                    value=value,
                    rows=rows,
                    metrics=metrics,
                    differences=differences,
                )
            )
    return tuple(result)


def _estimate(
    values: dict[str, float], drawn: dict[str, "np.ndarray"], confidence: float, rows: int
) -> dict[str, Estimate]:
    return {
        name: as_estimate(measured, drawn[name] if drawn else None, confidence, rows)
        for name, measured in values.items()
    }


def _unbiased(
    found: dict[str, Estimate],
    gaps: "tuple[np.ndarray, np.ndarray] | None",
    confidence: float,
) -> dict[str, Estimate]:
    """The estimates with a calibration error's own interval: its replicates all lie above it."""
    own = found.get("calibration_error")
    if gaps is None or own is None or own.value is None:
        return found
    low, high = of_gaps(*gaps, confidence)
    return found | {"calibration_error": replace(own, low=low, high=high)}


def as_estimate(value: float, drawn: "np.ndarray | None", confidence: float, rows: int) -> Estimate:
    """A measured value with the interval of its replicates; None where it is not defined."""
    low, high = percentile(drawn, confidence) if drawn is not None else (None, None)
    return Estimate(value=_or_none(value), low=low, high=high, rows=rows)


def class_estimates(
    model: MeasuredModel, done: TestPass, config: GateConfig
) -> dict[str, dict[str, Estimate]]:
    """F1, recall and precision of each class by name, where the gate asks for the least of one."""
    import numpy as np

    if not config.classes:
        return {}
    counts = model.tally.count_calls()
    measured = of_classes(*counts.sum(0))
    drawn = None
    if has_blocks(done):
        weighed = np.tensordot(done.weights, counts[done.blocks], 1)
        drawn = of_classes(weighed[:, 0], weighed[:, 1], weighed[:, 2])
    rows = model.tally.class_rows()
    return {
        name: {
            metric: as_estimate(
                float(values[place]),
                None if drawn is None else drawn[metric][:, place],
                config.confidence,
                rows[place],
            )
            for metric, values in measured.items()
        }
        for place, name in enumerate(model.scorer.label.class_names)
    }


def has_blocks(done: TestPass) -> bool:
    """Whether there are blocks enough to resample."""
    return len(done.blocks) >= MIN_BLOCKS


def resampled(tally: LabelTally, done: TestPass) -> dict[str, "np.ndarray"]:
    """Bootstrap replicates by metric; empty where there are too few blocks."""
    if not has_blocks(done):
        return {}
    return tally.resample(done.weights, done.blocks)


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def shuffled_estimate(done: TestPass) -> Estimate:
    """What the answers still tell of shuffled labels, and where pure chance leaves it."""
    seen = done.shuffled.measure_chance()
    rows = done.shuffled.rows()
    if seen is None:
        return Estimate(value=None, rows=rows)
    value, expected, error = seen
    return Estimate(
        value=_or_none(value),
        low=expected - _CHANCE_ERRORS * error,
        high=expected + _CHANCE_ERRORS * error,
        rows=rows,
    )
