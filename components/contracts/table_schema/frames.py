"""Rows as polars takes them and a report shows them, and what polars raises."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from slipway.components.contracts.table_schema.bounds import ticks
from slipway.components.support.errors import SlipwayError, is_failure

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@contextmanager
def evaluates(table: str, columns: Iterable[str]) -> Iterator[None]:
    """Turns whatever polars raises, a panic too, into a message that names the columns.

    Raises:
        SlipwayError: in place of a failure.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, SlipwayError) or not is_failure(error):
            raise
        reason = " ".join(str(error).split()).rstrip(".")[:300]
        raise SlipwayError(
            f"Table {table}: the checks of {', '.join(sorted(columns))} cannot be evaluated:"
            f" {reason}. Leave the column out with `columns:`, or its checks out of the schema."
        ) from error


def shown(value: "pa.Scalar") -> str:
    """A value as a report shows it; a time past the year 9999 is no Python object."""
    try:
        return str(value.as_py())
    except (OverflowError, ValueError):
        return f"{ticks(value).as_py():,} {getattr(value.type, 'unit', 'days')} since 1970"


def all_in(column: "pa.ChunkedArray", allowed: frozenset[str]) -> bool:
    """Whether a dictionary column's dictionaries hold allowed values only."""
    return all(
        allowed.issuperset(value for value in chunk.dictionary.to_pylist() if value is not None)
        for chunk in column.chunks
    )


def frame_of(table: "pa.Table", names: set[str]) -> "pl.DataFrame":
    """The columns as a polars frame, with text as text."""
    import polars as pl
    import pyarrow as pa

    table = table.select(sorted(names))
    schema = pa.schema(
        [f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in table.schema]
    )
    frame = pl.from_arrow(table.cast(schema))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101
    return frame
