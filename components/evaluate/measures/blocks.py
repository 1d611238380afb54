"""Which rows are resampled together, and the bootstrap over them.

Rows of a day (or of an aircraft, a customer) are not independent. Resampling rows one by one would call
a difference certain that the next month takes back, so whole blocks are drawn.
"""

from typing import TYPE_CHECKING

from slipway.components.contracts.splits import TIME
from slipway.components.metrics.tally import MAX_BLOCKS
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MICROSECONDS = {"hour": 3_600_000_000, "day": 86_400_000_000, "week": 7 * 86_400_000_000}
MIN_BLOCKS = 10
"""With fewer blocks than this there is no interval: the spread of so few says little."""


def column_of(block: str, key: str) -> str:
    """The column that a `gate.block` setting is made from."""
    if block in MICROSECONDS:
        return TIME
    return key if block == "row" else block


def block_of(table: "pa.Table", block: str, key: str) -> "np.ndarray":
    """The block of each row, int64 [N] within 0 and 999.

    More than 1000 blocks are put together, by hash or by turns: the parts stay independent, so the
    interval stays right, and memory stays flat. The order of the rows does not matter.

    Args:
        table: has the column of the block.
        block: "day", "hour", "week", "row" or a column.
        key: the column that names a row.

    Raises:
        SlipwayError: the table has no such column.
    """
    import polars as pl
    import pyarrow as pa

    name = column_of(block, key)
    if name == TIME and name not in table.column_names:
        raise SlipwayError(
            f"gate.block is '{block}', a stretch of time, and the rows have no time. Use row, or one of:"
            f" {', '.join(table.column_names)}."
        )
    if name not in table.column_names:
        raise SlipwayError(
            f"gate.block is '{block}', but the test table has no column '{name}'. Use day, hour, week,"
            f" row or one of: {', '.join(table.column_names)}."
        )
    if block in MICROSECONDS:
        stamps = table[name].cast(pa.timestamp("us", table[name].type.tz)).cast(pa.int64())
        return (stamps.to_numpy() // MICROSECONDS[block]) % MAX_BLOCKS
    values = pl.Series(table[name].cast(pa.string()))
    return (values.fill_null("").hash(seed=0) % MAX_BLOCKS).to_numpy().astype("int64")


def draw_weights(blocks: int, resamples: int, seed: int) -> "np.ndarray":
    """How often each block is drawn in each replicate: [resamples, blocks], each row sums to blocks."""
    import numpy as np

    chances = np.full(blocks, 1 / blocks)
    return np.random.default_rng(seed).multinomial(blocks, chances, size=resamples).astype(float)
