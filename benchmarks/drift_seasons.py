"""Drift between stretches of the flights' year: seasons differ, weeks of one season do not."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from benchmarks.flights import flights_splits
from benchmarks.harness import Row, report
from slipway.components.config.monitoring import DriftConfig
from slipway.components.contracts.splits import TIME, Kind, Part, part_file, read_splits
from slipway.components.monitor.measures.drift import compare
from slipway.components.monitor.measures.sketch import (
    NumericSketch,
    Sketch,
    add_column,
    bin_edges,
    hours_since_1970,
    new_sketch,
    numbers,
)

Stretches = list[tuple[str, int]]  # a first day of 2013, month-day, and so many days
PAIRS: list[tuple[str, Stretches, Stretches]] = [
    ("week of 14 October, the week before", [("10-07", 7)], [("10-14", 7)]),
    ("week of 21 October, three weeks before", [("09-30", 21)], [("10-21", 7)]),
    ("week of 11 November, four weeks before", [("10-14", 28)], [("11-11", 7)]),
    ("week of 9 December, week of 14 October", [("10-14", 7)], [("12-09", 7)]),
    ("week of 9 December, three weeks of October", [("09-30", 21)], [("12-09", 7)]),
    ("week of 9 December, four weeks before", [("11-11", 28)], [("12-09", 7)]),
    ("December, October", [("10-01", 31)], [("12-01", 31)]),
    ("week of 14 October, March to September", [("03-01", 214)], [("10-14", 7)]),
    ("week of 9 December, March to September", [("03-01", 214)], [("12-09", 7)]),
    ("Saturday 19 October, four weeks before (rolling)", [("09-21", 28)], [("10-19", 1)]),
    (
        "Saturday 19 October, four Saturdays before (season)",
        [("09-21", 1), ("09-28", 1), ("10-05", 1), ("10-12", 1)],
        [("10-19", 1)],
    ),
]
LIMIT = 0.3


def main() -> None:
    """The share of the features that drifts in each pair, and how often a week alarms."""
    folder = flights_splits()
    kinds: dict[str, Kind] = {f.name: f.kind for f in read_splits(folder).features}
    parts: tuple[Part, ...] = ("train", "validation", "test")
    year = pl.concat([pl.read_parquet(part_file(folder, part)) for part in parts]).sort(TIME)

    def cut(stretches: Stretches) -> pl.DataFrame:
        return pl.concat([between(year, day(first), days) for first, days in stretches])

    rows = []
    for what, old, new in PAIRS:
        ours, by_row = both(cut(old), cut(new), kinds)
        rows.append(Row(what, "rows taken as independent", "share drifted", [ours], [by_row]))
    for days in (7, 28):
        shares = []
        start = day("01-29")
        while start < day("12-25"):
            before = between(year, start - timedelta(days=days), days)
            shares.append(both(before, between(year, start, 7), kinds))
            start += timedelta(days=7)
        ours, by_row = (float((side > LIMIT).mean()) for side in np.array(shares).T)
        what = f"{len(shares)} weeks of the year, each against the {days} days before"
        unit = f"share of weeks above {LIMIT}"
        rows.append(Row(what, "rows taken as independent", unit, [ours], [by_row]))
    report("drift_seasons", rows)


def day(text: str) -> datetime:
    """Where a day of 2013 begins: at midnight in New York's winter."""
    return datetime.fromisoformat(f"2013-{text}T05:00:00").replace(tzinfo=UTC)


def between(rows: pl.DataFrame, start: datetime, days: int) -> pl.DataFrame:
    return rows.filter(pl.col(TIME) >= start, pl.col(TIME) < start + timedelta(days=days))


def both(old: pl.DataFrame, new: pl.DataFrame, kinds: Mapping[str, Kind]) -> tuple[float, float]:
    """The share of the features that drifts, with rows for what they are worth and as they come."""
    edges = {
        name: bin_edges(numbers(old.to_arrow()[name], kind))
        for name, kind in kinds.items()
        if kind in ("numeric", "time")
    }
    before, after = sketches(old, kinds, edges), sketches(new, kinds, edges)
    worth = compare(before, after, kinds, DriftConfig()).share
    return worth, compare(timeless(before), timeless(after), kinds, DriftConfig()).share


def sketches(rows: pl.DataFrame, kinds: Mapping[str, Kind], edges: Any) -> dict[str, Sketch]:
    table = rows.to_arrow()
    hours = hours_since_1970(table[TIME])
    made = {}
    for name, kind in kinds.items():
        made[name] = new_sketch(kind, edges.get(name))
        add_column(made[name], table[name], kind, hours)
    return made


def timeless(made: Mapping[str, Sketch]) -> dict[str, Sketch]:
    return {n: replace(s, hours={}) if isinstance(s, NumericSketch) else s for n, s in made.items()}


if __name__ == "__main__":
    main()
