"""The metrics of a label that is a number, each formula once, as functions of sums over rows.

An answer is a value with the two ends of its interval. `pinball` is the mean quantile loss of the two
ends (Koenker and Bassett 1978), the proper score of an interval: it falls with its width, and grows with
what lies outside.
"""

import math
from typing import TYPE_CHECKING

from slipway.components.config.kinds import METRICS as METRICS_OF_KIND
from slipway.components.metrics.tally import MAX_BLOCKS

if TYPE_CHECKING:
    import numpy as np

METRICS = METRICS_OF_KIND["number"]
_SUMS = 11
_LEAST_FOR_CHANCE = 3


def row_sums(
    labels: "np.ndarray", answers: "np.ndarray", level: float, centre: float
) -> "np.ndarray":
    """What each row adds to the sums: float64 [N, 11].

    They are: 1, squared error, absolute error, label less `centre` and its square, quantile loss of the
    interval's ends, 1 where the label is inside, width; value less `centre`, its square, and the product
    of the two.

    Args:
        labels: float [N].
        answers: float [N, 3]: value, lower and upper end.
        level: the share of labels that the intervals are to hold.
        centre: near the labels' mean, so that squares of large labels keep their digits.
    """
    import numpy as np

    exact, value = labels.astype(np.float64), answers.astype(np.float64)
    error = exact - value[:, 0]
    low, high = exact - value[:, 1], exact - value[:, 2]
    tail = (1 - level) / 2
    losses = np.maximum(tail * low, (tail - 1) * low), np.maximum((1 - tail) * high, -tail * high)
    inside = (low >= 0) & (high <= 0)
    far = exact - centre
    columns = (
        np.ones(len(exact)),
        error**2,
        np.abs(error),
        far,
        far**2,
        (losses[0] + losses[1]) / 2,
        inside.astype(float),
        value[:, 2] - value[:, 1],
        value[:, 0] - centre,
        (value[:, 0] - centre) ** 2,
        (value[:, 0] - centre) * far,
    )
    return np.stack(columns, axis=1)


def from_sums(sums: "np.ndarray") -> "dict[str, np.ndarray]":
    """Every metric from the sums [..., 11] of `row_sums`; NaN where one is not defined."""
    import numpy as np

    rows, squares, absolute, far, far_squares, pinball, inside, width = np.moveaxis(sums, -1, 0)[:8]
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = far_squares - far**2 / rows
        return {
            "rmse": np.asarray(np.sqrt(squares / rows)),
            "mae": np.asarray(absolute / rows),
            "r2": np.asarray(np.where(spread > 0, 1 - squares / spread, np.nan)),
            "pinball": np.asarray(pinball / rows),
            "coverage": np.asarray(inside / rows),
            "interval_width": np.asarray(width / rows),
        }


def measure(labels: "np.ndarray", answers: "np.ndarray", level: float) -> dict[str, float]:
    """Every metric of rows; arguments as for `row_sums`."""
    if not len(labels):
        return dict.fromkeys(METRICS, float("nan"))
    sums = row_sums(labels, answers, level, float(labels.astype(float).mean())).sum(0)
    return {name: float(value) for name, value in from_sums(sums).items()}


def concordance(labels: "np.ndarray", scores: "np.ndarray") -> float:
    """Share of pairs with different labels that the scores order as the labels do; a tie counts half.

    What the AUC is for two classes: 0.5 is chance. NaN where all labels are equal.

    Args:
        labels: [N], with an order.
        scores: float [N].
    """
    import numpy as np

    scores = np.asarray(scores, float)
    _, label_ranks, label_rows = np.unique(labels, return_inverse=True, return_counts=True)
    _, score_ranks = np.unique(scores, return_inverse=True)
    pairs = _count_pairs(np.array([len(labels)])) - _count_pairs(label_rows)
    if not pairs or np.isnan(scores).any():
        return float("nan")
    both = score_ranks * len(label_rows) + label_ranks
    tied = _count_pairs(np.bincount(score_ranks))
    tied -= _count_pairs(np.unique(both, return_counts=True)[1])
    # In the order of the scores, and of tied ones of the labels, a pair that descends is in disorder.
    disordered = _count_descents(label_ranks[np.argsort(both, kind="stable")])
    return (pairs - disordered - tied / 2) / pairs


def _count_pairs(rows: "np.ndarray") -> int:
    """How many pairs are within groups of so many rows, integer [groups]."""
    return int((rows * (rows - 1) // 2).sum())


def _count_descents(ranks: "np.ndarray") -> int:
    """How many pairs [i, j] with i < j have ranks[i] > ranks[j].

    A radix sort, from the highest bit: within the ranks that are equal in all higher bits, each 0 comes
    after the ones before it. So the time grows with N log N.

    Args:
        ranks: integer [N], from 0 on.
    """
    import numpy as np

    found = 0
    for bit in reversed(range(int(ranks.max()).bit_length())):
        high = ranks >> bit
        one, group = high & 1, high >> 1
        ones_before = np.cumsum(one) - one
        first = np.flatnonzero(np.diff(group, prepend=-1))
        rows = np.diff(first, append=len(ranks))
        found += int((ones_before - np.repeat(ones_before[first], rows))[one == 0].sum())
        ranks = ranks[np.argsort(high, kind="stable")]
    return found


class NumberTally:
    """Sums over scored rows, by group and by block.

    Attributes:
        sums: float64 [groups, blocks, 11], as `row_sums` lists them.
        counts: int64 [groups], rows, each counted once.
    """

    def __init__(self, level: float, groups: int = 1, blocks: int = MAX_BLOCKS) -> None:
        """Makes an empty tally of intervals that are to hold the share `level`."""
        import numpy as np

        self.level = level
        self.sums = np.zeros((groups, blocks, _SUMS))
        self.counts = np.zeros(groups, np.int64)
        self._centre: float | None = None

    def add(
        self,
        answers: "np.ndarray",
        labels: "np.ndarray",
        block: "np.ndarray",
        group: "np.ndarray | None" = None,
        weights: "np.ndarray | None" = None,
    ) -> None:
        """See `LabelTally`."""
        import numpy as np

        if group is not None:
            inside = group >= 0
            answers, labels, block, group = (
                values[inside] for values in (answers, labels, block, group)
            )
            weights = None if weights is None else weights[inside]
        if not len(labels):
            return
        if self._centre is None:
            self._centre = float(labels.astype(float).mean())
        cell = block.astype(np.int64)
        if group is not None:
            cell += group.astype(np.int64) * self.sums.shape[1]
        self.counts += np.bincount(cell // self.sums.shape[1], minlength=len(self.counts))
        added = row_sums(labels, answers, self.level, self._centre)
        if weights is not None:
            added *= weights[:, None]
        flat = self.sums.reshape(-1, _SUMS)
        used, cell = np.unique(cell, return_inverse=True)
        for column in range(_SUMS):
            flat[used, column] += np.bincount(cell, added[:, column], used.size)

    @property
    def used_blocks(self) -> "np.ndarray":
        """See `LabelTally`."""
        import numpy as np

        return np.flatnonzero(self.sums[..., 0].sum(0))

    def rows(self, group: int = 0) -> int:
        """See `LabelTally`."""
        return int(self.counts[group])

    def class_rows(self, group: int = 0) -> tuple[int, ...]:
        """There are no classes."""
        return ()

    def describe(self, names: tuple[str, ...]) -> dict[str, float]:
        """See `LabelTally`: mean and standard deviation."""
        rows, far, far_square = self.sums[0, :, [0, 3, 4]].sum(1)
        if self._centre is None:
            return {}
        mean = far / rows
        spread = math.sqrt(max(far_square / rows - mean**2, 0.0))
        return {"mean": self._centre + float(mean), "std": spread}

    def count_calls(self, group: int = 0) -> "np.ndarray":
        """There are no classes."""
        import numpy as np

        return np.zeros((self.sums.shape[1], 3, 0))

    def confusion(self, group: int = 0) -> list[list[int]]:
        """There are no classes."""
        return []

    def measure(self, group: int = 0) -> dict[str, float]:
        """See `LabelTally`."""
        return {name: float(value) for name, value in from_sums(self.sums[group].sum(0)).items()}

    def measure_chance(self) -> tuple[float, float, float] | None:
        """See `LabelTally`: the correlation of values and labels."""
        rows, _, _, label, label_square, _, _, _, value, value_square, product = self.sums.sum(
            (0, 1)
        )
        if rows < _LEAST_FOR_CHANCE:
            return None
        spread = (label_square - label**2 / rows) * (value_square - value**2 / rows)
        if spread <= 0:
            return 0.0, 0.0, 1 / math.sqrt(rows)  # a constant tells nothing
        return float((product - label * value / rows) / math.sqrt(spread)), 0.0, 1 / math.sqrt(rows)

    def gaps(
        self, weights: "np.ndarray", blocks: "np.ndarray", group: int = 0
    ) -> "tuple[np.ndarray, np.ndarray] | None":
        """See `LabelTally`: a number has no calibration error."""
        return None

    def resample(
        self, weights: "np.ndarray", blocks: "np.ndarray", group: int = 0
    ) -> dict[str, "np.ndarray"]:
        """See `LabelTally`."""
        return from_sums(weights.astype(float) @ self.sums[group, blocks])
