"""What the network learns of each kind of label: the loss, the answers, and how they are calibrated.

One class a kind. `outputs` numbers leave the network for each of its heads, and each head is trained on
its own answer; the model's answer is the mean over heads and members, then calibrated on the validation
part. From the outputs on all is float64, in torch and in the graph: where a probability is near 1, a
float32 has lost most of what is left to 1, and a calibration that draws answers back would show it.
See `components/metrics/kinds` for what answers and labels are.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from slipway.components.config.training import TrainingConfig
from slipway.components.contracts.splits import Splits
from slipway.components.metrics import binary, multiclass
from slipway.components.metrics.costs import cost_matrix
from slipway.components.metrics.kinds.base import LabelType
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.metrics.threshold import choose_threshold
from slipway.components.support.errors import SlipwayError
from slipway.components.train.heads.conformal import conform, fit_sets
from slipway.components.train.heads.platt import Platt, fit_platt
from slipway.components.train.heads.temperature import Temperature, fit_temperature

if TYPE_CHECKING:
    from slipway.components.train.graph.builder import GraphBuilder

Weights = np.ndarray | None
_LEAST = 1e-7  # a probability below it counts as so much where its logarithm is taken


class Head(ABC):
    """One kind of label, as it is learned.

    Attributes:
        loss_name: the validation loss, among an epoch's measures.
        quality_name: the measure that early stopping maximises where it does not watch the loss; also
            what a feature's importance is measured in.
    """

    loss_name: ClassVar[str]
    quality_name: ClassVar[str]
    outputs: int = 1

    @abstractmethod
    def check(self, labels: np.ndarray, part: str) -> None:
        """Refuses labels that nothing can be learned from.

        Raises:
            SlipwayError: saying what they lack.
        """

    @abstractmethod
    def encode(self, labels: np.ndarray) -> np.ndarray:
        """The labels as the loss takes them: float32 [N]."""

    @abstractmethod
    def class_factors(self, labels: np.ndarray, base: np.ndarray, config: TrainingConfig) -> Any:
        """What each row's weight is multiplied by for the sake of its class: [N], or one number."""

    @abstractmethod
    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, the mean over the heads: float32 [B].

        Args:
            outputs: [B, heads] or [B, heads, outputs].
            labels: encoded, float32 [B].
        """

    @abstractmethod
    def answer(self, outputs: Tensor) -> Tensor:
        """The answers of one member before calibration, the mean over the heads.

        Args:
            outputs: [N, heads] or [N, heads, outputs].

        Returns:
            float64 [N] or [N, W].
        """

    def answer_trees(self, outputs: Tensor) -> Tensor:
        """The answers of trees before calibration: float64 [N] or [N, W].

        Args:
            outputs: float32 [N, outputs], of one model.
        """
        return self.answer(outputs if self.outputs == 1 else outputs.unsqueeze(1))

    def in_units(self, answers: np.ndarray) -> np.ndarray:
        """Answers before calibration, or encoded labels, in the units of the label."""
        return answers

    @abstractmethod
    def calibrate(self, answers: Tensor) -> Tensor:
        """The calibrated answers of the mean of all members: float64 [N] or [N, W]."""

    @abstractmethod
    def write_link(self, graph: "GraphBuilder", outputs: str) -> str:
        """Adds to an ONNX graph what `answer` does before its mean.

        Args:
            graph: to add to.
            outputs: float32, the outputs along the last dimension.

        Returns:
            float64 of the same shape.
        """

    @abstractmethod
    def write_calibration(self, graph: "GraphBuilder", answers: str) -> str:
        """Adds to an ONNX graph what `calibrate` does.

        Args:
            graph: to add to.
            answers: float64 [N, outputs].
        """

    @abstractmethod
    def write_combination(
        self, graph: "GraphBuilder", answers: Sequence[str], factors: Sequence[float]
    ) -> str:
        """Adds to an ONNX graph what `combine` does.

        Args:
            graph: to add to.
            answers: of each model, float64 [N, outputs].
            factors: see `combine`.
        """

    @abstractmethod
    def fit(self, labels: np.ndarray, answers: np.ndarray, config: TrainingConfig) -> "Head":
        """The head with what the validation part says of calibration.

        Args:
            labels: float64 [N], as the tables have them.
            answers: uncalibrated, float32.
            config: resolved.
        """

    @abstractmethod
    def combine(self, answers: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
        """Several models' answers before calibration as one, where evidence adds up.

        Args:
            answers: of each model, as `answer` and `answer_trees` give them.
            factors: what each is multiplied by.

        Returns:
            float64 [N] or [N, W].
        """

    @abstractmethod
    def row_losses(self, labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """What each row's answer in units of the label loses: float64 [N]."""

    def evidence_unit(self, loss: float) -> float:
        """What a loss is divided by to be a log-likelihood, where the mean loss is so large."""
        return 1.0

    @property
    def confidence(self) -> float:
        """By how much calibration draws answers apart: 1 where it only moves them."""
        return 1.0

    @property
    @abstractmethod
    def is_calibrated(self) -> bool:
        """Whether `calibrate` changes anything."""

    @abstractmethod
    def measure(
        self, labels: np.ndarray, answers: np.ndarray, weights: Weights = None
    ) -> dict[str, float]:
        """The loss and the quality of answers in the units of the label, calibrated or not."""

    @abstractmethod
    def finish(
        self, labels: np.ndarray, answers: np.ndarray, config: TrainingConfig
    ) -> "tuple[LabelType, float]":
        """The kind of label with what the model decides by, and the threshold (0 where there is none)."""

    @abstractmethod
    def curve(self, labels: np.ndarray, answers: np.ndarray) -> list[dict[str, float]]:
        """The calibration curve; empty where there is none."""

    @property
    def scale(self) -> float:
        """How far a number's labels are spread; 1 for classes."""
        return 1.0

    @property
    def centre(self) -> float:
        """Where a number's labels lie; 0 for classes."""
        return 0.0

    def signature(self) -> dict[str, Any]:
        """What bundle.json notes of the calibration."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryHead(Head):
    """One of two classes: cross entropy, the mean probability, Platt's calibration.

    `costs` say what an answer costs by the true class; empty: nothing is said.
    """

    platt: Platt = field(default_factory=Platt)
    costs: dict[str, dict[str, float]] = field(default_factory=dict)

    loss_name: ClassVar[str] = "log_loss"
    quality_name: ClassVar[str] = "auc"

    def check(self, labels: np.ndarray, part: str) -> None:
        """Both classes must be there."""
        if labels.min() == labels.max():
            raise SlipwayError(
                f"All {len(labels):,} rows of the {part} part have label {labels[0]:.0f}: a model needs"
                " both classes. Check features.label, or widen the window."
            )

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """As they are."""
        return labels.astype(np.float32)

    def class_factors(self, labels: np.ndarray, base: np.ndarray, config: TrainingConfig) -> Any:
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
        return torch.sigmoid(self.platt.slope * _log_odds(answers) + self.platt.offset)

    def combine(self, answers: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
        """The sum of their log-odds."""
        return torch.sigmoid(_sum([_log_odds(each) for each in answers], factors))

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
        scaled = graph.add("Mul", _write_log_odds(graph, answers), slope)
        return graph.add("Sigmoid", graph.add("Add", scaled, offset))

    def write_combination(
        self, graph: "GraphBuilder", answers: Sequence[str], factors: Sequence[float]
    ) -> str:
        """See `combine`."""
        odds = [_write_log_odds(graph, each) for each in answers]
        return graph.add("Sigmoid", _write_sum(graph, odds, factors))

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

    def signature(self) -> dict[str, Any]:
        """See `Head`."""
        return {"slope": self.platt.slope, "offset": self.platt.offset}


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

    def check(self, labels: np.ndarray, part: str) -> None:
        """Two classes at least must be there."""
        if labels.min() == labels.max():
            raise SlipwayError(
                f"All {len(labels):,} rows of the {part} part are of class"
                f" {self.classes[int(labels[0])]}: a model needs more than one. Check features.label, or"
                " widen the window."
            )

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Places of classes, exact in float32."""
        return labels.astype(np.float32)

    def class_factors(self, labels: np.ndarray, base: np.ndarray, config: TrainingConfig) -> Any:
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
        scaled = _log(answers) * self.temperature.slope
        if self.temperature.offsets:
            scaled = scaled + torch.tensor(self.temperature.offsets, dtype=torch.float64)
        return torch.softmax(scaled, dim=1)

    def combine(self, answers: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
        """The sum of their log-probabilities."""
        return torch.softmax(_sum([_log(each) for each in answers], factors), dim=1)

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
        scaled = graph.add("Mul", _write_log(graph, answers), slope)
        if self.temperature.offsets:
            offsets = graph.constant(self.temperature.offsets, np.float64)
            scaled = graph.add("Add", scaled, offsets)
        return graph.add("Softmax", scaled, axis=-1)

    def write_combination(
        self, graph: "GraphBuilder", answers: Sequence[str], factors: Sequence[float]
    ) -> str:
        """See `combine`."""
        logs = [_write_log(graph, each) for each in answers]
        return graph.add("Softmax", _write_sum(graph, logs, factors), axis=-1)

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

    def signature(self) -> dict[str, Any]:
        """See `Head`."""
        found = self.temperature
        return {"slope": found.slope, "offsets": list(found.offsets)}


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

    def check(self, labels: np.ndarray, part: str) -> None:
        """There must be more than one value."""
        if labels.min() == labels.max():
            raise SlipwayError(
                f"All {len(labels):,} rows of the {part} part have label {labels[0]:g}: there is nothing"
                " to learn. Check features.label, or widen the window."
            )

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """In standard deviations from the mean."""
        return ((labels.astype(np.float64) - self.mean) / self.std).astype(np.float32)

    def class_factors(self, labels: np.ndarray, base: np.ndarray, config: TrainingConfig) -> Any:
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
        return _sum([each.double() for each in answers], factors)

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
        return _write_sum(graph, answers, factors)

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

    def signature(self) -> dict[str, Any]:
        """See `Head`."""
        return {"level": self.level, "margin": self.margin * self.std}


def _log_odds(probabilities: Tensor) -> Tensor:
    inner = probabilities.double().clamp(_LEAST, 1 - _LEAST)
    return torch.log(inner) - torch.log1p(-inner)


def _log(probabilities: Tensor) -> Tensor:
    return torch.log(probabilities.double().clamp(min=_LEAST))


def _write_log_odds(graph: "GraphBuilder", probabilities: str) -> str:
    least, most, one = (graph.constant(n, np.float64) for n in (_LEAST, 1 - _LEAST, 1.0))
    inner = graph.add("Clip", probabilities, least, most)
    against = graph.add("Log", graph.add("Sub", one, inner))
    return graph.add("Sub", graph.add("Log", inner), against)


def _write_log(graph: "GraphBuilder", probabilities: str) -> str:
    return graph.add("Log", graph.add("Clip", probabilities, graph.constant(_LEAST, np.float64)))


def _sum(values: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    first, *rest = (value * factor for value, factor in zip(values, factors, strict=True))
    for more in rest:
        first = first + more
    return first


def _write_sum(graph: "GraphBuilder", values: Sequence[str], factors: Sequence[float]) -> str:
    first, *rest = (
        graph.add("Mul", value, graph.constant(factor, np.float64))
        for value, factor in zip(values, factors, strict=True)
    )
    for more in rest:
        first = graph.add("Add", first, more)
    return first


def make_head(splits: Splits, labels: np.ndarray, config: TrainingConfig) -> Head:
    """The head for a table's kind of label.

    Args:
        splits: what the tables hold.
        labels: of the training part, float64 [N].
        config: the `training` section.
    """
    if splits.label_kind == "multiclass":
        return MulticlassHead(classes=splits.classes, costs=splits.costs)
    if splits.label_kind == "number":
        std = float(labels.std())
        return NumberHead(level=config.interval, mean=float(labels.mean()), std=std or 1.0)
    return BinaryHead(costs=splits.costs)
