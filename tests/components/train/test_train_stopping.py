"""Early stopping: when it ends a training, when it does not, and which epoch's weights are kept."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from slipway.components.config.training import TrainingConfig
from slipway.components.train.data.source import Resident
from slipway.components.train.data.tables import TrainingRows
from slipway.components.train.heads.binary import BinaryHead
from slipway.components.train.loop import TrainedMember, Training
from slipway.components.train.process.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class ScriptedHead(BinaryHead):
    """Its validation measures are told beforehand, one an epoch."""

    script: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)

    def measure(
        self, labels: np.ndarray, answers: np.ndarray, weights: np.ndarray | None = None
    ) -> dict[str, float]:
        """The next of them, as both."""
        self.told.append(self.script[len(self.told)])
        return {"auc": self.told[-1], "log_loss": -self.told[-1]}


class Line(nn.Module):
    """One weight, which each step moves."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(
        self, scaled: torch.Tensor, plain: torch.Tensor, codes: torch.Tensor
    ) -> torch.Tensor:
        """[N, 1]."""
        return plain * self.weight


def train(script: list[float], patience: int, folder: Path, monitor: str) -> TrainedMember:
    plain = torch.linspace(-1, 1, 32).view(-1, 1)
    rows = TrainingRows(
        scaled=torch.empty(32, 0),
        plain=plain,
        codes=torch.empty(32, 0, dtype=torch.int32),
        labels=(plain[:, 0] > 0).float(),
        weights=torch.ones(32),
    )
    asked = {
        "epochs": len(script),
        "patience": patience,
        "min_steps": 1,
        "batch_size": 32,
        "members": 1,
        "monitor": monitor,
    }
    training = Training(
        make_network=Line,
        source=Resident(rows=rows),
        validation=rows,
        head=ScriptedHead(script=script),
        config=TrainingConfig.model_validate(asked).resolve(32),
        device=torch.device("cpu"),
        checkpoint=Checkpoint(str(folder), "stopping", "x"),
        log=lambda values, step: None,
    )
    (member,) = training.run({})
    return member


@pytest.mark.parametrize("monitor", ["auc", "log_loss"])
@pytest.mark.parametrize(
    ("script", "patience", "taken", "best"),
    [
        ([0.5, 0.6, 0.7, 0.8], 1, 4, 3),  # it gets better to the end
        ([0.8, 0.7, 0.6, 0.5, 0.9], 3, 4, 0),  # the first one is best: patience runs out
        ([0.8, 0.7, 0.6, 0.9, 0.5], 3, 5, 3),  # the last chance is taken
        ([0.5, 0.8, 0.7, 0.9, 0.8, 0.8, 0.8, 1.0], 2, 6, 3),  # counted from the best one
        ([0.8, 0.8, 0.8, 0.9], 2, 3, 0),  # as good is not better
        ([0.5, 0.4], 1, 2, 0),
    ],
)
def test_training_ends_where_validation_no_longer_gets_better(
    tmp_path: Path, script: list[float], patience: int, taken: int, best: int, monitor: str
) -> None:
    member = train(script, patience, tmp_path, monitor)
    assert [point["auc"] for point in member.history] == script[:taken]
    assert member.best_epoch == best
    # The weights are those of that epoch: of a training to the end that is best there.
    rising = [2.0 + epoch for epoch in range(best + 1)] + script[best + 1 :]
    whole = train(rising, len(script), tmp_path, monitor)
    assert (len(whole.history), whole.best_epoch) == (len(script), best)
    assert torch.equal(member.weights["weight"], whole.weights["weight"])
