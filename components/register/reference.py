"""Samples and scores the parts that monitoring compares a served model with."""

from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.monitoring.reference import (
    FILE,
    ROWS,
    ReferenceSummary,
    answer_column,
)
from slipway.components.contracts.rows.scoring import open_model, predict, read_part_batches
from slipway.components.contracts.splits import (
    LABEL,
    PART,
    SAMPLE_ROWS,
    UNLABELLED,
    Part,
    Splits,
    write_splits,
)
from slipway.components.contracts.verdict import Verdict
from slipway.components.metrics.kinds.choose import label_type_of

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = SAMPLE_ROWS
PARTS: tuple[Part, ...] = ("train", "test")


def write_reference(
    folder: Path,
    *,
    splits_path: Path,
    splits: Splits,
    bundle_path: Path,
    bundle: Bundle,
    verdict: Verdict,
) -> None:
    """Samples the parts, scores the sample, and writes the three files.

    Raises:
        SlipwayError: the model fails on the rows.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    session, label = open_model(bundle_path), label_type_of(bundle)
    # Monitoring counts each row once, whatever the gate weighed it by.
    plain = verdict.notes.get("unweighted", {})
    tables = []
    means: dict[str, float | None] = {}
    for part in PARTS:
        # What travels beside the features ends at the gate: the registry never holds it.
        table = _sample(splits_path, splits, part).drop_columns(list(splits.beside))
        answers = predict(session, bundle, table)
        table = table.append_column("part", pa.array([part] * table.num_rows, pa.string()))
        for name, column in label.to_columns(answers).items():
            table = table.append_column(answer_column(label.kind, name), column)
        tables.append(table)
        if label.kind == "binary":
            means[part] = float(answers.astype(np.float64).mean()) if len(answers) else None
    pq.write_table(pa.concat_tables(tables), folder / ROWS, compression="zstd")
    write_splits(folder, splits)
    ReferenceSummary(
        model=bundle.name,
        model_hash=verdict.model_hash,
        data_hash=verdict.data_hash,
        threshold=bundle.threshold,
        key=splits.key,
        features=splits.features,
        rows={part: splits.rows[part] for part in PARTS},
        sampled={part: tables[i].num_rows for i, part in enumerate(PARTS)},
        windows=splits.windows,
        statistics=splits.statistics,
        release=plain.get("metrics", verdict.metrics),
        intervals=plain.get("intervals", verdict.notes.get("intervals", {})),
        thresholds=verdict.thresholds,
        label_rate={p: _rate(splits, p) for p in PARTS} if label.kind == "binary" else {},
        probability_mean=means,
        label_kind=bundle.label_kind,
        classes=bundle.classes,
        level=bundle.level,
        costs=bundle.costs,
        set_threshold=bundle.set_threshold,
        labels=splits.labels,
        fairness=verdict.notes.get("fairness", []),
    ).write(folder / FILE)


def _rate(splits: Splits, part: str) -> float | None:
    rows = splits.rows[part]
    return splits.positives[part] / rows if rows else None


def _sample(folder: Path, splits: Splits, part: Part) -> "pa.Table":
    """At most `MAX_ROWS` rows of a part, with a label and without, as they come when asked for.

    Every n-th row with a label, read batch by batch, and as many of those without as that is of all.
    """
    import numpy as np
    import pyarrow as pa

    unlabelled = splits.unlabelled.get(part, 0)
    step = -(-(splits.rows[part] + unlabelled) // MAX_ROWS) or 1
    start, sampled = 0, []
    for table in read_part_batches(folder, part):
        picks: object = np.arange(-start % step, table.num_rows, step)
        sampled.append(table.take(pa.array(picks)))
        start += table.num_rows
    if wanted := round(unlabelled / step):
        rest = _without_label(folder, part)
        picks = np.arange(wanted) * rest.num_rows // wanted
        sampled.append(rest.take(pa.array(picks)).cast(sampled[0].schema))
    sample = pa.concat_tables(sampled)
    if wanted:
        sample = sample.sort_by(splits.order[0])
    kinds = {"binary": pa.int8(), "multiclass": pa.int32(), "number": pa.float64()}
    place = sample.column_names.index(LABEL)
    return sample.set_column(place, LABEL, sample[LABEL].cast(kinds[splits.label_kind]))


def _without_label(folder: Path, part: Part) -> "pa.Table":
    """The kept rows without a label of a part."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.ParquetFile(folder / UNLABELLED).read()
    return table.filter(pc.equal(table[PART], part)).drop_columns([PART])
