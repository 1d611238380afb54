"""Features of rows that are to be predicted: training's views and join, without a label."""

import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.base import format_duration, format_instant
from slipway.components.config.data import Window
from slipway.components.config.features.features import FeaturesConfig
from slipway.components.config.features.reach import look_back
from slipway.components.contracts.dataset import Manifest, read_manifest
from slipway.components.contracts.feature_rows import ROWS, FeatureRows, write_feature_rows
from slipway.components.contracts.feature_store import StoreLocation, feast_name
from slipway.components.features import parts as cutting
from slipway.components.features.columns import key_columns
from slipway.components.features.features import join, model_features, write_views
from slipway.components.features.store.registry import apply_definitions, open_store
from slipway.components.features.tables import write_table
from slipway.components.features.views.expressions import with_derived
from slipway.components.features.views.views import ALWAYS, ViewTable
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory
from slipway.components.support.stage import part, progress, stage

if TYPE_CHECKING:
    import polars as pl


@stage("scoring-features")
def look_up_features(
    dataset: Path,
    project: str,
    config: dict[str, object],
    window: Window | None,
    output: Path,
) -> FeatureRows:
    """Joins features, point in time, to the rows of a window of the examples' table, or to all of them.

    The views are made from the dataset, as in training, in a feature store that lives as long as this
    call: the project's own store, which training fills and endpoints read, stays as it is.

    Args:
        dataset: the validated dataset; it reaches as far back before the window as the views look.
        project: the project's name.
        config: the project's `features` section.
        window: of the rows; None: all, where the examples have no time.
        output: where the rows go; replaced whole.

    Raises:
        SlipwayError: the configuration names what the dataset does not have, or the window has no row.
    """
    import polars as pl

    settings = FeaturesConfig.parse(config, "features").for_serving()
    manifest = read_manifest(dataset)
    window = _checked(window, settings, manifest)
    span = (window.start, window.end) if window else None
    progress("reading the rows", 0.0)
    examples = cutting.read_rows(dataset, manifest, settings, span)
    keys = key_columns(manifest, settings)
    made, joined = _join_in_scratch(dataset, project, settings, keys, examples.rows)
    without = set().union(*(view.untyped for view in made.values()))
    joined, kinds, also = with_derived(settings, joined, without)
    features = model_features(settings, made, kinds)
    untyped = sorted((without | also) & {feature.name for feature in features})
    named = [*cutting.order(settings)[::-1], *keys]
    columns = dict.fromkeys([*named, *(f.name for f in features)])
    table = joined.select(*columns).with_columns(pl.lit(None).alias(name) for name in untyped)
    progress(f"writing {table.height:,} rows", 0.9)
    result = FeatureRows(
        project=project,
        key=settings.examples.row_key,
        entities=cutting.asked_keys(keys, settings),
        features=features,
        untyped=tuple(untyped),
        rows=table.height,
        window=window.texts if window else None,
        data_hash=manifest.content_hash,
        lead_seconds=int(settings.examples.lead.total_seconds()),
        notes={"dropped": examples.dropped},
    )
    with new_directory(output) as scratch_folder:
        write_table(table, str(scratch_folder / ROWS))
        write_feature_rows(scratch_folder, result)
    return result


def _checked(window: Window | None, settings: FeaturesConfig, manifest: Manifest) -> Window | None:
    """The window of the rows; None where they have no time.

    Raises:
        SlipwayError: they have one and there is no window, or the dataset does not reach back enough.
    """
    if settings.examples.time is None:
        return None
    if window is None:
        raise SlipwayError(
            f"The examples have a time ({settings.examples.time}): give window_start and window_end,"
            " which say which of them are predicted."
        )
    _require_reach(settings, manifest, window.start)
    return window


def _join_in_scratch(
    dataset: Path,
    project: str,
    settings: FeaturesConfig,
    keys: Mapping[str, str],
    examples: "pl.DataFrame",
) -> tuple[dict[str, ViewTable], "pl.DataFrame"]:
    """The views, and the examples with their features, from a feature store of its own."""
    manifest = read_manifest(dataset)
    with tempfile.TemporaryDirectory(prefix="slipway-features-") as scratch:
        place = StoreLocation(root=f"{scratch}/store", project=feast_name(project), redis=None)
        with part(0.1, 0.5):
            made = write_views(dataset, manifest, settings, place)
        progress(f"joining {examples.height:,} rows", 0.5)
        # Ours joins whatever engine the project has: it gives the same values, on this machine.
        here = settings.model_copy(update={"offline_store": None})
        store = open_store(place)
        apply_definitions(store, place, here, keys, made)
        # The dataset was read as far back as the views look: their data began before it. Where a version
        # was trained when they had not begun, `score` knows it.
        for view in made.values():
            view.begins = ALWAYS
        begins = dict.fromkeys(made, ALWAYS)
        return made, join(store, place, here, keys, examples, begins)


def _require_reach(config: FeaturesConfig, manifest: Manifest, start: datetime) -> None:
    """Features of half their history would not be those that the model was trained on."""
    lead = config.examples.lead
    farthest = max(config.views, key=lambda view: look_back(view, lead))
    needed = look_back(farthest, lead)
    if manifest.window and datetime.fromisoformat(manifest.window[0]) > start - needed:
        raise SlipwayError(
            f"View {farthest.name} looks {format_duration(needed)} back from the first row, to"
            f" {format_instant(start - needed)}, and the dataset begins at {manifest.window[0]}. Give"
            " that much history, and what it takes until an event's outcome is known."
        )
