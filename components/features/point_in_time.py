"""The point-in-time join: for every entity row the newest value that was known at its moment.

Polars and numpy; Feast is not imported here. The store in `offline_store` adapts it to Feast's interface.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Codes = np.ndarray[tuple[int], np.dtype[np.int64]]

_ROW = "__slipway_row"
_AT = "__slipway_at"
_TIME = "__slipway_time"
_CREATED = "__slipway_created"
_SEEN = "__slipway_seen"
_RANK = "__slipway_rank"
_PACKED_BITS = 63
_KEY_BITS = 31
"""A key that is a whole number is its own code where all lie this close together."""

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
        .collect()
    )
    best: pl.DataFrame | None = None
    for rows in _chunks(left, view):
        found = _newest_in(left, rows, view)
        best = found if best is None else _newer(best, found)
    if best is None:
        best = _newest_in(left, _known_rows(view.rows.head(0), view).collect(), view)
    found = best.select(view.features.values())
    if left.height == entities.height:
        return found
    index = entities.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias(_ROW))
    placed = found.with_columns(left[_ROW])
    return index.join(placed, on=_ROW, how="left", maintain_order="left").drop(_ROW)


def _chunks(left: "pl.DataFrame", view: ViewRows) -> Iterator["pl.DataFrame"]:
    """The view's rows that some entity row may see, some millions of values at a time."""
    import polars as pl

    if left.is_empty():
        return
    first, last = left.select(pl.min(_AT), last=pl.max(_AT)).row(0)
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
    """For each of the left rows its newest living match among these rows; nulls where there is none.

    Only positions are looked for; each feature is then fetched once, into its place.
    """
    import numpy as np
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
    elif view.created:
        rows = rows.sort(_CREATED, nulls_last=False, maintain_order=True)
    at, times, seen = (
        column.to_physical().to_numpy() for column in (left[_AT], rows[_TIME], rows[_SEEN])
    )
    found = _last_seen(*_key_codes(left, rows, keys), at, seen)
    names = [*order, *view.features.values()]
    if rows.is_empty():
        return rows.select(names).clear(left.height)
    hit = found >= 0
    if view.ttl:
        hit &= times[found] >= at - view.ttl // timedelta(microseconds=1)
    # Five times faster than fetching by positions with nulls, from rows in many pieces.
    fetched = rows.select(names).rechunk()[pl.Series(np.where(hit, found, 0), dtype=pl.UInt32)]
    alive = pl.Series(hit)
    return fetched.select(pl.when(alive).then(pl.col(name)).alias(name) for name in names)


def _key_codes(
    left: "pl.DataFrame", rows: "pl.DataFrame", keys: list[str]
) -> tuple["Codes", "Codes", int]:
    """Both sides' keys as whole numbers from 0 on, equal for equal keys; and how many bits they take.

    A key that only the view has gets a number that no left row has.
    """
    import polars as pl

    left, rows = (side.select(keys) for side in _same_key_types(left, rows, keys))
    kind = left.schema[keys[0]]
    narrow = kind.is_integer() and kind not in (pl.UInt64, pl.Int128, pl.UInt128)
    if len(keys) == 1 and narrow and left.height and rows.height:
        mine, other = left[keys[0]], rows[keys[0]]
        least = min(int(mine.min()), int(other.min()))  # type: ignore[arg-type]
        most = max(int(mine.max()), int(other.max()))  # type: ignore[arg-type]
        if (most - least).bit_length() <= _KEY_BITS:
            numbers, others = (side.cast(pl.Int64).to_numpy() - least for side in (mine, other))
            return numbers, others, (most - least).bit_length()
    known = left.unique().with_row_index(_ROW)
    numbers, others = (
        side.join(known, on=keys, how="left", maintain_order="left")[_ROW]
        .fill_null(known.height)
        .cast(pl.Int64)
        .to_numpy()
        for side in (left, rows)
    )
    return numbers, others, known.height.bit_length()


def _last_seen(
    codes: "Codes", view_codes: "Codes", bits: int, at: "Codes", seen: "Codes"
) -> "Codes":
    """For each left row the position of the last view row with its code and seen <= at; or -1.

    Of view rows with equal code and time the last one counts. Code and time are packed into one
    64-bit number, so that one sort and one search do what a join by key and time does: half the
    CPU time of polars' `join_asof` and less, most where there are many keys (benchmarks/pit_join).

    Args:
        codes: int64 [left rows], 0 or more, below 2**bits.
        view_codes: int64 [view rows], likewise.
        bits: how many bits a code takes.
        at: int64 [left rows], microseconds since 1970.
        seen: int64 [view rows], likewise.
    """
    import numpy as np

    if not codes.size or not seen.size:
        return np.full(codes.size, -1)
    start = int(min(at.min(), seen.min()))
    span = int(max(at.max(), seen.max())) - start
    if bits + span.bit_length() > _PACKED_BITS:
        # As ranks among the view's moments, times take no more bits than the chunk has rows.
        moments, seen = np.unique(seen, return_inverse=True)
        at, start, span = _search(moments, at), -1, moments.size
    width = span.bit_length()
    packed = view_codes << width | seen - start
    order = np.argsort(packed, kind="stable")
    packed = packed[order]
    last = _search(packed, codes << width | at - start)
    matches = (last >= 0) & (packed[last] >> width == codes)
    return np.where(matches, order[last], -1)


def _search(ordered: "Codes", wanted: "Codes") -> "Codes":
    """For each number the position of the last one in the ordered array that is <= it; or -1."""
    import numpy as np

    # numpy searches for numbers in order ten times faster than for numbers in any order.
    turn = np.argsort(wanted)
    found = np.empty_like(turn)
    found[turn] = np.searchsorted(ordered, wanted[turn], "right") - 1
    return found


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
