"""The training loop: batches sliced from tensors on the device, early stopping, checkpoints.

A training is a list of members one after another; a member is a list of epochs; an epoch is a list of
steps. All random choices follow from the seed, the member and the epoch, and the state of the generator
that dropout draws from is saved, so a run that goes on from a checkpoint takes the same steps.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slipway.components.config.training import TrainingConfig
from slipway.components.support.errors import SlipwayError
from slipway.components.support.pages.digits import remaining
from slipway.components.support.stage import progress
from slipway.components.train.data.source import RowSource
from slipway.components.train.data.tables import TrainingRows
from slipway.components.train.distributed.world import World
from slipway.components.train.heads.base import Head
from slipway.components.train.heads.binary import BinaryHead
from slipway.components.train.model.adamw import AdamW
from slipway.components.train.process.budget import Budget
from slipway.components.train.process.checkpoint import Checkpoint
from slipway.components.train.process.preemption import Preempted, stop_on_sigterm

_EVALUATION_ROWS = 1024
_PROGRESS_SECONDS = 2.0
_CUDA_COLLECT_EVERY = 16  # reading a loss back waits for the device, which then idles
Log = Callable[[dict[str, float], int], None]
"""Takes metrics by name, and the step."""


@dataclass(slots=True, kw_only=True)
class MemberState:
    """Where the training of one member stands: all of it goes into a checkpoint."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_value: float = -math.inf
    best_epoch: int = -1
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    began: float = 0.0  # seconds of the budget that were spent before this member


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedMember:
    """A trained member: its best weights and what each of its epochs measured.

    Attributes:
        seconds: of the wall clock that it took.
        cut: whether the time was over before its end.
    """

    weights: dict[str, Tensor]
    history: list[dict[str, float]]
    best_epoch: int
    seconds: float = 0.0
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _PendingLoss:
    """A step whose loss has not been read back from the device yet."""

    rate: float
    rows: TrainingRows
    batch: Tensor
    loss: Tensor


@dataclass(slots=True, kw_only=True)
class Training:
    """Trains the members of one model.

    Attributes:
        make_network: builds a member's network, in the state that the global seed gives.
        source: the training rows.
        validation: the rows that early stopping watches, on the device.
        head: what is learned of the label.
        config: resolved: without `auto`.
        checkpoint: where the state is kept.
        log: takes each epoch's metrics.
        run_id: the MLflow run, kept in the checkpoint for the retry to go on with.
        scaled_names: features behind the columns of `TrainingRows.scaled`, for messages.
        budget: the time for all members. The first one may take it whole; another begins where as much
            is left as the longest one took.
        world: with several processes, each takes its share of every batch.
        title: what the progress line begins with.
    """

    make_network: Callable[[], nn.Module]
    source: RowSource
    validation: TrainingRows
    config: TrainingConfig
    device: torch.device
    checkpoint: Checkpoint
    log: Log
    head: Head = field(default_factory=BinaryHead)
    run_id: Callable[[], str | None] = lambda: None
    scaled_names: list[str] = field(default_factory=list)
    world: World = field(default_factory=World)
    title: str = ""
    budget: Budget = field(default_factory=Budget)
    _over: float = 0.0  # share of the member's time that is over, the same in all processes
    _saved_at: float = 0.0
    _shown_at: float = 0.0
    _started: float = 0.0
    _rows_done: int = 0
    _pending: list[_PendingLoss] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _stop_agreed: bool = False

    @property
    def batch_size(self) -> int:
        """Rows a step, over all processes."""
        return int(self.config.batch_size)

    @property
    def members(self) -> int:
        """Networks to train."""
        return int(self.config.members)

    @property
    def epochs(self) -> int:
        """Epochs of a member, at most."""
        return int(self.config.epochs)

    @property
    def passes(self) -> int:
        """Passes over the table in one epoch: more than one where the table is small."""
        wanted = int(self.config.min_steps) / self.epochs
        return max(1, math.ceil(wanted * self.batch_size / len(self.source)))

    @property
    def rows_per_epoch(self) -> int:
        """Rows that one epoch sees, each as often as there are passes."""
        return self.passes * len(self.source)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch."""
        return self.source.steps(self.passes, self.batch_size)

    def run(self, saved: dict[str, Any]) -> list[TrainedMember]:
        """Trains all members.

        Args:
            saved: a checkpoint's state to go on from; empty starts from the beginning.

        Raises:
            SlipwayError: the loss was not finite, or the device's memory did not suffice.
            Preempted: the process received SIGTERM.
        """
        if self.device.type == "cuda":
            # TF32 for what autocast leaves in float32: the loss itself is no matrix product.
            torch.set_float32_matmul_precision("high")
        members = [TrainedMember(**member) for member in saved.get("members", [])]
        self.budget.resume(saved.get("spent", 0.0))
        self._started = self._saved_at = time.monotonic()
        self._rows_done = 0
        with stop_on_sigterm() as self._stopping, self._enough_memory():
            for index in range(len(members), self.members):
                current = saved.get("current") if index == len(saved.get("members", [])) else None
                if current is None and not self._has_time(members):
                    break
                members.append(self._train_member(index, current, members))
                self._save(members, None)
        return members

    def _has_time(self, done: list[TrainedMember]) -> bool:
        """Whether another member is likely to come to its end; the first one begins whatever is left."""
        if not done or not self.budget.limited:
            return True
        needed = max(member.seconds for member in done)
        if self._agreed(self.budget.left) >= needed:
            return True
        progress(
            f"no further member: of training.minutes less is left than the {needed:.0f} s it takes"
        )
        return False

    def _agreed(self, value: float) -> float:
        """The mean over the processes, which then decide alike."""
        if self.world.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(shared)
        return float(shared) / self.world.size

    def _train_member(
        self,
        index: int,
        saved: dict[str, Any] | None,
        done: list[TrainedMember],
    ) -> TrainedMember:
        torch.manual_seed(self.config.seed + 1_000_003 * index)
        network = self.make_network().to(self.device)
        if self.world.rank:
            # The networks start alike; what dropout leaves out differs from process to process.
            torch.manual_seed(self.config.seed + 1_000_003 * index + 7919 * self.world.rank)
        optimizer = AdamW(network.parameters(), weight_decay=float(self.config.weight_decay))
        state = MemberState(began=self.budget.spent)
        if saved is not None:
            network.load_state_dict(saved["network"])
            optimizer.load_state_dict(saved["optimizer"])
            state = MemberState(**saved["state"])
            if not self.world.rank:
                _set_random_state(saved["random"], self.device)
        forward: Any = network
        if self.world.size > 1:
            devices = [self.device.index] if self.device.type == "cuda" else None
            forward = nn.parallel.DistributedDataParallel(network, device_ids=devices)
        if self.config.compile:
            forward = torch.compile(forward)

        def save() -> None:
            self._collect_losses(index, network, state)
            self._save(
                done,
                {
                    "network": network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "state": {name: getattr(state, name) for name in state.__slots__},
                    "random": _random_state(self.device),
                },
            )

        self._over = 0.0
        while state.epoch < self.epochs and not self._is_stale(state) and self._over < 1:
            self._train_epoch(index, forward, optimizer, state, save)
            self._end_epoch(index, network, state)
        cut = self._over >= 1 and state.epoch < self.epochs and not self._is_stale(state)
        if cut:
            progress(f"member {index + 1}: training.minutes are over after {state.epoch} epochs")
        return TrainedMember(
            weights=state.best,
            history=state.history,
            best_epoch=state.best_epoch,
            seconds=self.budget.spent - state.began,
            cut=cut,
        )

    def _is_stale(self, state: MemberState) -> bool:
        return state.epoch - 1 - state.best_epoch >= int(self.config.patience) and state.epoch > 0

    def _train_epoch(
        self,
        index: int,
        network: nn.Module,
        optimizer: AdamW,
        state: MemberState,
        save: Callable[[], None],
    ) -> None:
        network.train()
        generator = torch.Generator().manual_seed(
            (self.config.seed * 1009 + index) * 100_003 + state.epoch
        )
        buffers = self.source.epoch(generator, self.passes, self.batch_size, state.step)
        for rows, order in buffers:
            for batch in order.split(self.batch_size):
                self._train_step(index, network, optimizer, state, rows, batch)
                now = time.monotonic()
                alone = self.world.size == 1
                if self._over >= 1:
                    return
                if self._stop_agreed or (alone and self._stopping.is_set()):
                    save()
                    raise Preempted(
                        f"Training received SIGTERM and saved its state at member {index + 1},"
                        f" epoch {state.epoch + 1}, step {state.step}. Run the task again to resume."
                    )
                # Saving adds up the losses, together with the others: not at a step of one's own clock.
                together = alone or not self._pending
                if together and now - self._saved_at >= self.config.checkpoint_seconds:
                    save()
                if now - self._shown_at >= _PROGRESS_SECONDS:
                    self._show(index, state, now)

    def _train_step(
        self,
        index: int,
        network: nn.Module,
        optimizer: AdamW,
        state: MemberState,
        rows: TrainingRows,
        batch: Tensor,
    ) -> None:
        rate = self._learning_rate(state.epoch * self.steps_per_epoch + state.step)
        share = batch[self.world.rank :: self.world.size]
        with self._autocast():
            # The mean of the processes' gradients is then that of the whole batch.
            loss = batch_loss(network, self.head, rows, share, len(batch) / self.world.size)
        loss.backward()
        optimizer.step(rate)
        state.step += 1
        self._rows_done += len(batch)
        self._pending.append(_PendingLoss(rate=rate, rows=rows, batch=batch, loss=loss.detach()))
        if len(self._pending) >= (_CUDA_COLLECT_EVERY if self.device.type == "cuda" else 1):
            self._collect_losses(index, network, state)

    def _share_over(self, state: MemberState) -> float:
        """Of the time that there was for the member when it began; 0 without a limit."""
        if not self.budget.limited:
            return 0.0
        return (self.budget.spent - state.began) / max(self.budget.seconds - state.began, 1e-9)

    def _collect_losses(self, index: int, network: nn.Module, state: MemberState) -> None:
        """Adds up the losses of the last steps.

        Raises:
            SlipwayError: one of them is not finite.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        losses = torch.stack([step.loss for step in pending])
        over = self._share_over(state)
        if self.world.size > 1:
            # A request to stop and the time are reduced with the losses, so that all stop after the
            # same step and take steps of the same length.
            own = losses.new_tensor([float(self._stopping.is_set()), over])
            shared = torch.cat([losses, own])
            torch.distributed.all_reduce(shared)
            losses = shared[:-2] / self.world.size
            self._stop_agreed = bool(shared[-2] > 0)
            over = float(shared[-1]) / self.world.size
        self._over = over
        for back, (step, value) in enumerate(zip(pending, losses.tolist(), strict=True), 1):
            if not math.isfinite(value):
                number = state.step - len(pending) + back
                self._explain(
                    f"epoch {state.epoch + 1}, step {number}", index, step, network, value
                )
            state.loss_sum += value * len(step.batch)

    def _end_epoch(self, index: int, network: nn.Module, state: MemberState) -> None:
        self._collect_losses(index, network, state)
        answers = predict(network, self.head, self.validation)
        labels = self.head.in_units(self.validation.labels.cpu().numpy().astype(np.float64))
        weights = self.validation.weights.cpu().numpy().astype(np.float64)
        measured = {
            "train_loss": state.loss_sum / self._rows_seen(state),
            **self.head.measure(labels, self.head.in_units(answers), weights),
        }
        better = quality(self.head, self.config, measured)
        if better > state.best_value:
            state.best_value, state.best_epoch = better, state.epoch
            state.best = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
        state.history.append(measured)
        self.log(
            {f"member_{index + 1}/{name}": value for name, value in measured.items()},
            state.epoch + 1,
        )
        state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
        self._show(index, state, time.monotonic())

    def _rows_seen(self, state: MemberState) -> int:
        """Rows of this epoch so far: of its last step there may be fewer than `batch_size`."""
        return min(state.step * self.batch_size, self.rows_per_epoch)

    def _learning_rate(self, step: int) -> float:
        """Along a cosine, to 0 at the last step or when the time is over, whichever comes first."""
        total = self.epochs * self.steps_per_epoch
        if self._over * total > step:
            return float(self.config.learning_rate) * 0.5 * (1 + math.cos(math.pi * self._over))
        return float(self.config.learning_rate) * 0.5 * (1 + math.cos(math.pi * step / total))

    @contextmanager
    def _enough_memory(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise SlipwayError(
                f"The device {self.device} is out of memory with batches of {self.batch_size:,} rows."
                " Lower training.batch_size, training.network.width or training.buffer_rows, or ask"
                f" for a larger device. ({str(error).splitlines()[0]})"
            ) from error

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def _save(self, members: list[TrainedMember], current: dict[str, Any] | None) -> None:
        self._saved_at = time.monotonic()
        if self.world.rank:
            return
        finished = [{k: getattr(m, k) for k in m.__slots__} for m in members]
        state: dict[str, Any] = {"members": finished, "run_id": self.run_id()}
        if self.budget.limited:
            state["spent"] = self.budget.spent
        if current is not None:
            state["current"] = current
        try:
            self.checkpoint.save(state)
        except OSError as error:
            # The store may be back at the next save; what was trained so far is not thrown away.
            progress(f"The checkpoint {self.checkpoint.path} could not be written: {error}"[:300])

    def _show(self, index: int, state: MemberState, now: float) -> None:
        self._shown_at = now
        if self.world.rank:
            return
        steps = self.steps_per_epoch
        per_second = self._rows_done / max(now - self._started, 1e-9)
        done = (index * self.epochs + state.epoch) * steps + state.step
        total = self.members * self.epochs * steps
        last = state.history[-1] if state.history else None
        if state.step:
            loss = state.loss_sum / self._rows_seen(state)
        else:
            loss = last["train_loss"] if last else math.nan
        name = self.head.quality_name
        measured = f", validation {name.upper()} {last[name]:.4f}" if last else ""
        left = (total - done) * self.batch_size / max(per_second, 1e-9)
        left = max(0.0, min(left, self.budget.left))
        epoch = min(state.epoch + 1, self.epochs)
        progress(
            f"{self.title}member {index + 1} of {self.members}, epoch {epoch}"
            f" of {self.epochs}, loss {loss:.4f}{measured}, {per_second:,.0f} rows/s,"
            f" {remaining(left)} left",
            done=done / total,
        )

    def _explain(
        self, where: str, index: int, step: _PendingLoss, network: nn.Module, value: float
    ) -> None:
        """Raises the error for a loss that is not finite."""
        rows, batch = step.rows, step.batch
        finite = torch.isfinite(rows.scaled[batch]).all(0).tolist()
        bad = [name for name, good in zip(self.scaled_names, finite, strict=True) if not good]
        if not torch.isfinite(rows.weights[batch]).all():
            bad.append("the row weights")
        spoilt = [name for name, p in network.named_parameters() if not torch.isfinite(p).all()]
        if bad:
            cause = f"Not finite in this batch: {', '.join(bad)}."
        elif spoilt:
            cause = (
                f"All features are finite, but the weights {', '.join(spoilt[:3])} are not:"
                " training diverged. Lower training.learning_rate."
            )
        else:
            cause = (
                "All features and weights are finite: training diverged. Lower"
                " training.learning_rate."
            )
        raise SlipwayError(
            f"The loss was {value} at member {index + 1}, {where}, learning rate {step.rate:.3g}."
            f" {cause}"
        )


def batch_loss(
    network: nn.Module, head: Head, rows: TrainingRows, batch: Tensor, total: float
) -> Tensor:
    """Weighted loss of a batch's rows; each of the network's heads is trained on its own answer.

    Args:
        network: gives outputs [B, heads] or [B, heads, outputs].
        head: what is learned of the label.
        rows: the table.
        batch: int64 [B], the rows to take.
        total: what the sum over the rows is divided by.
    """
    outputs = network(
        rows.scaled.index_select(0, batch),
        rows.plain.index_select(0, batch),
        rows.codes.index_select(0, batch),
    )
    losses = head.losses(outputs, rows.labels.index_select(0, batch))
    return (losses * rows.weights.index_select(0, batch)).sum() / total


def quality(head: Head, config: TrainingConfig, measured: dict[str, float]) -> float:
    """What early stopping maximises, of an epoch's measures."""
    if config.monitor == "auc" and head.quality_name == "auc":
        return measured["auc"]
    return -measured[head.loss_name]


def predict(network: nn.Module, head: Head, rows: TrainingRows) -> np.ndarray:
    """One member's answers before calibration: float64 [N] or [N, W]."""
    was_training = network.training
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), _EVALUATION_ROWS):
            cut = slice(start, start + _EVALUATION_ROWS)
            outputs = network(rows.scaled[cut], rows.plain[cut], rows.codes[cut])
            parts.append(head.answer(outputs.float()).cpu())
    network.train(was_training)
    return torch.cat(parts).numpy()


def _random_state(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
