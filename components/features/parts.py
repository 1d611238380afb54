"""Examples and their labels, the stretch of time of each part, and what is in a part."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.base import format_instant
from slipway.components.config.features.features import FeaturesConfig, Kind
from slipway.components.contracts.dataset import EPOCH, Manifest, read_table
from slipway.components.contracts.rows.row_key import ROW_ID, key_sources, row_keys
from slipway.components.contracts.splits import LABEL, PART, PARTS, SAMPLE_ROWS, TIME, Feature
from slipway.components.features.columns import as_utc, earlier, instant_type, moment
from slipway.components.features.split import Windows, part_of, require_groups
from slipway.components.features.views.views import require_columns
from slipway.components.metrics.outcomes.outcome import read_label, tell
from slipway.components.metrics.outcomes.outcome_kinds import find_classes
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress

if TYPE_CHECKING:
    import polars as pl

READ_AT = "__read_at"
_LABEL_KNOWN = "__label_known"
_SHOWN = 10
_LONG = timedelta(days=14)
"""Windows from this length on are cut in days, where they end at midnight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleRows:
    """The rows: keys, group, TIME, READ_AT (the moment of prediction).

    With the labels also LABEL and what travels beside the features. `unlabelled` has the rows inside the
    window without a label, their LABEL null. `dropped` counts the rows that were left out, by reason.
    `classes` names the classes of a label with several, in order. Of a project without time the rows have
    no TIME, and READ_AT is one moment for all.
    """

    rows: "pl.DataFrame"
    unlabelled: "pl.DataFrame"
    dropped: dict[str, int]
    classes: tuple[str, ...] = ()


def read_examples(dataset: Path, manifest: Manifest, config: FeaturesConfig) -> ExampleRows:
    """Reads the examples inside the dataset's window, ordered by time or else by key, with their labels.

    Raises:
        SlipwayError: a table or column is missing, keys are not unique, the label's column holds values
            that nothing is said of, or no row has a label.
    """
    import polars as pl

    spec, label = config.examples, config.label
    rows = _read(dataset, manifest, config, [label.column, label.known, *config.own_beside])
    _require_plain(rows, config)
    classes: tuple[str, ...] = ()
    if label.kind == "multiclass":
        classes = find_classes(rows[label.column], label, spec.table)
        _require_classes(classes, config)
    labels = read_label(rows[label.column], label, spec.table, classes=classes)
    if label.positive or label.unknown or label.kind != "binary":
        progress(f"label {label.column}: {tell(rows[label.column], labels, label)}")
    times = _times(config, rows.schema)
    if label.known:
        times.append(moment(label.known, rows.schema).alias(_LABEL_KNOWN))
    named = dict.fromkeys([spec.row_key, *config.named_columns, *config.own_beside])
    rows = rows.select(*named, *times, labels.alias(LABEL))
    _require_unique(rows, config)
    if config.split.by:
        require_groups(rows, config.split.by)
    reasons = {"without_label": pl.col(LABEL).is_null()}
    inside = pl.lit(value=True)
    if spec.time is not None:
        inside = pl.col(TIME).is_between(*window_of(manifest, config), closed="left")
        reasons |= {"without_time": pl.col(TIME).is_null(), "outside_window": ~inside}
    if label.known:
        # Its own outcome could be among its features: this is no prediction.
        reasons["label_known_before_prediction"] = pl.col(_LABEL_KNOWN) <= pl.col(READ_AT)
    unlabelled = rows.filter(pl.col(LABEL).is_null() & inside)
    dropped = {}
    for reason, condition in reasons.items():
        kept = rows.filter(~condition.fill_null(value=False))
        if gone := rows.height - kept.height:
            dropped[reason] = gone
        rows = kept
    if rows.is_empty():
        lies = (
            f" and lies in the window {' to '.join(manifest.window)}"
            if spec.time and manifest.window
            else ""
        )
        raise SlipwayError(
            f"No row of table '{spec.table}' has a label ({label.column}){lies}; left out: {dropped}."
        )
    if label.kind == "number":
        _require_digits(rows[LABEL], config)
    return ExampleRows(
        rows=rows.drop(_LABEL_KNOWN, strict=False).sort(order(config)),
        unlabelled=unlabelled.drop(_LABEL_KNOWN, strict=False).sort(order(config)),
        dropped=dropped,
        classes=classes,
    )


def _require_digits(labels: "pl.Series", config: FeaturesConfig) -> None:
    """Refuses numbers that lie nearer to one another than answers can tell apart.

    Raises:
        SlipwayError: with where they lie, and how far apart.
    """
    spread, largest = float(labels.std() or 0.0), float(labels.abs().max())  # type: ignore[arg-type]
    if spread and largest * 2**-24 > spread / 8:
        raise SlipwayError(
            f"The label's column {config.label.column} of table {config.examples.table} has numbers near"
            f" {largest:.9g} that differ by {spread:.3g} only (their standard deviation), and an answer"
            " has seven digits. Have the source subtract a fixed number, and predict the difference."
        )


def settle_classes(
    examples: ExampleRows, config: FeaturesConfig, windows: Windows | None
) -> ExampleRows:
    """The rows with the classes that the train part has.

    A class of rows outside the window alone is none, unless `label.classes` names it. Rows of any other
    class that the train part lacks count as `label.merge_rare`, where it has that one: as they will, of a
    class that appears after the training.

    Raises:
        SlipwayError: the train part has no row of a class, and there is nothing to merge it into.
    """
    import numpy as np
    import polars as pl

    if not examples.classes:
        return examples
    parts = part_of(examples.rows, config, windows)
    labels = examples.rows[LABEL].to_numpy()

    def count(places: "np.ndarray") -> dict[str, int]:
        rows = np.bincount(places, minlength=len(examples.classes)).tolist()
        return dict(zip(examples.classes, rows, strict=True))

    by_part = {part: count(labels[(parts == part).fill_null(value=False)]) for part in PARTS}
    taught = [name for name in examples.classes if by_part["train"][name]]
    there = count(labels)
    named = config.label.classes is not None
    lacking = [n for n in examples.classes if n not in taught and (there[n] or named)]
    other = config.label.merge_rare
    if lacking and (other not in taught or len(taught) < 2):
        raise SlipwayError(_untaught(lacking, by_part, config))
    if lacking:
        progress(f"merged into {other}, since the train part has no row: {', '.join(lacking)}")
    _require_classes(tuple(taught), config)
    places = {
        place: taught.index(name if name in taught else other or "")
        for place, name in enumerate(examples.classes)
        if there[name]
    }
    settled = pl.col(LABEL).replace_strict(places, return_dtype=pl.Int32)
    return replace(examples, rows=examples.rows.with_columns(settled), classes=tuple(taught))


def _untaught(
    lacking: list[str], by_part: Mapping[str, Mapping[str, int]], config: FeaturesConfig
) -> str:
    """What to say of classes that the train part has no row of."""
    shown = [
        f"{name} ({', '.join(f'{part} {rows[name]:,}' for part, rows in by_part.items())})"
        for name in lacking[:_SHOWN]
    ]
    more = f" and {len(lacking) - _SHOWN:,} more" if len(lacking) > _SHOWN else ""
    return (
        f"The train part has no row of some class of {config.label.column}, which no model then learns."
        f" Rows by part: {', '.join(shown)}{more}. Let the train part have some (features.split,"
        " data.window), name the class in features.label.unknown, or set `merge_rare` to a class that the"
        " train part has."
    )


def _require_classes(classes: tuple[str, ...], config: FeaturesConfig) -> None:
    """Refuses costs of a class that the label does not have.

    Raises:
        SlipwayError: naming it.
    """
    costs = config.label.costs or {}
    named = {*costs, *(name for answers in costs.values() for name in answers)}
    if strange := sorted(named - set(classes)):
        raise SlipwayError(
            f"features.label.costs names {', '.join(strange)}, which is no class of column"
            f" {config.label.column}: they are {', '.join(classes[:20])}."
        )


def _require_plain(rows: "pl.DataFrame", config: FeaturesConfig) -> None:
    """Refuses a column beside the features that neither groups nor weighs rows.

    Raises:
        SlipwayError: naming it and its type.
    """
    import polars as pl

    for name in config.own_beside:
        kind = rows.schema[name]
        if not (kind in (pl.String, pl.Boolean, pl.Null, pl.Datetime) or kind.is_numeric()):
            raise SlipwayError(
                f"features.examples.beside: column {name} of table '{config.examples.table}' is {kind};"
                " texts, numbers, booleans and times can travel beside the features."
            )


def order(config: FeaturesConfig) -> list[str]:
    """The columns that rows are ordered by."""
    key = config.examples.row_key
    return [TIME, key] if config.examples.time else [key]


def key_parts(config: FeaturesConfig) -> tuple[str, ...]:
    """The columns that ROW_ID is made of, where a key has several."""
    columns = config.examples.key_columns
    return columns if len(columns) > 1 else ()


def asked_keys(keys: Mapping[str, str], config: FeaturesConfig) -> dict[str, str]:
    """Of the entities' key columns those that a request can bring, and that a look-up needs.

    A view that is not kept online is looked up by nobody: its features come with the request.
    """
    online, offline = set[str](), set[str]()
    for view in config.views:
        (online if config.is_online(view) else offline).update(config.keys_of(view))
    left_out = {ROW_ID, *(offline - online)}
    return {name: kind for name, kind in keys.items() if name not in left_out}


def _read(
    dataset: Path, manifest: Manifest, config: FeaturesConfig, more: Sequence[str | None] = ()
) -> "pl.DataFrame":
    """The examples' rows with their key, the named columns, their time, and more columns.

    Raises:
        SlipwayError: the table or a column is missing.
    """
    import polars as pl

    spec = config.examples
    wanted = [*config.named_columns, spec.time, *more]
    columns = list(dict.fromkeys(name for name in wanted if name is not None))
    require_columns(manifest, spec.table, columns, "features.examples")
    there = list(manifest.tables[spec.table].columns)
    read = dict.fromkeys([*columns, *key_sources(config, there)])
    raw = read_table(dataset, spec.table, list(read))
    rows = as_utc(pl.DataFrame(raw))
    return rows if spec.row_key in rows.columns else rows.with_columns(row_keys(raw, config, there))


def _times(config: FeaturesConfig, schema: "pl.Schema") -> list["pl.Expr"]:
    """TIME, where rows have one, and READ_AT."""
    import polars as pl

    spec = config.examples
    if spec.time is None:
        return [pl.lit(EPOCH, instant_type()).alias(READ_AT)]
    happens = moment(spec.time, schema)
    return [happens.alias(TIME), earlier(happens, spec.lead).alias(READ_AT)]


def window_of(manifest: Manifest, config: FeaturesConfig) -> tuple[datetime, datetime]:
    """The stretch of time that examples with a time are read from.

    Raises:
        SlipwayError: the dataset was read without one.
    """
    if manifest.window is None:
        raise SlipwayError(
            f"The dataset has no window, and the examples have a time ({config.examples.time}): set"
            " data.window, and run ingest again."
        )
    start, end = (datetime.fromisoformat(instant) for instant in manifest.window)
    return start, end


def sample_unlabelled(
    rows: "pl.DataFrame", config: FeaturesConfig, windows: Windows | None
) -> tuple["pl.DataFrame", dict[str, int]]:
    """Of each part an even sample of its rows without a label, and their number.

    The sample has PART behind its columns.
    """
    import polars as pl

    rows = rows.with_columns(part_of(rows, config, windows).alias(PART))
    samples, counts = [rows.head(0)], {}
    for part in PARTS:
        found = rows.filter(pl.col(PART) == part)
        if found.height:
            counts[part] = found.height
            samples.append(found.gather_every(-(-found.height // SAMPLE_ROWS)))
    return pl.concat(samples), counts


def read_rows(
    dataset: Path,
    manifest: Manifest,
    config: FeaturesConfig,
    window: tuple[datetime, datetime] | None,
) -> ExampleRows:
    """Reads the rows to predict: those of a window, or all where rows have no time.

    Whether or not they have a label: their LABEL is left out, so that nothing after this depends on it.

    Raises:
        SlipwayError: a table or column is missing, keys are not unique, or the window has no row.
    """
    import polars as pl

    spec = config.examples
    rows = _read(dataset, manifest, config)
    named = dict.fromkeys([spec.row_key, *config.named_columns])
    there = rows.height
    rows = rows.select(*named, *_times(config, rows.schema))
    dropped = {}
    if spec.time is not None and window is not None:
        rows = rows.drop_nulls(TIME)
        dropped = {"without_time": there - rows.height} if there > rows.height else {}
        rows = rows.filter(pl.col(TIME).is_between(*window, closed="left"))
    _require_unique(rows, config)
    if rows.is_empty() and window is None:
        raise SlipwayError(f"Table '{spec.table}' has no row: there is nothing to predict.")
    if rows.is_empty() and window is not None:
        start, end = (format_instant(instant) for instant in window)
        raise SlipwayError(
            f"Table '{spec.table}' has no row with {spec.time} from {start} to {end}: there is nothing"
            " to predict. Check the window, and that the source has these rows already."
        )
    return ExampleRows(rows=rows.sort(order(config)), unlabelled=rows.head(0), dropped=dropped)


def part_windows(
    manifest: Manifest, config: FeaturesConfig
) -> dict[str, tuple[datetime, datetime]] | None:
    """The half-open stretch of time of each part: train first, test last, with the gap before each.

    None: the examples have no time.

    Raises:
        SlipwayError: the window is too short for the parts.
    """
    if config.examples.time is None:
        return None
    start, end = window_of(manifest, config)
    try:
        return config.split.cut(start, end)
    except ValueError as error:
        raise SlipwayError(f"features.split: {error}.") from error


def end_of_data(times: "pl.Series", window: tuple[datetime, datetime]) -> datetime | None:
    """The first instant after the last example, where the data end before the window does.

    They do where nothing follows for longer than anywhere between two examples, for more than a
    hundredth of the window, and for more than the unit that the window is cut in: data of a day end
    before its midnight, which a window of whole days has for its end.

    Args:
        times: of the examples, in order; at least one.
        window: the data's window.

    Returns:
        That instant, in whole seconds; None: the data reach the window's end.
    """
    start, end = window
    last = times[-1]
    pause = times.diff().max() or timedelta(0)
    whole_days = (end.hour, end.minute, end.second) == (0, 0, 0) and end - start >= _LONG
    unit = timedelta(days=1) if whole_days else timedelta(hours=1)
    if end - last <= max(pause, (end - start) / 100, unit):
        return None
    return last.replace(microsecond=0) + timedelta(seconds=1)


def null_shares(
    parts: dict[str, "pl.DataFrame"], features: tuple[Feature, ...]
) -> dict[str, dict[str, float]]:
    """What the contract `Splits.nulls` says: of each part, each feature's fraction of nulls."""
    return {
        part: {f.name: rows[f.name].null_count() / rows.height for f in features}
        for part, rows in parts.items()
    }


def statistics(
    train: "pl.DataFrame", features: tuple[Feature, ...]
) -> dict[str, dict[str, object]]:
    """What the contract `Splits.statistics` says, a feature. "std" is the population's."""
    return {f.name: _statistics(train[f.name], f.kind) for f in features}


def _statistics(values: "pl.Series", kind: Kind) -> dict[str, object]:
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


def _require_unique(rows: "pl.DataFrame", config: FeaturesConfig) -> None:
    """Refuses an empty key, and one that names two rows.

    Raises:
        SlipwayError: with their number, and an example.
    """
    spec = config.examples
    columns = spec.key_columns or (spec.row_key,)
    named = " and ".join(columns)
    where, rule = f"of table '{spec.table}'", "features.examples.key must name each row once."
    lacking = rows.filter(rows[spec.row_key].is_null())
    if not lacking.is_empty():
        raise SlipwayError(f"{lacking.height:,} rows {where} have an empty key ({named}). {rule}")
    twice = rows.filter(rows[spec.row_key].is_duplicated())
    if not twice.is_empty():
        example = ", ".join(f"{name} {twice[name][0]!r}" for name in columns)
        raise SlipwayError(
            f"{twice.height:,} rows {where} share their key with another row (for example {example})."
            f" {rule}"
        )
