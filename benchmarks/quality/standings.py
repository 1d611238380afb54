"""Who is ahead over many tables: mean ranks, and wins that resampling the test rows does not undo."""

from collections.abc import Mapping, Sequence

import numpy as np

from slipway.components.config.kinds import LabelKind
from slipway.components.metrics import binary, multiclass

_BLOCKS = 30
_DRAWS = 300
_SURE = 0.025
Answers = Mapping[str, Sequence[np.ndarray]]
"""By system: what each seed's model answers on the test part."""


def draws(rows: int, seed: int = 0) -> list[np.ndarray]:
    """Weights of the test rows: blocks of consecutive rows, drawn with replacement."""
    block = np.arange(rows) * _BLOCKS // rows
    random = np.random.default_rng(seed)
    return [
        np.bincount(random.integers(0, _BLOCKS, _BLOCKS), minlength=_BLOCKS)[block].astype(float)
        for _ in range(_DRAWS)
    ]


def loss(kind: LabelKind, labels: np.ndarray, answers: np.ndarray, weights: np.ndarray) -> float:
    """What decides, less being better: 1 - AUC, log loss or RMSE."""
    if kind == "binary":
        return 1 - binary.auc(labels, answers, weights)
    if kind == "multiclass":
        return float(np.average(multiclass.row_log_losses(labels, answers), weights=weights))
    return float(np.average((labels - answers[:, 0]) ** 2, weights=weights) ** 0.5)


def resampled(kind: LabelKind, labels: np.ndarray, answers: Answers) -> dict[str, np.ndarray]:
    """Of each system the mean loss of its seeds: of all test rows first, then of each draw."""
    weights = [np.ones(len(labels)), *draws(len(labels))]
    return {
        name: np.array([np.mean([loss(kind, labels, a, w) for a in seeds]) for w in weights])
        for name, seeds in answers.items()
    }


def gap(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """How far ours is ahead (below 0: behind), and the standard error of that.

    Args:
        ours: of `resampled`.
        theirs: the same.
    """
    return float(theirs[0] - ours[0]), float(np.std(theirs[1:] - ours[1:]))


def standings(tables: Mapping[str, Mapping[str, np.ndarray]]) -> list[tuple[str, float, str]]:
    """Of each system its mean rank, and its wins, ties and losses against the first system.

    Args:
        tables: by table what `resampled` gives, with the same systems in each.
    """
    names = list(next(iter(tables.values())))
    ranks = {
        name: float(
            np.mean(
                [
                    1 + sum(other[0] < found[name][0] for other in found.values())
                    for found in tables.values()
                ]
            )
        )
        for name in names
    }
    lines = []
    for name in names:
        counts = [0, 0, 0]
        for found in tables.values():
            theirs, first = found[name][1:], found[names[0]][1:]
            won, lost = float(np.mean(theirs < first)), float(np.mean(theirs > first))
            counts[0 if won > 1 - _SURE else 2 if lost > 1 - _SURE else 1] += 1
        lines.append((name, ranks[name], "–" if name == names[0] else "{}, {}, {}".format(*counts)))
    return sorted(lines, key=lambda line: line[1])
