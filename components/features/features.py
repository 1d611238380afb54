"""Features: from the dataset's tables to train, validation and test tables, through Feast."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.base import format_instant
from slipway.components.config.features.features import FeaturesConfig, Kind
from slipway.components.contracts.dataset import EPOCH, Manifest, read_manifest
from slipway.components.contracts.feature_store import StoreLocation, locate
from slipway.components.contracts.rows.since_column import hours_since_column
from slipway.components.contracts.splits import (
    LABEL,
    PART,
    PARTS,
    TIME,
    UNLABELLED,
    Feature,
    Splits,
    write_splits,
)
from slipway.components.features import parts as cutting
from slipway.components.features.columns import as_key, key_columns, key_types
from slipway.components.features.split import Windows, cut, split_rule
from slipway.components.features.tables import write_table
from slipway.components.features.views.expressions import with_derived
from slipway.components.features.views.views import ViewTable, write_view
from slipway.components.metrics.kinds.choose import label_type
from slipway.components.support.files import new_directory
from slipway.components.support.stage import part, progress, stage

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from feast import FeatureStore

_ASKED = ":asked"


@stage("features")
def build_features(dataset: Path, project: str, config: dict[str, object], output: Path) -> Splits:
    """Makes the feature views, joins them to the examples and parts the result.

    The views' tables, Feast's registry and the online store lie below FEATURE_STORE_URI (see
    `slipway.components.contracts.feature_store`).

    Args:
        dataset: the validated dataset.
        project: the project's name.
        config: the project's `features` section.
        output: where the splits go; replaced whole.

    Returns:
        What the splits hold.

    Raises:
        SlipwayError: the configuration names what the dataset does not have, would use the future, or
            leaves a part without rows.
    """
    import polars as pl

    settings = FeaturesConfig.parse(config, "features")
    manifest = read_manifest(dataset)
    windows = cutting.part_windows(manifest, settings)
    examples = cutting.read_examples(dataset, manifest, settings)
    examples = cutting.settle_classes(examples, settings, windows)
    ends = _end_of_data(examples.rows, windows)

    place = locate(project)
    progress(f"read {examples.rows.height:,} examples", 0.05)
    with part(0.05, 0.4):
        made = write_views(dataset, manifest, settings, place)
    keys = key_columns(manifest, settings)
    store = _register_views(place, settings, keys, made)
    begins = {name: view.begins for name, view in made.items()}
    unlabelled, without_label = cutting.sample_unlabelled(examples.unlabelled, settings, windows)
    asked = pl.concat([examples.rows, unlabelled], how="diagonal")
    untyped = set().union(*(view.untyped for view in made.values()))
    joined = join(store, place, settings, keys, asked, begins)
    joined, kinds, _ = with_derived(settings, joined, untyped)
    features = model_features(settings, made, kinds)
    table = _model_rows(joined, settings, keys, features)
    labelled = table.filter(pl.col(LABEL).is_not_null()).drop(PART)
    parts = cut(labelled, settings, windows)
    progress(f"joined {table.height:,} examples", 0.7)
    _fill_online_store(store, settings, windows["test"][1] if windows else EPOCH)
    _fill_streams(store, place, dataset, manifest, settings)
    splits = _describe(project, settings, manifest, features, windows, parts, examples.classes)
    progress("writing the parts", 0.9)
    left = labelled.height - sum(part.height for part in parts.values())
    notes = {
        "dropped": {**examples.dropped, _left_out_by(settings): left},
        "before_data": _before_data(settings, examples.rows, begins),
        **({"data_end": format_instant(ends)} if ends else {}),
    }
    sources = source_features(settings, made)
    splits = replace(splits, sources=sources, unlabelled=without_label, notes=notes)
    rest = table.filter(pl.col(LABEL).is_null()).sort(cutting.order(settings))
    _write_parts(output, parts, rest, splits)
    return splits


def _end_of_data(examples: "pl.DataFrame", windows: Windows | None) -> datetime | None:
    if windows is None:
        return None
    return cutting.end_of_data(examples[TIME], (windows["train"][0], windows["test"][1]))


def _register_views(
    place: StoreLocation,
    settings: FeaturesConfig,
    keys: Mapping[str, str],
    made: Mapping[str, ViewTable],
) -> "FeatureStore":
    from slipway.components.features.store.registry import apply_definitions, open_store

    store = open_store(place, settings.offline_store)
    apply_definitions(store, place, settings, keys, made)
    views = "view" if len(made) == 1 else "views"
    progress(f"registered {len(made)} {views} with Feast", 0.5)
    return store


def _model_rows(
    joined: "pl.DataFrame",
    settings: FeaturesConfig,
    keys: Iterable[str],
    features: Iterable[Feature],
) -> "pl.DataFrame":
    """The columns that a part keeps, with `PART`: what names and orders a row, features, label."""
    beside = [*settings.named_columns, *settings.examples.beside]
    named = dict.fromkeys([*cutting.order(settings)[::-1], *keys, *beside])
    return joined.select(*named, *(feature.name for feature in features), LABEL, PART)


def _left_out_by(settings: FeaturesConfig) -> str:
    """Why rows are in no part."""
    return "in_gap" if settings.split.by is None else "in_gap_or_another_groups_part"


def _describe(
    project: str,
    settings: FeaturesConfig,
    manifest: Manifest,
    features: tuple[Feature, ...],
    windows: Windows | None,
    parts: dict[str, "pl.DataFrame"],
    classes: tuple[str, ...],
) -> Splits:
    """What the parts hold, without notes."""
    kind = settings.label.kind
    labels = {part: parts[part][LABEL].to_numpy() for part in PARTS}
    rule = label_type(kind, classes=classes)
    return Splits(
        project=project,
        derived=settings.expressions,
        key=settings.examples.row_key,
        key_columns=cutting.key_parts(settings),
        entities=cutting.asked_keys(key_columns(manifest, settings), settings),
        beside=_beside_types(parts["train"], settings),
        features=features,
        rows={part: parts[part].height for part in PARTS},
        positives={p: int(labels[p].sum()) for p in PARTS} if kind == "binary" else {},
        label_kind=kind,
        classes=classes,
        costs=settings.label.costs or {},
        labels={} if kind == "binary" else {p: rule.describe(labels[p]) for p in PARTS},
        windows={
            part: (format_instant(start), format_instant(end))
            for part, (start, end) in (windows or {}).items()
        },
        split=split_rule(manifest, settings),
        statistics=cutting.statistics(parts["train"], features),
        nulls=cutting.null_shares(parts, features),
        data_hash=manifest.content_hash,
        feature_service=locate(project).project,
        lead_seconds=int(settings.examples.lead.total_seconds()),
        predicts=settings.label.words,
    )


def _beside_types(rows: "pl.DataFrame", settings: FeaturesConfig) -> dict[str, str]:
    """The columns beside the features, with the Arrow types that the tables have."""
    import polars as pl

    chosen = rows.select(settings.examples.beside).head(0)
    schema = chosen.to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    return {field.name: str(field.type) for field in schema}


def write_views(
    dataset: Path, manifest: Manifest, settings: FeaturesConfig, place: StoreLocation
) -> dict[str, ViewTable]:
    """Writes the table of every view, by name."""
    made: dict[str, ViewTable] = {}
    for view in settings.views:
        made[view.name] = write_view(dataset, manifest, settings, view, place.table(view.name))
        share = len(made) / len(settings.views)
        progress(f"view {view.name}: {made[view.name].rows:,} rows", share)
        if not made[view.name].rows:
            progress(
                f"WARNING: view {view.name} has no row of use: in every row of table {view.table} its"
                " key or the time at which it is known is missing. All its features are null"
            )
    return made


def _fill_online_store(store: "FeatureStore", settings: FeaturesConfig, moment: datetime) -> None:
    from slipway.components.features.store.online import materialise

    for view in settings.views:
        if settings.is_online(view):
            written = materialise(store, view.name, moment)
            progress(f"online store: {view.name}, {written:,} entities")


def _fill_streams(
    store: "FeatureStore",
    place: StoreLocation,
    dataset: Path,
    manifest: Manifest,
    settings: FeaturesConfig,
) -> None:
    if settings.streams:
        from slipway.components.features.streams.push import keep_streams

        keep_streams(store, place, dataset, manifest, settings)


def _write_parts(
    output: Path,
    parts: Mapping[str, "pl.DataFrame"],
    unlabelled: "pl.DataFrame",
    splits: Splits,
) -> None:
    for warning in splits.mostly_null:
        progress(f"WARNING: {warning}")
    with new_directory(output) as scratch:
        for name in PARTS:
            write_table(parts[name], str(scratch / f"{name}.parquet"))
        if unlabelled.height:
            write_table(unlabelled, str(scratch / UNLABELLED))
        write_splits(scratch, splits)


def model_features(
    settings: FeaturesConfig, made: Mapping[str, ViewTable], derived: Mapping[str, Kind]
) -> tuple[Feature, ...]:
    """The model's inputs in order: of all views, and behind them those that are made of features.

    Args:
        settings: the `features` section.
        made: the views' tables.
        derived: the kinds of derived features.
    """
    found = [
        *_view_features(settings, made),
        *(Feature(name=name, kind=kind, view="") for name, kind in derived.items()),
    ]
    left_out = settings.hidden | set(settings.joined_beside)
    return tuple(feature for feature in found if feature.name not in left_out)


def source_features(settings: FeaturesConfig, made: Mapping[str, ViewTable]) -> tuple[Feature, ...]:
    """The views' features that are no inputs: inputs are made of them."""
    found = _view_features(settings, made)
    return tuple(feature for feature in found if feature.name in settings.hidden)


def _view_features(settings: FeaturesConfig, made: Mapping[str, ViewTable]) -> list[Feature]:
    """The features of all views, in order.

    What a view without a row of use would count is not known, offline and online: it has no default.
    """
    return [
        Feature(
            name=name,
            kind=kind if view.since_hours(name) is None else "numeric",
            view=view.name,
            default=None if made[view.name].begins is None else view.empty(name),
            since_hours=view.since_hours(name),
        )
        for view in settings.views
        for name, kind in made[view.name].kinds.items()
    ]


def join(
    store: "FeatureStore",
    place: StoreLocation,
    settings: FeaturesConfig,
    keys: Mapping[str, str],
    examples: "pl.DataFrame",
    begins: Mapping[str, datetime | None],
) -> "pl.DataFrame":
    """The examples with their features, read through Feast as of the moment of prediction.

    Args:
        store: the feature store.
        place: where the views' tables lie.
        settings: the `features` section.
        keys: the entities' key columns with their Arrow types.
        examples: as `parts` reads them.
        begins: view to the moment that its data begin. From then on an entity of which nothing is known
            had no event: its counts, sums and rates are 0. Before it nothing can be said, and they are
            null; so they are at every moment where no row is of use (None), and online too.
    """
    import polars as pl

    key, kinds = settings.examples.row_key, key_types(dict(keys))
    asked = examples.select(
        *dict.fromkeys([key, *kinds]), pl.col(cutting.READ_AT).alias(TIME)
    ).with_columns(
        as_key(pl.col(name), examples.schema[name], kind, f"entity key {name}").alias(name)
        for name, kind in kinds.items()
    )
    wanted: Any = store.get_feature_service(place.project)
    if settings.joined_beside:  # which the service, that endpoints ask, does not have
        wanted = [f"{view.name}:{name}" for view in settings.views for name in view.feature_names]
    job = store.get_historical_features(entity_df=_entity_frame(asked), features=wanted)
    names = [name for view in settings.views for name in view.feature_names]
    answer = pl.DataFrame(job.to_arrow()).select(key, *names)
    # An engine that goes through pandas gives times in nanoseconds.
    for view in settings.views:
        types = pl.scan_parquet(place.table(view.name)).collect_schema()
        times = [n for n in view.feature_names if isinstance(types[n], pl.Datetime)]
        answer = answer.with_columns(pl.col(n).cast(types[n]) for n in times)
    # By key, not by place: an engine on many machines gives its rows in any order.
    joined = examples.with_columns(asked[key].alias(_ASKED)).join(
        answer, left_on=_ASKED, right_on=key, how="left", maintain_order="left", validate="1:1"
    )
    joined = joined.drop(_ASKED).with_columns(_no_events(settings, begins))
    return joined.with_columns(
        hours_since_column(pl.col(name), pl.col(cutting.READ_AT), most).alias(name)
        for view in settings.views
        for name in view.feature_names
        if (most := view.since_hours(name)) is not None
    )


def _no_events(settings: FeaturesConfig, begins: Mapping[str, datetime | None]) -> list["pl.Expr"]:
    """Counts, sums and rates with 0 where an entity had no event."""
    import polars as pl

    filled = []
    for view in settings.views:
        first = begins[view.name]
        if first is None:
            continue
        names_one = pl.all_horizontal(pl.col(settings.keys_of(view)).is_not_null())
        known = names_one & (pl.col(cutting.READ_AT) >= first)
        for name in view.feature_names:
            if (empty := view.empty(name)) is not None:
                value = pl.col(name)
                filled.append(
                    pl.when(known).then(value.fill_null(empty)).otherwise(value).alias(name)
                )
    return filled


def _before_data(
    settings: FeaturesConfig, examples: "pl.DataFrame", begins: Mapping[str, datetime | None]
) -> dict[str, int]:
    """View to how many examples are predicted before its data begin: their counts are null."""
    import polars as pl

    found = {}
    for view in settings.views:
        first = begins[view.name]
        if view.aggregates and first is not None:
            rows = examples.filter(pl.col(cutting.READ_AT) < first).height
            if rows:
                found[view.name] = rows
                progress(
                    f"view {view.name}: {rows:,} examples are predicted before its data begin"
                    f" ({format_instant(first)}), so that their counts are null and not 0"
                )
    return found


def _entity_frame(asked: "pl.DataFrame") -> "pd.DataFrame":
    """The entity rows as Feast takes them; a whole number stays one where others are null."""
    import pandas as pd
    import pyarrow as pa

    gaps = [c.name for c in asked.iter_columns() if c.dtype.is_integer() and c.null_count()]
    frame = asked.drop(gaps).to_pandas()
    whole = asked.select(gaps).to_arrow().to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return pd.concat([frame, whole], axis=1)[asked.columns]
