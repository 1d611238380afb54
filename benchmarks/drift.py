"""Drift: against Evidently's default preset, against decoding the log, and against exact statistics."""

import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import Row, cpu_seconds, interleave, report, run_python
from slipway.components.config.monitoring import DriftConfig
from slipway.components.contracts.monitoring.inference_log import (
    FEATURE_PREFIX,
    log_schema,
    partition,
)
from slipway.components.contracts.monitoring.reference import ReferenceSummary
from slipway.components.contracts.splits import Feature, Kind
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.monitor.measures.drift import COARSE, coarse_groups, compare, measure
from slipway.components.monitor.measures.sketch import (
    NumericSketch,
    Sketch,
    add_column,
    bin_edges,
    new_sketch,
    numbers,
)

NUMERIC, CATEGORICAL = 15, 5
FEATURES = tuple(
    Feature(name=f"x{i:02d}", kind="numeric" if i < NUMERIC else "categorical", view="v")
    for i in range(NUMERIC + CATEGORICAL)
)
KINDS: dict[str, Kind] = {f.name: f.kind for f in FEATURES}
LOG_ROWS, FILES = 10_000_000, 20
START = datetime(2026, 1, 1, tzinfo=UTC)


def table(rows: int, seed: int, shift: float = 0.0) -> pa.Table:
    """Numeric columns of several shapes, some with nulls, and categories of several sizes."""
    r = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {}
    for i in range(NUMERIC):
        shape = (r.normal(size=rows), r.lognormal(size=rows), np.round(r.gamma(2, 5, rows)))[i % 3]
        values = shape + shift
        if i % 4 == 0:
            values[r.random(rows) < 0.05] = np.nan
        columns[f"x{i:02d}"] = pa.array(values, from_pandas=True)
    for i in range(CATEGORICAL):
        names = np.array([f"value {k}" for k in range(3 * 4**i)])
        weights = 1 / np.arange(1, len(names) + 1)
        columns[f"x{NUMERIC + i:02d}"] = pa.array(
            names[r.choice(len(names), rows, p=weights / weights.sum())]
        )
    return pa.table(columns)


def against_evidently() -> Row:
    """Both see two tables in memory and compare all columns."""
    from evidently import Dataset, Report
    from evidently.presets import DataDriftPreset

    old, new = table(100_000, 1), table(100_000, 2, shift=0.05)
    old_frame, new_frame = old.to_pandas(), new.to_pandas()

    def ours() -> None:
        edges = {n: bin_edges(numbers(old[n], "numeric")) for n in KINDS if KINDS[n] == "numeric"}
        compare(sketches(old, edges), sketches(new, edges), KINDS, DriftConfig())

    def theirs() -> None:
        Report([DataDriftPreset()]).run(
            Dataset.from_pandas(new_frame), Dataset.from_pandas(old_frame)
        ).dict()

    ours()
    mine, evidently = interleave(lambda: cpu_seconds(ours), lambda: cpu_seconds(theirs), times=3)
    return Row(
        "10⁵ + 10⁵ rows × 20 columns, all statistics",
        "Evidently's DataDriftPreset",
        "CPU s",
        mine,
        evidently,
        reach="≤ 1/50",
    )


def sketches(rows: pa.Table, edges: dict[str, Any]) -> dict[str, Sketch]:
    made = {}
    for name, kind in KINDS.items():
        made[name] = new_sketch(kind, edges.get(name))
        add_column(made[name], rows[name], kind)
    return made


SCAN = """
import sys
from pathlib import Path
from slipway.components.config.data import parse_window
from slipway.components.config.monitoring import DriftConfig
from slipway.components.monitor.measures.drift import compare
from slipway.components.monitor.reference import read_reference
from slipway.components.monitor.measures.scan import LogReader
from slipway.components.monitor.window import open_window
reference = read_reference(Path(sys.argv[1]) / "reference", "1", "train")
window = open_window(sys.argv[1] + "/log", "bench", parse_window(*sys.argv[2:4]))
scan = LogReader(window).scan("1", reference, 0, 0)
assert scan.rows == int(sys.argv[4]), scan.rows
compare(reference.sketches, scan.sketches, reference.kinds, DriftConfig())
"""
DECODE = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
rows = 0
for path in sorted(Path(sys.argv[1], "log").rglob("*.parquet")):
    file = pq.ParquetFile(path)
    names = [n for n in file.schema_arrow.names if n.startswith("feature.")]
    for group in range(file.num_row_groups):
        rows += file.read_row_group(group, columns=names).num_rows
assert rows == int(sys.argv[4]), rows
"""


def against_decoding() -> list[Row]:
    """The whole scan of a day's log, reference included, against reading its feature columns."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-bench-"))
    try:
        write_log(folder)
        arguments = (
            str(folder),
            START.isoformat(),
            (START + timedelta(days=1)).isoformat(),
            str(LOG_ROWS),
        )
        peaks: list[float] = []

        def ours() -> float:
            usage = run_python(SCAN, *arguments)
            peaks.append(usage["peak_mb"])
            return usage["cpu_s"]

        def theirs() -> float:
            return run_python(DECODE, *arguments)["cpu_s"]

        mine, decoding = interleave(ours, theirs, times=3)
    finally:
        shutil.rmtree(folder)
    what = "10⁷ log rows × 20 features against a stored reference"
    return [
        Row(what, "decoding the parquet", "CPU s", mine, decoding, reach="≤ 3"),
        Row(what, "", "peak MB", peaks, reach="≤ 400"),
    ]


def write_log(folder: Path, total: int = LOG_ROWS) -> None:
    """A day's log of so many rows in FILES files, each with a key, and a reference of 50,000 rows."""
    schema = log_schema(FEATURES, label_type("binary").columns())
    rows = total // FILES
    for i in range(FILES):
        moment = START + timedelta(hours=i)
        part = table(rows, 100 + i)
        constant = {
            "request_id": "r", "row": 0, "time": moment, "served_at": moment,
            "model_version": "1", "status": 200, "probability": 0.5, "label": 1, "latency_ms": 1.0,
        }  # fmt: skip
        keys = pa.array(np.arange(i * rows, (i + 1) * rows)).cast(pa.string())
        columns = [
            keys
            if f.name == "key"
            else pa.repeat(pa.scalar(constant[f.name], f.type), rows)
            if f.name in constant
            else part[f.name.removeprefix(FEATURE_PREFIX)].cast(f.type)
            for f in schema
        ]
        path = folder / "log" / partition("bench", moment)
        path.mkdir(parents=True)
        pq.write_table(
            pa.table(columns, schema=schema),
            path / f"{uuid.uuid4().hex}.parquet",
            row_group_size=1 << 17,
            compression="zstd",
        )
    kept = table(50_000, 1)
    (folder / "reference").mkdir()
    probabilities = np.linspace(0, 1, kept.num_rows)
    kept = kept.append_column("part", pa.repeat("train", kept.num_rows))
    kept = kept.append_column("probability", pa.array(probabilities))
    kept = kept.append_column("predicted", pa.array((probabilities >= 0.5).astype(np.int8)))
    pq.write_table(
        kept,
        folder / "reference" / "reference.parquet",
    )
    ReferenceSummary(
        model="bench",
        model_hash="",
        data_hash="",
        threshold=0.5,
        key="key",
        features=tuple(FEATURES),
        rows={"train": kept.num_rows},
        sampled={"train": kept.num_rows},
        windows={},
        statistics={},
        release={},
        intervals={},
        label_rate={},
        probability_mean={},
    ).write(folder / "reference" / "reference.json")


def agreement() -> list[Row]:
    """Sketched statistics against exact ones on raw values: the largest difference over 60 pairs.

    KS, PSI and JS lie between 0 and about 1, and are compared as they are; Wasserstein in standard
    deviations of the reference. PSI and JS are defined on bins of equal reference mass, so exact
    means: with those bins, from the raw values.
    """
    from scipy import stats
    from scipy.spatial.distance import jensenshannon

    worst = {"KS": 0.0, "PSI": 0.0, "Jensen-Shannon": 0.0, "Wasserstein": 0.0}
    r = np.random.default_rng(3)
    shapes: list[Callable[[int], Any]] = [
        lambda n: r.normal(size=n),
        lambda n: r.lognormal(size=n),
        lambda n: r.gamma(2, 5, n).round(),
        lambda n: np.where(r.random(n) < 0.9, 0.0, r.exponential(size=n)),
    ]
    for i in range(60):
        shape = shapes[i % len(shapes)]
        old = shape(50_000)
        new = shape(5_000) * r.uniform(0.8, 1.5) + r.uniform(-0.5, 0.5) * old.std() * (i % 3 > 0)
        edges = bin_edges(old)
        before, after = NumericSketch.empty(edges), NumericSketch.empty(edges)
        before.add(old)
        after.add(new)
        _, found = measure(before, after, DriftConfig())
        groups = coarse_groups(before.counts)
        p, q = (
            np.bincount(groups[np.searchsorted(edges, values, side="right")], minlength=COARSE)
            for values in (old, new)
        )
        used = p + q > 0
        f, g = (p[used] + 0.5) / (p[used] + 0.5).sum(), (q[used] + 0.5) / (q[used] + 0.5).sum()
        exact = {
            "KS": stats.ks_2samp(old, new, method="asymp").statistic,
            "PSI": float(((g - f) * np.log(g / f)).sum()),
            "Jensen-Shannon": float(jensenshannon(p, q, base=2)),
            "Wasserstein": stats.wasserstein_distance(old, new) / old.std(),
        }
        ours = {
            "KS": found["ks"],
            "PSI": found["psi"],
            "Jensen-Shannon": found["js"],
            "Wasserstein": found["wasserstein"] / old.std(),
        }
        for name in worst:
            worst[name] = float(max(worst[name], abs(ours[name] - exact[name])))
    return [
        Row(
            f"{name}: largest error of the sketch",
            "scipy, exact",
            "of scale",
            [error],
            reach="≤ 0.01",
        )
        for name, error in worst.items()
    ]


def main() -> None:
    rows = agreement()
    print("agreement measured", file=sys.stderr)
    rows.append(against_evidently())
    print("Evidently measured", file=sys.stderr)
    rows += against_decoding()
    report("drift", rows)


if __name__ == "__main__":
    main()
