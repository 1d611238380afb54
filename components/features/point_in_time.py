"""The point-in-time join: for every entity row the newest value that was known at its moment.

Polars only; Feast is not imported here. The store in `offline_store` adapts it to Feast's interface.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_ROW = "__slipway_row"
_AT = "__slipway_at"
_TIME = "__slipway_time"
_CREATED = "__slipway_created"
_SEEN = "__slipway_seen"
_RANK = "__slipway_rank"

CHUNK_VALUES = 8_000_000
MIN_CHUNK = 250_000
"""A view is read in chunks of about CHUNK_VALUES values, and at least MIN_CHUNK rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRows:
    """The rows of one view, and how they join.

    Attributes:
        rows: lazy frame with the keys, the timestamps and the features.
        keys: the view's key column to the entity rows' column.
        timestamp: when a row's value holds from; no null.
        created: when the row was written; of rows with equal timestamps the later created wins.
        features: the view's column to its name in the result.
        ttl: a value older than this at the entity row's moment is not used; None: no limit. A
            value exactly as old as the TTL is.
        created_before: use a row only from the moment when it was created.
    """

    rows: "pl.LazyFrame"
    keys: dict[str, str]
    timestamp: str
    features: dict[str, str]
    created: str | None = None
    ttl: timedelta | None = None
    created_before: bool = False


def join_point_in_time(
    entities: "pl.DataFrame", timestamp: str, views: list[ViewRows]
) -> "pl.DataFrame":
    """Adds each view's features to the entity rows.

    Every entity row comes out once, in its place; a row without a match (no such key, a null key, a
    null moment, all values later or expired) has nulls.

    Args:
        entities: entity rows; `timestamp` is a datetime column in UTC.
        timestamp: the entity rows' moment.
        views: the views to join.

    Returns:
        The entity rows with the features of all views behind them.
    """
    import polars as pl

    found = [_join_view(entities, timestamp, view) for view in views]
    return pl.concat([entities, *found], how="horizontal")


def _join_view(entities: "pl.DataFrame", timestamp: str, view: ViewRows) -> "pl.DataFrame":
    """The view's features for each entity row, in their order.

    The view is read a chunk at a time: each chunk's best match replaces an earlier chunk's where it
    is newer. So memory grows with the entity rows and not with the view.
    """
    import polars as pl

    by = list(view.keys.values())
    left = (
        entities.lazy()
        .select(*by, pl.col(timestamp).cast(pl.Datetime("us", "UTC")).alias(_AT))
        .with_row_index(_ROW)
        .drop_nulls([*by, _AT])
        .sort(_AT)
        .collect()
    )
    best: pl.DataFrame | None = None
    for rows in _chunks(left, view):
        found = _newest_in(left, rows, view)
        best = found if best is None else _newer(best, found)
    if best is None:
        best = _newest_in(left, _known_rows(view.rows.head(0), view).collect(), view)
    names = list(view.features.values())
    if view.ttl:
        alive = pl.col(_TIME) + view.ttl >= left[_AT]
        best = best.with_columns(pl.when(alive).then(pl.col(name)).alias(name) for name in names)
    if left.height == entities.height:
        return best.select(names)[left[_ROW].arg_sort()]
    index = entities.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias(_ROW))
    placed = pl.concat([left.select(_ROW), best.select(names)], how="horizontal")
    return index.join(placed, on=_ROW, how="left", maintain_order="left").select(names)


def _chunks(left: "pl.DataFrame", view: ViewRows) -> Iterator["pl.DataFrame"]:
    """The view's rows that some entity row may see, some millions of values at a time."""
    import polars as pl

    if left.is_empty():
        return
    first, last = left[_AT][0], left[_AT][-1]
    size = max(MIN_CHUNK, CHUNK_VALUES // (len(view.features) + len(view.keys) + 1))
    total = view.rows.select(pl.len()).collect().item()
    for offset in range(0, total, size):
        chunk = view.rows if total <= size else view.rows.slice(offset, size)
        rows = _known_rows(chunk, view).filter(pl.col(_SEEN) <= last)
        if view.ttl:
            rows = rows.filter(pl.col(_TIME) >= first - view.ttl)
        yield rows.collect()


def _known_rows(rows: "pl.LazyFrame", view: ViewRows) -> "pl.LazyFrame":
    """Keys, features, _TIME, _CREATED and _SEEN of rows that could match."""
    import polars as pl

    instant = pl.Datetime("us", "UTC")
    stamps = [pl.col(view.timestamp).cast(instant).alias(_TIME)]
    if view.created:
        stamps.append(pl.col(view.created).cast(instant).alias(_CREATED))
    rows = rows.select(
        *(pl.col(key).alias(name) for key, name in view.keys.items()),
        *(pl.col(column).alias(name) for column, name in view.features.items()),
        *stamps,
    ).drop_nulls([*view.keys.values(), _TIME])
    if view.created and view.created_before:
        return rows.drop_nulls(_CREATED).with_columns(
            pl.max_horizontal(_TIME, _CREATED).alias(_SEEN)
        )
    return rows.with_columns(pl.col(_TIME).alias(_SEEN))


def _newest_in(left: "pl.DataFrame", rows: "pl.DataFrame", view: ViewRows) -> "pl.DataFrame":
    """For each of the left rows its newest match among these rows; nulls where there is none."""
    import polars as pl

    keys = list(view.keys.values())
    order = [_TIME, _CREATED] if view.created else [_TIME]
    if view.created and view.created_before:
        # A row is seen from the later of its two times on. Of the rows seen so far the newest
        # counts, so one that is already outdated when it is first seen never does.
        rows = rows.sort([_SEEN, *order], maintain_order=True).with_columns(
            pl.struct(order).rank("ordinal").alias(_RANK)
        )
        rows = rows.filter(pl.col(_RANK) == pl.col(_RANK).cum_max().over(keys)).drop(_RANK)
    else:
        rows = rows.sort(order, nulls_last=False, maintain_order=True)
    left, rows = _same_key_types(left, rows, keys)
    return left.join_asof(
        rows, left_on=_AT, right_on=_SEEN, by=keys, strategy="backward", check_sortedness=False
    ).select(*order, *view.features.values())


def _newer(best: "pl.DataFrame", found: "pl.DataFrame") -> "pl.DataFrame":
    """Row by row the newer of two matches; of equal ones the second, which was read later."""
    import polars as pl

    time, other = best[_TIME], found[_TIME]
    better = time.is_null() | (other > time)
    if _CREATED in best.columns:
        created, other_created = best[_CREATED], found[_CREATED]
        tie = created.is_null() | (other_created >= created).fill_null(value=False)
    else:
        tie = pl.repeat(value=True, n=best.height, eager=True)
    take = (other.is_not_null() & (better | ((other == time) & tie))).fill_null(value=False)
    return best.select(
        pl.when(take).then(found[name]).otherwise(pl.col(name)).alias(name) for name in best.columns
    )


def _same_key_types(
    left: "pl.DataFrame", right: "pl.DataFrame", keys: list[str]
) -> tuple["pl.DataFrame", "pl.DataFrame"]:
    """Both sides' keys in one type, as SQL compares them (a pandas key with a gap is a float)."""
    import polars as pl

    for key in keys:
        a, b = left.schema[key], right.schema[key]
        if a == b:
            continue
        if a.is_numeric() and b.is_numeric():
            common: pl.DataType = pl.Float64() if a.is_float() or b.is_float() else pl.Int64()
        else:
            common = pl.String()
        left = left.with_columns(pl.col(key).cast(common))
        right = right.with_columns(pl.col(key).cast(common))
    return left, right
