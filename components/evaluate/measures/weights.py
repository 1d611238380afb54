"""How much each test row counts: the column that `gate.weights` names."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.contracts.rows.scoring import read_part_batches
from slipway.components.contracts.splits import LABEL, part_file
from slipway.components.metrics.weights import WeightSums, read_weights
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_SETTING = "gate.weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowWeights:
    """What weighs the rows of a part.

    Attributes:
        column: its name.
        mean: of the part's weights, which are divided by it: what counts rows elsewhere (how many are
            enough for a point of a curve) then holds for weighed ones too.
        effective_rows: how many rows of equal weight tell as much (Kish).
    """

    column: str
    mean: float
    effective_rows: float

    def of(self, table: "pa.Table") -> "np.ndarray":
        """Weights of rows of the part, float64 [N]; 1 on average over the whole part."""
        return weights_of(table, self.column) / self.mean


def weights_of(table: "pa.Table", column: str) -> "np.ndarray":
    """The weights of rows as the column has them, float64 [N]."""
    return read_weights(table[column], f"{_SETTING} ({column})")


def sample_weights(table: "pa.Table", column: str, part: str) -> "np.ndarray":
    """The weights of a sample of a part's rows, float64 [N]; 1 on average.

    Raises:
        SlipwayError: some cannot weigh a row.
    """
    weights, sums = weights_of(table, column), WeightSums()
    sums.add(weights)
    sums.refuse_unfit(f"{_SETTING} ({column})", part, zero_weighs=False)
    return weights / weights.mean()


def plan_weights(folder: Path, column: str | None) -> RowWeights | None:
    """What weighs the test rows, after one pass over the column; None: nothing does.

    Raises:
        SlipwayError: the test table has no such column, or it cannot weigh rows.
    """
    import pyarrow.parquet as pq

    if column is None:
        return None
    names = pq.read_schema(part_file(folder, "test")).names
    if column not in names or column == LABEL:
        raise SlipwayError(
            f"{_SETTING} names '{column}', which the test table does not have. It has:"
            f" {', '.join(name for name in names if name != LABEL)}."
        )
    sums = WeightSums()
    for table in read_part_batches(folder, "test", [column]):
        sums.add(weights_of(table, column))
    sums.refuse_unfit(f"{_SETTING} ({column})", "test", zero_weighs=False)
    if not sums.rows:
        return RowWeights(column=column, mean=1.0, effective_rows=0.0)
    return RowWeights(
        column=column, mean=sums.total / sums.rows, effective_rows=sums.effective_rows
    )
