"""One of several classes, as it is learned."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from slipway.components.config.training import TrainingConfig
from slipway.components.metrics import binary, multiclass
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.support.errors import SlipwayError
from slipway.components.train.heads.base import Head, Weights
from slipway.components.train.heads.conformal import fit_sets
from slipway.components.train.heads.logs import add_up, log, write_log, write_sum
from slipway.components.train.heads.temperature import Temperature, fit_temperature

if TYPE_CHECKING:
    from slipway.components.train.graph.builder import GraphBuilder


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticlassHead(Head):
    """One of several classes: cross entropy, the mean probabilities, temperature calibration."""

    classes: tuple[str, ...]
    temperature: Temperature = field(default_factory=Temperature)
    costs: dict[str, dict[str, float]] = field(default_factory=dict)

    loss_name: ClassVar[str] = "log_loss"
    quality_name: ClassVar[str] = "auc"

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """One a class."""
        return len(self.classes)

    def check(self, labels: np.ndarray, part: str, rows: str = "rows") -> None:
        """Two classes at least must be there."""
        if labels.min() == labels.max():
            raise SlipwayError(
                f"All {len(labels):,} {rows} of the {part} part are of class"
                f" {self.classes[int(labels[0])]}: a model needs more than one. Check features.label, or"
                " widen the window."
            )

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Places of classes, exact in float32."""
        return labels.astype(np.float32)

    def class_factors(self, labels: np.ndarray, base: np.ndarray, config: TrainingConfig) -> object:
        """By `class_weights`."""
        wanted = config.class_weights
        if wanted is None:
            return 1.0
        places = labels.astype(np.int64)
        if wanted == "balanced":
            totals = np.bincount(places, base, len(self.classes))
            factors = np.divide(base.sum(), totals, out=np.zeros_like(totals), where=totals > 0)
        else:
            unknown = sorted(set(wanted) - set(self.classes))
            if unknown:
                raise SlipwayError(
                    f"training.class_weights names {', '.join(unknown)}, which is no class of the label:"
                    f" they are {', '.join(self.classes)}."
                )
            factors = np.array([float(wanted.get(name, 1.0)) for name in self.classes])
        return factors[places].astype(np.float32)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy over the classes."""
        heads = outputs.shape[1]
        places = labels.long().unsqueeze(1).expand(-1, heads)
        losses = nn.functional.cross_entropy(
            outputs.float().flatten(0, 1), places.flatten(), reduction="none"
        )
        return losses.unflatten(0, (-1, heads)).mean(1)

    def answer(self, outputs: Tensor) -> Tensor:
        """Probabilities [N, K]."""
        return torch.softmax(outputs.double(), dim=2).mean(1)

    def calibrate(self, answers: Tensor) -> Tensor:
        """Softmax of the log-probabilities, scaled and moved."""
        if not self.is_calibrated:
            return answers
        scaled = log(answers) * self.temperature.slope
        if self.temperature.offsets:
            scaled = scaled + torch.tensor(self.temperature.offsets, dtype=torch.float64)
        return torch.softmax(scaled, dim=1)

    def combine(self, answers: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
        """The sum of their log-probabilities."""
        return torch.softmax(add_up([log(each) for each in answers], factors), dim=1)

    def row_losses(self, labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Minus the log of the probability of what was."""
        return multiclass.row_log_losses(labels, answers)

    @property
    def confidence(self) -> float:
        """One over the temperature."""
        return self.temperature.slope

    def write_link(self, graph: "GraphBuilder", outputs: str) -> str:
        """Softmax."""
        return graph.add("Softmax", graph.double(outputs), axis=-1)

    def write_calibration(self, graph: "GraphBuilder", answers: str) -> str:
        """See `calibrate`."""
        if not self.is_calibrated:
            return answers
        slope = graph.constant(self.temperature.slope, np.float64)
        scaled = graph.add("Mul", write_log(graph, answers), slope)
        if self.temperature.offsets:
            offsets = graph.constant(self.temperature.offsets, np.float64)
            scaled = graph.add("Add", scaled, offsets)
        return graph.add("Softmax", scaled, axis=-1)

    def write_combination(
        self, graph: "GraphBuilder", answers: Sequence[str], factors: Sequence[float]
    ) -> str:
        """See `combine`."""
        logs = [write_log(graph, each) for each in answers]
        return graph.add("Softmax", write_sum(graph, logs, factors), axis=-1)

    @property
    def is_calibrated(self) -> bool:
        """Whether the slope is not 1, or there are offsets."""
        return self.temperature != Temperature()

    def fit(
        self, labels: np.ndarray, answers: np.ndarray, config: TrainingConfig
    ) -> "MulticlassHead":
        """The slope; with class weights, which move the probabilities, an offset a class too."""
        if config.calibration == "none":
            return replace(self, temperature=Temperature())
        found = fit_temperature(labels, answers, offsets=config.class_weights is not None)
        return replace(self, temperature=found)

    def measure(
        self, labels: np.ndarray, answers: np.ndarray, weights: Weights = None
    ) -> dict[str, float]:
        """Mean AUC of each class against the rest, and log loss."""
        losses = multiclass.row_log_losses(labels, answers)
        return {
            "auc": multiclass.mean_auc(labels, answers, weights),
            "log_loss": float(np.average(losses, weights=weights)),
        }

    def finish(
        self, labels: np.ndarray, answers: np.ndarray, config: TrainingConfig
    ) -> tuple[LabelType, float]:
        """The greatest probability decides, or the least expected cost."""
        edge = None if config.sets is None else fit_sets(labels, answers, config.sets)
        label = label_type(
            "multiclass",
            classes=self.classes,
            costs=self.costs,
            level=config.sets or 0.0,
            set_threshold=edge,
        )
        return label, 0.0

    def curve(self, labels: np.ndarray, answers: np.ndarray) -> list[dict[str, float]]:
        """Of the called class: mean probability and share of hits by bin."""
        called, sure = multiclass.confidence(answers)
        return binary.calibration_curve((called == labels).astype(float), sure)

    def signature(self) -> dict[str, object]:
        """See `Head`."""
        found = self.temperature
        return {"slope": found.slope, "offsets": list(found.offsets)}
