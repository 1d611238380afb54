"""The key of a row that no single column names: made of several columns, or of the row's content.

One text, under the name `row_id`, so that splits, predictions, the inference log and late labels name a
row in one way. Features and monitor make it here, of tables; the predictor, which has no library for
tables, in `joined_key`.

- Several columns: their values as texts, joined as `joined_key` says. It is null where a value is.
- No key: a hash of the row without its label (which comes later), 32 hexadecimal digits. Rows that are
  equal in all else get "-1", "-2" and so on behind it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from slipway.components.contracts.rows.content_hash import row_hashes
from slipway.components.support.columns import ROW_ID as ROW_ID

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from slipway.components.config.features.features import FeaturesConfig

HASH_DIGITS = 32


def key_sources(config: "FeaturesConfig", columns: Iterable[str]) -> list[str]:
    """The examples' columns that a row's key is made of.

    Args:
        config: the project's `features` section.
        columns: all columns of the examples' table.
    """
    label = config.label
    content = sorted(set(columns) - {label.column, label.known})
    return list(config.examples.key_columns) or content


def row_keys(table: "pa.Table", config: "FeaturesConfig", columns: Iterable[str]) -> "pl.Series":
    """Each row's key, as a column named `FeaturesConfig.examples.row_key`.

    Args:
        table: rows of the examples' table with `key_sources`, and the label's column where it is known.
        config: the project's `features` section.
        columns: all columns of the examples' table.
    """
    import polars as pl

    spec = config.examples
    if isinstance(spec.key, str):
        return pl.DataFrame(table.select([spec.key]))[spec.key]
    if spec.key is not None:
        return joined(pl.DataFrame(table.select(list(spec.key)))).alias(ROW_ID)
    hashes = content_hashes(table, key_sources(config, columns))
    told = None
    if config.label.column in table.column_names:
        told = pl.DataFrame(table.select([config.label.column])).to_series().cast(pl.String)
    return numbered(hashes, told)


def joined(keys: "pl.DataFrame") -> "pl.Series":
    """Each row's columns as one text, as `joined_key` makes it; null where one of them is."""
    import polars as pl

    escaped = [
        pl.col(name)
        .cast(pl.String)
        .str.replace_all("\\", "\\\\", literal=True)
        .str.replace_all("|", "\\|", literal=True)
        for name in keys.columns
    ]
    return keys.select(pl.concat_str(escaped, separator="|").alias(ROW_ID)).to_series()


def content_hashes(table: "pa.Table", columns: list[str]) -> "pl.Series":
    """A hash of each row's values of some columns, the same in any order of columns and files."""
    import polars as pl
    import pyarrow as pa

    plain = {name: _plain(table[name]) for name in columns}
    halves = []
    for salt in ("", "2:"):  # two hashes of 64 bits, since the columns' names are part of each
        named = pa.table({f"{salt}{name}": column for name, column in plain.items()})
        batches = named.combine_chunks().to_batches()
        halves.append([digits for batch in batches for digits in row_hashes(batch).tolist()])
    texts = [f"{first:016x}{second:016x}" for first, second in zip(*halves, strict=True)]
    return pl.Series(ROW_ID, texts, dtype=pl.String)


def _plain(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """A text of any width, or of a dictionary, as a text."""
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or kind != column.type:
        return (
            column.cast(kind).cast(pa.string()) if kind != column.type else column.cast(pa.string())
        )
    return column


def numbered(hashes: "pl.Series", told: "pl.Series | None" = None) -> "pl.Series":
    """The hashes, with "-1", "-2" and so on behind those that came before.

    Args:
        hashes: of all rows that may be equal.
        told: the rows' labels, which say the order of equal rows; None: they are as they come.
    """
    import polars as pl

    order = pl.Series("told", [None] * len(hashes), dtype=pl.String) if told is None else told
    rows = pl.DataFrame({ROW_ID: hashes, "told": order}).with_row_index("row")
    rows = rows.sort(ROW_ID, "told", "row", nulls_last=True)
    before = pl.int_range(pl.len()).over(ROW_ID)
    name = pl.when(before > 0).then(pl.format("{}-{}", ROW_ID, before)).otherwise(ROW_ID)
    return rows.with_columns(name.alias(ROW_ID)).sort("row")[ROW_ID]
