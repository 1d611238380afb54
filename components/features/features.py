"""Features: from the dataset's tables to train, validation and test tables, through Feast."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.components.config.base import format_instant
from slipway.components.config.features import FeaturesConfig, Kind
from slipway.components.contracts.dataset import read_manifest
from slipway.components.contracts.feature_store import StoreLocation, locate
from slipway.components.contracts.splits import LABEL, PARTS, TIME, Feature, Splits, write_splits
from slipway.components.features import parts as cutting
from slipway.components.features.aggregates import KNOWN
from slipway.components.features.online import materialise
from slipway.components.features.registry import apply_definitions, open_store
from slipway.components.features.tables import write_table
from slipway.components.features.views import write_view
from slipway.components.support.files import new_directory
from slipway.components.support.stage import progress, stage

if TYPE_CHECKING:
    import polars as pl
    from feast import FeatureStore


@stage("features")
def build_features(dataset: Path, project: str, config: dict[str, Any], output: Path) -> Splits:
    """Makes the feature views, joins them to the examples and cuts the result by time.

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
    import pyarrow as pa

    settings = FeaturesConfig.model_validate(config)
    manifest = read_manifest(dataset)
    windows = cutting.part_windows(manifest, settings)
    examples = cutting.read_examples(dataset, manifest, settings)
    ends = cutting.end_of_data(examples.rows[TIME], (windows["train"][0], windows["test"][1]))
    place = locate(project)

    kinds: dict[str, dict[str, Kind]] = {}
    for view in settings.views:
        rows, kinds[view.name] = write_view(
            dataset, manifest, settings, view, place.table(view.name)
        )
        progress(f"view {view.name}: {rows:,} rows")
    arrow = examples.rows.select(sorted(set(settings.entities.values()))).head(0).to_arrow()
    key_types = {field.name: plain_text(field.type, pa) for field in arrow.schema}
    store = open_store(place, settings.offline_store)
    apply_definitions(store, place, settings, key_types, kinds)
    progress(f"registered {len(settings.views)} views with Feast")

    features = tuple(
        Feature(name=name, kind=kind, view=view.name)
        for view in settings.views
        for name, kind in kinds[view.name].items()
    )
    joined = join(store, place, settings, examples.rows)
    table = joined.select(
        *dict.fromkeys([settings.examples.key, TIME, *key_types]),
        *(feature.name for feature in features),
        LABEL,
    )
    parts = cutting.cut(table, windows)
    progress(f"joined {table.height:,} examples")
    for view in settings.views:
        if view.online:
            written = materialise(store, view.name, windows["test"][1])
            progress(f"online store: {view.name}, {written:,} entities")

    dropped = dict(examples.dropped)
    dropped["in_gap"] = table.height - sum(part.height for part in parts.values())
    result = Splits(
        project=project,
        key=settings.examples.key,
        entities={name: str(kind) for name, kind in key_types.items()},
        features=features,
        rows={part: parts[part].height for part in PARTS},
        positives={part: int(parts[part][LABEL].sum()) for part in PARTS},
        windows={
            part: (format_instant(start), format_instant(end))
            for part, (start, end) in windows.items()
        },
        statistics=cutting.statistics(parts["train"], features),
        data_hash=manifest.content_hash,
        feature_service=place.project,
        lead_seconds=int(settings.examples.lead.total_seconds()),
        notes={"dropped": dropped, **({"data_end": format_instant(ends)} if ends else {})},
    )
    with new_directory(output) as scratch:
        for part in PARTS:
            write_table(parts[part], str(scratch / f"{part}.parquet"))
        write_splits(scratch, result)
    return result


def join(
    store: "FeatureStore",
    place: StoreLocation,
    settings: FeaturesConfig,
    examples: "pl.DataFrame",
) -> "pl.DataFrame":
    """The examples with their features, read through Feast as of the moment of prediction."""
    import polars as pl

    key = settings.examples.key
    asked = examples.select(
        *dict.fromkeys([key, *settings.entities.values()]),
        pl.col(cutting.READ_AT).alias(KNOWN),
    )
    job = store.get_historical_features(
        entity_df=asked.to_pandas(), features=store.get_feature_service(place.project)
    )
    answer = pl.DataFrame(job.to_arrow()).drop(KNOWN, *set(settings.entities.values()) - {key})
    # An engine that goes through pandas gives times in nanoseconds, Ray a wall clock as UTC.
    for view in settings.views:
        types = pl.scan_parquet(place.table(view.name)).collect_schema()
        times = [n for n in view.feature_names if isinstance(types[n], pl.Datetime)]
        answer = answer.with_columns(pl.col(n).cast(types[n]) for n in times)
    # By key, not by place: an engine on many machines gives its rows in any order.
    return examples.join(answer, on=key, how="left", maintain_order="left", validate="1:1")


def plain_text(kind: Any, pa: Any) -> Any:
    """An entity key's Arrow type, texts of every width as one."""
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind
