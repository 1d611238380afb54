"""The training loop against a DataLoader over a TensorDataset: the same MLP, batch 1024, one thread.

    make bench NAME=train_loop

In three sizes: the small one shows the loop; in the large one, the default of large tables, both ways
spend most of the time in the same matrix products, which no loop makes faster.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from benchmarks.harness import Row, interleave, report
from slipway.components.config.training import NetworkConfig, TrainingConfig
from slipway.components.train.data.source import Resident
from slipway.components.train.data.tables import TrainingRows
from slipway.components.train.loop import Training
from slipway.components.train.model.network import InputShape, Network
from slipway.components.train.process.checkpoint import Checkpoint

ROWS, COLUMNS, BATCH = 100_000, 28, 1024
WIDTHS = (64, 128, 256)


class Plain(nn.Module):
    """An MLP without dropout on the numeric columns: what is compared is the loop, not the network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        config = NetworkConfig(width=width, dropout=0)
        shape = InputShape(bins=(), plain=COLUMNS, cardinalities=())
        self.network = Network(shape, config, heads=1)

    def forward(
        self, scaled: torch.Tensor, plain: torch.Tensor, codes: torch.Tensor
    ) -> torch.Tensor:
        """Logits [B, 1]."""
        return self.network(scaled, plain, codes)


def table(rows: int) -> TrainingRows:
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(rows, COLUMNS, generator=generator)
    return TrainingRows(
        scaled=torch.empty(rows, 0),
        plain=plain,
        codes=torch.empty(rows, 0, dtype=torch.int32),
        labels=(plain[:, 0] > 0).float(),
        weights=torch.ones(rows),
    )


def per_cpu_second(work: Callable[[], None]) -> float:
    before = time.process_time()
    work()
    return ROWS / (time.process_time() - before)


def ours(rows: TrainingRows, width: int) -> None:
    config = TrainingConfig(epochs=1, members=1, batch_size=BATCH, min_steps=1).resolve(ROWS)
    Training(
        make_network=partial(Plain, width),
        source=Resident(rows=rows),
        validation=table(64),
        config=config,
        device=torch.device("cpu"),
        checkpoint=Checkpoint("", "bench", ""),
        log=lambda values, step: None,
    ).run({})


def theirs(rows: TrainingRows, width: int) -> None:
    from torch.utils.data import DataLoader, TensorDataset

    network = Plain(width)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    loader = DataLoader(TensorDataset(rows.plain, rows.labels), batch_size=BATCH, shuffle=True)
    empty = torch.empty(0)
    network.train()
    for plain, labels in loader:
        optimizer.zero_grad()
        logits = network(empty, plain, empty).squeeze(1)
        nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
        optimizer.step()


def main() -> None:
    torch.set_num_threads(1)
    rows = table(ROWS)
    ours(table(4 * BATCH), WIDTHS[0])
    theirs(table(4 * BATCH), WIDTHS[0])
    found = []
    for width in WIDTHS:
        fast, slow = interleave(
            partial(per_cpu_second, partial(ours, rows, width)),
            partial(per_cpu_second, partial(theirs, rows, width)),
            times=5,
        )
        parameters = sum(p.numel() for p in Plain(width).parameters())
        found.append(
            Row(
                f"one epoch, {ROWS:,} rows × {COLUMNS} columns, MLP 2 × {width} ({parameters:,})",
                "DataLoader + TensorDataset",
                "rows per CPU s",
                fast,
                slow,
                reach="≥ 2.5",
            )
        )
    report("train_loop", found)


if __name__ == "__main__":
    main()
