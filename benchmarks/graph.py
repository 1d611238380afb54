"""The served graph in onnxruntime alone, without a server: CPU µs of a run on one thread, by rows.

Each run has other rows of the test part: a processor learns the branches of rows that come again and
again, which flatters whatever branches. The model is that of `benchmarks.flights`, or BENCH_BUNDLE's.
"""

import time
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.flights import flights_bundle
from benchmarks.harness import Row, report
from slipway.components.contracts.bundle import ONNX, model_inputs, read_bundle
from slipway.components.train.data.tables import read_features

ROUNDS, ROWS = 35, 8192
REACH = {1: "≤ 45", 128: "≤ 600"}


def main() -> None:
    """Prints the table and writes build/bench/graph.json."""
    folder, splits = flights_bundle()
    bundle = read_bundle(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / ONNX), options, providers=["CPUExecutionProvider"]
    )
    table = read_features(splits, "test", bundle)
    chosen = np.random.default_rng(0).permutation(table.num_rows)[:ROWS]
    inputs = model_inputs(bundle, table.take(chosen))
    rows = [
        Row(
            f"{count:,} rows" if count > 1 else "one row",
            "–",
            "CPU µs a run",
            [measure(session, inputs, count) for _ in range(ROUNDS)],
            reach=REACH.get(count),
        )
        for count in (1, 16, 64, 128, 1024)
    ]
    report("graph", rows)


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
