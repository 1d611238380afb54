"""Tally of a yes/no label: what is counted in one pass, enough for every metric and its interval.

Every metric here is a function of sums over rows. Kept a block (a day, say), the sums give the metric
of any resample of blocks without a second look at a row: a bootstrap replicate is one row of weights
times the table of sums. Memory depends on the number of blocks and bins, never on the rows.

Ranking metrics (AUC, average precision) need the order of the scores. It is kept as a histogram with
bins of equal width in log-odds, from -16 to 16; two scores in one bin count as tied. With 4096 bins
(1/128 of log-odds each) the AUC of a calibrated model differs from the exact one by about 1e-6.
"""

from typing import TYPE_CHECKING

from slipway.components.metrics.binary import (
    CALIBRATION_BINS,
    area_under_roc,
    average_precision,
    calibration_bin,
    calibration_error,
    calibration_gaps,
    cost_from_counts,
    from_counts,
    log_chances,
    row_log_losses,
    row_squares,
)
from slipway.components.metrics.intervals import chance_auc_error
from slipway.components.metrics.labels import reaches_threshold

if TYPE_CHECKING:
    import numpy as np

BINS = 4096
SPAN = 16.0
MAX_BLOCKS = 1000
_RESAMPLE_BINS = 1024
_REPLICATES_AT_ONCE = 100


def odds_bin(chances: "tuple[np.ndarray, np.ndarray]", bins: int) -> "np.ndarray":
    """Which bin of log-odds each probability falls into: int64, as `log_chances` gave them."""
    import numpy as np

    odds = chances[0] - chances[1]
    place: np.ndarray = np.clip((odds + SPAN) * (bins / (2 * SPAN)), 0, bins - 1).astype(np.int64)
    return place


class Tally:
    """Sums over scored rows, by group (a slice's value) and by block (what is resampled).

    Attributes:
        counts: int32 (float64 where rows are weighed) [groups, blocks, bins, 2], rows by log-odds bin and
            label.
        sums: float64 [groups, blocks, 4]: true positives, false positives, squared error, log loss.
        calibration: float64 [groups, blocks, 15, 3]: rows, sum of probabilities, positives.
    """

    def __init__(
        self,
        threshold: float,
        groups: int = 1,
        blocks: int = MAX_BLOCKS,
        bins: int = BINS,
        costs: "np.ndarray | None" = None,
        *,
        weighted: bool = False,
    ) -> None:
        """Makes an empty tally; a row is called positive where its probability reaches `threshold`."""
        import numpy as np

        self.threshold, self.costs = threshold, costs
        self.bins = bins
        self.counts = np.zeros((groups, blocks, bins, 2), np.float64 if weighted else np.int32)
        self.sums = np.zeros((groups, blocks, 4))
        self.calibration = np.zeros((groups, blocks, CALIBRATION_BINS, 3))
        # Where each row counts once, the other sums say it already.
        self._counted = np.zeros((groups, 2, 2), np.int64) if weighted else None

    def add(
        self,
        probability: "np.ndarray",
        label: "np.ndarray",
        block: "np.ndarray",
        group: "np.ndarray | None" = None,
        weights: "np.ndarray | None" = None,
    ) -> None:
        """Counts rows.

        Args:
            probability: float [N], each within 0 and 1.
            label: integer [N], 0 or 1.
            block: integer [N], the row's block.
            group: integer [N], the row's group; a negative one leaves the row out. None: group 0.
            weights: float64 [N], how much each row counts; None: all once.
        """
        import numpy as np

        if group is not None:
            inside = group >= 0
            probability, label, block, group = (
                values[inside] for values in (probability, label, block, group)
            )
            weights = None if weights is None else weights[inside]
        blocks = self.counts.shape[1]
        cell = block.astype(np.int64)
        if group is not None:
            cell += group.astype(np.int64) * blocks
        label = label.astype(np.int64)
        called = reaches_threshold(probability, self.threshold)
        chances = log_chances(probability)
        bins = odds_bin(chances, self.bins)
        once = np.int32(1) if weights is None else weights
        np.add.at(self.counts.reshape(-1), (cell * self.bins + bins) * 2 + label, once)
        if self._counted is not None:
            pair = (cell // blocks * 2 + label) * 2 + called
            counted = np.bincount(pair, minlength=self._counted.size)
            self._counted += counted.reshape(self._counted.shape)
        used, cell = np.unique(cell, return_inverse=True)

        def total(
            where: "np.ndarray", size: int, values: "np.ndarray | None" = None
        ) -> "np.ndarray":
            if values is None:
                values = weights
            elif weights is not None:
                values = values * weights
            return np.bincount(where, values, minlength=used.size * size).reshape(used.size, size)

        sums = self.sums.reshape(-1, 4)
        sums[used, 0] += total(cell, 1, (called & (label == 1)).astype(float))[:, 0]
        sums[used, 1] += total(cell, 1, (called & (label == 0)).astype(float))[:, 0]
        sums[used, 2] += total(cell, 1, row_squares(label, probability))[:, 0]
        sums[used, 3] += total(cell, 1, row_log_losses(label, chances))[:, 0]
        calibration = self.calibration.reshape(-1, CALIBRATION_BINS, 3)
        where = cell * CALIBRATION_BINS + calibration_bin(probability)
        calibration[used, :, 0] += total(where, CALIBRATION_BINS)
        calibration[used, :, 1] += total(where, CALIBRATION_BINS, probability.astype(float))
        calibration[used, :, 2] += total(where, CALIBRATION_BINS, label.astype(float))

    @property
    def used_blocks(self) -> "np.ndarray":
        """Indices of the blocks that have rows, in any group."""
        import numpy as np

        return np.flatnonzero(self.calibration[..., 0].sum(axis=(0, 2)))

    def rows(self, group: int = 0) -> int:
        """Rows of a group."""
        return int(self._pairs(group).sum())

    def class_rows(self, group: int = 0) -> tuple[int, int]:
        """Rows of a group that are negative, and that are positive."""
        negatives, positives = (int(rows) for rows in self._pairs(group).sum(1))
        return negatives, positives

    def _pairs(self, group: int = 0) -> "np.ndarray":
        """Rows of a group by true and by called label, each counted once: int64 [2, 2]."""
        import numpy as np

        if self._counted is not None:
            counted: np.ndarray = self._counted[group]
            return counted
        _, called, actual = self.count_calls(group).sum(0)
        hits = self.sums[group, :, 0].sum()
        missed, alarms = actual[1] - hits, called[1] - hits
        return np.array([[actual[0] - alarms, alarms], [missed, hits]]).astype(np.int64)

    def describe(self, names: tuple[str, ...]) -> dict[str, float]:
        """See `LabelTally`."""
        return dict(zip(names, self.count_calls().sum(0)[2].tolist(), strict=True))

    def count_calls(self, group: int = 0) -> "np.ndarray":
        """See `LabelTally`."""
        import numpy as np

        hits, alarms = self.sums[group, :, 0], self.sums[group, :, 1]
        rows, positives = (self.calibration[group, :, :, side].sum(1) for side in (0, 2))
        called = hits + alarms
        ones = (hits, called, positives)
        zeros = (rows - positives - alarms, rows - called, rows - positives)
        return np.stack([np.stack(zeros, 1), np.stack(ones, 1)], axis=2)

    def confusion(self, group: int = 0) -> list[list[int]]:
        """Counts of a group: rows the true class, columns the called one."""
        counts: list[list[int]] = self._pairs(group).tolist()
        return counts

    def measure(self, group: int = 0) -> dict[str, float]:
        """Every metric of one group; NaN where it is not defined."""
        values = _metrics(
            self.counts[group].sum(0, dtype=float)[None],
            self.sums[group].sum(0)[None],
            self.calibration[group].sum(0)[None],
            self.costs,
        )
        return {name: float(value[0]) for name, value in values.items()}

    def measure_chance(self) -> tuple[float, float, float] | None:
        """See `LabelTally`: the AUC, and how far from 0.5 chance leaves it."""
        negatives, positives = self.class_rows()
        if not positives or not negatives:
            return None
        return self.measure()["auc"], 0.5, chance_auc_error(positives, negatives)

    def reached(self, group: int = 0) -> "tuple[np.ndarray, np.ndarray]":
        """Rows whose score reaches each threshold, from the highest threshold down.

        Returns:
            The thresholds, [bins + 1] falling from 1 to 0, and the counts [bins + 1, 2]: negatives
            and positives called positive at that threshold.
        """
        import numpy as np

        counts = self.counts[group].sum(0, dtype=float)[::-1]
        odds = np.linspace(SPAN, -SPAN, self.bins + 1)
        thresholds = 1 / (1 + np.exp(-odds))
        thresholds[0], thresholds[-1] = 1.0, 0.0
        return thresholds, np.vstack([np.zeros(2), np.cumsum(counts, 0)])

    def roc(self, points: int) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
        """The ROC curve, thinned to at most `points` points at even steps along it.

        Returns:
            False positive rate and true positive rate, rising from 0 to 1, and the threshold of each
            point, falling from 1 to 0. All are finite.
        """
        import numpy as np

        thresholds, counts = self.reached()
        rates = counts / np.maximum(counts[-1], 1)
        along = rates.sum(1)
        kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], points)))
        kept = np.unique(np.concatenate([[0], kept[1:-1], [self.bins]]))
        return rates[kept, 0], rates[kept, 1], thresholds[kept]

    def gaps(
        self, weights: "np.ndarray", blocks: "np.ndarray", group: int = 0
    ) -> "tuple[np.ndarray, np.ndarray] | None":
        """See `LabelTally`."""
        return calibration_gaps(self.calibration[group, blocks], weights)

    def resample(
        self, weights: "np.ndarray", blocks: "np.ndarray", group: int = 0
    ) -> dict[str, "np.ndarray"]:
        """Every metric of every bootstrap replicate.

        Args:
            weights: [replicates, blocks], how often each block was drawn.
            blocks: the blocks that the columns of `weights` stand for.
            group: the group.

        Returns:
            Arrays [replicates] by metric; NaN where a replicate does not define it.
        """
        import numpy as np

        coarse = min(self.bins, _RESAMPLE_BINS)
        counts = self.counts[group, blocks].reshape(len(blocks), coarse, -1, 2).sum(2)
        table = counts.reshape(len(blocks), -1).astype(np.float32)
        sums = self.sums[group, blocks]
        calibration = self.calibration[group, blocks].reshape(len(blocks), -1)
        parts = []
        for start in range(0, len(weights), _REPLICATES_AT_ONCE):
            some = weights[start : start + _REPLICATES_AT_ONCE]
            parts.append(
                _metrics(
                    (some.astype(np.float32) @ table).reshape(len(some), coarse, 2),
                    some @ sums,
                    (some @ calibration).reshape(len(some), CALIBRATION_BINS, 3),
                    self.costs,
                )
            )
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _metrics(
    counts: "np.ndarray",
    sums: "np.ndarray",
    calibration: "np.ndarray",
    costs: "np.ndarray | None",
) -> dict[str, "np.ndarray"]:
    """Metrics from sums: counts [W, bins, 2], sums [W, 4], calibration [W, 15, 3]."""
    import numpy as np

    rows = calibration[:, :, 0].sum(1)
    positives = calibration[:, :, 2].sum(1)
    hits, alarms, squares, losses = sums.T
    negative, positive = counts[..., 0], counts[..., 1]
    cost = {}
    if costs is not None:
        cost["expected_cost"] = cost_from_counts(hits, alarms, positives, rows, costs)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            **from_counts(hits, alarms, positives, rows),
            "auc": area_under_roc(negative, positive, positives * (rows - positives)),
            "average_precision": average_precision(negative, positive, positives),
            "log_loss": losses / rows,
            "brier": squares / rows,
            "calibration_error": calibration_error(calibration),
            **cost,
        }
