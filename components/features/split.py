"""Which part a row is in: by the clock, or by a draw that depends on the row alone.

A draw is a hash of a row's key (or of its group's) and the seed, as a number from 0 to 1. So a row is in
the same part whatever the order of the rows, on every machine, and whatever rows come or go beside it.
Only stratified parts look at other rows, since they give each value of the label its exact shares: there
a row at the edge of a part may change it when rows come or go.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from slipway.components.config.base import format_instant
from slipway.components.config.features.features import FeaturesConfig
from slipway.components.contracts.dataset import Manifest
from slipway.components.contracts.rows.row_key import HASH_DIGITS
from slipway.components.contracts.splits import LABEL, PART, PARTS, TIME, SplitRule
from slipway.components.support.errors import SlipwayError

if TYPE_CHECKING:
    import polars as pl

Windows = Mapping[str, tuple[datetime, datetime]]
_DRAW = "__draw"
_BYTES = 8
_FEW_GROUPS = 10


def split_rule(manifest: Manifest, config: FeaturesConfig) -> SplitRule:
    """How rows are parted, and what a split by time would tell beyond that."""
    split = config.split
    return SplitRule(
        method=config.split_method,
        by=split.by or "",
        seed=(split.seed or 0) if split.drawn else None,
        advice=_advice(manifest, config) if split.drawn else "",
    )


def _advice(manifest: Manifest, config: FeaturesConfig) -> str:
    columns = manifest.tables[config.examples.table].columns
    times = [name for name, kind in columns.items() if kind.startswith(("timestamp", "date"))]
    named = config.examples.time or next((n for n in times if n != config.label.known), None)
    if named is None:
        return ""
    return (
        f"the rows have a time ({named}), and the parts do not follow it: the model is tested on rows"
        " that are no later than those it learnt from, and will be asked about later ones. A split by"
        " time measures that (features.split, method: time)"
    )


def part_of(rows: "pl.DataFrame", config: FeaturesConfig, windows: Windows | None) -> "pl.Series":
    """The part of each row; null: of none (in a gap, or of a group that another part has).

    Args:
        rows: the examples with their key, with TIME where they have one, the group's column where rows
            are split by groups, and LABEL.
        config: the `features` section.
        windows: part to its stretch of time; None: the examples have no time.
    """
    import polars as pl

    split = config.split
    if split.drawn:
        return _drawn(rows, config)
    assert windows is not None  # noqa: S101 - the section refuses parts by time without a time
    part = pl.lit(None, pl.String)
    for name in PARTS:
        inside = pl.col(TIME).is_between(*windows[name], closed="left")
        part = pl.when(inside).then(pl.lit(name)).otherwise(part)
    found = rows.select(part.alias(PART))[PART]
    return found if split.by is None else _first_of_group(rows, found, split.by)


def _first_of_group(rows: "pl.DataFrame", parts: "pl.Series", by: str) -> "pl.Series":
    """The part that time gives a row, where it is the part of its group's first row; else null."""
    import polars as pl

    first = (
        pl.DataFrame([rows[by], rows[TIME], parts])
        .with_row_index("__row")
        .with_columns(
            # In the gap too: a group that began there is in no part.
            first=pl.col(PART).sort_by(TIME, "__row").first().over(by)
        )
    )
    return first.select(
        pl.when(pl.col(PART) == pl.col("first")).then(PART).otherwise(None).alias(PART)
    )[PART]


def _drawn(rows: "pl.DataFrame", config: FeaturesConfig) -> "pl.Series":
    import polars as pl

    split, name = config.split, config.split.by or config.examples.row_key
    validation, test = split.shares
    drawn = rows[name]
    if split.by is None and config.examples.key is None:
        # Rows with the same content are in the same part.
        drawn = drawn.str.slice(0, HASH_DIGITS)
    units = rows.select(name, LABEL).with_columns(draws(drawn, split.seed or 0))
    if split.method == "stratified":
        rank = pl.col(_DRAW).rank("ordinal").over(LABEL) - 0.5
        units = units.with_columns((rank / pl.len().over(LABEL)).alias(_DRAW))
    return units.select(
        pl.when(pl.col(_DRAW) < test)
        .then(pl.lit("test"))
        .when(pl.col(_DRAW) < test + validation)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("train"))
        .alias(PART)
    )[PART]


def draws(values: "pl.Series", seed: int) -> "pl.Series":
    """A number of [0, 1) for each value, from its text and the seed: the same in every release."""
    import polars as pl

    start = hashlib.blake2b(f"{seed}\0".encode(), digest_size=_BYTES)

    @cache
    def draw(text: str) -> float:
        own = start.copy()
        own.update(text.encode())
        # 53 bits, which a float64 holds: rounded from 64, a draw could be 1.
        return (int.from_bytes(own.digest(), "big") >> 11) / 2**53

    texts = values.cast(pl.String).to_list()
    return pl.Series(_DRAW, map(draw, texts), dtype=pl.Float64)


def require_groups(rows: "pl.DataFrame", by: str) -> None:
    """Refuses rows without a group: nobody knows which others they belong to.

    Raises:
        SlipwayError: with their number.
    """
    if lacking := rows[by].null_count():
        raise SlipwayError(
            f"features.split.by: {lacking:,} of {rows.height:,} rows have no {by}, and so no group. Fill"
            " it at the source, or split by another column."
        )


def cut(
    rows: "pl.DataFrame", config: FeaturesConfig, windows: Windows | None
) -> dict[str, "pl.DataFrame"]:
    """Cuts labelled rows into parts.

    Raises:
        SlipwayError: a part has no row.
    """
    found = part_of(rows, config, windows)
    parts = {part: rows.filter(found == part) for part in PARTS}
    empty = next((part for part in PARTS if parts[part].is_empty()), None)
    if empty is not None:
        raise SlipwayError(_no_row(rows, config, windows, empty))
    return parts


def _no_row(
    rows: "pl.DataFrame", config: FeaturesConfig, windows: Windows | None, part: str
) -> str:
    """What to say of a part without a row."""
    split = config.split
    if split.drawn or windows is None:
        of, remedy = "them", "Raise its share in features.split, or give more rows."
        if split.by:
            groups = rows[split.by].n_unique()
            of = f"the {groups:,} groups of {split.by}"
            if groups < _FEW_GROUPS:
                remedy = (
                    "Parts have whole groups: split by a column that has more of them, or by rows."
                )
        return (
            f"The {part} part has no row: there are {rows.height:,} with a label, and the draw gave it"
            f" none of {of}. {remedy}"
        )
    start, end = (format_instant(at) for at in windows[part])
    inside = rows.filter(rows[TIME].is_between(*windows[part], closed="left")).height
    if split.by and inside:
        return (
            f"The {part} part, {start} to {end}, has no row of a group of its own: each of its"
            f" {inside:,} rows is of a {split.by} that came before. Make the part longer, or draw the"
            " groups, with shares for validation and test in features.split."
        )
    first, last = (format_instant(at) for at in (rows[TIME].min(), rows[TIME].max()))  # type: ignore[arg-type]
    return (
        f"The {part} part, {start} to {end}, has no row with a label: those are from {first} to"
        f" {last}. Set data.window to where the data are, or change features.split."
    )
