"""Tally of a label with several classes: sums over rows, from which each metric and interval follows.

As `tally.Tally`, but each class has a histogram of its scores against the rest. Its bins become fewer as
classes, groups and blocks grow, so that memory does not; the AUC itself is measured on finer bins that
no block needs, and its replicates are moved by what the coarser ones miss.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from slipway.components.metrics.binary import (
    CALIBRATION_BINS,
    area_under_roc,
    calibration_bin,
    calibration_error,
    calibration_gaps,
)
from slipway.components.metrics.binary import log_chances as log_chances_of
from slipway.components.metrics.costs import CostRule
from slipway.components.metrics.intervals import around_class_means, chance_mean_auc_error
from slipway.components.metrics.multiclass import (
    METRICS,
    areas_under_roc,
    confidence,
    from_counts,
    of_classes,
    row_log_losses,
    row_squares,
)
from slipway.components.metrics.tally import MAX_BLOCKS, odds_bin

if TYPE_CHECKING:
    import numpy as np

RowValues = Callable[["np.ndarray", "np.ndarray"], "np.ndarray"]
"""A value of each row, float64 [N], from labels [N] and answers [N, K]."""
_CELLS = 2**23
"""Cells of a table of counts, about: 64 MB."""
_FINEST, _COARSEST = 4096, 16
_SCORES_AT_ONCE = 4_000_000
_REPLICATES_AT_ONCE = 50


def _bins(cells: int, most: int) -> int:
    """The largest power of two bins that `cells` such histograms may have."""
    bins = _COARSEST
    while bins * 2 <= most and cells * bins * 2 <= _CELLS:
        bins *= 2
    return bins


class MulticlassTally:
    """Sums over scored rows, by group and by block; K is the number of classes.

    Attributes:
        scores: int32 [groups, blocks, K, bins, 2], rows by log-odds bin of each class's score that are
            not of the class, and that are.
        fine: the same without blocks, on more bins.
        counts: int32 [groups, blocks, 3, K]: hits, called, actual.
        sums: float64 [groups, blocks, 2 and more]: squared error, log loss, then each of `extras`.
        calibration: float64 [groups, blocks, 15, 3]: rows, sum of the called class's probability, hits.
        pairs: int64 [groups, K, K], rows by true and by called class, each counted once.

    Where rows are weighed, `scores`, `fine` and `counts` are float64.
    """

    def __init__(
        self,
        classes: int,
        groups: int = 1,
        blocks: int = MAX_BLOCKS,
        decisive: CostRule | None = None,
        extras: "Mapping[str, RowValues] | None" = None,
        *,
        weighted: bool = False,
    ) -> None:
        """Makes an empty tally.

        Args:
            classes: how many.
            groups: how many.
            blocks: how many.
            decisive: as for `multiclass.confidence`.
            extras: further metrics that are the mean of a value a row, by name.
            weighted: whether rows count by a weight.
        """
        import numpy as np

        self.classes, self.decisive, self.extras = classes, decisive, dict(extras or {})
        self.bins = _bins(groups * blocks * classes, _FINEST // 4)
        finer = max(_bins(groups * classes, _FINEST), self.bins)
        few, many = (np.float64, np.float64) if weighted else (np.int32, np.int64)
        self.scores = np.zeros((groups, blocks, classes, self.bins, 2), few)
        self.fine = np.zeros((groups, classes, finer, 2), many)
        self.counts = np.zeros((groups, blocks, 3, classes), few)
        self.sums = np.zeros((groups, blocks, 2 + len(self.extras)))
        self.calibration = np.zeros((groups, blocks, CALIBRATION_BINS, 3))
        self.pairs = np.zeros((groups, classes, classes), np.int64)

    def add(
        self,
        answers: "np.ndarray",
        labels: "np.ndarray",
        block: "np.ndarray",
        group: "np.ndarray | None" = None,
        weights: "np.ndarray | None" = None,
    ) -> None:
        """See `LabelTally`; labels are places of classes."""
        import numpy as np

        group = np.zeros(len(labels), np.int64) if group is None else group.astype(np.int64)
        step = max(_SCORES_AT_ONCE // self.classes, 1)
        for start in range(0, len(labels), step):
            cut = slice(start, start + step)
            inside = group[cut] >= 0
            self._add(
                answers[cut][inside],
                labels[cut][inside].astype(np.int64),
                block[cut][inside].astype(np.int64),
                group[cut][inside],
                None if weights is None else weights[cut][inside],
            )

    def _add(
        self,
        answers: "np.ndarray",
        labels: "np.ndarray",
        block: "np.ndarray",
        group: "np.ndarray",
        weights: "np.ndarray | None",
    ) -> None:
        import numpy as np

        weight: Any = 1 if weights is None else weights
        of_classes: Any = 1 if weights is None else weights[:, None]
        called, sure = confidence(answers, self.decisive)
        hit = called == labels
        each = np.arange(self.classes)[None, :]
        own = (labels[:, None] == each).astype(np.int64)
        fine = self.fine.shape[2]
        place = odds_bin(log_chances_of(answers), fine)
        np.add.at(self.fine, (group[:, None], each, place, own), of_classes)
        coarse = place // (fine // self.bins)
        np.add.at(self.scores, (group[:, None], block[:, None], each, coarse, own), of_classes)
        of_hits: Any = 1 if weights is None else weights[hit]
        np.add.at(self.counts[:, :, 0], (group[hit], block[hit], labels[hit]), of_hits)
        np.add.at(self.counts[:, :, 1], (group, block, called), weight)
        np.add.at(self.counts[:, :, 2], (group, block, labels), weight)
        np.add.at(self.pairs, (group, labels, called), 1)
        row_values = [row_squares, row_log_losses, *self.extras.values()]
        for column, values_of in enumerate(row_values):
            values = values_of(labels, answers) * weight
            np.add.at(self.sums[:, :, column], (group, block), values)
        where = (group, block, calibration_bin(sure))
        for column, values in enumerate((1.0, sure.astype(float), hit.astype(float))):
            np.add.at(self.calibration[..., column], where, values * weight)

    @property
    def used_blocks(self) -> "np.ndarray":
        """See `LabelTally`."""
        import numpy as np

        return np.flatnonzero(self.counts[:, :, 2].sum(axis=(0, 2)))

    def rows(self, group: int = 0) -> int:
        """See `LabelTally`."""
        return int(self.pairs[group].sum())

    def class_rows(self, group: int = 0) -> tuple[int, ...]:
        """See `LabelTally`."""
        return tuple(int(rows) for rows in self.pairs[group].sum(1))

    def describe(self, names: tuple[str, ...]) -> dict[str, float]:
        """See `LabelTally`."""
        return dict(zip(names, self.count_calls().sum(0)[2].tolist(), strict=True))

    def count_calls(self, group: int = 0) -> "np.ndarray":
        """See `LabelTally`."""
        counts: np.ndarray = self.counts[group].astype(float)
        return counts

    def confusion(self, group: int = 0) -> list[list[int]]:
        """Counts of a group: rows the true class, columns the called one."""
        counts: list[list[int]] = self.pairs[group].tolist()
        return counts

    def measure_classes(self, group: int = 0) -> dict[str, "np.ndarray"]:
        """F1, precision, recall and AUC against the rest of each class, [K]; an AUC may be NaN."""
        hits, called, actual = self.count_calls(group).sum(0)
        other, own = (self.fine[group, :, :, side].astype(float) for side in (0, 1))
        area = area_under_roc(other, own, other.sum(-1) * own.sum(-1))
        return {**of_classes(hits, called, actual), "auc": area}

    def measure(self, group: int = 0) -> dict[str, float]:
        """See `LabelTally`."""
        values = self._metrics(
            self.fine[group][None],
            self.counts[group].sum(0, dtype=float)[None],
            self.sums[group].sum(0)[None],
            self.calibration[group].sum(0)[None],
        )
        return {name: float(values[name][0]) for name in (*METRICS, *self.extras)}

    def measure_chance(self) -> tuple[float, float, float] | None:
        """See `LabelTally`: the mean AUC."""
        import numpy as np

        there = np.array([rows for rows in self.class_rows() if rows])
        if len(there) < 2:
            return None
        return self.measure()["auc"], 0.5, chance_mean_auc_error(there)

    def gaps(
        self, weights: "np.ndarray", blocks: "np.ndarray", group: int = 0
    ) -> "tuple[np.ndarray, np.ndarray] | None":
        """See `LabelTally`."""
        return calibration_gaps(self.calibration[group, blocks], weights)

    def resample(
        self, weights: "np.ndarray", blocks: "np.ndarray", group: int = 0
    ) -> dict[str, "np.ndarray"]:
        """See `LabelTally`; [ways, replicates] of a mean over classes (see `around_class_means`)."""
        import numpy as np

        tables = [
            table[group, blocks].astype(float)
            for table in (self.scores, self.counts, self.sums, self.calibration)
        ]
        parts = []
        for start in range(0, len(weights), _REPLICATES_AT_ONCE):
            some = weights[start : start + _REPLICATES_AT_ONCE].astype(float)
            drawn = [
                (some @ table.reshape(len(blocks), -1)).reshape(len(some), *table.shape[1:])
                for table in tables
            ]
            parts.append(self._metrics(*drawn))
        replicates: dict[str, np.ndarray] = {
            name: np.concatenate([part[name] for part in parts])
            for name in (*METRICS, *self.extras)
        }
        missed = areas_under_roc(self.fine[group]) - areas_under_roc(
            self.scores[group].sum(0, dtype=float)
        )
        replicates["auc"] = replicates["auc"] + missed
        measured, pairs = self.measure(group), self.pairs[group]
        rows = np.stack([pairs.diagonal(), pairs.sum(0), pairs.sum(1)])
        for name in ("auc", "weighted_f1"):
            own = np.full(len(weights), measured[name])
            replicates[name] = np.stack([replicates[name], own])
        return replicates | around_class_means(tables[1], rows, weights, measured)

    def _metrics(
        self,
        scores: "np.ndarray",
        counts: "np.ndarray",
        sums: "np.ndarray",
        calibration: "np.ndarray",
    ) -> dict[str, "np.ndarray"]:
        """Metrics from sums, each with a leading axis of replicates."""
        import numpy as np

        rows = counts[:, 2].sum(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                **from_counts(counts[:, 0], counts[:, 1], counts[:, 2]),
                "auc": areas_under_roc(scores),
                "log_loss": sums[:, 1] / rows,
                "brier": sums[:, 0] / rows,
                "calibration_error": calibration_error(calibration),
                **{name: sums[:, column] / rows for column, name in enumerate(self.extras, 2)},
            }
