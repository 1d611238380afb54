"""A trial on the spot: the gate's own baselines, on the columns as they stand, with their intervals.

The parts are written as the features stage would write them, without histories, and evaluate's own code
fits, scores and resamples. So the values that the gate gets were measured as the gate will measure.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.base import format_instant
from slipway.components.config.features import Split
from slipway.components.config.gate import GateConfig
from slipway.components.config.label import Label
from slipway.components.contracts.splits import LABEL, PARTS, TIME, Feature, Splits
from slipway.components.evaluate.baselines import feature_aucs, fit_logistic
from slipway.components.evaluate.measure import estimates, run_pass
from slipway.components.evaluate.rules import Estimate
from slipway.components.features.columns import typed
from slipway.components.features.parts import statistics
from slipway.components.features.tables import write_table
from slipway.components.metrics.kinds.binary import BinaryLabel
from slipway.components.metrics.outcome import read_label
from slipway.components.metrics.threshold import choose_threshold
from slipway.local.guess.fields import Fields
from slipway.local.guess.labels import LabelGuess
from slipway.local.guess.moments import Moments, instants
from slipway.local.guess.splits import SplitGuess

if TYPE_CHECKING:
    import polars as pl

ROWS = 60_000
_KEY = "__row"
LEAK = GateConfig().leak.auc


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the baselines came to.

    Attributes:
        rows: of each part, all rows counted. positives: of the test part, likewise.
        alone: by feature, how well it alone tells the label apart: AUC from 0.5 to 1.
        logistic: the metrics of the logistic regression on the test part; empty: it could not be fitted.
        block: what was resampled whole.
        problem: why there is no baseline; empty: there is one.
    """

    rows: dict[str, int]
    positives: int
    alone: dict[str, float]
    logistic: dict[str, Estimate]
    block: str
    problem: str = ""


def labels_of(label: LabelGuess) -> "pl.Series":
    """The labels of the examples' rows, by the rule that training uses: 1, 0, or null."""
    settings = Label.model_validate(
        {
            "column": label.column.name,
            "positive": label.positive.value,
            "unknown": label.unknown.value,
            "above": _number(label.above) if label.above else None,
        }
    )
    return read_label(label.column.values, settings, label.table.name)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def cut(labels: "pl.Series", label: LabelGuess, moments: Moments, split: SplitGuess) -> "pl.Series":
    """The part of each row: train, validation, test, or null."""
    import numpy as np
    import polars as pl

    if moments.time.value is None or split.window.value is None:
        # Near enough to what the features stage draws: this is for its size and its balance.
        chances = np.random.default_rng(0).random(len(labels))
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
    return parts.zip_with(labels.is_not_null(), pl.Series([None], dtype=pl.String))


def try_baselines(
    fields: Fields, labels: "pl.Series", parts: "pl.Series", moments: Moments, label: LabelGuess
) -> Trial:
    """Fits and measures the baselines of a yes/no label.

    Args:
        fields: the features.
        labels: 1, 0 or null, a row.
        parts: the part of each row.
        moments: the examples' times.
        label: what is predicted.
    """
    counts = {part: int((parts == part).sum()) for part in PARTS}
    positives = int(labels.filter(parts == "test").sum() or 0)
    block = _block(label, moments, parts)
    nothing = Trial(rows=counts, positives=positives, alone={}, logistic={}, block=block)
    classes = {part: labels.filter(parts == part).n_unique() for part in PARTS}
    if lacking := [part for part in PARTS if counts[part] < 2 or classes[part] < 2]:
        problem = f"the {' and the '.join(lacking)} part has not both classes"
        return _with(nothing, problem=problem)
    if not fields.found:
        return _with(nothing, problem="no column is left to predict from")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        splits = _write(Path(folder), fields, labels, parts, moments, label)
        alone = feature_aucs(Path(folder), splits)
        logistic = _measure(Path(folder), splits, block)
    return _with(nothing, alone=alone, logistic=logistic)


def _with(trial: Trial, **changes: object) -> Trial:
    from dataclasses import replace

    return replace(trial, **changes)  # type: ignore[arg-type]


def _block(label: LabelGuess, moments: Moments, parts: "pl.Series") -> str:
    """What is resampled whole: days where the test part has enough of them, else rows."""
    if moments.time.value is None:
        return "row"
    times = instants(label.table.columns[moments.time.value].values).filter(parts == "test")
    for block, unit in (("day", "1d"), ("hour", "1h")):
        if times.dt.truncate(unit).n_unique() >= 20:
            return block
    return "row"


def _measure(folder: Path, splits: Splits, block: str) -> dict[str, Estimate]:
    """The logistic regression's metrics on the test part, its threshold chosen as training does."""
    from dataclasses import replace

    import numpy as np

    from slipway.components.contracts.splits import read_part

    config = GateConfig(block=block)
    scorer = fit_logistic(folder, splits)
    validation = read_part(folder, "validation")
    probability: np.ndarray = scorer.score(validation)
    known = validation[LABEL].to_numpy().astype(np.int8)
    chosen = BinaryLabel(threshold=choose_threshold(known, probability, "f1"))
    scorer = replace(scorer, label=chosen)
    done = run_pass(folder, splits, [scorer], [], config)
    return estimates(done.models[scorer.name], done, config)


def _write(
    folder: Path,
    fields: Fields,
    labels: "pl.Series",
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
        times = pl.Series([datetime(2000, 1, 1, tzinfo=UTC)] * len(labels))
    rows = pl.DataFrame(
        {
            _KEY: pl.int_range(len(labels), eager=True).cast(pl.String),
            TIME: times,
            LABEL: labels,
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
        positives={part: int(frame[LABEL].sum()) for part, frame in cuts.items()},
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
