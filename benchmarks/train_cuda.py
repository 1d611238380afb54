"""Training on CUDA devices: rows a second, share of the device's peak, scaling over devices.

    make bench NAME=train_cuda

Without a CUDA device there is nothing to measure: the benchmark says so and writes an empty table.
PEAK_TFLOPS is the device's dense bf16 peak (default 989: H100 SXM).
"""

import os
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.harness import Row, report
from benchmarks.train_loop import COLUMNS, Plain, table
from slipway.components.config.training import TrainingConfig
from slipway.components.train.data.source import Resident
from slipway.components.train.loop import Training
from slipway.components.train.process.checkpoint import Checkpoint

ROWS, BATCH, REPEATS, WIDTH = 4_000_000, 16_384, 3, 256
PEAK = float(os.environ.get("PEAK_TFLOPS", "989")) * 1e12


def train(device: torch.device, compiled: bool) -> float:
    """Rows a second of one epoch over a resident table, the second of two (the first warms up)."""
    rows = table(ROWS).to(device)
    config = TrainingConfig(
        epochs=1, members=1, batch_size=BATCH, min_steps=1, compile=compiled
    ).resolve(ROWS)
    seconds = 0.0
    for _ in range(2):
        training = Training(
            make_network=partial(Plain, WIDTH),
            source=Resident(rows=rows),
            validation=table(64).to(device),
            config=config,
            device=device,
            checkpoint=Checkpoint("", "bench", ""),
            log=lambda values, step: None,
        )
        torch.cuda.synchronize()
        started = time.perf_counter()
        training.run({})
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return ROWS / seconds


def scaling(processes: int) -> float:
    """Seconds of a whole job with so many devices, its start included."""
    from benchmarks.public_tables import public_table
    from slipway.components.train.distributed.processes import WorkerJob, run_workers

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "adult"
        folder.mkdir()
        job = WorkerJob(
            splits=str(public_table(folder, "adult")),
            project="bench",
            config={"batch_size": 4096, "min_steps": 20_000},
            device="cuda",
            run_id=None,
            checkpoints="",
        )
        started = time.perf_counter()
        run_workers(job, processes)
        return time.perf_counter() - started


def main() -> None:
    if not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured.")
        report("train_cuda", [])
        return
    device = torch.device("cuda", 0)
    weights = sum(p.numel() for p in Plain(WIDTH).parameters())
    rows = []
    for compiled in (False, True):
        rates = [train(device, compiled) for _ in range(REPEATS)]
        what = f"MLP on {COLUMNS} columns, batch {BATCH:,}" + (", compiled" if compiled else "")
        rows.append(Row(what, "–", "rows per s", rates))
        # Forward and backward take 6 floating-point operations a weight and row.
        shares = [rate * 6 * weights / PEAK for rate in rates]
        rows.append(Row(what, "bf16 peak", "share", shares))
    count = torch.cuda.device_count()
    if count > 1:
        many, one = scaling(count), scaling(1)
        rows.append(Row(f"{count} devices", "1 device", "s", [many], [one]))
    report("train_cuda", rows)


if __name__ == "__main__":
    main()
