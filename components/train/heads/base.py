"""What the network learns of each kind of label: the loss, the answers, and how they are calibrated.

One class a kind. `outputs` numbers leave the network for each of its heads, and each head is trained on
its own answer; the model's answer is the mean over heads and members, then calibrated on the validation
part. From the outputs on all is float64, in torch and in the graph: where a probability is near 1, a
float32 has lost most of what is left to 1, and a calibration that draws answers back would show it.
See `components/metrics/kinds` for what answers and labels are.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from slipway.components.config.training import TrainingConfig
from slipway.components.metrics.kinds.base import LabelType

if TYPE_CHECKING:
    from slipway.components.train.graph.builder import GraphBuilder


Weights = np.ndarray | None


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
    def check(self, labels: np.ndarray, part: str, rows: str = "rows") -> None:
        """Refuses labels that nothing can be learned from.

        Args:
            labels: float64 [N], as the splits have them.
            part: whose labels these are, for the message.
            rows: which of its rows, for the message.

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

    def signature(self) -> dict[str, object]:
        """What bundle.json notes of the calibration."""
        return {}
