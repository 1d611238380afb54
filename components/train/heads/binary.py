"""One of two classes, as it is learned."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from slipway.components.config.training import TrainingConfig
from slipway.components.metrics import binary
from slipway.components.metrics.costs import cost_matrix
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.metrics.threshold import choose_threshold
from slipway.components.support.errors import SlipwayError
from slipway.components.train.heads.base import Head, Weights
from slipway.components.train.heads.logs import add_up, log_odds, write_log_odds, write_sum
from slipway.components.train.heads.platt import Platt, fit_platt

if TYPE_CHECKING:
    from slipway.components.train.graph.builder import GraphBuilder


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryHead(Head):
    """One of two classes: cross entropy, the mean probability, Platt's calibration.

    `costs` say what an answer costs by the true class; empty: nothing is said.
    """

    platt: Platt = field(default_factory=Platt)
    costs: dict[str, dict[str, float]] = field(default_factory=dict)

    loss_name: ClassVar[str] = "log_loss"
    quality_name: ClassVar[str] = "auc"

    def check(self, labels: np.ndarray, part: str, rows: str = "rows") -> None:
        """Both classes must be there."""
        if labels.min() == labels.max():
            raise SlipwayError(
                f"All {len(labels):,} {rows} of the {part} part have label {labels[0]:.0f}: a model needs"
                " both classes. Check features.label, or widen the window."
            )

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """As they are."""
        return labels.astype(np.float32)

    def class_factors(self, labels: np.ndarray, base: np.ndarray, config: TrainingConfig) -> object:
        """`positive_weight` for the positive ones."""
        factor = config.positive_weight
        if isinstance(factor, str):
            positive = float((base * labels).sum())
            factor = (float(base.sum()) - positive) / max(positive, 1e-12)
        return np.where(labels == 1, np.float32(factor), np.float32(1))

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy."""
        spread = labels.unsqueeze(1).expand_as(outputs)
        return nn.functional.binary_cross_entropy_with_logits(
            outputs.float(), spread, reduction="none"
        ).mean(1)

    def answer(self, outputs: Tensor) -> Tensor:
        """Probability [N]."""
        return torch.sigmoid(outputs.double()).mean(1)

    def calibrate(self, answers: Tensor) -> Tensor:
        """Platt's two numbers on the log-odds."""
        if not self.is_calibrated:
            return answers
        return torch.sigmoid(self.platt.slope * log_odds(answers) + self.platt.offset)

    def combine(self, answers: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
        """The sum of their log-odds."""
        return torch.sigmoid(add_up([log_odds(each) for each in answers], factors))

    def row_losses(self, labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Minus the log of the probability of what was."""
        chance, against = binary.log_chances(answers.astype(np.float64))
        return -np.where(labels == 1, chance, against)

    @property
    def confidence(self) -> float:
        """Platt's slope."""
        return self.platt.slope

    def write_link(self, graph: "GraphBuilder", outputs: str) -> str:
        """Sigmoid."""
        return graph.add("Sigmoid", graph.double(outputs))

    def write_calibration(self, graph: "GraphBuilder", answers: str) -> str:
        """See `calibrate`."""
        if not self.is_calibrated:
            return answers
        slope, offset = (
            graph.constant(n, np.float64) for n in (self.platt.slope, self.platt.offset)
        )
        scaled = graph.add("Mul", write_log_odds(graph, answers), slope)
        return graph.add("Sigmoid", graph.add("Add", scaled, offset))

    def write_combination(
        self, graph: "GraphBuilder", answers: Sequence[str], factors: Sequence[float]
    ) -> str:
        """See `combine`."""
        odds = [write_log_odds(graph, each) for each in answers]
        return graph.add("Sigmoid", write_sum(graph, odds, factors))

    @property
    def is_calibrated(self) -> bool:
        """Whether the two numbers are not 1 and 0."""
        return self.platt != Platt()

    def fit(self, labels: np.ndarray, answers: np.ndarray, config: TrainingConfig) -> "BinaryHead":
        """Platt's two numbers, where the settings ask for them."""
        platt = fit_platt(labels, answers) if config.calibration == "platt" else Platt()
        return replace(self, platt=platt)

    def measure(
        self, labels: np.ndarray, answers: np.ndarray, weights: Weights = None
    ) -> dict[str, float]:
        """AUC and log loss."""
        return {
            "auc": binary.auc(labels, answers, weights),
            "log_loss": binary.log_loss(labels, answers, weights),
        }

    def finish(
        self, labels: np.ndarray, answers: np.ndarray, config: TrainingConfig
    ) -> tuple[LabelType, float]:
        """The threshold by the settings' rule."""
        matrix = cost_matrix(self.costs, ("0", "1")) if self.costs else None
        threshold = choose_threshold(labels, answers, config.threshold, matrix)
        return label_type("binary", threshold=threshold, costs=self.costs), threshold

    def curve(self, labels: np.ndarray, answers: np.ndarray) -> list[dict[str, float]]:
        """Mean probability and share of positives by bin."""
        return binary.calibration_curve(labels, answers)

    def signature(self) -> dict[str, object]:
        """See `Head`."""
        return {"slope": self.platt.slope, "offset": self.platt.offset}
