"""What is compared between groups of rows: rates and errors, and how far they lie apart.

A group's value is a sum over its rows by another one, kept a block, so that a bootstrap replicate needs
no second look at a row. Definitions as in Hardt, Price and Srebro (2016): demographic parity compares
selection rates, equal opportunity the true positive rates, equalised odds both rates.
"""

from typing import TYPE_CHECKING

from slipway.components.metrics.kinds.base import LabelType

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from slipway.components.config.gate import FairnessMeasure

MISSING = "(missing)"
"""The group, and the slice, of rows whose value is null."""
POSITIVE = "1"
"""The class that counts as positive where no other is named: label 1 of two classes."""


def as_texts(column: "pa.ChunkedArray | pa.Array") -> "pa.ChunkedArray":
    """A column's values as the texts that name groups and slices."""
    import pyarrow as pa

    return column.cast(pa.string()).fill_null(MISSING)


def row_sums(
    label: LabelType,
    measure: "FairnessMeasure",
    positive: str | None,
    labels: "np.ndarray",
    answers: "np.ndarray",
) -> "np.ndarray":
    """What each row adds to its group's value: float64 [N, 2], above the line and below it.

    Args:
        label: the kind of label, as the model has it.
        measure: what is compared.
        positive: the class that counts as positive; None: label 1.
        labels: [N], usable ones; only `selection_rate` does without, where they may be anything.
        answers: [N] or [N, W].

    Raises:
        ValueError: the label has no such class.
    """
    import numpy as np

    every = np.ones(len(answers))
    if measure == "error":
        return np.stack([label.row_errors(labels, answers), every], axis=1)
    place = label.class_names.index(positive if positive is not None else POSITIVE)
    selected = label.decide(answers) == place
    if measure == "selection_rate":
        return np.stack([selected.astype(float), every], axis=1)
    asked = labels == place if measure == "true_positive_rate" else labels != place
    return np.stack([(selected & asked).astype(float), asked.astype(float)], axis=1)


def spread(values: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """How far the groups' values [..., G] lie apart: the largest difference, and smallest by largest.

    NaN where a group has none; the ratio also where all are 0.
    """
    import numpy as np

    least, most = values.min(-1), values.max(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return most - least, np.asarray(least / most)


class GroupTally:
    """Sums over rows, by group and by block.

    Attributes:
        sums: float64 [groups, blocks, 2], as `row_sums` gives them.
        counts: int64 [groups], rows that each value is made from, each counted once.
    """

    def __init__(self, label: LabelType, groups: int, blocks: int) -> None:
        """Makes an empty tally."""
        import numpy as np

        self.label = label
        self.sums = np.zeros((groups, blocks, 2))
        self.counts = np.zeros(groups, np.int64)

    def add(
        self,
        rows: "np.ndarray",
        block: "np.ndarray",
        group: "np.ndarray",
        weights: "np.ndarray | None" = None,
    ) -> None:
        """Adds rows [N, 2], each of a block and a group; a negative group leaves the row out.

        `weights` float64 [N] say how much each row counts; None: all once.
        """
        import numpy as np

        inside = group >= 0
        group, rows = group[inside], rows[inside]
        np.add.at(self.counts, group, rows[:, 1].astype(np.int64))
        if weights is not None:
            rows = rows * weights[inside][:, None]
        np.add.at(self.sums, (group, block[inside]), rows)

    def rows(self) -> "np.ndarray":
        """Rows that each group's value is made from, int64 [groups]."""
        return self.counts

    def values(self) -> "np.ndarray":
        """The value of each group, float64 [groups]; NaN where it has no row."""
        return self._values(self.sums.sum(1))

    def resample(self, weights: "np.ndarray", blocks: "np.ndarray") -> "np.ndarray":
        """Values of every bootstrap replicate, [replicates, groups]; arguments as of `LabelTally`."""
        import numpy as np

        return self._values(np.einsum("rb,gbs->rgs", weights, self.sums[:, blocks], optimize=True))

    def _values(self, sums: "np.ndarray") -> "np.ndarray":
        import numpy as np

        with np.errstate(divide="ignore", invalid="ignore"):
            return self.label.error_of(sums[..., 0] / sums[..., 1])
