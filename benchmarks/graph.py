"""The served graph in onnxruntime alone, without a server: CPU µs of a run on one thread, by rows.

Each run has other rows of the test part: a processor learns the branches of rows that come again and
again, which flatters whatever branches. The model is that of `benchmarks.flights` (a network), or
BENCH_BUNDLE's. Beside it stands the blend of the same settings with trees, in turns: what it costs more.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.flights import flights_bundle, train_flights
from benchmarks.harness import FOLDER, Row, interleave, report
from slipway.components.contracts.bundle import ONNX, model_inputs, read_bundle
from slipway.components.train.data.tables import read_features

ROUNDS, ROWS = 35, 8192
COUNTS = (1, 16, 64, 128, 1024)
REACH = {1: "≤ 45", 128: "≤ 600"}
BLEND_REACH = "≤ 1.5"


def main() -> None:
    """Prints the table and writes build/bench/graph.json."""
    folder, splits = flights_bundle()
    blend = FOLDER / "flights_blend" / "bundle"
    if not blend.exists():
        train_flights(splits, blend, model="blend")
    bundle = read_bundle(folder)
    table = read_features(splits, "test", bundle)
    chosen = np.random.default_rng(0).permutation(table.num_rows)[:ROWS]
    inputs = model_inputs(bundle, table.take(chosen))
    alone, both = open_session(folder), open_session(blend)
    rows = []
    for count in COUNTS:
        network, blended = interleave(
            partial(measure, alone, inputs, count),
            partial(measure, both, inputs, count),
            times=ROUNDS,
        )
        what = f"{count:,} rows" if count > 1 else "one row"
        rows += [
            Row(what, "–", "CPU µs a run", network, reach=REACH.get(count)),
            Row(f"{what}, blend", "the network", "CPU µs a run", blended, network, BLEND_REACH),
        ]
    report("graph", rows)


def open_session(folder: Path) -> onnxruntime.InferenceSession:
    """On one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(folder / ONNX), options, providers=["CPUExecutionProvider"]
    )


def measure(session: Any, inputs: dict[str, np.ndarray], count: int) -> float:
    """CPU µs of a run, the mean over different rows."""
    length = len(next(iter(inputs.values())))
    feeds = [
        {
            name: np.ascontiguousarray(values[start : start + count])
            for name, values in inputs.items()
        }
        for start in range(0, min(length, 64 * count) - count + 1, count)
    ]
    started = time.process_time()
    for feed in feeds:
        session.run(None, feed)
    return (time.process_time() - started) / len(feeds) * 1e6


if __name__ == "__main__":
    main()
