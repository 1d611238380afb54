"""A small world of trips, drivers, zones and weather, with a project's features section over it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WINDOW = ("2024-01-01T00:00:00Z", "2024-01-11T00:00:00Z")
CONFIG: dict[str, Any] = {
    "entities": {"trip": "trip_id", "driver": "driver", "zone": "zone"},
    "examples": {"table": "trips", "key": "trip_id", "time": "starts", "lead": "1h"},
    "label": {"column": "delay", "above": 10, "known": "ends"},
    "split": {"validation": "2d", "test": "2d", "gap": "6h"},
    "views": [
        {
            "name": "plan",
            "entity": "trip",
            "table": "trips",
            "time": "starts",
            "available": "2d",
            "fields": {"miles": "miles", "night": "night", "leaves": "starts_local", "to": "zone"},
        },
        {"name": "person", "entity": "driver", "table": "drivers", "fields": {"age": "age"}},
        {
            "name": "sky",
            "entity": "zone",
            "table": "weather",
            "time": "observed",
            "known": "published",
            "ttl": "4h",
            "fields": {"rain": "rain"},
        },
        {
            "name": "driver_delays",
            "entity": "driver",
            "table": "trips",
            "time": "starts",
            "known": "ends",
            "aggregates": {
                "driver_delay": {"function": "mean", "column": "delay", "window": "1d"},
                "driver_trips": {"function": "count", "window": "1d"},
                "driver_last": {"function": "last", "column": "delay", "window": "12h"},
            },
        },
    ],
}


def trips_table() -> pl.DataFrame:
    rows = []
    for number in range(240):
        starts = START + number * HOUR
        delay = None if number % 20 == 7 else float((number * 7) % 25)
        rows.append(
            {
                "trip_id": f"t{number:03d}",
                "starts": starts,
                "starts_local": starts.replace(tzinfo=None) - 5 * HOUR,
                "ends": None if delay is None else starts + 2 * HOUR,
                "driver": None if number % 31 == 30 else number % 5,
                "zone": "north" if number % 2 else "south",
                "miles": number % 12,
                "night": number % 24 < 6,
                "delay": delay,
            }
        )
    return pl.DataFrame(
        rows, schema_overrides={"driver": pl.Int64, "ends": pl.Datetime("us", "UTC")}
    )


def world() -> dict[str, pl.DataFrame]:
    hours = [START + h * HOUR for h in range(200)]  # the last 40 hours have no weather
    weather = pl.DataFrame(
        {
            "zone": ["north", "south"] * 200,
            "observed": [hour for hour in hours for _ in range(2)],
            "rain": [float(i % 7) for i in range(400)],
        }
    ).with_columns(published=pl.col("observed") + pl.duration(minutes=30))
    drivers = pl.DataFrame({"driver": [0, 1, 2, 3], "age": [30, 41, None, 60]})
    return {"trips": trips_table(), "weather": weather, "drivers": drivers}
