"""`training.minutes`: what has its time is as it was, and what has not keeps the best that there is."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.bundle import read_bundle
from slipway.components.contracts.splits import read_splits
from slipway.components.train import loop
from slipway.components.train.data.preparation import Prepared, prepare
from slipway.components.train.data.source import Resident
from slipway.components.train.data.tables import TrainingRows
from slipway.components.train.process.budget import Budget
from slipway.components.train.process.checkpoint import Checkpoint
from slipway.components.train.train import TrainingTask, train_model
from slipway.components.train.trees import fit

STEPS, EPOCHS = 4, 6
WHOLE = STEPS * EPOCHS
"""Seconds of a member that is not cut: each step takes one."""


@dataclass
class Clock:
    """Seconds that go on where a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Line(nn.Module):
    """One weight; each step of its training takes a second."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.clock = clock

    def forward(
        self, scaled: torch.Tensor, plain: torch.Tensor, codes: torch.Tensor
    ) -> torch.Tensor:
        """[N, 1]."""
        self.clock.now += self.training
        return plain * self.weight


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of each step."""
    seen: list[float] = []

    class Recorded(loop.AdamW):
        def step(self, rate: float) -> None:
            seen.append(rate)
            super().step(rate)

    monkeypatch.setattr(loop, "AdamW", Recorded)
    return seen


def train(
    folder: Path, seconds: float | None, *, members: int = 1, saved: dict[str, Any] | None = None
) -> list[loop.TrainedMember]:
    """Members whose loss falls to the end, within so many seconds."""
    plain = torch.linspace(-1, 1, 32).view(-1, 1)
    rows = TrainingRows(
        scaled=torch.empty(32, 0),
        plain=plain,
        codes=torch.empty(32, 0, dtype=torch.int32),
        labels=(plain[:, 0] > 0).float(),
        weights=torch.ones(32),
    )
    asked = {
        "epochs": EPOCHS,
        "patience": EPOCHS,
        "min_steps": 1,
        "batch_size": 32 // STEPS,
        "members": members,
        "monitor": "log_loss",
    }
    clock = Clock()
    training = loop.Training(
        make_network=lambda: Line(clock),
        source=Resident(rows=rows),
        validation=rows,
        config=TrainingConfig.model_validate(asked).resolve(32),
        device=torch.device("cpu"),
        checkpoint=Checkpoint(str(folder), "budget", "x"),
        log=lambda values, step: None,
        budget=Budget(clock=clock) if seconds is None else Budget(seconds=seconds, clock=clock),
    )
    return training.run(saved or {})


def test_what_has_its_time_is_as_without_a_limit(tmp_path: Path, rates: list[float]) -> None:
    (free,) = train(tmp_path, None)
    (timed,) = train(tmp_path, WHOLE + 1.0)
    assert rates[:WHOLE] == rates[WHOLE:]
    assert torch.equal(free.weights["weight"], timed.weights["weight"])
    assert (timed.history, timed.cut, timed.seconds) == (free.history, False, WHOLE)


def test_a_network_that_is_cut_keeps_its_best_epoch(tmp_path: Path, rates: list[float]) -> None:
    (member,) = train(tmp_path, 10.0)
    assert member.cut
    assert len(rates) == 10
    # The third epoch had two of its steps, and is measured all the same.
    assert (len(member.history), member.best_epoch) == (3, 2)
    losses = [epoch["train_loss"] for epoch in member.history]
    assert losses == sorted(losses, reverse=True)
    # The rate falls to nothing by then, as it does in a training that nothing cuts.
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.03 * rates[0]


def test_the_first_network_takes_a_step_whatever_is_left(tmp_path: Path) -> None:
    (member,) = train(tmp_path, -5.0)
    assert member.cut and len(member.history) == 1


@pytest.mark.parametrize(
    ("seconds", "trained", "cut"), [(10.0, 1, 1), (2.5 * WHOLE, 2, 0), (9.0 * WHOLE, 4, 0)]
)
def test_another_network_begins_where_one_has_time(
    tmp_path: Path, seconds: float, trained: int, cut: int
) -> None:
    found = train(tmp_path, seconds, members=4)
    assert [member.cut for member in found] == [True] * cut + [False] * (trained - cut)


def test_a_retried_task_has_what_is_left(tmp_path: Path, rates: list[float]) -> None:
    whole = train(tmp_path, None)
    kept = [{name: getattr(whole[0], name) for name in whole[0].__slots__}]
    rates.clear()
    ended = train(tmp_path, 3.0 * WHOLE, members=4, saved={"members": kept, "spent": 2.5 * WHOLE})
    assert (len(ended), rates) == (1, [])
    two = train(tmp_path, 3.0 * WHOLE, members=4, saved={"members": kept, "spent": 1.5 * WHOLE})
    assert (len(two), len(rates)) == (2, WHOLE)
    (cut,) = train(tmp_path, 3.0 * WHOLE, saved={"spent": 3.0 * WHOLE - 5})
    assert cut.cut and len(rates) == WHOLE + 5


def prepared_of(splits: Path, **config: Any) -> Prepared:
    settings = TrainingConfig.parse(config, "training")
    return prepare(splits, read_splits(splits), "toy", settings, torch.device("cpu"))


def grow(
    splits: Path, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> tuple[fit.GrownTrees, list[str]]:
    """Trees whose rounds take a second each, and what was trained in turn."""
    clock, begun, real = Clock(), [], fit._boost

    def boost(boosting: fit.Boosting, *others: Any) -> Any:
        begun.append(f"{boosting.name} {boosting.leaf_weight:g}")
        *others, watch = others
        after = watch.after_iteration

        def tick(*args: Any) -> bool:
            clock.now += 1
            return bool(after(*args))

        watch.after_iteration = tick
        return real(boosting, *others, watch)

    with monkeypatch.context() as patched:
        patched.setattr(fit, "_boost", boost)
        budget = Budget(clock=clock) if seconds is None else Budget(seconds=seconds, clock=clock)
        prepared = prepared_of(splits, trees={"rounds": 30})
        grown = fit.grow_trees(splits, prepared, Checkpoint("", "", ""), budget=budget)
    return grown, begun


def test_trees_end_with_their_time(make_splits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = make_splits(rows=600)
    free, both = grow(splits, None, monkeypatch)
    timed, _ = grow(splits, 1000.0, monkeypatch)
    assert (timed.models, timed.cut) == (free.models, False)
    assert both == ["log_loss 5", "log_loss 0.2"]
    cut, one = grow(splits, 6.0, monkeypatch)
    assert (cut.cut, one, len(cut.history["log_loss"])) == (True, ["log_loss 5"], 6)
    assert cut.history["log_loss"] == free.history["log_loss"][:6]
    # There is time for one of the two, and not for both.
    once, first = grow(splits, 50.0, monkeypatch)
    assert (once.cut, first, len(once.history["log_loss"])) == (False, ["log_loss 5"], 30)
    none, _ = grow(splits, -1.0, monkeypatch)
    assert len(none.history["log_loss"]) == 2


def test_the_ends_of_an_interval_have_time_too(
    make_splits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def numbers(part: str, table: Any) -> Any:
        at = table.column_names.index("label")
        return table.set_column(at, "label", table["amount"].fill_null(0.0))

    grown, begun = grow(make_splits(rows=400, change=numbers, kind="number"), 10.0, monkeypatch)
    assert begun == ["rmse 5", "quantile_loss 5"]
    assert {name: len(losses) for name, losses in grown.history.items()} == {
        "rmse": 5,
        "quantile_loss": 5,
    }
    assert grown.cut


def test_a_model_that_time_cut_is_a_whole_bundle_and_says_so(
    make_splits: Any, tmp_path: Path, tracking: str
) -> None:
    """Both ways: the network and the trees are cut, and with time enough nothing is."""
    splits = make_splits(rows=400)
    small = {"network": {"width": 8, "layers": 1, "architecture": "mlp"}, "batch_size": 64}
    small |= {"min_steps": 20, "trees": {"rounds": 20}, "model": "blend", "members": "auto"}

    def run(minutes: float) -> tuple[dict[str, Any], str]:
        folder = tmp_path / f"{minutes:g}"
        task = TrainingTask(
            splits=splits,
            project="toy",
            config={**small, "minutes": minutes},
            seed=3,
            epochs=4,
            learning_rate=5e-3,
            gpus=0,
            allow_cpu=False,
            bundle=folder / "bundle",
            report=folder / "report.html",
        )
        train_model(task)
        assert read_bundle(folder / "bundle").output
        log = json.loads((folder / "bundle" / "training.json").read_text())
        return log, (folder / "report.html").read_text()

    log, page = run(0.0001)
    assert log["cut"] == ["the trees", "network 1"]
    assert "before the end of the trees and network 1" in page
    assert len(log["members"]) == 1
    log, page = run(30)
    assert log["cut"] == []
    assert "training.minutes" not in page.replace("&#34;", "")
    assert len(log["members"]) == 4
