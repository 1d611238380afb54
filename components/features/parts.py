"""Examples, labels and the cut by time into train, validation and test."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.base import format_instant
from slipway.components.config.features import FeaturesConfig, Kind
from slipway.components.contracts.dataset import Manifest, read_table
from slipway.components.contracts.splits import LABEL, PARTS, SAMPLE_ROWS, TIME, Feature
from slipway.components.features.columns import as_utc, earlier, moment
from slipway.components.features.views import require_columns
from slipway.components.metrics.outcome import read_label, tell
from slipway.components.metrics.outcome_kinds import find_classes
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress

if TYPE_CHECKING:
    import polars as pl

READ_AT = "__read_at"
_LABEL_KNOWN = "__label_known"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleRows:
    """The rows: key, entity keys, TIME, READ_AT (the moment of prediction), and LABEL where asked for.

    `unlabelled` has the rows inside the window without a label, their LABEL null. `dropped` counts the
    rows that were left out, by reason. `classes` names the classes of a label with several, in order.
    """

    rows: "pl.DataFrame"
    unlabelled: "pl.DataFrame"
    dropped: dict[str, int]
    classes: tuple[str, ...] = ()


def read_examples(dataset: Path, manifest: Manifest, config: FeaturesConfig) -> ExampleRows:
    """Reads the examples inside the dataset's window, ordered by time, with their labels.

    Raises:
        SlipwayError: a table or column is missing, keys are not unique, the label's column holds values
            that nothing is said of, or no row has a label.
    """
    import polars as pl

    spec, label = config.examples, config.label
    wanted = [spec.key, spec.time, label.column, label.known, *config.entities.values()]
    columns = list(dict.fromkeys(name for name in wanted if name is not None))
    require_columns(manifest, spec.table, columns, "features.examples")
    rows = as_utc(pl.DataFrame(read_table(dataset, spec.table, columns)))
    classes: tuple[str, ...] = ()
    if label.kind == "multiclass":
        classes = find_classes(rows[label.column], label, spec.table)
    labels = read_label(rows[label.column], label, spec.table, classes=classes)
    if label.positive or label.unknown or label.kind != "binary":
        progress(f"label {label.column}: {tell(rows[label.column], labels, label)}")
    happens = moment(spec.time, rows.schema)
    known = moment(label.known, rows.schema) if label.known else happens
    rows = rows.select(
        *dict.fromkeys([spec.key, *config.entities.values()]),
        happens.alias(TIME),
        earlier(happens, spec.lead).alias(READ_AT),
        known.alias(_LABEL_KNOWN),
        labels.alias(LABEL),
    )
    _require_unique(rows, spec.key, spec.table)
    start, end = (datetime.fromisoformat(instant) for instant in manifest.window)
    reasons = {
        "without_label": pl.col(LABEL).is_null(),
        "without_time": pl.col(TIME).is_null(),
        "outside_window": ~pl.col(TIME).is_between(start, end, closed="left"),
    }
    if label.known:
        # Its own outcome could be among its features: this is no prediction.
        reasons["label_known_before_prediction"] = pl.col(_LABEL_KNOWN) <= pl.col(READ_AT)
    inside = pl.col(TIME).is_between(start, end, closed="left")
    unlabelled = rows.filter(pl.col(LABEL).is_null() & inside)
    dropped = {}
    for reason, condition in reasons.items():
        kept = rows.filter(~condition.fill_null(value=False))
        if gone := rows.height - kept.height:
            dropped[reason] = gone
        rows = kept
    if rows.is_empty():
        raise SlipwayError(
            f"No row of table '{spec.table}' has a label ({label.column}) and lies in the window"
            f" {manifest.window[0]} to {manifest.window[1]}; left out: {dropped}."
        )
    return ExampleRows(
        rows=rows.drop(_LABEL_KNOWN).sort(TIME, spec.key),
        unlabelled=unlabelled.drop(_LABEL_KNOWN).sort(TIME, spec.key),
        dropped=dropped,
        classes=classes,
    )


def sample_unlabelled(
    rows: "pl.DataFrame", windows: dict[str, tuple[datetime, datetime]]
) -> tuple["pl.DataFrame", dict[str, int]]:
    """Of each part's window an even sample of the rows without a label, and their number."""
    import polars as pl

    samples, counts = [rows.head(0)], {}
    for part in PARTS:
        found = rows.filter(pl.col(TIME).is_between(*windows[part], closed="left"))
        if found.height:
            counts[part] = found.height
            samples.append(found.gather_every(-(-found.height // SAMPLE_ROWS)))
    return pl.concat(samples), counts


def read_rows(
    dataset: Path, manifest: Manifest, config: FeaturesConfig, window: tuple[datetime, datetime]
) -> ExampleRows:
    """Reads the rows to predict: those of a window, ordered by time, whether or not they have a label.

    Their LABEL is left out, so that nothing after this can depend on it.

    Raises:
        SlipwayError: a table or column is missing, keys are not unique, or the window has no row.
    """
    import polars as pl

    spec = config.examples
    columns = list(dict.fromkeys([spec.key, spec.time, *config.entities.values()]))
    require_columns(manifest, spec.table, columns, "features.examples")
    rows = as_utc(pl.DataFrame(read_table(dataset, spec.table, columns)))
    happens = moment(spec.time, rows.schema)
    there = rows.height
    rows = rows.select(
        *dict.fromkeys([spec.key, *config.entities.values()]),
        happens.alias(TIME),
        earlier(happens, spec.lead).alias(READ_AT),
    ).drop_nulls(TIME)
    dropped = {"without_time": there - rows.height} if there > rows.height else {}
    rows = rows.filter(pl.col(TIME).is_between(*window, closed="left"))
    _require_unique(rows, spec.key, spec.table)
    if rows.is_empty():
        start, end = (format_instant(instant) for instant in window)
        raise SlipwayError(
            f"Table '{spec.table}' has no row with {spec.time} from {start} to {end}: there is nothing"
            " to predict. Check the window, and that the source has these rows already."
        )
    return ExampleRows(rows=rows.sort(TIME, spec.key), unlabelled=rows.head(0), dropped=dropped)


def part_windows(
    manifest: Manifest, config: FeaturesConfig
) -> dict[str, tuple[datetime, datetime]]:
    """The half-open stretch of time of each part: train first, test last, with the gap before each.

    Raises:
        SlipwayError: the window is too short for the parts.
    """
    start, end = (datetime.fromisoformat(instant) for instant in manifest.window)
    try:
        return config.split.cut(start, end)
    except ValueError as error:
        raise SlipwayError(f"features.split: {error}.") from error


def end_of_data(times: "pl.Series", window: tuple[datetime, datetime]) -> datetime | None:
    """The first instant after the last example, where the data end before the window does.

    They do where nothing follows for longer than anywhere between two examples, and for more than a
    hundredth of the window.

    Args:
        times: of the examples, in order; at least one.
        window: the data's window.

    Returns:
        That instant, in whole seconds; None: the data reach the window's end.
    """
    start, end = window
    last = times[-1]
    pause = times.diff().max() or timedelta(0)
    if end - last <= max(pause, (end - start) / 100):
        return None
    return last.replace(microsecond=0) + timedelta(seconds=1)


def cut(
    rows: "pl.DataFrame", windows: dict[str, tuple[datetime, datetime]]
) -> dict[str, "pl.DataFrame"]:
    """Cuts rows into parts by TIME.

    Raises:
        SlipwayError: a part has no row.
    """
    import polars as pl

    parts = {}
    for part in PARTS:
        start, end = windows[part]
        parts[part] = rows.filter(pl.col(TIME).is_between(start, end, closed="left"))
        if parts[part].is_empty():
            span: list[Any] = [rows[TIME].min(), rows[TIME].max()]
            first, last = (format_instant(at) for at in span)
            raise SlipwayError(
                f"The {part} part, {format_instant(start)} to {format_instant(end)}, has no row with"
                f" a label: those are from {first} to {last}. Set data.window to where the data are,"
                " or change features.split."
            )
    return parts


def null_shares(
    parts: dict[str, "pl.DataFrame"], features: tuple[Feature, ...]
) -> dict[str, dict[str, float]]:
    """What the contract `Splits.nulls` says: of each part, each feature's fraction of nulls."""
    return {
        part: {f.name: rows[f.name].null_count() / rows.height for f in features}
        for part, rows in parts.items()
    }


def statistics(train: "pl.DataFrame", features: tuple[Feature, ...]) -> dict[str, dict[str, Any]]:
    """What the contract `Splits.statistics` says, a feature. "std" is the population's."""
    return {f.name: _statistics(train[f.name], f.kind) for f in features}


def _statistics(values: "pl.Series", kind: Kind) -> dict[str, Any]:
    nulls = values.null_count() / len(values)
    if kind == "numeric":
        # Of numbers near the largest, sums and squares overflow: such a statistic is not known.
        found = {
            "mean": values.mean(),
            "std": values.std(ddof=0),
            "min": values.min(),
            "max": values.max(),
        }
        return {"nulls": nulls} | {
            name: value if isinstance(value, float) and math.isfinite(value) else None
            for name, value in found.items()
        }
    if kind == "boolean":
        return {"nulls": nulls, "true": values.mean()}
    if kind == "time":
        first, last = values.min(), values.max()
        return {
            "nulls": nulls,
            "min": first.isoformat() if isinstance(first, datetime) else None,
            "max": last.isoformat() if isinstance(last, datetime) else None,
        }
    counts = values.drop_nulls().value_counts().sort("count", values.name, descending=[True, False])
    return {"nulls": nulls, "values": dict(counts.iter_rows())}


def _require_unique(rows: "pl.DataFrame", key: str, table: str) -> None:
    """Refuses an empty key, and one that names two rows.

    Raises:
        SlipwayError: with an example.
    """
    twice = rows.filter(rows[key].is_duplicated() | rows[key].is_null())
    if not twice.is_empty():
        raise SlipwayError(
            f"{twice.height} rows of table '{table}' have an empty key {key} or share it with another"
            f" row (for example {twice[key][0]!r}). features.examples.key must name each row once."
        )
