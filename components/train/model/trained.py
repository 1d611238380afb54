"""The members of an ensemble as one model, from raw feature values to calibrated answers."""

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from slipway.components.train.heads.base import Head
from slipway.components.train.model.preprocess import Preprocessor, RawArrays
from slipway.components.train.trees.forest import Forest
from slipway.components.train.trees.inputs import tree_matrix

CHUNK = 1024
"""Rows that a model takes at once."""


class TrainedModel(nn.Module):
    """Raw feature values to answers, calibrated where the head was fitted and `calibrated` is set.

    Args:
        preprocessor: what the networks read.
        members: networks; there may be none where there is something else.
        head: what is learned of the label.
        calibrated: whether `forward` calibrates.
        linear: a linear model beside the networks, or alone; it takes what they take.
        forest: trees, the same.
        factors: of the networks, the linear model and the trees, of those that there are, where there is
            more than one; see `Head.combine`.
        rounded: whether `forward` rounds its answers to the inputs' precision, or gives float64.
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        members: list[nn.Module],
        head: Head,
        *,
        calibrated: bool = True,
        linear: nn.Module | None = None,
        forest: Forest | None = None,
        factors: tuple[float, ...] = (),
        rounded: bool = True,
    ) -> None:
        super().__init__()
        self.preprocessor = preprocessor
        self.members = nn.ModuleList(members)
        self.head, self.calibrated = head, calibrated
        self.linear, self.forest = linear, forest
        self.factors, self.rounded = factors, rounded

    def forward(self, numeric: Tensor, codes: Tensor, time: Tensor) -> Tensor:
        """Answers [N] or [N, W], float32 for the inputs of `RawArrays`.

        With parameters and `numeric` in float64 (see `exact_answers`) they are float64.
        """
        answers = []
        if len(self.members) or self.linear is not None:
            inputs = self.preprocessor(numeric, codes, time)
        if len(self.members):
            each = [self.head.answer(member(*inputs)) for member in self.members]
            answers.append(torch.stack(each, dim=1).mean(1))
        if self.linear is not None:
            answers.append(self.head.answer(self.linear(*inputs)))
        if self.forest is not None:
            answers.append(self.head.answer_trees(self.forest(tree_matrix(numeric, codes, time))))
        mean = answers[0] if len(answers) == 1 else self.head.combine(answers, self.factors)
        answer = self.head.calibrate(mean) if self.calibrated else mean
        return answer.to(numeric.dtype) if self.rounded else answer

    def calibrated_by(self, head: Head) -> "TrainedModel":
        """The same model with a head that was fitted to its answers."""
        return TrainedModel(
            self.preprocessor,
            list(self.members),
            head,
            linear=self.linear,
            forest=self.forest,
            factors=self.factors,
        )

    def networks_alone(self) -> "TrainedModel":
        """Its networks' mean answer before calibration, not rounded."""
        alone = TrainedModel(
            self.preprocessor, list(self.members), self.head, calibrated=False, rounded=False
        )
        return alone.eval()

    def quality(self, labels: np.ndarray, answers: np.ndarray) -> float:
        """The head's quality of this model's answers.

        Args:
            labels: float64 [N], as the tables have them.
            answers: as `forward` gives them.
        """
        return self.head.measure(labels, answers)[self.head.quality_name]


def exact_answers(model: TrainedModel, raw: RawArrays) -> np.ndarray:
    """What the model answers where nothing is rounded on the way: float64 [N] or [N, W].

    Raises:
        RuntimeError: a network that is not Slipway's own knows float32 only.
    """
    return forward_in_chunks(deepcopy(model).double(), raw, torch.float64)


def forward_in_chunks(
    model: nn.Module, raw: RawArrays, dtype: torch.dtype = torch.float32
) -> np.ndarray:
    """Runs a torch model over a table: [N] or [N, W].

    Args:
        model: takes the arrays of `RawArrays`.
        raw: the table.
        dtype: of the numbers that the model takes.
    """
    parts = []
    forest = getattr(model, "forest", None)
    step = CHUNK if forest is None else min(CHUNK, forest.rows_at_once)
    with torch.inference_mode():
        for start in range(0, len(raw.numeric), step):
            cut = slice(start, start + step)
            parts.append(
                model(
                    torch.from_numpy(raw.numeric[cut]).to(dtype),
                    torch.from_numpy(raw.codes[cut]),
                    torch.from_numpy(raw.time[cut]),
                ).numpy()
            )
    return np.concatenate(parts)
