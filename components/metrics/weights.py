"""The column that weighs rows, in training and at the gate: read, and refused where it cannot weigh."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def read_weights(column: "pa.ChunkedArray", setting: str) -> "np.ndarray":
    """A column's values as weights: float64 [N], NaN where it is null.

    Args:
        column: of a table of the splits.
        setting: what names it, for messages.

    Raises:
        SlipwayError: it holds no numbers.
    """
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise SlipwayError(f"{setting} names a column of type {kind}, which holds no numbers.")
    # A whole number beyond 2**53 is rounded: as a weight that is nothing.
    weights: np.ndarray = column.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy()
    return weights


@dataclass(slots=True, kw_only=True)
class WeightSums:
    """What weights come to, batch by batch.

    Attributes:
        rows: how many were seen. missing: null or NaN.
        total, squares: sums of the weights and of their squares.
    """

    rows: int = 0
    missing: int = 0
    infinite: int = 0
    negative: int = 0
    zero: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, weights: "np.ndarray") -> None:
        """Counts weights, float64 [N]."""
        import numpy as np

        self.rows += len(weights)
        self.missing += int(np.isnan(weights).sum())
        self.infinite += int(np.isposinf(weights).sum())
        self.negative += int((weights < 0).sum())
        self.zero += int((weights == 0).sum())
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # see `refuse_unfit`
            self.total += float(weights.sum())
            self.squares += float((weights**2).sum())

    @property
    def effective_rows(self) -> float:
        """How many rows of equal weight tell as much (Kish 1965, section 8.2)."""
        return self.total / self.squares * self.total

    def refuse_unfit(self, setting: str, part: str, *, zero_weighs: bool) -> None:
        """Refuses what cannot weigh rows.

        Args:
            setting: what names the column, for the message.
            part: whose rows these are.
            zero_weighs: whether a weight of 0 is one, so long as not all are.

        Raises:
            SlipwayError: with how many rows are wrong, and in which way.
        """
        found = {"null or NaN": self.missing, "infinite": self.infinite, "below 0": self.negative}
        if not zero_weighs or self.zero == self.rows:
            found["0"] = self.zero
        if not any(found.values()):
            if self.rows and not 0 < self.squares * self.total < math.inf:
                raise SlipwayError(
                    f"{setting}: the weights of the {part} part are so large or so small that their sum"
                    " or the sum of their squares is no number. Give them in another unit."
                )
            return
        counts = ", ".join(f"{rows:,} are {what}" for what, rows in found.items() if rows)
        least = "0 or more (and not all 0)" if zero_weighs else "above 0"
        raise SlipwayError(
            f"{setting}: of {self.rows:,} rows of the {part} part {counts}. A weight is a finite number"
            f" {least}: fill or leave out those rows at the source, or let the schema refuse them"
            " (`exclusiveMinimum: 0`)."
        )
