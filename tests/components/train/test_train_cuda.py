"""Training on a CUDA device. These tests need one, and are skipped where there is none."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import TRAINING
from slipway.components.contracts.splits import read_splits
from slipway.components.support.errors import SlipwayError
from slipway.components.train.data.preparation import Prepared, prepare
from slipway.components.train.data.source import Resident, Streamed
from slipway.components.train.distributed.processes import WorkerJob, run_workers
from slipway.components.train.loop import TrainedMember, Training
from slipway.components.train.process.checkpoint import Checkpoint
from slipway.components.train.train import TrainingTask, TrainResult, train_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
CONFIG = TrainingConfig.model_validate(
    {
        "network": {"width": 64, "architecture": "mlp", "dropout": 0.0},
        "members": 1,
        "epochs": 3,
        "batch_size": 128,
        "model": "network",
        "min_steps": 1,
        "checkpoint_seconds": 0,
    }
)


def train(
    prepared: Prepared, device: torch.device, root: str = "", **changes: Any
) -> list[TrainedMember]:
    """Trains on a device, from the checkpoint where there is one."""
    training = Training(
        make_network=changes.pop("make_network", prepared.make_network),
        source=changes.pop("source", prepared.parts.source),
        validation=prepared.parts.validation,
        config=prepared.config,
        device=device,
        checkpoint=Checkpoint(root, "toy", prepared.identity),
        log=lambda values, step: None,
        scaled_names=prepared.scaled_names,
        **changes,
    )
    return training.run(training.checkpoint.load() or {})


def both(folder: Path, config: TrainingConfig = CONFIG) -> tuple[Prepared, Prepared]:
    """The same table made ready for the CPU and for the device."""
    meta = read_splits(folder)
    one, other = (prepare(folder, meta, "toy", config, device) for device in (CPU, CUDA))
    return one, other


def losses(members: list[TrainedMember]) -> list[float]:
    return [epoch["train_loss"] for member in members for epoch in member.history]


def test_the_device_learns_what_the_processor_learns(make_splits: Any) -> None:
    on_cpu, on_cuda = both(make_splits(rows=3000))
    expected, found = train(on_cpu, CPU), train(on_cuda, CUDA)
    # bf16 has 8 bits of mantissa; the losses of an epoch agree far better than a step's.
    assert losses(found) == pytest.approx(losses(expected), rel=0.01)
    assert found[0].history[-1]["auc"] == pytest.approx(expected[0].history[-1]["auc"], abs=0.01)
    assert {value.device.type for value in found[0].weights.values()} == {"cpu"}


def test_a_compiled_network_learns_the_same(make_splits: Any) -> None:
    folder = make_splits(rows=3000)
    _, plain = both(folder)
    _, compiled = both(folder, CONFIG.model_copy(update={"compile": True}))
    assert losses(train(compiled, CUDA)) == pytest.approx(losses(train(plain, CUDA)), rel=0.01)


@pytest.mark.parametrize("steps", [1, 20, 40])
def test_a_run_that_broke_goes_on(steps: int, make_splits: Any, tmp_path: Path) -> None:
    """Dropout draws from the device's generator, whose state is saved too."""
    network = CONFIG.network.model_copy(update={"dropout": 0.3})
    _, prepared = both(make_splits(rows=3000), CONFIG.model_copy(update={"network": network}))
    whole = train(prepared, CUDA)
    count = 0

    def make() -> torch.nn.Module:
        made = prepared.make_network()

        def check(module: torch.nn.Module, _: Any) -> None:
            nonlocal count
            count += module.training
            if count > steps:
                raise RuntimeError("broken")

        made.register_forward_pre_hook(check)
        return made

    root = str(tmp_path / "checkpoints")
    with pytest.raises(RuntimeError, match="broken"):
        train(prepared, CUDA, root, make_network=make)
    assert list(Path(root).rglob("*.ckpt"))
    assert losses(train(prepared, CUDA, root)) == pytest.approx(losses(whole), rel=1e-3)


def test_buffers_arrive_whole_and_in_order(make_splits: Any) -> None:
    """The copies run on a stream of their own, beside kernels that still read the buffer before."""
    on_cpu, _ = both(make_splits(rows=3000))
    rows = on_cpu.parts.source.rows  # type: ignore[attr-defined]
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    sources = [Streamed(rows=rows, buffer_rows=1024, device=device) for device in (CPU, CUDA)]
    epochs = [
        source.epoch(generator, 2, 128, 0)
        for source, generator in zip(sources, generators, strict=True)
    ]
    buffers = 0
    for (here, order), (there, same_order) in zip(*epochs, strict=True):
        buffers += 1
        assert torch.equal(order, same_order.cpu())
        for name in here.__slots__:
            part = getattr(there, name)
            busy = torch.randn(2000, 2000, device=CUDA)
            for _ in range(5):
                busy = busy @ busy / 2000
            assert part.device == CUDA
            assert torch.equal(getattr(here, name), part.cpu())
    assert buffers == 6


def test_a_streamed_table_is_learnt(make_splits: Any) -> None:
    _, prepared = both(make_splits(rows=3000), CONFIG.model_copy(update={"buffer_rows": 1024}))
    assert isinstance(prepared.parts.source, Streamed)
    assert train(prepared, CUDA)[0].history[-1]["auc"] > 0.8


def test_a_loss_that_is_not_finite_names_the_step_it_came_at(make_splits: Any) -> None:
    """Losses are looked at every 16 steps; the message names the step, not the look."""
    _, prepared = both(make_splits(rows=3000))
    rows = prepared.parts.source.rows  # type: ignore[attr-defined]
    scaled = rows.scaled.clone()
    scaled[7, prepared.scaled_names.index("skewed")] = torch.inf
    source = Resident(rows=replace(rows, scaled=scaled))
    order = next(source.epoch(torch.Generator().manual_seed(0), 1, 128, 0))[1].cpu()
    step = 1 + int((order == 7).nonzero()) // 128
    with pytest.raises(SlipwayError, match=rf"epoch 1, step {step}, .* in this batch: skewed\.$"):
        train(prepared, CUDA, source=source)


def test_a_device_that_is_too_small_says_what_to_lower(make_splits: Any) -> None:
    network = CONFIG.network.model_copy(update={"width": 16_384, "layers": 8})
    _, prepared = both(make_splits(rows=3000), CONFIG.model_copy(update={"network": network}))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.01, 0)
    try:
        with pytest.raises(SlipwayError, match=r"out of memory.*training\.batch_size"):
            train(prepared, CUDA)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)


def test_torchrun_on_one_device_is_as_right(make_splits: Any) -> None:
    """One worker, NCCL: what a task of several devices runs, with the one that there is."""
    folder = make_splits(rows=3000)
    _, alone = both(folder)
    job = WorkerJob(
        splits=str(folder),
        project="toy",
        config=CONFIG.to_struct(),
        device="cuda",
        run_id=None,
        checkpoints="",
    )
    assert losses(run_workers(job, 1)) == pytest.approx(losses(train(alone, CUDA)), rel=1e-3)


def stage(splits: Path, folder: Path, **changes: Any) -> TrainResult:
    arguments: dict[str, Any] = {
        "splits": splits,
        "project": "toy",
        "config": {"model": "network", "network": {"width": 64}, "min_steps": 200},
        "seed": 0,
        "epochs": 3,
        "learning_rate": 5e-3,
        "gpus": 1,
        "allow_cpu": False,
        "bundle": folder / "bundle",
        "report": folder / "report.html",
    }
    return train_model(TrainingTask(**(arguments | changes)))


def test_the_stage_exports_what_the_device_trained(
    make_splits: Any, tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    result = stage(make_splits(rows=3000), tmp_path, system_metrics_seconds=0.2)
    log = json.loads((tmp_path / "bundle" / TRAINING).read_text())
    assert result.metrics["auc"] > 0.8
    assert log["export_difference"] <= 1e-5
    run = mlflow.tracking.MlflowClient(tracking).get_run(str(result.run_id))
    assert run.data.params["device"] == "cuda:0"


def test_more_devices_than_there_are_is_an_error(
    make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    found = torch.cuda.device_count()
    with pytest.raises(SlipwayError, match=rf"train on {found + 1} GPU\(s\), and {found} can be"):
        stage(make_splits(rows=700), tmp_path, gpus=found + 1)
    assert not (tmp_path / "bundle").exists()


KILLED = """
import sys
from pathlib import Path
from slipway.components.train.train import TrainingTask, train_model
splits, out = map(Path, sys.argv[1:])
train_model(TrainingTask(
    splits=splits, project="toy", seed=0, epochs=3, learning_rate=2e-3, gpus=1, allow_cpu=False,
    bundle=out / "bundle", report=out / "report.html",
    config={"network": {"width": 64, "architecture": "mlp"}, "members": 1, "batch_size": 8,
            "min_steps": 3000, "checkpoint_seconds": 0.2, "model": "network"},
))
"""


def test_a_spot_node_that_goes_and_comes_back(
    make_splits: Any, tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM on the device: the task saves itself, and the next try goes on from there."""
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    command = [sys.executable, "-c", KILLED, str(make_splits(rows=3000)), str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "rows/s" in line and '"done": 0.0' not in line:
            process.send_signal(signal.SIGTERM)
            break
    rest = process.stdout.read()
    assert process.wait() == 1
    assert "received SIGTERM and saved its state" in rest
    assert list((tmp_path / "home").rglob("*.ckpt"))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list((tmp_path / "home").rglob("*.ckpt"))
