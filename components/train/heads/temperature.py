"""Temperature calibration: one number that makes the probabilities of several classes honest."""

from dataclasses import dataclass

import numpy as np
import torch

_PULL = 1e-3
_TINY = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """Calibrated probabilities = softmax(slope * log(probabilities) + offsets) (Guo et al., 2017).

    Attributes:
        slope: one over the temperature.
        offsets: one a class; empty: none.
    """

    slope: float = 1.0
    offsets: tuple[float, ...] = ()


def fit_temperature(labels: np.ndarray, answers: np.ndarray, *, offsets: bool) -> Temperature:
    """Fits by maximum likelihood; what does not help is left as it is.

    The labels count as if one row more were of any class, as Platt's (1999) do for two: where few rows
    are told apart without an error no slope would be too steep, and one surprise among new rows would
    cost more than all of them.

    Args:
        labels: places of classes, [N].
        answers: probabilities, float32 [N, K].
        offsets: whether to fit an offset a class too. They are pulled towards 0, since a class with few
            rows says little of its own.
    """
    logs = torch.from_numpy(np.log(np.clip(answers.astype(np.float64), _TINY, 1)))
    places = torch.from_numpy(labels.astype(np.int64))
    slope = torch.ones(1, dtype=torch.float64, requires_grad=True)
    moves = torch.zeros(answers.shape[1], dtype=torch.float64, requires_grad=offsets)
    fitted = [slope, moves] if offsets else [slope]
    optimizer = torch.optim.LBFGS(fitted, max_iter=200, line_search_fn="strong_wolfe")
    surprise = 1 / (len(labels) + 2)

    def misfit(odds: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(odds, places, label_smoothing=surprise)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        found = misfit(logs * slope + moves) + _PULL * moves.square().mean()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    before = float(misfit(logs))
    optimizer.step(loss)  # type: ignore[no-untyped-call]
    after = float(misfit((logs * slope + moves).detach()))
    found = float(slope.detach()[0])
    if not np.isfinite(after) or after >= before or found <= 0:
        return Temperature()
    moved = tuple(float(value) for value in moves.detach()) if offsets else ()
    return Temperature(slope=found, offsets=moved)
