"""The members of an ensemble as one model, from raw feature values to calibrated answers."""

import numpy as np
import torch
from torch import Tensor, nn

from slipway.components.train.model.heads import Head
from slipway.components.train.model.preprocess import Preprocessor, RawArrays

CHUNK = 1024
"""Rows that a model takes at once."""


class TrainedModel(nn.Module):
    """Raw feature values to answers, calibrated where the head was fitted and `calibrated` is set."""

    def __init__(
        self,
        preprocessor: Preprocessor,
        members: list[nn.Module],
        head: Head,
        *,
        calibrated: bool = True,
    ) -> None:
        super().__init__()
        self.preprocessor = preprocessor
        self.members = nn.ModuleList(members)
        self.head, self.calibrated = head, calibrated

    def forward(self, numeric: Tensor, codes: Tensor, time: Tensor) -> Tensor:
        """Answers float32 [N] or [N, W]; see `RawArrays` for the inputs."""
        inputs = self.preprocessor(numeric, codes, time)
        answers = [self.head.answer(member(*inputs)) for member in self.members]
        mean = torch.stack(answers, dim=1).mean(1)
        return self.head.calibrate(mean) if self.calibrated else mean

    def quality(self, labels: np.ndarray, answers: np.ndarray) -> float:
        """The head's quality of this model's answers.

        Args:
            labels: float64 [N], as the tables have them.
            answers: as `forward` gives them.
        """
        return self.head.measure(labels, answers)[self.head.quality_name]


def forward_in_chunks(model: nn.Module, raw: RawArrays) -> np.ndarray:
    """Runs a torch model over a table: float32 [N] or [N, W]."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(raw.numeric), CHUNK):
            cut = slice(start, start + CHUNK)
            parts.append(
                model(
                    torch.from_numpy(raw.numeric[cut]),
                    torch.from_numpy(raw.codes[cut]),
                    torch.from_numpy(raw.time[cut]),
                ).numpy()
            )
    return np.concatenate(parts)
