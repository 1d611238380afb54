"""A trial on the spot: baselines on the columns as they stand, with their intervals.

The parts are written as the features stage would write them, without histories, and evaluate's own code
scores and resamples. So the values that the gate gets were measured as the gate will measure.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.base import format_instant
from slipway.components.config.features.label import Label
from slipway.components.config.features.split import Split
from slipway.components.config.gate import GateConfig
from slipway.components.contracts.rows.row_key import content_hashes, joined
from slipway.components.contracts.splits import LABEL, PARTS, TIME, Feature, Splits, read_part
from slipway.components.evaluate.measures.baselines import (
    explain_features,
    fit_baseline,
    measure_features,
)
from slipway.components.evaluate.measures.measure import Scorer, estimates, run_pass
from slipway.components.evaluate.measures.measured import Estimate
from slipway.components.features.columns import typed
from slipway.components.features.parts import statistics
from slipway.components.features.split import draws
from slipway.components.features.tables import write_table
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.binary import BinaryLabel
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.metrics.kinds.multiclass import MulticlassLabel
from slipway.components.metrics.outcomes.outcome import read_label
from slipway.components.metrics.outcomes.outcome_kinds import find_classes
from slipway.components.metrics.threshold import choose_threshold
from slipway.components.support.errors import ProjectError, SlipwayError
from slipway.local.guess.fields import Fields
from slipway.local.guess.labels import LabelGuess
from slipway.local.guess.moments import Moments, instants
from slipway.local.guess.splits import SplitGuess

if TYPE_CHECKING:
    import polars as pl

ROWS = 60_000
_KEY = "__row"
LEAK = GateConfig().leak.auc
LEVEL = 0.9
"""The share of numbers that an interval is to hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the baselines came to.

    Attributes:
        rows: of each part, all rows counted.
        class_rows: of the test part, by class; empty: the label is a number.
        alone: by feature, how well it alone tells the label: the AUC of a yes/no label, the accuracy of
            several classes, the R² of a number.
        baseline: the metrics of a linear model on the test part; empty: it could not be fitted.
        constant: what the best answer reaches there that never looks at a row, by metric.
        block: what was resampled whole.
        problem: why there is no baseline; empty: there is one.
    """

    rows: dict[str, int]
    class_rows: dict[str, int]
    alone: dict[str, float]
    baseline: dict[str, Estimate]
    constant: dict[str, float]
    block: str
    problem: str = ""

    @property
    def rarest(self) -> int:
        """Test rows of the rarest class."""
        return min(self.class_rows.values(), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The labels of the examples' rows, by the rule that training uses.

    Attributes:
        values: 1 and 0, the place of a class, or a number; null where there is none.
        type: the kind, with the classes' names.
    """

    values: "pl.Series"
    type: LabelType


def labels_of(label: LabelGuess) -> Labels:
    """The labels of the examples' rows.

    Raises:
        ProjectError: a class is so rare that training would refuse it.
    """
    settings = Label.model_validate(label.settings)
    column, table = label.column.values, label.table.name
    try:
        classes = find_classes(column, settings, table) if label.kind.value == "multiclass" else ()
        values = read_label(column, settings, table, classes=classes)
    except SlipwayError as error:
        raise ProjectError(str(error)) from error
    if label.kind.value == "binary":
        classes = ("0", "1")
    return Labels(values=values, type=label_type(label.kind.value, classes=classes, level=LEVEL))


def cut(
    labels: Labels, label: LabelGuess, moments: Moments, split: SplitGuess, key: tuple[str, ...]
) -> "pl.Series":
    """The part of each row: train, validation, test, or null; drawn as the features stage draws."""
    import numpy as np
    import polars as pl

    if moments.time.value is None or split.window.value is None:
        chances = _chances(labels, label, split, key).to_numpy()
        test, validation = (float(split.split.value[part]) for part in ("test", "validation"))
        names = np.where(
            chances < test, "test", np.where(chances < test + validation, "validation", "train")
        )
        parts = pl.Series(names)
    else:
        times = instants(label.table.columns[moments.time.value].values)
        parts = pl.Series([None] * len(times), dtype=pl.String)
        windows = Split.model_validate(split.split.value).cut(*split.window.value)
        for part, (start, end) in windows.items():
            inside = times.is_between(pl.lit(start), pl.lit(end), closed="left")
            parts = parts.zip_with(~inside.fill_null(False), pl.Series([part]))
    return parts.zip_with(labels.values.is_not_null(), pl.Series([None], dtype=pl.String))


def _chances(
    labels: Labels, label: LabelGuess, split: SplitGuess, key: tuple[str, ...]
) -> "pl.Series":
    """A number of [0, 1) for each row, by which its part is drawn."""
    import polars as pl

    by = split.split.value.get("by")
    chances = draws(label.table.columns[str(by)].values if by else _names(label, key), 0)
    if split.split.value["method"] == "stratified":
        rows = pl.DataFrame({"chance": chances, "label": labels.values})
        rank = pl.col("chance").rank("ordinal").over("label") - 0.5
        chances = rows.select(rank / pl.len().over("label")).to_series()
    return chances


def _names(label: LabelGuess, key: tuple[str, ...]) -> "pl.Series":
    """What each row is drawn by, as the features stage does it: a key, several columns, or its content.

    Rows that are equal in all else than the label have one draw, so that no copy is in another part.
    """
    frame = label.table.frame
    if len(key) == 1:
        return frame[key[0]]
    if key:
        return joined(frame.select(key))
    return content_hashes(frame.to_arrow(), sorted(set(frame.columns) - {label.column.name}))


def try_baselines(
    fields: Fields, labels: Labels, parts: "pl.Series", moments: Moments, label: LabelGuess
) -> Trial:
    """Fits and measures the baselines.

    Args:
        fields: the features.
        labels: of the examples' rows.
        parts: the part of each row.
        moments: the examples' times.
        label: what is predicted.
    """
    nothing = Trial(
        rows={part: int((parts == part).sum()) for part in PARTS},
        class_rows=_class_rows(labels, parts),
        alone={},
        baseline={},
        constant=_constant(labels, parts),
        block=_block(label, moments, parts),
    )
    values = {part: labels.values.filter(parts == part).n_unique() for part in PARTS}
    least = len(labels.type.class_names) or 2
    if lacking := [part for part in PARTS if values[part] < least]:
        which = " and the ".join(lacking)
        what = (
            "all classes" if least > 2 else "both classes" if nothing.class_rows else "two values"
        )
        return replace(nothing, problem=f"the {which} part has not {what}")
    if not fields.found:
        return replace(nothing, problem="no column is left to predict from")
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        folder = Path(scratch)
        splits = _write(folder, fields, labels, parts, moments, label)
        alone = _alone(folder, splits, labels.type)
        scorer = fit_baseline(folder, splits, labels.type)
        if labels.type.kind == "binary":
            scorer = _at_threshold(folder, scorer)
        config = GateConfig(block=nothing.block)
        done = run_pass(folder, splits, [scorer], [], config)
        baseline = estimates(done.models[scorer.name].tally, done, config)
    return replace(nothing, alone=alone, baseline=baseline)


def _alone(folder: Path, splits: Splits, kind: LabelType) -> dict[str, float]:
    """How well each feature alone tells the label: what it explains of several classes, or of a number.

    The order of an honest measurement may tell classes apart (a petal's length tells irises, AUC .99).
    """
    if kind.kind == "binary":
        return measure_features(folder, splits, kind)
    return explain_features(folder, splits, kind)


def _class_rows(labels: Labels, parts: "pl.Series") -> dict[str, int]:
    """Test rows of each class."""
    test = labels.values.filter(parts == "test")
    names = labels.type.class_names
    return {name: int((test == place).sum()) for place, name in enumerate(names)}


def _constant(labels: Labels, parts: "pl.Series") -> dict[str, float]:
    """What the best answer reaches on the test part that never looks at a row."""
    import numpy as np

    test = labels.values.filter(parts == "test").to_numpy()
    if not len(test) or not labels.type.class_names:
        return {"r2": 0.0}
    if isinstance(labels.type, MulticlassLabel):
        commonest = np.bincount(test).argmax()
        answers = np.eye(len(labels.type.classes), dtype=np.float32)[commonest]
        reached = labels.type.measure(test, np.tile(answers, (len(test), 1)))
        return {name: reached[name] for name in ("accuracy", "f1")} | {"auc": 0.5}
    share = float(np.clip(test.mean(), 1e-9, 1 - 1e-9))
    reached_by = labels.type.constants({"0": 1 - share, "1": share}, {})
    return {metric: value for metric, (value, _) in reached_by.items()}


def _block(label: LabelGuess, moments: Moments, parts: "pl.Series") -> str:
    """What is resampled whole: days where the test part has enough of them, else rows."""
    if moments.time.value is None:
        return "row"
    times = instants(label.table.columns[moments.time.value].values).filter(parts == "test")
    for block, unit in (("day", "1d"), ("hour", "1h")):
        if times.dt.truncate(unit).n_unique() >= 20:
            return block
    return "row"


def _at_threshold(folder: Path, scorer: Scorer) -> Scorer:
    """The logistic regression with its threshold chosen as training does."""
    import numpy as np

    validation = read_part(folder, "validation")
    probability: np.ndarray = scorer.score(validation)
    known = validation[LABEL].to_numpy().astype(np.int8)
    chosen = BinaryLabel(threshold=choose_threshold(known, probability, "f1"))
    return replace(scorer, label=chosen)


def _write(
    folder: Path,
    fields: Fields,
    labels: Labels,
    parts: "pl.Series",
    moments: Moments,
    label: LabelGuess,
) -> Splits:
    """The parts as the features stage writes them."""
    import polars as pl

    features = tuple(
        Feature(name=field.name, kind=field.kind, view=field.table) for field in fields.found
    )
    if moments.time.value is not None:
        times = instants(label.table.columns[moments.time.value].values)
    else:
        times = pl.Series([datetime(2000, 1, 1, tzinfo=UTC)] * len(parts))
    rows = pl.DataFrame(
        {
            _KEY: pl.int_range(len(parts), eager=True).cast(pl.String),
            TIME: times,
            LABEL: labels.values,
            "__part": parts,
        }
    )
    rows = rows.with_columns(_typed(field.values, field.kind, field.name) for field in fields.found)
    rows = rows.filter(pl.col("__part").is_not_null())
    rows = rows.gather_every(max(1, -(-rows.height // ROWS))).sort(TIME, maintain_order=True)
    cuts = {part: rows.filter(pl.col("__part") == part).drop("__part") for part in PARTS}
    for part in PARTS:
        write_table(cuts[part], str(folder / f"{part}.parquet"))
    stamp = format_instant(datetime(2000, 1, 1, tzinfo=UTC))
    return Splits(
        project="trial",
        key=_KEY,
        entities={},
        features=features,
        rows={part: frame.height for part, frame in cuts.items()},
        positives={},
        label_kind=labels.type.kind,
        classes=labels.type.class_names,
        windows=dict.fromkeys(PARTS, (stamp, stamp)),
        statistics=statistics(cuts["train"], features),
        data_hash="",
        feature_service="",
    )


def _typed(values: "pl.Series", kind: str, name: str) -> "pl.Series":
    import polars as pl

    if kind == "time":
        values = instants(values)
    frame = values.alias("value").to_frame()
    made = typed(pl.col("value"), values.dtype, kind)  # type: ignore[arg-type]
    return frame.select(made.alias(name))[name]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the events of the stages' code off the terminal."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
