"""What the footer of a parquet file says of a row group: enough to clear many a check unread."""

from typing import TYPE_CHECKING

from slipway.components.contracts.table_schema.checks import Span

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def spans_of(footer: "pq.RowGroupMetaData", schema: "pa.Schema") -> dict[str, Span]:
    """What the footer of a row group says of each column."""
    import pyarrow as pa

    # Text statistics may be cut off, and those of floats pass over NaN. Times as they stand in the
    # file: past the year 9999 they are no Python object.
    integers = {field.name for field in schema if pa.types.is_integer(field.type)}
    times = {field.name for field in schema if pa.types.is_temporal(field.type)}
    spans = dict.fromkeys(schema.names, Span(rows=footer.num_rows))
    for index in range(footer.num_columns):
        column = footer.column(index)
        name, found = column.path_in_schema, column.statistics
        if found is None or name not in spans:
            continue
        nulls = found.null_count if found.has_null_count else None
        low = high = None
        if found.has_min_max and name in integers:
            low, high = found.min, found.max
        elif found.has_min_max and name in times and found.physical_type in ("INT64", "INT32"):
            low, high = found.min_raw, found.max_raw
        spans[name] = Span(rows=footer.num_rows, nulls=nulls, low=low, high=high)
    return spans
