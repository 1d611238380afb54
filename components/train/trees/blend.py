"""The network and the trees as one: how much each says, and whether both are worth having.

Two models whose errors differ are better together (Breiman 1996, "Stacked regressions"). Their answers
are averaged where evidence adds up: log-odds of classes, values of a number. The network's share is found
on the validation part by its loss and drawn towards one half, with a strength that a small part does not
overcome: chosen freely it follows chance there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from slipway.components.config.training import TrainingConfig
from slipway.components.train.model.heads import Head

Kind = Literal["network", "trees", "blend"]
_PRIOR = 0.15  # standard deviation of the share around one half, before anything is seen
_LEAST_LEAD = 1e-5  # less than this is a rounding
_STEPS = 30
_BLOCKS = 30
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which model was taken, and what spoke for it.

    Attributes:
        asked: `training.model`.
        chosen: what the bundle holds.
        why: what decided, in a few words.
        share: of the network in the blend, 0 to 1.
        factors: what the log-odds (of a number, the values) of the network and of the trees are
            multiplied by.
        losses: of each model on the validation part, calibrated: `Head.row_losses`.
        lead: of the blend over the better of the two.
        noise: standard error of the lead.
    """

    asked: str
    chosen: Kind
    why: str
    share: float
    factors: tuple[float, float]
    losses: dict[str, float]
    lead: float
    noise: float


def choose(
    head: Head,
    network: np.ndarray,
    trees: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    config: TrainingConfig,
) -> Choice:
    """Finds the network's share, and which of the models to take.

    `training.model: auto` takes the blend where it leads by more than its noise, and else the better of
    the two alone.

    Args:
        head: not fitted.
        network: its answers on the validation part before calibration, float32 [N] or [N, W].
        trees: theirs.
        labels: float64 [N], as the tables have them.
        weights: float32 [N].
        config: resolved.
    """
    share, factors = find_share(head, network, trees, labels, weights, config)
    answers = {
        "network": network,
        "trees": trees,
        "blend": combine(head, network, trees, factors),
    }
    rows = {name: _calibrated_losses(head, a, labels, config) for name, a in answers.items()}
    losses = {name: float(row.mean()) for name, row in rows.items()}
    single: Kind = "network" if losses["network"] <= losses["trees"] else "trees"
    gaps = rows[single] - rows["blend"]
    lead, noise = float(gaps.mean()), block_error(gaps, np.ones(len(gaps)))
    chosen: Kind = "blend" if lead > max(noise, _LEAST_LEAD) or config.model == "blend" else single
    told = (
        f"the blend's validation loss is {abs(lead):.5f} {'below' if lead > 0 else 'above'} that of the"
        f" {single}, with a standard error of {noise:.5f}"
    )
    return Choice(
        asked=config.model,
        chosen=chosen,
        why=told if config.model == "auto" else f"training.model asks for it; {told}",
        share=share,
        factors=factors,
        losses=losses,
        lead=lead,
        noise=noise,
    )


def combine(
    head: Head, network: np.ndarray, trees: np.ndarray, factors: tuple[float, float]
) -> np.ndarray:
    """`Head.combine` of arrays."""
    mixed = head.combine(torch.from_numpy(network), torch.from_numpy(trees), factors)
    return np.asarray(mixed.numpy())


def find_share(
    head: Head,
    network: np.ndarray,
    trees: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    config: TrainingConfig,
) -> tuple[float, tuple[float, float]]:
    """The network's share, 0 to 1, that is most probable after the validation part, and the factors.

    Before it the share is normal around one half. Each model is first made as sure as it may be
    (`Head.confidence`), so that one that is too sure of itself does not speak louder. Rows that are
    alike, as those of one day, are less evidence than their number says: it is divided by how much more
    the mean difference of the two models varies between blocks of rows than between rows drawn at random.
    """
    sure = [head.fit(labels, answers, config).confidence for answers in (network, trees)]

    def losses(first: float, second: float) -> np.ndarray:
        mixed = combine(head, network, trees, (first * sure[0], second * sure[1]))
        return head.row_losses(labels, head.in_units(mixed))

    apart = losses(1, 0) - losses(0, 1)
    alone = float(np.std(apart)) / len(apart) ** 0.5
    discount = max(1.0, (block_error(apart, weights) / alone) ** 2) if alone > 0 else 1.0
    equal = float(np.average(losses(0.5, 0.5), weights=weights))
    evidence = len(labels) / discount / head.evidence_unit(equal)

    def surprise(share: float) -> float:
        found = float(np.average(losses(share, 1 - share), weights=weights))
        return evidence * found + (share - 0.5) ** 2 / (2 * _PRIOR**2)

    share = _least(surprise)
    return share, (share * sure[0], (1 - share) * sure[1])


def _calibrated_losses(
    head: Head, answers: np.ndarray, labels: np.ndarray, config: TrainingConfig
) -> np.ndarray:
    calibrated = head.fit(labels, answers, config).calibrate(torch.from_numpy(answers))
    return head.row_losses(labels, calibrated.numpy())


def _least(function: Callable[[float], float]) -> float:
    """Where a function with one valley between 0 and 1 is lowest, by golden sections."""
    low, high = 0.0, 1.0
    left, right = high - _GOLDEN, low + _GOLDEN
    at_left, at_right = function(left), function(right)
    for _ in range(_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return round((low + high) / 2, 4)


def block_error(values: np.ndarray, weights: np.ndarray) -> float:
    """Standard error of a weighted mean, from consecutive blocks of rows (one a row where there are few).

    Args:
        values: float64 [N], in the order of the table, which is that of time where there is one.
        weights: [N].
    """
    count = min(_BLOCKS, len(values))
    parts = zip(np.array_split(values, count), np.array_split(weights, count), strict=True)
    sums = np.array([(float(v @ w), float(w.sum())) for v, w in parts])
    mean = sums[:, 0].sum() / sums[:, 1].sum()
    rest = sums[:, 0] - mean * sums[:, 1]
    return float(np.sqrt(count / max(count - 1, 1) * (rest**2).sum()) / sums[:, 1].sum())
