"""Skew: what serving saw against what the offline store says for the same entity and moment.

A sample of the logged rows is looked up by its example's key: the labels' table names its entities, and
the view's table (see `contracts.feature_store`) what was known of them at the moment of the
prediction. Each value is then compared as it stands; one that is made of others with what their offline
values make, so that what is no input itself (`not_inputs`) is looked at too. A moment that the view's
table does not reach yet is not compared: the table is as new as the last training or backfill.
"""

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.base import EARLIEST
from slipway.components.config.features.features import FeaturesConfig, FeatureView
from slipway.components.config.features.reach import longest_window
from slipway.components.contracts.dataset import read_manifest, read_table
from slipway.components.contracts.feature_store import StoreLocation
from slipway.components.contracts.monitoring.inference_log import FEATURE_PREFIX
from slipway.components.contracts.rows.row_key import ROW_ID, key_sources, row_keys
from slipway.components.contracts.rows.since_column import hours_since_column
from slipway.components.contracts.splits import TIME
from slipway.components.monitor.reference import Reference
from slipway.components.monitor.window import LogWindow
from slipway.components.support.errors import SlipwayError
from slipway.components.support.expressions.frames import derive
from slipway.components.support.expressions.parse import names as names_of
from slipway.components.support.expressions.parse import parse

if TYPE_CHECKING:
    import polars as pl
    from polars._typing import PythonLiteral

FILES, MOST_FILES = 8, 256  # that a sample comes from at least, and at most
GOLDEN = 0.6180339887498949
_ROW = ":row"
TOLERANCE = 1e-6  # relative: float64 that went through JSON is exact, float32 on its way is not


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSkew:
    """One feature: of the compared rows, the share that differ, and of those without a value."""

    name: str
    compared: int
    differ: float
    only_offline: float
    only_online: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """What the comparison came to.

    Attributes:
        rows: sampled rows whose example the labels' table has. features: those that were compared.
        worst: the largest share of differing rows of a feature; None: nothing could be compared.
        note: why, where nothing could be.
    """

    rows: int
    features: tuple[FeatureSkew, ...]
    worst: float | None
    note: str = ""

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)


def measure_skew(
    log: LogWindow,
    version: str,
    reference: Reference,
    labels: Path,
    config: FeaturesConfig,
    place: StoreLocation,
    rows: int,
) -> Skew:
    """Compares a sample of one version's rows with the offline store.

    Raises:
        SlipwayError: a view's table cannot be read.
    """
    import polars as pl

    logged = _sample(log, version, reference, rows)
    if logged.is_empty():
        return Skew(rows=0, features=(), worst=None, note="No logged row carries an example's key.")
    known = with_entities(logged, labels, config)
    if known.is_empty():
        return Skew(
            rows=0, features=(), worst=None,
            note="The labels' table has none of the sampled examples: their entities are unknown.",
        )  # fmt: skip
    known = known.with_row_index(_ROW)
    found: list[FeatureSkew] = []
    looked_up = []
    derived = [f.name for f in reference.features if f.name in config.expressions]
    texts = config.expressions.values() if derived else ()
    read = {name for text in texts for name in names_of(parse(text))}
    inputs = {feature.name for feature in reference.features}
    for view in config.views:
        names = [name for name in view.feature_names if name in inputs or name in read]
        if names:
            offline, end = offline_values(known, view, config.keys_of(view), names, place)
            looked_up.append((view, names, offline, end))
    # Outcomes of the last events became known after the store's data ends: no view reaches further
    # than the ones without outcomes do.
    reach = [end for view, _, _, end in looked_up if view.time and view.known is None]
    ends, compared = [], []
    for view, names, offline, last in looked_up:
        end = min(last, max(reach, default=last))
        ends.append(f"{view.name}: {end:%Y-%m-%d %H:%M}")
        if view.time is not None:
            offline = offline.filter(pl.col("time") <= end)
        compared.append(offline)
        if not offline.is_empty():
            found += [_compare(offline, name) for name in names if name in inputs]
    if derived:
        found += _compare_derived(known, compared, config, derived, read)
    if not found:
        return Skew(
            rows=known.height, features=(), worst=None,
            note=f"The offline store ends before the sampled moments ({'; '.join(ends)}).",
        )  # fmt: skip
    return Skew(
        rows=known.height, features=tuple(found), worst=max(feature.differ for feature in found)
    )


def _sample(log: LogWindow, version: str, reference: Reference, rows: int) -> "pl.DataFrame":
    """Rows with a key, from files that are spread evenly over the window: key, time, logged features."""
    import polars as pl

    wanted = [
        "key",
        "time",
        "model_version",
        *(FEATURE_PREFIX + f.name for f in reference.features),
    ]
    share = -(-rows // min(max(len(log.files), 1), FILES))
    parts: list[pl.DataFrame] = []
    # Multiples of the golden ratio: as many files as it takes lie evenly, however many that are.
    spread = sorted(range(len(log.files)), key=lambda i: i * GOLDEN % 1)
    for path in (log.files[i] for i in spread[:MOST_FILES]):
        lacking = rows - sum(part.height for part in parts)
        if not lacking:
            break
        for batch in replace(log, files=[path]).batches(wanted):
            part = pl.DataFrame(batch).filter(
                pl.col("model_version") == version, pl.col("key").is_not_null()
            )
            if not part.is_empty():
                part = part.drop(_of_another_kind(part, reference))
                parts.append(part.sample(min(share, lacking, part.height), seed=0))
                break
    if not parts:
        return pl.DataFrame()
    return pl.concat(parts, how="diagonal_relaxed").drop("model_version")


def _of_another_kind(part: "pl.DataFrame", reference: Reference) -> list[str]:
    """Logged features whose type in a file is not their kind's: no value there is the feature's."""
    import polars as pl

    texts = (pl.String, pl.Categorical, pl.Enum)
    found = []
    for name, kind in reference.kinds.items():
        column = FEATURE_PREFIX + name
        type_there = part.schema.get(column, pl.Null())
        fits = {
            "numeric": type_there.is_numeric(),
            "categorical": isinstance(type_there, texts),
            "boolean": type_there == pl.Boolean,
        }
        if type_there != pl.Null and not fits.get(kind, True):
            found.append(column)
    return found


def with_entities(logged: "pl.DataFrame", labels: Path, config: FeaturesConfig) -> "pl.DataFrame":
    """Adds each row's entity keys, as `entity <column>`; rows of unknown examples fall out.

    Args:
        logged: rows with the column `key`.
        labels: the dataset with the examples' table.
        config: the project's `features` section.
    """
    import polars as pl

    examples = config.examples
    info = read_manifest(labels).tables.get(examples.table)
    there = list(info.columns) if info else []
    entities = dict.fromkeys(column for key in config.entity_keys.values() for column in key)
    columns = [column for column in entities if column in there]
    sources = key_sources(config, there)
    if not entities or not set(sources) <= set(there):
        return logged.clear()
    label = [config.label.column] if config.label.column in there else []
    raw = read_table(labels, examples.table, list(dict.fromkeys([*sources, *columns, *label])))
    key = row_keys(raw, config, there).cast(pl.String)
    own = [key.alias(f"entity {ROW_ID}")] if ROW_ID in entities else []
    keys = pl.DataFrame(raw).select(
        key.alias("key"), *own, *(pl.col(c).cast(pl.String).alias(f"entity {c}") for c in columns)
    )
    return logged.join(keys.unique("key", keep="last"), on="key", how="inner")


def offline_values(
    known: "pl.DataFrame",
    view: FeatureView,
    keys: tuple[str, ...],
    names: list[str],
    place: StoreLocation,
) -> tuple["pl.DataFrame", datetime]:
    """Rows with a view's values at their moments, as `offline <name>`; and the end of its source.

    Args:
        known: as `with_entities` gives them, with the column `time`.
        view: of the project.
        keys: the examples' columns that it is looked up by.
        names: the wanted features of the view.
        place: where the views' tables lie.

    Raises:
        SlipwayError: the view's table cannot be read, or the rows lack one of the keys.
    """
    import polars as pl

    if lacking := [key for key in keys if f"entity {key}" not in known.columns]:
        raise SlipwayError(
            f"The labels' table has no column {', '.join(lacking)}, by which the view '{view.name}' is"
            " looked up: read the examples' table with it."
        )
    table = _read_offline(place.table(view.name), keys, names)
    last = table[TIME].max()
    # How far its source reached when the table was written: an aggregate changes last when the last
    # event leaves its longest window.
    end = last + view.available - longest_window(view) if isinstance(last, datetime) else EARLIEST
    offline = table.rename({name: f"offline {name}" for name in names} | {k: f":{k}" for k in keys})
    rows = known.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC"))).sort("time")
    joined = rows.join_asof(
        offline, left_on="time", right_on=TIME, by_left=[f"entity {key}" for key in keys],
        by_right=[f":{key}" for key in keys],
        strategy="backward", coalesce=False, check_sortedness=False,
    )  # fmt: skip
    if view.ttl is not None:
        alive = pl.col(TIME) + view.ttl >= pl.col("time")
        joined = joined.with_columns(
            pl.when(alive).then(pl.col(f"offline {name}")).alias(f"offline {name}")
            for name in names
        )
    joined = joined.with_columns(
        hours_since_column(pl.col(f"offline {name}"), pl.col("time"), most).alias(f"offline {name}")
        for name in names
        if (most := view.since_hours(name)) is not None
    )
    return _fill_empty(joined, view, keys, names, table[TIME].min()), end


def _fill_empty(
    joined: "pl.DataFrame",
    view: FeatureView,
    keys: tuple[str, ...],
    names: list[str],
    first: "PythonLiteral | None",
) -> "pl.DataFrame":
    """As the features stage reads it: an entity of which nothing is known had no event.

    Args:
        joined: rows with `time`, the entity keys and `offline <name>` of each of `names`.
        view: that the names belong to.
        keys: the examples' columns that it is looked up by.
        names: of the view's features.
        first: moment of the view's table; before it nothing is known of any entity.
    """
    import polars as pl

    named = pl.all_horizontal(pl.col(f"entity {key}").is_not_null() for key in keys)
    counted = named & (pl.col("time") >= first)
    filled = [
        pl.when(counted & pl.col(f"offline {name}").is_null())
        .then(empty)
        .otherwise(pl.col(f"offline {name}"))
        .alias(f"offline {name}")
        for name in names
        if (empty := view.empty(name)) is not None
    ]
    return joined.with_columns(filled)


def _read_offline(path: str, keys: tuple[str, ...], names: list[str]) -> "pl.DataFrame":
    """A view's table in the order of time, its keys as texts."""
    import fsspec
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fsspec.open(path, "rb") as file:
            table = pl.DataFrame(pq.ParquetFile(file).read(columns=[*keys, TIME, *names]))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SlipwayError(f"The offline table {path} cannot be read: {error}.") from error
    moment = pl.col(TIME).cast(pl.Datetime("us", "UTC"))
    return table.with_columns(moment, *(pl.col(key).cast(pl.String) for key in keys)).sort(TIME)


def _compare_derived(
    known: "pl.DataFrame",
    compared: list["pl.DataFrame"],
    config: FeaturesConfig,
    derived: list[str],
    read: set[str],
) -> list[FeatureSkew]:
    """Compares features that are made of others with what the offline values of those make.

    What is no input (`not_inputs`) is in no log: that its value differs is seen here.

    Args:
        known: the sampled rows.
        compared: by view those that its table reaches, with the offline values.
        config: the project's `features` section.
        derived: the inputs that are made of others.
        read: what the expressions read.
    """
    import polars as pl

    rows = known
    for offline in compared:
        values = [name for name in read if f"offline {name}" in offline.columns]
        if values:
            made_of = offline.select(_ROW, *(pl.col(f"offline {n}").alias(n) for n in values))
            rows = rows.join(made_of, on=_ROW, how="inner")
    if rows.is_empty():
        return []
    made = derive(config.expressions, rows, derived, "features.derived")
    rows = rows.with_columns(series.alias(f"offline {series.name}") for series in made)
    return [_compare(rows, name) for name in derived]


def _compare(rows: "pl.DataFrame", name: str) -> FeatureSkew:
    import polars as pl

    logged = FEATURE_PREFIX + name
    there = logged in rows.columns
    online = pl.col(logged) if there else pl.lit(None)
    offline = pl.col(f"offline {name}")
    if there and rows.schema[logged].is_numeric():
        gap = (online.cast(pl.Float64) - offline.cast(pl.Float64)).abs()
        same = gap <= TOLERANCE * pl.max_horizontal(offline.abs().cast(pl.Float64), pl.lit(1.0))
    elif there and rows.schema[logged].is_temporal():
        wall = pl.Datetime("us")
        same = online.dt.replace_time_zone(None).cast(wall) == offline.dt.replace_time_zone(
            None
        ).cast(wall)
    else:
        # An empty text is a missing value, as it is to ingest and to the predictor.
        online, offline = (side.cast(pl.String).replace("", None) for side in (online, offline))
        same = online == offline
    neither = online.is_null() & offline.is_null()
    counted = rows.select(
        differ=(~(neither | same.fill_null(value=False))).mean(),
        only_offline=(online.is_null() & offline.is_not_null()).mean(),
        only_online=(online.is_not_null() & offline.is_null()).mean(),
    ).row(0)
    return FeatureSkew(
        name=name,
        compared=rows.height,
        differ=float(counted[0]),
        only_offline=float(counted[1]),
        only_online=float(counted[2]),
    )
