"""Slices: groups of test rows that are measured on their own."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.gate import SliceRule
from slipway.components.contracts.rows.scoring import read_part_batches
from slipway.components.contracts.splits import LABEL, TIME, Splits, part_file
from slipway.components.metrics.fairness import as_texts
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MONTH = "month"
MAX_VALUES = 200
_AUTOMATIC_VALUES = 20
_AUTOMATIC_COLUMNS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceColumn:
    """One column to slice by: its values, the most common first, and whether a rule looks at it.

    Attributes:
        source: the column of the test table that it is made from: its own, or TIME for the month.
    """

    name: str
    values: tuple[str, ...]
    declared: bool
    source: str

    def groups(self, table: "pa.Table") -> "np.ndarray":
        """The index of each row's value, int64 [N]; -1 where it has no slice of its own."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.index_in(texts(table, self.source), pa.array(self.values, pa.string()))
        return found.fill_null(-1).to_numpy().astype("int64")


def _source(name: str, columns: list[str]) -> str:
    """The column that a slice is made from: `month` is the calendar's unless there is such a column."""
    calendar = name == MONTH and MONTH not in columns and TIME in columns
    return TIME if calendar else name


def texts(table: "pa.Table", name: str) -> "pa.ChunkedArray":
    """A column's values as the texts that name slices and groups; of TIME its month."""
    import pyarrow.compute as pc

    return pc.strftime(table[TIME], format="%Y-%m") if name == TIME else as_texts(table[name])


def require_groups(name: str, schema: "pa.Schema", setting: str) -> None:
    """Refuses a column whose values name no groups of rows.

    Raises:
        SlipwayError: it is not there, is the label, or a number with fractions.
    """
    import pyarrow as pa

    if name not in schema.names or name == LABEL:
        raise SlipwayError(
            f"{setting} names '{name}', which the test table does not have. It has:"
            f" {', '.join(n for n in schema.names if n != LABEL)}"
            + (f", and {MONTH}." if TIME in schema.names else ".")
        )
    if pa.types.is_floating(schema.field(name).type):
        raise SlipwayError(
            f"{setting} names '{name}', a number: slices need categories. Name a"
            " categorical or boolean feature, a key, or month."
        )


def plan_slices(folder: Path, splits: Splits, rule: SliceRule) -> list[SliceColumn]:
    """Finds the columns to slice by and their values, in one pass over those columns only.

    Declared columns come first. Automatic ones are the categorical features with 2 to 20 values in the
    training part (at most six, in order) and the month. Values that no rule looks at, because they are
    neither required nor have enough rows, get no slice.

    Raises:
        SlipwayError: a declared column is not in the test table, is the label, is a number, or has
            more values to judge than memory allows for.
    """
    import pyarrow.parquet as pq

    schema = pq.read_schema(part_file(folder, "test"))
    source = {name: _source(name, schema.names) for name in rule.columns}
    for name in rule.columns:
        if source[name] != TIME:
            require_groups(name, schema, "gate.slices.columns")
    automatic = []
    if rule.automatic:
        for name in splits.of_kind("categorical"):
            values = splits.statistics.get(name, {}).get("values", {})
            if 2 <= len(values) <= _AUTOMATIC_VALUES and name not in rule.columns:
                automatic.append(name)
        automatic = automatic[:_AUTOMATIC_COLUMNS]
        if MONTH not in rule.columns and _source(MONTH, schema.names) == TIME:
            automatic.append(MONTH)
    names = [*rule.columns, *automatic]
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    source = {name: _source(name, schema.names) for name in names}
    sources = list(dict.fromkeys(source.values()))
    for table in read_part_batches(folder, "test", sources) if sources else ():
        for name in names:
            for pair in texts(table, source[name]).value_counts().to_pylist():
                counts[name][pair["values"]] += pair["counts"]
    columns = []
    for name in names:
        ranked = sorted(counts[name], key=lambda value: (-counts[name][value], value))
        wanted = [value for value in rule.required.get(name, []) if value in counts[name]]
        enough = [value for value in ranked if counts[name][value] >= rule.min_rows]
        chosen = tuple(dict.fromkeys([*wanted, *enough]))
        if len(chosen) > MAX_VALUES and name in rule.columns:
            # Leaving some out would let them pass unseen.
            raise SlipwayError(
                f"gate.slices.columns names '{name}', which has {len(chosen):,} values with at least"
                f" {rule.min_rows:,} rows; at most {MAX_VALUES} can be judged. Raise"
                " gate.slices.min_rows, or slice by a coarser column."
            )
        columns.append(
            SliceColumn(
                name=name,
                values=chosen[:MAX_VALUES],
                declared=name in rule.columns,
                source=source[name],
            )
        )
    return columns
