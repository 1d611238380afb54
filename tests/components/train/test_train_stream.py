"""Tables larger than the device's memory: buffers from the disk through the same loop."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import slipway.components.train.data.source as module
from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.splits import read_splits
from slipway.components.train.data.preparation import Prepared, prepare
from slipway.components.train.data.source import Resident, Streamed, choose_buffer, memory_limit
from slipway.components.train.data.tables import TrainingRows
from slipway.components.train.loop import TrainedMember, Training
from slipway.components.train.process.checkpoint import Checkpoint

CPU = torch.device("cpu")
CONFIG = TrainingConfig.model_validate(
    {
        "network": {"width": 16, "architecture": "mlp", "dropout": 0.2},
        "members": 1,
        "epochs": 2,
        "batch_size": 64,
        "model": "network",
        "min_steps": 1,
        "checkpoint_seconds": 0,
        "buffer_rows": 256,
    }
)


def numbered(count: int) -> TrainingRows:
    """Rows that say in every column which row they are."""
    number = torch.arange(count, dtype=torch.float32)
    return TrainingRows(
        scaled=number.view(-1, 1),
        plain=number.view(-1, 1),
        codes=number.view(-1, 1).int(),
        labels=number,
        weights=number,
    )


def batches(source: Any, seed: int, *, passes: int = 1, done: int = 0) -> list[list[int]]:
    """The rows of each step of one epoch."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for rows, order in source.epoch(generator, passes, 10, done):
        for batch in order.split(10):
            numbers = rows.labels[batch]
            for name in ("scaled", "plain", "codes"):
                assert torch.equal(getattr(rows, name)[batch].view(-1).float(), numbers)
            found.append(numbers.int().tolist())
    return found


@pytest.mark.parametrize("count", [9, 10, 640, 1003])
@pytest.mark.parametrize("passes", [1, 3])
def test_every_row_comes_once_a_pass(count: int, passes: int) -> None:
    sources: list[Any] = [
        Streamed(rows=numbered(count), buffer_rows=320, device=CPU),
        Resident(rows=numbered(count)),
    ]
    for source in sources:
        found = batches(source, 0, passes=passes)
        assert len(found) == source.steps(passes, 10)
        assert sorted(row for batch in found for row in batch) == sorted(
            list(range(count)) * passes
        )
        assert found == batches(source, 0, passes=passes), "the seed alone decides"
        for done in (1, len(found) - 1, len(found)):
            assert batches(source, 0, passes=passes, done=done) == found[done:]


def test_a_batch_mixes_rows_from_all_over_the_table() -> None:
    source = Streamed(rows=numbered(6400), buffer_rows=640, device=CPU)
    spread = [max(batch) - min(batch) for batch in batches(source, 0)]
    assert sum(spread) / len(spread) > 3000
    assert batches(source, 0) != batches(source, 1)


def training(prepared: Prepared, root: str = "", **changes: Any) -> Training:
    return Training(
        make_network=changes.get("make_network", prepared.make_network),
        source=prepared.parts.source,
        validation=prepared.parts.validation,
        config=prepared.config,
        device=CPU,
        checkpoint=Checkpoint(root, "toy", prepared.identity),
        log=lambda values, step: None,
    )


def test_a_streamed_table_is_the_same_table_and_trains(make_splits: Any, tmp_path: Path) -> None:
    folder = make_splits(rows=1500)
    meta = read_splits(folder)
    whole = prepare(folder, meta, "toy", CONFIG.model_copy(update={"buffer_rows": 0}), CPU)
    streamed = prepare(folder, meta, "toy", CONFIG, CPU)
    assert isinstance(whole.parts.source, Resident)
    assert isinstance(streamed.parts.source, Streamed)
    for name in TrainingRows.__slots__:
        assert torch.equal(
            getattr(streamed.parts.source.rows, name), getattr(whole.parts.source.rows, name)
        ), name
    assert streamed.identity != whole.identity

    one = training(whole).run({})
    two = training(streamed).run({})
    assert two[0].history[-1]["auc"] == pytest.approx(one[0].history[-1]["auc"], abs=0.05)
    assert two[0].history[-1]["auc"] > 0.6
    _breaks_and_goes_on(streamed, two, str(tmp_path / "checkpoints"))


def _breaks_and_goes_on(prepared: Prepared, whole: list[TrainedMember], root: str) -> None:
    """Stops within a later buffer of the second epoch, and ends with the same bits."""
    steps = 0

    def check(network: torch.nn.Module, _: Any) -> None:
        nonlocal steps
        steps += network.training
        if steps > 31:
            raise KeyboardInterrupt

    def make() -> torch.nn.Module:
        network = prepared.make_network()
        network.register_forward_pre_hook(check)
        return network

    with pytest.raises(KeyboardInterrupt):
        training(prepared, root, make_network=make).run({})
    again = training(prepared, root)
    saved = again.checkpoint.load()
    assert saved is not None
    assert (saved["current"]["state"]["epoch"], saved["current"]["state"]["step"]) == (1, 7)
    (member,) = again.run(saved)
    assert member.history == whole[0].history
    for name, weights in whole[0].weights.items():
        assert torch.equal(member.weights[name], weights)


def test_only_a_sample_is_taken_for_the_statistics(
    make_splits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slipway.components.train.data.preparation as preparation

    monkeypatch.setattr(preparation, "_SAMPLE_ROWS", 400)
    folder = make_splits(rows=1500)
    prepared = prepare(folder, read_splits(folder), "toy", CONFIG, CPU)
    assert len(prepared.parts.scaled) == 375
    assert len(prepared.parts.source) == 1500
    column = prepared.parts.source.rows.scaled[:, 0]
    assert float(column.mean()) == pytest.approx(0, abs=0.1)
    assert float(column.std()) == pytest.approx(1, abs=0.1)


def test_memory_decides_what_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(module, "_CGROUP_LIMIT", limit)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory_limit() == machine
    limit.write_text("max\n")
    assert memory_limit() == machine
    limit.write_text("1000000\n")
    assert memory_limit() == 1_000_000
    assert choose_buffer("auto", 2000, 100, CPU) == 0
    assert choose_buffer("auto", 2001, 100, CPU) == 600
    assert choose_buffer(500, 2001, 100, CPU) == 500
    assert choose_buffer(2001, 2001, 100, CPU) == 0
    assert choose_buffer(0, 10**9, 100, CPU) == 0
