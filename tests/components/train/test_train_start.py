"""What stands before the first step: the fused optimiser in place of torch's, and few imports."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from slipway.components.train.model.adamw import AdamW


def networks() -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    ours = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1))
    theirs = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("decay", [0.0, 0.03])
def test_the_optimiser_is_torchs_bit_for_bit(decay: float) -> None:
    """Rates that change, a stop and a fresh start in the middle, against torch.optim.AdamW."""
    ours, theirs = networks()
    mine = AdamW(ours.parameters(), weight_decay=decay)
    oracle = torch.optim.AdamW(theirs.parameters(), weight_decay=decay, fused=True)
    generator = torch.Generator().manual_seed(1)
    for step in range(60):
        batch = torch.randn(32, 7, generator=generator)
        rate = 0.01 * (1 + step % 7)
        ours(batch).square().mean().backward()
        mine.step(rate)
        assert all(p.grad is None for p in ours.parameters()), "the next step begins without"
        for group in oracle.param_groups:
            group["lr"] = rate
        oracle.zero_grad()
        theirs(batch).square().mean().backward()
        oracle.step()
        if step == 30:
            saved = mine.state_dict()
            expected = oracle.state_dict()["state"]
            assert saved["state"].keys() == expected.keys()
            for i, state in expected.items():
                assert all(torch.equal(saved["state"][i][name], state[name]) for name in state)
            mine = AdamW(ours.parameters(), weight_decay=decay)
            mine.load_state_dict(saved)
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(RuntimeError, match="no gradient"):
        mine.step(0.1)


STAGE = """
import os, sys
from pathlib import Path
import slipway.components.train.loop as loop
from slipway.components.train.train import TrainingTask, train_model
def stop(*_):
    heavy = ("torch._dynamo", "mlflow", "onnx", "onnxruntime", "optuna", "sklearn", "scipy", "polars")
    print("LOADED", [name for name in heavy if name in sys.modules], flush=True)
    os._exit(0)
loop.batch_loss = stop
train_model(TrainingTask(splits=Path(sys.argv[1]), project="toy", config={"model": "network"},
    seed=0, epochs=1, learning_rate=1e-3, gpus=0, allow_cpu=True, bundle=Path(sys.argv[2]) / "bundle",
    report=Path(sys.argv[2]) / "r.html"))
"""


def test_nothing_heavy_is_imported_before_the_first_step(make_splits: Any, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STAGE, str(make_splits(rows=600)), str(tmp_path)],
        env={"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "LOADED []" in done.stdout, done.stdout + done.stderr
