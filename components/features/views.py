"""The rows of each feature view, made from the dataset's tables.

A view's table has one row a change: the entity's key, `event_timestamp` (when the value became known)
and the features. Numeric features are float64, categorical ones strings, times whole seconds (what
Feast's online store can hold), so that a value is the same online and offline.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.features import FeaturesConfig, FeatureView, Kind, TableField
from slipway.components.contracts.dataset import Manifest, read_batches, read_table
from slipway.components.features import tables
from slipway.components.features.aggregates import HAPPENED, KNOWN, aggregate_rows
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
"""When the rows of a table without time are known from."""
_READ_AT_ONCE = 8


def write_view(
    dataset: Path, manifest: Manifest, config: FeaturesConfig, view: FeatureView, target: str
) -> tuple[int, dict[str, Kind]]:
    """Makes one view's table and writes it; of a long one, a share of the entities at a time.

    Memory grows with the share's rows, which are more than `tables.SHARE` only where one entity has more.

    Args:
        dataset: the validated dataset.
        manifest: its manifest.
        config: the project's `features` section.
        view: the view.
        target: path or URI of the view's table.

    Returns:
        The rows written, and each feature's kind.

    Raises:
        SlipwayError: the dataset lacks a table or column, or a column has a type without a kind.
    """
    import polars as pl
    import pyarrow as pa

    columns = _source_columns(manifest, config, view)
    key, total = columns[0], manifest.tables[view.table].rows
    kinds: dict[str, Kind] = {}

    def read() -> Iterator["pl.DataFrame"]:
        batches = read_batches(dataset, view.table, columns)
        while some := list(islice(batches, _READ_AT_ONCE)):
            yield pl.DataFrame(pa.Table.from_batches(some)).drop_nulls(key)

    def made() -> Iterator["pl.DataFrame"]:
        for share in tables.entity_shares(read(), key, total):
            rows, found = _made(share, config, view)
            kinds.update(found)
            yield rows

    if total > tables.SHARE:
        return tables.write_parts(made(), target), kinds
    rows, kinds = view_rows(dataset, manifest, config, view)
    tables.write_table(rows, target)
    return rows.height, kinds


def view_rows(
    dataset: Path, manifest: Manifest, config: FeaturesConfig, view: FeatureView
) -> tuple["pl.DataFrame", dict[str, Kind]]:
    """Makes one view's table, whole in memory.

    Returns:
        The rows, ordered by key and time, one a key and moment; and each feature's kind.

    Raises:
        SlipwayError: the dataset lacks a table or column, or a column has a type without a kind.
    """
    import polars as pl

    columns = _source_columns(manifest, config, view)
    return _made(pl.DataFrame(read_table(dataset, view.table, columns)), config, view)


def _source_columns(manifest: Manifest, config: FeaturesConfig, view: FeatureView) -> list[str]:
    """The columns that a view is made of, its key first."""
    source_key = view.source_key or config.entities[view.entity]
    wanted = [source_key, view.time, view.known, *sorted(view.source_columns)]
    columns = list(dict.fromkeys(name for name in wanted if name is not None))
    require_columns(manifest, view.table, columns, f"view {view.name}")
    return columns


def _made(
    rows: "pl.DataFrame", config: FeaturesConfig, view: FeatureView
) -> tuple["pl.DataFrame", dict[str, Kind]]:
    """The view's rows from all rows of some entities."""
    import polars as pl

    key = config.entities[view.entity]
    rows = as_utc(rows)
    for column in (view.time, view.known):
        if column and not isinstance(rows.schema[column], pl.Datetime):
            raise SlipwayError(
                f"View {view.name}: column {column} of table {view.table} is"
                f" {rows.schema[column]}, not a timestamp."
            )
    rows = _with_times(rows, view, view.source_key or key, key)
    if view.aggregates:
        for name, aggregate in view.aggregates.items():
            if aggregate.column and not rows.schema[aggregate.column].is_(pl.Boolean):
                _require_numeric(rows, aggregate.column, f"view {view.name}, aggregate {name}")
        aggregates = {name: view.aggregates[name] for name in view.feature_names}
        return aggregate_rows(rows, key, aggregates), dict.fromkeys(aggregates, "numeric")
    kinds: dict[str, Kind] = {}
    expressions = []
    for name in view.feature_names:
        field = view.fields[name]
        kind = field.kind if isinstance(field, TableField) else None
        column = field if isinstance(field, str) else field.column
        kinds[name] = kind or _kind_of(rows.schema[column], f"view {view.name}: column {column}")
        expressions.append(typed(pl.col(column), rows.schema[column], kinds[name]).alias(name))
    return _newest_known(rows, key).select(key, KNOWN, *expressions), kinds


def require_columns(manifest: Manifest, table: str, columns: list[str], where: str) -> None:
    """Refuses a table or column that the dataset does not have.

    Raises:
        SlipwayError: naming what is missing and what is there.
    """
    if table not in manifest.tables:
        raise SlipwayError(
            f"{where} reads table '{table}', which the dataset does not have"
            f" ({', '.join(manifest.tables)}). Add it to data.tables or correct the name."
        )
    there = manifest.tables[table].columns
    missing = [column for column in columns if column not in there]
    if missing:
        raise SlipwayError(
            f"{where} reads {', '.join(missing)}, which table '{table}' does not have. Its columns"
            f" are {', '.join(there)}."
        )


def as_utc(rows: "pl.DataFrame") -> "pl.DataFrame":
    """Times with a zone in UTC, all in microseconds; a time without zone stays a wall clock."""
    import polars as pl

    expressions = []
    for name, kind in rows.schema.items():
        if isinstance(kind, pl.Datetime):
            column = pl.col(name).dt.cast_time_unit("us")
            expressions.append(column.dt.convert_time_zone("UTC") if kind.time_zone else column)
        elif kind == pl.Date:
            expressions.append(pl.col(name).cast(pl.Datetime("us")))
        elif isinstance(kind, pl.Categorical | pl.Enum):
            expressions.append(pl.col(name).cast(pl.String))
    return rows.with_columns(expressions)


def moment(column: str, schema: "pl.Schema") -> "pl.Expr":
    """A timestamp column as an instant; one without zone is taken as UTC."""
    import polars as pl

    kind = schema[column]
    zone = isinstance(kind, pl.Datetime) and kind.time_zone
    return pl.col(column) if zone else pl.col(column).dt.replace_time_zone("UTC")


def typed(column: "pl.Expr", dtype: "pl.DataType", kind: Kind) -> "pl.Expr":
    """A feature's values in the type of its kind."""
    import polars as pl

    if kind == "numeric":
        return column.cast(pl.Float64).fill_nan(None)
    if kind == "categorical":
        return column.cast(pl.String)
    if kind == "boolean":
        return column.cast(pl.Boolean)
    return column.dt.truncate("1s") if isinstance(dtype, pl.Datetime) else column


def _kind_of(dtype: "pl.DataType", where: str) -> Kind:
    import polars as pl

    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_numeric():
        return "numeric"
    if dtype == pl.String:
        return "categorical"
    if isinstance(dtype, pl.Datetime):
        return "time"
    raise SlipwayError(f"{where} is {dtype}, which no feature can be made of. Leave it out.")


def _require_numeric(rows: "pl.DataFrame", column: str, where: str) -> None:
    if not rows.schema[column].is_numeric():
        raise SlipwayError(f"{where}: column {column} is {rows.schema[column]}, not a number.")


def _with_times(
    rows: "pl.DataFrame", view: FeatureView, source_key: str, key: str
) -> "pl.DataFrame":
    """Adds the key under its name, when each row happened and when it became known."""
    import polars as pl

    if view.time is None:
        happened = known = pl.lit(ALWAYS).cast(pl.Datetime("us", "UTC"))
    else:
        happened = moment(view.time, rows.schema)
        known = moment(view.known or view.time, rows.schema) - view.available
    return rows.with_columns(
        pl.col(source_key).alias(key), happened.alias(HAPPENED), known.alias(KNOWN)
    ).drop_nulls([key, KNOWN, HAPPENED])


def _newest_known(rows: "pl.DataFrame", key: str) -> "pl.DataFrame":
    """The rows that are, when they become known, the newest of their entity, one a moment.

    A row that comes late, when a newer one is known already, must not replace it.
    """
    import polars as pl

    rows = rows.sort([key, KNOWN, HAPPENED], maintain_order=True)
    rows = rows.filter(pl.col(HAPPENED) >= pl.col(HAPPENED).cum_max().over(key))
    last = (pl.struct(key, KNOWN) != pl.struct(key, KNOWN).shift(-1)).fill_null(value=True)
    return rows.filter(last)
