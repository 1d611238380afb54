"""Evaluate's metrics with intervals over 10⁶ rows, against scikit-learn's three metrics without."""

from collections.abc import Iterable, Iterator

import numpy as np

from benchmarks.harness import Row, cpu_seconds, interleave, report, run_python

ROWS = 1_000_000
BATCH = 65_536
DAYS = 61
RESAMPLES = 1000
THRESHOLD = 0.3


Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


def draw_batch(start: int, rows: int, total: int) -> Batch:
    """Probabilities, labels and days of a stretch of a table ordered by day."""
    rng = np.random.default_rng(start)
    odds = rng.normal(-1.2, 1, rows)
    label = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    probability = 1 / (1 + np.exp(-(odds + rng.normal(0, 0.5, rows))))
    day = (np.arange(start, start + rows) * DAYS) // total
    return probability.astype(np.float32), label, day


def evaluate_batches(batches: Iterable[Batch]) -> dict[str, tuple[float | None, float | None]]:
    """What the stage does with the scores: metrics, and their intervals by day."""
    from slipway.components.evaluate.measures.blocks import draw_weights
    from slipway.components.metrics.intervals import percentile
    from slipway.components.metrics.tally import Tally

    tally = Tally(THRESHOLD)
    for probability, label, day in batches:
        tally.add(probability, label, day)
    tally.measure()
    used = tally.used_blocks
    drawn = tally.resample(draw_weights(len(used), RESAMPLES, 0), used)
    return {name: percentile(values, 0.95) for name, values in drawn.items()}


def stream(rows: int) -> Iterator[Batch]:
    """Batches that are made one at a time."""
    return (draw_batch(s, min(BATCH, rows - s), rows) for s in range(0, rows, BATCH))


def main() -> None:
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    batches = list(stream(ROWS))
    probability, label, day = (np.concatenate(part) for part in zip(*batches, strict=True))

    def theirs() -> None:
        called = probability >= THRESHOLD
        accuracy_score(label, called)
        f1_score(label, called)
        roc_auc_score(label, probability)

    rows_of = [np.flatnonzero(day == value) for value in range(DAYS)]
    rng = np.random.default_rng(0)

    def their_replicate() -> None:
        rows = np.concatenate([rows_of[i] for i in rng.integers(0, DAYS, DAYS)])
        drawn, truth = probability[rows], label[rows]
        called = drawn >= THRESHOLD
        accuracy_score(truth, called)
        f1_score(truth, called)
        roc_auc_score(truth, drawn)

    for way in (lambda: evaluate_batches(batches), theirs):
        way()
    ours, plain, replicate = interleave(
        lambda: cpu_seconds(lambda: evaluate_batches(batches)),
        lambda: cpu_seconds(theirs),
        lambda: cpu_seconds(their_replicate) * RESAMPLES,
        times=3,
    )
    code = (
        "import sys; from benchmarks.evaluate import evaluate_batches, stream;"
        " evaluate_batches(stream(int(sys.argv[1])))"
    )
    sizes = (10 * ROWS, ROWS)
    large, small = interleave(
        *(lambda n=n: run_python(code, str(n))["peak_mb"] for n in sizes), times=1
    )
    report(
        "evaluate",
        [
            Row(
                "10⁶ rows: nine metrics, 95 % intervals of each by day (1000 resamples)",
                "scikit-learn: accuracy, F1, AUC, no intervals",
                "CPU s",
                ours,
                plain,
                reach="≤ 5",
            ),
            Row(
                "the same",
                "scikit-learn: the three with intervals (one resample × 1000)",
                "CPU s",
                ours,
                replicate,
            ),
            Row(
                "peak memory, 10⁷ rows",
                "the same with 10⁶ rows",
                "MB",
                large,
                small,
                reach="≤ 1.05",
            ),
        ],
    )


if __name__ == "__main__":
    main()
