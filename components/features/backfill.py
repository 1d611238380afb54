"""Feature values of a past range, recomputed and replaced in the stores."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.components.config.base import format_duration, format_instant
from slipway.components.config.data import Window
from slipway.components.config.features.features import FeaturesConfig, FeatureView
from slipway.components.config.features.reach import longest_window
from slipway.components.contracts.backfill_record import (
    BackfillRecord,
    FilledView,
)
from slipway.components.contracts.dataset import EPOCH, Manifest, read_manifest
from slipway.components.contracts.feature_store import StoreLocation, locate
from slipway.components.contracts.splits import TIME
from slipway.components.features.columns import key_columns, kind_of
from slipway.components.features.store.online import materialise, stands_for
from slipway.components.features.store.registry import apply_definitions, open_store
from slipway.components.features.tables import entity_shares, read_parts, write_parts
from slipway.components.features.views.views import (
    KnownSpan,
    ViewTable,
    require_columns,
    write_view,
)
from slipway.components.support.errors import SlipwayError
from slipway.components.support.stage import progress, stage

if TYPE_CHECKING:
    from feast import FeatureStore


@stage("backfill")
def backfill_features(
    dataset: Path,
    project: str,
    config: dict[str, object],
    window: Window | None,
    online: bool,
    record: Path,
) -> BackfillRecord:
    """Replaces the feature values of a range offline, and brings the online store up to date.

    A value belongs to the range if it became known in it, or is of what happened in it, however much
    earlier or later that became known. Since an event that changed counts until it leaves the longest
    window, the values of so long after the range are replaced too; all others stay as they are. Run
    again on the same data, it changes nothing.

    Args:
        dataset: the validated dataset; it reaches beyond the range on both sides as far as the views do
            (`slipway.components.config.features.reach`).
        project: the project's name.
        config: the project's `features` section.
        window: the range; None: all, where the examples have no time.
        online: whether to write the online store. It then stands for the end of the range, or for the
            moment that it stood for already if that is later.
        record: where the record of what was done goes.

    Raises:
        SlipwayError: the dataset does not reach far enough, the store's views have other columns, or the
            configuration names what the dataset does not have. Nothing is written in the first two cases.
    """
    settings = FeaturesConfig.parse(config, "features")
    manifest = read_manifest(dataset)
    spec = settings.examples
    if spec.time is not None and window is None:
        raise SlipwayError(
            f"The examples have a time ({spec.time}): give window_start and window_end, which say which"
            " values are recomputed."
        )
    for view in settings.views:
        _require_reach(view, manifest, window)
    require_columns(manifest, spec.table, settings.named_columns, "features.entities")
    keys = key_columns(manifest, settings)
    place = locate(project)
    made, filled = _replace_values(dataset, manifest, settings, place, window)
    store = open_store(place, settings.offline_store)
    apply_definitions(store, place, settings, keys, made)
    if online:
        _update_online_store(store, settings, window.end if window else EPOCH, filled)
        if settings.streams:
            from slipway.components.features.streams.push import keep_streams

            keep_streams(store, place, dataset, manifest, settings)
    result = BackfillRecord(
        project=project,
        window=window.texts if window else None,
        views=filled,
        data_hash=manifest.content_hash,
    )
    result.write(record)
    return result


def _replace_values(
    dataset: Path,
    manifest: Manifest,
    settings: FeaturesConfig,
    place: StoreLocation,
    window: Window | None,
) -> tuple[dict[str, ViewTable], dict[str, FilledView]]:
    """Makes all views of the dataset first, then replaces the range in each stored one."""
    made: dict[str, ViewTable] = {}
    filled: dict[str, FilledView] = {}
    with tempfile.TemporaryDirectory(prefix="slipway-backfill-") as scratch:
        for view in settings.views:
            fresh = f"{scratch}/{view.name}.parquet"
            made[view.name] = write_view(dataset, manifest, settings, view, fresh, window)
            _take_types(made[view.name], place.table(view.name))
            _require_columns(view, made[view.name], fresh, place.table(view.name))
            if window is not None:
                _require_known(view, made[view.name], manifest, window)
        # Only now is anything replaced.
        for view in settings.views:
            fresh = f"{scratch}/{view.name}.parquet"
            span = _replaced_span(view, made[view.name].known, window) if window else None
            filled[view.name] = _merge(view, fresh, place.table(view.name), span)
            Path(fresh).unlink()
            progress(f"view {view.name}: {filled[view.name].written:,} rows")
    return made, filled


def _update_online_store(
    store: "FeatureStore",
    settings: FeaturesConfig,
    end: datetime,
    filled: dict[str, FilledView],
) -> None:
    """Brings the online store to the range's end, or leaves it at the later moment that it stands for."""
    moment = min(end, datetime.now(UTC))
    for view in settings.views:
        if settings.is_online(view):
            earlier = stands_for(store, view.name)
            written = materialise(store, view.name, max(moment, earlier or moment))
            filled[view.name] = replace(filled[view.name], online=written)
            progress(f"online store: {view.name}, {written:,} entities")


def _require_reach(view: FeatureView, manifest: Manifest, window: Window | None) -> None:
    """Values at the range's ends must not be computed from half of what they look at."""
    if view.time is None or window is None:
        return
    if manifest.window is None:
        raise SlipwayError(
            f"View {view.name} has a time, and the dataset has no window: set data.window, and run"
            " ingest again."
        )
    longest = longest_window(view)
    first, last = (datetime.fromisoformat(instant) for instant in manifest.window)
    missing = {
        "before": first - (window.start - longest),
        "after": (window.end + longest + view.available) - last,
    }
    for margin, short in missing.items():
        if short > timedelta(0):
            raise SlipwayError(
                f"View {view.name} has windows that reach {format_duration(longest)} back and is known"
                f" {format_duration(view.available)} ahead: the dataset, {manifest.window[0]} to"
                f" {manifest.window[1]}, does not reach far enough around the range. Ingest"
                f" {format_duration(short)} more ({margin})."
            )


def _replaced_span(
    view: FeatureView, known: KnownSpan | None, window: Window
) -> tuple[datetime, datetime]:
    """From when to when values are replaced: where one may be of what happened in the range."""
    first, end = window.start - view.available, window.end
    if known is not None:
        behind = known.last.replace(microsecond=0) + timedelta(seconds=1)
        first, end = min(first, known.first), max(end, behind)
    return first, end + longest_window(view)


def _require_known(view: FeatureView, made: ViewTable, manifest: Manifest, window: Window) -> None:
    """Values are replaced as far as the range's rows were known: the dataset must hold all of them.

    A row that became known in that stretch may have happened long before or after it. Without it in the
    dataset its value would be lost.
    """
    if view.time is None or made.known is None or manifest.window is None:
        return
    since, until = _replaced_span(view, made.known, window)
    first, last = (datetime.fromisoformat(instant) for instant in manifest.window)
    before = first - (since - longest_window(view) - made.known.lag)
    after = (until + made.known.lead) - last
    short = {
        f"{name}: {_whole_days(margin)}"
        for name, missing, margin in (
            ("before", before, window.start - first + before),
            ("after", after, last - window.end + after),
        )
        if missing > timedelta(0)
    }
    if short:
        raise SlipwayError(
            f"View {view.name}: what happened in the range became known between"
            f" {format_instant(made.known.first)} and {format_instant(made.known.last)}, and rows are"
            f" known up to {made.known.lead} before and {made.known.lag} after they happen. The dataset,"
            f" {manifest.window[0]} to {manifest.window[1]}, does not hold all that such values are made"
            f" of. Read more around the range ({', '.join(sorted(short))}), or run the training pipeline,"
            " which makes all values anew."
        )


def _whole_days(length: timedelta) -> str:
    return f"{-(-length // timedelta(days=1))}d"


def _exists(uri: str) -> bool:
    import fsspec

    system, path = fsspec.core.url_to_fs(uri)
    return bool(system.exists(path))


def _take_types(made: ViewTable, stored: str) -> None:
    """A feature without a type, since all of it is null, is of the kind that the stored table has."""
    if made.untyped and _exists(stored):
        schema = next(read_parts(stored)).schema
        for name in made.untyped & set(schema):
            made.kinds[name] = kind_of(schema[name], name)


def _require_columns(view: FeatureView, made: ViewTable, fresh: str, stored: str) -> None:
    """Refuses a range for a table that has other columns than the view.

    Raises:
        SlipwayError: naming the columns.
    """
    if not _exists(stored):
        return
    there, here = (dict(next(read_parts(table)).schema) for table in (stored, fresh))
    here = here | {name: there[name] for name in made.untyped & set(there)}
    if there != here:
        old, new = ({f"{name} {kind}" for name, kind in schema.items()} for schema in (there, here))
        raise SlipwayError(
            f"View {view.name} in {stored} has other columns than the project declares: only there"
            f" {sorted(old - new)}, only here {sorted(new - old)}. A range cannot be mended in it: run"
            " the training pipeline, or backfill all of data.window into an empty store."
        )


def _merge(
    view: FeatureView, fresh: str, stored: str, span: tuple[datetime, datetime] | None
) -> FilledView:
    """Replaces the stored rows of a stretch of time with the fresh ones, and says what that came to.

    Without a stretch all of them are replaced.

    Both tables are read a row group at a time and merged a share of the entities at a time, so memory
    grows with neither.
    """
    import polars as pl

    exists = _exists(stored)
    types = next(read_parts(stored if exists else fresh)).schema
    names = next(read_parts(fresh)).columns
    keys = names[: names.index(TIME)]
    until = None
    before, later, inside = pl.lit(value=False), pl.lit(value=False), pl.lit(value=True)
    if view.time is not None and span is not None:
        since, until = span
        before, later, inside = pl.col(TIME) < since, pl.col(TIME) >= until, pl.col(TIME) >= since
    there, earlier, after = 0, 0, 0
    for part in read_parts(stored, [TIME]) if exists else ():
        there += part.height
        earlier += part.filter(before).height
        after += part.filter(later).height
    if after:
        inside &= ~later

    def parts() -> Iterator[pl.DataFrame]:
        for part in read_parts(stored, names) if exists else ():
            yield part.filter(before | later)
        for part in read_parts(fresh):
            yield part.filter(inside).cast({name: types[name] for name in names})

    here = sum(part.height for part in read_parts(fresh, [TIME]))
    shares = (part.sort(*keys, TIME) for part in entity_shares(parts(), keys, there + here))
    rows = write_parts(shares, stored)
    return FilledView(
        replaced=there - earlier - after,
        written=rows - earlier - after,
        rows=rows,
        until=format_instant(until) if after and until else "",
        online=0,
    )
