"""A number, as it is learned."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from slipway.components.config.training import TrainingConfig
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.support.errors import SlipwayError
from slipway.components.train.heads.base import Head, Weights
from slipway.components.train.heads.conformal import conform
from slipway.components.train.heads.logs import (
    add_up,
    write_sum,
)

if TYPE_CHECKING:
    from slipway.components.train.graph.builder import GraphBuilder

_FARTHEST = 1e18  # standard deviations: the square of a float32 of twice as many is one still


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberHead(Head):
    """A number: squared error of the value, quantile loss of the ends, conformal intervals.

    The network learns the label less `mean`, over `std`. The ends of the interval are quantiles (Koenker
    and Bassett 1978), which conformalised quantile regression (Romano, Patterson, Candes, NeurIPS 2019)
    moves by `margin` so that they hold the share `level` of the validation part.

    Attributes:
        level: the share of labels that the intervals are to hold.
        mean, std: of the training labels.
        margin: in units of `std`; below 0 it draws the ends in.
    """

    level: float
    mean: float
    std: float
    margin: float = 0.0

    outputs: ClassVar[int] = 3  # type: ignore[misc]
    loss_name: ClassVar[str] = "rmse"
    quality_name: ClassVar[str] = "r2"

    def check(self, labels: np.ndarray, part: str, rows: str = "rows") -> None:
        """There must be more than one value, and each must have a square that float32 holds."""
        if labels.min() == labels.max():
            raise SlipwayError(
                f"All {len(labels):,} {rows} of the {part} part have label {labels[0]:g}: there is"
                " nothing to learn. Check features.label, or widen the window."
            )
        with np.errstate(over="ignore"):
            far = np.abs(self.encode(labels)) > _FARTHEST
        if far.any():
            raise SlipwayError(
                f"The label of the {part} part is as large as {np.abs(labels).max():g}, which is too far"
                f" from the train part's mean ({self.mean:g}, with a standard deviation of {self.std:g})"
                " to be learned. Correct those rows at the source, or let the schema refuse them"
                " (`maximum`)."
            )

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """In standard deviations from the mean."""
        return ((labels.astype(np.float64) - self.mean) / self.std).astype(np.float32)

    def class_factors(self, labels: np.ndarray, base: np.ndarray, config: TrainingConfig) -> object:
        """There are no classes."""
        return 1.0

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Half the squared error, and the quantile losses of the two ends."""
        gap = labels[:, None, None] - outputs.float()
        tail = (1 - self.level) / 2
        low, high = gap[:, :, 1], gap[:, :, 2]
        ends = torch.maximum(tail * low, (tail - 1) * low) + torch.maximum(
            (1 - tail) * high, -tail * high
        )
        return (gap[:, :, 0].square() / 2 + ends).mean(1)

    def answer(self, outputs: Tensor) -> Tensor:
        """Value, lower and upper end [N, 3], in standard deviations."""
        return outputs.double().mean(1)

    def in_units(self, answers: np.ndarray) -> np.ndarray:
        """See `Head`."""
        return answers * self.std + self.mean

    def calibrate(self, answers: Tensor) -> Tensor:
        """In units of the label; the value lies inside its interval."""
        answers = answers.double()
        value = answers[:, :1]
        low = torch.minimum(answers[:, 1:2] - self.margin, value)
        high = torch.maximum(answers[:, 2:3] + self.margin, value)
        return torch.cat([value, low, high], dim=1) * self.std + self.mean

    def combine(self, answers: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
        """The sum of their values, and of the ends of their intervals."""
        return add_up([each.double() for each in answers], factors)

    def row_losses(self, labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """What the network is trained with."""
        scaled = (answers.astype(np.float64) - self.mean) / self.std
        encoded = torch.from_numpy((labels - self.mean) / self.std)
        return self.losses(torch.from_numpy(scaled).unsqueeze(1), encoded).numpy()

    def evidence_unit(self, loss: float) -> float:
        """Errors are about normal, with a variance that is about twice the loss."""
        return 2 * loss

    def write_link(self, graph: "GraphBuilder", outputs: str) -> str:
        """As they are."""
        return graph.double(outputs)

    def write_calibration(self, graph: "GraphBuilder", answers: str) -> str:
        """See `calibrate`."""
        value, low, high = graph.split("Split", answers, outputs=3, axis=1, num_outputs=3)
        margin, std, mean = (
            graph.constant(number, np.float64) for number in (self.margin, self.std, self.mean)
        )
        low = graph.add("Min", graph.add("Sub", low, margin), value)
        high = graph.add("Max", graph.add("Add", high, margin), value)
        ends = graph.add("Concat", value, low, high, axis=1)
        return graph.add("Add", graph.add("Mul", ends, std), mean)

    def write_combination(
        self, graph: "GraphBuilder", answers: Sequence[str], factors: Sequence[float]
    ) -> str:
        """See `combine`."""
        return write_sum(graph, answers, factors)

    @property
    def is_calibrated(self) -> bool:
        """Always: the answers must come into units of the label."""
        return True

    def fit(self, labels: np.ndarray, answers: np.ndarray, config: TrainingConfig) -> "NumberHead":
        """The margin at which the intervals hold what they promise."""
        margin = conform(self.encode(labels).astype(np.float64), answers, self.level)
        return NumberHead(level=self.level, mean=self.mean, std=self.std, margin=margin)

    def measure(
        self, labels: np.ndarray, answers: np.ndarray, weights: Weights = None
    ) -> dict[str, float]:
        """Root mean squared error, in units of the label, and R2."""
        errors = (labels - answers[:, 0]) ** 2
        spread = (labels - np.average(labels, weights=weights)) ** 2
        lost = float(np.average(errors, weights=weights))
        return {
            "rmse": math.sqrt(lost),
            "r2": 1 - lost / float(np.average(spread, weights=weights)),
        }

    def finish(
        self, labels: np.ndarray, answers: np.ndarray, config: TrainingConfig
    ) -> tuple[LabelType, float]:
        """Nothing is decided by."""
        return label_type("number", level=self.level), 0.0

    def curve(self, labels: np.ndarray, answers: np.ndarray) -> list[dict[str, float]]:
        """There is none."""
        return []

    @property
    def scale(self) -> float:
        """Their standard deviation."""
        return self.std

    @property
    def centre(self) -> float:
        """Their mean."""
        return self.mean

    def signature(self) -> dict[str, object]:
        """See `Head`."""
        return {"level": self.level, "margin": self.margin * self.std}
