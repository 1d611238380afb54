"""Several models as one: how much each says, and which of them are worth having.

Models whose errors differ are better together (Breiman 1996, "Stacked regressions"). Their answers are
averaged where evidence adds up: log-odds of classes, values of a number. The shares are found on the
validation part by its loss and drawn towards equal ones, with a strength that a small part does not
overcome: chosen freely they follow chance there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import torch

from slipway.components.config.training import TrainingConfig
from slipway.components.train.heads.base import Head

Model = Literal["network", "linear", "trees"]
Kind = Literal["network", "linear", "trees", "blend"]
MODELS: tuple[Model, ...] = get_args(Model)
"""In the order in which a blend adds them up."""
_PRIOR = 0.25  # standard deviation of the first of two shares around one half, at first
_LEAST_SHARE = 0.1  # one that says less is not worth what it costs
_STEPS = 30
_SWEEPS = 4
_BLOCKS = 30
_GOLDEN = (5**0.5 - 1) / 2
Answers = Mapping[Model, np.ndarray]
"""Of each model on the validation part before calibration, float32 [N] or [N, W]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which model was taken, and what spoke for it.

    Attributes:
        asked: `training.model`.
        chosen: what the bundle holds.
        why: what decided, in a few words.
        shares: of each model in the blend, together 1.
        factors: what the log-odds (of a number, the values) of each are multiplied by.
        losses: of each model and the blend on the validation part, calibrated: `Head.row_losses`.
        lead: of the blend over the best of the models.
        noise: standard error of the lead.
    """

    asked: str
    chosen: Kind
    why: str
    shares: dict[Model, float]
    factors: dict[Model, float]
    losses: dict[Kind, float]
    lead: float
    noise: float


def choose(
    head: Head, answers: Answers, labels: np.ndarray, weights: np.ndarray, config: TrainingConfig
) -> Choice:
    """Finds the models' shares, and which of them to take.

    `training.model: auto` leaves models with a small share out of the blend, and takes it unless the
    best model alone leads by more than the noise. (On small tables a blend that validation does not tell
    from the best model is better on test more often than not.)

    Args:
        head: not fitted.
        answers: of two models or more.
        labels: float64 [N], as the tables have them.
        weights: float32 [N].
        config: resolved.
    """
    rows: dict[Kind, np.ndarray] = {
        name: _calibrated_losses(head, a, labels, config) for name, a in answers.items()
    }
    single = min(answers, key=lambda name: float(rows[name].mean()))
    taken = dict(answers)
    shares, factors = find_shares(head, taken, labels, weights, config)
    while config.model == "auto" and min(shares.values()) < _LEAST_SHARE:
        del taken[min(shares, key=shares.__getitem__)]
        shares, factors = find_shares(head, taken, labels, weights, config)
    blend = combine(head, list(taken.values()), list(factors.values()))
    rows["blend"] = _calibrated_losses(head, blend, labels, config)
    gaps = rows[single] - rows["blend"]
    lead, noise = float(gaps.mean()), block_error(gaps, np.ones(len(gaps)))
    chosen: Kind = "blend" if len(taken) > 1 else next(iter(taken))
    if config.model == "auto" and lead < -noise:
        chosen = single
    told = (
        f"the blend's validation loss is {abs(lead):.5f} {'below' if lead > 0 else 'above'} that of the"
        f" {single}, with a standard error of {noise:.5f}"
        if len(taken) > 1
        else f"beside the {chosen} no model has a share of {_LEAST_SHARE:.0%}"
    )
    return Choice(
        asked=config.model,
        chosen=chosen,
        why=told if config.model == "auto" else f"training.model asks for it; {told}",
        shares=shares,
        factors=factors,
        losses={name: float(row.mean()) for name, row in rows.items()},
        lead=lead,
        noise=noise,
    )


def combine(head: Head, answers: Sequence[np.ndarray], factors: Sequence[float]) -> np.ndarray:
    """`Head.combine` of arrays."""
    mixed = head.combine([torch.from_numpy(each) for each in answers], factors)
    return np.asarray(mixed.numpy())


def find_shares(
    head: Head, answers: Answers, labels: np.ndarray, weights: np.ndarray, config: TrainingConfig
) -> tuple[dict[Model, float], dict[Model, float]]:
    """The models' shares that are most probable after the validation part, and the factors.

    Before it the shares are normal around equal ones. Each model is first made as sure as it may be
    (`Head.confidence`), so that one that is too sure of itself does not speak louder. Rows that are
    alike, as those of one day, are less evidence than their number says: it is divided by how much more
    the mean difference of two models varies between blocks of rows than between rows drawn at random.
    """
    count = len(answers)
    sure = [head.fit(labels, each, config).confidence for each in answers.values()]

    def losses(shares: np.ndarray) -> np.ndarray:
        factors = [float(share) * by for share, by in zip(shares, sure, strict=True)]
        mixed = combine(head, list(answers.values()), factors)
        return head.row_losses(labels, head.in_units(mixed))

    alone = [losses(row) for row in np.eye(count)]
    pairs = list(combinations(range(count), 2))
    discount = max((_alikeness(alone[i] - alone[j], weights) for i, j in pairs), default=1.0)
    equal = np.full(count, 1 / count)
    unit = head.evidence_unit(float(np.average(losses(equal), weights=weights)))
    evidence = len(labels) / discount / unit

    def surprise(shares: np.ndarray) -> float:
        found = float(np.average(losses(shares), weights=weights))
        return evidence * found + float(((shares - equal) ** 2).sum()) / (4 * _PRIOR**2)

    shares = _least_on_simplex(surprise, equal, pairs)
    found = dict(zip(answers, (float(share) for share in shares), strict=True))
    return found, {name: found[name] * by for name, by in zip(answers, sure, strict=True)}


def _alikeness(gaps: np.ndarray, weights: np.ndarray) -> float:
    """How much more evidence the rows seem to be than they are; at least 1."""
    alone = float(np.std(gaps)) / len(gaps) ** 0.5
    return max(1.0, (block_error(gaps, weights) / alone) ** 2) if alone > 0 else 1.0


def _least_on_simplex(
    function: Callable[[np.ndarray], float], start: np.ndarray, pairs: list[tuple[int, int]]
) -> np.ndarray:
    """Where a convex function of shares is lowest: from one to another of each pair, again and again."""
    shares = start
    for _ in range(1 if len(pairs) == 1 else _SWEEPS):
        for i, j in pairs:
            shares = _divide_best(function, shares, i, j)
    return shares


def _divide_best(
    function: Callable[[np.ndarray], float], shares: np.ndarray, i: int, j: int
) -> np.ndarray:
    """The shares with what two of them have together divided so that the function is lowest."""

    def divided(part: float) -> np.ndarray:
        found, both = shares.copy(), shares[i] + shares[j]
        found[i], found[j] = part * both, (1 - part) * both
        return found

    return divided(_least(lambda part: function(divided(part))))


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
